/* kv.h - the one door of kv/: the replicated store. A server (one a node) applies the commands of the log to the map
 * and answers clients; a client finds the leader, numbers its operations and repeats them under the same number until
 * an answer or a deadline. All of it over the doors of base/doors.h.
 *
 * An operation is a whole filesystem or key/value operation, executed atomically where the data is. Its arguments are
 * one flat struct; the table KV_OPS says which fields each operation carries, and the wire form (kv/op.c) follows the
 * table. */
#ifndef QFS_KV_H
#define QFS_KV_H

#include "fs/fs.h"
#include "raft/raft.h"

#define KV_DATA_MAX (4u * 1024 * 1024)      /* of one operation; larger values go through a mount */
#define KV_WINDOW 1024u                     /* unanswered changes of one session */
#define KV_VERSION 2u

/* Argument fields. */
enum {
    A_INO = 1 << 0, A_INO2 = 1 << 1, A_NAME = 1 << 2, A_NAME2 = 1 << 3, A_DATA = 1 << 4, A_OFF = 1 << 5, A_LEN = 1 << 6,
    A_FLAGS = 1 << 7, A_MODE = 1 << 8, A_OWNER = 1 << 9 /* uid, gid */, A_RDEV = 1 << 10,
    A_TIMES = 1 << 11 /* atime, mtime */, A_OFF2 = 1 << 12,
};
/* Reply fields, present where status >= 0. */
enum { R_ATTR = 1 << 0, R_OFF = 1 << 1, R_DATA = 1 << 2 };

enum kv_kind { KV_QUERY, KV_CHANGE };

