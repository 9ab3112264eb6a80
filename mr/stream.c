/* stream.c - running a user's command (stream.h): vfork, pipes, poll.
 *
 * Its stdin, stdout and stderr are served together, so that none can block another for ever. It dies with us
 * (PR_SET_PDEATHSIG) and gets default signal handling.
 *
 * Failure modes: it does not exist (status 127 of the shell), exits with another status than 0, is killed, prints a
 * line that is too long, or what is no pair; all are errors with the command's name. */
#include "mr/stream.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mr/format.h"
#include "mr/split.h"
#include "mr/util.h"

#define READ_BYTES   (256u * 1024)
#define READS_MAX    64
#define ERR_LINE_MAX (64u * 1024)
#define LOOK_NS      (100 * NS_PER_MS) /* for a limit, and what else the caller wants to see to */

struct stream {
    struct stream_options o;
    char *command;
    pid_t pid;
    int in, out, err;   /* -1: closed */
    struct buf partial; /* a line or pair that has not ended yet */
    struct buf err_partial;
    uint8_t *space;
    uint64_t active, looked; /* when it did something; when look() did */
};

/* What a new process begins with; all of it is made before, as the process shares our memory until it is the command.
 */
struct launch {
    const struct stream_options *o;
    int in, out, err;
    pid_t parent;
    char *words, **argv, **env;
};

/* A command of nothing but plain words needs no shell: one process less, and its signals are its own. What cannot be
 * run so (a shell's own word, a script without "#!") is left to the shell. NULL: it has other words. */
static char **plain_words(const char *command, char **words)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./,:@% \t";
    char *rest;
    size_t n = 0;

    if (command[strspn(command, plain)] || !command[strspn(command, " \t")]) return NULL;
    *words = mr__strf("%s", command);
    char **argv = xcalloc(strlen(command) + 1, sizeof *argv);
    for (char *w = strtok_r(*words, " \t", &rest); w; w = strtok_r(NULL, " \t", &rest)) argv[n++] = w;
    return argv;
}

static bool has_name(char *const *env, const char *entry)
{
    size_t n = strcspn(entry, "=") + 1;
    for (; env && *env; env++)
        if (strncmp(*env, entry, n) == 0) return true;
    return false;
}

/* Ours, with what is added; the strings are borrowed. The last of a name counts. */
static char **merged_env(char *const *added)
{
    size_t ours = 0, more = 0, n = 0;
    while (environ && environ[ours]) ours++;
    while (added && added[more]) more++;
    char **env = xcalloc(ours + more + 1, sizeof *env);
    for (size_t i = 0; i < ours; i++)
        if (!has_name(added, environ[i])) env[n++] = environ[i];
    for (size_t i = 0; i < more; i++)
        if (!has_name(added + i + 1, added[i])) env[n++] = added[i];
    return env;
}

static __attribute__((noreturn)) void run(const struct launch *l)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != l->parent) _exit(125);
    if (dup2(l->in, 0) < 0 || dup2(l->out, 1) < 0 || (l->err >= 0 && dup2(l->err, 2) < 0)) _exit(125);
    if (l->o->cwd && chdir(l->o->cwd) < 0) {
        mr__say("cannot change to the directory %s: %s", l->o->cwd, err_text(-errno));
        _exit(125);
    }
    if (l->argv) execvp(l->argv[0], l->argv);
    execl("/bin/sh", "sh", "-c", l->o->command, (char *)NULL);
    mr__say("cannot run /bin/sh: %s", err_text(-errno));
    _exit(125);
}

/* vfork: a short task's command should not cost a copy of our memory's map. */
static pid_t start(const struct launch *l)
{
    char **ours = environ;
    environ = l->env;
    pid_t pid = vfork();
    if (pid == 0) run(l);
    environ = ours;
    return pid;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

int mr__stream_open(const struct stream_options *o, struct stream **out, struct buf *why)
{
    int in[2] = {-1, -1}, back[2] = {-1, -1}, err[2] = {-1, -1}, rc = 0;
    pid_t pid = -1;

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(back, O_CLOEXEC) < 0 || (o->err_line && pipe2(err, O_CLOEXEC) < 0))
        rc = -errno;
    struct launch l = {.o = o, .in = in[0], .out = back[1], .err = err[1], .parent = getpid()};
    l.argv = plain_words(o->command, &l.words);
    l.env = merged_env(o->env);
    if (rc == 0 && (pid = start(&l)) < 0) rc = -errno;
    free(l.words);
    free(l.argv);
    free(l.env);
    close_fd(&in[0]);
    close_fd(&back[1]);
    close_fd(&err[1]);
    if (rc < 0) {
        close_fd(&in[1]);
        close_fd(&back[0]);
        close_fd(&err[0]);
        mr__fmt(why, "cannot start a process: %s", err_text(rc));
        return rc;
    }
    struct stream *s = xcalloc(1, sizeof *s);
    *s = (struct stream){
        .o = *o, .command = mr__strf("%s", o->command), .pid = pid, .in = in[1], .out = back[0], .err = err[0]};
    fcntl(s->in, F_SETFL, O_NONBLOCK);
    fcntl(s->out, F_SETFL, O_NONBLOCK);
    if (s->err >= 0) fcntl(s->err, F_SETFL, O_NONBLOCK);
    s->space = xmalloc(READ_BYTES);
    s->active = s->looked = mr__now();
    *out = s;
    return 0;
}

