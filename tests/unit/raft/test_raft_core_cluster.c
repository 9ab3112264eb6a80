/* Random clusters of pure cores: every fault the core is meant to survive, in virtual time, one seed a run.
 *
 * Each node has a disk model (a queue of writes that complete in order, lost but for a random prefix at a crash), a
 * clock with its own rate, and connections. Faults: loss, duplication, delay, reordering, one-way cuts, broken
 * connections, crashes, pauses, slow disks, lost disks, checkpoints and trims, snapshot transfers, leadership
 * transfers.
 *
 * Checked at every step: raft_invariant; one leader a term; equal (index, term) means equal entry and equal predecessor
 * (log matching); whatever is committed anywhere is never anything else and is in every later leader's log; nothing is
 * promised (votes, acknowledgements) or committed that the disks do not hold; term and commit never fall; reads and
 * leases see everything committed before. At the end everything heals, and the cluster must make progress and agree.
 *
 * QFS_SEED=n runs that seed alone, and says what happens. */
#include "core_rig.h"

#define NODES   5
#define LOG_MAX 6000
#define FAULTS  14
#define CONFIGS 400
#define US      UINT64_C(1000)
#define MS      UINT64_C(1000000)

struct entry {
    uint64_t term, id, before; /* id: unique payload; before: the predecessor's term */
    uint8_t kind;
    uint32_t len;
    uint32_t config; /* of a CONFIG entry: which of w->config */
};

enum work { WORK_MSG, WORK_WRITE, WORK_TIMER, WORK_NEMESIS, WORK_CLIENT, WORK_CONN, WORK_RESTART };

struct write {
    enum { WRITE_ENTRIES, WRITE_HARD, WRITE_INSTALL } kind;
    uint64_t first, last, clip;
    struct entry *entries;
    struct raft_hard hard;
    uint64_t index, term, source;
    bool keep;
    struct write *next;
};

struct event {
    struct heap_node node;
    enum work work;
    uint32_t to, from, life_to, life_from; /* lives: incarnations of the nodes when it was sent */
    bool up;
    struct raft_msg m;
    struct entry *entries;
    uint64_t transfer; /* of a snapshot chunk: which; the last one of it */
    bool last_chunk;
    struct event *prev_live, *next_live;
};

struct read {
    uint64_t id, floor;
};

struct node {
    bool up;
    uint32_t life;
    struct raft *raft;
    uint64_t off;
    int64_t drift; /* ppm */
    uint64_t paused_until, slow_until;
    struct event *timer;
    /* memory */
    struct entry log[LOG_MAX];
    uint64_t base, last, applied, commit, term;
    struct read reads[64];
    uint32_t nreads;
    uint64_t read_id;
    uint64_t sending[NODES], sending_index[NODES], sending_deadline[NODES]; /* snapshot transfers to peers */
    uint64_t receiving, received;
    struct raft_hard told;
    /* disk */
    struct entry disk[LOG_MAX];
    uint64_t dbase, dlast, snapshot, snapshot_term;
    struct raft_hard hard;
    struct write *writes, **writes_end;
    struct event *writing;
    uint64_t ghost; /* what a lost disk once held */
    bool amnesiac;  /* lost its disk and does not vote yet */
    bool leads;     /* as of the last step; one that hands over commits first */
    uint64_t voted_term, voted_for;
};

struct world {
    struct prng prng;
    uint64_t seed, now;
    bool verbose, calm;
    uint32_t n, members; /* nodes; those that formed the cluster */
    struct node node[NODES];
    struct raft_members config[CONFIGS]; /* 0: the first */
    uint32_t nconfigs;
    struct heap heap;
    struct event *live;
    bool cut[NODES][NODES], down[NODES][NODES];
    uint32_t loss, dup; /* percent */
    uint64_t delay, nemesis_ms, weight[FAULTS];
    uint32_t aim, lose; /* percent: at the leader; of crashes that lose the disk */
    bool lease_reads;
    struct entry committed[LOG_MAX];
    uint64_t commit_term[LOG_MAX]; /* of the leader that committed it */
    uint64_t ncommitted, sure; /* sure: also what the step under way commits */
    uint64_t leader_of[100000];
    struct {
        uint64_t index, term, id, before;
    } seen[1 << 16];
    uint64_t next_id, transfers, elections, lost_disks, installs, reads_done, lease_hits, steps, changes, promoted,
        removed, refused;
};

static struct world *w;

#define DIE(...)                                                                                                       \
    do {                                                                                                               \
        print_error("seed %" PRIu64 " at %" PRIu64 " us: ", w->seed, w->now / US);                                     \
        print_error(__VA_ARGS__);                                                                                      \
        fail_msg("replay with QFS_SEED=%" PRIu64, w->seed);                                                            \
    } while (0)
#define SAY(...)                                                                                                       \
    do {                                                                                                               \
        if (w->verbose) printf("%9" PRIu64 " ", w->now / US), printf(__VA_ARGS__), printf("\n");                       \
    } while (0)

static uint64_t rnd(uint64_t lo, uint64_t hi) { return prng_between(&w->prng, lo, hi); }
static bool chance(uint32_t percent) { return prng_chance(&w->prng, percent); }
static uint64_t clock_of(const struct node *n)
{
    return n->off + w->now + (uint64_t)((int64_t)(w->now / 1000) * n->drift / 1000);
}
static uint64_t when_clock(const struct node *n, uint64_t at)
{
    uint64_t now = clock_of(n);
    return at <= now ? w->now : w->now + (at - now) + (at - now) / 500;
}
static uint32_t place(uint64_t id) { return (uint32_t)(id - 1); }
static uint64_t id_of(uint32_t i) { return i + 1; }

/* ---- events ---------------------------------------------------------------------------------------------- */

static struct event *schedule(enum work work, uint32_t to, uint64_t at)
{
    struct event *e = calloc(1, sizeof *e);
    e->work = work;
    e->to = to;
    e->life_to = w->node[to].life;
    heap_insert(&w->heap, &e->node, at);
    e->next_live = w->live;
    if (w->live) w->live->prev_live = e;
    w->live = e;
    return e;
}

static void drop_event(struct event *e)
{
    heap_remove(&w->heap, &e->node);
    if (e->prev_live)
        e->prev_live->next_live = e->next_live;
    else
        w->live = e->next_live;
    if (e->next_live) e->next_live->prev_live = e->prev_live;
    free(e->entries);
    free(e);
}

/* ---- checks ---------------------------------------------------------------------------------------------- */

