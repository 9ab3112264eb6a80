/* log_open.c - opening a data directory, blocking, before the node takes part; and closing it.
 *
 * The order: names; `meta` (identity, hard state); the newest usable checkpoint; LOG segments behind it; where payload lies.
 * A damaged checkpoint is replaced by an older one only if the log goes on from that without a hole; else the directory is of
 * no use and the text says what to do. Damage of the log leaves an intact prefix and the node FENCED, which is written to
 * `meta` before anything else is. */
#include <stdarg.h>
#include <stdio.h>

#include "raft/log_priv.h"

enum found_kind { FOUND_SEG, FOUND_PAY, FOUND_FREE, FOUND_CKPT };

struct found {
    enum found_kind kind;
    uint64_t no, size;
};

struct listing {
    struct found *v;
    size_t n, cap;
    bool tmp;
    uint64_t most;                      /* the highest segment number seen */
};

__attribute__((format(printf, 2, 3))) static void say(struct buf *why, const char *fmt, ...)
{
    char line[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    buf_clear(why);
    buf_append(why, line, strlen(line));
}

/* ---- names ---- */

static bool parse_no(const char *hex, uint64_t *no)
{
    *no = 0;
    if (strlen(hex) != 16) return false;
    for (; *hex; hex++) {
        unsigned d = *hex >= '0' && *hex <= '9' ? (unsigned)(*hex - '0') : *hex >= 'a' && *hex <= 'f' ? (unsigned)(*hex - 'a') + 10 : 16;
        if (d == 16) return false;
        *no = *no << 4 | d;
    }
    return true;
}

static void found_file(void *arg, const char *name, uint64_t size)
{
    static const char *const prefix[] = {"seg-", "pay-", "free-", "ckpt-"};
    struct listing *ls = arg;
    struct found f = {.size = size};
    if (strcmp(name, CKPT_TMP) == 0) ls->tmp = true;
    for (unsigned k = 0; k < 4; k++) {
        size_t n = strlen(prefix[k]);
        if (strncmp(name, prefix[k], n) != 0 || !parse_no(name + n, &f.no) || f.no >= NUMBER_MAX) continue;
        f.kind = (enum found_kind)k;
        if (ls->n == ls->cap) {
            ls->cap = ls->cap ? ls->cap * 2 : 64;
            ls->v = xrealloc(ls->v, ls->cap * sizeof *ls->v);
        }
        ls->v[ls->n++] = f;
        if (f.kind != FOUND_CKPT) ls->most = max_u64(ls->most, f.no);
    }
}

/* Segments and spares by number, checkpoints behind them, the newest first. */
static int cmp_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if ((x->kind == FOUND_CKPT) != (y->kind == FOUND_CKPT)) return x->kind == FOUND_CKPT ? 1 : -1;
    if (x->no == y->no) return 0;
    return (x->no < y->no) != (x->kind == FOUND_CKPT) ? -1 : 1;
}

static void add_files(struct log *log, const struct listing *ls)
{
    for (size_t i = 0; i < ls->n; i++) {
        const struct found *f = &ls->v[i];
        if (f->kind == FOUND_CKPT) continue;
        uint32_t pages = (uint32_t)min_u64(f->size / PAGE_BYTES, LOG_SEGMENT_MAX / PAGE_BYTES);
        log->file_bytes += (uint64_t)pages * PAGE_BYTES;
        if (f->kind == FOUND_FREE)
            raft__spare_add(log, f->no, pages, true);
        else
            raft__seg_add(log, f->kind == FOUND_SEG ? PAGE_LOG : PAGE_PAYLOAD, f->no, pages)->used = 0;
    }
}

/* ---- identity ---- */

static int open_meta(struct log *log, const struct listing *ls, bool *lost, struct buf *why)
{
    struct meta *m = &log->meta;
    int err = raft__meta_load(log, ls->n > 0, lost);
    if (err == QE_CORRUPT)
        say(why, "meta: no copy of the node's term and vote can be read; the node must not go on from the rest. Empty its data "
                 "directory: it is rebuilt from its peers");
    else if (err)
        say(why, "meta: %s", err_text(err));
    if (err) return err;
    if (m->exists && m->node != log->cfg.node_id) {
        say(why, "this data directory belongs to node %llu, not to node %llu", (unsigned long long)m->node,
            (unsigned long long)log->cfg.node_id);
        return QE_CLUSTER;
    }
    if (m->exists && m->cluster && log->cfg.cluster_id && m->cluster != log->cfg.cluster_id) {
        say(why, "this data directory belongs to cluster %016llx, not to cluster %016llx", (unsigned long long)m->cluster,
            (unsigned long long)log->cfg.cluster_id);
        return QE_CLUSTER;
    }
    if (!m->exists) m->node = log->cfg.node_id;
    if (m->cluster == 0 && log->cfg.cluster_id) {
        m->cluster = log->cfg.cluster_id;
        m->want = true;
    }
    return 0;
}

