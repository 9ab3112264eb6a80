/* workload.c - random operations on a small world of names, so that clients get in each other's way: a few keys, a few
 * append-only keys, directories and files whose inodes all clients know of each other (and which may be gone). */
#include "tests/sim/workload.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/sim/check_history.h"
#include "tests/sim/story.h"
#include "tests/sim/watchers.h"

#define CLIENTS_MAX 24u
#define WIDTH_MAX   8u
#define INOS        48u
#define KEYS        12u
#define LOGS        3u

struct call {
    struct kv_call call;
    struct client *client;
    size_t record;
    bool busy;
    struct buf name, name2, data;
    struct buf value[2], request; /* of a transaction */
};

struct client {
    struct sim_load *load;
    unsigned at, life;
    struct kv_client *kv;
    struct call calls[WIDTH_MAX];
    struct timer think;
    uint64_t tokens; /* appended in this life */
    uint64_t left;   /* operations to do; UINT64_MAX: no end */
    uint64_t owed[8];
    unsigned nowed;
    bool owes, mount;
};

struct sim_load {
    struct sim_cluster *cluster;
    struct sim_load_options opt;
    struct prng rng;
    struct client clients[CLIENTS_MAX];
    struct sim_history history;
    struct sim_watches watches;
    uint64_t inos[INOS]; /* files and directories seen lately */
    uint64_t dirs[8];
    uint64_t answered;
    struct trace trace;
};

/* ---- arguments ---- */

__attribute__((format(printf, 2, 3))) static struct slice text(struct buf *b, const char *fmt, ...)
{
    char s[64];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    buf_clear(b);
    buf_append(b, s, (size_t)n);
    return buf_slice(b);
}

static uint64_t any_ino(struct sim_load *l)
{
    uint64_t ino = l->inos[prng_below(&l->rng, INOS)];
    return ino ? ino : FS_ROOT_INO;
}

static uint64_t any_dir(struct sim_load *l)
{
    uint64_t ino = l->dirs[prng_below(&l->rng, 8)];
    return ino ? ino : FS_ROOT_INO;
}

static struct slice any_name(struct sim_load *l, struct buf *b)
{
    return text(b, "n%u", (unsigned)prng_below(&l->rng, 8));
}
static struct slice any_key(struct sim_load *l, struct buf *b)
{
    unsigned k = (unsigned)prng_below(&l->rng, KEYS);
    return text(b, k % 3 ? "k%u" : "d/k%u", k);
}

static struct slice any_bytes(struct sim_load *l, struct buf *b, const char *tag)
{
    size_t n = prng_chance(&l->rng, l->opt.big_percent) ? prng_below(&l->rng, 24 * KIB) : prng_below(&l->rng, 300);
    uint64_t x = prng_u64(&l->rng);
    buf_clear(b);
    buf_append(b, tag, strlen(tag));
    uint8_t *p = buf_extend(b, n);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(x = x * 6364136223846793005ull + 1442695040888963407ull, x >> 56);
    return buf_slice(b);
}

/* ---- operations ---- */

/* What some earlier put wrote: now and then that is what is there. */
static struct slice likely_value(struct sim_load *l, struct slice key, struct buf *b)
{
    buf_clear(b);
    for (unsigned tries = 0; tries < 40 && l->history.n; tries++) {
        const struct sim_record *r = &l->history.v[l->history.n - 1 - prng_below(&l->rng, min_u64(l->history.n, 60))];
        struct kv_op old;
        if (r->code != KV_PUT || kv_op_decode(buf_slice(&r->op), &old) || !slice_eq(old.name, key)) continue;
        put_bytes(b, old.data);
        break;
    }
    return buf_slice(b);
}

static void add_step(struct kv_txn *t, enum kv_txn_branch b, enum kv_code code, struct slice key, struct slice value)
{
    t->steps[b][t->nsteps[b]++] = (struct kv_step){.code = code, .key = key, .value = value};
}

