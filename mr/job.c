/* job.c - job.h. What comes over the wire is validated field by field. */
#include "mr/job.h"

#include <stdlib.h>
#include <unistd.h>

#include "io/io.h"
#include "mr/context.h"
#include "mr/util.h"

#define MEMORY_DEFAULT         (256ull * MIB)
#define MEMORY_MIN             (8ull * MIB)
#define ID_MAX                 64u
#define TIMEOUT_MAX_NS         (100u * 1000 * 1000 * NS_PER_S) /* three years: sums of such times do not overflow */
#define TASK_TIMEOUT_DEFAULT   300u
#define WORKER_TIMEOUT_DEFAULT 10u

/* A combiner runs by default only where the application says that it may, and reduces what it mapped. */
static char *choose_combine(const struct mr_options *o, const struct program *map)
{
    if (o->combine) return strcmp(o->combine, "none") == 0 ? NULL : mr__program_absolute(o->combine);
    if (!map->app || strcmp(o->map, o->reduce) != 0) return NULL;
    return map->app->combine || map->app->fold != MR_FOLD_NONE ? mr__program_absolute(o->map) : NULL;
}

char *mr__job_id(void)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    char *id = xcalloc(1, 11);
    uint64_t r = io_random();
    for (int i = 0; i < 10; i++, r /= 36) id[i] = digits[r % 36];
    return id;
}

static int check_options(const struct mr_options *o, struct buf *why)
{
    if (!o->map || !o->reduce) {
        mr__fmt(why, "a job needs --map and --reduce (or --app)");
        return -EINVAL;
    }
    if (o->reducers > MR_REDUCERS_MAX) {
        mr__fmt(why, "--reducers is at most %u", MR_REDUCERS_MAX);
        return -EINVAL;
    }
    if (o->memory_bytes && o->memory_bytes < MEMORY_MIN) {
        mr__fmt(why, "--memory is at least %llu MiB", MEMORY_MIN / MIB);
        return -EINVAL;
    }
    return 0;
}

/* What the application wants, where the user did not say. */
static void adapt_format(const struct mr_app *app, const struct mr_options *o, struct format *f)
{
    if (!app) return;
    if (app->unit == MR_FILE) f->input = MR_IN_FILES;
    if (o->partition == MR_PARTITION_DEFAULT && app->partition) f->partition = (enum mr_partition)app->partition;
}

static bool is_word_of(const char *words, struct slice word)
{
    while (*words) {
        size_t n = strcspn(words, " ");
        if (slice_eq(slice_of(words, n), word)) return true;
        words += n + strspn(words + n, " ");
    }
    return false;
}

static void put_params(struct buf *b, const char *program, const char *params)
{
    if (*params) mr__fmt(b, "; %s has ", program);
    for (; *params; params++)
        if (*params == ' ')
            mr__fmt(b, ", ");
        else
            put_u8(b, (uint8_t)*params);
}

/* What no program of the job knows would be passed over in silence. Other programs than ours may know anything. */
static int check_params(const struct job *j, const struct programs *p, struct buf *why)
{
    const char *map = mr__program_params(&p->map), *reduce = mr__program_params(&p->reduce);
    if (!map || !reduce || !mr__program_params(&p->combine)) return 0;
    for (size_t i = 0; i < j->format.params_n; i++) {
        const char *param = j->format.params[i];
        struct slice name = slice_of(param, strcspn(param, "="));
        if (is_word_of(map, name) || is_word_of(reduce, name)) continue;
        mr__fmt(why, "no program of this job has a parameter '%.*s' (--set)", (int)name.n, name.p);
        put_params(why, j->map, map);
        if (strcmp(j->map, j->reduce) != 0) put_params(why, j->reduce, reduce);
        return -EINVAL;
    }
    return 0;
}

/* Shipped applications begin and end without effects: what is wrong with their parameters is said before there is a
 * job. */
static int try_params(const struct job *j, const struct program *p, struct buf *why)
{
    struct program_context c = {.job = j->id, .format = &j->format};
    struct context x;
    if (!p->app || !p->app->begin || !mr__program_params(p)) return 0;
    mr__context_init(&x, &c, why);
    int rc = mr__context_result(&x, p->app->begin(&x.pub), "begin");
    return rc == 0 && p->app->end ? mr__context_result(&x, p->app->end(&x.pub), "end") : rc;
}

