/* node_snap.c - checkpoints of our own, and snapshots to and from other members.
 *
 * A checkpoint is written in the background from an O(1) image of the state, a few blocks a turn. A follower that lags
 * behind the log gets the newest checkpoint block by block (SNAPSHOT: the raft message header, u64 cluster id, u32
 * block number, u32 number of blocks, bytes; SNAPSHOT_ACK: u64 index, u32 next block wanted, u8 installed), SNAP_WINDOW
 * blocks ahead of the acknowledgement; who has nothing of a snapshot (any more) asks for its block 0. The receiver
 * feeds each block to the state machine's restore and to a checkpoint file of its own, then pulls the payload it lacks
 * from the leader (node_fetch.c) and only then asks the core to switch. The switch on disk is one rename. Payload that
 * the leader no longer has is dead in its newer state, so a later entry of the log, which this follower applies before
 * it can ever serve a read, drops the reference: it is counted and passed over. What is alive and no member has any more
 * is lost, and passed over, too; while a member may have it and does not answer, the install waits for that one. */
#include "raft/node_priv.h"

#include <stdio.h>

#define BLOCKS_A_TURN 4
#define CKPT_PAUSE_NS (2 * NS_PER_MS)
#define CKPT_FULL_NS (30 * NS_PER_S)
#define CKPT_RETRY_NS (10 * NS_PER_S) /* after one that could not be written */
#define IN_PAUSE_NS   (5 * NS_PER_S)  /* after a snapshot that could not be stored */

/* ---- our own checkpoint ---- */

static void ckpt_end(struct node *n)
{
    n->sm.snap_end(n->ckpt_snap);
    n->ckpt_snap = NULL;
    n->ckpt = NULL;
    n->ckpt_pending = false;
    clock_disarm(n->clock, &n->ckpt_timer);
}

void node__ckpt_abort(struct node *n)
{
    if (!n->ckpt) return;
    if (n->ckpt_snap) {
        log_ckpt_abort(n->ckpt);
        ckpt_end(n);
        n->since_ckpt += n->ckpt_behind;
    }
}

static void snap_start_waiting(struct node *n)
{
    for (uint32_t i = 0; i < n->npeers; i++)
        if (n->peers[i].snap.active && n->peers[i].snap.index == 0) node__snap_start(n, &n->peers[i]);
}

static void ckpt_done(void *arg, int err)
{
    struct node *n = arg;
    n->ckpt = NULL;
    if (n->dead) return;
    if (err) {
        trace_warn(n->trace, "node %llu: checkpoint not written: %s; it is tried again later",
                   (unsigned long long)n->cfg.id, err_text(err));
        n->since_ckpt += n->ckpt_behind;
        n->ckpt_retry_at = clock_now(n->clock) + CKPT_RETRY_NS;
        return;
    }
    uint64_t index, term;
    uint32_t blocks;
    if (log_ckpt_newest(n->log, &index, &term, &blocks)) n->ckpt_index = index;
    trace_info(n->trace, "node %llu: checkpoint at %llu, %llu bytes", (unsigned long long)n->cfg.id,
               (unsigned long long)n->ckpt_index, (unsigned long long)n->ckpt_size);
    snap_start_waiting(n);
    node__wake(n); /* what was logged meanwhile may be enough for the next one */
}

static void ckpt_room(void *arg)
{
    struct node *n = arg;
    if (n->ckpt_snap) clock_arm(n->clock, &n->ckpt_timer, 0);
}

