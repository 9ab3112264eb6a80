/* node.c - the run loop of one member: feeds the core with what happens, carries out what it answers, applies what is
 * committed. See core.h for the ordering contract; the one place that keeps it is carry_out().
 *
 * The state machine is called only at the end of a turn (turn_fired) or as the last act of a step, so it may call back
 * into the node at any time. A fatal error (the disk failed, the state digest differs) is reported once; afterwards the
 * node does nothing any more and the process is expected to stop. */
#include "raft/node_priv.h"

#include <stdio.h>

static struct raft_event event(struct node *n, enum raft_event_kind kind)
{
    return (struct raft_event){.kind = kind, .now = clock_now(n->clock)};
}

void node__wake(struct node *n) { clock_arm(n->clock, &n->turn, 0); }

void node__fatal(struct node *n, int err, const char *text)
{
    if (n->dead) return;
    n->dead = true;
    trace_error(n->trace, "node %llu: %s (%s)", (unsigned long long)n->cfg.id, text, err_text(err));
    n->sm.fatal(n->sm.arg, err, text);
}

void node__core(struct node *n, const struct raft_event *ev, struct raft_update *up)
{
    raft_step(n->core, ev, up);
    if (n->cfg.watch) n->cfg.watch->stepped(n->cfg.watch->arg, n->core, ev);
}

void node__restored(struct node *n, uint64_t index)
{
    memset(n->digests, 0, sizeof n->digests);
    n->doubt.index = 0;
    if (n->cfg.watch) n->cfg.watch->restored(n->cfg.watch->arg, index, n->sm.digest(n->sm.arg));
}

/* ---- effects ---- */

void node__append(struct node *n, const struct log_entry *e)
{
    log_append(n->log, e);
    if (n->cfg.watch) n->cfg.watch->appended(n->cfg.watch->arg, e);
}

static void append_received(struct node *n, const struct raft_update *up)
{
    for (uint32_t i = 0; i < up->append_n; i++) {
        uint32_t at = up->append_skip + i;
        struct slice body = n->bodies[at];
        struct log_entry e = {.index = up->append_first + i, .term = n->metas[at].term, .kind = n->metas[at].kind};
        if (body.n) {
            e.data = blob_new(body.n);
            memcpy(e.data->p, body.p, body.n);
        }
        node__append(n, &e);
        blob_unref(e.data);
    }
}

static void fail_reads(struct node *n)
{
    struct list failed;
    list_init(&failed);
    struct list *l;
    while ((l = list_pop_front(&n->reads_asked))) list_push_back(&failed, l);
    while ((l = list_pop_front(&n->reads_new))) list_push_back(&failed, l);
    while ((l = list_pop_front(&failed))) {
        struct node_read *r = container_of(l, struct node_read, link);
        r->done(r, QE_NOT_LEADER, false);
    }
}

static void role_changed(struct node *n)
{
    if (n->role != RAFT_LEADER) {
        for (uint32_t i = 0; i < n->npeers; i++) node__snap_stop(n, &n->peers[i], false);
    }
    n->inflight_bytes = 0;
    n->inflight_first = log_last(n->log) + 1;
    n->sm.role(n->sm.arg, n->role, n->term, n->leader);
}

