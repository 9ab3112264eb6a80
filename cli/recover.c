/* recover.c - `quorumfs recover`: a majority of the voters is lost for good, and a copy that is left becomes a cluster
 * of its own.
 *
 * Nothing can tell what the lost members had acknowledged beyond the copies at hand. So this shows what each copy has,
 * takes the one whose log goes furthest (last term, then last index, as an election would), says what may be lost, and
 * with --yes writes at the end of that log a configuration with this one member under a new cluster id, in a new term.
 * The former members refuse to talk to it: they know another cluster. The other copies are not touched; their nodes
 * come back with empty directories (quorumfs member add). A crash in between leaves the copy as it was, or with the new
 * id and without the new configuration: it cannot lead then, and the command is repeated. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "usage: quorumfs recover --from-survivor DIR [--from-survivor DIR ...] --address ADDR [--yes]\n"
    "\n"
    "For when a majority of the voters is lost for good: makes the best of the given data directories a cluster of one.\n"
    "As long as a majority can be brought back, bring it back instead: that loses nothing.\n"
    "  --from-survivor DIR  data directory of a member that is left, stopped. Give all there are\n"
    "  --address ADDR       where the new cluster's member will listen (HOST:PORT or unix:/PATH)\n"
    "  --yes                do it. Without: only show what each copy has, and what may be lost\n"
    "Exit codes: 0 done, 1 not done, 2 usage.\n";

struct copy {
    const char *dir;
    struct disk *disk;
    struct log *log;
    struct log_recovered rec;
    uint64_t node, last_term;
};

struct recovery {
    struct io_loop *loop;
    struct trace trace;
    struct copy copies[RAFT_PEERS_MAX];
    unsigned n;
    const char *address;
    bool yes;
    uint64_t index;                     /* of the new configuration */
    bool entry_durable, hard_durable;
    int err;
    const char *err_what;
};

/* ---- what the log reports ---- */

static void check_end(struct recovery *r)
{
    if (r->err || (r->entry_durable && r->hard_durable)) io_loop_stop(r->loop);
}

static void persisted(void *arg, uint64_t index, uint64_t term)
{
    struct recovery *r = arg;
    r->entry_durable |= r->index && index >= r->index;
    check_end(r);
}

static void hard_persisted(void *arg, const struct raft_hard *hard)
{
    struct recovery *r = arg;
    r->hard_durable = true;
    check_end(r);
}

static void failed(void *arg, int err, const char *what)
{
    struct recovery *r = arg;
    r->err = err;
    r->err_what = what;
    check_end(r);
}

static void trimmed(void *arg, uint64_t first) {}
static void live_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx) {}

/* ---- the copies ---- */

static int open_copy(struct recovery *r, struct copy *c)
{
    struct buf why = {0};
    char path[4200];
    struct stat st;
    snprintf(path, sizeof path, "%s/meta", c->dir);
    if (stat(path, &st)) return fail(EXIT_FAILED, "%s is no data directory of a node: %s", c->dir, err_text(-errno));
    int err = io_disk_open(r->loop, c->dir, &c->disk, &why);
    if (!err) err = log_owner(c->disk, &c->node);
    struct log_config config = {.node_id = c->node,
                                .cb = {.arg = r,
                                       .persisted = persisted,
                                       .hard_persisted = hard_persisted,
                                       .failed = failed,
                                       .trimmed = trimmed,
                                       .live_ranges = live_ranges},
                                .trace = &r->trace};
    if (!err) err = log_open(c->disk, io_clock(r->loop), &config, &c->log, &c->rec, &why);
    if (err && why.n == 0) buf_append(&why, err_text(err), strlen(err_text(err)));
    if (err) fail(EXIT_FAILED, "%s: %.*s", c->dir, (int)why.n, (const char *)why.p);
    buf_free(&why);
    if (err) return EXIT_FAILED;
    const struct raft_recovered *raft = &c->rec.raft;
    bool has = raft->last >= raft->first && raft->nruns;
    c->last_term = has ? raft->runs[raft->nruns - 1].term : raft->snapshot_term;
    return EXIT_OK;
}

static uint64_t last_of(const struct copy *c) { return max_u64(c->rec.raft.last, c->rec.raft.snapshot_index); }

static void show(const struct copy *c)
{
    printf("%s: node %llu of cluster %016llx, entries up to %llu (term %llu), checkpoint at %llu, %s%s\n", c->dir,
           (unsigned long long)c->node, (unsigned long long)c->rec.cluster_id, (unsigned long long)last_of(c),
           (unsigned long long)c->last_term, (unsigned long long)c->rec.raft.snapshot_index,
           raft_standing_name(c->rec.raft.hard.standing),
           c->rec.damaged ? ", DAMAGED: entries behind these are gone" : "");
}

static struct copy *best_of(struct recovery *r)
{
    struct copy *best = &r->copies[0];
    for (unsigned i = 1; i < r->n; i++) {
        struct copy *c = &r->copies[i];
        bool further = c->last_term != best->last_term ? c->last_term > best->last_term : last_of(c) > last_of(best);
        if (further) best = c;
    }
    return best;
}