/*    code, name, kind, argument fields, reply fields: what they mean where it is not plain */
#define KV_OPS(X)                                                                                                                \
    /* filesystem queries */                                                                                                     \
    X(LOOKUP, 1, KV_QUERY, A_INO | A_NAME, R_ATTR)                                                                               \
    X(GETATTR, 2, KV_QUERY, A_INO, R_ATTR)                                                                                       \
    X(READLINK, 3, KV_QUERY, A_INO, R_DATA)                                                                                      \
    X(READDIR, 4, KV_QUERY, A_INO | A_NAME | A_LEN, R_OFF | R_DATA)  /* behind NAME, about LEN bytes: kv_dirent_next; OFF 1: end */ \
    X(READ, 5, KV_QUERY, A_INO | A_OFF | A_LEN, R_DATA)              /* LEN <= KV_DATA_MAX; short only at the end of the file */  \
    X(SEEK, 6, KV_QUERY, A_INO | A_OFF | A_FLAGS, R_OFF)             /* FLAGS 1: SEEK_HOLE, 0: SEEK_DATA */                       \
    X(GETXATTR, 7, KV_QUERY, A_INO | A_NAME, R_DATA)                                                                             \
    X(LISTXATTR, 8, KV_QUERY, A_INO, R_DATA)                                                                                     \
    X(STATFS, 9, KV_QUERY, 0, R_DATA)                                /* struct kv_statfs: kv_statfs_decode */                     \
    X(OWED, 10, KV_QUERY, A_INO | A_OFF, R_DATA)                     /* u64 inos behind INO that session OFF owes an answer for */  \
    /* filesystem changes */                                                                                                     \
    X(MKNOD, 16, KV_CHANGE, A_INO | A_NAME | A_MODE | A_OWNER | A_RDEV | A_NAME2, R_ATTR)  /* NAME2: a symlink's target */         \
    X(CREATE, 17, KV_CHANGE, A_INO | A_NAME | A_MODE | A_OWNER | A_FLAGS, R_ATTR | R_OFF)  /* FLAGS 1: excl; OFF 1: it is new */   \
    X(LINK, 18, KV_CHANGE, A_INO | A_INO2 | A_NAME, R_ATTR)          /* INO gets the name NAME in INO2 */                         \
    X(UNLINK, 19, KV_CHANGE, A_INO | A_NAME | A_FLAGS, 0)            /* FLAGS 1: held */                                          \
    X(RMDIR, 20, KV_CHANGE, A_INO | A_NAME, 0)                                                                                   \
    X(RENAME, 21, KV_CHANGE, A_INO | A_NAME | A_INO2 | A_NAME2 | A_FLAGS | A_MODE, 0)  /* FLAGS FS_RENAME_*; MODE 1: held */       \
    X(SETATTR, 22, KV_CHANGE, A_INO | A_FLAGS | A_MODE | A_OWNER | A_LEN | A_TIMES, R_ATTR)  /* FLAGS FS_SET_*; LEN: size */       \
    X(WRITE, 23, KV_CHANGE, A_INO | A_OFF | A_FLAGS | A_DATA, R_ATTR | R_OFF)  /* FLAGS 1: append; OFF: where it went */           \
    X(FALLOCATE, 24, KV_CHANGE, A_INO | A_FLAGS | A_OFF | A_LEN, R_ATTR)                                                         \
    X(COPY_RANGE, 25, KV_CHANGE, A_INO | A_OFF | A_INO2 | A_OFF2 | A_LEN, R_ATTR | R_OFF)  /* OFF: bytes */                       \
    X(SETXATTR, 26, KV_CHANGE, A_INO | A_NAME | A_DATA | A_FLAGS, 0)                                                             \
    X(REMOVEXATTR, 27, KV_CHANGE, A_INO | A_NAME, 0)                                                                             \
    X(RELEASE, 28, KV_CHANGE, A_DATA, 0)                             /* u64 inos: fs_release of each */                           \
    /* key/value: NAME is the key */                                                                                             \
    X(GET, 40, KV_QUERY, A_NAME, R_ATTR | R_DATA)                    /* EFBIG above KV_DATA_MAX */                                \
    /* prefix NAME, from NAME2 (included), before DATA (empty: no end), <= LEN keys; as READDIR */                                \
    X(LIST, 41, KV_QUERY, A_NAME | A_NAME2 | A_DATA | A_LEN, R_OFF | R_DATA)                                                     \
    X(PUT, 48, KV_CHANGE, A_NAME | A_DATA, R_ATTR)                                                                               \
    X(APPEND, 49, KV_CHANGE, A_NAME | A_DATA, R_ATTR)                                                                            \
    X(DELETE, 50, KV_CHANGE, A_NAME, 0)                                                                                          \
    /* expects contents NAME2 (FLAGS 1: absence); QE_MISMATCH. INO, OFF and FLAGS 2 are the leader's: see kv/cas.c */             \
    X(CAS, 51, KV_CHANGE, A_NAME | A_NAME2 | A_DATA | A_FLAGS | A_INO | A_OFF, R_ATTR)                                           \
    /* all or nothing: DATA is kv_txn_encode's; OFF: enum kv_txn_branch, DATA: kv_txn_next's */                                   \
    X(TXN, 52, KV_CHANGE, A_DATA, R_OFF | R_DATA)                                                                                \
    /* sessions */                                                                                                               \
    /* NAME: text for people; FLAGS 1: a mount; LEN: ttl ms; OFF2: nonce */                                                      \
    X(SESSION_OPEN, 60, KV_CHANGE, A_NAME | A_FLAGS | A_LEN | A_OFF2, R_OFF)                                                     \
    X(SESSION_KEEP, 61, KV_CHANGE, 0, R_OFF)                         /* OFF: nameless files it owes an answer for, 64 at most */    \
    X(SESSION_CLOSE, 62, KV_CHANGE, 0, 0)                                                                                        \
    X(SESSION_EXPIRE, 63, KV_CHANGE, A_INO, 0)                       /* proposed by the leader only: session INO, re-checked */     \
    X(SESSIONS, 64, KV_QUERY, 0, R_DATA)                             /* text lines for `status` */

enum kv_code {
#define X(name, num, kind, args, reply) KV_##name = num,
    KV_OPS(X)
#undef X
};

struct kv_op {
    enum kv_code code;
    uint64_t ino, ino2, off, off2, len, rdev;
    uint32_t flags, mode, uid, gid;
    int64_t atime, mtime;
    struct slice name, name2, data;
};

