/* kv_txn.c - `quorumfs kv txn`: reads a script, one condition or step a line, runs it and prints what it did.
 *
 * A line is words between blanks: `if absent KEY`, `if present KEY`, `if value KEY VALUE`, `if version KEY VERSION`, and
 * `then` or `else` with `get KEY`, `put KEY VALUE`, `append KEY VALUE`, `delete KEY`. A word may be in double quotes, with
 * \n \t \r \" \\ \xHH in it; a VALUE may be @FILE (@@x is the literal @x). Lines that begin with # are comments. */
#include "cli/kv.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WORDS_MAX 4u
#define SCRIPT_MAX (32u * MIB)

struct word {
    struct slice text;
    bool quoted;
};

struct script {
    const char *name;
    unsigned line;
    struct kv_txn *txn;
    struct buf *texts;                  /* the words' and values' bytes */
    size_t ntexts;
};

static int wrong(const struct script *s, const char *what)
{
    return fail(EXIT_USAGE, "%s:%u: %s (quorumfs kv --help shows the form)", s->name, s->line, what);
}

static struct buf *text_new(struct script *s)
{
    s->texts = xrealloc(s->texts, (s->ntexts + 1) * sizeof *s->texts);
    s->texts[s->ntexts] = (struct buf){0};
    return &s->texts[s->ntexts++];
}

/* ---- words ---- */