/* The configuration as of a committed index. */
static uint32_t config_at(uint64_t index)
{
    for (uint64_t i = index; i > 0; i--)
        if (w->committed[i].kind == RAFT_CONFIG) return w->committed[i].config;
    return 0;
}

static void see_entry(uint64_t index, const struct entry *e)
{
    uint64_t h = hash_mix(index * 0x9e3779b97f4a7c15ull + e->term) & 0xffff;
    for (; w->seen[h].index; h = (h + 1) & 0xffff) {
        if (w->seen[h].index != index || w->seen[h].term != e->term) continue;
        if (w->seen[h].id != e->id || w->seen[h].before != e->before)
            DIE("log matching: two entries %" PRIu64 " of term %" PRIu64 "\n", index, e->term);
        return;
    }
    w->seen[h].index = index;
    w->seen[h].term = e->term;
    w->seen[h].id = e->id;
    w->seen[h].before = e->before;
}

static uint64_t log_term(const struct node *n, uint64_t index)
{
    if (index == 0) return 0;
    if (index <= n->base) return w->committed[index].term;
    return n->log[index].term;
}

static bool on_disk(const struct node *n, uint64_t index, uint64_t term)
{
    if (index <= n->snapshot) return true;
    return index <= n->dlast && n->disk[index].term == term;
}

static void check_commit(struct node *n, uint64_t from, uint64_t to, bool leads)
{
    if (to > n->last) DIE("node %" PRIu64 " commits %" PRIu64 " beyond its log\n", id_of((uint32_t)(n - w->node)), to);
    for (uint64_t i = from; i <= to; i++) {
        if (i > w->ncommitted) {
            if (!leads) DIE("a follower commits %" PRIu64 " before any leader\n", i);
            w->committed[i] = n->log[i];
            w->commit_term[i] = n->term;
            w->ncommitted = i;
        } else if (i > n->base && (w->committed[i].id != n->log[i].id || w->committed[i].term != n->log[i].term)) {
            DIE("committed entry %" PRIu64 " differs\n", i);
        }
    }
    if (!leads) return;
    const struct raft_members *ms = raft_members_now(n->raft);
    for (int next = 0; next < 2; next++) {
        uint32_t holders = 0, voters = 0;
        for (uint32_t k = 0; k < ms->n; k++) {
            const struct node *other = &w->node[place(ms->m[k].id)];
            if ((next && ms->joint ? ms->next[k] : ms->seat[k]) != RAFT_VOTING) continue;
            voters++;
            holders += on_disk(other, to, n->log[to].term) || other->ghost >= to;
        }
        if (holders <= voters / 2) DIE("index %" PRIu64 " committed, but durable on %u of %u disks\n", to, holders, voters);
    }
}

/* The configuration in effect is that of the newest such entry in the log, committed or not. */
static void check_members(const struct node *n, uint32_t at)
{
    const struct raft_members *now = raft_members_now(n->raft);
    uint64_t i = n->last;
    while (i > n->base && n->log[i].kind != RAFT_CONFIG) i--;
    uint32_t config = i > n->base ? n->log[i].config : config_at(n->base);
    if (config == 0) return; /* the list that a node was started with may be any */
    const struct raft_members *log = &w->config[config];
    bool same = now->joint == log->joint && now->n == log->n;
    for (uint32_t k = 0; k < log->n && same; k++) {
        int m = raft_members_find(now, log->m[k].id);
        same = m >= 0 && now->seat[m] == log->seat[k] && (!log->joint || now->next[m] == log->next[k]);
    }
    if (!same) DIE("node %" PRIu64 " goes by another configuration than that of entry %" PRIu64 "\n", id_of(at), i);
}

static void check_leader(uint32_t at, uint64_t term)
{
    struct node *n = &w->node[at];
    if (term >= 100000) DIE("terms run away\n");
    if (w->leader_of[term] && w->leader_of[term] != id_of(at)) DIE("two leaders in term %" PRIu64 "\n", term);
    w->leader_of[term] = id_of(at);
    for (uint64_t i = n->base + 1; i <= w->ncommitted; i++)
        if (w->commit_term[i] < term && (i > n->last || n->log[i].id != w->committed[i].id))
            DIE("leader %" PRIu64 " of term %" PRIu64 " lacks committed entry %" PRIu64 "\n", id_of(at), term, i);
    w->elections++;
}

/* Nothing leaves a node that its disk does not stand for. */
static void check_promise(struct node *n, const struct raft_msg *m)
{
    uint32_t at = (uint32_t)(n - w->node);
    if (m->type == RAFT_MSG_VOTE_RESP && !m->reject) {
        if (n->hard.term != m->term || n->hard.vote != m->to || n->hard.standing != RAFT_VOTER)
            DIE("node %" PRIu64 " promises a vote that is not durable\n", id_of(at));
        if (n->voted_term == m->term && n->voted_for != m->to) DIE("node %" PRIu64 " votes twice\n", id_of(at));
        n->voted_term = m->term;
        n->voted_for = m->to;
    }
    if (m->type == RAFT_MSG_PREVOTE_RESP && !m->reject && n->hard.standing != RAFT_VOTER)
        DIE("a pre-vote of no voter\n");
    if (m->type == RAFT_MSG_VOTE && (n->hard.term != m->term || n->hard.vote != id_of(at)))
        DIE("node %" PRIu64 " asks for votes before its own is durable\n", id_of(at));
    if (m->type == RAFT_MSG_APPEND_RESP && !m->reject) {
        if (n->hard.term != m->term) DIE("acknowledged in a term that is not durable\n");
        if (m->index && !on_disk(n, m->index, log_term(n, m->index)))
            DIE("node %" PRIu64 " acknowledges %" PRIu64 ", which is not durable\n", id_of(at), m->index);
    }
    if (m->type == RAFT_MSG_APPEND && (n->hard.term != m->term || n->hard.vote != id_of(at)))
        DIE("a leader whose vote is not durable\n");
}

static void check_lease(void)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct node *n = &w->node[i];
        if (!n->up || !raft_lease_valid(n->raft, clock_of(n))) continue;
        w->lease_hits++;
        if (n->commit < w->ncommitted)
            DIE("node %" PRIu64 " trusts its lease at %" PRIu64 ", but %" PRIu64 " is committed\n", id_of(i), n->commit,
                w->ncommitted);
    }
}

/* ---- a node's driver ------------------------------------------------------------------------------------- */

static void step(uint32_t at, struct raft_event ev, const struct event *src);