int mr__job_make(const struct mr_options *o, struct job *out, struct buf *why)
{
    struct programs p;
    struct program map = {0};
    struct format format = {0};
    int rc = check_options(o, why);

    *out = (struct job){0};
    if (rc == 0) rc = mr__program_open(o->map, PROGRAM_MAP, &map, why);
    if (rc == 0) rc = mr__format_make(o, &format, why);
    if (rc < 0) {
        mr__program_close(&map);
        return rc;
    }
    adapt_format(map.app, o, &format);
    *out = (struct job){
        .id = mr__job_id(),
        .map = mr__program_absolute(o->map),
        .combine = choose_combine(o, &map),
        .reduce = mr__program_absolute(o->reduce),
        .cwd = getcwd(NULL, 0),
        .reducers = o->reducers ? o->reducers : 1,
        .memory = o->memory_bytes ? o->memory_bytes : MEMORY_DEFAULT,
        .task_timeout_ns = (o->task_timeout_s ? o->task_timeout_s : TASK_TIMEOUT_DEFAULT) * NS_PER_S,
        .beat_ns = (o->worker_timeout_s ? o->worker_timeout_s : WORKER_TIMEOUT_DEFAULT) * NS_PER_S / 8,
        .format = format,
    };
    mr__program_close(&map);
    rc = mr__programs_open(out, &p, why);
    if (rc == 0) rc = check_params(out, &p, why);
    if (rc == 0) rc = try_params(out, &p.map, why);
    if (rc == 0) rc = try_params(out, &p.reduce, why);
    mr__programs_close(&p);
    if (rc < 0) mr__job_free(out);
    return rc;
}

void mr__job_free(struct job *j)
{
    free(j->id);
    free(j->map);
    free(j->combine);
    free(j->reduce);
    free(j->cwd);
    free(j->attempts);
    mr__format_free(&j->format);
    free(j->lab);
    *j = (struct job){0};
}

static void put_text(struct buf *b, const char *s) { put_slice32(b, slice_str(s ? s : "")); }

void mr__job_encode(struct buf *b, const struct job *j)
{
    put_text(b, j->id);
    put_text(b, j->map);
    put_text(b, j->combine);
    put_text(b, j->reduce);
    put_text(b, j->cwd);
    put_text(b, j->attempts);
    put_u32(b, j->reducers);
    put_u64(b, j->memory);
    put_u64(b, j->task_timeout_ns);
    put_u64(b, j->beat_ns);
    mr__format_encode(b, &j->format);
    put_text(b, j->lab);
    put_u32(b, j->lab_maps);
}

/* NULL where it is empty. */
static char *get_text(struct reader *r)
{
    struct slice s = get_slice32(r);
    if (s.n && memchr(s.p, 0, s.n)) r->bad = true;
    return s.n && !r->bad ? mr__str(s) : NULL;
}

/* Shorter ones would keep a worker from anything else. */
static bool sane_time(uint64_t ns) { return ns >= NS_PER_MS && ns <= TIMEOUT_MAX_NS; }

static bool sane(const struct job *j)
{
    return j->id && strlen(j->id) <= ID_MAX && strspn(j->id, "abcdefghijklmnopqrstuvwxyz0123456789") == strlen(j->id) && j->map && j->reduce &&
           j->attempts && j->attempts[0] == '/' && j->reducers >= 1 && j->reducers <= MR_REDUCERS_MAX &&
           j->memory >= MEMORY_MIN && sane_time(j->task_timeout_ns) && sane_time(j->beat_ns);
}

int mr__job_decode(struct slice in, struct job *out)
{
    struct reader r = reader_of(in);

    *out = (struct job){0};
    out->id = get_text(&r);
    out->map = get_text(&r);
    out->combine = get_text(&r);
    out->reduce = get_text(&r);
    out->cwd = get_text(&r);
    out->attempts = get_text(&r);
    out->reducers = get_u32(&r);
    out->memory = get_u64(&r);
    out->task_timeout_ns = get_u64(&r);
    out->beat_ns = get_u64(&r);
    mr__format_decode(&r, &out->format);
    out->lab = get_text(&r);
    out->lab_maps = get_u32(&r);
    if (reader_done(&r) && sane(out)) return 0;
    mr__job_free(out);
    return -EBADMSG;
}

int mr__programs_open(const struct job *j, struct programs *out, struct buf *why)
{
    *out = (struct programs){.combines = j->combine != NULL};
    int rc = mr__program_open(j->map, PROGRAM_MAP, &out->map, why);
    if (rc == 0) rc = mr__program_open(j->reduce, PROGRAM_REDUCE, &out->reduce, why);
    if (rc == 0 && j->combine) rc = mr__program_open(j->combine, PROGRAM_COMBINE, &out->combine, why);
    return rc;
}

void mr__programs_close(struct programs *p)
{
    mr__program_close(&p->map);
    mr__program_close(&p->combine);
    mr__program_close(&p->reduce);
}
