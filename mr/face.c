/* face.c - see face.h. */
#include "mr/face.h"

#include "mr/util.h"

static void put_task(struct buf *b, const struct run *r, enum sched_phase phase, uint32_t no,
                     const struct sched_task_facts *f)
{
    mr__fmt(b, "%s %u %s", phase == SCHED_MAP ? "map" : "reduce", no, f->state);
    if (strcmp(f->state, "running") == 0)
        mr__fmt(b, " attempt=%u worker=%u seconds=%.1f", f->attempt, f->worker, (double)f->ran_ns / (double)NS_PER_S);
    if (strcmp(f->state, "done") == 0) mr__fmt(b, " attempt=%u", f->attempt);
    if (f->failures) mr__fmt(b, " failures=%u", f->failures);
    if (f->losses) mr__fmt(b, " losses=%u", f->losses);
    if (phase == SCHED_MAP) {
        const struct split *s = &r->plan.splits[no];
        mr__fmt(b, " bytes=%llu offset=%llu file=%s", (unsigned long long)s->len, (unsigned long long)s->off,
                r->plan.files[s->file].path);
    }
    mr__fmt(b, "\n");
}

void mr__face_tasks(const struct run *r, const struct sched *s, struct buf *b)
{
    for (uint32_t i = 0; i < r->plan.splits_n; i++) {
        struct sched_task_facts f = sched_task(s, SCHED_MAP, i);
        put_task(b, r, SCHED_MAP, i, &f);
    }
    for (uint32_t i = 0; i < r->job.reducers; i++) {
        struct sched_task_facts f = sched_task(s, SCHED_REDUCE, i);
        put_task(b, r, SCHED_REDUCE, i, &f);
    }
}

void mr__face_heaviest(const struct run *r, struct buf *b)
{
    struct counters all = {0};
    mr__run_sum(r, &all);
    if (all.heavy) mr__heavy_text(b, all.heavy);
    mr__counters_free(&all);
}

void mr__face_counters(const struct run *r, struct buf *b)
{
    struct counters all = {0};
    mr__run_sum(r, &all);
    mr__counters_json(b, &all);
    mr__counters_free(&all);
}
