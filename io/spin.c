/* spin.c - adaptive spinning, see spin.h. */
#include "io/spin.h"

static void begin(struct io__spin *s, uint64_t now)
{
    s->on = true;
    s->until = now + IO_SPIN_NS;
}

static void end_in_vain(struct io__spin *s)
{
    s->on = false;
    s->skipped = 0;
    s->skip = s->skip == 0 ? 1 : s->skip * 2 < IO_SPIN_SKIP_MAX ? s->skip * 2 : IO_SPIN_SKIP_MAX;
}

bool io__spin(struct io__spin *s, uint64_t events, uint64_t now)
{
    bool came = s->events != events;
    s->events = events;
    if (!s->on) {
        if (s->skipped++ < s->skip) return false;
        begin(s, now);
    } else if (came) {
        s->skip = 0;
        begin(s, now);
    } else if (now >= s->until) {
        end_in_vain(s);
    }
    return s->on;
}