static void ckpt_fired(struct timer *t)
{
    struct node *n = t->arg;
    if (n->dead || !n->ckpt_snap) return;
    for (int i = 0; i < BLOCKS_A_TURN; i++) {
        if (!n->ckpt_pending) {
            buf_clear(&n->ckpt_block);
            bool head = n->ckpt_head;
            n->ckpt_head = false;
            if (head) {
                buf_append(&n->ckpt_block, n->ckpt_first.p, n->ckpt_first.n);
            } else if (!n->sm.snap_next(n->ckpt_snap, &n->ckpt_block)) {
                struct log_ckpt *ck = n->ckpt;
                ckpt_end(n);
                n->ckpt = ck; /* being committed: no second one meanwhile */
                log_ckpt_commit(ck, true, ckpt_done, n);
                return;
            }
            n->ckpt_size += n->ckpt_block.n;
        }
        n->ckpt_pending = log_ckpt_write(n->ckpt, buf_slice(&n->ckpt_block)) == -EAGAIN;
        if (n->ckpt_pending) return; /* ckpt_room goes on */
    }
    clock_arm(n->clock, &n->ckpt_timer, clock_now(n->clock) + CKPT_PAUSE_NS);
}

void node__ckpt_maybe(struct node *n)
{
    /* Entries were quicker than the snapshot that was coming in, and its sender may never finish it. */
    if (n->in.active && n->in.index <= n->applied) node__snap_in_abort(n);
    if (n->ckpt || n->in.active || n->applied == n->ckpt_index) return;
    uint64_t now = clock_now(n->clock);
    /* On a full disk little is logged, but a checkpoint is what lets the log's dead payload go. */
    bool full = log_disk_full(n->log) && now >= n->ckpt_begun_at + CKPT_FULL_NS;
    uint64_t due = n->cfg.checkpoint_eager ? n->cfg.checkpoint_bytes : max_u64(n->cfg.checkpoint_bytes, n->ckpt_size);
    if (!n->ckpt_wanted && !full && n->since_ckpt < due) return;
    if (n->ckpt_retry_at && now < n->ckpt_retry_at) return;
    n->ckpt = log_ckpt_begin(n->log, n->applied, n->applied_term, false);
    if (!n->ckpt) return;
    n->ckpt_wanted = false;
    n->ckpt_retry_at = 0;
    n->ckpt_begun_at = now;
    n->ckpt_behind = n->since_ckpt;
    n->since_ckpt = 0;
    n->ckpt_size = 0;
    n->ckpt_snap = n->sm.snap_begin(n->sm.arg);
    buf_clear(&n->ckpt_first);
    n->ckpt_head = n->members_applied.n > 0;
    if (n->ckpt_head) node__members_block(n, &n->ckpt_first);
    n->ckpt_timer = (struct timer){.fire = ckpt_fired, .arg = n};
    log_ckpt_on_room(n->ckpt, ckpt_room, n);
    clock_arm(n->clock, &n->ckpt_timer, 0);
}

/* ---- sending one to a follower ---- */

struct block_read {
    struct log_ckpt_read read;
    struct node *node;
    uint64_t peer;
};

static void snap_pump(struct node *n, struct peer *p);

static void block_got(struct log_ckpt_read *r, int err, struct slice block)
{
    struct block_read *br = r->arg;
    struct node *n = br->node;
    struct peer *p = node__peer(n, br->peer);
    if (!p) { /* removed meanwhile */
        free(br);
        return;
    }
    struct snap_out *s = &p->snap;
    bool wanted = !n->dead && s->active && s->index == r->index;
    s->reading = false;
    if (wanted && err) {
        trace_warn(n->trace, "node %llu: block %u of checkpoint %llu cannot be read: %s", (unsigned long long)n->cfg.id,
                   r->block, (unsigned long long)r->index, err_text(err));
        n->ckpt_wanted = true; /* a fresh one replaces it; it needs a later index, also where nobody writes */
        node__snap_stop(n, p, true);
        if (n->applied == n->ckpt_index) node__members_again(n);
        else node__wake(n);
    } else if (wanted && p->up) {
        struct raft_msg m = {.type = RAFT_MSG_SNAPSHOT,
                             .from = n->cfg.id,
                             .to = p->member.id,
                             .term = n->term,
                             .index = s->index,
                             .log_term = s->term};
        struct buf head = {0};
        raft_msg_encode(&m, &head);
        put_u64(&head, n->cluster_id);
        put_u32(&head, r->block);
        put_u32(&head, s->blocks);
        struct slice v[2] = {buf_slice(&head), block};
        conn_send(p->out, RAFT_FRAME_SNAPSHOT, v, 2);
        buf_free(&head);
    }
    free(br);
    if (!n->dead) snap_pump(n, p);
}

