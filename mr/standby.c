/* standby.c - see standby.h. */
#include "mr/standby.h"

#include <stdlib.h>
#include <time.h>

#include "mr/owner.h"
#include "mr/util.h"

#define LOOKS 8u

static void pause_ns(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    nanosleep(&t, NULL);
}

static bool same(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static int nobody_there(const char *path, enum job_state state, struct buf *why)
{
    mr__fmt(why, state == JOB_CANCELLED ? "the job %s was cancelled" : "the job %s never began: start it anew", path);
    return -ENOENT;
}

/* -EAGAIN: look again after a while. */
static int judge(const char *path, bool wait, const struct job_look *look, struct buf *why)
{
    if (look->state == JOB_DONE) return TURN_DONE;
    if (look->state == JOB_CANCELLED || (look->state == JOB_UNBORN && !wait))
        return nobody_there(path, look->state, why);
    return -EAGAIN;
}

int mr__await_turn(const char *path, bool wait, uint64_t beat_ns, uint32_t *epoch, struct buf *why)
{
    struct job_look last = {0}, look;
    uint32_t quiet = 0;
    int rc = -EAGAIN;

    for (bool first = true; rc == -EAGAIN; first = false) {
        if (!first) pause_ns(beat_ns);
        if ((rc = mr__jobdir_look(path, &look)) < 0) {
            mr__fmt(why, "the job %s cannot be looked at (cancelled, and removed?): %s", path, err_text(rc));
            break;
        }
        rc = judge(path, wait, &look, why);
        bool moved = first || look.epoch != last.epoch || look.state != last.state || !same(look.beat, last.beat);
        quiet = moved ? 0 : quiet + 1;
        if (rc == -EAGAIN && look.state == JOB_LIVE && (mr__owner_dead(look.owner) || quiet >= LOOKS)) rc = TURN_TAKE;
        if (rc == -EAGAIN && moved && !first && !wait) {
            mr__fmt(why, "somebody works on the job %s (boot, process, its start: %s); --standby waits for its end",
                    path, look.owner ? look.owner : "unknown");
            rc = -EBUSY;
        }
        *epoch = look.epoch;
        mr__look_free(&last);
        last = look;
    }
    mr__look_free(&last);
    return rc;
}
