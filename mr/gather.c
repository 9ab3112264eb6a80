/* gather.c - a reduce task's inputs (worker.h): outputs in directories of this host are read where they are, the others
 * are fetched, one connection a directory, all at once.
 *
 * Failure modes: the coordinator's message makes no sense (it is checked to the last index); an output cannot be
 * fetched: the gather ends and names it. Files in directories of our host are not looked at here: if one is missing
 * the merge says so. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/fetch.h"
#include "mr/util.h"
#include "mr/worker.h"

struct holder {
    char *host, *dir, *addr;
    struct fetch_output *v; /* its outputs */
    uint32_t n;
    struct fetch *fetch;
    char *path; /* where they are fetched to; NULL: not needed */
    struct gather *gather;
};

struct gather {
    struct gather_options o;
    uint32_t no, attempt;
    struct holder *holders;
    uint32_t holders_n;
    uint32_t *by, *attempts; /* of each map task's output: index of the holder, attempt */
    uint32_t maps;
    uint32_t fetching;
    struct timer done; /* nothing to fetch: done() comes later, too */
};

static void gather_free(struct gather *g)
{
    for (uint32_t i = 0; i < g->holders_n; i++) {
        struct holder *h = &g->holders[i];
        free(h->host);
        free(h->dir);
        free(h->addr);
        free(h->v);
        free(h->path);
    }
    clock_disarm(io_clock(g->o.loop), &g->done);
    free(g->holders);
    free(g->by);
    free(g->attempts);
    free(g);
}

/* ---- the message ---- */

static char *get_text(struct reader *r)
{
    struct slice s = get_slice16(r);
    if (s.n && memchr(s.p, 0, s.n)) r->bad = true;
    return mr__str(r->bad ? (struct slice){0} : s);
}

/* ":port" is at the machine that we know the coordinator by. */
static char *get_addr(struct reader *r, const char *coordinator)
{
    char *addr = get_text(r);
    const char *colon = strrchr(coordinator, ':');
    if (addr[0] != ':' || !colon) return addr;
    char *full = mr__strf("%.*s%s", (int)(colon - coordinator), coordinator, addr);
    free(addr);
    return full;
}

static void get_holders(struct reader *r, struct gather *g)
{
    uint32_t n = get_u32(r);
    if (n > reader_left(r) / 6) r->bad = true;
    if (r->bad) return;
    g->holders = xcalloc(n + 1, sizeof *g->holders);
    g->holders_n = n;
    for (uint32_t i = 0; i < n; i++) {
        struct holder *h = &g->holders[i];
        h->gather = g;
        h->host = get_text(r);
        h->dir = get_text(r);
        h->addr = get_addr(r, g->o.coordinator);
    }
}

static void get_outputs(struct reader *r, struct gather *g)
{
    uint32_t n = get_u32(r);
    if (n > reader_left(r) / 8) r->bad = true;
    if (r->bad) return;
    g->maps = n;
    g->by = xcalloc(n + 1, sizeof *g->by);
    g->attempts = xcalloc(n + 1, sizeof *g->attempts);
    for (uint32_t i = 0; i < n; i++) {
        g->by[i] = get_u32(r);
        g->attempts[i] = get_u32(r);
        if (g->by[i] >= g->holders_n)
            r->bad = true;
        else
            g->holders[g->by[i]].n++;
    }
    for (uint32_t i = 0; i < g->holders_n; i++) {
        g->holders[i].v = xcalloc(g->holders[i].n + 1, sizeof *g->holders[i].v);
        g->holders[i].n = 0;
    }
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        struct holder *h = &g->holders[g->by[i]];
        h->v[h->n++] = (struct fetch_output){i, g->attempts[i]};
    }
}

/* ---- fetching ---- */

static struct task *make_task(struct gather *g)
{
    struct task *t = xcalloc(1, sizeof *t);
    uint32_t *at = xcalloc(g->holders_n + 1, sizeof *at);

    *t = (struct task){.phase = SCHED_REDUCE, .no = g->no, .attempt = g->attempt};
    t->sources = xcalloc(g->maps + 1, sizeof *t->sources);
    for (; t->sources_n < g->maps; t->sources_n++) {
        uint32_t map = (uint32_t)t->sources_n;
        struct holder *h = &g->holders[g->by[map]];
        struct run_source *s = &t->sources[map];
        s->tag = mr__output_tag(map, g->attempts[map]);
        if (h->path)
            *s = (struct run_source){mr__strf("%s", h->path), h->n, at[g->by[map]]++, s->tag};
        else
            *s = (struct run_source){mr__map_output(h->dir, map, g->attempts[map]), g->o.parts, g->no, s->tag};
    }
    free(at);
    return t;
}