/* kind, proposal: of the entry that was proposed, if any. */
static void carry_out(struct node *n, const struct raft_update *up, enum raft_kind kind, struct blob *proposal)
{
    if (up->flags & RAFT_UP_TRUNCATE) log_truncate(n->log, up->truncate_from);
    if (up->flags & RAFT_UP_APPEND) append_received(n, up);
    if (up->flags & RAFT_UP_NOOP) {
        struct log_entry e = {.index = up->noop_index, .term = up->term, .kind = RAFT_NOOP};
        node__append(n, &e);
        n->noop_index = up->noop_index;
    }
    if (up->flags & RAFT_UP_PROPOSED) {
        struct log_entry e = {.index = up->proposed_first, .term = up->term, .kind = (uint8_t)kind, .data = proposal};
        node__append(n, &e);
    }
    if (up->flags & RAFT_UP_CONFIG) node__members_append(n, up);
    if (up->flags & RAFT_UP_HARD) log_set_hard(n->log, &up->hard);
    for (uint32_t i = 0; i < up->nmsgs; i++) node__send(n, &up->msgs[i]);
    if (up->flags & RAFT_UP_COMMIT) {
        check(up->commit >= n->commit);
        n->commit = up->commit;
        log_committed(n->log, n->commit);
        node__wake(n);
    }
    if (up->flags & RAFT_UP_READS) {
        n->reads_index = max_u64(n->reads_index, up->reads_index);
        list_for_each_safe(l, next, &n->reads_asked)
        {
            if (container_of(l, struct node_read, link)->id > up->reads_upto) break;
            list_remove(l);
            list_push_back(&n->reads_ready, l);
        }
        node__wake(n);
    }
    clock_arm(n->clock, &n->tick, up->deadline);

    /* From here on other code may call back and step again: what is needed is copied. */
    unsigned flags = up->flags;
    bool keep_suffix = up->keep_suffix;
    uint32_t nsnap = up->nsnapshot_to;
    uint64_t snap_to[RAFT_PEERS_MAX];
    memcpy(snap_to, up->snapshot_to, sizeof snap_to);
    if (flags & RAFT_UP_ROLE) {
        n->role = up->role;
        n->term = up->term;
        n->leader = up->leader;
    }
    if (flags & RAFT_UP_MEMBERS) node__peers_fit(n);
    if (flags & RAFT_UP_INSTALL) node__snap_install(n, keep_suffix);
    if (flags & RAFT_UP_IGNORE_SNAPSHOT) node__snap_ignore(n);
    for (uint32_t i = 0; i < nsnap; i++) {
        struct peer *p = node__peer(n, snap_to[i]);
        if (p) node__snap_start(n, p);
    }
    if (flags & RAFT_UP_ROLE && n->role == RAFT_LEADER) node__digest_doubt(n);
    if (flags & RAFT_UP_ROLE) role_changed(n);
    if (flags & RAFT_UP_READS_FAILED) fail_reads(n);
}

void node__carry_out(struct node *n, const struct raft_update *up) { carry_out(n, up, RAFT_COMMAND, NULL); }

void node__step(struct node *n, struct raft_event *ev)
{
    if (n->dead) return;
    struct raft_update up;
    node__core(n, ev, &up);
    carry_out(n, &up, RAFT_COMMAND, NULL);
}

/* ---- received messages ---- */

static int parse_config(struct node *n, struct raft_msg *m, uint32_t at)
{
    uint64_t cluster;
    if (m->nmembers == n->configs_cap) {
        n->configs_cap = n->configs_cap ? 2 * n->configs_cap : 4;
        n->configs = xrealloc(n->configs, n->configs_cap * sizeof *n->configs);
    }
    struct raft_members *ms = &n->configs[m->nmembers];
    if (raft_members_decode(n->bodies[at], &cluster, ms)) return QE_FRAME;
    ms->index = m->index + 1 + at;
    if (ms->n) m->nmembers++;
    m->members = n->configs;
    return 0;
}

static int parse_entries(struct node *n, struct raft_msg *m, struct slice rest)
{
    struct reader r = reader_of(rest);
    if (m->n > rest.n / 13) return QE_FRAME;
    if (m->n > n->metas_cap) {
        n->metas_cap = m->n + 64;
        n->metas = xrealloc(n->metas, n->metas_cap * sizeof *n->metas);
        n->bodies = xrealloc(n->bodies, n->metas_cap * sizeof *n->bodies);
    }
    for (uint32_t i = 0; i < m->n; i++) {
        n->metas[i].term = get_u64(&r);
        n->metas[i].kind = get_u8(&r);
        n->metas[i].len = get_u32(&r);
        n->bodies[i] = get_bytes(&r, n->metas[i].len);
        if (r.bad || n->metas[i].len > LOG_ENTRY_MAX || n->metas[i].kind < RAFT_NOOP || n->metas[i].kind > RAFT_CONFIG)
            return QE_FRAME;
        if (n->metas[i].kind == RAFT_CONFIG && parse_config(n, m, i)) return QE_FRAME;
    }
    m->entries = n->metas;
    return reader_done(&r) ? 0 : QE_FRAME;
}

