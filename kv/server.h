/* server.h - what the files of the server share: server.c (life, the node's callbacks, time), serve.c (connections
 * and frames), flow.c (how much of them), propose.c (changes on their way through the log), answer.c (queries), cas.c,
 * txn_leader.c, watch.c, admin.c (changes of the cluster), status.c. Private to kv/.
 *
 * Ownership: a kv__conn lives while its connection is open or calls of it are under way (refs). A kv__query lives
 * from its arrival to its answer; a kv__pending from the first change put into it until its entry is applied or known
 * to be lost. */
#ifndef QFS_KV_SERVER_H
#define QFS_KV_SERVER_H

#include "kv/txn.h"

#define KV_STRANGER_NS (5 * NS_PER_S)
#define KV_ENTRY_BYTES (1u * MIB)           /* a batch takes no more changes beyond it */
#define KV_CONN_CALLS 2048u                 /* calls of one connection under way before it is paused */
#define KV_CONN_BYTES (16u * MIB)           /* their bytes; also answers being gathered */
#define KV_CONN_SEND_HIGH (4u * MIB)        /* unsent answers beyond which no query is executed */
#define KV_UNREAD_NS (30 * NS_PER_S)        /* with that much unsent and nothing taken for so long it does not read */
#define KV_WRITES_BYTES (128u * MIB)        /* changes of all connections under way before they are paused */
#define KV_READS_BYTES (256u * MIB)         /* answers of all connections being gathered */
#define KV_UNSENT_BYTES (256u * MIB)        /* unsent answers of all connections beyond which only small ones go out */
#define KV_SMALL_ANSWER (64u * 1024)
#define KV_PROVEN_BYTES (16u * MIB)         /* more than what the system may buffer for one that does not read */
#define KV_TURN_BYTES (2u * MIB)            /* larger answers that one turn makes */
#define KV_WATCHES_MAX 16384u               /* of all connections */
#define KV_CONN_WATCHES 256u                /* of one */
#define KV_WATCH_SEND_HIGH (64u * 1024)     /* unsent bytes of a connection beyond which no event is put there */
#define KV_TICK_NS (1 * NS_PER_S)
#define KV_EXPIRE_MAX 256u                  /* sessions whose end is proposed at one tick */
#define KV_QUERY_INLINE 512u                /* operation bytes of a query that is kept for reuse */
#define KV_READ_TRIES 4u
#define KV_LOST_MAX 64u

struct kv__conn {
    struct list link;                       /* server.conns */
    struct kv_server *server;
    struct conn *conn;                      /* NULL: closed */
    bool client;                            /* it said HELLO, or asked for a change of the cluster */
    bool greeted;                           /* it said HELLO */
    bool paused;
    bool away;                              /* a call of it was sent away, so all others are */
    uint32_t refs;                          /* 1 while open, 1 for each call under way */
    uint32_t calls;
    size_t bytes;                           /* of the operations of calls under way */
    size_t unsent;                          /* as counted in server.unsent_bytes */
    size_t busy;                            /* bytes of answers being gathered */
    struct list held;                       /* queries that wait for room */
    struct list watches, watch_link;        /* server.watching, if there are watches */
    uint32_t nwatches;
    bool releasing;
    uint64_t since, session;
    uint64_t offered, taken, taken_at;      /* bytes sent; bytes gone to the kernel, and when that last rose */
};

/* A query; or a compare-and-set or transaction, which may have to be compared here before it is proposed (again). */
struct kv__query {
    struct list link;                       /* server.queries (under way), conn.held or server.free_queries */
    struct kv_server *server;
    struct kv__conn *conn;
    struct kv__call call;
    struct kv_op op;                        /* borrows from bytes */
    struct node_read read;
    struct kv__result res;                  /* while payload is being read */
    struct log_read *reads;
    uint32_t reading;
    int read_err;
    uint32_t read_bad;                      /* the piece that it is about */
    unsigned tries;
    bool applied;                           /* a transaction whose draft is in `kept`; only bytes are missing */
    struct buf kept;                        /* of a transaction: what was looked at, later the draft */
    size_t cost, want;                      /* as counted in busy, 0: not started; the answer's size if known */
    size_t nbytes;
    uint8_t bytes[];
};