struct kv_reply {
    int32_t status;                     /* >= 0, or a negative error of base/err.h */
    struct fs_attr attr;
    uint64_t off;
    struct slice data;
    uint64_t index;                     /* log index at which a change took effect, or a query was answered */
};

struct kv_statfs {
    uint64_t total, avail;              /* bytes of the leader's disk */
    struct fs_usage used;
};

const char *kv_code_name(enum kv_code code);                    /* NULL: no such operation */
bool kv_is_change(enum kv_code code);
/* Wire forms. Decoders borrow from the input; 0 or QE_FRAME. kv_op_encode puts `data` last, so that it has one place:
 * *data_at (may be NULL) is its offset in what was appended. */
void kv_op_encode(const struct kv_op *op, struct buf *out, size_t *data_at);
int kv_op_decode(struct slice in, struct kv_op *out);
void kv_reply_encode(enum kv_code code, const struct kv_reply *r, struct buf *out);
int kv_reply_decode(enum kv_code code, struct slice in, struct kv_reply *out);
int kv_statfs_decode(struct slice in, struct kv_statfs *out);
/* Iterates over the data of READDIR and LIST. False at the end (or at damage: then r->bad). */
bool kv_dirent_next(struct reader *r, struct slice *name, struct fs_attr *attr);

/* ---- transactions: compare and set over several keys, all or nothing -----------------------------------------------
 * The conditions are looked at in their order; if all hold, the steps of `then` are executed, else (at the first that
 * does not) those of `otherwise`. Steps see what the ones before them did. A step or condition that cannot be done
 * (ENOTDIR, EISDIR, EFBIG ...) undoes all of it; only GET and DELETE of an absent key are no failure: their result
 * is -ENOENT. It is one command of the log, so nobody sees a part of it.
 *
 * A key's version is the pair (inode number, attr.version): it names one state of the contents and never comes
 * back, also when the key is deleted and made anew. */
#define KV_TXN_MAX 128u                     /* conditions; steps of a branch */
#define KV_TXN_ANSWER_MAX (64u * 1024)      /* attributes, inline bytes and places of bytes of all GETs of a branch */

enum kv_cond_kind {
    KV_IF_ABSENT = 1,
    KV_IF_PRESENT,
    KV_IF_VALUE,                            /* the whole contents are `value` */
    KV_IF_VERSION,                          /* ino and version are these */
    KV_IF_EQUAL_AT,                         /* the leader's only, in place of IF_VALUE (kv/txn_leader.c): at this */
    KV_IF_OTHER_AT,                         /* version the contents are `value`, or are not */
};
struct kv_cond {
    enum kv_cond_kind kind;
    struct slice key, value;
    uint64_t ino, version;
};
struct kv_step {
    enum kv_code code;                      /* KV_GET, KV_PUT, KV_APPEND or KV_DELETE */
    struct slice key, value;
};
enum kv_txn_branch { KV_TXN_OTHERWISE, KV_TXN_THEN, KV_TXN_FAILED };
struct kv_txn {
    unsigned nconds, nsteps[2];             /* steps[KV_TXN_THEN], steps[KV_TXN_OTHERWISE] */
    struct kv_cond conds[KV_TXN_MAX];
    struct kv_step steps[2][KV_TXN_MAX];
};
/* E2BIG: more than KV_TXN_MAX; EFBIG: more than KV_DATA_MAX bytes; EINVAL: no such condition or step. */
int kv_txn_encode(const struct kv_txn *t, struct buf *out);
/* Borrows from the input. QE_FRAME for all that kv_txn_encode does not make. */
int kv_txn_decode(struct slice in, struct kv_txn *out);
/* What a step did. status: 0, -ENOENT (GET, DELETE), QE_GONE (GET: the answer was asked for so late that the bytes of
 * that moment are no longer kept). attr: of GET, PUT, APPEND with status 0. */
struct kv_txn_result {
    enum kv_code code;
    int32_t status;
    struct fs_attr attr;
    struct slice value;
};
/* The next of a reply's data; false at the end (or at damage: then r->bad). */
bool kv_txn_next(struct reader *r, struct kv_txn_result *out);
/* Of a reply with KV_TXN_FAILED: which one could not be done. `in` is KV_TXN_FAILED for a condition. */
struct kv_txn_failure {
    enum kv_txn_branch in;
    unsigned at;                            /* from 0 */
    int32_t err;
};
int kv_txn_failure_decode(struct slice data, struct kv_txn_failure *out);

