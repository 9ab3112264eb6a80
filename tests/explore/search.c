/* search.c - see search.h. States are kept whole, 24 bytes each, so that no two are ever mistaken for one another; each
 * remembers from which it was reached and how, which is the way that a violation prints. */
#include "tests/explore/search.h"

#include <stdio.h>
#include <stdlib.h>

#define MSGS_MAX 64u

struct past {
    uint8_t leader_of[EX_TERMS + 1];
    uint8_t voted[EX_TERMS + 1][EX_NODES]; /* granted and sent */
    uint8_t ncommitted, crashes, reads, transfers, changes, slow;
    struct {
        struct ex_entry e;
        uint8_t by; /* in this term */
    } committed[EX_LOG + 1];
} __attribute__((aligned(8)));

struct world {
    uint32_t node[EX_NODES], queue, late, past;
};

struct way {
    uint32_t from, how;
};

static struct {
    const struct ex_bounds *bounds;
    struct ex_pool lists, pasts;
    struct world *v;
    struct way *way;
    uint64_t n, cap;
    uint32_t *slot;
    uint64_t nslot;
    struct ex_outcome out;
    uint64_t max;
} s;

/* ---- states ---- */

static uint64_t hash_of(const struct world *w) { return hash64(7, w, sizeof *w); }

static void grow_slots(void)
{
    s.nslot = s.nslot ? s.nslot * 2 : 1 << 16;
    free(s.slot);
    s.slot = xcalloc(s.nslot, sizeof *s.slot);
    for (uint64_t i = 0; i < s.n; i++) {
        uint64_t at = hash_of(&s.v[i]) & (s.nslot - 1);
        while (s.slot[at]) at = (at + 1) & (s.nslot - 1);
        s.slot[at] = (uint32_t)i + 1;
    }
}

/* False: it was known. */
static bool add_world(const struct world *w, uint32_t from, uint32_t how)
{
    if ((s.n + 1) * 2 > s.nslot) grow_slots();
    uint64_t at = hash_of(w) & (s.nslot - 1);
    for (; s.slot[at]; at = (at + 1) & (s.nslot - 1))
        if (memcmp(&s.v[s.slot[at] - 1], w, sizeof *w) == 0) return false;
    if (s.n == s.cap) {
        s.cap = s.cap ? s.cap * 2 : 1 << 16;
        s.v = xrealloc(s.v, s.cap * sizeof *s.v);
        s.way = xrealloc(s.way, s.cap * sizeof *s.way);
    }
    s.v[s.n] = *w;
    s.way[s.n] = (struct way){from, how};
    s.slot[at] = (uint32_t)++s.n;
    return true;
}

#define HOW_SLOW (1u << 25)
#define HOW_LATE (1u << 24) /* with DELIVER: it will come again; with LOSE: it will come */
#define LOSE     12u
#define WIN      13u

static uint32_t how_of(enum ex_act act, unsigned node, uint32_t arg) { return (uint32_t)act << 28 | node << 26 | arg; }

/* ---- messages under way (in order) and late ones (ascending) ---- */

struct msgs {
    uint32_t v[MSGS_MAX];
    uint32_t n;
};

static void msgs_load(struct msgs *to, uint32_t number)
{
    size_t n = ex_pool_len(&s.lists, number) / 4;
    if (n) memcpy(to->v, ex_pool_get(&s.lists, number), n * 4);
    to->n = (uint32_t)n;
    if (n && to->v[n - 1] == EX_NONE) to->n--;
}

static uint32_t msgs_keep(struct msgs *of)
{
    bool added;
    uint32_t n = of->n;
    if (n % 2) of->v[n++] = EX_NONE; /* filled up to eight bytes */
    return ex_pool_put(&s.lists, of->v, n * 4, &added);
}

static void msgs_insert(struct msgs *to, uint32_t at, uint32_t msg)
{
    check(to->n + 2 < MSGS_MAX);
    memmove(to->v + at + 1, to->v + at, (to->n - at) * sizeof to->v[0]);
    to->v[at] = msg;
    to->n++;
}

