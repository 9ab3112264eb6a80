/* check_history.c - the witness: a store without faults executes the log once more; every answer is compared with its
 * own. */
#include "tests/sim/check_history.h"

#include <stdio.h>
#include <stdlib.h>

#include "kv/txn.h"
#include "tests/sim/watchers.h"

struct witness {
    struct sim_cluster *cluster;
    const struct sim_history *history;
    struct kv__store *store;
    struct sim_record **changes; /* by (session, seq) */
    size_t nchanges;
    struct sim_record **queries; /* by index */
    size_t nqueries, next_query;
    uint64_t *found; /* by place in the history: the index at which it happened */
    uint64_t index; /* the batch that is being executed, and its records: */
    struct kv__record *records;
    uint32_t nrecords, cap;
};

static int by_number(const void *a, const void *b)
{
    const struct sim_record *x = *(struct sim_record *const *)a, *y = *(struct sim_record *const *)b;
    if (x->session != y->session) return x->session < y->session ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int by_index(const void *a, const void *b)
{
    const struct sim_record *x = *(struct sim_record *const *)a, *y = *(struct sim_record *const *)b;
    return x->index < y->index ? -1 : x->index > y->index;
}

static struct sim_record *find(const struct witness *w, uint64_t session, uint64_t seq)
{
    struct sim_record key = {.session = session, .seq = seq}, *p = &key;
    struct sim_record **hit =
        w->nchanges ? bsearch(&p, w->changes, w->nchanges, sizeof(struct sim_record *), by_number) : NULL;
    return hit ? *hit : NULL;
}

__attribute__((noreturn)) static void wrong(struct witness *w, const struct sim_record *r, const char *what)
{
    struct kv_op op = {0};
    kv_op_decode(buf_slice(&r->op), &op);
    sim_fail(w->cluster,
             "%s: %s %.*s (ino %llu, off %llu, len %llu, flags %x) of client %u.%u, session %llx number %llu, asked at "
             "%.3f ms, "
             "answered at %.3f ms with status %d at index %llu",
             what, kv_code_name(r->code), (int)min_u64(op.name.n, 40), op.name.n ? (const char *)op.name.p : "",
             (unsigned long long)op.ino, (unsigned long long)op.off, (unsigned long long)op.len, op.flags, r->client,
             r->life, (unsigned long long)r->session, (unsigned long long)r->seq,
             (double)r->invoked / (double)NS_PER_MS, (double)r->returned / (double)NS_PER_MS, r->status,
             (unsigned long long)r->index);
}

/* ---- answers ---- */

static void fill_in(struct witness *w, struct kv__result *res);

/* A transaction that was answered so late that bytes it had read were no longer kept: all else must be true. */
static bool says_gone(struct witness *w, const struct sim_record *r, const struct kv_reply *draft)
{
    struct kv__result res = {0};
    struct buf mine = {0};
    check(draft && kv__txn_reply_gone(draft, &res) == 0);
    kv_reply_encode(KV_TXN, &res.reply, &mine);
    bool same = slice_eq(buf_slice(&mine), buf_slice(&r->reply));
    buf_free(&mine);
    kv__result_free(&res);
    return same;
}

/* draft: of a transaction, what its answer was made from. */
static void same_answer(struct witness *w, const struct sim_record *r, const struct kv_reply *reply,
                        const struct kv_reply *draft)
{
    struct buf mine = {0};
    kv_reply_encode(r->code, reply, &mine);
    bool gone = r->code == KV_TXN && reply->status >= 0 && says_gone(w, r, draft);
    if (!gone && !slice_eq(buf_slice(&mine), buf_slice(&r->reply))) {
        sim_say(
            w->cluster,
            "the witness answers status %d at index %llu, attr ino %llu size %llu version %llu, off %llu, %zu bytes",
            reply->status, (unsigned long long)reply->index, (unsigned long long)reply->attr.ino,
            (unsigned long long)reply->attr.size, (unsigned long long)reply->attr.version,
            (unsigned long long)reply->off, reply->data.n);
        wrong(w, r, "an answer that the log does not explain");
    }
    buf_free(&mine);
}

/* The leader only replaces conditions on contents by what it has found out about them. */
static bool same_transaction(struct slice asked, struct slice did)
{
    static struct kv_txn a, d;
    struct buf x = {0}, y = {0};
    if (kv_txn_decode(asked, &a) || kv_txn_decode(did, &d) || a.nconds != d.nconds) return false;
    for (unsigned i = 0; i < a.nconds; i++) {
        if (!slice_eq(a.conds[i].key, d.conds[i].key)) return false;
        bool found_out = d.conds[i].kind == KV_IF_EQUAL_AT || d.conds[i].kind == KV_IF_OTHER_AT;
        if (found_out && a.conds[i].kind == KV_IF_VALUE) d.conds[i] = a.conds[i];
    }
    check(kv_txn_encode(&a, &x) == 0 && kv_txn_encode(&d, &y) == 0);
    bool same = slice_eq(buf_slice(&x), buf_slice(&y));
    buf_free(&x);
    buf_free(&y);
    return same;
}

/* The command in the log is what was asked for: literally, but for compare-and-set and transactions, which the leader
 * rewrites, and refusals. */
static void same_command(struct witness *w, const struct sim_record *r, struct slice op)
{
    struct kv_op asked, did;
    int err;
    if (kv__refusal(op, &err) || slice_eq(op, buf_slice(&r->op))) return;
    if (kv_op_decode(op, &did) || kv_op_decode(buf_slice(&r->op), &asked))
        wrong(w, r, "a command in the log that cannot be decoded");
    if (did.code == KV_TXN && asked.code == KV_TXN && same_transaction(asked.data, did.data)) return;
    if (did.code == KV_CAS && asked.code == KV_CAS && slice_eq(did.name, asked.name) && slice_eq(did.data, asked.data))
        return;
    wrong(w, r, "another command in the log under its number");
}

static void outcome(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code, const struct kv_reply *reply)
{
    struct witness *w = arg;
    check(pos < w->nrecords);
    const struct kv__record *rec = &w->records[pos];
    struct sim_record *r = find(w, rec->session, rec->seq);
    if (what != KV__ANSWER || !r || reply->status == QE_SESSION || reply->status == QE_BUSY) return;
    same_command(w, r, rec->op);
    size_t at = (size_t)(r - w->history->v);
    if (reply->index == w->index) {
        /* A repetition in the same entry is told the answer that was stored a moment ago. */
        if (w->found[at] && w->found[at] != w->index) wrong(w, r, "it happened twice");
        w->found[at] = w->index;
    }
    if (!r->returned || !r->known) return;
    if (code != KV_TXN || reply->status < 0) {
        same_answer(w, r, reply, NULL);
        return;
    }
    struct kv__result res = {0};
    check(kv__txn_reply(reply, &res) == 0);
    fill_in(w, &res);
    same_answer(w, r, &res.reply, reply);
    kv__result_free(&res);
}

static void fill_in(struct witness *w, struct kv__result *res)
{
    for (uint32_t i = 0; i < res->npieces; i++) {
        const struct kv__piece *p = &res->pieces[i];
        const struct sim_applied *a = sim_applied_at(w->cluster->checks, p->index);
        if (!a->data || p->off + p->len > a->data->n)
            sim_fail(w->cluster, "file bytes lie outside the log: entry %llu", (unsigned long long)p->index);
        memcpy(res->data.p + p->at, a->data->p + p->off, p->len);
    }
}

static void answer_queries(struct witness *w, uint64_t upto)
{
    struct kv__result res = {0};
    struct kv_statfs none = {0};
    for (; w->next_query < w->nqueries && w->queries[w->next_query]->index <= upto; w->next_query++) {
        struct sim_record *r = w->queries[w->next_query];
        struct kv_op op;
        check(kv_op_decode(buf_slice(&r->op), &op) == 0);
        kv__query(w->store, &op, &none, &res);
        if (res.reply.index > r->index) wrong(w, r, "answered at an index before the first");
        res.reply.index = r->index; /* after a restart it may be that of a checkpoint behind the last command */
        fill_in(w, &res);
        same_answer(w, r, &res.reply, NULL);
    }
    kv__result_free(&res);
}

/* ---- the log once more ---- */

static void open_batch(struct witness *w, struct slice entry)
{
    int64_t wall;
    uint64_t cluster;
    uint32_t n;
    struct reader in;
    if (kv__batch_open(entry, &wall, &cluster, &n, &in))
        sim_fail(w->cluster, "entry %llu is no batch", (unsigned long long)w->index);
    if (n > w->cap) {
        w->cap = n + 64;
        w->records = xrealloc(w->records, w->cap * sizeof *w->records);
    }
    for (w->nrecords = 0; w->nrecords < n; w->nrecords++)
        if (kv__batch_next(&in, &w->records[w->nrecords]))
            sim_fail(w->cluster, "entry %llu is no batch", (unsigned long long)w->index);
}

static void execute(struct witness *w)
{
    for (uint64_t i = 1; i <= sim_applied_last(w->cluster->checks); i++) {
        const struct sim_applied *a = sim_applied_at(w->cluster->checks, i);
        if (a->data) {
            answer_queries(w, i - 1);
            w->index = i;
            open_batch(w, blob_slice(a->data));
            if (kv__store_apply(w->store, i, blob_slice(a->data)))
                sim_fail(w->cluster, "entry %llu cannot be executed", (unsigned long long)i);
        }
        if (a->digested && a->digest != kv__store_digest(w->store))
            sim_fail(w->cluster, "the servers' state at index %llu is not what the log says", (unsigned long long)i);
    }
    answer_queries(w, UINT64_MAX);
}

/* ---- real time ---- */

static int by_invoked(const void *a, const void *b)
{
    const struct sim_record *x = *(struct sim_record *const *)a, *y = *(struct sim_record *const *)b;
    return x->invoked < y->invoked ? -1 : x->invoked > y->invoked;
}

static int by_returned(const void *a, const void *b)
{
    const struct sim_record *x = *(struct sim_record *const *)a, *y = *(struct sim_record *const *)b;
    return x->returned < y->returned ? -1 : x->returned > y->returned;
}

/* What was asked after something else had been answered takes effect after it. */
static void check_real_time(struct witness *w)
{
    size_t n = 0, k = 0, total = w->history->n;
    struct sim_record **asked = xcalloc(total, sizeof(struct sim_record *)),
                      **answered = xcalloc(total, sizeof(struct sim_record *));
    for (size_t i = 0; i < total; i++) {
        struct sim_record *r = &w->history->v[i];
        if (r->returned && r->known) asked[n] = answered[n] = r, n++;
    }
    qsort(asked, n, sizeof(struct sim_record *), by_invoked);
    qsort(answered, n, sizeof(struct sim_record *), by_returned);
    uint64_t latest = 0;
    for (size_t i = 0; i < n; i++) {
        for (; k < n && answered[k]->returned < asked[i]->invoked; k++) latest = max_u64(latest, answered[k]->index);
        if (asked[i]->index < latest || (asked[i]->change && asked[i]->index == latest && latest)) {
            sim_say(w->cluster, "by then something had been answered at index %llu", (unsigned long long)latest);
            wrong(w, asked[i], "an answer out of the past");
        }
    }
    free(asked);
    free(answered);
}

/* ---- tokens ---- */

static unsigned count(struct slice text, const char *token, size_t *first)
{
    unsigned n = 0;
    size_t len = strlen(token);
    for (size_t i = 0; i + len <= text.n; i++) {
        if (memcmp(text.p + i, token, len) != 0) continue;
        if (n++ == 0) *first = i;
    }
    return n;
}

static void check_tokens_of(struct witness *w, struct slice key)
{
    struct kv__result res = {0};
    struct kv_statfs none = {0};
    struct kv_op get = {.code = KV_GET, .name = key};
    kv__query(w->store, &get, &none, &res);
    fill_in(w, &res);
    struct slice text = res.reply.status < 0 ? (struct slice){0} : res.reply.data;
    size_t last[32] = {0}; /* by client: where the last token of its session was */
    uint64_t session[32] = {0};
    for (size_t i = 0; i < w->history->n; i++) {
        const struct sim_record *r = &w->history->v[i];
        struct kv_op op;
        char token[64];
        size_t at = 0;
        if (r->code != KV_APPEND || kv_op_decode(buf_slice(&r->op), &op) || !slice_eq(op.name, key)) continue;
        check(op.data.n < sizeof token && r->client < 32);
        memcpy(token, op.data.p, op.data.n);
        token[op.data.n] = 0;
        unsigned n = count(text, token, &at);
        bool acked = r->returned && r->known && r->status == 0;
        if (acked && n == 0) wrong(w, r, "an acknowledged append is gone");
        if (n > 1) wrong(w, r, "an append happened twice");
        if (n == 0 || !r->session) continue;
        if (session[r->client] == r->session && at < last[r->client])
            wrong(w, r, "a client's appends are out of order");
        session[r->client] = r->session;
        last[r->client] = at;
    }
    kv__result_free(&res);
}

/* ---- all of it ---- */

static void gather(struct witness *w)
{
    size_t n = w->history->n;
    w->changes = xcalloc(n, sizeof(struct sim_record *));
    w->queries = xcalloc(n, sizeof(struct sim_record *));
    w->found = xcalloc(n, sizeof *w->found);
    for (size_t i = 0; i < n; i++) {
        struct sim_record *r = &w->history->v[i];
        if (r->change && r->seq) w->changes[w->nchanges++] = r;
        if (!r->change && r->returned) w->queries[w->nqueries++] = r;
    }
    qsort(w->changes, w->nchanges, sizeof(struct sim_record *), by_number);
    qsort(w->queries, w->nqueries, sizeof(struct sim_record *), by_index);
}

void sim_check_history(struct sim_cluster *c, const struct sim_history *h, const struct sim_watches *ws)
{
    struct witness w = {.cluster = c, .history = h};
    struct kv__store_cb cb = {.arg = &w, .outcome = outcome};
    struct buf why = {0};
    w.store = kv__store_new(&cb);
    gather(&w);
    execute(&w);
    for (size_t i = 0; i < h->n; i++) {
        const struct sim_record *r = &h->v[i];
        if (r->change && r->returned && r->known && !w.found[i])
            wrong(&w, r, "an acknowledged change is not in the log");
    }
    check_real_time(&w);
    if (ws) sim_check_watches(c, ws, h, w.store);
    for (unsigned i = 0; i < 3; i++) {
        char key[16];
        snprintf(key, sizeof key, SIM_APPEND_ONLY "%u", i);
        check_tokens_of(&w, slice_str(key));
    }
    if (fs_check(&w.store->fs, &why))
        sim_fail(c, "the filesystem contradicts itself: %.*s", (int)why.n, (const char *)why.p);
    buf_free(&why);
    kv__store_free(w.store);
    free(w.changes);
    free(w.queries);
    free(w.found);
    free(w.records);
}