static uint32_t node_span(void *arg, uint64_t first, uint64_t last, uint64_t max, uint64_t *bytes)
{
    struct node *n = arg;
    uint32_t k = 0;
    assert_true(first > n->base && first <= last && last <= n->last);
    for (*bytes = 0; first + k <= last && (k == 0 || *bytes + n->log[first + k].len <= max); k++)
        *bytes += n->log[first + k].len;
    return k;
}

static void next_write(uint32_t at)
{
    struct node *n = &w->node[at];
    if (n->writing || !n->writes) return;
    uint64_t t = w->calm ? rnd(100, 500) * US : w->now < n->slow_until ? rnd(10, 600) * MS : rnd(50, 8000) * US;
    n->writing = schedule(WORK_WRITE, at, w->now + t);
}

static struct write *push_write(uint32_t at, int kind)
{
    struct node *n = &w->node[at];
    struct write *wr = calloc(1, sizeof *wr);
    wr->kind = kind;
    wr->clip = UINT64_MAX;
    *n->writes_end = wr;
    n->writes_end = &wr->next;
    next_write(at);
    return wr;
}

/* What the write does to the disk. */
static void apply_write(struct node *n, const struct write *wr)
{
    switch (wr->kind) {
    case WRITE_ENTRIES:
        for (uint64_t i = wr->first; i <= wr->last; i++) n->disk[i] = wr->entries[i - wr->first];
        n->dlast = wr->last;
        break;
    case WRITE_HARD: n->hard = wr->hard; break;
    case WRITE_INSTALL:
        for (uint64_t i = n->dbase + 1; i <= wr->index; i++) n->disk[i] = w->committed[i];
        n->dlast = wr->keep ? max_u64(n->dlast, wr->index) : wr->index;
        n->dbase = n->snapshot = wr->index;
        n->snapshot_term = wr->term;
        break;
    }
}

static void free_writes(struct node *n)
{
    for (struct write *wr = n->writes, *next; wr; wr = next) {
        next = wr->next;
        free(wr->entries);
        free(wr);
    }
    n->writes = NULL;
    n->writes_end = &n->writes;
    if (n->writing) drop_event(n->writing);
    n->writing = NULL;
}

static void write_entries(uint32_t at, uint64_t first)
{
    struct node *n = &w->node[at];
    if (first > n->last) return;
    struct write *wr = push_write(at, WRITE_ENTRIES);
    wr->first = first;
    wr->last = n->last;
    wr->entries = malloc((n->last - first + 1) * sizeof *wr->entries);
    memcpy(wr->entries, &n->log[first], (n->last - first + 1) * sizeof *wr->entries);
}

static void put_entry(struct node *n, struct entry e)
{
    if (n->last + 1 >= LOG_MAX) DIE("the test's log is full\n");
    e.before = log_term(n, n->last);
    see_entry(n->last + 1, &e);
    n->log[++n->last] = e;
    uint32_t open = 0;
    for (uint64_t i = max_u64(n->base, w->sure) + 1; e.kind == RAFT_CONFIG && i <= n->last; i++)
        open += n->log[i].kind == RAFT_CONFIG;
    if (open > 1) DIE("two uncommitted configurations in one log\n");
}

static void put_config(struct node *n, const struct raft_update *up)
{
    if (w->nconfigs == CONFIGS) DIE("the test's configurations are full\n");
    if (up->members->index != n->last + 1) DIE("a configuration at %" PRIu64 "\n", up->members->index);
    w->config[w->nconfigs] = *up->members;
    put_entry(n, (struct entry){
                     .term = up->term, .id = ++w->next_id, .kind = RAFT_CONFIG, .len = 50, .config = w->nconfigs++});
}

static void send(uint32_t from, const struct raft_msg *m)
{
    uint32_t to = place(m->to);
    struct node *n = &w->node[from];
    if (w->cut[from][to] || w->down[from][to] || !w->node[to].up || chance(w->loss)) return;
    for (int copies = chance(w->dup) ? 2 : 1; copies > 0; copies--) {
        struct event *e = schedule(WORK_MSG, to, w->now + 20 * US + rnd(0, w->delay));
        e->from = from;
        e->life_from = n->life;
        e->m = *m;
        if (!m->n) continue;
        e->entries = malloc(m->n * sizeof *e->entries);
        memcpy(e->entries, &n->log[m->index + 1], m->n * sizeof *e->entries);
    }
}

static void send_snapshot(uint32_t from, uint32_t to)
{
    struct node *n = &w->node[from];
    struct raft_status s;
    raft_status(n->raft, &s);
    if (n->snapshot <= 0) DIE("a snapshot wanted, there is none\n");
    n->sending[to] = ++w->transfers;
    n->sending_index[to] = n->snapshot;
    n->sending_deadline[to] = w->now + 500 * MS;
    for (uint32_t i = 0; i < 3; i++) {
        struct raft_msg m = {.type = RAFT_MSG_SNAPSHOT,
                             .from = id_of(from),
                             .to = id_of(to),
                             .term = s.term,
                             .index = n->snapshot,
                             .log_term = n->snapshot_term};
        if (w->cut[from][to] || w->down[from][to] || !w->node[to].up || chance(w->loss)) continue;
        struct event *e = schedule(WORK_MSG, to, w->now + (i + 1) * 2 * MS + rnd(0, MS));
        e->from = from;
        e->life_from = n->life;
        e->m = m;
        e->transfer = n->sending[to];
        e->last_chunk = i == 2;
    }
}

static void finish_reads(struct node *n, uint64_t upto, uint64_t index)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n->nreads; i++) {
        if (n->reads[i].id > upto) {
            n->reads[kept++] = n->reads[i];
            continue;
        }
        if (index < n->reads[i].floor)
            DIE("stale read: at %" PRIu64 ", but %" PRIu64 " was committed before\n", index, n->reads[i].floor);
        w->reads_done++;
    }
    n->nreads = kept;
}