/* False: it is late already. */
static bool late_add(struct msgs *late, uint32_t msg)
{
    uint32_t at = 0;
    while (at < late->n && late->v[at] < msg) at++;
    if (at < late->n && late->v[at] == msg) return false;
    msgs_insert(late, at, msg);
    return true;
}

/* ---- words ---- */

static const char *type_name(unsigned type)
{
    static const char *const names[] = {[RAFT_MSG_PREVOTE] = "PREVOTE",   [RAFT_MSG_PREVOTE_RESP] = "PREVOTE_RESP",
                                        [RAFT_MSG_VOTE] = "VOTE",         [RAFT_MSG_VOTE_RESP] = "VOTE_RESP",
                                        [RAFT_MSG_APPEND] = "APPEND",     [RAFT_MSG_APPEND_RESP] = "APPEND_RESP",
                                        [RAFT_MSG_SNAPSHOT] = "SNAPSHOT", [RAFT_MSG_TIMEOUT_NOW] = "TIMEOUT_NOW"};
    return type < sizeof names / sizeof *names && names[type] ? names[type] : "?";
}

static void say_msg(uint32_t number)
{
    const struct ex_msg *g = ex_msg(number);
    const struct raft_msg *m = &g->m;
    printf("takes %s of node %llu: term %llu%s, index %llu/%llu, last %llu, commit %llu", type_name(m->type),
           (unsigned long long)m->from, (unsigned long long)m->term, m->reject ? ", reject" : "",
           (unsigned long long)m->index, (unsigned long long)m->log_term, (unsigned long long)m->last,
           (unsigned long long)m->commit);
    for (uint32_t i = 0; i < m->n; i++) printf(" [%u of %u]", g->e[i].term, g->e[i].owner);
}

static void say_how(uint32_t how)
{
    uint32_t arg = how & (HOW_LATE - 1);
    printf("  node %u ", (how >> 26 & 3) + 1);
    switch (how >> 28) {
    case EX_DELIVER:
        say_msg(arg);
        break;
    case WIN:
        printf("has an election timeout and asks node %u for its vote, until it is answered", arg + 1);
        break;
    case LOSE:
        printf("does not get: ");
        say_msg(arg);
        break;
    case EX_TIMEOUT:
        printf("has an election timeout");
        break;
    case EX_BEAT:
        printf("sends heartbeats");
        break;
    case EX_STEP_DOWN:
        printf("has heard nobody for an election timeout");
        break;
    case EX_PROPOSE:
        printf("is given a command");
        break;
    case EX_PERSIST:
        printf("has its oldest write on disk");
        break;
    case EX_CRASH:
        printf("crashes with %u writes done, and starts again", arg);
        break;
    case EX_READ:
        printf("is asked for a read, %u entries are committed", arg);
        break;
    case EX_TRANSFER:
        printf("is to hand over to node %u", arg);
        break;
    case EX_MEMBERS:
        printf("is asked for a change of members: voters %u%u%u", arg & 1, arg >> 1 & 1, arg >> 2);
        break;
    case EX_ELECT:
        printf("has an election timeout and asks node %u for its pre-vote", arg + 1);
        break;
    }
    printf("%s%s\n", how & HOW_LATE ? "; it will be late" : "", how & HOW_SLOW ? "; its disk is slow" : "");
}

static void say_node(unsigned i, const struct ex_view *v)
{
    printf("      node %u: %s, term %u, voted %u (disk %u/%u), commit %u, log", i + 1,
           raft_role_name((enum raft_role)v->role), v->term, v->vote, v->hard_term, v->hard_vote, v->commit);
    for (unsigned k = 1; k <= v->last; k++)
        printf(" %u.%u%s", v->log[k].term, v->log[k].owner,
               v->log[k].kind == RAFT_NOOP     ? "n"
               : v->log[k].kind == RAFT_CONFIG ? "c"
                                               : "");
    printf(" (%u on disk, %u writes under way)\n", v->dlast, v->nwrites);
}