static int take_lines(struct stream *s, const uint8_t *p, size_t n, struct buf *why)
{
    while (n) {
        const uint8_t *lf = memchr(p, '\n', n);
        size_t len = lf ? (size_t)(lf - p) : n;
        if (s->partial.n + len > MR_RECORD_MAX) {
            mr__fmt(why, "'%s' printed a line of more than %u MiB", s->command, MR_RECORD_MAX / MIB);
            return -EMSGSIZE;
        }
        if (lf && s->partial.n == 0) {
            s->o.line(s->o.arg, slice_of(p, len));
        } else {
            put_bytes(&s->partial, slice_of(p, len));
            if (lf) s->o.line(s->o.arg, buf_slice(&s->partial));
            if (lf) buf_clear(&s->partial);
        }
        p += len + (lf != NULL);
        n -= len + (lf != NULL);
    }
    return 0;
}

static int take_pairs(struct stream *s, const uint8_t *p, size_t n, struct buf *why)
{
    struct slice rest, key, value;
    int64_t used;

    put_bytes(&s->partial, slice_of(p, n));
    rest = buf_slice(&s->partial);
    while ((used = mr__format_get_pair(rest, &key, &value)) > 0) {
        s->o.pair(s->o.arg, key, value);
        rest = slice_sub(rest, (size_t)used, rest.n - (size_t)used);
    }
    if (used < 0) {
        mr__fmt(why, "'%s' printed what is no key/value pair (u32 key length, u32 value length, key, value)",
                s->command);
        return -EBADMSG;
    }
    if (rest.n) memmove(s->partial.p, rest.p, rest.n);
    s->partial.n = rest.n;
    return 0;
}

static int end_output(struct stream *s, struct buf *why)
{
    close_fd(&s->out);
    if (s->partial.n && s->o.pair) {
        mr__fmt(why, "'%s' ended within a key/value pair", s->command);
        return -EBADMSG;
    }
    if (s->partial.n) s->o.line(s->o.arg, buf_slice(&s->partial));
    buf_clear(&s->partial);
    return 0;
}

static int take_output(struct stream *s, struct buf *why)
{
    ssize_t n = read(s->out, s->space, READ_BYTES);
    if (n > 0) s->active = mr__now();
    if (n > 0 && s->o.touch) s->o.touch(s->o.touch_arg, 0);
    if (n > 0 && s->o.pair) return take_pairs(s, s->space, (size_t)n, why);
    if (n > 0) return take_lines(s, s->space, (size_t)n, why);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n < 0) {
        mr__fmt(why, "cannot read the output of '%s': %s", s->command, err_text(-errno));
        return -errno;
    }
    return end_output(s, why);
}

/* ---- one that hangs ---- */

static bool watches(const struct stream *s) { return s->o.limit_ns || s->o.idle; }

/* How long poll() may wait. */
static int patience(const struct stream *s) { return watches(s) ? (int)(LOOK_NS / NS_PER_MS) : -1; }

/* Now and then. -ETIME: it hangs. */
static int look(struct stream *s, struct buf *why)
{
    uint64_t now = watches(s) ? mr__now() : 0;
    if (now < s->looked + LOOK_NS) return 0;
    s->looked = now;
    if (s->o.idle) s->o.idle(s->o.idle_arg);
    if (!s->o.limit_ns || now < s->active + s->o.limit_ns) return 0;
    mr__fmt(why, "'%s' made no progress for %g s and was killed (--task-timeout)", s->command,
            (double)s->o.limit_ns / (double)NS_PER_S);
    return -ETIME;
}

/* ---- its stderr ---- */

/* Passes on what is not taken. A line that is too long for us goes through in pieces. */
static void take_err_lines(struct stream *s, bool over)
{
    struct slice rest = buf_slice(&s->err_partial);

    while (rest.n) {
        const uint8_t *lf = memchr(rest.p, '\n', rest.n);
        size_t n = lf ? (size_t)(lf - rest.p) : rest.n;
        if (!lf && !over && rest.n < ERR_LINE_MAX) break;
        if (!s->o.err_line(s->o.err_arg, slice_sub(rest, 0, n)))
            (void)!mr__write_all(2, rest.p, n + (lf != NULL));
        else
            s->active = mr__now();
        n += lf != NULL;
        rest = slice_sub(rest, n, rest.n - n);
    }
    if (rest.n) memmove(s->err_partial.p, rest.p, rest.n);
    s->err_partial.n = rest.n;
}