/* ---- checkpoints and log ---- */

static bool more_ckpts(const struct listing *ls, size_t i) { return i + 1 < ls->n; }

/* The newest that can be used; *damaged is the index of the newest that cannot. */
static int open_image(struct log *log, const struct listing *ls, struct image **im, uint64_t *damaged, struct buf *why)
{
    *im = NULL;
    *damaged = 0;
    for (size_t i = 0; i < ls->n; i++) {
        if (ls->v[i].kind != FOUND_CKPT) continue;
        int err = raft__image_open(log, ls->v[i].no, ls->v[i].size, im);
        if (!err && more_ckpts(ls, i)) err = raft__image_verify(log, *im);      /* there is a choice: look closely */
        if (!err) return 0;
        raft__image_free(*im);
        *im = NULL;
        if (err != QE_CORRUPT) {
            say(why, "ckpt-%016llx: %s", (unsigned long long)ls->v[i].no, err_text(err));
            return err;
        }
        trace_warn(log->trace, "log: checkpoint %llu is damaged", (unsigned long long)ls->v[i].no);
        if (*damaged == 0) *damaged = ls->v[i].no;
    }
    return 0;
}

static int open_log(struct log *log, const struct listing *ls, struct scan_result *found, struct buf *why)
{
    struct image *im;
    uint64_t damaged;
    int err = open_image(log, ls, &im, &damaged, why);
    if (err) return err;
    if (im) list_push_front(&log->images, &im->link);
    log->next_no = 1 + max_u64(ls->most, max_u64(log->meta.dur_seg, im ? im->next_seg : 0));
    err = raft__scan(log, im, found);
    if (err == 0 && damaged && (found->damaged || log->last < damaged)) err = QE_CORRUPT;
    if (err == QE_CORRUPT && !damaged && im) damaged = im->index; /* its list of places cannot be read */
    if (err && damaged)
        say(why, "ckpt-%016llx is damaged and the log does not reach back to an older one. Empty this node's data directory: it "
                 "is rebuilt from its peers", (unsigned long long)damaged);
    else if (err == QE_CLUSTER)
        say(why, "a log segment of another node lies in this data directory");
    else if (err)
        say(why, "the log cannot be read: %s", err_text(err));
    return err;
}

static void start_writer(struct log *log, const struct scan_result *found)
{
    struct writer *w = &log->w;
    w->seg = found->tail_seg;
    w->page = found->tail_page;
    w->seq = found->tail_seq + 1;
    w->prev_seg = w->dur_seg = found->tail_no;
    w->dur_seq = found->tail_seq;
    w->next = log->last + 1;
    w->durable = log->last;
    log->committed = min_u64(found->committed, log->last);
    if (w->seg != SEG_NONE) raft__seg_at(log, w->seg)->used = w->page;
}

/* A process that was killed leaves bytes that a reader sees but a power cut would lose. Of entries and hard state, which
 * others are told of from now on, that can be what was being written last, and it is made durable here. Payload is before
 * anything is freed for its sake: the lane keeps its order. */
static int settle(struct log *log, struct buf *why)
{
    char name[DISK_NAME_MAX];
    int err = log->meta.exists ? disk_settle(log->disk, META_NAME) : 0;
    for (uint32_t i = 0; i < log->nseg && !err; i++) {
        const struct seg *s = log->seg[i];
        raft__seg_name(name, s->kind, s->no);
        if (s->kind == PAGE_LOG && s->no == log->w.dur_seg) err = disk_settle(log->disk, name);
        if (s->unsynced) raft__sync_file(log, name);
    }
    if (err) say(why, "what was recovered cannot be made durable: %s", err_text(err));
    return err;
}

/* What is of no use any more: a half-written checkpoint, older and damaged ones. */
static void tidy_up(struct log *log, const struct listing *ls)
{
    char name[DISK_NAME_MAX];
    if (ls->tmp) raft__remove_file(log, CKPT_TMP);
    for (size_t i = 0; i < ls->n; i++) {
        if (ls->v[i].kind != FOUND_CKPT || (!list_empty(&log->images) && ls->v[i].no == raft__ckpt_index(log))) continue;
        raft__image_name(name, ls->v[i].no);
        raft__remove_file(log, name);
    }
}

