/* node.c - see node.h. There is one live node at a time: a state is unpacked into it, takes a step, and is packed
 * again.
 *
 * The driver's duties are those of raft/node.c and raft/log.c: an update is carried out at once (truncate, append, hard
 * state, messages, commit), writes to the disk are done in order, and what was truncated after its write began is not
 * reported. */
#include "tests/explore/node.h"

#include <stdlib.h>

#define NOW         (1000 * NS_PER_S)
#define ELECTION    (300 * NS_PER_MS)
#define HEARTBEAT   (100 * NS_PER_MS)
#define RUNS        64u
#define VIEWS       65536u
#define VIEW_CHUNKS 1024u

enum { WRITE_HARD = 1, WRITE_ENTRIES = 2 };

struct write {
    uint8_t kind, term, vote;  /* hard state */
    uint8_t first, last, clip; /* entries; not reported behind clip */
    struct ex_entry e[EX_LOG + 1];
};

struct driver {
    uint8_t id, last, dlast, hard_term, hard_vote, nwrites;
    uint8_t stamp;          /* of messages: how many reads this leader has been asked for, and 1 */
    uint8_t reading, floor; /* a read waits; it must see entries up to floor */
    struct ex_entry log[EX_LOG + 1], disk[EX_LOG + 1];
    struct write writes[EX_QUEUE];
} __attribute__((aligned(8)));

static struct {
    struct ex_bounds bounds;
    struct ex_pool states, msgs, configs;
    struct ex_view *views[VIEW_CHUNKS]; /* by state; what was lent stays where it is */
    struct {
        uint64_t key;
        struct ex_result result;
    } * memo; /* by (state, act, arg) */
    uint64_t nmemo, memo_cap;
    uint32_t *sent;
    uint32_t nsent, sent_cap;
    struct prng prng;
    /* the live node */
    struct raft *core;
    struct raft_run runs[RUNS];
    struct driver d;
    uint32_t *image;
    const char *error;
    bool beyond;
} x;

/* ---- the driver ---- */

static void broken(const char *what)
{
    if (!x.error) x.error = what;
}

static uint32_t span(void *arg, uint64_t first, uint64_t last, uint64_t bytes_max, uint64_t *bytes)
{
    *bytes = min_u64(last - first + 1, bytes_max);
    return (uint32_t)*bytes;
}

static struct raft_config config_of(unsigned id)
{
    struct raft_config c = {.id = id,
                            .nvoters = EX_NODES,
                            .election_ns = ELECTION,
                            .heartbeat_ns = HEARTBEAT,
                            .append_bytes_max = x.bounds.singly ? 1 : 1000,
                            .window_bytes = 1000,
                            .seed = 1,
                            .span = span};
    for (uint32_t i = 0; i < EX_NODES; i++) c.voters[i] = i + 1;
    return c;
}

static struct write *push_write(unsigned kind)
{
    if (x.d.nwrites == EX_QUEUE) {
        x.beyond = true;
        return &x.d.writes[0];
    }
    struct write *w = &x.d.writes[x.d.nwrites++];
    w->kind = (uint8_t)kind;
    w->clip = EX_LOG;
    return w;
}

static void truncate_log(uint64_t from)
{
    for (uint64_t i = from; i <= x.d.last; i++) x.d.log[i] = (struct ex_entry){0};
    x.d.last = (uint8_t)(from - 1);
    for (unsigned i = 0; i < x.d.nwrites; i++) {
        struct write *w = &x.d.writes[i];
        if (w->kind == WRITE_ENTRIES && w->last >= from) w->clip = (uint8_t)min_u64(w->clip, from - 1);
    }
}

static void append(struct ex_entry e)
{
    if (x.d.last == x.bounds.entries) {
        x.beyond = true;
        return;
    }
    x.d.log[++x.d.last] = e;
}

static void write_from(uint64_t first)
{
    struct write *w = push_write(WRITE_ENTRIES);
    w->first = (uint8_t)first;
    w->last = x.d.last;
    for (uint64_t i = first; i <= x.d.last; i++) w->e[i] = x.d.log[i];
}

static bool on_disk(uint64_t upto)
{
    if (x.d.dlast < upto || x.d.last < upto) return false;
    for (uint64_t i = 1; i <= upto; i++)
        if (!ex_same(x.d.log[i], x.d.disk[i])) return false;
    return true;
}