static void say_world(const struct world *w)
{
    for (unsigned i = 0; i < EX_NODES; i++) say_node(i, ex_node_view(w->node[i]));
}

static void say_way(uint32_t to)
{
    uint32_t path[4096], n = 0;
    for (uint32_t at = to; at && n < 4096; at = s.way[at].from) path[n++] = at;
    while (n-- > 0) {
        say_how(s.way[path[n]].how);
        if (n < 3) say_world(&s.v[path[n]]);
    }
}

static void violation(uint32_t from, uint32_t how, const struct world *w, const char *what)
{
    if (s.out.violation) return;
    s.out.violation = what;
    printf("the way to it:\n");
    say_way(from);
    say_how(how);
    if (w) say_world(w);
    printf("VIOLATION: %s\n", what);
}

/* ---- checks ---- */

static const char *check_matching(const struct ex_view *a, const struct ex_view *b)
{
    unsigned k = a->last < b->last ? a->last : b->last;
    while (k > 0 && a->log[k].term != b->log[k].term) k--;
    for (; k > 0; k--)
        if (!ex_same(a->log[k], b->log[k]))
            return "two logs with an entry of one index and term differ at it or before";
    return NULL;
}

static const char *check_leader(const struct ex_view *v, const struct past *p)
{
    for (unsigned k = 1; k <= p->ncommitted; k++)
        if (p->committed[k].by < v->term && (k > v->last || !ex_same(p->committed[k].e, v->log[k])))
            return "a leader lacks an entry that was committed in an earlier term";
    return NULL;
}

/* A majority of the voters of both configurations, where there are two, has the leader's log up to there on disk. */
static bool held(const struct world *w, unsigned upto, const struct ex_view *of)
{
    const struct raft_members *ms = ex_members(of->log, of->last);
    for (unsigned next = 0; next < 2; next++) {
        unsigned n = 0, voters = 0;
        for (unsigned i = 0; i < ms->n; i++) {
            const struct ex_view *v = ex_node_view(w->node[ms->m[i].id - 1]);
            if ((next && ms->joint ? ms->next[i] : ms->seat[i]) != RAFT_VOTING) continue;
            voters++;
            n += v->dlast >= upto && ex_same(v->disk[upto], of->log[upto]);
        }
        if (n <= voters / 2) return false;
    }
    return true;
}

/* A leader that is removed commits that and steps down in one. */
static const char *check_commit(const struct world *w, unsigned i, const struct ex_view *v, struct past *p)
{
    for (unsigned k = 1; k <= v->commit; k++) {
        if (k <= p->ncommitted) {
            if (!ex_same(p->committed[k].e, v->log[k]))
                return "another entry is committed where one was committed before";
            continue;
        }
        if (v->role != RAFT_LEADER && p->leader_of[v->term] != i + 1) return "a follower commits before any leader";
        if (!held(w, k, v)) return "committed, but no majority has it on disk";
        p->committed[k].e = v->log[k];
        p->committed[k].by = v->term;
        p->ncommitted = (uint8_t)k;
        s.out.commits++;
    }
    return NULL;
}

/* Node i has changed. */
static const char *check_world(const struct world *w, unsigned i, struct past *p)
{
    const struct ex_view *v = ex_node_view(w->node[i]);
    const char *bad = check_commit(w, i, v, p);
    if (v->role == RAFT_LEADER) {
        if (p->leader_of[v->term] && p->leader_of[v->term] != i + 1) return "two leaders in one term";
        if (!p->leader_of[v->term]) s.out.leaders++;
        p->leader_of[v->term] = (uint8_t)(i + 1);
    }
    for (unsigned k = 0; k < EX_NODES && !bad; k++) {
        const struct ex_view *o = ex_node_view(w->node[k]);
        if (k != i) bad = check_matching(v, o);
        if (!bad && o->role == RAFT_LEADER) bad = check_leader(o, p);
    }
    return bad;
}

