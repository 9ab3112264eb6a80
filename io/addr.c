/* addr.c - addresses and the sockets made of them: "host:port" (TCP) and "unix:/path".
 *
 * TCP sockets get TCP_NODELAY, keepalive and a TCP_USER_TIMEOUT, so that a peer that vanished without a word is an
 * error within seconds, whether we wait for it or send to it.
 *
 * Unix paths may be longer than sun_path (107 bytes): the directory (to listen) or the socket itself (to connect) is
 * opened and addressed as /proc/self/fd/N. A socket file that nobody listens on is left over from a dead process and is
 * replaced; two processes that find the same one at the same time are kept apart by a lock on the directory. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/io_priv.h"

#define BACKLOG         4096
#define PEER_TIMEOUT_MS 5000

const char *io__addr_unix(const char *addr)
{
    size_t n = strlen(IO_UNIX_PREFIX);
    return strncmp(addr, IO_UNIX_PREFIX, n) == 0 ? addr + n : NULL;
}

static bool is_port(const char *s)
{
    size_t n = strlen(s);
    return n >= 1 && n <= 5 && strspn(s, "0123456789") == n && atoi(s) <= UINT16_MAX;
}

int io__addr_split(const char *addr, char host[256], char port[8])
{
    const char *colon = strrchr(addr, ':');
    if (!colon || !is_port(colon + 1)) return -EINVAL;
    const char *from = addr, *to = colon;
    if (*from == '[') {
        if (to == from + 1 || to[-1] != ']') return -EINVAL;
        from++;
        to--;
    } else if (memchr(from, ':', (size_t)(to - from))) {
        return -EINVAL; /* an IPv6 address without brackets */
    }
    size_t n = (size_t)(to - from);
    if (n >= 256) return -EINVAL;
    memcpy(host, from, n);
    host[n] = '\0';
    if (strcmp(host, "*") == 0) host[0] = '\0';
    snprintf(port, 8, "%s", colon + 1);
    return 0;
}

#define UNIX_SEND_BYTES (2 * 1024 * 1024)

static void set_option(int fd, int level, int name, int value)
{
    /* What an old kernel does not know is not worth failing for. */
    (void)!setsockopt(fd, level, name, &value, sizeof(value));
}

void io__addr_tune(int fd, int family)
{
    if (family == AF_UNIX) {        /* TCP sizes its buffers itself; here a 1 MiB frame would take five wake-ups */
        int bytes = UNIX_SEND_BYTES;
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes))) set_option(fd, SOL_SOCKET, SO_SNDBUF, bytes);
        return;
    }
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, PEER_TIMEOUT_MS / 1000);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, PEER_TIMEOUT_MS / 1000);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, PEER_TIMEOUT_MS);
}

int io__addr_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    io__addr_tune(fd, family);
    return fd;
}

void io__addr_name(int fd, char *out, size_t n)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    snprintf(out, n, "?");
    if (getpeername(fd, (struct sockaddr *)&sa, &len) < 0) return;
    if (sa.ss_family == AF_UNIX) {
        struct ucred cred;
        len = sizeof(cred);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0) snprintf(out, n, "unix:pid %d", (int)cred.pid);
        return;
    }
    char host[INET6_ADDRSTRLEN + 16], port[8];
    if (getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    snprintf(out, n, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

/* Dialling a free port of our own machine can join a socket with itself (TCP simultaneous open); the port would then be
 * taken when the process that is meant to listen there starts. */
bool io__addr_self(int fd)
{
    struct sockaddr_storage a = {0}, b = {0};
    socklen_t an = sizeof(a), bn = sizeof(b);
    if (getsockname(fd, (struct sockaddr *)&a, &an) < 0 || getpeername(fd, (struct sockaddr *)&b, &bn) < 0)
        return false;
    return a.ss_family != AF_UNIX && an == bn && memcmp(&a, &b, an) == 0;
}

int io__addr_listen_tcp(const struct addrinfo *ai)
{
    int err, fd = io__addr_socket(ai->ai_family);
    if (fd < 0) return fd;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (ai->ai_family == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    err = -errno;
    close(fd);
    return err;
}

static socklen_t unix_addr(struct sockaddr_un *sa, const char *path)
{
    size_t n = strlen(path);
    memset(sa, 0, sizeof(*sa));
    sa->sun_family = AF_UNIX;
    memcpy(sa->sun_path, path, n + 1);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
}

static bool fits(const char *path) { return strlen(path) < sizeof(((struct sockaddr_un *)0)->sun_path); }

int io__addr_connect_unix(int fd, const char *path)
{
    struct sockaddr_un sa;
    char proc[32];
    int err = 0, at = -1;
    if (!*path) return -EINVAL;
    if (!fits(path)) {
        at = open(path, O_PATH | O_CLOEXEC);
        if (at < 0) return -errno;
        snprintf(proc, sizeof(proc), "/proc/self/fd/%d", at);
        path = proc;
    }
    socklen_t n = unix_addr(&sa, path);
    if (connect(fd, (struct sockaddr *)&sa, n) < 0) err = -errno;
    if (at >= 0) close(at);
    return err;
}

/* Is somebody listening at `path`? A full backlog (EAGAIN) counts: so does all that we cannot tell. */
static bool answers(const char *path)
{
    int fd = io__addr_socket(AF_UNIX);
    if (fd < 0) return true;
    int r = io__addr_connect_unix(fd, path);
    close(fd);
    return r != -ECONNREFUSED && r != -ENOENT;
}

static int bind_unix(int fd, int dir, const char *path)
{
    struct sockaddr_un sa;
    char proc[sizeof(sa.sun_path)];
    if (!fits(path)) {
        const char *name = strrchr(path, '/');
        name = name ? name + 1 : path;
        if (snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", dir, name) >= (int)sizeof(proc)) return -ENAMETOOLONG;
        path = proc;
    }
    socklen_t n = unix_addr(&sa, path);
    return bind(fd, (struct sockaddr *)&sa, n) < 0 ? -errno : 0;
}

static bool is_socket(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int open_dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    char *dir = slash ? strndup(path, n ? n : 1) : strdup(".");
    check(dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = -errno;
    free(dir);
    return fd < 0 ? err : fd;
}

int io__addr_listen_unix(const char *path)
{
    int fd = -1, err = -EINVAL, dir = -1;
    if (!*path) goto out;
    err = dir = open_dir_of(path);
    if (dir < 0) goto out;
    flock(dir, LOCK_EX);
    err = fd = io__addr_socket(AF_UNIX);
    if (fd < 0) goto out;
    (void)!fchmod(fd, 0600); /* the file that bind() makes gets this mode */
    err = bind_unix(fd, dir, path);
    if (err == -EADDRINUSE && is_socket(path) && !answers(path)) {
        unlink(path);
        err = bind_unix(fd, dir, path);
    }
    if (err == 0 && listen(fd, BACKLOG) < 0) err = -errno;
out:
    if (dir >= 0) close(dir);
    if (err >= 0) return fd;
    if (fd >= 0) close(fd);
    return err;
}
