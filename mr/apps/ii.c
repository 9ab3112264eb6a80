/* ii.c - inverted index: for each word (as in wc.c) "<number of documents> <documents>", the documents sorted and
 * separated by commas. A document is the base name of an input file. An example of an application with state, too. */
#include "mr/mr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mr/apps/words.h"

static int ii_map(struct mr_ctx *c, const struct mr_record *r)
{
    struct words words = words_of_text(r->text.p, r->text.n);
    struct mr_bytes word, document = {r->document, strlen(r->document)};

    while (words_next(&words, &word)) c->emit(c, word, document);
    return 0;
}

/* The documents of one word; kept over the task to save allocations. */
struct documents {
    char **v;
    size_t n, cap;
    char *text;
    size_t text_cap;
};

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int ii_begin(struct mr_ctx *c)
{
    c->user = calloc(1, sizeof(struct documents));
    return c->user ? 0 : 1;
}

static int ii_end(struct mr_ctx *c)
{
    struct documents *d = c->user;
    free(d->v);
    free(d->text);
    free(d);
    return 0;
}

static int add_document(struct documents *d, struct mr_bytes name)
{
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 64;
        char **v = realloc(d->v, cap * sizeof *v);
        if (!v) return 1;
        d->v = v;
        d->cap = cap;
    }
    d->v[d->n] = strndup(name.p, name.n);
    return d->v[d->n] ? (d->n++, 0) : 1;
}

/* Sorts, drops what is there twice, and writes "<n> a,b,c" to d->text; returns its length, 0: no memory. */
static size_t make_line(struct documents *d)
{
    size_t kept = 0, need = 32;

    qsort(d->v, d->n, sizeof *d->v, by_name);
    for (size_t i = 0; i < d->n; i++) {
        if (kept && strcmp(d->v[kept - 1], d->v[i]) == 0) {
            free(d->v[i]);
        } else {
            need += strlen(d->v[i]) + 1;
            d->v[kept++] = d->v[i];
        }
    }
    d->n = kept;
    if (need > d->text_cap) {
        char *text = realloc(d->text, 2 * need);
        if (!text) return 0;
        d->text = text;
        d->text_cap = 2 * need;
    }
    char *p = d->text + sprintf(d->text, "%zu ", d->n);
    for (size_t i = 0; i < d->n; i++) {
        if (i) *p++ = ',';
        p = stpcpy(p, d->v[i]);
    }
    return (size_t)(p - d->text);
}

static int ii_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    struct documents *d = c->user;
    struct mr_bytes v;
    size_t n = 0;
    int failed = 0;

    while (!failed && values->next(values, &v)) failed = add_document(d, v);
    if (!failed) n = make_line(d);
    if (n)
        c->emit(c, key, (struct mr_bytes){d->text, n});
    else
        c->fail(c, "out of memory");
    while (d->n) free(d->v[--d->n]);
    return n ? 0 : 1;
}

const struct mr_app mr_application = {.abi = MR_ABI,
                                      .unit = MR_BLOCK,
                                      .fold = MR_FOLD_DISTINCT,
                                      .begin = ii_begin,
                                      .end = ii_end,
                                      .map = ii_map,
                                      .reduce = ii_reduce};