/* ---- watching keys ---------------------------------------------------------------------------------------------------
 * An event says that at a revision (the index of the log entry) a key was put - it came to be, or its contents
 * changed - or deleted. All ways to change keys make them: kv operations and a mount's, renames also of directories
 * (a delete for each old key, then a put for each new one). Changes of attributes alone make none; contents are not
 * carried. Events of one revision are numbered by their position in it. Whoever applies all events to a listing of an
 * earlier revision has the set of keys of the later one. */
enum kv_event_type { KV_EVENT_PUT = 1, KV_EVENT_DELETE = 2 };
struct kv_event {
    uint64_t revision;
    uint32_t position;
    enum kv_event_type type;
    struct slice key;
    uint64_t ino, version, size;            /* of a put: as the attributes of the file then */
};
/* An event's wire form; false at the end (or at damage: then r->bad). */
bool kv_event_next(struct reader *r, struct kv_event *out);

/* ---- server: one a node ------------------------------------------------------------------------------------------ */

struct kv_server_config {
    const char *listen;                 /* address for peers and clients */
    struct node_config node;
    const struct trace *trace;
    void (*fatal)(void *arg, int err, const char *text);        /* stop the process */
    void *fatal_arg;
    /* Connections: of clients, and of those that have not said yet who they are (5 s at most). 0: the most there may
     * be. A process that may open fewer files sets less; it also needs some 300 for its disk and its peers. */
    uint32_t clients_max, strangers_max;
};
#define KV_CLIENTS_MAX 16384u
#define KV_STRANGERS_MAX 1024u
struct kv_server;
/* Recovers (blocking) and starts. On failure a negative error and a text for the user in `why`. */
int kv_server_new(struct disk *disk, struct net *net, struct clock *clock, const struct kv_server_config *config,
                  struct kv_server **out, struct buf *why);
void kv_server_free(struct kv_server *s);
/* A clean stop: hands leadership over where there is someone to take it, then calls done (also after 1 s at most). */
void kv_server_stop(struct kv_server *s, void (*done)(void *arg), void *arg);
/* The facts of `quorumfs status` as lines "key value\n". */
void kv_server_status(struct kv_server *s, struct buf *out);
struct node *kv_server_node(struct kv_server *s);               /* for tests and the simulator */
struct omap *kv_server_map(struct kv_server *s);                /* for checkers */

/* ---- client ------------------------------------------------------------------------------------------------------ */

struct kv_client_config {
    const char *const *addrs;           /* members to begin with; it learns the others */
    unsigned naddrs;
    const char *name;                   /* text for `status`: host, mount point */
    bool mount;                         /* this session keeps files open */
    uint32_t ttl_ms;                    /* session expiry; 0: 60 s */
    uint64_t seed;
    const struct trace *trace;
    /* The session was lost (expired while the client could not reach the cluster): every unanswered change has been
     * answered with QE_SESSION, and a new session is being opened. May be NULL. */
    void (*session_lost)(void *arg);
    /* There are nameless files that this session owes an answer for: query KV_OWED, answer with KV_RELEASE. May be
     * NULL. */
    void (*owed)(void *arg);
    void *arg;
};
struct kv_client;
struct kv_client *kv_client_new(struct net *net, struct clock *clock, const struct kv_client_config *config);
/* Unanswered calls are dropped without an answer. */
void kv_client_free(struct kv_client *c);
/* Answers what is under way, closes the session and calls done; gives up at the deadline (ns of the clock). */
void kv_client_close(struct kv_client *c, uint64_t deadline, void (*done)(void *arg), void *arg);
uint64_t kv_client_session(const struct kv_client *c);          /* 0: none open */
/* Why a node would not serve this client, as it said last; empty where none has since the last answer. */
const char *kv_client_refusal(const struct kv_client *c);