static void absorb(uint32_t at, const struct raft_event *ev, const struct event *src, const struct raft_update *up)
{
    struct node *n = &w->node[at];
    uint64_t first_new = n->last + 1, old_commit = n->commit;
    w->sure = max_u64(w->ncommitted, up->commit);
    if (up->flags & RAFT_UP_TRUNCATE) {
        if (up->truncate_from <= n->commit || up->truncate_from > n->last)
            DIE("truncates %" PRIu64 "\n", up->truncate_from);
        n->last = up->truncate_from - 1;
        first_new = n->last + 1;
        for (struct write *wr = n->writes; wr; wr = wr->next) wr->clip = min_u64(wr->clip, n->last);
    }
    if (up->flags & RAFT_UP_APPEND) {
        if (up->append_first != n->last + 1 || !src) DIE("appends at %" PRIu64 "\n", up->append_first);
        for (uint32_t i = 0; i < up->append_n; i++) put_entry(n, src->entries[up->append_skip + i]);
    }
    if (up->flags & RAFT_UP_NOOP) put_entry(n, (struct entry){.term = up->term, .id = ++w->next_id, .kind = RAFT_NOOP});
    if (up->flags & RAFT_UP_PROPOSED) {
        if (up->proposed_first != n->last + 1) DIE("proposed at %" PRIu64 "\n", up->proposed_first);
        for (uint32_t i = 0; i < ev->n; i++)
            put_entry(n, (struct entry){
                             .term = up->term, .id = ++w->next_id, .kind = ev->metas[i].kind, .len = ev->metas[i].len});
    }
    if (up->flags & RAFT_UP_CONFIG) put_config(n, up);
    write_entries(at, first_new);
    if (up->flags & RAFT_UP_HARD) {
        if (up->hard.term < n->told.term) DIE("the term falls\n");
        n->told = up->hard;
        push_write(at, WRITE_HARD)->hard = up->hard;
    }
    if (up->term < n->term || up->commit < n->commit) DIE("term or commit falls\n");
    if ((up->flags & RAFT_UP_ROLE) && up->role == RAFT_LEADER) {
        SAY("node %" PRIu64 " leads term %" PRIu64, id_of(at), up->term);
        check_leader(at, up->term);
    }
    bool led = up->role == RAFT_LEADER || (n->leads && n->term == up->term);
    n->leads = up->role == RAFT_LEADER;
    n->term = up->term;
    for (uint32_t i = 0; i < up->nmsgs; i++) {
        check_promise(n, &up->msgs[i]);
        if (up->msgs[i].type == RAFT_MSG_APPEND && up->msgs[i].n && up->msgs[i].index < n->base)
            DIE("sends entries that are gone\n");
        send(at, &up->msgs[i]);
    }
    for (uint32_t i = 0; i < up->nsnapshot_to; i++) send_snapshot(at, place(up->snapshot_to[i]));
    n->commit = up->commit;
    if (up->commit > old_commit) check_commit(n, max_u64(old_commit, n->base) + 1, up->commit, led);
    if (up->flags & RAFT_UP_READS) finish_reads(n, up->reads_upto, up->reads_index);
    if (up->flags & RAFT_UP_READS_FAILED) n->nreads = 0;
    if (up->flags & RAFT_UP_INSTALL) {
        struct write *wr = push_write(at, WRITE_INSTALL);
        wr->index = ev->index;
        wr->term = ev->term;
        wr->keep = up->keep_suffix;
        wr->source = src ? (uint64_t)src->from + 1 : 0;
    }
}

static void set_timer(uint32_t at, uint64_t deadline)
{
    struct node *n = &w->node[at];
    if (n->timer) drop_event(n->timer);
    n->timer = NULL;
    if (deadline == UINT64_MAX) return;
    uint64_t late = w->calm ? 0 : chance(2) ? rnd(0, 50 * MS) : rnd(0, MS);
    n->timer = schedule(WORK_TIMER, at, max_u64(when_clock(n, deadline), w->now + 1) + late);
}

static void step(uint32_t at, struct raft_event ev, const struct event *src)
{
    struct node *n = &w->node[at];
    struct raft_update up;
    ev.now = clock_of(n);
    raft_step(n->raft, &ev, &up);
    w->steps++;
    const char *bad = raft_invariant(n->raft);
    if (bad) DIE("node %" PRIu64 ": %s\n", id_of(at), bad);
    absorb(at, &ev, src, &up);
    if (up.flags & (RAFT_UP_MEMBERS | RAFT_UP_TRUNCATE)) check_members(n, at);
    set_timer(at, up.deadline);
    check_lease();
    if ((up.flags & RAFT_UP_COMMIT) && chance(80)) {
        n->applied = n->commit;
        step(at, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = n->commit}, NULL);
    }
    if (n->up && n->amnesiac && n->hard.standing == RAFT_VOTER) n->amnesiac = false;
}

/* ---- life and death of nodes ----------------------------------------------------------------------------- */

static void boot(uint32_t at)
{
    struct node *n = &w->node[at];
    struct raft_run runs[LOG_MAX];
    struct raft_members told[3];
    uint32_t nruns = 0, ntold = 0;
    n->life++;
    n->up = true;
    n->commit = n->applied = n->snapshot;
    n->leads = false;
    n->term = n->hard.term;
    n->told = n->hard;
    n->nreads = 0;
    n->receiving = n->received = 0;
    memset(n->sending, 0, sizeof n->sending);
    if (n->dlast < n->snapshot) n->dlast = n->dbase = n->snapshot;
    n->base = n->dbase;
    n->last = n->dlast;
    memcpy(n->log, n->disk, sizeof n->log);
    for (uint64_t i = n->dbase + 1; i <= n->dlast; i++)
        if (nruns == 0 || runs[nruns - 1].term != n->disk[i].term)
            runs[nruns++] = (struct raft_run){i, n->disk[i].term};
    /* A run may have begun before the first entry that is kept. */
    if (nruns && n->dbase && w->committed[n->dbase].term == runs[0].term && chance(50)) runs[0].first--;
    if (n->snapshot && config_at(n->snapshot)) told[ntold++] = w->config[config_at(n->snapshot)];
    for (uint64_t i = max_u64(n->snapshot, n->dbase) + 1, first = ntold; i <= n->dlast; i++) {
        if (n->disk[i].kind != RAFT_CONFIG) continue;
        if (ntold == first + 2) told[first] = told[--ntold];
        told[ntold++] = w->config[n->disk[i].config];
        told[ntold - 1].index = i;
    }
    struct raft_recovered from = {.hard = n->hard,
                                  .members = told,
                                  .nmembers = ntold,
                                  .snapshot_index = n->snapshot,
                                  .snapshot_term = n->snapshot_term,
                                  .first = n->dbase + 1,
                                  .last = n->dlast,
                                  .runs = runs,
                                  .nruns = nruns};
    struct raft_config config = {.id = id_of(at),
                                 .nvoters = at < w->members || chance(50) ? w->members : 0,
                                 .election_ns = 300 * MS,
                                 .heartbeat_ns = 100 * MS,
                                 .drift_ppm = 2000,
                                 .lease_reads = w->lease_reads,
                                 .append_bytes_max = 2000,
                                 .window_bytes = 8000,
                                 .seed = prng_u64(&w->prng),
                                 .span = node_span,
                                 .span_arg = n};
    for (uint32_t i = 0; i < config.nvoters; i++) config.voters[i] = id_of(i);
    n->raft = raft_new(&config, &from);
    struct raft_status s;
    raft_status(n->raft, &s);
    n->base = s.first - 1; /* the first one's predecessor must be known for it to be sent */
    step(at, (struct raft_event){.kind = RAFT_EV_START}, NULL);
}

