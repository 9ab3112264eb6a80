/* txn_leader.c - what only the leader can do for a transaction: compare contents that lie in the log, and fetch the
 * bytes of the answer.
 *
 * A transaction that comes back undecided has conditions on contents that applying cannot look at. As for
 * compare-and-set (kv/cas.c) the leader reads them and proposes the transaction again with the outcome of each
 * comparison and the version it is about. If a version is no longer the current one when that is applied, it comes
 * back undecided once more and is compared again.
 *
 * The answer is remembered as a draft (kv/txn.h). Its bytes are immutable, so reading them needs no lease; but when an
 * answer is asked for again much later, compaction may have taken them: those GETs say QE_GONE. */
#include "kv/server.h"

/* ---- comparing ---- */

/* A condition whose contents have been read: at q->res.data + at. Gathered in q->kept. */
struct looked {
    uint32_t cond, at;
    uint64_t ino, version;
};

/* Reads what conditions need, up to the first that is known not to hold. 0 or an error. */
static int look(struct kv__query *q, const struct kv_txn *t)
{
    const struct kv__store *st = q->server->store;
    buf_clear(&q->kept);
    kv__query_blank(st, &q->res);
    for (unsigned i = 0; i < t->nconds; i++) {
        struct fs_attr attr;
        int holds = kv__txn_condition(st, &t->conds[i], &attr);
        if (holds <= 0) return 0;       /* applying will see it, too */
        if (holds != KV__IN_LOG) continue;
        struct looked l = {.cond = i, .at = (uint32_t)q->res.data.n, .ino = attr.ino, .version = attr.version};
        buf_append(&q->kept, &l, sizeof l);
        int err = kv__query_contents(st, attr.ino, (uint32_t)attr.size, &q->res);
        if (err) return err;
    }
    return 0;
}

static void refuse(struct kv__query *q, int err)
{
    kv__query_pause(q);
    kv__propose_refusal(q->server, q->conn, &q->call, KV_TXN, err, q);
}

/* A place and a version take a few bytes more than very short contents: a request of the largest size may have no room. */
static void propose(struct kv__query *q, const struct kv_txn *t)
{
    struct buf request = {0}, bytes = {0};
    int err = kv_txn_encode(t, &request);
    struct kv_op op = {.code = KV_TXN, .data = buf_slice(&request)};
    if (err) {
        refuse(q, err);
    } else {
        kv_op_encode(&op, &bytes, NULL);
        kv__query_pause(q);
        kv__propose(q->server, q->conn, &q->call, KV_TXN, buf_slice(&bytes), q);
    }
    buf_free(&request);
    buf_free(&bytes);
}

static void compared(struct kv__query *q, const struct kv__result *res)
{
    struct kv_txn t;
    check(kv_txn_decode(q->op.data, &t) == 0);
    for (size_t i = 0; i < q->kept.n; i += sizeof(struct looked)) {
        struct looked l;
        memcpy(&l, q->kept.p + i, sizeof l);
        struct kv_cond *c = &t.conds[l.cond];
        check(l.at + c->value.n <= res->data.n);        /* of equal size, or it would have been decided */
        bool equal = slice_eq(slice_of(res->data.p + l.at, c->value.n), c->value);
        c->kind = equal ? KV_IF_EQUAL_AT : KV_IF_OTHER_AT;
        c->ino = l.ino;
        c->version = l.version;
    }
    propose(q, &t);
}

void kv__txn_compare(struct kv__query *q, bool lease)
{
    struct kv_txn t;
    check(kv_txn_decode(q->op.data, &t) == 0);
    int err = look(q, &t);
    if (lease && !node_read_valid(q->server->node)) kv__query_again(q);
    else if (err) refuse(q, err);
    else kv__query_payload(q, &q->res);
}

/* ---- answering ---- */

static struct kv_reply draft_of(const struct kv__query *q)
{
    struct kv_reply r;
    check(kv_reply_decode(KV_TXN, buf_slice(&q->kept), &r) == 0);
    return r;
}

static void damaged(struct kv__query *q)
{
    struct kv_reply r = {.status = -EUCLEAN};
    kv__query_answer(q, &r);
}

void kv__txn_fill(struct kv__query *q)
{
    struct kv__result *res = &q->server->res;
    struct kv_reply draft = draft_of(q);
    if (kv__txn_reply(&draft, res)) damaged(q);
    else if (res->npieces) kv__query_payload(q, res);
    else kv__query_answer(q, &res->reply);
}

void kv__txn_answer(struct kv__query *q, const struct kv_reply *draft)
{
    q->applied = true;
    buf_clear(&q->kept);
    kv_reply_encode(KV_TXN, draft, &q->kept);
    if (!q->conn->conn) {
        kv__query_drop(q);
    } else if (draft->status < 0) {
        kv__query_answer(q, draft);
    } else {
        list_push_back(&q->server->queries, &q->link);
        kv__txn_fill(q);
    }
}

void kv__txn_bytes(struct kv__query *q, const struct kv__result *res, int err)
{
    if (!q->applied) {
        if (err) refuse(q, -EIO);
        else compared(q, res);
        return;
    }
    struct kv__result *gone = &q->server->res;
    struct kv_reply draft = draft_of(q);
    if (kv__txn_reply_gone(&draft, gone)) damaged(q);
    else kv__query_answer(q, &gone->reply);
}
