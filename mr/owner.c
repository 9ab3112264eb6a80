/* owner.c - see owner.h. A pid says nothing without the boot and the time at which the process began. */
#include "mr/owner.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/util.h"

/* When the process began, in ticks since the boot; 0: there is no such process. */
static unsigned long long start_of(pid_t pid)
{
    char *path = mr__strf("/proc/%d/stat", (int)pid), *line = mr__first_line(path);
    const char *p = line ? strrchr(line, ')') : NULL;
    unsigned long long start = 0;
    bool zombie = p && p[1] == ' ' && (p[2] == 'Z' || p[2] == 'X');

    for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
    if (p && !zombie) start = strtoull(p + 1, NULL, 10);
    free(line);
    free(path);
    return start;
}

static char *this_boot(void)
{
    char *boot = mr__first_line("/proc/sys/kernel/random/boot_id");
    return boot ? boot : mr__strf("unknown");
}

char *mr__owner_text(void)
{
    char *boot = this_boot(), *text = mr__strf("%s %d %llu", boot, (int)getpid(), start_of(getpid()));
    free(boot);
    return text;
}

bool mr__owner_dead(const char *text)
{
    char *boot = this_boot(), its_boot[128] = "";
    int pid = 0;
    unsigned long long start = 0;
    bool dead = text && sscanf(text, "%127s %d %llu", its_boot, &pid, &start) == 3 && strcmp(boot, its_boot) == 0 &&
                start_of(pid) != start;
    free(boot);
    return dead;
}

void mr__step_point(const char *who)
{
    static unsigned long steps;
    const char *plan = getenv("QFS_MR_STOP");
    size_t n = strlen(who);
    char *end, path[512];

    if (!plan || strncmp(plan, who, n) != 0 || plan[n] != ':') return;
    unsigned long at = strtoul(plan + n + 1, &end, 10);
    if (++steps != at || *end != ':') return;
    snprintf(path, sizeof path, "%s", end + 1);
    char *freeze = strstr(path, ":freeze");
    if (freeze) *freeze = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return;
    close(fd);
    raise(freeze ? SIGSTOP : SIGKILL);
}