/* Nothing leaves a node that its disk does not stand for. */
static void check_promise(const struct raft_msg *m)
{
    bool durable = x.d.hard_term == m->term;
    bool own = durable && x.d.hard_vote == x.d.id;
    if (m->type == RAFT_MSG_VOTE_RESP && !m->reject && !(durable && x.d.hard_vote == m->to))
        broken("a vote is promised that is not durable");
    if (m->type == RAFT_MSG_VOTE && !own) broken("votes are asked for before the candidate's own is durable");
    if (m->type == RAFT_MSG_APPEND && !own) broken("a leader whose own vote is not durable");
    if (m->type == RAFT_MSG_APPEND_RESP && !m->reject && !durable)
        broken("entries are acknowledged in a term that is not durable");
    if (m->type == RAFT_MSG_APPEND_RESP && !m->reject && !on_disk(m->index))
        broken("entries are acknowledged that are not durable");
}

static void send(const struct raft_msg *m)
{
    struct ex_msg out;
    bool added;
    memset(&out, 0, sizeof out);
    out.m = *m;
    out.m.entries = NULL;
    out.m.members = NULL;
    out.m.round = min_u64(m->round, NOW + x.d.stamp);
    if (m->type == RAFT_MSG_APPEND) out.m.last = max_u64(m->index + m->n, m->commit); /* only fenced nodes look at it */
    if (m->type == RAFT_MSG_APPEND) {
        if (m->index + m->n > x.d.last)
            broken("entries are sent that are not in the log");
        else
            for (uint32_t i = 0; i < m->n; i++) out.e[i] = x.d.log[m->index + 1 + i];
    }
    check_promise(m);
    if (x.nsent == x.sent_cap) {
        x.sent_cap = x.sent_cap ? x.sent_cap * 2 : 4096;
        x.sent = xrealloc(x.sent, x.sent_cap * sizeof *x.sent);
    }
    x.sent[x.nsent++] = ex_pool_put(&x.msgs, &out, sizeof out, &added);
}

static void answer_read(const struct raft_update *up)
{
    if (up->flags & RAFT_UP_READS && x.d.reading) {
        if (up->reads_index < x.d.floor) broken("a read does not see what was committed before it was asked");
        x.d.reading = x.d.floor = 0;
    }
    if (up->flags & RAFT_UP_READS_FAILED) x.d.reading = x.d.floor = 0;
}

/* ---- configurations ---- */

static uint8_t config_keep(const struct raft_members *ms)
{
    struct raft_members as;
    bool added;
    memcpy(&as, ms, sizeof as);
    as.index = 0;
    uint32_t number = ex_pool_put(&x.configs, &as, sizeof as, &added);
    check(number < 255);
    return (uint8_t)(number + 1);
}

static struct raft_members config_get(struct ex_entry e, uint64_t index)
{
    struct raft_members ms = *(const struct raft_members *)ex_pool_get(&x.configs, e.config - 1u);
    ms.index = index;
    return ms;
}

const struct raft_members *ex_members(const struct ex_entry *log, unsigned upto)
{
    static struct raft_members all;
    while (upto > 0 && !log[upto].config) upto--;
    if (upto) return ex_pool_get(&x.configs, log[upto].config - 1u);
    if (all.n == 0)
        for (uint32_t i = 0; i < EX_NODES; i++) raft_members_add(&all, i + 1, "", RAFT_VOTING);
    return &all;
}

/* The configuration in effect is that of the newest such entry in the log. */
static void check_members(void)
{
    const struct raft_members *now = raft_members_now(x.core), *log = ex_members(x.d.log, x.d.last);
    bool same = now->joint == log->joint && now->n == log->n;
    for (uint32_t k = 0; k < log->n && same; k++) {
        int m = raft_members_find(now, log->m[k].id);
        same = m >= 0 && now->seat[m] == log->seat[k] && (!log->joint || now->next[m] == log->next[k]);
    }
    if (!same) broken("another configuration is in effect than the log's newest");
}

/* ---- an update ---- */