/* All that may be under way, or all there is, has been sent or is being read. */
static bool all_out(const struct snap_out *s) { return s->next >= s->blocks || s->next >= s->acked + SNAP_WINDOW; }

/* The follower takes blocks in order only, and two reads may end in any order. */
static void snap_pump(struct node *n, struct peer *p)
{
    struct snap_out *s = &p->snap;
    if (!s->active || !s->index || s->reading || all_out(s)) return;
    struct block_read *br = xcalloc(1, sizeof *br);
    br->node = n;
    br->peer = p->member.id;
    br->read = (struct log_ckpt_read){.index = s->index, .block = s->next++, .done = block_got, .arg = br};
    s->reading = true;
    log_ckpt_read(n->log, &br->read);
}

/* Starts sending the newest checkpoint, in place of what is being sent. */
void node__snap_start(struct node *n, struct peer *p)
{
    struct snap_out *s = &p->snap;
    uint64_t index, term;
    uint32_t blocks;
    node__snap_stop(n, p, false); /* the core has moved on since it asked for an older one */
    s->active = true;
    s->progress_at = clock_now(n->clock);
    if (!log_ckpt_newest(n->log, &index, &term, &blocks)) {
        n->ckpt_wanted = true; /* snap_start_waiting goes on */
        node__wake(n);
        return;
    }
    s->index = index;
    s->term = term;
    s->blocks = blocks;
    s->acked = s->next = 0;
    log_ckpt_hold(n->log, index, true);
    trace_info(n->trace, "node %llu: sending snapshot %llu (%u blocks) to member %llu", (unsigned long long)n->cfg.id,
               (unsigned long long)index, blocks, (unsigned long long)p->member.id);
    node__slow_at(n, s->progress_at + SNAP_RETRY_NS);
    snap_pump(n, p);
}

/* Ends a transfer; failed: the core is told, so that it begins anew when there is reason to. */
void node__snap_stop(struct node *n, struct peer *p, bool failed)
{
    struct snap_out *s = &p->snap;
    if (!s->active) return;
    uint64_t index = s->index;
    if (index) log_ckpt_hold(n->log, index, false);
    s->active = false;
    s->index = 0;
    if (!failed || n->dead) return;
    struct raft_event ev = {
        .kind = RAFT_EV_SNAPSHOT_SENT, .now = clock_now(n->clock), .peer = p->member.id, .index = index};
    node__step(n, &ev);
}

void node__snap_acked(struct node *n, struct peer *p, struct slice payload)
{
    struct reader r = reader_of(payload);
    uint64_t index = get_u64(&r);
    uint32_t next = get_u32(&r);
    bool installed = get_u8(&r) != 0;
    struct snap_out *s = &p->snap;
    if (!reader_done(&r) || !s->active || index != s->index || next > s->blocks) return;
    s->progress_at = clock_now(n->clock);
    if (installed) {
        log_ckpt_hold(n->log, index, false);
        s->active = false;
        s->index = 0;
        n->snapshots_sent++;
        struct raft_event ev = {
            .kind = RAFT_EV_SNAPSHOT_SENT, .now = s->progress_at, .peer = p->member.id, .index = index, .ok = true};
        node__step(n, &ev);
        return;
    }
    bool waits = all_out(s) && !s->reading;
    if (next == 0 && s->acked > 0) s->acked = s->next = 0; /* it gave up half-way: from the beginning */
    if (next == s->acked && waits) s->next = next; /* it could not take what was sent since */
    if (next > s->acked) s->acked = next;
    if (s->next < s->acked) s->next = s->acked;
    snap_pump(n, p);
}

/* ---- receiving ---- */

