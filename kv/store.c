/* store.c - applies a batch of changes to the map.
 *
 * For each record: find its session (unknown: QE_SESSION), raise the session's floor, drop what lies below it, answer
 * what has been answered before with the stored answer, refuse what lies beyond the window, execute the rest
 * (kv/exec.c) and store the answer. All of it depends on the map and the entry alone, so every replica does the same;
 * time is the batch's, forced to rise here, too, whatever leaders' clocks did.
 *
 * Sessions begin with SESSION_OPEN (repeated with the same nonce it finds the session it made) and end with
 * SESSION_CLOSE or with SESSION_EXPIRE, which the leader proposes and which is checked again here against the batch's
 * cluster time. */
#include "kv/store.h"

#include <stdlib.h>

static void on_live(void *arg, struct fs_loc loc, uint32_t len, int sign)
{
    struct kv__store *st = arg;
    int64_t delta = sign < 0 ? -(int64_t)len : (int64_t)len;
    if (st->holding) {
        put_u64(&st->held, loc.index);
        put_i64(&st->held, delta);
    } else if (st->cb.live) {
        st->cb.live(st->cb.arg, loc.index, delta);
    }
}

void kv__store_hold(struct kv__store *st)
{
    check(!st->holding);
    st->holding = true;
    buf_clear(&st->held);
}

void kv__store_release(struct kv__store *st, bool keep)
{
    struct reader r = reader_of(buf_slice(&st->held));
    st->holding = false;
    while (keep && st->cb.live && reader_left(&r)) {
        uint64_t index = get_u64(&r);
        st->cb.live(st->cb.arg, index, get_i64(&r));
    }
}

struct fs kv__store_fs_of(struct omap *map) { return (struct fs){.map = map}; }

struct kv__store *kv__store_new(const struct kv__store_cb *cb)
{
    struct kv__store *st = xcalloc(1, sizeof *st);
    st->cb = *cb;
    st->map = omap_new();
    st->fs = (struct fs){.map = st->map, .on_live = on_live, .on_live_arg = st};
    fs_format(&st->fs, 0);
    kv__history_init(&st->history);
    return st;
}

void kv__store_free(struct kv__store *st)
{
    if (!st) return;
    kv__restore_cancel(st);
    omap_free(st->map);
    buf_free(&st->scratch);
    buf_free(&st->draft);
    buf_free(&st->held);
    kv__history_free(&st->history);
    free(st);
}

uint64_t kv__store_digest(const struct kv__store *st) { return omap_digest(st->map); }

/* ---- the store's own row ---- */

static void save_state(struct kv__store *st)
{
    uint8_t row[32];
    store_u64(row, (uint64_t)st->wall);
    store_u64(row + 8, st->cluster);
    store_u64(row + 16, st->sessions);
    store_u64(row + 24, st->mounts);
    omap_put(st->map, KV_ROW_STATE, slice_of(row, sizeof row));
}

void kv__store_load_state(struct kv__store *st)
{
    struct slice row;
    st->born = omap_get(st->map, KV_ROW_STATE, &row) && row.n == 32;
    st->wall = st->born ? (int64_t)load_u64(row.p) : 0;
    st->cluster = st->born ? load_u64(row.p + 8) : 0;
    st->sessions = st->born ? load_u64(row.p + 16) : 0;
    st->mounts = st->born ? load_u64(row.p + 24) : 0;
    st->cur.id = 0;
}

/* The first batch gives the root directory its date: until then the map holds what kv__store_new made, the same
 * everywhere. */
static void be_born(struct kv__store *st)
{
    omap_free(st->map);
    st->map = omap_new();
    st->fs.map = st->map;
    fs_format(&st->fs, st->wall);
    st->born = true;
}

/* ---- sessions ---- */

/* Pipelined changes of one client stand next to each other, so one session is held out of its row at a time. */
static bool select_session(struct kv__store *st, uint64_t id)
{
    if (st->cur.id == id) return id != 0;
    if (st->cur.id) kv__session_save(st->map, &st->cur);
    st->cur.id = 0;
    return id != 0 && kv__session_load(st->map, id, &st->cur);
}

static void session_ends(struct kv__store *st)
{
    struct kv__session *s = &st->cur;
    kv__session_drop(st->map, s);
    st->sessions--;
    if (s->mount) {
        st->mounts--;
        fs_session_del(&st->fs, s->id);
    }
    s->id = 0;
}

static int32_t session_open(struct kv__store *st, const struct kv_op *op, uint64_t index, uint32_t pos, uint64_t *id)
{
    select_session(st, 0);
    *id = kv__session_by_nonce(st->map, op->off2);
    if (*id) return 0;
    if (st->sessions >= KV_SESSIONS_MAX) return QE_BUSY;
    struct kv__session s = {.id = index << 10 | (pos & 1023), .seen = st->cluster, .floor = 1, .nonce = op->off2};
    if (kv__session_load(st->map, s.id, &s)) return QE_BUSY;
    uint64_t ttl = op->len ? op->len : KV_TTL_MS_DEFAULT;
    s.ttl_ms = (uint32_t)max_u64(KV_TTL_MS_MIN, min_u64(ttl, KV_TTL_MS_MAX));
    s.mount = (op->flags & 1) != 0;
    s.name_n = (uint8_t)min_u64(op->name.n, KV_SESSION_NAME_MAX);
    if (s.name_n) memcpy(s.name, op->name.p, s.name_n);
    kv__session_add(st->map, &s);
    st->due = min_u64(st->due, kv__session_due(&s));
    st->sessions++;
    if (s.mount) {
        st->mounts++;
        fs_session_add(&st->fs, s.id);
    }
    *id = s.id;
    return 0;
}

