/* client.h - what the files of the client share: client.c (calls, the session, life), client_watch.c (watches) and
 * client_conn.c (finding the leader, the connection, frames). Private to kv/ and its tests. */
#ifndef QFS_KV_CLIENT_H
#define QFS_KV_CLIENT_H

#include "kv/wire.h"

#define KV_ADDRS_MAX 32u
#define KV_DIAL_NS (1 * NS_PER_S)           /* until a connection is up and greeted */
#define KV_SILENCE_NS (1 * NS_PER_S)        /* with calls waiting: then a ping, and after as long again another node */
#define KV_IDLE_NS (5 * NS_PER_S)           /* silence before a ping where only watches wait */
#define KV_PATIENCE_NS (15 * NS_PER_S)      /* a call unanswered for so long, though pings are: connect anew */
#define KV_PATIENCE_MAX_NS (240 * NS_PER_S) /* it doubles each time, until nothing is in flight any more */
#define KV_CLIENT_SEND_HIGH (8u * MIB)      /* unsent bytes beyond which calls stay in the queue */
#define KV_CLIENT_FREE_MAX 64u              /* call records kept for reuse */
#define KV_CLIENT_FREE_BYTES 4096u          /* their buffers, at most */

/* One call under way. id = its slot and a generation, so that an answer that comes late finds nothing. */
struct kv__ccall {
    struct list link;                       /* a lane's queue or flight, client.dying, client.failed or client.free */
    struct kv_client *client;
    struct kv_call *user;
    uint64_t id, seq;                       /* seq 0: not numbered (yet) */
    bool sent, change;                      /* change: takes a number of the session */
    enum kv_code code;
    int err;                                /* in client.failed: its answer */
    uint64_t sent_at;
    struct buf op;
    struct timer deadline;
};

/* A watch. id: never used twice by this client. */
struct kv__cwatch {
    struct list link;                       /* client.watches or client.ending */
    struct kv_client *client;
    struct kv_watch *user;
    uint64_t id;
    bool sent;
    int err;                                /* in client.ending: the reason */
    struct buf key;
};

/* Calls in order: first those that are sent and not answered, then those to be sent. */
struct kv__lane {
    struct list flight, queue;
};

enum kv__link_state {
    LINK_IDLE,                              /* nothing to do */
    LINK_WAIT,                              /* until the next try */
    LINK_DIAL,                              /* connecting and greeting */
    LINK_READY,
};

struct kv_client {
    struct net *net;
    struct clock *clock;
    const struct trace *trace;
    struct kv_client_config config;
    char name[256];
    struct prng rng;

    /* the cluster as far as known */
    struct raft_member addrs[KV_ADDRS_MAX]; /* id 0: not known yet */
    uint32_t naddrs, at;
    uint64_t cluster;
    char hint[ADDR_MAX];                    /* where the leader is said to be; empty: unknown */

    /* the connection */
    enum kv__link_state state;
    struct conn *conn;
    char target[ADDR_MAX];
    uint64_t node;                          /* whom we are connected to */
    uint32_t tries, waits;                  /* since the last answer: connections that were of no use, waits */
    uint32_t hops;                          /* redirects followed since the last wait */
    char refusal[ADDR_MAX + 256];           /* what the last node that refused said; empty since the last answer */
    char unreached[ADDR_MAX];               /* the last that could not be reached or did not answer */
    struct timer retry;                     /* LINK_WAIT: try; LINK_DIAL: give up */
    struct timer watch;
    bool watching;                          /* the timer watch runs */
    bool lazy;                              /* only for watches: at KV_IDLE_NS */
    uint64_t heard, pinged;                 /* last frame; last ping since then, 0: none */
    uint64_t patience;

    /* calls */
    struct kv__ccall **slots;
    uint32_t nslots, free_slot_n;
    uint32_t *free_slots;
    uint32_t generation;
    struct kv__lane free_lane;              /* calls without a number: queries, and the opening of the session */
    struct kv__lane lane;                   /* changes: numbered, in order */
    struct list dying, failed, free;
    uint32_t nfree;
    struct timer turn;
    struct buf out;

    struct list watches, ending;
    uint64_t next_watch;

    /* the session */
    uint64_t session, next_seq;
    bool opening, keeping;
    struct kv_call open_call, keep_call, close_call;
    struct timer keep;
    uint64_t last_change;                   /* when a change was sent last */

    /* the end */
    bool closing, close_sent, closed;
    struct timer close_timer;
    void (*close_done)(void *arg);
    void *close_arg;
    unsigned depth;                         /* callbacks of the user that we are inside of */
    bool dead;                              /* freed from inside one */
};

/* client.c */
void kv__client_pump(struct kv_client *c);                  /* sends what can be sent */
void kv__client_unsent(struct kv_client *c);                /* the connection is gone: all in flight is unsent again */
bool kv__client_wants(const struct kv_client *c);           /* does any call wait for an answer? */
void kv__client_reply(struct kv_client *c, struct slice payload);
void kv__client_enter(struct kv_client *c);
void kv__client_leave(struct kv_client *c);                 /* c may be gone afterwards */
uint64_t kv__client_floor(const struct kv_client *c);
/* client_watch.c */
void kv__watch_send(struct kv_client *c);                   /* those that are not with this server */
void kv__watch_unsent(struct kv_client *c);
void kv__watch_events(struct kv_client *c, struct slice payload);
void kv__watch_ended(struct kv_client *c, struct slice payload);
void kv__watch_end_all(struct kv_client *c, int err);
void kv__watch_end_some(struct kv_client *c);               /* those in client.ending, from the loop */
void kv__watch_free_all(struct kv_client *c);               /* without a word */
/* client_conn.c */
void kv__link_init(struct kv_client *c);
void kv__link_want(struct kv_client *c);                    /* calls wait: see to it that there is a connection */
void kv__link_sent(struct kv_client *c);                    /* an answer is waited for from now on */
void kv__link_retry_later(struct kv_client *c);             /* drops the connection and tries again after a while */
void kv__link_close(struct kv_client *c);

#endif
