/* world.h - three servers of kv/ over a shared fake log, and clients of them. */
#ifndef QFS_TESTS_KV_WORLD_H
#define QFS_TESTS_KV_WORLD_H

#include "fake_node.h"
#include "kv/server.h"
#include "rig.h"

#define MS NS_PER_MS
#define S NS_PER_S

extern const char *const ADDR[];        /* by id, from 1 on */

struct world {
    struct fake f;
    struct fake_cluster *c;
    struct kv_server *servers[4];
    unsigned fatals;
};

void up(struct world *w, uint64_t id);
void down(struct world *w, uint64_t id);
struct world *world_new(uint64_t seed);         /* node 1 leads */
void world_free(struct world *w);               /* asserts that nothing was fatal and nothing is left over */
void assert_replicas_equal(struct world *w);
struct kv_client *client(struct world *w, uint64_t seed, bool mount);

/* One call, to its end. */
struct sync {
    struct kv_call call;
    bool done;
    struct kv_reply reply;
    struct buf data;
};

void start(struct kv_client *c, struct sync *s, struct kv_op op);
bool sync_is_done(void *arg);
int32_t call(struct world *w, struct kv_client *c, struct sync *s, struct kv_op op);

struct kv_op op_put(const char *key, const char *text);
struct kv_op op_append(const char *key, const char *text);
struct kv_op op_get(const char *key);

#endif