static void ack_to(struct node *n, uint64_t from, uint64_t index, uint32_t next, bool installed)
{
    struct peer *p = node__peer(n, from);
    if (!p || !p->in) return;
    uint8_t payload[13];
    store_u64(payload, index);
    store_u32(payload + 8, next);
    payload[12] = installed;
    struct slice v = slice_of(payload, sizeof payload);
    conn_send(p->in, RAFT_FRAME_SNAPSHOT_ACK, &v, 1);
}

static void in_reset(struct snap_in *in)
{
    struct ranges *all[] = {&in->ranges, &in->halves, &in->later, &in->lost};
    for (int i = 0; i < 4; i++) free(all[i]->v);
    *in = (struct snap_in){.pulls = in->pulls, .pull_bytes = in->pull_bytes}; /* fetches under way find the snapshot gone */
}

void node__snap_in_abort(struct node *n)
{
    if (!n->in.active || n->in.installing) return;
    if (n->in.ckpt) log_ckpt_abort(n->in.ckpt);
    n->sm.restore_cancel(n->sm.arg);
    in_reset(&n->in);
}

/* It cannot be stored (disk full) or is damaged: the leader's repetitions are not to begin it anew at once. */
static void in_failed(struct node *n)
{
    node__snap_in_abort(n);
    n->in_pause_until = clock_now(n->clock) + IN_PAUSE_NS;
}

static void in_room(void *arg)
{
    struct node *n = arg;
    if (!n->in.active || !n->in.blocked) return;
    n->in.blocked = false;
    ack_to(n, n->in.from, n->in.index, n->in.next, false);
}

/* Not while one is being committed, pulls of an older one end, or a new directory is not yet ours on disk. */
static bool in_can_begin(const struct node *n) { return !n->ckpt && !n->in.pulls && log_ckpt_ready(n->log); }

/* One that came too early is asked for again as soon as it can begin. */
void node__snap_in_wanted(struct node *n)
{
    if (!n->in_wanted || !in_can_begin(n)) return;
    ack_to(n, n->in_wanted_from, n->in_wanted, 0, false);
    n->in_wanted = 0;
}

static void in_begin(struct node *n, const struct raft_msg *m, uint64_t cluster, uint32_t blocks)
{
    node__snap_in_abort(n);
    node__ckpt_abort(n);
    n->in_wanted = in_can_begin(n) ? 0 : m->index;
    n->in_wanted_from = m->from;
    if (n->in_wanted) return;
    struct log_ckpt *ck = log_ckpt_begin(n->log, m->index, m->log_term, true);
    if (!ck) return;
    n->in = (struct snap_in){.active = true,
                             .from = m->from,
                             .index = m->index,
                             .term = m->log_term,
                             .cluster = cluster,
                             .blocks = blocks,
                             .ckpt = ck};
    log_ckpt_on_room(ck, in_room, n);
    n->sm.restore_begin(n->sm.arg);
    trace_info(n->trace, "node %llu: receiving snapshot %llu (%u blocks) from member %llu",
               (unsigned long long)n->cfg.id, (unsigned long long)m->index, blocks, (unsigned long long)m->from);
}

/* ---- the payload that it refers to ---- */

static void ranges_grow(struct ranges *rs)
{
    rs->cap = rs->cap ? rs->cap * 2 : 256;
    rs->v = xrealloc(rs->v, rs->cap * sizeof *rs->v);
}

static void range_push(struct ranges *rs, uint64_t index, uint32_t off, uint32_t len)
{
    if (rs->n == rs->cap) ranges_grow(rs);
    rs->v[rs->n++] = (struct node_range){index, off, len};
}

static int cmp_range(const void *a, const void *b)
{
    const struct node_range *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return x->off < y->off ? -1 : x->off > y->off;
}

/* Ascending, and what was halved is joined, up to what one fetch may bring. */
static void ranges_join(struct ranges *rs)
{
    size_t k = 0;
    if (rs->n) qsort(rs->v, rs->n, sizeof *rs->v, cmp_range);
    for (size_t i = 0; i < rs->n; i++) {
        struct node_range *l = k ? &rs->v[k - 1] : NULL, r = rs->v[i];
        if (l && l->index == r.index && l->off + l->n == r.off && l->n + r.n <= FETCH_BYTES_MAX)
            l->n += r.n;
        else
            rs->v[k++] = r;
    }
    rs->n = k;
}