/* On two keys: op->name and another one. */
static void transaction(struct sim_load *l, struct call *call, struct kv_op *op)
{
    static struct kv_txn t;
    struct slice a = op->name, b = any_key(l, &call->name2);
    memset(&t, 0, sizeof t);
    for (unsigned i = (unsigned)prng_below(&l->rng, 3); i > 0; i--) {
        struct kv_cond *c = &t.conds[t.nconds++];
        c->kind = (enum kv_cond_kind)prng_between(&l->rng, KV_IF_ABSENT, KV_IF_VALUE);
        c->key = i == 2 ? b : a;
        if (c->kind == KV_IF_VALUE) c->value = likely_value(l, c->key, &call->value[i - 1]);
    }
    struct slice value = op->data;
    add_step(&t, KV_TXN_THEN, KV_PUT, a, value);
    if (prng_chance(&l->rng, 50)) add_step(&t, KV_TXN_THEN, KV_GET, b, (struct slice){0});
    if (prng_chance(&l->rng, 50)) add_step(&t, KV_TXN_THEN, prng_chance(&l->rng, 50) ? KV_PUT : KV_APPEND, b, value);
    if (prng_chance(&l->rng, 30)) add_step(&t, KV_TXN_THEN, KV_DELETE, prng_chance(&l->rng, 50) ? a : b, (struct slice){0});
    if (prng_chance(&l->rng, 10)) add_step(&t, KV_TXN_THEN, KV_PUT, slice_str("d"), value); /* mostly a directory */
    add_step(&t, KV_TXN_OTHERWISE, KV_GET, a, (struct slice){0});
    if (prng_chance(&l->rng, 50)) add_step(&t, KV_TXN_OTHERWISE, KV_APPEND, b, slice_str("else"));
    buf_clear(&call->request);
    check(kv_txn_encode(&t, &call->request) == 0);
    *op = (struct kv_op){.code = KV_TXN, .data = buf_slice(&call->request)};
}

static void kv_operation(struct client *c, struct call *call, struct kv_op *op)
{
    struct sim_load *l = c->load;
    char tag[48];
    snprintf(tag, sizeof tag, "<%u.%u.%zu>", c->at, c->life, l->history.n);
    bool read = prng_chance(&l->rng, l->opt.read_percent);
    op->name = any_key(l, &call->name);
    if (read) {
        op->code = prng_chance(&l->rng, 80) ? KV_GET : KV_LIST;
        if (prng_chance(&l->rng, 30))
            op->name = text(&call->name, SIM_APPEND_ONLY "%u", (unsigned)prng_below(&l->rng, LOGS));
        if (op->code == KV_LIST) {
            op->name = slice_str(prng_chance(&l->rng, 50) ? "" : "d/");
            op->len = prng_between(&l->rng, 1, 20);
        }
        return;
    }
    unsigned what = (unsigned)prng_below(&l->rng, 100);
    if (what < 35) {
        op->code = KV_APPEND;
        op->name = text(&call->name, SIM_APPEND_ONLY "%u", (unsigned)prng_below(&l->rng, LOGS));
        op->data = text(&call->data, " %u.%u.%llu ", c->at, c->life, (unsigned long long)c->tokens++);
        return;
    }
    op->data = any_bytes(l, &call->data, tag);
    if (what >= 92 && !l->opt.single_keys) {
        transaction(l, call, op);
        return;
    }
    op->code = what < 60 ? KV_PUT : what < 75 ? KV_APPEND : what < 82 ? KV_DELETE : KV_CAS;
    if (op->code != KV_CAS) return;
    op->flags = prng_chance(&l->rng, 30);
    if (!op->flags) op->name2 = likely_value(l, op->name, &call->name2);
}

static void fs_query(struct client *c, struct call *call, struct kv_op *op)
{
    struct sim_load *l = c->load;
    static const enum kv_code codes[] = {KV_LOOKUP,  KV_GETATTR,  KV_READ,      KV_READ,
                                         KV_READDIR, KV_GETXATTR, KV_LISTXATTR, KV_SEEK};
    op->code = codes[prng_below(&l->rng, 8)];
    op->ino = op->code == KV_LOOKUP || op->code == KV_READDIR ? any_dir(l) : any_ino(l);
    op->name = op->code == KV_GETXATTR ? slice_str("user.x") : any_name(l, &call->name);
    if (op->code == KV_READDIR) op->name = slice_str("");
    op->off = op->code == KV_READ || op->code == KV_SEEK ? prng_below(&l->rng, 30000) * prng_below(&l->rng, 2) : 0;
    op->len = 64 * KIB;
}