static void conn_change(uint32_t at, uint32_t peer, bool up)
{
    if (!w->node[at].up || w->down[at][peer] == !up) return;
    w->down[at][peer] = !up;
    if (!up && w->node[at].sending[peer]) {
        w->node[at].sending[peer] = 0;
        step(at, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_SENT, .peer = id_of(peer)}, NULL);
    }
    step(at, (struct raft_event){.kind = up ? RAFT_EV_PEER_UP : RAFT_EV_PEER_DOWN, .peer = id_of(peer)}, NULL);
}

static void schedule_conn(uint32_t at, uint32_t peer, bool up, uint64_t when)
{
    struct event *e = schedule(WORK_CONN, at, when);
    e->from = peer;
    e->up = up;
}

static void crash(uint32_t at)
{
    struct node *n = &w->node[at];
    SAY("node %" PRIu64 " crashes", id_of(at));
    for (struct write *wr = n->writes; wr && chance(50); wr = wr->next) {
        if (wr->kind == WRITE_ENTRIES && chance(30)) { /* a torn batch: a prefix of it */
            struct write part = *wr;
            part.last = rnd(wr->first, wr->last);
            apply_write(n, &part);
            break;
        }
        apply_write(n, wr);
    }
    free_writes(n);
    if (n->timer) drop_event(n->timer);
    n->timer = NULL;
    raft_free(n->raft);
    n->raft = NULL;
    n->up = false;
    n->life++;
    for (uint32_t i = 0; i < w->n; i++)
        if (i != at && chance(80)) schedule_conn(i, at, false, w->now + rnd(0, 20 * MS));
}

/* All that is under way on connections of a node's former life goes, and the peers have noticed. */
static void forget_connections(uint32_t at)
{
    for (struct event *e = w->live, *next; e; e = next) {
        next = e->next_live;
        if (e->work == WORK_MSG && (e->to == at || e->from == at)) drop_event(e);
    }
    for (uint32_t i = 0; i < w->n; i++)
        if (i != at) conn_change(i, at, false);
}

static void restart(uint32_t at)
{
    if (w->node[at].up) return;
    SAY("node %" PRIu64 " starts", id_of(at));
    if (w->node[at].amnesiac) forget_connections(at);
    for (uint32_t i = 0; i < w->n; i++) w->down[at][i] = false;
    boot(at);
    for (uint32_t i = 0; i < w->n; i++) {
        if (i == at) continue;
        if (w->node[i].up) schedule_conn(i, at, true, w->now + rnd(0, 5 * MS));
        if (!w->node[i].up) conn_change(at, i, false);
    }
}

static void lose_disk(uint32_t at)
{
    struct node *n = &w->node[at];
    SAY("node %" PRIu64 " loses its disk", id_of(at));
    w->lost_disks++;
    n->ghost = max_u64(n->ghost, max_u64(n->dlast, n->snapshot));
    n->amnesiac = true;
    n->dbase = n->dlast = n->snapshot = n->snapshot_term = 0;
    n->hard = (struct raft_hard){0};
    n->voted_term = n->voted_for = 0;
}

/* ---- what happens ---------------------------------------------------------------------------------------- */

static void deliver(struct event *e)
{
    struct node *n = &w->node[e->to], *from = &w->node[e->from];
    struct raft_entry_meta metas[LOG_MAX];
    struct raft_members members[8];
    if (!n->up || w->down[e->to][e->from] || (e->life_to != n->life && (e->life_to + 2 != n->life || chance(50))))
        return;
    struct buf b = {0};
    struct slice rest;
    struct raft_msg m = e->m;
    m.n = 0; /* the entries' bytes are not part of this test */
    raft_msg_encode(&m, &b);
    assert_int_equal(raft_msg_decode(buf_slice(&b), &m, &rest), 0);
    buf_free(&b);
    m.n = e->m.n;
    for (uint32_t i = 0; i < m.n; i++)
        metas[i] = (struct raft_entry_meta){e->entries[i].term, e->entries[i].kind, e->entries[i].len};
    m.entries = m.n ? metas : NULL;
    m.members = members;
    for (uint32_t i = 0; i < m.n; i++) {
        if (e->entries[i].kind != RAFT_CONFIG) continue;
        if (m.nmembers == 8) return; /* too many for the test: lost */
        members[m.nmembers] = w->config[e->entries[i].config];
        members[m.nmembers++].index = m.index + 1 + i;
    }
    if (getenv("QFS_MESSAGES"))
        SAY("%" PRIu64 "->%" PRIu64 " type %u%s term %" PRIu64 " index %" PRIu64 "/%" PRIu64 " n %u commit %" PRIu64
            " last %" PRIu64,
            m.from, m.to, m.type, m.reject ? " reject" : "", m.term, m.index, m.log_term, m.n, m.commit, m.last);
    struct raft_event ev = {.kind = RAFT_EV_MSG, .msg = &m};
    if (m.type != RAFT_MSG_SNAPSHOT) {
        step(e->to, ev, e);
        return;
    }
    struct raft_update up;
    ev.now = clock_of(n);
    raft_step(n->raft, &ev, &up);
    absorb(e->to, &ev, e, &up);
    set_timer(e->to, up.deadline);
    if (!(up.flags & RAFT_UP_SNAPSHOT_CHUNK)) {
        if (e->life_from == from->life && from->sending[e->to] == e->transfer && n->commit >= m.index) {
            from->sending[e->to] = 0;
            step(e->from,
                 (struct raft_event){.kind = RAFT_EV_SNAPSHOT_SENT, .peer = id_of(e->to), .index = m.index, .ok = true},
                 NULL);
        }
        return;
    }
    if (n->receiving != e->transfer) n->received = 0;
    n->receiving = e->transfer;
    if (++n->received == 3)
        step(e->to, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_RECEIVED, .index = m.index, .term = m.log_term}, e);
}