/* Of a set: what touches is joined before it takes more room. */
static void range_note(struct ranges *rs, const struct fetch *f)
{
    if (rs->n == rs->cap) {
        ranges_join(rs);
        if (rs->n >= rs->cap / 2) ranges_grow(rs);
    }
    range_push(rs, f->index, f->off, f->n);
}

static uint64_t ranges_bytes(const struct ranges *rs)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < rs->n; i++) bytes += rs->v[i].n;
    return bytes;
}

static void pull_more(struct node *n);

static void all_pulled(struct node *n)
{
    if (n->in.gone)
        trace_info(n->trace, "node %llu: snapshot %llu: %llu ranges are dead already at the leader",
                   (unsigned long long)n->cfg.id, (unsigned long long)n->in.index, (unsigned long long)n->in.gone);
    ranges_join(&n->in.lost);
    struct raft_event ev = {
        .kind = RAFT_EV_SNAPSHOT_RECEIVED, .now = clock_now(n->clock), .index = n->in.index, .term = n->in.term};
    node__step(n, &ev);
}

struct pull {
    struct node *node;
    uint64_t snapshot;
    uint32_t n;
    struct log_store store;
};

static void pull_end(struct pull *pl)
{
    struct node *n = pl->node;
    bool ours = n->in.active && n->in.index == pl->snapshot;
    n->in.pulls--;
    n->in.pull_bytes -= pl->n;
    free(pl);
    if (ours) pull_more(n);
    if (n->in_wanted) node__wake(n);
}

static void pull_stored(struct log_store *s, int err)
{
    struct pull *pl = s->arg;
    struct node *n = pl->node;
    if (err && n->in.active && n->in.index == pl->snapshot) {
        trace_warn(n->trace, "node %llu: payload of snapshot %llu cannot be stored: %s", (unsigned long long)n->cfg.id,
                   (unsigned long long)pl->snapshot, err_text(err));
        in_failed(n);
    }
    pull_end(pl);
}

/* What is not here is to be pulled. */
static void want_range(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    struct node *n = ctx;
    if (!log_has(n->log, index, off, len)) range_push(&n->in.ranges, index, off, len);
}

static void want_part(struct node *n, const struct fetch *f, uint32_t off, uint32_t len)
{
    if (len && !log_has(n->log, f->index, off, len)) range_push(&n->in.halves, f->index, off, len);
}

/* What is gone at the leader is dead in its newer state. That may be a part of the range only: the others are wanted. */
static bool pull_rest(struct node *n, const struct fetch *f, struct slice told)
{
    struct reader r = reader_of(told);
    uint32_t gone = get_u32(&r), here = get_u32(&r);
    if (!reader_done(&r) || gone > f->n || here > f->n - gone || here == f->n || gone + here == 0) return false;
    n->in.gone++;
    uint32_t rest = f->n - gone - here;
    want_part(n, f, f->off + gone + here, rest);
    want_part(n, f, f->off + gone, here);
    return true;
}

static void note_silent(struct snap_in *in, const struct fetch *f)
{
    uint64_t ids[RAFT_PEERS_MAX];
    for (uint32_t i = node__fetch_silent(f, ids, RAFT_PEERS_MAX); i-- > 0;) {
        uint32_t k = 0;
        while (k < in->nsilent && in->silent[k] != ids[i]) k++;
        if (k == in->nsilent && k < RAFT_PEERS_MAX) in->silent[in->nsilent++] = ids[i];
    }
}

/* Nobody gave it. It is lost, and the install goes on without it, only where every member has said that it lacks it. */
static void not_pulled(struct node *n, const struct fetch *f, int err)
{
    if (f->partly) {
        want_part(n, f, f->off + f->n / 2, f->n - f->n / 2);
        want_part(n, f, f->off, f->n / 2);
    } else if (err == QE_GONE) {
        range_note(&n->in.lost, f);
    } else {
        note_silent(&n->in, f);
        range_note(&n->in.later, f);
    }
}