static void fs_change(struct client *c, struct call *call, struct kv_op *op)
{
    struct sim_load *l = c->load;
    unsigned what = (unsigned)prng_below(&l->rng, 100);
    op->ino = any_dir(l);
    op->name = any_name(l, &call->name);
    op->uid = 1000 + c->at;
    op->gid = 1000;
    if (what < 12) {
        op->code = KV_MKNOD;
        op->mode = (prng_chance(&l->rng, 70) ? S_IFDIR : S_IFREG) | 0755;
    } else if (what < 30) {
        op->code = KV_CREATE;
        op->mode = S_IFREG | 0644;
        op->flags = prng_chance(&l->rng, 30);
    } else if (what < 36) {
        op->code = KV_LINK;
        op->ino = any_ino(l);
        op->ino2 = any_dir(l);
    } else if (what < 44) {
        op->code = KV_UNLINK;
        op->flags = c->mount && prng_chance(&l->rng, 50);
    } else if (what < 47) {
        op->code = KV_RMDIR;
    } else if (what < 57) {
        op->code = KV_RENAME;
        op->ino2 = any_dir(l);
        op->name2 = text(&call->name2, "n%u", (unsigned)prng_below(&l->rng, 8));
        op->flags = (uint32_t)prng_below(&l->rng, 3);
    } else if (what < 63) {
        op->code = KV_SETATTR;
        op->ino = any_ino(l);
        op->flags = prng_chance(&l->rng, 70) ? FS_SET_SIZE : FS_SET_MODE | FS_SET_MTIME_NOW;
        op->len = prng_below(&l->rng, 20000);
        op->mode = 0600;
    } else if (what < 90) {
        op->code = KV_WRITE;
        op->ino = any_ino(l);
        op->flags = prng_chance(&l->rng, 30);
        op->off = prng_below(&l->rng, 20000) * prng_below(&l->rng, 2);
        op->data = any_bytes(l, &call->data, "w");
    } else if (what < 94) {
        op->code = KV_COPY_RANGE;
        op->ino = any_ino(l);
        op->ino2 = any_ino(l);
        op->off = prng_below(&l->rng, 5000);
        op->off2 = prng_below(&l->rng, 5000);
        op->len = prng_below(&l->rng, 10000);
    } else if (what < 97) {
        op->code = KV_FALLOCATE;
        op->ino = any_ino(l);
        op->flags = prng_chance(&l->rng, 50) ? 3 : 0;
        op->off = prng_below(&l->rng, 10000);
        op->len = prng_between(&l->rng, 1, 8000);
    } else {
        op->code = KV_SETXATTR;
        op->ino = any_ino(l);
        op->name = slice_str("user.x");
        op->data = text(&call->data, "%u", (unsigned)prng_below(&l->rng, 1000));
    }
}

/* ---- calls ---- */

static void pump(struct client *c);

/* Under which number the change went out, if it did. */
static void note_number(const struct call *call)
{
    struct sim_record *r = &call->client->load->history.v[call->record];
    r->session = call->call.session;
    r->seq = call->call.seq;
}

static void note_numbers(const struct client *c)
{
    for (unsigned i = 0; i < WIDTH_MAX; i++)
        if (c->calls[i].busy) note_number(&c->calls[i]);
}

/* The append-only files are not among those that anybody may write to. */
static void learn(struct sim_load *l, const struct sim_record *r, const struct kv_reply *reply)
{
    uint64_t ino = reply->attr.ino;
    struct kv_op op;
    if (reply->status < 0 || !ino || kv_op_decode(buf_slice(&r->op), &op)) return;
    if (op.name.n >= strlen(SIM_APPEND_ONLY) && memcmp(op.name.p, SIM_APPEND_ONLY, strlen(SIM_APPEND_ONLY)) == 0)
        return;
    if (S_ISDIR(reply->attr.mode))
        l->dirs[prng_below(&l->rng, 8)] = ino;
    else
        l->inos[prng_below(&l->rng, INOS)] = ino;
}