static void write_done(uint32_t at)
{
    struct node *n = &w->node[at];
    struct write *wr = n->writes;
    n->writing = NULL;
    apply_write(n, wr);
    n->writes = wr->next;
    if (!n->writes) n->writes_end = &n->writes;
    next_write(at);
    if (wr->kind == WRITE_HARD) {
        step(at, (struct raft_event){.kind = RAFT_EV_HARD_PERSISTED, .hard = wr->hard}, NULL);
    } else if (wr->kind == WRITE_ENTRIES) {
        uint64_t upto = min_u64(wr->last, wr->clip);
        if (upto >= wr->first)
            step(at,
                 (struct raft_event){
                     .kind = RAFT_EV_PERSISTED, .index = upto, .term = wr->entries[upto - wr->first].term},
                 NULL);
    } else {
        w->installs++;
        SAY("node %" PRIu64 " installed %" PRIu64, id_of(at), wr->index);
        for (uint64_t i = n->base + 1; i <= wr->index; i++) n->log[i] = w->committed[i];
        n->base = wr->index;
        n->last = wr->keep ? n->last : wr->index;
        n->applied = wr->index;
        const struct raft_members *ms = &w->config[config_at(wr->index)];
        step(at,
             (struct raft_event){
                 .kind = RAFT_EV_SNAPSHOT_INSTALLED, .index = wr->index, .term = wr->term, .members = ms},
             NULL);
        uint32_t src = wr->source ? (uint32_t)wr->source - 1 : at;
        if (wr->source && w->node[src].up && w->node[src].sending[at] && !w->down[src][at]) {
            w->node[src].sending[at] = 0;
            step(src,
                 (struct raft_event){.kind = RAFT_EV_SNAPSHOT_SENT, .peer = id_of(at), .index = wr->index, .ok = true},
                 NULL);
        }
    }
    free(wr->entries);
    free(wr);
}

static void checkpoint(uint32_t at)
{
    struct node *n = &w->node[at];
    if (n->applied <= n->snapshot || !on_disk(n, n->applied, w->committed[n->applied].term)) return;
    for (struct write *wr = n->writes; wr; wr = wr->next)
        if (wr->kind == WRITE_INSTALL) return;
    n->snapshot = n->applied;
    n->snapshot_term = w->committed[n->applied].term;
    uint64_t base = rnd(n->base, n->snapshot);
    if (base <= n->base) return;
    n->base = base;
    n->dbase = max_u64(n->dbase, base);
    for (uint64_t i = 1; i <= n->dbase; i++) n->disk[i] = w->committed[i];
    step(at, (struct raft_event){.kind = RAFT_EV_LOG_TRIMMED, .index = base + 1}, NULL);
}

static void client(void)
{
    uint32_t at = (uint32_t)rnd(0, w->n - 1);
    struct node *n = &w->node[at];
    struct raft_entry_meta metas[8];
    struct raft_status s;
    schedule(WORK_CLIENT, 0, w->now + rnd(100, w->calm ? 20000 : 12000) * US);
    if (!n->up || w->now < n->paused_until) return;
    raft_status(n->raft, &s);
    if (s.role != RAFT_LEADER && !chance(5)) return;
    if (chance(40) && n->nreads < 64) {
        n->reads[n->nreads++] = (struct read){++n->read_id, w->ncommitted};
        step(at, (struct raft_event){.kind = RAFT_EV_READ, .read_id = n->read_id}, NULL);
        return;
    }
    if (n->last > LOG_MAX - 500) return;
    uint32_t k = (uint32_t)rnd(1, 8);
    for (uint32_t i = 0; i < k; i++) metas[i] = (struct raft_entry_meta){0, RAFT_COMMAND, (uint32_t)rnd(0, 900)};
    step(at, (struct raft_event){.kind = RAFT_EV_PROPOSE, .metas = metas, .n = k}, NULL);
}

static void heal_links(void)
{
    memset(w->cut, 0, sizeof w->cut);
    for (uint32_t i = 0; i < w->n; i++)
        for (uint32_t j = 0; j < w->n; j++)
            if (i != j && w->node[i].up && w->node[j].up) conn_change(i, j, true);
}

static uint32_t spare_voters(const struct raft_members *ms)
{
    uint32_t spare = NODES;
    for (int next = 0; next < 2 && ms->n; next++) {
        uint32_t voters = 0;
        for (uint32_t k = 0; k < ms->n; k++) voters += (next ? ms->next[k] : ms->seat[k]) == RAFT_VOTING;
        spare = (uint32_t)min_u64(spare, (voters - 1) / 2);
    }
    return spare;
}

/* The least that any configuration leaves to lose, of those that may come into effect. */
static uint32_t spare_disks(void)
{
    uint32_t spare = spare_voters(&w->config[config_at(w->ncommitted)]);
    for (uint32_t i = 0; i < w->n; i++) {
        const struct node *n = &w->node[i];
        if (n->raft) spare = (uint32_t)min_u64(spare, spare_voters(raft_members_now(n->raft)));
        for (uint64_t k = n->dbase + 1; k <= n->dlast; k++)
            if (n->disk[k].kind == RAFT_CONFIG)
                spare = (uint32_t)min_u64(spare, spare_voters(&w->config[n->disk[k].config]));
    }
    return spare;
}

static void maybe_lose_disk(uint32_t at)
{
    uint32_t amnesiacs = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        struct node *n = &w->node[i];
        amnesiacs += n->amnesiac;
        if (i < w->members && !n->amnesiac && n->hard.standing != RAFT_VOTER) return; /* the cluster is still forming */
    }
    if (w->node[at].amnesiac || amnesiacs + 1 > spare_disks()) return;
    lose_disk(at);
}