void node__msg(struct node *n, struct raft_msg *m, struct slice rest)
{
    if (n->dead) return;
    if (m->type == RAFT_MSG_APPEND && parse_entries(n, m, rest)) {
        trace_warn(n->trace, "node %llu: an append from node %llu cannot be decoded: dropped",
                   (unsigned long long)n->cfg.id, (unsigned long long)m->from);
        return;
    }
    struct raft_event ev = event(n, RAFT_EV_MSG);
    ev.msg = m;
    node__step(n, &ev);
}

/* ---- applying ---- */

static void apply_fetched(struct log_fetch *f, int err)
{
    struct node *n = f->arg;
    n->fetching_apply = false;
    if (n->applied >= f->first) err = 0; /* a snapshot has taken the place of these entries meanwhile */
    if (err) {
        node__fatal(n, err,
                    "a committed entry cannot be read back from the log; empty this node's data directory so that "
                    "it is rebuilt from its peers");
        return;
    }
    node__wake(n);
}

static void apply_one(struct node *n, const struct log_entry *e)
{
    struct slice data = e->data ? blob_slice(e->data) : (struct slice){NULL, 0};
    if (e->kind == RAFT_COMMAND) {
        if (n->cfg.watch) n->cfg.watch->applying(n->cfg.watch->arg, e->index, e->term, data);
        n->sm.apply(n->sm.arg, e->index, e->term, data);
    } else if (e->kind == RAFT_CONFIG) {
        node__members_applied(n, e->index, data);
    }
    n->applied = e->index;
    n->applied_term = e->term;
    n->since_ckpt += data.n + 64;
    if (n->role == RAFT_LEADER && e->index >= n->inflight_first)
        n->inflight_bytes -= min_u64(n->inflight_bytes, data.n);
    if (e->index % NODE_DIGEST_EVERY == 0) node__digest_note(n);
}

/* Applies what is committed; false when it has to wait for the disk or for the loop's next turn. */
static void apply_committed(struct node *n)
{
    uint64_t before = n->applied, bytes = 0;
    while (n->applied < n->commit && !n->fetching_apply && !n->in.installing && !n->dead) {
        struct log_entry e;
        if (bytes > NODE_APPLY_BYTES) {
            node__wake(n);
            break;
        }
        if (!log_cached(n->log, n->applied + 1, &e)) {
            uint64_t got, last = n->applied + log_span(n->log, n->applied + 1, n->commit, 4 * MIB, &got);
            n->apply_fetch = (struct log_fetch){.first = n->applied + 1, .last = last, .done = apply_fetched, .arg = n};
            n->fetching_apply = true;
            log_fetch(n->log, &n->apply_fetch);
            break;
        }
        struct blob *keep = e.data ? blob_ref(e.data) : NULL;
        apply_one(n, &e);
        bytes += keep ? keep->n : 0;
        blob_unref(keep);
    }
    if (n->applied == before) return;
    log_applied(n->log, n->applied);
    struct raft_event ev = event(n, RAFT_EV_APPLIED);
    ev.index = n->applied;
    node__step(n, &ev);
    if (n->dead) return;
    if (n->cfg.watch) n->cfg.watch->applied(n->cfg.watch->arg, n->applied, n->sm.digest(n->sm.arg));
    n->sm.applied(n->sm.arg, n->applied);
}

/* ---- reads ---- */

static void reads_ask(struct node *n)
{
    if (list_empty(&n->reads_new)) return;
    if (n->role != RAFT_LEADER) {
        fail_reads(n);
        return;
    }
    uint64_t id = ++n->read_id;
    struct list *l;
    while ((l = list_pop_front(&n->reads_new))) {
        container_of(l, struct node_read, link)->id = id;
        list_push_back(&n->reads_asked, l);
    }
    struct raft_event ev = event(n, RAFT_EV_READ);
    ev.read_id = id;
    node__step(n, &ev);
}

/* Under a valid lease a read may run as soon as all that is committed is applied. */
static bool reads_by_lease(struct node *n)
{
    return n->role == RAFT_LEADER && n->applied >= n->commit && raft_lease_valid(n->core, clock_now(n->clock));
}