static void done(struct kv_call *kc, const struct kv_reply *reply)
{
    struct call *call = kc->arg;
    struct client *c = call->client;
    struct sim_load *l = c->load;
    struct sim_record *r = &l->history.v[call->record];
    note_number(call);
    call->busy = false;
    l->answered++;
    r->returned = sim_now(l->cluster->world);
    r->status = reply->status;
    r->index = reply->index;
    r->known = reply->status != QE_SESSION;
    kv_reply_encode(r->code, reply, &r->reply);
    sim_story_answered(l->cluster, r, reply);
    learn(l, r, reply);
    if (r->code == KV_OWED && reply->status >= 0) {
        struct reader in = reader_of(reply->data);
        for (c->nowed = 0; c->nowed < 8 && reader_left(&in) >= 8;) c->owed[c->nowed++] = get_u64(&in);
    }
    uint64_t think = c->load->opt.think_ms ? prng_below(&l->rng, c->load->opt.think_ms * NS_PER_MS) : 0;
    clock_arm(sim_clock(l->cluster->world, SIM_CLIENT_PROC + c->at), &c->think,
              clock_now(sim_clock(l->cluster->world, SIM_CLIENT_PROC + c->at)) + think);
}

/* A mount that owes answers for nameless files asks which, and lets them go. */
static bool owed_operation(struct client *c, struct call *call, struct kv_op *op)
{
    if (c->nowed) {
        buf_clear(&call->data);
        for (unsigned i = 0; i < c->nowed; i++) put_u64(&call->data, c->owed[i]);
        c->nowed = 0;
        *op = (struct kv_op){.code = KV_RELEASE, .data = buf_slice(&call->data)};
        return true;
    }
    if (!c->owes) return false;
    c->owes = false;
    *op = (struct kv_op){.code = KV_OWED, .off = kv_client_session(c->kv)};
    return true;
}

static void begin(struct client *c, struct call *call)
{
    struct sim_load *l = c->load;
    struct kv_op op = {0};
    if (!owed_operation(c, call, &op)) {
        if (!prng_chance(&l->rng, l->opt.fs_percent))
            kv_operation(c, call, &op);
        else if (prng_chance(&l->rng, l->opt.read_percent))
            fs_query(c, call, &op);
        else
            fs_change(c, call, &op);
        if (c->left != UINT64_MAX) c->left--;
    }
    call->record = l->history.n;
    struct sim_record *r = sim_history_add(&l->history);
    r->client = c->at;
    r->life = c->life;
    r->code = op.code;
    r->change = kv_is_change(op.code);
    r->invoked = sim_now(l->cluster->world);
    kv_op_encode(&op, &r->op, NULL);
    sim_story_asked(l->cluster, r, &op);
    call->busy = true;
    call->call = (struct kv_call){.op = op, .done = done, .arg = call};
    kv_call(c->kv, &call->call);
}

static void pump(struct client *c)
{
    for (unsigned i = 0; i < c->load->opt.width; i++)
        if (!c->calls[i].busy && (c->left || c->nowed || c->owes)) begin(c, &c->calls[i]);
}

static void think_over(struct timer *t) { pump(t->arg); }
static void on_owed(void *arg) { ((struct client *)arg)->owes = true; }
static void on_lost(void *arg) { ((struct client *)arg)->nowed = 0; }

/* ---- life ---- */

static void client_line(void *arg, enum trace_level level, const char *line)
{
    struct client *c = arg;
    sim_say(c->load->cluster, "client %u: %s", c->at, line);
}