/* False: there is nothing now. */
static bool take_err(struct stream *s)
{
    if (s->err < 0) return false;
    buf_reserve(&s->err_partial, ERR_LINE_MAX);
    ssize_t n = read(s->err, s->err_partial.p + s->err_partial.n, ERR_LINE_MAX);
    if (n < 0 && errno == EINTR) return true;
    if (n < 0 && errno == EAGAIN) return false;
    if (n > 0) {
        s->err_partial.n += (size_t)n;
    } else {
        close_fd(&s->err);
    }
    take_err_lines(s, n <= 0);
    return n > 0;
}

/* One round: waits until something can be done and does it. */
static int turn(struct stream *s, struct slice *in, struct buf *why)
{
    struct pollfd fds[3] = {{.fd = s->out, .events = POLLIN},
                            {.fd = in->n ? s->in : -1, .events = POLLOUT},
                            {.fd = s->err, .events = POLLIN}};

    int ready = poll(fds, 3, patience(s)), rc = look(s, why);
    if (ready < 0) return errno == EINTR ? rc : -errno;
    if (ready == 0 || rc < 0) return rc;
    if (fds[1].fd >= 0 && fds[1].revents) {
        ssize_t w = write(s->in, in->p, in->n);
        if (w > 0) s->active = mr__now();
        if (w >= 0)
            *in = slice_sub(*in, (size_t)w, in->n - (size_t)w);
        else if (errno != EAGAIN && errno != EINTR)
            close_fd(&s->in); /* EPIPE: it wants no more */
    }
    if (fds[2].fd >= 0 && fds[2].revents) take_err(s);
    if (fds[0].fd >= 0 && fds[0].revents) return take_output(s, why);
    return 0;
}

int mr__stream_feed(struct stream *s, struct slice bytes, struct buf *why)
{
    int rc = 0;
    while (rc == 0 && bytes.n && s->in >= 0) rc = turn(s, &bytes, why);
    return rc;
}

/* Its stderr is served until it has ended; what processes that it left behind write later is nobody's. */
static int serve_err(struct stream *s, struct buf *why)
{
    int pidfd = s->err < 0 && !watches(s) ? -1 : pidfd_open(s->pid, 0), rc = 0;

    while (pidfd >= 0 && (s->err >= 0 || watches(s))) {
        struct pollfd fds[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = s->err, .events = POLLIN}};
        int ready = poll(fds, 2, patience(s));
        if (rc == 0 && (rc = look(s, why)) < 0) kill(s->pid, SIGKILL);
        if (ready < 0) continue;
        bool ended = fds[0].revents != 0;
        /* Within reason: who writes without end is to be looked at, too. */
        for (int i = 0; i < READS_MAX && take_err(s);) i += !ended;
        if (ended) break;
    }
    if (pidfd >= 0) close(pidfd);
    close_fd(&s->err);
    if (s->o.err_line) take_err_lines(s, true);
    return rc;
}

/* 0, or -ETIME: it had to be killed. */
static int wait_for(struct stream *s, int *status, struct buf *why)
{
    int rc = serve_err(s, why);
    *status = 0;
    while (waitpid(s->pid, status, 0) < 0 && errno == EINTR) {
    }
    return rc;
}

static void stream_free(struct stream *s)
{
    close_fd(&s->in);
    close_fd(&s->out);
    close_fd(&s->err);
    buf_free(&s->partial);
    buf_free(&s->err_partial);
    free(s->space);
    free(s->command);
    free(s);
}

void mr__wait_text(struct buf *b, const char *command, int status)
{
    if (WIFSIGNALED(status)) {
        mr__fmt(b, "'%s' was killed by signal %d (%s)", command, WTERMSIG(status), strsignal(WTERMSIG(status)));
        return;
    }
    mr__fmt(b, "'%s' exited with status %d", command, WEXITSTATUS(status));
    if (WEXITSTATUS(status) == 127)
        mr__fmt(b, " (no such program)");
    else if (WEXITSTATUS(status) == 126)
        mr__fmt(b, " (not executable)");
    else if (WEXITSTATUS(status) > 128 && WEXITSTATUS(status) < 128 + 65)
        mr__fmt(b, " (the shell's way to say: killed by signal %d, %s)", WEXITSTATUS(status) - 128,
                strsignal(WEXITSTATUS(status) - 128));
}

int mr__stream_close(struct stream *s, struct buf *why)
{
    struct slice nothing = {0};
    int rc = 0;

    close_fd(&s->in);
    while (rc == 0 && s->out >= 0) rc = turn(s, &nothing, why);
    if (rc < 0) {
        mr__stream_kill(s);
        return rc;
    }
    int status;
    rc = wait_for(s, &status, why);
    if (rc == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        mr__wait_text(why, s->command, status);
        rc = -ECHILD;
    }
    stream_free(s);
    return rc;
}

void mr__stream_kill(struct stream *s)
{
    struct buf nothing = {0};
    int status;
    if (!s) return;
    s->o.limit_ns = 0;
    s->o.idle = NULL;
    kill(s->pid, SIGKILL);
    wait_for(s, &status, &nothing);
    stream_free(s);
}
