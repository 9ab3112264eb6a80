/* members.c - configurations as values: their bytes, and the few questions asked of them. The rules of changing them
 * are member.c's.
 *
 *   0  u64  cluster id, odd
 *   8       nothing more: the first version's entry, which only names the cluster; or
 *   8  u8   version 1
 *   9  u8   1: joint
 *  10  u8   n, then n times: u64 id, u8 seat, u8 next, u8 bits (1: the address was told), text16 address */
#include "raft/core_priv.h"

#define MEMBERS_VERSION 1u

void raft_members_encode(const struct raft_members *ms, uint64_t cluster, struct buf *out)
{
    put_u64(out, cluster);
    put_u8(out, MEMBERS_VERSION);
    put_u8(out, ms->joint);
    put_u8(out, (uint8_t)ms->n);
    for (uint32_t i = 0; i < ms->n; i++) {
        put_u64(out, ms->m[i].id);
        put_u8(out, ms->seat[i]);
        put_u8(out, ms->next[i]);
        put_u8(out, ms->told[i]);
        put_slice16(out, slice_str(ms->m[i].addr));
    }
}

static bool get_member(struct reader *r, struct raft_members *out, uint32_t i)
{
    out->m[i].id = get_u64(r);
    out->seat[i] = get_u8(r);
    out->next[i] = get_u8(r);
    uint8_t bits = get_u8(r);
    struct slice addr = get_slice16(r);
    if (r->bad || bits > 1 || addr.n >= ADDR_MAX || (addr.n && memchr(addr.p, 0, addr.n))) return false;
    out->told[i] = bits;
    if (addr.n) memcpy(out->m[i].addr, addr.p, addr.n);
    return true;
}

int raft_members_decode(struct slice in, uint64_t *cluster, struct raft_members *out)
{
    struct reader r = reader_of(in);
    *out = (struct raft_members){0};
    *cluster = get_u64(&r);
    if (r.bad) return QE_FRAME;
    if (reader_left(&r) == 0) return 0;
    uint8_t version = get_u8(&r), joint = get_u8(&r);
    out->n = get_u8(&r);
    if (r.bad || version != MEMBERS_VERSION || joint > 1 || out->n > RAFT_PEERS_MAX) return QE_FRAME;
    out->joint = joint;
    for (uint32_t i = 0; i < out->n; i++)
        if (!get_member(&r, out, i)) return QE_FRAME;
    return reader_done(&r) && !raft_members_nonsense(out) ? 0 : QE_FRAME;
}

int raft_members_find(const struct raft_members *ms, uint64_t id)
{
    for (uint32_t i = 0; i < ms->n; i++)
        if (ms->m[i].id == id) return (int)i;
    return -1;
}

void raft_members_add(struct raft_members *ms, uint64_t id, const char *addr, enum raft_seat seat)
{
    check(ms->n < RAFT_PEERS_MAX && strlen(addr) < ADDR_MAX);
    uint32_t i = ms->n++;
    ms->m[i] = (struct raft_member){.id = id};
    memcpy(ms->m[i].addr, addr, strlen(addr) + 1);
    ms->seat[i] = ms->next[i] = (uint8_t)seat;
    ms->told[i] = false;
}

void raft_members_drop(struct raft_members *ms, uint64_t id)
{
    int at = raft_members_find(ms, id);
    if (at < 0) return;
    for (uint32_t i = (uint32_t)at; i + 1 < ms->n; i++) {
        ms->m[i] = ms->m[i + 1];
        ms->seat[i] = ms->seat[i + 1];
        ms->next[i] = ms->next[i + 1];
        ms->told[i] = ms->told[i + 1];
    }
    ms->n--;
}

const char *raft_members_nonsense(const struct raft_members *ms)
{
    uint32_t old = 0, new = 0;
    if (ms->n > RAFT_PEERS_MAX) return "too many members";
    for (uint32_t i = 0; i < ms->n; i++) {
        if (ms->m[i].id == 0) return "a member without a number";
        if (ms->seat[i] > RAFT_VOTING || ms->next[i] > RAFT_VOTING) return "an unknown role";
        if (!ms->joint && (ms->seat[i] != ms->next[i] || ms->seat[i] == RAFT_NO_SEAT)) return "a member without a role";
        if (ms->seat[i] == RAFT_NO_SEAT && ms->next[i] == RAFT_NO_SEAT) return "a member without a role";
        if (raft_members_find(ms, ms->m[i].id) != (int)i) return "a member twice";
        old += ms->seat[i] == RAFT_VOTING;
        new += ms->next[i] == RAFT_VOTING;
    }
    return old && new ? NULL : "nobody votes";
}

const char *raft_seat_name(enum raft_seat seat, enum raft_seat next, bool joint)
{
    if (joint && seat != RAFT_VOTING && next == RAFT_VOTING) return "joining";
    if (joint && seat == RAFT_VOTING && next != RAFT_VOTING) return "leaving";
    return seat == RAFT_VOTING ? "voter" : seat == RAFT_LEARNER || (joint && next == RAFT_LEARNER) ? "learner" : "-";
}