static void client_start(struct client *c)
{
    struct sim_load *l = c->load;
    struct sim_cluster *cl = l->cluster;
    static struct trace traces[CLIENTS_MAX];
    const char *addrs[SIM_SERVERS_MAX];
    char name[32];
    for (unsigned i = 0; i < cl->opt.n; i++) addrs[i] = cl->servers[i].addr;
    snprintf(name, sizeof name, "client %u.%u", c->at, c->life);
    traces[c->at] = (struct trace){
        .level = cl->servers[0].trace.level == TRACE_DEBUG ? TRACE_DEBUG : TRACE_WARN, .line = client_line, .arg = c};
    c->mount = l->opt.mounts && c->at % 2;
    struct kv_client_config cfg = {.addrs = addrs,
                                   .naddrs = cl->opt.n,
                                   .name = name,
                                   .mount = c->mount,
                                   .ttl_ms = l->opt.ttl_ms,
                                   .seed = prng_u64(&l->rng),
                                   .trace = &traces[c->at],
                                   .owed = on_owed,
                                   .session_lost = on_lost,
                                   .arg = c};
    unsigned proc = SIM_CLIENT_PROC + c->at;
    c->kv = kv_client_new(sim_net_door(cl->net, proc), sim_clock(cl->world, proc), &cfg);
    c->think = (struct timer){.fire = think_over, .arg = c};
    c->tokens = 0;
    c->owes = false;
    c->nowed = 0;
    for (unsigned i = 0; i < WIDTH_MAX; i++) {
        c->calls[i].client = c;
        c->calls[i].busy = false;
    }
    clock_arm(sim_clock(cl->world, proc), &c->think, 0);
    sim_watch_start(&l->watches, cl, c->kv, c->at, prng_u64(&l->rng));
}

struct sim_load *sim_load_new(struct sim_cluster *c, const struct sim_load_options *opt)
{
    struct sim_load *l = xcalloc(1, sizeof *l);
    check(opt->clients <= CLIENTS_MAX && opt->width <= WIDTH_MAX);
    l->cluster = c;
    l->opt = *opt;
    prng_seed(&l->rng, prng_u64(&c->rng));
    for (unsigned i = 0; i < opt->clients; i++) {
        l->clients[i] = (struct client){.load = l, .at = i, .life = 1, .left = UINT64_MAX};
        client_start(&l->clients[i]);
    }
    return l;
}

void sim_load_kill(struct sim_load *l, unsigned client)
{
    struct client *c = &l->clients[client];
    sim_say(l->cluster, "client %u is killed", client);
    sim_kill(l->cluster->world, SIM_CLIENT_PROC + client);
    note_numbers(c);
    sim_watch_dead(&l->watches, client);
    kv_client_free(c->kv);
    sim_start(l->cluster->world, SIM_CLIENT_PROC + client);
    c->life++;
    client_start(c);
}

void sim_load_finish(struct sim_load *l, unsigned more)
{
    for (unsigned i = 0; i < l->opt.clients; i++) {
        struct client *c = &l->clients[i];
        struct clock *clock = sim_clock(l->cluster->world, SIM_CLIENT_PROC + i);
        c->left = more;
        clock_arm(clock, &c->think, 0);
    }
}

bool sim_load_idle(const struct sim_load *l)
{
    for (unsigned i = 0; i < l->opt.clients; i++) {
        const struct client *c = &l->clients[i];
        if (c->left) return false;
        for (unsigned k = 0; k < l->opt.width; k++)
            if (c->calls[k].busy) return false;
    }
    return true;
}

unsigned sim_load_clients(const struct sim_load *l) { return l->opt.clients; }
uint64_t sim_load_asked(const struct sim_load *l) { return l->history.n; }
uint64_t sim_load_answered(const struct sim_load *l) { return l->answered; }
const struct sim_history *sim_load_history(const struct sim_load *l)
{
    for (unsigned i = 0; i < l->opt.clients; i++) note_numbers(&l->clients[i]);
    return &l->history;
}
const struct sim_watches *sim_load_watches(const struct sim_load *l) { return &l->watches; }

void sim_load_free(struct sim_load *l)
{
    for (unsigned i = 0; i < l->opt.clients; i++) {
        struct client *c = &l->clients[i];
        sim_kill(l->cluster->world, SIM_CLIENT_PROC + i);
        kv_client_free(c->kv);
        for (unsigned k = 0; k < WIDTH_MAX; k++) {
            buf_free(&c->calls[k].name);
            buf_free(&c->calls[k].name2);
            buf_free(&c->calls[k].data);
            buf_free(&c->calls[k].value[0]);
            buf_free(&c->calls[k].value[1]);
            buf_free(&c->calls[k].request);
        }
    }
    sim_watches_free(&l->watches);
    for (size_t i = 0; i < l->history.n; i++) {
        buf_free(&l->history.v[i].op);
        buf_free(&l->history.v[i].reply);
    }
    free(l->history.v);
    free(l);
}
