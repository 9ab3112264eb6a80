/* facts.c - who is in the cluster and how each node does. The nodes that a user names are asked first; what the one
 * with the newest configuration says of the members is asked next, so that any one living address will do. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

#define ASK_MS 1500

const char *facts_value(const struct node_facts *n, const char *key, char *buf, size_t size)
{
    return n->answered && status_value(buf_slice(&n->text), key, buf, size) ? buf : "-";
}

static uint64_t number(const struct node_facts *n, const char *key)
{
    char text[64];
    uint64_t v;
    return parse_u64(facts_value(n, key, text, sizeof text), &v) ? v : 0;
}

struct node_facts *facts_find(struct cluster_facts *f, uint64_t id)
{
    for (unsigned i = 0; i < f->n; i++)
        if (f->nodes[i].member.id == id) return &f->nodes[i];
    return NULL;
}

static struct node_facts *ask(struct io_loop *loop, struct cluster_facts *f, const struct raft_member *m)
{
    if (f->n == sizeof f->nodes / sizeof *f->nodes) return NULL;
    struct node_facts *n = &f->nodes[f->n++];
    *n = (struct node_facts){.member = *m, .seat = "-"};
    n->answered = cli_node_status(loop, m->addr, ASK_MS, &n->text) == 0;
    uint64_t id = number(n, "id");
    if (n->answered && id) n->member.id = id;   /* a list of bare addresses knows no numbers */
    return n;
}

/* The place of the node whose word counts: the leader of the highest term, else who has the newest configuration. */
static int best_of(const struct cluster_facts *f, bool leads)
{
    char role[64];
    int best = -1;
    uint64_t most = 0;
    for (unsigned i = 0; i < f->n; i++) {
        const struct node_facts *n = &f->nodes[i];
        if (!n->answered || (leads && strcmp(facts_value(n, "role", role, sizeof role), "leader") != 0)) continue;
        uint64_t v = number(n, leads ? "term" : "members_index");
        if (best < 0 || v > most) {
            most = v;
            best = (int)i;
        }
    }
    return best;
}

/* member.ID SEAT SOUND ADDRESS */
static bool parse_member(const char *line, struct raft_member *m, char seat[16], bool *fenced)
{
    unsigned long long id;
    char sound[16];
    int at = 0;
    if (sscanf(line, "member.%llu %15s %15s %n", &id, seat, sound, &at) != 3 || !at) return false;
    if (strlen(line + at) >= ADDR_MAX) return false;
    m->id = id;
    memcpy(m->addr, line + at, strlen(line + at) + 1);
    *fenced = strcmp(sound, "fenced") == 0;
    return true;
}

static void take_member(struct io_loop *loop, struct cluster_facts *f, const char *line, bool leads)
{
    struct raft_member m;
    char seat[16];
    bool fenced;
    if (!parse_member(line, &m, seat, &fenced)) return;
    struct node_facts *n = facts_find(f, m.id);
    if (n && !n->answered && strcmp(n->member.addr, m.addr) != 0) { /* it was moved: ask at the new place */
        buf_free(&n->text);
        n->member = m;
        n->answered = cli_node_status(loop, m.addr, ASK_MS, &n->text) == 0;
    }
    for (unsigned i = 0; !n && i < f->n; i++) /* asked already, under a number that was a guess */
        if (!f->nodes[i].answered && strcmp(f->nodes[i].member.addr, m.addr) == 0) n = &f->nodes[i];
    if (!n) n = ask(loop, f, &m);
    if (!n) return;
    n->member = m;
    n->is_member = true;
    memcpy(n->seat, seat, sizeof n->seat);
    n->votes = strcmp(seat, "voter") == 0 || strcmp(seat, "leaving") == 0 || strcmp(seat, "joining") == 0;
    n->fenced = leads && fenced;
}

/* peer.ID STATE MATCH recent|silent */
static void take_peer(struct cluster_facts *f, const char *line)
{
    unsigned long long id, match;
    char state[16], heard[16];
    if (sscanf(line, "peer.%llu %15s %llu %15s", &id, state, &match, heard) != 4) return;
    struct node_facts *n = facts_find(f, id);
    if (!n) return;
    n->match = match;
    n->silent = strcmp(heard, "silent") == 0;
}

static void take_words(struct io_loop *loop, struct cluster_facts *f, int of, bool leads)
{
    struct slice text = buf_slice(&f->nodes[of].text);
    for (int pass = 0; pass < 2; pass++) {
        char *copy = xmalloc(text.n + 1), *save = NULL;
        memcpy(copy, text.p, text.n);
        copy[text.n] = 0;
        for (char *l = strtok_r(copy, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
            if (pass == 0) take_member(loop, f, l, leads);
            else if (leads) take_peer(f, l);
        }
        free(copy);
    }
}

static void forget_words(struct cluster_facts *f)
{
    for (unsigned i = 0; i < f->n; i++) {
        f->nodes[i].is_member = f->nodes[i].votes = false;
        memcpy(f->nodes[i].seat, "-", 2);
    }
}

void facts_ask(struct io_loop *loop, const struct cluster *cluster, struct cluster_facts *f)
{
    *f = (struct cluster_facts){.leader = -1};
    for (unsigned i = 0; i < cluster->n; i++) ask(loop, f, &cluster->members[i]);
    int who = best_of(f, true);
    if (who < 0) {
        who = best_of(f, false);
        if (who >= 0) take_words(loop, f, who, false);
        who = best_of(f, true); /* perhaps a node that was not named leads */
    }
    if (who >= 0) {
        forget_words(f);
        take_words(loop, f, who, true);
    }
    for (unsigned i = f->n; who >= 0 && i-- > 0;) { /* neither a member nor there: a wrong or an old address */
        if (f->nodes[i].is_member || f->nodes[i].answered) continue;
        memmove(&f->nodes[i], &f->nodes[i + 1], (--f->n - i) * sizeof f->nodes[0]);
        if (who > (int)i) who--;
    }
    for (unsigned i = 0; i < f->n; i++) {
        f->voters += f->nodes[i].votes;
        f->voters_answer += f->nodes[i].votes && f->nodes[i].answered;
    }
    f->leader = who >= 0 && f->voters_answer > f->voters / 2 ? who : -1;
}

void facts_free(struct cluster_facts *f)
{
    for (unsigned i = 0; i < f->n; i++) buf_free(&f->nodes[i].text);
}
