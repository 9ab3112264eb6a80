/* status.c - the facts of `quorumfs status`, as lines "key value". Keys are stable: tools and tests read them. */
#include "kv/server.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 2, 3))) static void line(struct buf *out, const char *fmt, ...)
{
    char text[ADDR_MAX + 128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text - 1, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : min_u64((uint64_t)n, sizeof text - 2);
    text[len++] = '\n';
    buf_append(out, text, len);
}

static void number(struct buf *out, const char *key, uint64_t v) { line(out, "%s %" PRIu64, key, v); }

static void consensus(struct kv_server *s, const struct node_status *st, struct buf *out)
{
    const struct raft_status *r = &st->raft;
    struct raft_member m;
    const char *leader = r->leader && node_member(s->node, r->leader, &m) ? m.addr : "-";
    line(out, "role %s", raft_role_name(r->role));
    line(out, "standing %s", raft_standing_name(r->standing));
    number(out, "term", r->term);
    number(out, "leader", r->leader);
    line(out, "leader_addr %s", leader);
    number(out, "commit", r->commit);
    number(out, "applied", r->applied);
    number(out, "persisted", r->persisted);
    number(out, "first", r->first);
    number(out, "last", r->last);
    line(out, "cluster %016" PRIx64, st->cluster_id);
    number(out, "digest_index", st->digest_index);
    line(out, "digest %016" PRIx64, st->digest);
    number(out, "peers_connected", st->peers_connected);
    line(out, "vote %s", r->voter ? "yes" : "no");
    number(out, "members_index", r->members_index);
    line(out, "change %s", r->joint ? "under way" : "none");
    line(out, "disk %s", r->disk_late ? "late" : "in time");
    for (uint32_t i = 0; i < r->npeers; i++) {
        const struct raft_peer_status *p = &r->peers[i];
        line(out, "peer.%" PRIu64 " %s %" PRIu64 " %s", p->id, p->state, p->match, p->recent ? "recent" : "silent");
        if (p->seat == RAFT_NO_SEAT && p->seat_next == RAFT_NO_SEAT) continue;
        bool known = node_member(s->node, p->id, &m);
        line(out, "member.%" PRIu64 " %s %s %s", p->id, raft_seat_name(p->seat, p->seat_next, r->joint),
             p->fenced ? "fenced" : "sound", known ? m.addr : "-");
    }
}

static void storage(const struct node_status *st, struct buf *out)
{
    number(out, "log_disk_bytes", st->log.disk_bytes);
    number(out, "log_live_bytes", st->log.live_bytes);
    number(out, "log_replay_bytes", st->log.log_bytes);
    number(out, "disk_total", st->disk_total);
    number(out, "disk_avail", st->disk_avail);
    number(out, "sync_us_p50", st->log.sync_ns_p50 / NS_PER_US);
    number(out, "sync_us_p99", st->log.sync_ns_p99 / NS_PER_US);
    number(out, "sync_us_max", st->log.sync_ns_max / NS_PER_US);
    number(out, "checkpoint", st->checkpoint_index);
    number(out, "checkpoint_bytes", st->log.checkpoint_bytes);
    number(out, "snapshots_sent", st->snapshots_sent);
    number(out, "snapshots_installed", st->snapshots_installed);
    number(out, "repairs", st->repairs);
    number(out, "damaged", st->damaged);
}

/* A snapshot that comes in, and for whom it waits. */
static void waiting(const struct node_status *st, struct buf *out)
{
    char ids[RAFT_PEERS_MAX * 21 + 1] = "none";
    size_t at = 0;
    for (uint32_t i = 0; i < st->nwaits; i++)
        at += (size_t)snprintf(ids + at, sizeof ids - at, "%s%" PRIu64, i ? "," : "", st->waits_for[i]);
    line(out, "snapshot_waits_for %s", ids);
    number(out, "snapshot_waits_bytes", st->waits_bytes);
}

static void contents(struct kv_server *s, struct buf *out)
{
    struct fs_usage used;
    fs_usage(&s->store->fs, &used);
    number(out, "files", used.files);
    number(out, "dirs", used.dirs);
    number(out, "bytes", used.bytes);
    number(out, "map_bytes", omap_bytes(s->store->map));
    number(out, "sessions", s->store->sessions);
    number(out, "mounts", s->store->mounts);
    number(out, "clients", s->nclients);
    number(out, "watches", s->nwatches);
    number(out, "history_from", s->store->history.begin + 1);
    struct kv__session ss = {0};
    for (unsigned n = 0; n < s->store->mounts && kv__session_next(s->store->map, ss.id, &ss);) {
        if (!ss.mount) continue;
        for (unsigned i = 0; i < ss.name_n; i++)
            if ((uint8_t)ss.name[i] < ' ') ss.name[i] = '?';
        line(out, "mount.%u %.*s", n++, (int)ss.name_n, ss.name);
    }
}

void kv_server_status(struct kv_server *s, struct buf *out)
{
    struct node_status st;
    node_status(s->node, &st);
    line(out, "version %s", QFS_VERSION);
    number(out, "id", s->config.node.id);
    line(out, "addr %s", s->config.listen);
    consensus(s, &st, out);
    storage(&st, out);
    waiting(&st, out);
    kv__lost_status(s, out);
    contents(s, out);
}