/* One operation. The struct is the caller's until done() - called exactly once, from the loop - has been entered; the
 * slices of op are borrowed only during kv_call(). Without a deadline it waits and repeats until there is an answer;
 * a change keeps its number, so it happens once. With a deadline: -ETIMEDOUT means that a change may or may not have
 * happened. Changes are sent in the order of the calls. */
struct kv_call {
    struct kv_op op;
    uint64_t deadline;                  /* ns, 0: none */
    void (*done)(struct kv_call *call, const struct kv_reply *reply);   /* reply lives during the call */
    void *arg;
    uint64_t session, seq;              /* the client tells the number it sends a change under; 0: none so far */
    void *priv;                         /* the client's */
};
void kv_call(struct kv_client *c, struct kv_call *call);
/* done() is called with -EINTR before this returns; a change may still happen. */
void kv_cancel(struct kv_client *c, struct kv_call *call);

/* Watches a key, or all keys with a prefix. Events come in order, each once, whatever happens to leaders and connections:
 * the client goes on elsewhere from where it is. `revision` and `position` say from where on: 0, 0: from now on (from
 * what the leader has applied when it hears of it). The client moves them along: all before that place has been told,
 * so a later watch that begins with them goes on without gap or repetition.
 * The struct is the caller's until ended() has been entered or kv_watch_cancel() has returned; `key` is borrowed only
 * during kv_watch(). All callbacks come from the loop and may call everything. */
struct kv_watch {
    struct slice key;                   /* at most FS_KEY_MAX bytes */
    bool prefix;
    uint64_t revision;
    uint32_t position;
    void (*event)(struct kv_watch *w, const struct kv_event *ev);
    /* revision or position have moved, at the latest a second after something happened; the first time: it has begun.
     * May be NULL. */
    void (*moved)(struct kv_watch *w);
    /* The end, once. QE_GONE: events at that place are no longer kept (the servers keep some 250,000 and forget them at
     * a restart); from `from` on they are. QE_BUSY: the server has too many watches. QE_STOPPED: the client closes.
     * `why` is for people. */
    void (*ended)(struct kv_watch *w, int err, uint64_t from, struct slice why);
    void *arg;
    void *priv;                         /* the client's */
};
void kv_watch(struct kv_client *c, struct kv_watch *w);
void kv_watch_cancel(struct kv_client *c, struct kv_watch *w);     /* no more callbacks */

/* Asks one node (leader or not) for its status text: connects by itself. done(err, text), once. */
struct kv_status_call {
    char addr[ADDR_MAX];
    uint64_t deadline;
    void (*done)(struct kv_status_call *call, int err, struct slice text);
    void *arg;
    void *priv;
};
void kv_status(struct net *net, struct clock *clock, struct kv_status_call *call);

/* Asks one node, which should lead, to change the cluster, and waits until that is complete, for wait_ms at most.
 * done(err, text): 0; -EALREADY: it was so before; QE_NOT_LEADER: leader and leader_addr say who leads, if known; else
 * the text says why not. -EAGAIN: a learner that is to be promoted has not caught up in time. */
enum kv_admin_what {
    KV_ADMIN_ADD = NODE_CHANGE_ADD,             /* member id at member_addr, as a learner */
    KV_ADMIN_PROMOTE = NODE_CHANGE_PROMOTE,     /* learner id gets a vote as soon as it has caught up */
    KV_ADMIN_REMOVE = NODE_CHANGE_REMOVE,
    KV_ADMIN_TRANSFER = 4,                      /* leadership to id; 0: to whoever has most */
};
#define KV_ADMIN_WAIT_MAX_MS (3600u * 1000)
struct kv_admin_call {
    char addr[ADDR_MAX];                /* whom to ask */
    uint64_t deadline;                  /* ns, 0: none; later than the node's wait */
    enum kv_admin_what what;
    uint64_t id;
    char member_addr[ADDR_MAX];
    uint32_t wait_ms;
    uint64_t leader;                    /* of the answer */
    char leader_addr[ADDR_MAX];
    void (*done)(struct kv_admin_call *call, int err, struct slice text);
    void *arg;
    void *priv;
};
void kv_admin(struct net *net, struct clock *clock, struct kv_admin_call *call);

#endif