static void remove_files(struct gather *g)
{
    for (uint32_t i = 0; i < g->holders_n; i++)
        if (g->holders[i].path) unlink(g->holders[i].path);
}

static void finish(struct gather *g, struct task_result *failed)
{
    struct gather_options o = g->o;
    struct task *t = failed ? NULL : make_task(g);

    if (failed) remove_files(g);
    gather_free(g);
    o.done(o.arg, t, failed);
}

static void cancel_all(struct gather *g)
{
    for (uint32_t i = 0; i < g->holders_n; i++) {
        if (g->holders[i].fetch) mr__fetch_cancel(g->holders[i].fetch);
        g->holders[i].fetch = NULL;
    }
}

static void fail(struct gather *g, const struct holder *h, int err, enum fetch_fault fault, uint32_t at)
{
    struct task_result r = {.phase = SCHED_REDUCE, .no = g->no, .attempt = g->attempt, .outcome = TASK_STARVED};

    cancel_all(g);
    if (fault == FETCH_OWN) {
        r.outcome = TASK_FAILED;
        mr__fmt(&r.why, "cannot write the fetched map outputs in %s: %s", g->o.dir, err_text(err));
    } else {
        uint32_t end = fault == FETCH_OUTPUT ? at + 1 : h->n;
        if (fault == FETCH_PEER) r.outcome = TASK_UNREACHED;
        for (uint32_t i = at; i < end; i++) mr__result_lose(&r, mr__output_tag(h->v[i].map, h->v[i].attempt));
        mr__fmt(&r.why, "cannot fetch the output of map task %u from %s: %s", at < h->n ? h->v[at].map : 0, h->addr,
                err_text(err));
    }
    finish(g, &r);
}

static void on_fetched(void *arg, int err, enum fetch_fault fault, uint32_t at)
{
    struct holder *h = arg;
    struct gather *g = h->gather;

    h->fetch = NULL;
    g->fetching--;
    if (err)
        fail(g, h, err, fault, at);
    else if (g->fetching == 0)
        finish(g, NULL);
}

static void start_fetch(struct gather *g, uint32_t i)
{
    struct holder *h = &g->holders[i];

    if (strcmp(h->host, g->o.host) == 0 || h->n == 0) return;
    h->path = mr__strf("%s/fetch-%u-%u-%u", g->o.dir, g->no, g->attempt, i);
    struct fetch_options o = {.addr = h->addr,
                              .job = g->o.job,
                              .parts = g->o.parts,
                              .part = g->no,
                              .v = h->v,
                              .n = h->n,
                              .path = h->path,
                              .timeout_ns = g->o.timeout_ns,
                              .done = on_fetched,
                              .arg = h};
    h->fetch = mr__fetch_start(g->o.loop, &o);
    g->fetching++;
}

static void on_nothing_to_fetch(struct timer *t) { finish(t->arg, NULL); }

struct gather *mr__gather_start(const struct gather_options *o, struct slice payload, uint32_t *no, uint32_t *attempt)
{
    struct reader r = reader_of(payload);
    struct gather *g = xcalloc(1, sizeof *g);

    g->o = *o;
    g->done = (struct timer){.fire = on_nothing_to_fetch, .arg = g};
    *no = g->no = get_u32(&r);
    *attempt = g->attempt = get_u32(&r);
    get_holders(&r, g);
    get_outputs(&r, g);
    if (!reader_done(&r) || g->no >= o->parts) {
        gather_free(g);
        return NULL;
    }
    for (uint32_t i = 0; i < g->holders_n; i++) start_fetch(g, i);
    if (g->fetching == 0) clock_arm(io_clock(o->loop), &g->done, 0);
    return g;
}

void mr__gather_cancel(struct gather *g)
{
    cancel_all(g);
    remove_files(g);
    gather_free(g);
}

void mr__gather_clean(const char *dir, const struct task *t)
{
    char *prefix = mr__strf("%s/fetch-", dir);
    for (size_t i = 0; i < t->sources_n; i++)
        if (strncmp(t->sources[i].path, prefix, strlen(prefix)) == 0) unlink(t->sources[i].path);
    free(prefix);
}