/* Somebody wants another configuration: learners come, are promoted, voters go; several at a time, now and then. */
static void change_members(uint32_t at)
{
    struct node *n = &w->node[at];
    if (!n->up || w->nconfigs + 4 > CONFIGS) return;
    struct raft_members want = *raft_members_now(n->raft);
    uint32_t changes = chance(70) ? 1 : (uint32_t)rnd(2, 3);
    bool promotes = false, removes = false;
    if (want.joint) return;
    for (uint32_t i = 0; i < changes; i++) {
        uint64_t id = id_of((uint32_t)rnd(0, w->n - 1));
        int k = raft_members_find(&want, id);
        if (k < 0) {
            raft_members_add(&want, id, "", RAFT_LEARNER);
        } else if (want.seat[k] == RAFT_LEARNER && chance(85)) {
            want.seat[k] = want.next[k] = RAFT_VOTING;
            promotes = true;
        } else if (chance(70)) {
            raft_members_drop(&want, id);
            removes = true;
        } else {
            want.seat[k] = want.next[k] = RAFT_LEARNER;
        }
    }
    uint32_t amnesiacs = 0; /* a disk may be lost a moment before a change that cannot do without it: the budget forbids */
    for (uint32_t i = 0; i < w->n; i++) amnesiacs += w->node[i].amnesiac;
    if (!raft_members_nonsense(&want) && amnesiacs > spare_voters(&want)) return;
    struct raft_event ev = {.kind = RAFT_EV_MEMBERS, .members = &want};
    struct raft_update up;
    ev.now = clock_of(n);
    raft_step(n->raft, &ev, &up);
    if (up.verdict == RAFT_CHANGE_TAKEN) {
        SAY("node %" PRIu64 " changes the configuration at %" PRIu64, id_of(at), up.members->index);
        w->changes++;
        w->promoted += promotes;
        w->removed += removes;
    } else {
        w->refused++;
    }
    const char *bad = raft_invariant(n->raft);
    if (bad) DIE("node %" PRIu64 ": %s\n", id_of(at), bad);
    absorb(at, &ev, NULL, &up);
    set_timer(at, up.deadline);
}

static uint32_t some_leader(void)
{
    struct raft_status s;
    for (uint32_t i = 0; i < w->n; i++) {
        if (!w->node[i].up) continue;
        raft_status(w->node[i].raft, &s);
        if (s.role == RAFT_LEADER) return i;
    }
    return (uint32_t)rnd(0, w->n - 1);
}

/* Each seed has its own mix of faults: some it never meets, some it meets all the time. */
static uint32_t choose_fault(void)
{
    uint64_t sum = 0, at;
    for (uint32_t i = 0; i < FAULTS; i++) sum += w->weight[i];
    at = rnd(0, sum - 1);
    for (uint32_t i = 0;; i++) {
        if (at < w->weight[i]) return i;
        at -= w->weight[i];
    }
}

static void nemesis(void)
{
    uint32_t a = chance(w->aim) ? some_leader() : (uint32_t)rnd(0, w->n - 1), b = (uint32_t)rnd(0, w->n - 1);
    struct node *n = &w->node[a];
    schedule(WORK_NEMESIS, 0, w->now + rnd(1, w->nemesis_ms) * MS);
    switch (choose_fault()) {
    case 0:
        if (n->up) crash(a);
        if (chance(w->lose)) maybe_lose_disk(a);
        schedule(WORK_RESTART, a, w->now + rnd(1, chance(20) ? 2000 : 300) * MS);
        break;
    case 1: w->cut[a][b] = true; break;
    case 2:
        for (uint32_t i = 0; i < w->n; i++) w->cut[a][i] = w->cut[i][a] = true;
        if (chance(50))
            for (uint32_t i = 0; i < w->n; i++)
                if (i != a) schedule_conn(i, a, false, w->now + rnd(0, 30 * MS));
        break;
    case 3: heal_links(); break;
    case 4:
        if (a != b) {
            uint64_t t = w->now + rnd(0, 5 * MS);
            schedule_conn(a, b, false, t);
            schedule_conn(b, a, false, t + rnd(0, 10 * MS));
            schedule_conn(a, b, true, t + rnd(11 * MS, 100 * MS));
            schedule_conn(b, a, true, t + rnd(11 * MS, 100 * MS));
        }
        break;
    case 5: n->paused_until = w->now + rnd(1, 800) * MS; break;
    case 6: n->slow_until = w->now + rnd(100, 1500) * MS; break;
    case 7: w->loss = (uint32_t)rnd(0, 30); break;
    case 8: w->delay = rnd(0, chance(20) ? 1500 : 20) * MS; break;
    case 9: w->dup = (uint32_t)rnd(0, 30); break;
    case 10:
        if (n->up) step(a, (struct raft_event){.kind = RAFT_EV_TRANSFER, .peer = chance(50) ? 0 : id_of(b)}, NULL);
        break;
    case 11:
        if (n->up) checkpoint(a);
        break;
    case 12: change_members(chance(90) ? some_leader() : a); break;
    default: w->loss = 0; break;
    }
}

static void expire_transfers(uint32_t at)
{
    struct node *n = &w->node[at];
    for (uint32_t i = 0; i < w->n; i++) {
        if (!n->up || !n->sending[i] || w->now < n->sending_deadline[i]) continue;
        n->sending[i] = 0;
        step(at, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_SENT, .peer = id_of(i)}, NULL);
    }
}

static void handle(struct event *e)
{
    struct node *n = &w->node[e->to];
    bool of_node = e->work == WORK_MSG || e->work == WORK_TIMER;
    if (of_node && n->up && w->now < n->paused_until) {
        heap_remove(&w->heap, &e->node);
        heap_insert(&w->heap, &e->node, n->paused_until);
        return;
    }
    switch (e->work) {
    case WORK_MSG: deliver(e); break;
    case WORK_WRITE: write_done(e->to); break;
    case WORK_TIMER:
        n->timer = NULL;
        expire_transfers(e->to);
        if (n->timer) break;
        step(e->to, (struct raft_event){.kind = RAFT_EV_TICK}, NULL);
        break;
    case WORK_NEMESIS:
        if (!w->calm) nemesis();
        break;
    case WORK_CLIENT: client(); break;
    case WORK_CONN:
        if (e->life_to == n->life && (w->node[e->from].up || !e->up)) conn_change(e->to, e->from, e->up);
        break;
    case WORK_RESTART: restart(e->to); break;
    }
    drop_event(e);
}

static void run_until(uint64_t end)
{
    struct heap_node *h;
    while ((h = heap_min(&w->heap)) && h->key <= end) {
        w->now = max_u64(w->now, h->key);
        handle(container_of(h, struct event, node));
    }
    w->now = end;
}

/* ---- one seed -------------------------------------------------------------------------------------------- */

