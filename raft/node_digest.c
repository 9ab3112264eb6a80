/* node_digest.c - replicas compare the digests of their states at every NODE_DIGEST_EVERYth index. All tell all; who
 * differs from what more than half of the members have stops, be it the leader. Where no such half is known - there are
 * two members, or the others are down - the leader's word is taken: a follower that differs from it stops at the next
 * such index, or as soon as it is to lead. */
#include "raft/node_priv.h"

#include <stdio.h>

/* This node's own at that index; NULL: it is not known (any more). */
static const struct node_digest *own(const struct node *n, uint64_t index)
{
    const struct node_digest *d = &n->digests[index / NODE_DIGEST_EVERY % NODE_DIGESTS];
    return d->index == index ? d : NULL;
}

/* How many members are known to have it. */
static uint32_t have(const struct node *n, const struct node_digest *d)
{
    const struct node_digest *mine = own(n, d->index);
    uint32_t k = mine && mine->value == d->value;
    for (uint32_t i = 0; i < n->npeers; i++) {
        const struct peer *p = &n->peers[i];
        k += p->used && p->is_member && p->told.index == d->index && p->told.value == d->value;
    }
    return k;
}

static void differs(struct node *n, const struct node_digest *theirs, const char *whose)
{
    const struct node_digest *mine = own(n, theirs->index);
    char text[240];
    snprintf(text, sizeof text,
             "this replica differs: the state digest at index %llu is %016llx here and %016llx at %s; empty its data "
             "directory so that it is rebuilt from its peers",
             (unsigned long long)theirs->index, (unsigned long long)(mine ? mine->value : 0),
             (unsigned long long)theirs->value, whose);
    node__fatal(n, QE_CORRUPT, text);
}

static void judge(struct node *n, uint64_t index)
{
    const struct node_digest *mine = own(n, index);
    uint32_t half = n->members_applied.n / 2;
    if (!mine) return;
    if (have(n, mine) > half) {
        n->doubt.index = 0;
        return;
    }
    for (uint32_t i = 0; i < n->npeers && !n->dead; i++) {
        const struct peer *p = &n->peers[i];
        if (!p->used || !p->is_member || p->told.index != index || p->told.value == mine->value) continue;
        if (have(n, &p->told) > half) differs(n, &p->told, "most members");
        else if (p->member.id == n->leader) n->doubt = p->told;
    }
}

void node__digest_doubt(struct node *n)
{
    if (n->doubt.index) differs(n, &n->doubt, "the leader");
}

void node__digest_note(struct node *n)
{
    struct node_digest *d = &n->digests[n->applied / NODE_DIGEST_EVERY % NODE_DIGESTS];
    node__digest_doubt(n);
    *d = (struct node_digest){n->applied, n->sm.digest(n->sm.arg)};
    uint8_t payload[16];
    store_u64(payload, d->index);
    store_u64(payload + 8, d->value);
    struct slice v = slice_of(payload, sizeof payload);
    for (uint32_t i = 0; i < n->npeers && !n->dead; i++)
        if (n->peers[i].up) conn_send(n->peers[i].out, RAFT_FRAME_DIGEST, &v, 1);
    if (!n->dead) judge(n, n->applied);
}

void node__digest_told(struct peer *p, struct slice payload)
{
    struct reader r = reader_of(payload);
    struct node_digest told = {.index = get_u64(&r)};
    told.value = get_u64(&r);
    if (!reader_done(&r) || !told.index || told.index % NODE_DIGEST_EVERY) return;
    p->told = told;
    judge(p->node, told.index);
}