/* Who waits for a record of a batch. */
struct kv__waiter {
    struct kv__conn *conn;                  /* NULL: nobody */
    uint64_t id;
    enum kv_code code;
    uint32_t bytes;
    struct kv__query *cas;                  /* of CAS and TXN: kept in case it comes back undecided */
};

/* A batch: being filled or waiting to be proposed (server.queue), or proposed (server.inflight). */
struct kv__pending {
    struct list link;
    struct kv__batch batch;
    uint64_t index, term;
    struct kv__waiter *waiters;
    uint32_t n, cap;
};

/* Bytes off .. end of a file, of which no member has some any more, as far as this node knows. They are of entries up to
 * `index`: what was written there later is no matter of this. */
struct kv__lost_part {
    uint64_t ino, off, end, index;
};
struct kv__lost {
    struct kv__lost_part v[KV_LOST_MAX];
    uint32_t n, next;                       /* next: the one to be read again */
    bool more;                              /* there was no room for some */
    uint64_t ask_at;                        /* when they are all read again */
    struct kv__lost_part asked;             /* what is being read again, bytes NULL: none is; at: and from where */
    uint64_t at;
    struct log_read read;
    uint8_t *bytes;
};

struct kv_server {
    struct disk *disk;
    struct net *net;
    struct clock *clock;
    struct kv_server_config config;
    const struct trace *trace;
    struct node *node;
    struct kv__store *store;
    bool leading;
    uint64_t term, leader;
    struct timer turn, tick;

    struct list conns;
    uint32_t nclients, nstrangers;
    struct buf out;

    struct list queue, inflight, free_pending;
    struct kv__pending *applying;           /* the batch whose outcomes are coming */
    size_t writes_bytes;                    /* of queue and inflight */
    bool choked;                            /* connections were paused because of it */
    size_t writes_max, unsent_max;          /* KV_WRITES_BYTES, KV_UNSENT_BYTES; less in tests */
    size_t calls_bytes;                     /* operations of all calls under way */
    bool flooded;                           /* all are paused */
    size_t unsent_bytes;                    /* of all connections; never less than there are */
    uint64_t counted_at;                    /* when they were counted one by one */
    uint64_t refusal_said;                  /* when a refusal was logged last; */
    uint32_t refusals_unsaid;               /* how many were not, since */
    char full_text[128];                    /* for clients that there is no room for */
    int64_t wall;                           /* stamped last */
    uint64_t cluster, mono;                 /* cluster time as of the local time mono; only while leading */

    struct list queries, free_queries;
    uint32_t nfree_queries;
    struct kv__result res;                  /* for answers given at once */
    size_t reads_bytes;
    bool starved;                           /* queries are held because of it, or of: */
    size_t turn_bytes;                      /* large answers made in this turn */

    struct list watching;                   /* connections that have watches */
    uint32_t nwatches;
    struct buf events;                      /* a frame being made */
    struct timer watch_timer;
    uint64_t watch_wait;                    /* until those whose connections are full are looked at again */
    uint64_t members_index;                 /* of the configuration that clients were told */
    struct kv__lost lost;
    struct list admins;                     /* requests of admin.c that wait */
    struct timer admin_timer;