static void pulled(struct fetch *f, int err, struct slice bytes)
{
    struct pull *pl = f->arg;
    struct node *n = pl->node;
    if (!n->in.active || n->in.index != pl->snapshot) {
        pull_end(pl);
        return;
    }
    if (err == QE_GONE && pull_rest(n, f, bytes)) {
        pull_end(pl);
        return;
    }
    if (err) {
        not_pulled(n, f, err);
        pull_end(pl);
        return;
    }
    struct blob *copy = blob_new(bytes.n);
    memcpy(copy->p, bytes.p, bytes.n);
    pl->store = (struct log_store){.index = f->index, .off = f->off, .data = copy, .done = pull_stored, .arg = pl};
    log_store(n->log, &pl->store);
    blob_unref(copy);
}

/* Some members have not said whether they have what the others lack: they are asked again in a while. */
static void pull_later(struct node *n)
{
    struct snap_in *in = &n->in;
    char who[RAFT_PEERS_MAX * 21 + 1] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < in->nsilent; i++)
        at += (size_t)snprintf(who + at, sizeof who - at, "%s%llu", i ? ", " : "", (unsigned long long)in->silent[i]);
    ranges_join(&in->later);
    if (!in->told_silent)
        trace_warn(n->trace,
                   "node %llu: snapshot %llu waits for member %s: the others lack %llu bytes of files, and it may have "
                   "them. If it is gone for good, remove it from the cluster",
                   (unsigned long long)n->cfg.id, (unsigned long long)in->index, who,
                   (unsigned long long)ranges_bytes(&in->later));
    in->told_silent = true;
    in->retry_ns = in->retry_ns ? min_u64(2 * in->retry_ns, PULL_RETRY_NS_MAX) : PULL_RETRY_NS;
    in->retry_at = clock_now(n->clock) + in->retry_ns;
    node__slow_at(n, in->retry_at);
}

void node__snap_status(const struct node *n, struct node_status *out)
{
    const struct snap_in *in = &n->in;
    if (!in->active || !in->retry_at) return;
    out->nwaits = in->nsilent;
    memcpy(out->waits_for, in->silent, sizeof out->waits_for);
    out->waits_bytes = ranges_bytes(&in->later);
}

/* It may be one that is waited for. */
void node__snap_peer_up(struct node *n)
{
    struct snap_in *in = &n->in;
    if (!in->active || !in->retry_at) return;
    in->retry_ns = 0;
    in->retry_at = clock_now(n->clock);
    node__slow_at(n, in->retry_at);
}

static void pull_again(struct node *n)
{
    struct snap_in *in = &n->in;
    in->retry_at = 0;
    in->nsilent = 0;
    in->range_at = in->ranges.n = 0;
    for (size_t i = 0; i < in->later.n; i++) want_range(n, in->later.v[i].index, in->later.v[i].off, in->later.v[i].n);
    in->later.n = 0;
    pull_more(n);
}

static void pull_more(struct node *n)
{
    struct snap_in *in = &n->in;
    if (!in->pulling || in->retry_at || in->asking) return;
    in->asking = true; /* a fetch may end at once, and not one inside the other */
    while ((in->halves.n || in->range_at < in->ranges.n) && in->pulls < PULL_WINDOW) {
        bool half = in->halves.n > 0;
        struct node_range r = half ? in->halves.v[in->halves.n - 1] : in->ranges.v[in->range_at];
        if (in->pulls && in->pull_bytes + r.n > PULL_BYTES) break;
        if (half)
            in->halves.n--;
        else
            in->range_at++;
        struct pull *pl = xcalloc(1, sizeof *pl);
        pl->node = n;
        pl->snapshot = in->index;
        pl->n = r.n;
        in->pulls++;
        in->pull_bytes += r.n;
        node__fetch(n, in->from, r.index, r.off, r.n, pulled, pl);
        if (!in->active) return;
    }
    in->asking = false;
    if (in->halves.n || in->range_at < in->ranges.n || in->pulls) return;
    if (in->later.n) {
        pull_later(n);
    } else {
        in->pulling = false;
        all_pulled(n);
    }
}

