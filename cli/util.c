/* util.c - messages, numbers on the command line, pid files, going into the background. */
#include "cli/cli.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int fail(int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("quorumfs: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return code;
}

int usage_error(const char *command, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "quorumfs %s: ", command);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\nTry: quorumfs %s --help\n", command);
    va_end(ap);
    return EXIT_USAGE;
}

bool parse_u64(const char *s, uint64_t *out)
{
    if (*s < '0' || *s > '9') return false;
    char *end;
    errno = 0;
    *out = strtoull(s, &end, 10);
    return errno == 0 && *end == 0;
}

static bool parse_scaled(const char *s, const char *const *units, const uint64_t *factors, uint64_t *out)
{
    char *end;
    if (*s < '0' || *s > '9') return false;
    errno = 0;
    uint64_t v = strtoull(s, &end, 10);
    if (errno) return false;
    for (; *units; units++, factors++) {
        if (strcmp(end, *units) != 0) continue;
        return !__builtin_mul_overflow(v, *factors, out);
    }
    return false;
}

bool parse_bytes(const char *s, uint64_t *out)
{
    static const char *const units[] = {"", "k", "K", "M", "G", "T", NULL};
    static const uint64_t factors[] = {1, 1024, 1024, 1024 * 1024, 1024 * 1024 * 1024, 1ull << 40};
    return parse_scaled(s, units, factors, out);
}

bool parse_ms(const char *s, uint64_t *out)
{
    static const char *const units[] = {"", "ms", "s", "m", "h", NULL};
    static const uint64_t factors[] = {1000, 1, 1000, 60 * 1000, 3600 * 1000};
    return parse_scaled(s, units, factors, out);
}

/* ---- pid files ---- */

int pidfile_lock(const char *path, pid_t *holder)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        char text[32] = {0};
        if (holder) *holder = read(fd, text, sizeof text - 1) > 0 ? (pid_t)atoi(text) : 0;
        close(fd);
        return QE_BUSY;
    }
    char text[32];
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

pid_t pidfile_holder(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[32] = {0};
    pid_t pid = 0;
    if (flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK && read(fd, text, sizeof text - 1) > 0)
        pid = (pid_t)atoi(text);
    close(fd);
    return pid;
}

void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Polls: a process of another parent gives no event to wait for that works without its pid's cooperation. */
static bool gone_within(const char *path, uint64_t ms)
{
    for (uint64_t waited = 0; waited <= ms; waited += 10) {
        if (pidfile_holder(path) == 0) return true;
        pause_ms(10);
    }
    return false;
}

bool pidfile_stop(const char *path, uint64_t grace_ms)
{
    pid_t pid = pidfile_holder(path);
    if (pid <= 1) return true;
    kill(pid, SIGTERM);
    kill(pid, SIGCONT);
    if (gone_within(path, grace_ms)) return true;
    kill(pid, SIGKILL);
    return gone_within(path, 5000);
}

/* ---- background ---- */

static int ready_fd = -1;

static void pass_on(int fd)
{
    char text[4096];
    ssize_t n;
    while ((n = read(fd, text, sizeof text)) > 0)
        if (write(STDERR_FILENO, text, (size_t)n) < 0) break;
}

int daemonize(const char *logfile)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC)) return -errno;
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid > 0) {
        close(fds[1]);
        unsigned char code;
        if (read(fds[0], &code, 1) != 1) { /* it died without a word: its own stderr had the reason */
            int status;
            waitpid(pid, &status, 0);
            _exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILED);
        }
        pass_on(fds[0]);
        _exit(code);
    }
    close(fds[0]);
    ready_fd = fds[1];
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = logfile ? open(logfile, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (logfile && log < 0) {
        int err = -errno;
        char text[4300];
        snprintf(text, sizeof text, "quorumfs: cannot write the log file %s: %s\n", logfile, err_text(err));
        daemon_ready(EXIT_FAILED, text);
        _exit(EXIT_FAILED);
    }
    dup2(null, 0);
    dup2(log >= 0 ? log : null, 1);
    dup2(log >= 0 ? log : null, 2);
    return 0;
}

void daemon_ready(int code, const char *text)
{
    if (ready_fd < 0) {
        if (text) fputs(text, stderr);
        return;
    }
    unsigned char c = (unsigned char)code;
    if (write(ready_fd, &c, 1) == 1 && text && write(ready_fd, text, strlen(text)) < 0) return;
    close(ready_fd);
    ready_fd = -1;
}

const char *self_path(void)
{
    static char path[4096];
    if (!path[0]) {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
        if (n <= 0) memcpy(path, "quorumfs", 9);
    }
    return path;
}
