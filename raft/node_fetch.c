/* node_fetch.c - file bytes out of the log, and their repair. A range that is rotten or missing here is asked from the
 * peers, one after the other; what comes back is checked by the frame's checksum, stored again (log_store) and handed
 * out. Where nobody has all of it, but some have a part, its halves are asked for: damage of a few blocks on every disk
 * loses nothing as long as each byte is good on one.
 *
 * A range is lost when every member of the cluster has said that it lacks it; while one has not, it is asked again. Nothing
 * is written down about that: who reads such a range asks anew, so a copy that turns up is found.
 *
 * FETCH       u64 request, u64 index, u32 offset, u32 length
 * FETCH_RESP  u64 request, i32 error, bytes */
#include "raft/node_priv.h"

/* ---- asking ---- */

static void finish(struct fetch *f, int err, struct slice bytes)
{
    list_remove(&f->link);
    f->done(f, err, bytes);
    free(f);
}

static bool ask(struct fetch *f, uint32_t place)
{
    struct node *n = f->node;
    struct peer *p = &n->peers[place];
    f->tried |= 1u << place;
    uint8_t payload[24];
    store_u64(payload, f->id);
    store_u64(payload + 8, f->index);
    store_u32(payload + 16, f->off);
    store_u32(payload + 20, f->n);
    struct slice v = slice_of(payload, sizeof payload);
    if (conn_send(p->out, RAFT_FRAME_FETCH, &v, 1)) return false;
    f->at_peer = p->member.id;
    f->deadline = clock_now(n->clock) + FETCH_TIMEOUT_NS;
    node__slow_at(n, f->deadline);
    return true;
}

/* ---- who may have it ---- */

static bool lacks(const struct fetch *f, uint64_t id)
{
    uint32_t i = 0;
    while (i < f->nlacks && f->lacks[i] != id) i++;
    return i < f->nlacks;
}

/* Who may have what others have lost: the members. One that is being removed is given up by whoever asked for that. */
static uint32_t holders(const struct node *n, uint64_t ids[RAFT_PEERS_MAX])
{
    const struct raft_members *ms = raft_members_now(n->core);
    uint32_t count = 0;
    for (uint32_t i = 0; i < ms->n; i++)
        if (!ms->joint || ms->next[i] != RAFT_NO_SEAT) ids[count++] = ms->m[i].id;
    return count;
}

/* By the configuration here; or, for a node that is yet to get the newest one, by the leader's. */
uint32_t node__fetch_silent(const struct fetch *f, uint64_t *ids, uint32_t max)
{
    uint64_t all[RAFT_PEERS_MAX];
    uint32_t silent = 0, count = f->nholders;
    if (f->first)
        memcpy(all, f->holders, sizeof all);
    else
        count = holders(f->node, all);
    for (uint32_t i = 0; i < count && silent < max; i++)
        if (all[i] != f->node->cfg.id && !lacks(f, all[i])) ids[silent++] = all[i];
    if (f->first && !f->holders_told && silent < max) ids[silent++] = f->first;
    return silent;
}

/* Asks the next peer that is up and was not asked yet, guests too. Where none is left: QE_GONE if every member has said that
 * it lacks it, else -ENOTCONN: bytes are never taken for gone because somebody could not be asked. */
static void ask_next(struct fetch *f)
{
    struct node *n = f->node;
    uint64_t silent;
    for (int pass = f->first ? 0 : 1; pass < 2; pass++)
        for (uint32_t i = 0; i < n->npeers; i++) {
            const struct peer *p = &n->peers[i];
            bool due = p->used && p->up && !(f->tried & 1u << i) && (pass || p->member.id == f->first);
            if (due && ask(f, i)) return;
        }
    finish(f, node__fetch_silent(f, &silent, 1) ? -ENOTCONN : QE_GONE, (struct slice){NULL, 0});
}

void node__fetch(struct node *n, uint64_t first, uint64_t index, uint32_t off, uint32_t len,
                 void (*done)(struct fetch *f, int err, struct slice bytes), void *arg)
{
    struct fetch *f = xcalloc(1, sizeof *f);
    *f = (struct fetch){
        .node = n, .id = ++n->fetch_id, .index = index, .off = off, .n = len, .first = first, .done = done, .arg = arg};
    list_push_back(&n->fetches, &f->link);
    ask_next(f);
}

/* Does the answer leave open that other parts of the range are there? */
static bool has_a_part(const struct fetch *f, int err, struct slice told)
{
    struct reader r = reader_of(told);
    uint32_t dead = get_u32(&r), next = get_u32(&r);
    if (err != QE_GONE) return err == QE_CORRUPT && f->n > FETCH_HALVES_MIN;
    return reader_done(&r) && dead + (uint64_t)next > 0 && dead < f->n && f->n > 1;
}

static void take_holders(struct fetch *f, struct slice told)
{
    struct reader r = reader_of(told);
    uint8_t count = get_u8(&r);
    for (f->nholders = 0; f->nholders < count && f->nholders < RAFT_PEERS_MAX; f->nholders++)
        f->holders[f->nholders] = get_u64(&r);
    f->holders_told = reader_done(&r) && count > 0;
    if (!f->holders_told) f->nholders = 0;
}

