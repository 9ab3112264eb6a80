/* kv_watch.c - `quorumfs kv watch`: prints events as they come, until --limit of them or a signal. */
#include "cli/kv.h"

#include <stdio.h>

struct watcher {
    struct cli_client *client;
    const struct kv_args *args;
    struct kv_watch watch;
    struct timer patience;              /* until it has begun */
    uint64_t events;
    bool begun, stop;
    int result;
};

static void stop(struct watcher *w, int result)
{
    w->result = result;
    w->stop = true;
    io_loop_stop(w->client->loop);
}

static void print_json(const struct kv_event *ev)
{
    kv_json_begin();
    kv_json_u64("revision", ev->revision);
    kv_json_u64("position", ev->position);
    kv_json_text("event", ev->type == KV_EVENT_PUT ? "put" : "delete");
    kv_json_bytes("key", ev->key);
    if (ev->type == KV_EVENT_PUT) {
        kv_json_u64("size", ev->size);
        kv_json_version(ev->ino, ev->version);
    }
    kv_json_end("\n");
}

static void on_event(struct kv_watch *kw, const struct kv_event *ev)
{
    struct watcher *w = kw->arg;
    if (w->stop) return;
    if (w->args->json) {
        print_json(ev);
    } else {
        printf("%llu %s ", (unsigned long long)ev->revision, ev->type == KV_EVENT_PUT ? "put" : "delete");
        fwrite(ev->key.p, 1, ev->key.n, stdout);
        putchar(w->args->zero ? 0 : '\n');
    }
    if (++w->events == w->args->limit) stop(w, kv_flush());
}

static void on_moved(struct kv_watch *kw)
{
    struct watcher *w = kw->arg;
    if (!w->begun) {
        w->begun = true;
        clock_disarm(io_clock(w->client->loop), &w->patience);
        if (w->args->json) {
            kv_json_begin();
            kv_json_u64("revision", kw->revision);
            kv_json_text("event", "begin");
            kv_json_end("\n");
        } else {
            fprintf(stderr, "watching from revision %llu\n", (unsigned long long)kw->revision);
        }
    }
    int code = kv_flush();
    if (code && !w->stop) stop(w, code);
}

static void on_ended(struct kv_watch *kw, int err, uint64_t from, struct slice why)
{
    struct watcher *w = kw->arg;
    if (w->stop) return;
    if (err == QE_GONE) {
        stop(w, fail(EXIT_GONE, "events of revision %llu are no longer kept: list the keys anew, then watch --from %llu",
                     (unsigned long long)kw->revision, (unsigned long long)from));
        return;
    }
    stop(w, fail(EXIT_FAILED, "the watch ends: %.*s", (int)why.n, (const char *)why.p));
}

static void out_of_patience(struct timer *t)
{
    stop(t->arg, fail(EXIT_UNREACHABLE, "no answer from the cluster in time (quorumfs status shows its members)"));
}

int kv_watch_keys(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    struct watcher w = {.client = c, .args = a};
    struct clock *clock = io_clock(c->loop);
    if (argc > 1) return usage_error("kv", "watch takes one PREFIX (or, with --exact, one KEY) at most");
    if (a->exact && !argc) return usage_error("kv", "watch --exact wants a KEY");
    w.watch = (struct kv_watch){.key = slice_str(argc ? argv[0] : ""),
                                .prefix = !a->exact,
                                .event = on_event,
                                .moved = on_moved,
                                .ended = on_ended,
                                .arg = &w};
    if (w.watch.key.n > FS_KEY_MAX) return kv_explain(w.watch.key, -ENAMETOOLONG, false);
    if (a->from && (!parse_u64(a->from, &w.watch.revision) || !w.watch.revision))
        return usage_error("kv", "watch --from wants a revision, a number greater than 0");
    w.patience = (struct timer){.fire = out_of_patience, .arg = &w};
    if (a->timeout_ms) clock_arm(clock, &w.patience, clock_now(clock) + a->timeout_ms * NS_PER_MS);
    if (a->limit) kv_watch(c->kv, &w.watch);
    else w.stop = true;
    while (!w.stop) io_loop_run(c->loop);
    kv_watch_cancel(c->kv, &w.watch);
    clock_disarm(clock, &w.patience);
    return w.result;
}
