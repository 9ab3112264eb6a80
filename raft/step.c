/* step.c - the step: an event comes in, goes to the file whose concept it is, then everything that may have become
 * possible is looked at once, in a fixed order, and the effects leave in one update.
 *
 * Messages are validated here as far as all types share the rules; what makes no sense is counted and dropped. Mistakes
 * of the driver trip check(). */
#include "raft/core_priv.h"

#include <stdlib.h>

/* ---- life ------------------------------------------------------------------------------------------------ */

static void check_config(const struct raft_config *c)
{
    check(c->id && c->nvoters <= RAFT_PEERS_MAX && c->span);
    check(c->heartbeat_ns > 0 && c->election_ns >= 2 * c->heartbeat_ns && c->election_ns <= 1000 * NS_PER_S);
    check(c->append_bytes_max > 0 && c->window_bytes > 0);
    check(!c->members || c->members->n == 0 || !raft_members_nonsense(c->members));
    for (uint32_t i = 0; i < c->nvoters; i++) {
        check(c->voters[i]);
        for (uint32_t j = 0; j < i; j++) check(c->voters[i] != c->voters[j]);
    }
}

struct raft *raft_new(const struct raft_config *config, const struct raft_recovered *from)
{
    struct raft *r = xcalloc(1, sizeof *r);
    check_config(config);
    r->config = *config;
    r->hold_ns = config->election_ns / 2;
    prng_seed(&r->prng, config->seed);
    raft__terms_init(&r->terms, from);
    raft__members_init(r, from);
    r->hard = r->durable = r->told = from->hard;
    r->persisted = r->terms.last;
    r->commit = r->applied = from->snapshot_index;
    r->void_from = from->last > r->terms.last ? r->terms.last + 1 : 0;
    return r;
}

void raft_free(struct raft *r)
{
    if (!r) return;
    raft__terms_free(&r->terms);
    free(r);
}

/* Entries of a term may have become durable before the term did. A leader may have counted on us before the restart: we
 * keep still as if we had heard it just now, unless there never was one. */
static void start(struct raft *r)
{
    uint64_t term = raft__last_term(&r->terms);
    if (term > r->hard.term) {
        r->hard.term = term;
        r->hard.vote = 0;
    }
    r->heard = r->heard_lease = r->hard.term > 0;
    r->heard_at = r->now;
    r->round = r->now;
    if (r->void_from) {
        r->up->flags |= RAFT_UP_TRUNCATE;
        r->up->truncate_from = r->void_from;
    }
    raft__arm_election(r);
    if (raft__alone(r)) r->election_at = r->now;
    raft__standing_start(r);
}

/* ---- messages -------------------------------------------------------------------------------------------- */

struct raft_peer *raft__peer(struct raft *r, uint64_t id)
{
    for (uint32_t i = 0; i < r->npeers; i++)
        if (r->peers[i].id == id) return &r->peers[i];
    return NULL;
}

struct raft_msg *raft__emit(struct raft *r, enum raft_msg_type type, uint64_t to)
{
    check(r->up->nmsgs < RAFT_MSGS_MAX);
    struct raft_msg *m = &r->out[r->up->nmsgs++];
    *m = (struct raft_msg){
        .type = (uint8_t)type,
        .fenced = !raft__may_vote(r),
        .from = r->config.id,
        .to = to,
        .term = r->hard.term,
    };
    return m;
}

void raft__drop(struct raft *r, const struct raft_msg *m, const char *why)
{
    r->dropped++;
    trace_debug(r->config.trace, "raft %" PRIu64 ": dropped a message of type %u from %" PRIu64 ": %s", r->config.id,
                m->type, m->from, why);
}

/* What a stranger may send: it may be a member by a configuration that this node does not know (yet). */
static bool asks(uint8_t type)
{
    return type == RAFT_MSG_PREVOTE || type == RAFT_MSG_VOTE || type == RAFT_MSG_APPEND || type == RAFT_MSG_SNAPSHOT ||
           type == RAFT_MSG_TIMEOUT_NOW || type == RAFT_MSG_PROBE;
}

static const char *message_nonsense(struct raft *r, const struct raft_msg *m)
{
    const uint64_t max = RAFT__NUMBER_MAX;
    const struct raft_peer *p = raft__peer(r, m->from);
    if (m->from == 0 || (p && raft__is_self(r, p))) return "its sender is no member";
    if (!p && !asks(m->type)) return "its sender is no member";
    if (m->to != r->config.id) return "it is for someone else";
    if (m->type < 1 || m->type > RAFT_MSG_TYPE_MAX) return "unknown type";
    if (m->term > max || m->index > max || m->log_term > max || m->commit > max || m->last > max)
        return "absurd numbers";
    if (m->n && m->type != RAFT_MSG_APPEND) return "entries where none belong";
    return NULL;
}

static void on_message(struct raft *r, const struct raft_msg *m)
{
    static void (*const handlers[])(struct raft *, const struct raft_msg *) = {
        [RAFT_MSG_PREVOTE] = raft__on_prevote,   [RAFT_MSG_PREVOTE_RESP] = raft__on_prevote_resp,
        [RAFT_MSG_VOTE] = raft__on_vote,         [RAFT_MSG_VOTE_RESP] = raft__on_vote_resp,
        [RAFT_MSG_APPEND] = raft__on_append,     [RAFT_MSG_APPEND_RESP] = raft__on_append_resp,
        [RAFT_MSG_SNAPSHOT] = raft__on_snapshot, [RAFT_MSG_TIMEOUT_NOW] = raft__on_timeout_now,
        [RAFT_MSG_PROBE] = raft__on_probe,       [RAFT_MSG_PROBE_RESP] = raft__on_probe_resp,
    };
    const char *why = message_nonsense(r, m);
    if (why) {
        raft__drop(r, m, why);
        return;
    }
    struct raft_peer *p = raft__peer(r, m->from);
    if (p) {
        p->down = false;
        p->fenced = m->fenced;
    }
    handlers[m->type](r, m);
}