static const char *check_vote(const struct raft_msg *m, struct past *p)
{
    if (m->type != RAFT_MSG_VOTE_RESP || m->reject) return NULL;
    uint8_t *to = &p->voted[m->term][m->from - 1];
    if (*to && *to != m->to) return "a node votes twice in one term";
    *to = (uint8_t)m->to;
    return NULL;
}

/* ---- moves ---- */

struct move {
    uint32_t from, how;
    struct world w;
    struct past past;
    struct msgs queue, late;
};

static bool prevote_msg(uint32_t msg)
{
    unsigned type = ex_msg(msg)->m.type;
    return type == RAFT_MSG_PREVOTE || type == RAFT_MSG_PREVOTE_RESP;
}

/* One node's step as a part of a move. False: it leads nowhere. */
static bool part(struct move *m, unsigned i, enum ex_act act, uint32_t arg, struct ex_result *res)
{
    *res = ex_node_step(m->w.node[i], act, arg);
    s.out.transitions++;
    const char *bad = res->error;
    if (!bad && res->node == EX_NONE) {
        s.out.pruned++;
        return false;
    }
    if (!bad) m->w.node[i] = res->node;
    for (uint32_t k = 0; k < res->n && !bad; k++) {
        uint32_t msg = ex_sent(res->msgs)[k];
        if (!s.bounds->prevote && prevote_msg(msg)) continue;
        bad = check_vote(&ex_msg(msg)->m, &m->past);
        msgs_insert(&m->queue, m->queue.n, msg);
    }
    if (bad) violation(m->from, m->how, &m->w, bad);
    return !bad;
}

static void end_move(struct move *m, unsigned i)
{
    bool added;
    const char *bad = check_world(&m->w, i, &m->past);
    if (bad) violation(m->from, m->how, &m->w, bad);
    m->w.queue = msgs_keep(&m->queue);
    m->w.late = msgs_keep(&m->late);
    m->w.past = ex_pool_put(&s.pasts, &m->past, sizeof m->past, &added);
    add_world(&m->w, m->from, m->how);
}

/* All that node i has under way to its disk is done. */
static bool persist_all(struct move *m, unsigned i)
{
    struct ex_result res;
    while (ex_node_view(m->w.node[i])->nwrites)
        if (!part(m, i, EX_PERSIST, 0, &res)) return false;
    return true;
}

/* The same step twice: with the disk quick, and with it slow if it may be. */
static void disk_quick_or_slow(struct move *m, unsigned i)
{
    if (m->past.slow < s.bounds->slow && ex_node_view(m->w.node[i])->nwrites) {
        static struct move slow;
        slow = *m;
        slow.how |= HOW_SLOW;
        slow.past.slow++;
        end_move(&slow, i);
    }
    if (persist_all(m, i)) end_move(m, i);
}

static void simple(const struct move *of, unsigned i, enum ex_act act, uint32_t arg)
{
    static struct move m;
    struct ex_result res;
    m = *of;
    m.how = how_of(act, i, arg);
    if (act == EX_CRASH) m.past.crashes++;
    if (act == EX_READ) m.past.reads++;
    if (act == EX_TRANSFER) m.past.transfers++;
    if (act == EX_MEMBERS) m.past.changes++;
    if (!part(&m, i, act, arg, &res)) return;
    if (act == EX_PERSIST)
        end_move(&m, i);
    else
        disk_quick_or_slow(&m, i);
}

static uint32_t sent_to(const struct ex_result *res, unsigned type, unsigned to)
{
    for (uint32_t k = 0; k < res->n; k++) {
        uint32_t msg = ex_sent(res->msgs)[k];
        if (ex_msg(msg)->m.type == type && ex_msg(msg)->m.to == to + 1u) return msg;
    }
    return EX_NONE;
}

