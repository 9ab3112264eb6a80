/* story.c - see story.h. Elections and roles are always told, so that the last lines of a failed run have them; commits
 * and operations only where somebody listens. */
#include "tests/sim/story.h"

#include <ctype.h>
#include <stdio.h>

#include "raft/core_priv.h"
#include "tests/sim/cluster.h"

#define ULL(x) ((unsigned long long)(x))

/* ---- servers ---- */

bool sim_story_tells(const char *line)
{
    return sim_loudness() < SIM_DEBUG &&
           (strncmp(line, "candidate of term", 17) == 0 || strncmp(line, "leader of term", 14) == 0);
}

static void tell_start(struct sim_server *s, const struct raft *r)
{
    sim_say(s->cluster, "server %u has recovered: term %llu, log %llu..%llu, %s", s->at + 1, ULL(r->hard.term),
            ULL(r->terms.base + 1), ULL(r->terms.last), raft_standing_name(r->hard.standing));
}

static void tell_role(struct sim_server *s, const struct sim_told *told, const struct raft *r)
{
    unsigned id = s->at + 1;
    switch (r->role) {
    case RAFT_PRE_CANDIDATE:
        sim_say(s->cluster, "server %u hears no leader: it asks whether it would get votes for term %llu", id,
                ULL(r->hard.term + 1));
        break;
    case RAFT_CANDIDATE:
        sim_say(s->cluster, "server %u stands for election in term %llu, its log ends at %llu", id, ULL(r->hard.term),
                ULL(r->terms.last));
        break;
    case RAFT_LEADER:
        sim_say(s->cluster, "server %u is the leader of term %llu, its log ends at %llu", id, ULL(r->hard.term),
                ULL(r->terms.last));
        break;
    case RAFT_FOLLOWER:
        if (told->role == RAFT_LEADER)
            sim_say(s->cluster, "server %u leads no more: %s", id,
                    r->hard.term > told->term ? "it has heard of a newer term" : "it has lost its majority");
        break;
    }
}

static void tell_vote(struct sim_server *s, const struct raft *r)
{
    if (!r->hard.vote || r->hard.vote == r->config.id) return;
    sim_say(s->cluster, "server %u votes for server %llu in term %llu", s->at + 1, ULL(r->hard.vote),
            ULL(r->hard.term));
}

static void tell_leader(struct sim_server *s, const struct raft *r)
{
    if (r->role != RAFT_FOLLOWER || !r->leader) return;
    sim_say(s->cluster, "server %u follows server %llu in term %llu", s->at + 1, ULL(r->leader), ULL(r->hard.term));
}

static void tell_commit(struct sim_server *s, const struct sim_told *told, const struct raft *r)
{
    if (r->role != RAFT_LEADER || !sim_loudness()) return;
    if (told->commit + 1 == r->commit)
        sim_say(s->cluster, "server %u: entry %llu is committed, a majority has it on disk", s->at + 1, ULL(r->commit));
    else
        sim_say(s->cluster, "server %u: entries %llu..%llu are committed, a majority has them on disk", s->at + 1,
                ULL(told->commit + 1), ULL(r->commit));
}

void sim_story_step(struct sim_server *s, struct sim_told *told, const struct raft *r, const struct raft_event *ev)
{
    if (ev->kind == RAFT_EV_START) tell_start(s, r);
    if (told->role != r->role) tell_role(s, told, r);
    if (told->vote != r->hard.vote || told->term != r->hard.term) tell_vote(s, r);
    if (told->leader != r->leader || told->term != r->hard.term) tell_leader(s, r);
    if (told->standing != r->hard.standing && ev->kind != RAFT_EV_START)
        sim_say(s->cluster, "server %u is now: %s", s->at + 1, raft_standing_name(r->hard.standing));
    if (told->commit < r->commit) tell_commit(s, told, r);
    *told = (struct sim_told){.term = r->hard.term,
                              .vote = r->hard.vote,
                              .leader = r->leader,
                              .commit = r->commit,
                              .role = (uint8_t)r->role,
                              .standing = (uint8_t)r->hard.standing};
}

/* ---- clients ---- */

static size_t add_quoted(char *out, size_t at, size_t n, struct slice s)
{
    size_t shown = s.n < 24 ? s.n : 24;
    at += (size_t)snprintf(out + at, n - at, " \"");
    for (size_t i = 0; i < shown && at + 2 < n; i++) out[at++] = isprint(s.p[i]) ? (char)s.p[i] : '.';
    return at + (size_t)snprintf(out + at, n - at, shown < s.n ? "...\" (%zu bytes)" : "\"", s.n);
}

void sim_op_text(const struct kv_op *op, char *out, size_t n)
{
    size_t at = 0;
    for (const char *p = kv_code_name(op->code); *p && at + 1 < n; p++) out[at++] = (char)tolower(*p);
    out[at] = 0;
    if (op->ino) at += (size_t)snprintf(out + at, n - at, " inode %llu", ULL(op->ino));
    if (op->ino2) at += (size_t)snprintf(out + at, n - at, " inode %llu", ULL(op->ino2));
    if (op->name.n) at = add_quoted(out, at, n, op->name);
    if (op->name2.n && at < n - 80) at = add_quoted(out, at, n, op->name2);
    if (op->data.n && at < n - 80) add_quoted(out, at, n, op->data);
}

void sim_story_asked(struct sim_cluster *c, const struct sim_record *r, const struct kv_op *op)
{
    char text[200];
    if (!sim_loudness()) return;
    sim_op_text(op, text, sizeof text);
    sim_say(c, "client %u asks: %s", r->client, text);
}

void sim_story_answered(struct sim_cluster *c, const struct sim_record *r, const struct kv_reply *reply)
{
    char text[200];
    struct kv_op op;
    double ms = (double)(r->returned - r->invoked) / (double)NS_PER_MS;
    if (!sim_loudness() || kv_op_decode(buf_slice(&r->op), &op)) return;
    sim_op_text(&op, text, 100);
    if (reply->status < 0)
        sim_say(c, "client %u is told after %.3f ms: %s (%s)", r->client, ms, err_text(reply->status), text);
    else if (reply->data.n)
        sim_say(c, "client %u is answered after %.3f ms, as of entry %llu, %zu bytes (%s)", r->client, ms,
                ULL(reply->index), reply->data.n, text);
    else
        sim_say(c, "client %u is answered after %.3f ms, as of entry %llu (%s)", r->client, ms, ULL(reply->index), text);
}
