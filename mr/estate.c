/* estate.c - see estate.h. */
#include "mr/estate.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/util.h"

#define LIST_MAX (1024u * MIB)
#define HEAD     8u

static int add_record(int fd, struct slice body)
{
    struct buf b = {0};
    put_u32(&b, (uint32_t)body.n);
    put_u32(&b, crc32c(0, body.p, body.n));
    put_bytes(&b, body);
    int rc = mr__write_all(fd, b.p, b.n);
    buf_free(&b);
    return rc;
}

int mr__estate_begin(const char *dir, const char *job)
{
    char *path = mr__strf("%s/" MR_ESTATE_NAME, dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : add_record(fd, slice_str(job));
    free(path);
    if (rc == 0) return fd;
    if (fd >= 0) close(fd);
    return rc;
}

int mr__estate_add(int fd, const struct buf *result) { return add_record(fd, buf_slice(result)); }

static bool take_record(struct slice *in, struct slice *body)
{
    uint32_t n = in->n < HEAD ? 0 : load_u32(in->p);
    if (in->n < HEAD || n > in->n - HEAD || crc32c(0, in->p + HEAD, n) != load_u32(in->p + 4)) return false;
    *body = slice_sub(*in, HEAD, n);
    *in = slice_sub(*in, HEAD + n, in->n - HEAD - n);
    return true;
}

static bool take_head(struct slice *in, const char *job)
{
    struct slice id;
    return take_record(in, &id) && slice_eq(id, slice_str(job));
}

/* A descriptor, or -errno. The directory may be a stranger's, and what is there a link or a FIFO. */
static int open_list(const char *dir)
{
    char *path = mr__strf("%s/" MR_ESTATE_NAME, dir);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), err = errno;
    free(path);
    return fd < 0 ? -err : fd;
}

bool mr__estate_is_of(const char *dir, const char *job)
{
    int fd = open_list(dir);
    struct buf b = {0};
    size_t n = HEAD + strlen(job);
    int64_t got = fd < 0 ? fd : mr__read_at(fd, buf_extend(&b, n), n, 0);
    struct slice in = slice_of(b.p, got < 0 ? 0 : (size_t)got);
    bool is = take_head(&in, job);
    if (fd >= 0) close(fd);
    buf_free(&b);
    return is;
}

bool mr__estate_is_empty(const char *dir)
{
    int fd = open_list(dir);
    uint8_t head[4];
    struct stat st;
    bool empty = fd < 0 || mr__read_at(fd, head, sizeof head, 0) != sizeof head || fstat(fd, &st) < 0 ||
                 (uint64_t)st.st_size <= HEAD + load_u32(head);
    if (fd >= 0) close(fd);
    return empty;
}

static bool is_whole(const char *dir, const struct task_result *r, uint32_t parts)
{
    char *path = mr__map_output(dir, r->no, r->attempt);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct run_range range;
    bool whole = fd >= 0 && mr__run_find(fd, parts, 0, &range) == 0;
    if (fd >= 0) close(fd);
    free(path);
    return whole;
}

void mr__estate_read(const char *dir, const char *job, uint32_t parts,
                     void (*each)(void *arg, const struct task_result *r), void *arg)
{
    char *path = mr__strf("%s/" MR_ESTATE_NAME, dir);
    struct buf b = {0};
    struct slice in, body;
    struct task_result r;

    bool more = mr__read_file(path, LIST_MAX, &b) == 0;
    in = buf_slice(&b);
    more = more && take_head(&in, job);
    while (more && take_record(&in, &body) && mr__result_decode(body, &r) == 0) {
        if (r.phase == SCHED_MAP && r.outcome == TASK_DONE && is_whole(dir, &r, parts)) each(arg, &r);
        mr__result_free(&r);
    }
    buf_free(&b);
    free(path);
}

static bool is_scratch(const char *name)
{
    unsigned no, attempt;
    char rest;
    if (name[0] == '.' || strcmp(name, "lock") == 0 || strcmp(name, MR_ESTATE_NAME) == 0) return false;
    return sscanf(name, "map-%u-%u%c", &no, &attempt, &rest) != 2;
}

void mr__estate_tidy(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));)
        if (is_scratch(e->d_name)) unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}