static int hex(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Behind the backslash. False: no such escape. */
static bool escape(struct reader *r, struct buf *out)
{
    static const char names[] = "ntr\"\\", bytes[] = "\n\t\r\"\\";
    uint8_t c = get_u8(r);
    const char *at = c ? strchr(names, c) : NULL;
    if (r->bad) return false;
    if (at) {
        put_u8(out, (uint8_t)bytes[at - names]);
        return true;
    }
    int hi = c == 'x' ? hex(get_u8(r)) : -1, lo = hi < 0 ? -1 : hex(get_u8(r));
    if (lo < 0 || r->bad) return false;
    put_u8(out, (uint8_t)(hi << 4 | lo));
    return true;
}

static bool blank(uint8_t c) { return c == ' ' || c == '\t' || c == '\r'; }

static int take_quoted(struct script *s, struct reader *r, struct buf *out)
{
    for (;;) {
        uint8_t c = get_u8(r);
        if (r->bad) return wrong(s, "a quoted word does not end on its line");
        if (c == '"') break;
        if (c != '\\') put_u8(out, c);
        else if (!escape(r, out)) return wrong(s, "after \\ comes one of n t r \" \\ or xHH");
    }
    return reader_left(r) && !blank(*r->p) ? wrong(s, "a blank is missing behind a quoted word") : 0;
}

static int take_word(struct script *s, struct reader *r, struct word *w)
{
    struct buf *out = text_new(s);
    w->quoted = *r->p == '"';
    if (w->quoted) {
        get_u8(r);
        int code = take_quoted(s, r, out);
        if (code) return code;
    } else {
        while (reader_left(r) && !blank(*r->p)) put_u8(out, get_u8(r));
    }
    w->text = buf_slice(out);
    return 0;
}

static int take_words(struct script *s, struct slice line, struct word *words, unsigned *n)
{
    struct reader r = reader_of(line);
    for (*n = 0;;) {
        while (reader_left(&r) && blank(*r.p)) get_u8(&r);
        if (!reader_left(&r) || (*n == 0 && *r.p == '#')) return 0;
        if (*n == WORDS_MAX) return wrong(s, "too many words; put a value with blanks in it into double quotes");
        int code = take_word(s, &r, &words[(*n)++]);
        if (code) return code;
    }
}

static bool is(struct slice word, const char *text) { return slice_eq(word, slice_str(text)); }

static int take_value(struct script *s, struct word *w, struct slice *out)
{
    *out = w->text;
    if (w->quoted || w->text.n == 0 || w->text.p[0] != '@') return 0;
    struct buf arg = {0}, *value = text_new(s);
    put_bytes(&arg, w->text);
    put_u8(&arg, 0);
    int code = kv_read_value((const char *)arg.p, false, value);
    *out = buf_slice(value);
    buf_free(&arg);
    return code;
}

/* ---- lines ---- */

static int condition(struct script *s, struct word *w, unsigned n)
{
    static const struct {
        const char *name;
        enum kv_cond_kind kind;
        unsigned words;
    } kinds[] = {{"absent", KV_IF_ABSENT, 3}, {"present", KV_IF_PRESENT, 3}, {"value", KV_IF_VALUE, 4},
                 {"version", KV_IF_VERSION, 4}};
    struct kv_txn *t = s->txn;
    if (t->nconds == KV_TXN_MAX) return wrong(s, "a transaction has at most 128 conditions");
    struct kv_cond *c = &t->conds[t->nconds];
    for (unsigned i = 0; n > 1 && i < 4; i++)
        if (is(w[1].text, kinds[i].name) && n == kinds[i].words) c->kind = kinds[i].kind;
    if (!c->kind) return wrong(s, "a condition is: if absent|present KEY, if value KEY VALUE, if version KEY VERSION");
    t->nconds++;
    c->key = w[2].text;
    if (c->kind == KV_IF_VALUE) return take_value(s, &w[3], &c->value);
    if (c->kind != KV_IF_VERSION) return 0;
    struct buf *text = text_new(s);
    put_bytes(text, w[3].text);
    put_u8(text, 0);
    char *dot = strchr((char *)text->p, '.');
    if (dot) *dot = 0;
    if (!dot || !parse_u64((char *)text->p, &c->ino) || !parse_u64(dot + 1, &c->version))
        return wrong(s, "a VERSION is two numbers with a dot between, as `kv get --json` prints it");
    return 0;
}

static int step(struct script *s, enum kv_txn_branch b, struct word *w, unsigned n)
{
    static const struct {
        const char *name;
        enum kv_code code;
        unsigned words;
    } codes[] = {{"get", KV_GET, 3}, {"put", KV_PUT, 4}, {"append", KV_APPEND, 4}, {"delete", KV_DELETE, 3}};
    struct kv_txn *t = s->txn;
    if (t->nsteps[b] == KV_TXN_MAX) return wrong(s, "a branch of a transaction has at most 128 steps");
    struct kv_step *st = &t->steps[b][t->nsteps[b]];
    for (unsigned i = 0; n > 1 && i < 4; i++)
        if (is(w[1].text, codes[i].name) && n == codes[i].words) st->code = codes[i].code;
    if (!st->code) return wrong(s, "a step is: get KEY, put KEY VALUE, append KEY VALUE, delete KEY");
    t->nsteps[b]++;
    st->key = w[2].text;
    return n == 4 ? take_value(s, &w[3], &st->value) : 0;
}

static int one_line(struct script *s, struct slice line)
{
    struct word w[WORDS_MAX];
    unsigned n;
    int code = take_words(s, line, w, &n);
    if (code || n == 0) return code;
    if (is(w[0].text, "if")) return condition(s, w, n);
    if (is(w[0].text, "then")) return step(s, KV_TXN_THEN, w, n);
    if (is(w[0].text, "else")) return step(s, KV_TXN_OTHERWISE, w, n);
    return wrong(s, "a line begins with if, then or else");
}

static int parse(struct script *s, struct slice text)
{
    int code = 0;
    while (text.n && !code) {
        const uint8_t *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n;
        s->line++;
        code = one_line(s, slice_sub(text, 0, n));
        n += end != NULL;
        text = slice_sub(text, n, text.n - n);
    }
    return code;
}

/* ---- what it did ---- */

static const char *const code_names[] = {[KV_GET] = "get", [KV_PUT] = "put", [KV_APPEND] = "append", [KV_DELETE] = "delete"};

static void print_text(const struct kv_step *st, const struct kv_txn_result *res)
{
    printf("%s ", code_names[st->code]);
    kv_print_word(st->key, false);
    if (res->status == -ENOENT) fputs(" absent", stdout);
    else if (res->status < 0) printf(" %s", err_name(res->status));
    else if (st->code != KV_DELETE) {
        printf(" %llu.%llu", (unsigned long long)res->attr.ino, (unsigned long long)res->attr.version);
        if (st->code == KV_GET) {
            putchar(' ');
            kv_print_word(res->value, true);
        }
    }
    putchar('\n');
}

static void print_json(const struct kv_step *st, const struct kv_txn_result *res, bool more)
{
    kv_json_begin();
    kv_json_text("step", code_names[st->code]);
    kv_json_bytes("key", st->key);
    if (res->status < 0) kv_json_text("error", err_name(res->status));
    else if (st->code != KV_DELETE) {
        kv_json_u64("size", res->attr.size);
        kv_json_version(res->attr.ino, res->attr.version);
        if (st->code == KV_GET) kv_json_bytes("value", res->value);
    }
    kv_json_end(more ? ", " : "");
}

static int not_done(const struct kv_txn *t, struct slice data)
{
    struct kv_txn_failure f;
    if (kv_txn_failure_decode(data, &f)) return fail(EXIT_FAILED, "the answer cannot be decoded");
    bool cond = f.in == KV_TXN_FAILED;
    if (f.at >= (cond ? t->nconds : t->nsteps[f.in])) return fail(EXIT_FAILED, "the answer cannot be decoded");
    fprintf(stderr, "quorumfs: nothing was changed: %s %u cannot be done:\n",
            cond ? "condition" : f.in == KV_TXN_THEN ? "step `then`" : "step `else`", f.at + 1);
    if (f.err == -EFBIG && !cond && t->steps[f.in][f.at].code == KV_GET)
        return fail(EXIT_FAILED, "the values that it reads are more than 4 MiB or too many pieces: use fewer or `kv get`");
    return kv_explain(cond ? t->conds[f.at].key : t->steps[f.in][f.at].key, f.err, false);
}

static int print_results(const struct kv_args *a, const struct kv_txn *t, const struct kv_reply *reply, struct slice data)
{
    if (reply->off == KV_TXN_FAILED) return not_done(t, data);
    enum kv_txn_branch b = reply->off == KV_TXN_THEN ? KV_TXN_THEN : KV_TXN_OTHERWISE;
    struct reader r = reader_of(data);
    struct kv_txn_result res;
    if (a->json) {
        kv_json_begin();
        kv_json_raw("succeeded", b == KV_TXN_THEN ? "true" : "false");
        kv_json_u64("revision", reply->index);
        kv_json_array("results");
    } else {
        puts(b == KV_TXN_THEN ? "then" : "else");
    }
    unsigned n = 0;
    for (; n < t->nsteps[b] && kv_txn_next(&r, &res); n++) {
        if (a->json) print_json(&t->steps[b][n], &res, n + 1 < t->nsteps[b]);
        else print_text(&t->steps[b][n], &res);
    }
    if (a->json) {
        kv_json_array_end("");
        kv_json_end("\n");
    }
    int code = kv_flush();
    if (r.bad || n < t->nsteps[b]) return fail(EXIT_FAILED, "the answer cannot be decoded");
    return code ? code : b == KV_TXN_THEN ? EXIT_OK : EXIT_CONFLICT;
}

static int run(struct cli_client *c, const struct kv_args *a, const struct kv_txn *t)
{
    struct buf request = {0}, data = {0};
    struct kv_reply reply;
    int code, err = kv_txn_encode(t, &request);
    if (err == -EFBIG) {
        code = fail(EXIT_FAILED, "keys and values are more than 4 MiB together, the limit of a transaction: use several, or "
                                 "write large values through a mount");
    } else if (err) {
        code = fail(EXIT_FAILED, "this transaction cannot be sent: %s", err_text(err));
    } else {
        struct kv_op op = {.code = KV_TXN, .data = buf_slice(&request)};
        int status = cli_call(c, &op, a->timeout_ms, &reply, &data);
        code = status < 0 ? kv_explain(slice_str("the transaction"), status, true)
                          : print_results(a, t, &reply, buf_slice(&data));
    }
    buf_free(&request);
    buf_free(&data);
    return code;
}

static int read_script(const char *file, struct buf *text)
{
    if (!file || strcmp(file, "-") == 0) return kv_read_all(STDIN_FILENO, "stdin", SCRIPT_MAX, text);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(EXIT_FAILED, "cannot open %s: %s", file, err_text(-errno));
    int code = kv_read_all(fd, file, SCRIPT_MAX, text);
    close(fd);
    return code;
}

int kv_txn(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    if (argc > 1) return usage_error("kv", "txn takes one FILE at most (none or '-': stdin)");
    struct buf text = {0};
    struct kv_txn t = {0};
    struct script s = {.name = argc && strcmp(argv[0], "-") ? argv[0] : "stdin", .txn = &t};
    int code = read_script(argc ? argv[0] : NULL, &text);
    if (!code) code = parse(&s, buf_slice(&text));
    if (!code) code = run(c, a, &t);
    for (size_t i = 0; i < s.ntexts; i++) buf_free(&s.texts[i]);
    free(s.texts);
    buf_free(&text);
    return code;
}