static void reads_run(struct node *n)
{
    struct list run;
    list_init(&run);
    struct list *l;
    bool lease = !list_empty(&n->reads_new) && reads_by_lease(n);
    if (lease) {
        while ((l = list_pop_front(&n->reads_new))) list_push_back(&run, l);
        while ((l = list_pop_front(&run))) {
            struct node_read *r = container_of(l, struct node_read, link);
            r->done(r, 0, true);
        }
    }
    reads_ask(n);
    if (n->applied < n->reads_index) return;
    while ((l = list_pop_front(&n->reads_ready))) list_push_back(&run, l);
    while ((l = list_pop_front(&run))) {
        struct node_read *r = container_of(l, struct node_read, link);
        r->done(r, 0, false);
    }
}

static void turn_fired(struct timer *t)
{
    struct node *n = t->arg;
    if (n->dead) return;
    apply_committed(n);
    if (!n->dead) node__name_cluster(n);
    if (n->dead) return;
    reads_run(n);
    if (!n->dead) node__ckpt_maybe(n);
    if (!n->dead) node__snap_in_wanted(n);
}

static void tick_fired(struct timer *t)
{
    struct node *n = t->arg;
    struct raft_event ev = event(n, RAFT_EV_TICK);
    node__step(n, &ev);
}

/* One timer for all: it fires for the earliest. */
void node__slow_at(struct node *n, uint64_t at)
{
    if (n->slow_at && n->slow_at <= at) return;
    n->slow_at = at;
    clock_arm(n->clock, &n->slow, at);
}

static void slow_fired(struct timer *t)
{
    struct node *n = t->arg;
    n->slow_at = 0;
    if (n->dead) return;
    uint64_t now = clock_now(n->clock);
    node__snap_timeouts(n, now);
    node__fetch_timeouts(n, now);
}

/* ---- the log's reports ---- */

static void log_persisted(void *arg, uint64_t index, uint64_t term)
{
    struct node *n = arg;
    struct raft_event ev = event(n, RAFT_EV_PERSISTED);
    ev.index = index;
    ev.term = term;
    node__step(n, &ev);
}

static void log_hard_persisted(void *arg, const struct raft_hard *hard)
{
    struct node *n = arg;
    struct raft_event ev = event(n, RAFT_EV_HARD_PERSISTED);
    ev.hard = *hard;
    node__step(n, &ev);
    if (n->in_wanted) node__wake(n);
}

static void log_failed(void *arg, int err, const char *what) { node__fatal(arg, err, what); }

static void log_trimmed(void *arg, uint64_t first)
{
    struct node *n = arg;
    struct raft_event ev = event(n, RAFT_EV_LOG_TRIMMED);
    ev.index = first;
    if (n->core) node__step(n, &ev);
}

static void log_live_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx)
{
    struct node *n = arg;
    n->sm.live_ranges(n->sm.arg, index, emit, ctx);
}

/* ---- creation ---- */

static void set_defaults(struct node_config *c)
{
    if (!c->heartbeat_ms) c->heartbeat_ms = 100;
    if (!c->election_ms) c->election_ms = 300;
    if (!c->checkpoint_bytes) c->checkpoint_bytes = 64 * MIB;
    if (!c->log.segment_bytes) c->log.segment_bytes = 16 * MIB;
    if (!c->log.spare_segments) c->log.spare_segments = 2;
    if (!c->log.cache_bytes) c->log.cache_bytes = 32 * MIB;
    if (!c->log.trail_bytes) c->log.trail_bytes = 32 * MIB;
    if (!c->log.compact_live_percent) c->log.compact_live_percent = 50;
    if (!c->log.compact_slack_bytes) c->log.compact_slack_bytes = c->checkpoint_bytes;
    /* What a checkpoint and compaction set free at once is soon needed again. */
    uint64_t freed = (c->checkpoint_bytes + c->log.compact_slack_bytes) / c->log.segment_bytes;
    if (!c->log.spare_keep) c->log.spare_keep = c->log.spare_segments + (uint32_t)min_u64(freed, 16);
    c->log.node_id = c->id;
}

static int restore_block(void *arg, struct slice block)
{
    struct node *n = arg;
    bool first = n->ckpt_size == 0;
    n->ckpt_size += block.n;
    if (first) {
        struct raft_members ms;
        int ours = node__members_from_block(block, &ms);
        if (ours < 0) return ours;
        if (ours && ms.n) n->members_applied = ms;
        if (ours) return 0;
    }
    return n->sm.restore_block(n->sm.arg, block);
}