/* Timeout, pre-vote of j, its answer: without the states between, in which nothing is promised. */
static void elect(const struct move *of, unsigned i, unsigned j)
{
    static struct move m;
    struct ex_result res;
    m = *of;
    m.how = how_of(EX_ELECT, i, j);
    if (!part(&m, i, EX_TIMEOUT, 0, &res)) return;
    uint32_t asked = sent_to(&res, RAFT_MSG_PREVOTE, j);
    if (asked == EX_NONE || !part(&m, j, EX_DELIVER, asked, &res)) return;
    uint32_t answer = sent_to(&res, RAFT_MSG_PREVOTE_RESP, i);
    if (answer == EX_NONE || !part(&m, i, EX_DELIVER, answer, &res)) return;
    if (ex_node_view(m.w.node[i])->role == RAFT_PRE_CANDIDATE) return; /* refused */
    disk_quick_or_slow(&m, i);
}

/* Takes the message of this type to node `to` out of the queue, and all others of the type: they are lost. */
static uint32_t only(struct msgs *q, unsigned type, unsigned to)
{
    uint32_t n = 0, found = EX_NONE;
    for (uint32_t k = 0; k < q->n; k++) {
        const struct raft_msg *m = &ex_msg(q->v[k])->m;
        if (m->type == type && m->to == to + 1u) found = q->v[k];
        if (m->type != type) q->v[n++] = q->v[k];
    }
    q->n = n;
    return found;
}

static bool deliver_and_persist(struct move *m, unsigned i, uint32_t msg)
{
    struct ex_result res;
    return msg != EX_NONE && part(m, i, EX_DELIVER, msg, &res) && persist_all(m, i);
}

/* From the timeout to the leader's first messages, with the vote of j alone. */
static void win(const struct move *of, unsigned i, unsigned j)
{
    static struct move m;
    struct ex_result res;
    m = *of;
    m.how = how_of(WIN, i, j);
    if (ex_node_view(m.w.node[i])->role == RAFT_LEADER && !part(&m, i, EX_STEP_DOWN, 0, &res)) return;
    if (!part(&m, i, EX_TIMEOUT, 0, &res)) return;
    uint32_t asked = sent_to(&res, RAFT_MSG_PREVOTE, j);
    if (asked == EX_NONE || !part(&m, j, EX_DELIVER, asked, &res)) return;
    if (!deliver_and_persist(&m, i, sent_to(&res, RAFT_MSG_PREVOTE_RESP, i))) return;
    unsigned role = ex_node_view(m.w.node[i])->role;
    if (role == RAFT_CANDIDATE && !deliver_and_persist(&m, j, only(&m.queue, RAFT_MSG_VOTE, j))) return;
    if (role == RAFT_CANDIDATE && !deliver_and_persist(&m, i, only(&m.queue, RAFT_MSG_VOTE_RESP, i))) return;
    if (role != RAFT_PRE_CANDIDATE) end_move(&m, i);
}

/* What may happen to node i while no message is under way. */
static void moves_of(const struct move *of, unsigned i)
{
    const struct ex_bounds *b = s.bounds;
    const struct ex_view *v = ex_node_view(of->w.node[i]);
    for (unsigned j = 0; j < EX_NODES && b->swift; j++)
        if (j != i) win(of, i, j);
    if (v->role == RAFT_LEADER) {
        simple(of, i, EX_BEAT, 0);
        if (!b->swift) simple(of, i, EX_STEP_DOWN, 0);
        simple(of, i, EX_PROPOSE, 0);
        if (of->past.reads < b->reads) simple(of, i, EX_READ, of->past.ncommitted);
        for (unsigned j = 0; j < EX_NODES && of->past.transfers < b->transfers; j++)
            if (j != i) simple(of, i, EX_TRANSFER, j + 1);
        for (unsigned voters = 1; voters < 1u << EX_NODES && of->past.changes < b->changes; voters++)
            simple(of, i, EX_MEMBERS, voters);
    } else if (b->prevote) {
        simple(of, i, EX_TIMEOUT, 0);
    } else if (!b->swift) {
        for (unsigned j = 0; j < EX_NODES; j++)
            if (j != i) elect(of, i, j);
    }
    if (v->nwrites) simple(of, i, EX_PERSIST, 0);
    for (unsigned k = 0; k <= v->nwrites && of->past.crashes < b->crashes; k++) simple(of, i, EX_CRASH, k);
}