static void lacking(struct fetch *f, uint64_t id, int err, struct slice told)
{
    f->partly |= has_a_part(f, err, told);
    if (err == QE_CORRUPT && f->first == id) take_holders(f, told);
    if ((err == QE_CORRUPT || err == QE_GONE) && f->nlacks < NODE_PEERS && !lacks(f, id)) f->lacks[f->nlacks++] = id;
    if (err == QE_GONE && f->first == id && told.n)
        finish(f, QE_GONE, told);
    else
        ask_next(f);
}

void node__fetch_resp(struct node *n, struct peer *p, struct slice payload)
{
    struct reader r = reader_of(payload);
    uint64_t id = get_u64(&r);
    int32_t err = (int32_t)get_u32(&r);
    struct slice bytes = get_bytes(&r, reader_left(&r));
    if (r.bad) return;
    list_for_each(l, &n->fetches)
    {
        struct fetch *f = container_of(l, struct fetch, link);
        if (f->id != id || f->at_peer != p->member.id) continue;
        if (err == 0 && bytes.n == f->n)
            finish(f, 0, bytes);
        else
            lacking(f, p->member.id, err, bytes);
        return;
    }
}

void node__fetch_peer_down(struct node *n, uint64_t id)
{
    list_for_each_safe(l, next, &n->fetches)
    {
        struct fetch *f = container_of(l, struct fetch, link);
        if (f->at_peer == id) ask_next(f);
    }
}

void node__fetch_timeouts(struct node *n, uint64_t now)
{
    list_for_each_safe(l, next, &n->fetches)
    {
        struct fetch *f = container_of(l, struct fetch, link);
        if (f->deadline <= now)
            ask_next(f);
        else
            node__slow_at(n, f->deadline);
    }
}

void node__fetch_stop(struct node *n)
{
    struct list *l;
    while ((l = list_pop_front(&n->fetches))) free(container_of(l, struct fetch, link));
}

/* ---- answering ---- */

struct answer {
    struct node *node;
    struct conn *conn;
    uint64_t id, peer;
    struct log_read read;
    uint8_t told[1 + 8 * RAFT_PEERS_MAX]; /* of a range that is not all here */
    uint8_t bytes[];
};

static void answer(struct conn *c, uint64_t id, int err, struct slice bytes)
{
    uint8_t head[12];
    store_u64(head, id);
    store_u32(head + 8, (uint32_t)err);
    struct slice v[2] = {slice_of(head, sizeof head), bytes};
    conn_send(c, RAFT_FRAME_FETCH_RESP, v, bytes.n ? 2 : 1);
}

/* Cuts the range behind what is here or alive, whichever ends first, so that it is all of one kind. */
struct cut {
    uint32_t off, n;
    bool live; /* its first byte belongs to a file */
};

static void cut_at_live(void *ctx, uint32_t off, uint32_t len)
{
    struct cut *c = ctx;
    uint64_t end = (uint64_t)off + len;
    if (off > c->off) c->n = (uint32_t)min_u64(c->n, off - c->off);
    if (off > c->off || end <= c->off) return;
    c->live = true;
    c->n = (uint32_t)min_u64(c->n, end - c->off);
}

/* Not all of the bytes are here. Some may have died since whoever asks saw them alive, others were lost by damage and
 * are on other disks only: how many at the beginning are dead, and of how many behind these each is here or each is
 * lost, which are to be asked for by themselves. QE_CORRUPT where all are lost. */
static int which_are_here(struct answer *a, struct slice *told)
{
    struct node *n = a->node;
    const struct log_read *r = &a->read;
    uint32_t dead = 0, next = 0;
    while (dead + next < r->n) {
        bool here;
        struct cut c = {.off = r->off + dead + next};
        c.n = log_run(n->log, r, c.off, r->n - dead - next, &here);
        if (!here) n->sm.live_ranges(n->sm.arg, r->index, cut_at_live, &c);
        if (here || c.live) {
            if (c.n == r->n && !here) return QE_CORRUPT;
            next = c.n;
            break;
        }
        dead += c.n;
    }
    store_u32(a->told, dead);
    store_u32(a->told + 4, next);
    *told = slice_of(a->told, 8);
    return QE_GONE;
}

/* The bytes belong to a file and are lost here. A leader, which knows the newest configuration, says who is a member:
 * until each of them has said the same they may be there. */
static void tell_holders(struct answer *a, struct slice *told)
{
    struct node *n = a->node;
    uint64_t ids[RAFT_PEERS_MAX];
    if (n->role != RAFT_LEADER) return;
    uint32_t count = holders(n, ids);
    a->told[0] = (uint8_t)count;
    for (uint32_t i = 0; i < count; i++) store_u64(a->told + 1 + 8 * i, ids[i]);
    *told = slice_of(a->told, 1 + 8 * count);
}