static void in_block(struct node *n, uint32_t block, struct slice bytes)
{
    struct snap_in *in = &n->in;
    if (block != in->next || in->pulling || in->installing || in->blocked) return;
    int err = log_ckpt_write(in->ckpt, bytes);
    if (err == -EAGAIN) {
        in->blocked = true;
        return;
    }
    int ours = block == 0 ? node__members_from_block(bytes, &in->members) : 0;
    if (!err && ours < 0) err = ours;
    if (!err && !ours) err = n->sm.restore_block(n->sm.arg, bytes);
    if (err) {
        trace_error(n->trace, "node %llu: block %u of snapshot %llu: %s", (unsigned long long)n->cfg.id, block,
                    (unsigned long long)in->index, err_text(err));
        in_failed(n);
        return;
    }
    in->next++;
    if (in->next < in->blocks) return;
    in->pulling = true;
    n->sm.restore_ranges(n->sm.arg, want_range, n);
    trace_info(n->trace, "node %llu: snapshot %llu: %zu payload ranges to pull", (unsigned long long)n->cfg.id,
               (unsigned long long)in->index, in->ranges.n);
}

static bool have_durably(const struct node *n, uint64_t index)
{
    struct raft_status st;
    raft_status(n->core, &st);
    return index <= st.commit && index <= st.persisted;
}

void node__snap_frame(struct node *n, struct peer *p, struct slice payload)
{
    struct raft_msg m;
    struct slice rest;
    if (raft_msg_decode(payload, &m, &rest) || m.type != RAFT_MSG_SNAPSHOT || m.from != p->member.id ||
        m.to != n->cfg.id) {
        conn_close(p->in);
        return;
    }
    struct reader r = reader_of(rest);
    uint64_t cluster = get_u64(&r);
    uint32_t block = get_u32(&r), blocks = get_u32(&r);
    struct slice bytes = get_bytes(&r, reader_left(&r));
    if (r.bad || block >= blocks || bytes.n == 0 || bytes.n > LOG_BLOCK_MAX) {
        conn_close(p->in);
        return;
    }
    struct raft_event ev = {.kind = RAFT_EV_MSG, .now = clock_now(n->clock), .msg = &m};
    struct raft_update up;
    if (n->dead) return;
    node__core(n, &ev, &up);
    bool take = (up.flags & RAFT_UP_SNAPSHOT_CHUNK) != 0;
    node__carry_out(n, &up);
    if (n->dead || n->in.installing) return;
    if (have_durably(n, m.index)) { /* nothing new in it: let the leader go on from here */
        ack_to(n, m.from, m.index, blocks, true);
        return;
    }
    if (!take) return;
    bool same = n->in.active && n->in.from == m.from && n->in.index == m.index && n->in.term == m.log_term;
    if (!same && clock_now(n->clock) < n->in_pause_until) return;
    if (!same && block > 0) { /* of this one we have nothing (any more) */
        if (n->in_wanted != m.index) ack_to(n, m.from, m.index, 0, false);
        return;
    }
    if (!same) in_begin(n, &m, cluster, blocks);
    if (!n->in.active || n->in.index != m.index) return;
    in_block(n, block, bytes);
    if (!n->in.active || n->in.blocked) return;
    ack_to(n, m.from, m.index, n->in.next, false);
    if (n->in.pulling && n->in.pulls == 0 && n->in.range_at == 0) pull_more(n);
}

