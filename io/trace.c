/* trace.c - a trace sink over a file descriptor, and randomness from the kernel. */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "io/io.h"

/* One write(2) a line, so lines of several processes in one file stay whole. A sink that fails is ignored: there is
 * nobody to tell. */
static void write_line(void *arg, enum trace_level level, const char *text)
{
    static const char *const names[] = {"debug", "info ", "warn ", "error"};
    struct timespec ts;
    struct tm tm;
    char stamp[32], line[1200];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(line, sizeof(line), "%s.%06ldZ %s %s\n", stamp, ts.tv_nsec / 1000, names[level], text);
    if (n >= (int)sizeof(line)) {
        n = (int)sizeof(line) - 1;
        line[n - 1] = '\n';
    }
    ssize_t r;
    do r = write((int)(intptr_t)arg, line, (size_t)n);
    while (r < 0 && errno == EINTR);
}

void io_trace_fd(struct trace *t, int fd, enum trace_level level)
{
    *t = (struct trace){.level = level, .line = write_line, .arg = (void *)(intptr_t)fd};
}

uint64_t io_random(void)
{
    uint64_t v;
    ssize_t r;
    do r = getrandom(&v, sizeof(v), 0);
    while (r < 0 && errno == EINTR);
    check(r == sizeof(v));
    return v;
}