static void carry_out(const struct raft_event *ev, const struct raft_update *up, const struct ex_msg *got)
{
    uint8_t self = x.d.id, term = (uint8_t)up->term, before;
    if (up->flags & RAFT_UP_TRUNCATE) truncate_log(up->truncate_from);
    before = x.d.last;
    if (up->flags & RAFT_UP_APPEND)
        for (uint32_t i = 0; i < up->append_n; i++) append(got->e[up->append_skip + i]);
    if (up->flags & RAFT_UP_NOOP) append((struct ex_entry){term, RAFT_NOOP, self, 0});
    if (up->flags & RAFT_UP_PROPOSED)
        for (uint32_t i = 0; i < ev->n; i++) append((struct ex_entry){term, ev->metas[i].kind, self, 0});
    if (up->flags & RAFT_UP_CONFIG) append((struct ex_entry){term, RAFT_CONFIG, self, config_keep(up->members)});
    if (x.beyond) return;
    if (x.d.last > before) write_from(before + 1u);
    if (up->flags & RAFT_UP_HARD) {
        struct write *w = push_write(WRITE_HARD);
        w->term = (uint8_t)up->hard.term;
        w->vote = (uint8_t)up->hard.vote;
    }
    for (uint32_t i = 0; i < up->nmsgs; i++) send(&up->msgs[i]);
    answer_read(up);
    if (up->commit > x.d.last) broken("a commit index beyond the log");
}

static void step(struct raft_event *ev, const struct ex_msg *got)
{
    struct raft_update up;
    uint64_t term = x.core->hard.term, commit = x.core->commit;
    ev->now = NOW;
    raft_step(x.core, ev, &up);
    if (up.term > x.bounds.terms) x.beyond = true;
    if (up.term < term) broken("the term falls");
    if (up.commit < commit) broken("the commit index falls");
    if (!x.beyond) carry_out(ev, &up, got);
    if (!x.beyond) check_members();
}

/* ---- what time only counts ---- */

static void settle_peer(struct raft_peer *p)
{
    struct raft__inflight in[RAFT__INFLIGHT_MAX] = {0};
    for (uint32_t i = 0; i < p->ninflight; i++) in[i] = p->inflight[(p->inflight_at + i) % RAFT__INFLIGHT_MAX];
    memcpy(p->inflight, in, sizeof in);
    p->inflight_at = 0;
    p->heard_at = p->sent_at = NOW;
    p->snapshot_retry_at = 0;
    p->acked_round = min_u64(p->acked_round, NOW + x.d.stamp);
    p->since = min_u64(p->since, NOW + x.d.stamp);
}

static void settle(void)
{
    struct raft *r = x.core;
    r->prng = x.prng;
    r->nonce = r->dropped = r->void_from = 0;
    r->election_at = NOW + ELECTION;
    r->resend_at = NOW + HEARTBEAT;
    r->transfer_at = NOW + ELECTION;
    r->heard = r->heard_lease = false;
    r->heard_at = r->heard_from = 0;
    r->round = NOW + x.d.stamp;
    r->stamped = false;
    r->stored_last = 0;
    r->nmetas = 0;
    r->late_at = r->late_at ? NOW : 0;
    if (!r->late_at) r->late_index = 0;
    r->metas = NULL;
    r->up = NULL;
    memset(r->out, 0, sizeof r->out);
    for (uint32_t i = 0; i < r->npeers; i++) settle_peer(&r->peers[i]);
    memset(r->reads + r->nreads, 0, (RAFT__READS_MAX - r->nreads) * sizeof r->reads[0]);
    memset(x.d.writes + x.d.nwrites, 0, (EX_QUEUE - x.d.nwrites) * sizeof x.d.writes[0]);
}

/* ---- packing ---- */

/* Runs of zero words are left out: (zeros, words) in 16 bits each, then the words. */
static size_t squeeze(const void *from, size_t n, uint32_t *to)
{
    const uint32_t *w = from;
    size_t words = n / 4, at = 0;
    for (size_t i = 0; i < words;) {
        size_t zeros = 0, some = 0;
        while (i < words && w[i] == 0) i++, zeros++;
        while (i + some < words && w[i + some] != 0) some++;
        to[at++] = (uint32_t)(zeros << 16 | some);
        memcpy(to + at, w + i, some * 4);
        at += some;
        i += some;
    }
    return at;
}

static size_t unsqueeze(const uint32_t *from, void *to, size_t n)
{
    uint32_t *w = to;
    size_t words = n / 4, at = 0;
    for (size_t i = 0; i < words;) {
        size_t zeros = from[at] >> 16, some = from[at] & 0xffff;
        memset(w + i, 0, zeros * 4);
        memcpy(w + i + zeros, from + at + 1, some * 4);
        i += zeros + some;
        at += some + 1;
    }
    return at;
}