static void start_world(uint64_t seed, bool verbose)
{
    w = calloc(1, sizeof *w);
    prng_seed(&w->prng, seed);
    w->seed = seed;
    w->verbose = verbose;
    w->members = chance(55) ? 3 : chance(70) ? 5 : (uint32_t)rnd(1, 4);
    w->n = (uint32_t)min_u64(NODES, w->members + (chance(60) ? rnd(0, 3) : 0));
    for (uint32_t i = 0; i < w->members; i++) raft_members_add(&w->config[0], id_of(i), "", RAFT_VOTING);
    w->nconfigs = 1;
    w->delay = 2 * MS;
    w->nemesis_ms = rnd(20, 250);
    w->aim = chance(50) ? 0 : (uint32_t)rnd(0, 100);
    w->lose = chance(50) ? 20 : (uint32_t)rnd(0, 100);
    for (uint32_t i = 0; i < FAULTS; i++) w->weight[i] = chance(25) ? 0 : chance(20) ? 10 : 2;
    w->weight[3]++; /* links heal now and then */
    if (w->weight[12] && chance(50)) w->weight[12] = 10;
    w->lease_reads = chance(70);
    w->now = NS_PER_S;
    for (uint32_t i = 0; i < w->n; i++) {
        struct node *n = &w->node[i];
        n->off = rnd(0, 100 * NS_PER_S);
        n->drift = (int64_t)rnd(0, 2000) - 1000;
        n->writes_end = &n->writes;
    }
    bool formed = chance(50);
    for (uint32_t i = 0; i < w->n; i++) {
        w->node[i].hard.standing = formed && i < w->members ? RAFT_VOTER : RAFT_UNFORMED;
        boot(i);
    }
    schedule(WORK_CLIENT, 0, w->now);
    schedule(WORK_NEMESIS, 0, w->now + rnd(0, 1500) * MS);
}

/* All members of the leader's configuration agree; who is none need not know. */
static bool converged(void)
{
    struct raft_status s;
    uint32_t leader = some_leader();
    const struct raft_members *ms = raft_members_now(w->node[leader].raft);
    raft_status(w->node[leader].raft, &s);
    uint64_t term = s.term;
    if (s.role != RAFT_LEADER || ms->joint) return false;
    for (uint32_t i = 0; i < ms->n; i++) {
        const struct node *n = &w->node[place(ms->m[i].id)];
        raft_status(n->raft, &s);
        if (s.commit != w->ncommitted || s.standing != RAFT_VOTER || s.term != term) return false;
        if (s.voter != (ms->seat[i] == RAFT_VOTING) || s.members_index != ms->index) return false;
        if ((s.role == RAFT_LEADER) != (n == &w->node[leader])) return false;
    }
    return true;
}

static void show_nodes(void)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct raft_status s;
        raft_status(w->node[i].raft, &s);
        print_error("node %u: %s%s term %" PRIu64 " standing %d commit %" PRIu64 " last %" PRIu64 " of %" PRIu64
                    ", members of %" PRIu64 "%s\n",
                    i + 1, raft_role_name(s.role), s.voter ? "" : ", no vote,", s.term, (int)s.standing, s.commit, s.last,
                    w->ncommitted, s.members_index, s.joint ? " (joint)" : "");
        for (uint32_t k = 0; k < s.npeers; k++)
            print_error("    %" PRIu64 ": %s %s match %" PRIu64 " next %" PRIu64 "%s%s\n", s.peers[k].id,
                        raft_seat_name(s.peers[k].seat, s.peers[k].seat_next, s.joint), s.peers[k].state,
                        s.peers[k].match, s.peers[k].next, s.peers[k].recent ? "" : " not heard",
                        w->node[i].sending[place(s.peers[k].id)] ? " sending" : "");
    }
}

static void finish_world(void)
{
    w->calm = true;
    w->loss = w->dup = 0;
    w->delay = MS;
    for (uint32_t i = 0; i < w->n; i++) {
        w->node[i].paused_until = w->node[i].slow_until = 0;
        restart(i);
    }
    run_until(w->now + 100 * MS);
    heal_links();
    uint64_t before = w->ncommitted, start = w->now;
    while (w->ncommitted < before + 20 && w->now < start + 8 * NS_PER_S) run_until(w->now + 50 * MS);
    if (w->ncommitted < before + 20) show_nodes();
    if (w->ncommitted < before + 20) DIE("no progress after all has healed\n");
    SAY("progress after %" PRIu64 " us", (w->now - start) / US);
    while (!converged() && w->now < start + 16 * NS_PER_S) run_until(w->now + 7 * MS);
    if (!converged()) {
        show_nodes();
        DIE("the nodes do not agree after all has healed\n");
    }
}

static void stop_world(void)
{
    for (uint32_t i = 0; i < w->n; i++) {
        free_writes(&w->node[i]);
        raft_free(w->node[i].raft);
    }
    while (w->live) drop_event(w->live);
    heap_free(&w->heap);
    free(w);
    w = NULL;
}

static void test_random_clusters(void **state)
{
    const char *env = getenv("QFS_SEED"), *count = getenv("QFS_SEEDS");
    uint64_t first = env ? strtoull(env, NULL, 0) : 1, n = env ? 1 : count ? strtoull(count, NULL, 0) : 500;
    uint64_t committed = 0, elections = 0, disks = 0, installs = 0, reads = 0, leases = 0, steps = 0;
    uint64_t changes = 0, promoted = 0, removed = 0, refused = 0;
    (void)state;
    for (uint64_t seed = first; seed < first + n; seed++) {
        start_world(seed, env != NULL);
        run_until(w->now + rnd(2000, 7000) * MS);
        finish_world();
        committed += w->ncommitted;
        elections += w->elections;
        disks += w->lost_disks;
        installs += w->installs;
        reads += w->reads_done;
        leases += w->lease_hits;
        steps += w->steps;
        changes += w->changes;
        promoted += w->promoted;
        removed += w->removed;
        refused += w->refused;
        stop_world();
    }
    print_message("%" PRIu64 " seeds: %" PRIu64 " steps, %" PRIu64 " committed, %" PRIu64 " elections, %" PRIu64
                  " lost disks, %" PRIu64 " installs, %" PRIu64 " reads, %" PRIu64 " steps under a lease, %" PRIu64
                  " changes of members (%" PRIu64 " promote, %" PRIu64 " remove), %" PRIu64 " refused\n",
                  n, steps, committed, elections, disks, installs, reads, leases, changes, promoted, removed, refused);
    /* A test that never meets its faults proves nothing. */
    if (n >= 100)
        assert_true(committed > 50 * n && elections > 2 * n && disks > n / 10 && installs > n / 4 && reads > 20 * n &&
                    leases > 100 * n && changes > n / 2 && promoted > n / 10 && removed > n / 10 && refused > n / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_clusters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
