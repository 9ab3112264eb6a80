/* util.c - strings, whole reads and writes, directories. Everything here blocks and answers with 0 or -errno. */
#include "mr/util.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

__attribute__((format(printf, 2, 0))) static void vformat(struct buf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    check(format);
    int n = vsnprintf(NULL, 0, format, args);
    check(n >= 0);
    buf_reserve(b, (size_t)n + 1);
    vsnprintf((char *)b->p + b->n, (size_t)n + 1, format, again);
    b->n += (size_t)n;
    va_end(again);
}

void mr__fmt(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vformat(b, format, args);
    va_end(args);
}

char *mr__strf(const char *format, ...)
{
    struct buf b = {0};
    va_list args;
    va_start(args, format);
    vformat(&b, format, args);
    va_end(args);
    return (char *)b.p;
}

char *mr__str(struct slice s)
{
    char *r = xmalloc(s.n + 1);
    if (s.n) memcpy(r, s.p, s.n);
    r[s.n] = 0;
    return r;
}

void mr__say(const char *format, ...)
{
    struct buf b = {0};
    va_list args;
    va_start(args, format);
    mr__fmt(&b, "quorumfs mr: ");
    vformat(&b, format, args);
    mr__fmt(&b, "\n");
    va_end(args);
    (void)!mr__write_all(2, b.p, b.n);
    buf_free(&b);
}

void mr__quote(struct buf *b, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,%@";
    if (*word && strspn(word, plain) == strlen(word)) {
        buf_append(b, word, strlen(word));
        return;
    }
    put_u8(b, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            buf_append(b, "'\\''", 4);
        else
            put_u8(b, (uint8_t)*word);
    }
    put_u8(b, '\'');
}

/* Bytes of the UTF-8 character at p, 0 if there is none. */
static size_t utf8_length(const uint8_t *p, size_t n)
{
    size_t len = p[0] < 0x80                   ? 1
                 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                               : 0;
    if (len == 0 || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return len;
}

void mr__json_str(struct buf *b, struct slice s)
{
    put_u8(b, '"');
    for (size_t i = 0; i < s.n;) {
        size_t len = utf8_length(s.p + i, s.n - i);
        if (len == 0)
            put_u8(b, '?');
        else if (s.p[i] == '"' || s.p[i] == '\\')
            mr__fmt(b, "\\%c", s.p[i]);
        else if (s.p[i] < 0x20)
            mr__fmt(b, "\\u%04x", s.p[i]);
        else
            buf_append(b, s.p + i, len);
        i += len ? len : 1;
    }
    put_u8(b, '"');
}

bool mr__number(struct slice s, int64_t *out)
{
    size_t i = 0;
    bool negative = s.n && s.p[0] == '-';
    int64_t v = 0;

    if (s.n && (s.p[0] == '-' || s.p[0] == '+')) i++;
    if (i == s.n) return false;
    for (; i < s.n; i++) {
        int digit = s.p[i] - '0';
        if (digit < 0 || digit > 9) return false;
        if (__builtin_mul_overflow(v, 10, &v)) return false;
        if (negative ? __builtin_sub_overflow(v, digit, &v) : __builtin_add_overflow(v, digit, &v)) return false;
    }
    *out = v;
    return true;
}

struct slice mr__decimal(char space[MR_DECIMAL_MAX], int64_t n)
{
    char *end = space + MR_DECIMAL_MAX, *p = end;
    uint64_t left = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do {
        *--p = (char)('0' + left % 10);
        left /= 10;
    } while (left);
    if (n < 0) *--p = '-';
    return slice_of(p, (size_t)(end - p));
}

int mr__write_all(int fd, const void *p, size_t n)
{
    const uint8_t *at = p;
    while (n) {
        ssize_t w = write(fd, at, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return -errno;
        at += w;
        n -= (size_t)w;
    }
    return 0;
}

int64_t mr__read_at(int fd, void *p, size_t n, uint64_t off)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(fd, (uint8_t *)p + done, n - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return -errno;
        if (r == 0) break;
        done += (size_t)r;
    }
    return (int64_t)done;
}

int mr__read_all(int fd, void *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = read(fd, (uint8_t *)p + done, n - done);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return -errno;
        if (r == 0) return QE_STOPPED;
        done += (size_t)r;
    }
    return 0;
}

char *mr__absolute(const char *path)
{
    if (path[0] == '/') return mr__strf("%s", path);
    char *cwd = getcwd(NULL, 0), *r = cwd ? mr__strf("%s/%s", cwd, path) : mr__strf("%s", path);
    free(cwd);
    return r;
}

int mr__mkdirs(const char *path)
{
    char *p = mr__strf("%s", path);
    int rc = 0;
    for (char *at = p + 1; rc == 0; at++) {
        if (*at && *at != '/') continue;
        char end = *at;
        *at = 0;
        if (mkdir(p, 0777) < 0 && errno != EEXIST) rc = -errno;
        *at = end;
        if (!end) break;
    }
    struct stat st;
    if (rc == 0 && stat(path, &st) < 0)
        rc = -errno;
    else if (rc == 0 && !S_ISDIR(st.st_mode))
        rc = -ENOTDIR;
    free(p);
    return rc;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    return (kind == FTW_DP || kind == FTW_DNR ? rmdir(path) : unlink(path)) < 0 && errno != ENOENT ? -errno : 0;
}

int mr__rmtree(const char *path)
{
    int rc = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (rc == -1) return errno == ENOENT ? 0 : -errno;
    return rc;
}

int mr__sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int rc = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
    close(fd);
    return rc;
}

char *mr__first_line(const char *path)
{
    char text[512] = {0};
    FILE *f = fopen(path, "re");
    char *got = f ? fgets(text, sizeof text, f) : NULL;
    if (f) fclose(f);
    text[strcspn(text, "\n")] = 0;
    return got ? mr__strf("%s", text) : NULL;
}

int mr__read_file(const char *path, size_t max, struct buf *b)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    for (size_t had = b->n;;) {
        buf_reserve(b, 64 * 1024);
        ssize_t n = read(fd, b->p + b->n, 64 * 1024);
        if (n < 0 && errno == EINTR) continue;
        int rc = n < 0 ? -errno : 0;
        if (n > 0) b->n += (size_t)n;
        if (rc == 0 && b->n - had > max) rc = -EFBIG;
        if (n > 0 && rc == 0) continue;
        close(fd);
        return rc;
    }
}

static int write_path(const char *path, struct slice text, bool sync)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return -errno;
    int rc = mr__write_all(fd, text.p, text.n);
    if (rc == 0 && sync && fsync(fd) < 0 && errno != EINVAL) rc = -errno;
    close(fd);
    return rc;
}

int mr__write_file(const char *dir, const char *name, struct slice text)
{
    char *path = mr__strf("%s/%s", dir, name), *temp = mr__strf("%s/%s.new", dir, name);
    int rc = write_path(temp, text, false);
    if (rc == 0 && rename(temp, path) < 0) rc = -errno;
    free(path);
    free(temp);
    return rc;
}

int mr__write_new(const char *dir, const char *name, struct slice text)
{
    char *path = mr__strf("%s/%s", dir, name);
    int rc = write_path(path, text, true);
    free(path);
    return rc;
}

uint64_t mr__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}
