/* linear.c - the search. Calls and returns stand in one list, by time. A call whose effect agrees with its answer is
 * taken out, with its return, and becomes the next of the order; where a return stands first whose call has not been
 * taken, this order was wrong: the last call taken goes back. The value is remembered by a hash, and so is the set of
 * calls that were taken. */
#include "tests/sim/linear.h"

#include <stdlib.h>

#include "tests/sim/cluster.h"

#define STEPS_MAX 100000u

struct value {
    bool there;
    uint64_t hash;
};

struct mark {
    struct mark *prev, *next, *match; /* match: of a call its return, NULL: none; of a return NULL */
    uint32_t op;
    bool is_call;
};

struct config {
    uint64_t taken[2], value; /* taken 0, 0: the place is free */
};

struct taken {
    struct mark *call;
    struct value before;
};

struct search {
    const struct sim_reg_op *ops;
    size_t n;
    struct mark head, *marks;
    struct taken *stack;
    size_t depth, left; /* left: returns in the list */
    struct value value;
    uint64_t taken[2]; /* of the set of operations that were taken */
    struct config *seen;
    size_t nseen, cap;
};

/* ---- the value ---- */

static uint64_t fold(uint64_t h, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) h = (h ^ s.p[i]) * 0x100000001b3ull;
    return h;
}

static uint64_t hash_of(struct slice s) { return fold(0xcbf29ce484222325ull, s); }

static struct value of(struct slice s) { return (struct value){true, hash_of(s)}; }

/* Would it have answered what it answered? Then *v is the value afterwards. Unanswered: whatever it does, or nothing. */
static bool explains(const struct sim_reg_op *op, struct value *v)
{
    bool answered = op->returned != UINT64_MAX, matches;
    switch (op->kind) {
    case SIM_REG_GET:
        return !answered || (op->ok ? v->there && v->hash == hash_of(op->value) : !v->there);
    case SIM_REG_PUT:
        *v = of(op->value);
        return true;
    case SIM_REG_APPEND:
        *v = (struct value){true, v->there ? fold(v->hash, op->value) : hash_of(op->value)};
        return true;
    case SIM_REG_DELETE:
        if (answered && op->ok != v->there) return false;
        v->there = false;
        return true;
    case SIM_REG_CAS:
        matches = op->absent ? !v->there : v->there && v->hash == hash_of(op->expected);
        if (answered && op->ok != matches) return false;
        if (matches) *v = of(op->value);
        return true;
    }
    return false;
}

/* ---- configurations that were seen ---- */

static struct config *place(const struct config *v, size_t cap, const struct config *c)
{
    size_t i = hash_mix(c->taken[0] + c->value) & (cap - 1);
    while ((v[i].taken[0] || v[i].taken[1]) && memcmp(&v[i], c, sizeof *c) != 0) i = (i + 1) & (cap - 1);
    return (struct config *)&v[i];
}

static void grow(struct search *s)
{
    size_t cap = s->cap ? s->cap * 2 : 1024;
    struct config *v = xcalloc(cap, sizeof *v);
    for (size_t i = 0; i < s->cap; i++)
        if (s->seen[i].taken[0] || s->seen[i].taken[1]) *place(v, cap, &s->seen[i]) = s->seen[i];
    free(s->seen);
    s->seen = v;
    s->cap = cap;
}

/* False: it was there already. */
static bool remember(struct search *s, const struct config *c)
{
    if (2 * s->nseen >= s->cap) grow(s);
    struct config *at = place(s->seen, s->cap, c);
    if (at->taken[0] || at->taken[1]) return false;
    *at = *c;
    s->nseen++;
    return true;
}

static uint64_t mark_of(size_t op, unsigned which) { return hash_mix((uint64_t)op * 2 + which + 1); }

static struct config with(const struct search *s, uint32_t op, struct value v)
{
    struct config c = {.taken = {s->taken[0] ^ mark_of(op, 0), s->taken[1] ^ mark_of(op + s->n, 1)},
                       .value = v.there ? v.hash | 1 : 0};
    return c;
}

/* ---- the list ---- */

static void unlink_mark(struct mark *m)
{
    m->prev->next = m->next;
    if (m->next) m->next->prev = m->prev;
}

static void relink(struct mark *m)
{
    m->prev->next = m;
    if (m->next) m->next->prev = m;
}

static void take(struct search *s, struct mark *call, const struct config *c, struct value v)
{
    s->stack[s->depth++] = (struct taken){call, s->value};
    s->value = v;
    memcpy(s->taken, c->taken, sizeof s->taken);
    unlink_mark(call);
    if (!call->match) return;
    unlink_mark(call->match);
    s->left--;
}

/* The last one taken, back in its place. */
static struct mark *give_back(struct search *s)
{
    struct taken *t = &s->stack[--s->depth];
    struct mark *call = t->call;
    s->value = t->before;
    s->taken[0] ^= mark_of(call->op, 0);
    s->taken[1] ^= mark_of(call->op + s->n, 1);
    if (call->match) {
        relink(call->match);
        s->left++;
    }
    relink(call);
    return call;
}

struct moment {
    uint64_t at;
    uint32_t op;
    bool is_call;
};