static void report(struct log *log, const struct scan_result *found, bool lost, struct log_recovered *out)
{
    const struct image *im = raft__image_newest(log);
    bool damaged = found->damaged || lost;
    if (damaged) {
        log->meta.hard.standing = RAFT_FENCED;
        log->meta.rewrites = 2;
        trace_warn(log->trace, "log: %s; kept up to entry %llu, the node comes up fenced",
                   lost ? "the newest hard state cannot be read" : "damaged data", (unsigned long long)log->last);
    }
    *out = (struct log_recovered){.raft = {.hard = log->meta.hard, .first = log->first, .last = log->last,
                                           .runs = log->runs ? log->runs + log->run0 : NULL, .nruns = log->nruns - log->run0},
                                  .cluster_id = log->meta.exists ? log->meta.cluster : 0,
                                  .node_id = log->meta.exists ? log->meta.node : 0,
                                  .damaged = damaged, .torn_bytes = found->torn_bytes};
    if (im) {
        out->raft.snapshot_index = im->index;
        out->raft.snapshot_term = im->term;
    }
}

/* ---- */

static void set_defaults(struct log_config *c)
{
    if (c->segment_bytes == 0) c->segment_bytes = 16 * MIB;
    if (c->cache_bytes == 0) c->cache_bytes = 64 * MIB;
    if (c->trail_bytes == 0) c->trail_bytes = 64 * MIB;
    if (c->compact_live_percent == 0) c->compact_live_percent = 30;
    check(c->segment_bytes % PAGE_BYTES == 0 && c->segment_bytes >= 4 * PAGE_BYTES && c->segment_bytes <= LOG_SEGMENT_MAX);
    check(c->compact_live_percent <= 100 && c->node_id);
}

static struct log *log_new(struct disk *disk, struct clock *clock, const struct log_config *config)
{
    struct log *log = xcalloc(1, sizeof *log);
    log->disk = disk;
    log->clock = clock;
    log->cfg = *config;
    log->trace = config->trace;
    set_defaults(&log->cfg);
    log->first = log->evict_next = 1;
    log->w.seg = log->pay.seg = log->gc.victim = SEG_NONE;
    struct list *lists[] = {&log->ops, &log->zombies, &log->images, &log->jobs, &log->late, &log->block_reads,
                            &log->pay.queue, &log->pay.writing, &log->pay.written};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) list_init(lists[i]);
    raft__log_timers(log);
    return log;
}

int log_open(struct disk *disk, struct clock *clock, const struct log_config *config, struct log **out,
             struct log_recovered *recovered, struct buf *why)
{
    struct log *log = log_new(disk, clock, config);
    struct listing ls = {0};
    struct scan_result found;
    bool lost = false;
    int err = disk_list(disk, found_file, &ls);
    if (err) {
        say(why, "the data directory cannot be listed: %s", err_text(err));
        goto out;
    }
    if (ls.n) qsort(ls.v, ls.n, sizeof *ls.v, cmp_found);
    err = open_meta(log, &ls, &lost, why);
    if (err) goto out;
    add_files(log, &ls);
    err = open_log(log, &ls, &found, why);
    if (err) goto out;
    start_writer(log, &found);
    report(log, &found, lost, recovered);
    log->gc.trim_to = log->first;
    err = settle(log, why);
    if (err) goto out;
    tidy_up(log, &ls);
    raft__space_check(log);
    raft__log_wake(log);
    raft__gc_wake(log);
    *out = log;
    log = NULL;
out:
    free(ls.v);
    if (log) log_close(log);
    return err;
}

void log_close(struct log *log)
{
    struct timer *timers[] = {&log->turn, &log->mark, &log->retry, &log->local, &log->gc.timer};
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) clock_disarm(log->clock, timers[i]);
    raft__ckpt_drop(log);
    raft__jobs_drop(log);
    raft__image_reads_drop(log);
    raft__pay_drop(log);
    raft__place_free(log, &log->places);
    raft__place_free(log, &log->staged);
    raft__segs_drop(log);
    while (!list_empty(&log->images)) raft__image_free(container_of(list_pop_front(&log->images), struct image, link));
    for (uint64_t i = log->first; i <= log->last; i++) blob_unref(raft__ent(log, i)->data);
    for (size_t i = 0; i < log->held.n; i++) blob_unref(log->held.v[i]);
    raft__pages_free(&log->w.batch.mem);
    raft__pages_free(&log->meta.mem);
    raft__pages_free(&log->scratch);
    free(log->w.v);
    free(log->gc.moved);
    free(log->held.v);
    free(log->ring);
    free(log->runs);
    free(log);
}