static struct ex_view look(void)
{
    struct raft_status st;
    struct ex_view v = {0};
    raft_status(x.core, &st);
    v.role = (uint8_t)st.role;
    v.term = (uint8_t)st.term;
    v.vote = (uint8_t)st.vote;
    v.commit = (uint8_t)st.commit;
    v.last = x.d.last;
    v.dlast = x.d.dlast;
    v.hard_term = x.d.hard_term;
    v.hard_vote = x.d.hard_vote;
    v.nwrites = x.d.nwrites;
    v.reading = x.d.reading;
    memcpy(v.log, x.d.log, sizeof v.log);
    memcpy(v.disk, x.d.disk, sizeof v.disk);
    return v;
}

static uint32_t pack(void)
{
    struct raft_run *runs = x.core->terms.runs;
    uint32_t cap = x.core->terms.cap;
    bool added;
    settle();
    check(runs == x.runs && cap == RUNS);
    x.core->terms.runs = NULL;
    size_t n = squeeze(x.core, sizeof *x.core, x.image);
    x.core->terms.runs = runs;
    n += squeeze(x.runs, x.core->terms.n * sizeof x.runs[0], x.image + n);
    if (n % 2) x.image[n++] = 0;
    memcpy(x.image + n, &x.d, sizeof x.d);
    uint32_t state = ex_pool_put(&x.states, x.image, n * 4 + sizeof x.d, &added);
    if (!added) return state;
    check(state / VIEWS < VIEW_CHUNKS);
    if (!x.views[state / VIEWS]) x.views[state / VIEWS] = xcalloc(VIEWS, sizeof **x.views);
    x.views[state / VIEWS][state % VIEWS] = look();
    return state;
}

static void unpack(uint32_t state)
{
    const uint32_t *from = ex_pool_get(&x.states, state);
    size_t n = unsqueeze(from, x.core, sizeof *x.core);
    x.core->terms.runs = x.runs;
    n += unsqueeze(from + n, x.runs, x.core->terms.n * sizeof x.runs[0]);
    n += n % 2;
    memcpy(&x.d, from + n, sizeof x.d);
}

/* ---- inputs ---- */

static void deliver(uint32_t number)
{
    struct ex_msg got = *(const struct ex_msg *)ex_pool_get(&x.msgs, number);
    struct raft_entry_meta metas[EX_LOG];
    for (uint32_t i = 0; i < got.m.n; i++) metas[i] = (struct raft_entry_meta){got.e[i].term, got.e[i].kind, 1};
    struct raft_members members[EX_LOG];
    for (uint32_t i = 0; i < got.m.n; i++)
        if (got.e[i].config) members[got.m.nmembers++] = config_get(got.e[i], got.m.index + 1 + i);
    got.m.members = members;
    got.m.entries = got.m.n ? metas : NULL;
    step(&(struct raft_event){.kind = RAFT_EV_MSG, .msg = &got.m}, &got);
}

static void tick(void) { step(&(struct raft_event){.kind = RAFT_EV_TICK}, NULL); }

static void beat(void)
{
    for (uint32_t i = 0; i < x.core->npeers; i++) x.core->peers[i].sent_at = NOW - HEARTBEAT;
    x.core->commit_due = 0;
    tick();
}

static void step_down(void)
{
    for (uint32_t i = 0; i < x.core->npeers; i++) x.core->peers[i].heard_at = NOW - ELECTION;
    tick();
}

/* What the oldest write does to the disk; it leaves the queue. */
static struct write write_done(void)
{
    struct write w = x.d.writes[0];
    memmove(x.d.writes, x.d.writes + 1, --x.d.nwrites * sizeof x.d.writes[0]);
    memset(x.d.writes + x.d.nwrites, 0, sizeof x.d.writes[0]);
    if (w.kind == WRITE_HARD) {
        x.d.hard_term = w.term;
        x.d.hard_vote = w.vote;
        return w;
    }
    for (uint8_t i = w.first; i <= w.last; i++) x.d.disk[i] = w.e[i];
    for (uint8_t i = (uint8_t)(w.last + 1); i <= EX_LOG; i++) x.d.disk[i] = (struct ex_entry){0};
    x.d.dlast = w.last;
    return w;
}