static int restore_checkpoint(struct node *n, struct buf *why)
{
    uint64_t index, term;
    uint32_t blocks;
    if (!log_ckpt_newest(n->log, &index, &term, &blocks)) return 0;
    n->sm.restore_begin(n->sm.arg);
    int err = log_ckpt_load(n->log, restore_block, n);
    if (!err) err = n->sm.restore_end(n->sm.arg, index);
    if (err) {
        n->sm.restore_cancel(n->sm.arg);
        static const char text[] =
            "the checkpoint cannot be loaded; empty this node's data directory so that it is rebuilt "
            "from its peers";
        buf_append(why, text, sizeof text - 1);
        return err;
    }
    node__restored(n, index);
    n->applied = n->commit = n->ckpt_index = index;
    n->applied_term = term;
    log_applied(n->log, index);
    return 0;
}

static struct raft *make_core(struct node *n, struct raft_recovered *from)
{
    struct raft_members told[3], first = node__first_members(n);
    from->nmembers = node__members_recovered(n, from->snapshot_index, told);
    from->members = told;
    struct raft_config rc = {
        .id = n->cfg.id,
        .members = &first,
        .election_ns = n->cfg.election_ms * NS_PER_MS,
        .heartbeat_ns = n->cfg.heartbeat_ms * NS_PER_MS,
        .drift_ppm = 1000,
        .lease_reads = n->cfg.lease_reads,
        .append_bytes_max = 1 * MIB,
        .window_bytes = 8 * MIB,
        .seed = prng_u64(&n->rng),
        .span = log_span,
        .span_arg = n->log,
        .trace = n->trace,
    };
    return raft_new(&rc, from);
}

static void init_reads_and_timers(struct node *n)
{
    list_init(&n->reads_new);
    list_init(&n->reads_asked);
    list_init(&n->reads_ready);
    list_init(&n->fetches);
    n->tick = (struct timer){.fire = tick_fired, .arg = n};
    n->turn = (struct timer){.fire = turn_fired, .arg = n};
    n->slow = (struct timer){.fire = slow_fired, .arg = n};
}

int node_new(struct disk *disk, struct net *net, struct clock *clock, const struct node_config *config,
             const struct node_sm *sm, struct node **out, struct buf *why)
{
    struct node *n = xcalloc(1, sizeof *n);
    n->disk = disk;
    n->net = net;
    n->clock = clock;
    n->cfg = *config;
    n->sm = *sm;
    n->trace = config->trace;
    set_defaults(&n->cfg);
    n->members_applied = node__first_members(n);
    prng_seed(&n->rng, config->seed);
    init_reads_and_timers(n);
    n->cfg.log.cb = (struct log_callbacks){.arg = n,
                                           .persisted = log_persisted,
                                           .hard_persisted = log_hard_persisted,
                                           .failed = log_failed,
                                           .trimmed = log_trimmed,
                                           .live_ranges = log_live_ranges};
    n->cfg.log.trace = n->trace;
    *out = n; /* restore_end() reports live payload through the caller's pointer */
    struct log_recovered rec;
    int err = log_open(disk, clock, &n->cfg.log, &n->log, &rec, why);
    if (!err) err = restore_checkpoint(n, why);
    if (err) {
        if (n->log) log_close(n->log);
        free(n);
        *out = NULL;
        return err;
    }
    n->cluster_id = rec.cluster_id;
    n->damaged = rec.damaged;
    n->core = make_core(n, &rec.raft);
    bool stray = raft_members_now(n->core)->n == 0;
    if (stray && !n->cfg.join && n->cfg.nmembers == 0) {
        static const char text[] = "this data directory knows no members yet: tell them by --cluster, or by --join "
                                   "those of the cluster that this node is to be added to";
        buf_append(why, text, sizeof text - 1);
        node_free(n);
        *out = NULL;
        return -EINVAL;
    }
    node__peers_fit(n);
    if (stray)
        trace_info(n->trace, "node %llu: is no member yet; waits to be added: quorumfs member add %llu=%s -C ...",
                   (unsigned long long)n->cfg.id, (unsigned long long)n->cfg.id, node__own_addr(n));
    struct raft_event ev = event(n, RAFT_EV_START);
    node__step(n, &ev);
    return 0;
}