static void show_loss(const struct copy *best)
{
    printf("\nnode %llu goes furthest. Everything up to its entry %llu is kept, also what was never acknowledged.\n"
           "What may be lost: writes that the lost members had acknowledged behind that entry; nothing here can tell\n"
           "whether there were any. Sessions, locks and mounts of the old cluster end.\n",
           (unsigned long long)best->node, (unsigned long long)last_of(best));
    if (best->rec.raft.hard.standing != RAFT_VOTER)
        printf("This copy was being repaired itself (%s): acknowledged writes may be missing also before that entry.\n",
               raft_standing_name(best->rec.raft.hard.standing));
}

/* ---- the new beginning ---- */

static int write_new(struct recovery *r, struct copy *c)
{
    struct raft_members ms = {0};
    struct buf bytes = {0};
    uint64_t cluster = io_random() | 1, term = c->last_term;
    for (unsigned i = 0; i < r->n; i++) term = max_u64(term, r->copies[i].rec.raft.hard.term);
    raft_members_add(&ms, c->node, r->address, RAFT_VOTING);
    ms.told[0] = true;
    raft_members_encode(&ms, cluster, &bytes);
    struct log_entry e = {
        .index = last_of(c) + 1, .term = term + 1, .kind = RAFT_CONFIG, .data = blob_new(bytes.n)};
    memcpy(e.data->p, bytes.p, bytes.n);
    buf_free(&bytes);
    r->index = e.index;
    r->hard_durable = false;
    log_set_identity(c->log, cluster);
    log_set_hard(c->log, &(struct raft_hard){.term = e.term, .vote = c->node, .standing = RAFT_VOTER});
    log_append(c->log, &e);
    blob_unref(e.data);
    while (!r->err && !(r->entry_durable && r->hard_durable)) io_loop_run(r->loop);
    if (r->err) return fail(EXIT_FAILED, "%s: %s failed: %s", c->dir, r->err_what, err_text(r->err));
    printf("\n%s is now cluster %016llx with the one member %llu. Start it:\n"
           "  quorumfs node --id %llu --data %s --listen %s\n"
           "then add the others anew, each with an EMPTY data directory:\n"
           "  quorumfs node --id N --data DIR --listen ADDR --join %s\n"
           "  quorumfs member add N=ADDR -C %s\n"
           "Mount again; mounts of the old cluster are refused, as are its members.\n",
           c->dir, (unsigned long long)cluster, (unsigned long long)c->node, (unsigned long long)c->node, c->dir,
           r->address, r->address, r->address);
    return EXIT_OK;
}

static int recover(struct recovery *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        int code = open_copy(r, &r->copies[i]);
        if (code) return code;
        show(&r->copies[i]);
        if (r->copies[i].rec.cluster_id != r->copies[0].rec.cluster_id)
            return fail(EXIT_FAILED, "%s and %s belong to different clusters", r->copies[0].dir, r->copies[i].dir);
    }
    struct copy *best = best_of(r);
    if (!best->rec.cluster_id) return fail(EXIT_FAILED, "none of these has ever been part of a cluster");
    show_loss(best);
    if (r->yes) return write_new(r, best);
    fflush(stdout);
    return fail(EXIT_FAILED, "nothing was changed. If a majority of the members really is lost for good, say --yes");
}

int cmd_recover(int argc, char **argv)
{
    static const struct option options[] = {{"from-survivor", 1, 0, 'f'}, {"address", 1, 0, 'a'}, {"yes", 0, 0, 'y'},
                                            {"help", 0, 0, 'h'},          {0}};
    struct recovery r = {0};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'f':
            if (r.n == RAFT_PEERS_MAX) return usage_error("recover", "a cluster has at most %d members", RAFT_PEERS_MAX);
            r.copies[r.n++].dir = optarg;
            break;
        case 'a': r.address = optarg; break;
        case 'y': r.yes = true; break;
        case 'h': fputs(help, stdout); return EXIT_OK;
        default: return usage_error("recover", "see the options below");
        }
    }
    if (optind < argc) return usage_error("recover", "what is '%s'?", argv[optind]);
    if (!r.n || !r.address) return usage_error("recover", "--from-survivor and --address are needed");
    if (!strchr(r.address, ':') || strlen(r.address) >= ADDR_MAX)
        return usage_error("recover", "'%s' is no address (HOST:PORT or unix:/PATH)", r.address);
    r.loop = io_loop_new();
    io_trace_fd(&r.trace, STDERR_FILENO, TRACE_ERROR);
    int code = recover(&r);
    fflush(stdout);
    for (unsigned i = 0; i < r.n; i++) { /* first the disk: its thread may still write from the log's buffers */
        if (r.copies[i].disk) io_disk_close(r.copies[i].disk);
        if (r.copies[i].log) log_close(r.copies[i].log);
    }
    io_loop_free(r.loop);
    return code;
}