static void persist(void)
{
    struct write w = write_done();
    struct raft_event ev = {0};
    if (w.kind == WRITE_HARD) {
        ev.kind = RAFT_EV_HARD_PERSISTED;
        ev.hard.term = w.term;
        ev.hard.vote = w.vote;
        ev.hard.standing = RAFT_VOTER;
        step(&ev, NULL);
        return;
    }
    uint8_t upto = w.last < w.clip ? w.last : w.clip;
    if (upto < w.first) return;
    ev.kind = RAFT_EV_PERSISTED;
    ev.index = upto;
    ev.term = x.d.log[upto].term;
    step(&ev, NULL);
}

/* A core as recovered from the disk, which is all that is left. */
static void start(unsigned id)
{
    struct raft_config config = config_of(id);
    struct raft_run runs[EX_LOG];
    struct raft_recovered from = {
        .hard = {x.d.hard_term, x.d.hard_vote, RAFT_VOTER}, .first = 1, .last = x.d.dlast, .runs = runs};
    for (uint8_t i = 1; i <= x.d.dlast; i++)
        if (from.nruns == 0 || runs[from.nruns - 1].term != x.d.disk[i].term)
            runs[from.nruns++] = (struct raft_run){i, x.d.disk[i].term};
    struct raft_members told[EX_LOG];
    for (uint8_t i = 1; i <= x.d.dlast; i++)
        if (x.d.disk[i].config) told[from.nmembers++] = config_get(x.d.disk[i], i);
    from.members = told + (from.nmembers > 2 ? from.nmembers - 2 : 0);
    from.nmembers = (uint32_t)min_u64(from.nmembers, 2);
    struct raft *fresh = raft_new(&config, &from);
    memcpy(x.core, fresh, sizeof *fresh);
    if (fresh->terms.n) memcpy(x.runs, fresh->terms.runs, fresh->terms.n * sizeof x.runs[0]);
    x.core->terms.runs = x.runs;
    x.core->terms.cap = RUNS;
    x.prng = x.core->prng;
    raft_free(fresh);
    x.d.last = x.d.dlast;
    x.d.stamp = 1;
    x.d.reading = x.d.floor = 0;
    x.d.nwrites = 0;
    memcpy(x.d.log, x.d.disk, sizeof x.d.log);
    memset(x.d.writes, 0, sizeof x.d.writes);
    step(&(struct raft_event){.kind = RAFT_EV_START}, NULL);
}

static void crash(uint32_t done)
{
    for (uint32_t i = 0; i < done; i++) write_done();
    start(x.d.id);
}

static void propose(void)
{
    static const struct raft_entry_meta meta = {.kind = RAFT_COMMAND, .len = 1};
    step(&(struct raft_event){.kind = RAFT_EV_PROPOSE, .metas = &meta, .n = 1}, NULL);
}

static void change_members(uint32_t voters)
{
    struct raft_members want = {0};
    for (uint32_t i = 0; i < EX_NODES; i++)
        raft_members_add(&want, i + 1, "", voters & 1u << i ? RAFT_VOTING : RAFT_LEARNER);
    step(&(struct raft_event){.kind = RAFT_EV_MEMBERS, .members = &want}, NULL);
}

static void read_asked(uint32_t floor)
{
    x.d.stamp++;
    x.d.reading = 1;
    x.d.floor = (uint8_t)floor;
    step(&(struct raft_event){.kind = RAFT_EV_READ, .read_id = x.d.stamp}, NULL);
}

static bool possible(enum ex_act act, uint32_t arg)
{
    bool leads = x.core->role == RAFT_LEADER;
    switch (act) {
    case EX_DELIVER:
        return true;
    case EX_TIMEOUT:
        return !leads && x.core->hard.term < x.bounds.terms;
    case EX_BEAT:
    case EX_STEP_DOWN:
        return leads;
    case EX_PROPOSE:
        return leads && x.d.last < x.bounds.entries;
    case EX_PERSIST:
        return x.d.nwrites > 0;
    case EX_CRASH:
        return arg <= x.d.nwrites;
    case EX_READ:
        return leads && !x.d.reading;
    case EX_TRANSFER:
        return leads && arg != x.d.id;
    case EX_MEMBERS:
        return leads;
    case EX_ELECT:
        break;
    }
    return false;
}