/* No space for it: the old state stays, and the leader begins anew. */
static void install_gave_up(struct node *n, int err)
{
    trace_warn(n->trace, "node %llu: snapshot %llu cannot be stored: %s; it is tried again",
               (unsigned long long)n->cfg.id, (unsigned long long)n->in.index, err_text(err));
    n->in.installing = false;
    n->sm.restore_cancel(n->sm.arg);
    in_reset(&n->in);
    n->in_pause_until = clock_now(n->clock) + IN_PAUSE_NS;
    struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_INSTALLED, .now = clock_now(n->clock)};
    node__step(n, &ev);
    node__wake(n);
}

static void tell_lost(struct node *n)
{
    struct ranges *lost = &n->in.lost;
    trace_error(n->trace,
                "node %llu: %llu bytes of files are lost, no member has them (from entry %llu, byte %u on): installed "
                "without them; reading them gives EIO",
                (unsigned long long)n->cfg.id, (unsigned long long)ranges_bytes(lost),
                (unsigned long long)lost->v[0].index, lost->v[0].off);
    if (n->sm.lost) n->sm.lost(n->sm.arg, lost->v, lost->n);
}

static void install_done(void *arg, int err)
{
    struct node *n = arg;
    if (n->dead) return;
    if (err == -ENOSPC) {
        install_gave_up(n, err);
        return;
    }
    if (!err) err = n->sm.restore_end(n->sm.arg, n->in.index);
    if (err) {
        node__fatal(n, err,
                    "a snapshot from the leader cannot be installed; empty this node's data directory so that it is "
                    "rebuilt from its peers");
        return;
    }
    node__restored(n, n->in.index);
    if (n->in.lost.n) tell_lost(n);
    struct snap_in in = n->in;
    if (n->cluster_id == 0 && in.cluster) {
        n->cluster_id = in.cluster;
        log_set_identity(n->log, in.cluster);
    }
    in_reset(&n->in);
    if (in.members.n) n->members_applied = in.members;
    n->applied = in.index;
    n->applied_term = in.term;
    n->commit = max_u64(n->commit, in.index);
    n->ckpt_index = in.index;
    n->since_ckpt = 0;
    n->snapshots_installed++;
    log_applied(n->log, in.index);
    trace_info(n->trace, "node %llu: installed snapshot %llu", (unsigned long long)n->cfg.id,
               (unsigned long long)in.index);
    struct raft_event ev = {.kind = RAFT_EV_SNAPSHOT_INSTALLED,
                            .now = clock_now(n->clock),
                            .index = in.index,
                            .term = in.term,
                            .members = in.members.n ? &in.members : NULL};
    node__step(n, &ev);
    ack_to(n, in.from, in.index, in.blocks, true);
    node__wake(n);
}

void node__snap_install(struct node *n, bool keep_suffix)
{
    n->in.installing = true;
    struct log_ckpt *ck = n->in.ckpt;
    n->in.ckpt = NULL;
    log_ckpt_commit(ck, keep_suffix, install_done, n);
}

void node__snap_ignore(struct node *n)
{
    uint64_t from = n->in.from, index = n->in.index;
    uint32_t blocks = n->in.blocks;
    node__snap_in_abort(n);
    if (have_durably(n, index)) ack_to(n, from, index, blocks, true); /* else it only came at a bad time */
}

/* ---- time ---- */

void node__snap_timeouts(struct node *n, uint64_t now)
{
    if (n->in.active && n->in.retry_at && now >= n->in.retry_at)
        pull_again(n);
    else if (n->in.active && n->in.retry_at)
        node__slow_at(n, n->in.retry_at);
    for (uint32_t i = 0; i < n->npeers; i++) {
        struct snap_out *s = &n->peers[i].snap;
        if (!s->active || !s->index) continue;
        if (now >= s->progress_at + SNAP_RETRY_NS) {
            s->progress_at = now;
            /* Everything may be there and being installed: one block again asks how things stand. */
            s->next = s->acked < s->blocks ? s->acked : s->blocks - 1;
            if (s->acked == s->blocks) s->acked = s->blocks - 1;
            snap_pump(n, &n->peers[i]);
        }
        node__slow_at(n, s->progress_at + SNAP_RETRY_NS);
    }
}