/* Calls before returns of the same instant: these overlap. */
static int by_time(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    if (x->is_call != y->is_call) return x->is_call ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static void make_list(struct search *s)
{
    struct moment *m = xcalloc(2 * s->n + 1, sizeof *m);
    struct mark **call = xcalloc(s->n + 1, sizeof(struct mark *)), *last = &s->head;
    size_t count = 0;
    for (size_t i = 0; i < s->n; i++) {
        m[count++] = (struct moment){s->ops[i].invoked, (uint32_t)i, true};
        if (s->ops[i].returned != UINT64_MAX) m[count++] = (struct moment){s->ops[i].returned, (uint32_t)i, false};
    }
    qsort(m, count, sizeof *m, by_time);
    for (size_t i = 0; i < count; i++) {
        struct mark *k = &s->marks[i];
        *k = (struct mark){.prev = last, .op = m[i].op, .is_call = m[i].is_call};
        last->next = k;
        last = k;
        if (k->is_call) {
            call[k->op] = k;
        } else {
            call[k->op]->match = k;
            s->left++;
        }
    }
    free(m);
    free(call);
}

static enum sim_linear search(struct search *s, uint64_t steps_max)
{
    struct mark *m = s->head.next;
    for (uint64_t steps = 0; s->left; steps++) {
        if (steps > steps_max) return SIM_LINEAR_UNDECIDED;
        check(m);
        if (!m->is_call) {
            if (s->depth == 0) return SIM_NOT_LINEAR;
            m = give_back(s)->next;
            continue;
        }
        struct value v = s->value;
        struct config c;
        if (explains(&s->ops[m->op], &v) && (c = with(s, m->op, v), remember(s, &c))) {
            take(s, m, &c, v);
            m = s->head.next;
        } else {
            m = m->next;
        }
    }
    return SIM_LINEAR;
}

enum sim_linear sim_linear_search(const struct sim_reg_op *ops, size_t n, uint64_t steps_max)
{
    struct search s = {.ops = ops, .n = n};
    s.marks = xcalloc(2 * n + 1, sizeof *s.marks);
    s.stack = xcalloc(n + 1, sizeof *s.stack);
    make_list(&s);
    enum sim_linear result = search(&s, steps_max);
    free(s.marks);
    free(s.stack);
    free(s.seen);
    return result;
}

/* ---- histories ---- */

/* What a record means for its key. False: nothing (another kind of operation, or refused without any effect). */
static bool to_reg(const struct sim_record *r, const struct kv_op *op, struct kv_reply *reply, struct sim_reg_op *out)
{
    bool answered = r->returned && r->known;
    *out = (struct sim_reg_op){.invoked = r->invoked, .returned = answered ? r->returned : UINT64_MAX};
    out->ok = r->status >= 0;
    out->value = op->data;
    if (answered && (r->status == -ENOSPC || r->status == QE_BUSY)) return false;
    switch (r->code) {
    case KV_GET:
        out->kind = SIM_REG_GET;
        if (!answered || kv_reply_decode(KV_GET, buf_slice(&r->reply), reply)) return false;
        out->value = reply->data;
        return true;
    case KV_PUT: out->kind = SIM_REG_PUT; return true;
    case KV_APPEND: out->kind = SIM_REG_APPEND; return true;
    case KV_DELETE: out->kind = SIM_REG_DELETE; return true;
    case KV_CAS:
        out->kind = SIM_REG_CAS;
        out->absent = op->flags & 1;
        out->expected = op->name2;
        return true;
    default: return false;
    }
}

struct keyed {
    struct slice key;
    struct sim_reg_op op;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int order = memcmp(x->key.p, y->key.p, x->key.n < y->key.n ? x->key.n : y->key.n);
    if (order) return order;
    if (x->key.n != y->key.n) return x->key.n < y->key.n ? -1 : 1;
    return x->op.invoked < y->op.invoked ? -1 : x->op.invoked > y->op.invoked;
}

static size_t gather(const struct sim_history *h, const char *prefix, struct keyed *out)
{
    size_t n = 0, len = strlen(prefix);
    for (size_t i = 0; i < h->n; i++) {
        struct kv_op op;
        struct kv_reply reply = {0};
        if (kv_op_decode(buf_slice(&h->v[i].op), &op) || op.name.n < len) continue;
        if ((len && memcmp(op.name.p, prefix, len) != 0) || !to_reg(&h->v[i], &op, &reply, &out[n].op)) continue;
        out[n++].key = op.name;
    }
    return n;
}

void sim_check_linear(struct sim_cluster *c, const struct sim_history *h, const char *prefix,
                      struct sim_linear_sums *sums)
{
    struct keyed *all = xcalloc(h->n + 1, sizeof *all);
    struct sim_reg_op *ops = xcalloc(h->n + 1, sizeof *ops);
    size_t n = gather(h, prefix, all);
    qsort(all, n, sizeof *all, by_key);
    for (size_t i = 0, next; i < n; i = next) {
        for (next = i; next < n && slice_eq(all[next].key, all[i].key); next++) ops[next - i] = all[next].op;
        enum sim_linear result = sim_linear_search(ops, next - i, STEPS_MAX);
        sums->keys++;
        sums->operations += next - i;
        sums->undecided += result == SIM_LINEAR_UNDECIDED;
        if (result == SIM_NOT_LINEAR)
            sim_fail(c, "no order of the %zu operations on key %.*s agrees with real time and explains all answers",
                     next - i, (int)all[i].key.n, (const char *)all[i].key.p);
    }
    free(all);
    free(ops);
}
