/* face.c - see face.h. */
#include "mr/face.h"

#include "mr/util.h"

#define TASKS_MAX 2000u /* of a phase that are shown one by one */

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

static void put_phase(struct buf *b, const struct run *r, const struct sched *s, enum sched_phase phase, uint32_t n)
{
    uint32_t idle = 0, done = 0, awaited = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct sched_task_facts f = sched_task(s, phase, i);
        bool is_done = strcmp(f.state, "done") == 0;
        if (n <= TASKS_MAX || strcmp(f.state, "running") == 0 || (f.failures && !is_done)) {
            put_task(b, r, phase, i, &f);
            continue;
        }
        done += is_done;
        idle += strcmp(f.state, "idle") == 0;
        awaited += strcmp(f.state, "awaited") == 0;
    }
    if (n > TASKS_MAX)
        mr__fmt(b, "%s others idle=%u done=%u awaited=%u\n", phase == SCHED_MAP ? "map" : "reduce", idle, done,
                awaited);
}

void mr__face_tasks(const struct run *r, const struct sched *s, struct buf *b)
{
    put_phase(b, r, s, SCHED_MAP, (uint32_t)r->plan.splits_n);
    put_phase(b, r, s, SCHED_REDUCE, r->job.reducers);
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