static void act_on(enum ex_act act, uint32_t arg)
{
    switch (act) {
    case EX_DELIVER:
        deliver(arg);
        break;
    case EX_TIMEOUT:
        x.core->election_at = NOW;
        tick();
        break;
    case EX_BEAT:
        beat();
        break;
    case EX_STEP_DOWN:
        step_down();
        break;
    case EX_PROPOSE:
        propose();
        break;
    case EX_PERSIST:
        persist();
        break;
    case EX_CRASH:
        crash(arg);
        break;
    case EX_READ:
        read_asked(arg);
        break;
    case EX_TRANSFER:
        step(&(struct raft_event){.kind = RAFT_EV_TRANSFER, .peer = arg}, NULL);
        break;
    case EX_MEMBERS:
        change_members(arg);
        break;
    case EX_ELECT:
        break;
    }
}

/* ---- remembered steps ---- */

static uint64_t key_of(uint32_t node, enum ex_act act, uint32_t arg)
{
    return (uint64_t)node << 32 | (uint64_t)act << 24 | arg;
}

static void grow_memo(void)
{
    typeof(x.memo) old = x.memo;
    uint64_t cap = x.memo_cap;
    x.memo_cap = cap ? cap * 2 : 1 << 16;
    x.memo = xcalloc(x.memo_cap, sizeof *x.memo);
    for (uint64_t i = 0; i < cap; i++) {
        if (!old[i].key) continue;
        uint64_t at = hash_mix(old[i].key) & (x.memo_cap - 1);
        while (x.memo[at].key) at = (at + 1) & (x.memo_cap - 1);
        x.memo[at] = old[i];
    }
    free(old);
}

static struct ex_result compute(uint32_t node, enum ex_act act, uint32_t arg)
{
    struct ex_result res = {.node = EX_NONE, .msgs = x.nsent};
    unpack(node);
    x.error = NULL;
    x.beyond = false;
    if (!possible(act, arg)) return res;
    act_on(act, arg);
    const char *bad = x.beyond ? NULL : raft_invariant(x.core);
    if (bad) broken(bad);
    res.error = x.error;
    if (x.beyond && !x.error) {
        x.nsent = res.msgs;
        return res;
    }
    res.n = x.nsent - res.msgs;
    res.node = pack();
    return res;
}

struct ex_result ex_node_step(uint32_t node, enum ex_act act, uint32_t arg)
{
    check(arg < 1 << 24);
    if ((x.nmemo + 1) * 2 > x.memo_cap) grow_memo();
    uint64_t key = key_of(node, act, arg), at = hash_mix(key) & (x.memo_cap - 1);
    for (; x.memo[at].key; at = (at + 1) & (x.memo_cap - 1))
        if (x.memo[at].key == key) return x.memo[at].result;
    x.memo[at].key = key;
    x.memo[at].result = compute(node, act, arg);
    x.nmemo++;
    return x.memo[at].result;
}

uint32_t ex_node_first(unsigned id)
{
    x.d = (struct driver){.id = (uint8_t)id};
    x.error = NULL;
    x.beyond = false;
    start(id);
    check(!x.error && !x.beyond);
    return pack();
}

/* ---- life ---- */

void ex_nodes_open(const struct ex_bounds *bounds)
{
    check(bounds->entries <= EX_LOG && bounds->terms <= EX_TERMS);
    x.bounds = *bounds;
    x.core = xcalloc(1, sizeof *x.core);
    x.image = xmalloc(3 * sizeof *x.core);
}

void ex_nodes_close(void)
{
    ex_pool_free(&x.states);
    ex_pool_free(&x.msgs);
    ex_pool_free(&x.configs);
    for (unsigned i = 0; i < VIEW_CHUNKS; i++) free(x.views[i]);
    free(x.memo);
    free(x.sent);
    free(x.core);
    free(x.image);
    memset(&x, 0, sizeof x);
}

const struct ex_view *ex_node_view(uint32_t node) { return &x.views[node / VIEWS][node % VIEWS]; }
const uint32_t *ex_sent(uint32_t at) { return x.sent + at; }
const struct ex_msg *ex_msg(uint32_t number) { return ex_pool_get(&x.msgs, number); }
uint32_t ex_node_count(void) { return x.states.n; }
uint32_t ex_msg_count(void) { return x.msgs.n; }
uint64_t ex_step_count(void) { return x.nmemo; }
