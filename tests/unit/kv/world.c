/* world.c - see world.h. */
#include "world.h"

const char *const ADDR[] = {"", "n1", "n2", "n3"};

static void on_fatal(void *arg, int err, const char *text)
{
    print_error("fatal: %d %s\n", err, text);
    ((struct world *)arg)->fatals++;
}

void up(struct world *w, uint64_t id)
{
    struct kv_server_config cfg = {.listen = ADDR[id], .fatal = on_fatal, .fatal_arg = w};
    cfg.node.id = id;
    cfg.node.nmembers = 3;
    for (uint64_t i = 1; i <= 3; i++) {
        cfg.node.members[i - 1].id = i;
        memcpy(cfg.node.members[i - 1].addr, ADDR[i], 3);
    }
    struct buf why = {0};
    assert_int_equal(kv_server_new(NULL, &w->f.net, &w->f.clock, &cfg, &w->servers[id], &why), 0);
    buf_free(&why);
}

void down(struct world *w, uint64_t id)
{
    fake_listener(&w->f, ADDR[id])->up = false;
    kv_server_free(w->servers[id]);
    w->servers[id] = NULL;
}

struct world *world_new(uint64_t seed)
{
    struct world *w = xcalloc(1, sizeof *w);
    fake_init(&w->f, seed);
    w->c = fake_cluster_new(&w->f);
    for (uint64_t id = 1; id <= 3; id++) up(w, id);
    fake_run(&w->f, 10 * MS);
    fake_lead(w->c, 1, 0, 0);
    fake_run(&w->f, 10 * MS);
    return w;
}

void world_free(struct world *w)
{
    assert_int_equal(w->fatals, 0);
    for (uint64_t id = 1; id <= 3; id++)
        if (w->servers[id]) down(w, id);
    fake_run(&w->f, 5 * S);
    fake_free(&w->f);
    fake_cluster_free(w->c);
    free(w);
}

void assert_replicas_equal(struct world *w)
{
    fake_run(&w->f, 100 * MS);
    uint64_t d = omap_digest(kv_server_map(w->servers[1]));
    for (uint64_t id = 2; id <= 3; id++) {
        assert_int_equal(fake_applied(w->c, id), fake_applied(w->c, 1));
        assert_int_equal(omap_digest(kv_server_map(w->servers[id])), d);
    }
    struct buf why = {0};
    assert_int_equal(fs_check(&w->servers[1]->store->fs, &why), 0);
    buf_free(&why);
}

struct kv_client *client(struct world *w, uint64_t seed, bool mount)
{
    struct kv_client_config cfg = {.addrs = ADDR + 1, .naddrs = 3, .name = "test client", .mount = mount, .seed = seed};
    return kv_client_new(&w->f.net, &w->f.clock, &cfg);
}

/* ---- one call, to its end ---- */

static void sync_done(struct kv_call *call, const struct kv_reply *reply)
{
    struct sync *s = call->arg;
    assert_false(s->done);
    s->done = true;
    s->reply = *reply;
    buf_clear(&s->data);
    put_bytes(&s->data, reply->data);
    s->reply.data = buf_slice(&s->data);
}

bool sync_is_done(void *arg) { return ((struct sync *)arg)->done; }

void start(struct kv_client *c, struct sync *s, struct kv_op op)
{
    s->done = false;
    s->call = (struct kv_call){.op = op, .done = sync_done, .arg = s};
    kv_call(c, &s->call);
    assert_false(s->done);
}

int32_t call(struct world *w, struct kv_client *c, struct sync *s, struct kv_op op)
{
    start(c, s, op);
    assert_true(fake_until(&w->f, sync_is_done, s, 20 * S));
    return s->reply.status;
}

struct kv_op op_put(const char *key, const char *text)
{
    return (struct kv_op){.code = KV_PUT, .name = slice_str(key), .data = slice_str(text)};
}

struct kv_op op_append(const char *key, const char *text)
{
    return (struct kv_op){.code = KV_APPEND, .name = slice_str(key), .data = slice_str(text)};
}

struct kv_op op_get(const char *key) { return (struct kv_op){.code = KV_GET, .name = slice_str(key)}; }