void node_free(struct node *n)
{
    if (!n) return;
    n->dead = true;
    clock_disarm(n->clock, &n->tick);
    clock_disarm(n->clock, &n->turn);
    clock_disarm(n->clock, &n->slow);
    node__ckpt_abort(n);
    node__snap_in_abort(n);
    node__fetch_stop(n);
    node__peers_stop(n);
    log_close(n->log); /* a start that failed behind us (the address is in use): nothing is under way yet */
    raft_free(n->core);
    buf_free(&n->out);
    buf_free(&n->ckpt_block);
    buf_free(&n->ckpt_first);
    free(n->configs);
    free(n->metas);
    free(n->bodies);
    free(n->iov);
    free(n);
}

/* ---- what the layer above asks for ---- */

int64_t node_propose(struct node *n, struct blob *data)
{
    int64_t result = QE_NOT_LEADER;
    if (n->dead || n->role != RAFT_LEADER) goto out;
    result = -EMSGSIZE;
    if (data->n > LOG_ENTRY_MAX) goto out;
    result = QE_BUSY;
    if (n->inflight_bytes > NODE_INFLIGHT_BYTES || log_last(n->log) - n->applied > NODE_INFLIGHT_ENTRIES) goto out;
    struct raft_entry_meta meta = {.kind = RAFT_COMMAND, .len = data->n};
    struct raft_event ev = event(n, RAFT_EV_PROPOSE);
    ev.metas = &meta;
    ev.n = 1;
    struct raft_update up;
    node__core(n, &ev, &up);
    result = QE_NOT_LEADER;
    if (up.flags & RAFT_UP_PROPOSED) {
        result = (int64_t)up.proposed_first;
        n->inflight_bytes += data->n;
    }
    carry_out(n, &up, RAFT_COMMAND, data);
out:
    blob_unref(data);
    return result;
}

void node_read(struct node *n, struct node_read *r)
{
    list_push_back(&n->reads_new, &r->link);
    node__wake(n);
}

bool node_read_valid(struct node *n)
{
    return !n->dead && n->role == RAFT_LEADER && raft_lease_valid(n->core, clock_now(n->clock));
}

void node_live_add(struct node *n, uint64_t index, int64_t delta) { log_live_add(n->log, index, delta); }

bool node_disk_full(const struct node *n) { return log_disk_full(n->log); }

void node_transfer(struct node *n, uint64_t to)
{
    struct raft_event ev = event(n, RAFT_EV_TRANSFER);
    ev.peer = to;
    node__step(n, &ev);
}

void node_status(struct node *n, struct node_status *out)
{
    *out = (struct node_status){.cluster_id = n->cluster_id,
                                .digest_index = n->applied,
                                .digest = n->sm.digest(n->sm.arg),
                                .checkpoint_index = n->ckpt_index,
                                .snapshots_sent = n->snapshots_sent,
                                .snapshots_installed = n->snapshots_installed,
                                .repairs = n->repairs,
                                .damaged = n->damaged};
    raft_status(n->core, &out->raft);
    log_stats(n->log, &out->log);
    if (disk_space(n->disk, &out->disk_total, &out->disk_avail)) out->disk_total = out->disk_avail = 0;
    node__snap_status(n, out);
    for (uint32_t i = 0; i < n->npeers; i++) out->peers_connected += n->peers[i].up && n->peers[i].is_member;
}

bool node_member(const struct node *n, uint64_t id, struct raft_member *out)
{
    for (uint32_t i = 0; i < n->npeers; i++) {
        if (!n->peers[i].used || n->peers[i].member.id != id) continue;
        *out = n->peers[i].member;
        return out->addr[0];
    }
    if (id != n->cfg.id) return false;
    const char *addr = node__own_addr(n);
    out->id = id;
    memcpy(out->addr, addr, strlen(addr) + 1);
    return addr[0];
}

const char *raft_standing_name(enum raft_standing s)
{
    static const char *const names[] = {"unformed", "fenced", "voter"};
    return (unsigned)s < 3 ? names[s] : "?";
}