/* ---- other events ---------------------------------------------------------------------------------------- */

static void on_persisted(struct raft *r, uint64_t index, uint64_t term)
{
    if (index > r->persisted && raft__term_at(&r->terms, index) == term) r->persisted = index;
}

static void on_hard_persisted(struct raft *r, const struct raft_hard *hard)
{
    check(hard->term <= r->hard.term && hard->term >= r->durable.term && hard->standing >= r->durable.standing);
    bool voted = raft__may_vote(r);
    r->durable = *hard;
    if (!voted && raft__may_vote(r) && raft__alone(r)) r->election_at = r->now;
}

static void on_peer(struct raft *r, uint64_t id, bool down)
{
    struct raft_peer *p = raft__peer(r, id);
    if (!p) return;
    check(!raft__is_self(r, p));
    p->down = down;
    if (r->role == RAFT_LEADER)
        raft__leader_peer(r, p);
    else
        raft__election_peer(r, p);
    raft__standing_peer(r, p);
}

static void dispatch(struct raft *r, const struct raft_event *ev)
{
    switch (ev->kind) {
    case RAFT_EV_START: start(r); break;
    case RAFT_EV_TICK: break;
    case RAFT_EV_MSG: on_message(r, ev->msg); break;
    case RAFT_EV_PROPOSE: raft__on_propose(r, ev); break;
    case RAFT_EV_PERSISTED: on_persisted(r, ev->index, ev->term); break;
    case RAFT_EV_HARD_PERSISTED: on_hard_persisted(r, &ev->hard); break;
    case RAFT_EV_APPLIED:
        check(ev->index <= r->commit);
        r->applied = max_u64(r->applied, ev->index);
        break;
    case RAFT_EV_LOG_TRIMMED: raft__on_trimmed(r, ev->index); break;
    case RAFT_EV_SNAPSHOT_SENT: raft__on_snapshot_sent(r, ev); break;
    case RAFT_EV_SNAPSHOT_RECEIVED: raft__on_snapshot_received(r, ev); break;
    case RAFT_EV_SNAPSHOT_INSTALLED: raft__on_snapshot_installed(r, ev); break;
    case RAFT_EV_READ: raft__on_read(r, ev->read_id); break;
    case RAFT_EV_TRANSFER: raft__on_transfer(r, ev->peer); break;
    case RAFT_EV_MEMBERS: raft__on_members(r, ev); break;
    case RAFT_EV_PEER_DOWN: on_peer(r, ev->peer, true); break;
    case RAFT_EV_PEER_UP: on_peer(r, ev->peer, false); break;
    }
}

/* ---- the step -------------------------------------------------------------------------------------------- */

static void advance(struct raft *r)
{
    raft__election_tick(r);
    raft__standing_tick(r);
    raft__election_advance(r);
    if (r->role == RAFT_LEADER) raft__check_quorum(r);
    if (r->role == RAFT_LEADER) {
        raft__commit_advance(r);
        raft__members_advance(r);
    }
    raft__disk_watch(r);
    if (r->role == RAFT_LEADER) {
        raft__reads_advance(r);
        raft__transfer_advance(r);
        raft__pump(r);
    }
    raft__standing_advance(r);
    raft__flush_ack(r);
}

static uint64_t next_deadline(const struct raft *r)
{
    uint64_t at = r->role == RAFT_LEADER ? raft__leader_deadline(r) : raft__election_deadline(r);
    if (r->ack_at) at = min_u64(at, r->ack_at);
    if (r->role == RAFT_LEADER) at = min_u64(at, raft__disk_late_at(r));
    return min_u64(at, r->probe_at);
}

static bool same_hard(const struct raft_hard *a, const struct raft_hard *b)
{
    return a->term == b->term && a->vote == b->vote && a->standing == b->standing;
}

void raft_step(struct raft *r, const struct raft_event *event, struct raft_update *update)
{
    enum raft_role role = r->role;
    uint64_t term = r->hard.term, leader = r->leader, commit = r->commit;
    check(event->now >= r->now && r->started == (event->kind != RAFT_EV_START));
    *update = (struct raft_update){.msgs = r->out};
    r->started = true;
    r->now = event->now;
    r->up = update;
    r->stamped = false;
    r->stored_last = r->terms.last;
    r->metas = NULL;
    r->nmetas = 0;

    dispatch(r, event);
    advance(r);

    if (r->commit > commit) update->flags |= RAFT_UP_COMMIT;
    if (r->role != role || r->hard.term != term || r->leader != leader) update->flags |= RAFT_UP_ROLE;
    if (!same_hard(&r->hard, &r->told)) {
        update->flags |= RAFT_UP_HARD;
        r->told = r->hard;
    }
    update->hard = r->hard;
    update->commit = r->commit;
    update->role = r->role;
    update->term = r->hard.term;
    update->leader = r->leader;
    update->members = &r->members;
    update->deadline = next_deadline(r);
    r->up = NULL;
}