    bool stopping;
    struct timer stop_timer;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

/* serve.c */
void kv__serve_accept(void *arg, struct conn *c);
void kv__serve_tick(struct kv_server *s);
void kv__serve_free(struct kv_server *s);
void kv__conn_unref(struct kv__conn *c);
/* flow.c */
/* A call of the connection begins or ends to be under way. */
void kv__conn_begin(struct kv__conn *c, size_t bytes);
void kv__conn_end(struct kv__conn *c, size_t bytes);
void kv__flow_joined(struct kv__conn *c);               /* it is a client now */
void kv__flow_sent(struct kv__conn *c);                 /* its queue has changed */
void kv__flow_closed(struct kv__conn *c);
void kv__flow_ease(struct kv__conn *c);                 /* is it to be read from again? */
bool kv__flow_unread(struct kv__conn *c, uint64_t now); /* once a second: does it take nothing any more? */
void kv__flow_turn(struct kv_server *s);                /* are all? */
void kv__flow_release(struct kv_server *s);             /* a turn ends: held queries go on in the next */
/* Is there room for an answer of so many bytes among the unsent ones? */
bool kv__flow_may_answer(struct kv__conn *c, size_t bytes);
/* serve.c, answers */
void kv__send_reply(struct kv__conn *c, uint64_t id, enum kv_code code, const struct kv_reply *reply);
void kv__send_redirect(struct kv__conn *c, uint64_t id);
void kv__send_frame(struct kv__conn *c, uint8_t type, const struct slice *v, unsigned nv);
/* A small frame: the server's buffer, empty, to be filled; then it is sent as one of this type. */
struct buf *kv__out(struct kv__conn *c);
void kv__send_out(struct kv__conn *c, uint8_t type);
void kv__conn_refuse(struct kv__conn *c, int err, const char *text);
void kv__tell_members(struct kv_server *s);             /* to all clients, if they have changed */
/* admin.c */
void kv__admin_init(struct kv_server *s);
void kv__admin(struct kv__conn *c, const struct kv__admin_ask *ask);
void kv__admin_soon(struct kv_server *s);               /* something has changed */
void kv__admin_free(struct kv_server *s);
/* propose.c. `cas` answers what applying cannot (kv/cas.c, kv/txn_leader.c), and is the callee's. A refusal of such a
 * call needs it, too: an earlier try of the same number may turn out to have been executed. */
void kv__propose(struct kv_server *s, struct kv__conn *c, const struct kv__call *call, enum kv_code code,
                 struct slice op, struct kv__query *cas);
void kv__propose_refusal(struct kv_server *s, struct kv__conn *c, const struct kv__call *call, enum kv_code code,
                         int err, struct kv__query *cas);
void kv__propose_expired(struct kv_server *s);
void kv__propose_flush(struct kv_server *s);
void kv__propose_apply(struct kv_server *s, uint64_t index, uint64_t term, struct slice entry);
void kv__propose_outcome(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code,
                         const struct kv_reply *reply);
void kv__propose_orphan(struct kv_server *s);           /* leadership was lost: all who wait are sent away */
void kv__propose_free(struct kv_server *s);
uint64_t kv__cluster_now(struct kv_server *s);
/* answer.c */
struct kv__query *kv__query_new(struct kv__conn *c, const struct kv__call *call, struct slice op);
void kv__query_start(struct kv__query *q);              /* as soon as there is room for its answer */
void kv__query_again(struct kv__query *q);              /* from the beginning */
void kv__query_drop(struct kv__query *q);               /* without an answer */
void kv__query_pause(struct kv__query *q);              /* it takes no room until it is started again */
void kv__query_release_held(struct kv__conn *c);
void kv__query_drop_held(struct kv__conn *c);
void kv__query_free_all(struct kv_server *s);
void kv__query_answer(struct kv__query *q, const struct kv_reply *reply);
/* Fills in the pieces of res, at once or later, and goes on with the answer. */
void kv__query_payload(struct kv__query *q, struct kv__result *res);
/* watch.c */
void kv__watch_init(struct kv_server *s);
void kv__watch_open(struct kv__conn *c, struct slice payload);      /* frames of the client: false frames are refused */
void kv__watch_stop(struct kv__conn *c, struct slice payload);
void kv__watch_pump(struct kv__conn *c);                /* sends what there is, as far as there is room */
void kv__watch_pump_all(struct kv_server *s);
void kv__watch_tick(struct kv__conn *c);                /* once a second: tells how far it is where nothing happened */
void kv__watch_drop_all(struct kv__conn *c);
void kv__watch_orphan(struct kv_server *s);             /* leadership was lost: all who watch are sent away */
/* lost.c */
void kv__lost_read(struct kv_server *s, uint64_t ino, uint64_t off, const struct kv__piece *p);  /* of a file, at off */
void kv__lost_ranges(void *arg, const struct node_range *v, size_t n);
void kv__lost_tick(struct kv_server *s);
void kv__lost_status(struct kv_server *s, struct buf *out);
void kv__lost_free(struct kv_server *s);
/* cas.c */
void kv__cas_compare(struct kv__query *q, bool lease);  /* q may read the state */
void kv__cas_bytes(struct kv__query *q, const struct kv__result *res, int err);
/* txn_leader.c: the same, and the answer of one that was executed */
void kv__txn_compare(struct kv__query *q, bool lease);
void kv__txn_bytes(struct kv__query *q, const struct kv__result *res, int err);
void kv__txn_answer(struct kv__query *q, const struct kv_reply *draft);
void kv__txn_fill(struct kv__query *q);                 /* its draft is in q->kept */

#endif