/* ---- one record ---- */

static void answer(struct kv__store *st, uint32_t pos, enum kv_code code, const struct kv_reply *reply)
{
    if (st->cb.outcome) st->cb.outcome(st->cb.arg, pos, KV__ANSWER, code, reply);
}

static void no_answer(struct kv__store *st, uint32_t pos, enum kv__outcome what)
{
    static const struct kv_reply none;
    if (st->cb.outcome) st->cb.outcome(st->cb.arg, pos, what, 0, &none);
}

/* The answer was stored under the code of the operation that ran, be it executed or refused; the number names one
 * operation, so a repetition carries the same code. A refused one's stored answer has no fields beside the status. */
static void answer_again(struct kv__store *st, uint32_t pos, enum kv_code code, struct slice stored)
{
    struct kv_reply reply;
    if (stored.n < 1 || kv_reply_decode((enum kv_code)stored.p[0], slice_sub(stored, 1, stored.n - 1), &reply))
        reply = (struct kv_reply){.status = -EUCLEAN, .index = st->applied};
    if (reply.status >= 0 && stored.p[0] != code && code != 0)
        reply = (struct kv_reply){.status = -EPROTO, .index = reply.index};
    answer(st, pos, reply.status >= 0 ? (enum kv_code)stored.p[0] : code, &reply);
}

static void remember(struct kv__store *st, uint64_t seq, enum kv_code code, const struct kv_reply *reply)
{
    buf_clear(&st->scratch);
    put_u8(&st->scratch, (uint8_t)code);
    kv_reply_encode(code, reply, &st->scratch);
    kv__answer_put(st->map, &st->cur, seq, buf_slice(&st->scratch));
    if (seq > st->cur.high) st->cur.high = seq;
}

/* A change of a session. op NULL: refused with `refusal`. */
static void apply_numbered(struct kv__store *st, const struct kv__record *rec, const struct kv_op *op, int refusal,
                           uint64_t index, uint32_t pos, const uint8_t *entry)
{
    enum kv_code code = op ? op->code : 0;
    struct kv_reply reply = {.index = index};
    if (!select_session(st, rec->session)) {
        reply.status = QE_SESSION;
        answer(st, pos, code, &reply);
        return;
    }
    struct kv__session *s = &st->cur;
    s->seen = st->cluster;
    kv__session_raise(st->map, s, min_u64(rec->floor, rec->seq));
    if (rec->seq < s->floor) {
        no_answer(st, pos, KV__SILENT);
        return;
    }
    struct slice stored;
    if (rec->seq <= s->high && kv__answer_get(st->map, s, rec->seq, &stored)) {
        answer_again(st, pos, code, stored);
        return;
    }
    if (rec->seq - s->floor >= KV_WINDOW) {
        reply.status = QE_BUSY;
        answer(st, pos, code, &reply);
        return;
    }
    if (op && op->code == KV_SESSION_CLOSE) {
        session_ends(st);
        answer(st, pos, code, &reply);
        return;
    }
    if (!op) reply.status = refusal;
    else if (!kv__exec(st, op, index, entry, &reply)) {
        no_answer(st, pos, KV__UNDECIDED);
        return;
    }
    remember(st, rec->seq, op ? code : KV_UNLINK, &reply);
    answer(st, pos, code, &reply);
}

static int apply_record(struct kv__store *st, const struct kv__record *rec, uint64_t index, uint32_t pos,
                        const uint8_t *entry)
{
    int refusal = 0;
    struct kv_op op;
    if (kv__refusal(rec->op, &refusal)) {
        apply_numbered(st, rec, NULL, refusal, index, pos, entry);
        return 0;
    }
    if (kv_op_decode(rec->op, &op) || !kv_is_change(op.code)) return QE_FRAME;
    struct kv_reply reply = {.index = index};
    switch (op.code) {
    case KV_SESSION_OPEN:
        reply.status = session_open(st, &op, index, pos, &reply.off);
        answer(st, pos, op.code, &reply);
        return 0;
    case KV_SESSION_EXPIRE:
        if (select_session(st, op.ino) && kv__session_expired(&st->cur, st->cluster)) session_ends(st);
        no_answer(st, pos, KV__SILENT);
        return 0;
    default:
        apply_numbered(st, rec, &op, 0, index, pos, entry);
        return 0;
    }
}

int kv__store_apply(struct kv__store *st, uint64_t index, struct slice entry)
{
    struct reader r;
    int64_t wall;
    uint64_t cluster;
    uint32_t n;
    int err = kv__batch_open(entry, &wall, &cluster, &n, &r);
    if (err) return err;
    check(index > st->applied && index < (uint64_t)1 << 46);
    st->wall = wall > st->wall ? wall : st->wall + 1;
    st->cluster = max_u64(cluster, st->cluster);
    if (!st->born) be_born(st);
    kv__history_open(&st->history, index);
    for (uint32_t pos = 0; pos < n && !err; pos++) {
        struct kv__record rec;
        err = kv__batch_next(&r, &rec);
        if (!err) err = apply_record(st, &rec, index, pos, entry.p);
    }
    if (!err && !reader_done(&r)) err = QE_FRAME;
    select_session(st, 0);
    save_state(st);
    st->applied = index;
    kv__history_close(&st->history);
    return err;
}