/* The first message under way comes, or is lost; either way it may be late, too. */
static void next_message(const struct move *of)
{
    static struct move rest, late;
    uint32_t msg = of->queue.v[0];
    unsigned i = (unsigned)ex_msg(msg)->m.to - 1;
    struct ex_result res = ex_node_step(of->w.node[i], EX_DELIVER, msg);
    rest = *of;
    memmove(rest.queue.v, rest.queue.v + 1, --rest.queue.n * sizeof rest.queue.v[0]);
    simple(&rest, i, EX_DELIVER, msg);
    bool nothing = !res.error && res.node == of->w.node[i] && res.n == 0;
    if (!nothing) {
        late = rest;
        late.how = how_of(LOSE, i, msg);
        end_move(&late, i);
    }
    if (of->late.n >= s.bounds->late) return;
    late = rest;
    if (!late_add(&late.late, msg)) return;
    late.how = how_of(LOSE, i, msg) | HOW_LATE;
    end_move(&late, i);
    if (nothing) return;
    late = rest;
    late_add(&late.late, msg);
    simple(&late, i, EX_DELIVER, msg);
}

static void late_messages(const struct move *of)
{
    for (uint32_t k = 0; k < of->late.n; k++) {
        uint32_t msg = of->late.v[k];
        unsigned i = (unsigned)ex_msg(msg)->m.to - 1;
        struct ex_result res = ex_node_step(of->w.node[i], EX_DELIVER, msg);
        if (!res.error && res.node == of->w.node[i] && res.n == 0) continue;
        simple(of, i, EX_DELIVER, msg);
    }
}

static void expand(uint32_t at)
{
    static struct move of;
    of.from = at;
    of.w = s.v[at];
    of.past = *(const struct past *)ex_pool_get(&s.pasts, of.w.past);
    msgs_load(&of.queue, of.w.queue);
    msgs_load(&of.late, of.w.late);
    if (at == 0 && s.bounds->swift) {
        win(&of, 0, 1);
    } else if (at == 0) {
        elect(&of, 0, 1);
    } else if (of.queue.n) {
        next_message(&of);
    } else {
        for (unsigned i = 0; i < EX_NODES; i++) moves_of(&of, i);
        late_messages(&of);
    }
}

/* ---- the search ---- */

static void first_world(void)
{
    static struct msgs none;
    struct past past;
    struct world w;
    bool added;
    memset(&past, 0, sizeof past);
    for (unsigned i = 0; i < EX_NODES; i++) w.node[i] = ex_node_first(i + 1);
    w.queue = w.late = msgs_keep(&none);
    w.past = ex_pool_put(&s.pasts, &past, sizeof past, &added);
    add_world(&w, 0, 0);
}

static void run(void)
{
    uint64_t level_end = 1;
    first_world();
    for (uint64_t at = 0; at < s.n && s.n < s.max && !s.out.violation; at++) {
        if (at == level_end) {
            if (getenv("QFS_FIGURES")) fprintf(stderr, "depth %u: %llu states\n", s.out.depth, (unsigned long long)s.n);
            level_end = s.n;
            s.out.depth++;
        }
        expand((uint32_t)at);
    }
    s.out.complete = s.n < s.max && !s.out.violation;
}

struct ex_outcome ex_search(const struct ex_bounds *bounds, uint64_t max_states)
{
    memset(&s, 0, sizeof s);
    s.bounds = bounds;
    s.max = max_states;
    check(max_states < UINT32_MAX);
    ex_nodes_open(bounds);
    run();
    s.out.states = s.n;
    s.out.steps = ex_step_count();
    s.out.node_states = ex_node_count();
    s.out.messages = ex_msg_count();
    ex_pool_free(&s.lists);
    ex_pool_free(&s.pasts);
    free(s.v);
    free(s.way);
    free(s.slot);
    ex_nodes_close();
    return s.out;
}