static void answer_read(struct log_read *r, int err)
{
    struct answer *a = r->arg;
    struct peer *p = node__peer(a->node, a->peer);
    struct slice bytes = slice_of(a->bytes, err ? 0 : r->n);
    if (err == QE_GONE) err = which_are_here(a, &bytes);
    if (err == QE_CORRUPT) tell_holders(a, &bytes);
    if (p && p->in == a->conn) answer(a->conn, a->id, err, bytes);
    free(a);
}

void node__fetch_frame(struct node *n, struct conn *c, struct slice payload)
{
    struct reader r = reader_of(payload);
    uint64_t id = get_u64(&r), index = get_u64(&r);
    uint32_t off = get_u32(&r), len = get_u32(&r);
    if (!reader_done(&r) || len == 0 || len > FETCH_BYTES_MAX) {
        conn_close(c);
        return;
    }
    /* An entry that is not known to be committed may be another one than the cluster's. It may be that one, too: no answer
     * then. While a snapshot comes in it is about to go, and what counts is what has come. */
    bool sure = index <= max_u64(n->commit, log_sure(n->log));
    if (!sure && !n->in.active && index <= log_last(n->log)) {
        answer(c, id, -EAGAIN, (struct slice){NULL, 0});
        return;
    }
    struct answer *a = xmalloc(sizeof *a + len);
    *a = (struct answer){.node = n, .conn = c, .id = id, .peer = ((struct peer *)c->arg)->member.id};
    a->read = (struct log_read){.index = index, .off = off, .n = len, .p = a->bytes, .done = answer_read, .arg = a};
    a->read.staged = !sure;
    log_read(n->log, &a->read);
}

/* ---- reading payload here, with repair ---- */

struct repair {
    struct node *node;
    struct log_read *want; /* the caller's */
    struct log_read mine;
    struct log_store store;
    bool partly; /* some of it may be good here */
};

/* A range that is read in two parts, one after the other. */
struct halves {
    struct node *node;
    struct log_read *want, part;
};

static void half_read(struct log_read *part, int err)
{
    struct halves *h = part->arg;
    struct log_read *want = h->want;
    uint32_t done = part->off + part->n - want->off;
    if (!err && done < want->n) {
        part->off += part->n;
        part->n = want->n - done;
        part->p = want->p + done;
        node_payload(h->node, part);
        return;
    }
    free(h);
    want->done(want, err);
}

static void read_halves(struct node *n, struct log_read *want)
{
    struct halves *h = xcalloc(1, sizeof *h);
    *h = (struct halves){.node = n, .want = want};
    h->part = (struct log_read){
        .index = want->index, .off = want->off, .n = want->n / 2, .p = want->p, .done = half_read, .arg = h};
    node_payload(n, &h->part);
}

static void stored(struct log_store *s, int err)
{
    struct repair *rp = s->arg;
    if (err)
        trace_warn(rp->node->trace, "a repaired range of entry %llu could not be stored: %s",
                   (unsigned long long)s->index, err_text(err));
    free(rp);
}

static void repaired(struct fetch *f, int err, struct slice bytes)
{
    struct repair *rp = f->arg;
    struct log_read *want = rp->want;
    if (err) {
        bool halves = rp->partly || f->partly;
        struct node *n = rp->node;
        free(rp);
        if (halves)
            read_halves(n, want);
        else
            want->done(want, err);
        return;
    }
    rp->node->repairs++;
    memcpy(want->p, bytes.p, bytes.n);
    struct blob *copy = blob_new(bytes.n);
    memcpy(copy->p, bytes.p, bytes.n);
    rp->store = (struct log_store){.index = want->index, .off = want->off, .data = copy, .done = stored, .arg = rp};
    struct node *n = rp->node;
    log_store(n->log, &rp->store);
    blob_unref(copy);
    want->done(want, 0);
}

static void payload_read(struct log_read *r, int err)
{
    struct repair *rp = r->arg;
    if (err == QE_CORRUPT || err == QE_GONE) {
        bool here;
        rp->partly = err == QE_CORRUPT ? r->n > FETCH_HALVES_MIN
                                       : log_run(rp->node->log, r, r->off, r->n, &here) < r->n;
        trace_warn(rp->node->trace, "entry %llu, bytes %u+%u: %s; asking the peers", (unsigned long long)r->index,
                   r->off, r->n, err_text(err));
        node__fetch(rp->node, 0, r->index, r->off, r->n, repaired, rp);
        return;
    }
    rp->want->done(rp->want, err);
    free(rp);
}

int node_try_payload(struct node *n, uint64_t index, uint32_t off, uint32_t len, uint8_t *p)
{
    return log_try_read(n->log, index, off, len, p) == 0 ? 0 : -EAGAIN;
}

void node_payload(struct node *n, struct log_read *r)
{
    struct repair *rp = xcalloc(1, sizeof *rp);
    rp->node = n;
    rp->want = r;
    rp->mine =
        (struct log_read){.index = r->index, .off = r->off, .n = r->n, .p = r->p, .done = payload_read, .arg = rp};
    log_read(n->log, &rp->mine);
}
