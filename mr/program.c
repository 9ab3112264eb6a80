/* program.c - finding programs: by shipped name, as a shared object, as a command (program.h).
 *
 * Failure modes: a shared object that does not load or has no application in it; a command whose first word is no
 * program. The latter is found only where the first word is plain; what the shell makes of the rest shows when it runs.
 */
#include "mr/program.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/apps/apps.h"
#include "mr/util.h"

const char *const mr__role_names[3] = {"map", "combine", "reduce"};

static const struct {
    const char *name;
    const struct mr_app *app;
    const char *params;
} shipped[] = {
    {"wc", &mr__app_wc, ""},
    {"ii", &mr__app_ii, ""},
    {"grep", &mr__app_grep, "pattern ignore-case invert"},
    {"sort", &mr__app_sort, "key key-bytes numeric reverse unique"},
    {"sum", &mr__app_sum, ""},
    {"identity", &mr__app_identity, ""},
};

static bool is_shared_object(const char *text)
{
    size_t n = strlen(text);
    return n > 3 && strcmp(text + n - 3, ".so") == 0 && !strpbrk(text, " \t\n;|&<>");
}

char *mr__program_absolute(const char *text)
{
    return is_shared_object(text) ? mr__absolute(text) : mr__strf("%s", text);
}

/* Does the application have what the role needs? */
static int take_app(const struct mr_app *app, enum program_role role, const char *text, struct program *out,
                    struct buf *why)
{
    bool has = role == PROGRAM_MAP      ? app->map != NULL
               : role == PROGRAM_REDUCE ? app->reduce != NULL
                                        : app->combine != NULL || app->fold != MR_FOLD_NONE;
    if (!has) {
        mr__fmt(why, "the application %s has no %s function", text, mr__role_names[role]);
        return -EINVAL;
    }
    out->app = app;
    if (role == PROGRAM_COMBINE) out->fold = (enum mr_fold)app->fold;
    return 0;
}

static int open_shared(const char *text, enum program_role role, struct program *out, struct buf *why)
{
    char *path = mr__absolute(text);
    const struct mr_app *app = NULL;
    int rc = -EINVAL;

    if (access(path, R_OK) < 0) {
        rc = -errno;
        mr__fmt(why, "cannot read the shared object %s: %s", text, err_text(rc));
        goto out;
    }
    out->shared = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!out->shared) {
        mr__fmt(why, "cannot load the shared object %s: %s", text, dlerror());
        goto out;
    }
    app = dlsym(out->shared, "mr_application");
    if (!app) {
        mr__fmt(why, "%s exports no mr_application (mr.h says how)", text);
    } else if (app->abi != MR_ABI) {
        mr__fmt(why, "%s was built for version %u of mr.h, this program has version %u", text, app->abi, MR_ABI);
    } else if (app->unit > MR_FILE || app->fold > MR_FOLD_DISTINCT ||
               app->partition > MR_PARTITION_FIELD) {
        mr__fmt(why, "mr_application of %s has a unit, fold or partition that does not exist", text);
    } else {
        rc = take_app(app, role, text, out, why);
    }
out:
    if (rc < 0) mr__program_close(out);
    free(path);
    return rc;
}

static bool in_path(const char *name)
{
    const char *path = getenv("PATH");
    bool found = false;
    for (const char *p = path ? path : "/usr/bin:/bin"; !found && *p;) {
        size_t n = strcspn(p, ":");
        char *full = mr__strf("%.*s/%s", (int)n, p, name);
        found = access(full, X_OK) == 0;
        free(full);
        p += n + (p[n] == ':');
    }
    return found;
}

/* Words that the shell itself knows how to run. */
static bool shell_knows(const char *word)
{
    static const char *const words[] = {".",       ":",     "[",     "alias",  "case",  "cd",   "command", "echo",
                                        "eval",    "exec",  "exit",  "export", "false", "for",  "getopts", "hash",
                                        "if",      "kill",  "local", "printf", "pwd",   "read", "return",  "set",
                                        "shift",   "test",  "times", "trap",   "true",  "type", "ulimit",  "umask",
                                        "unalias", "unset", "until", "wait",   "while"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0) return true;
    return false;
}

static int check_command(const char *text, enum program_role role, struct buf *why)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./,:@%";
    size_t skip = strspn(text, " \t"), n = strspn(text + skip, plain);
    struct stat st;
    int rc = 0;

    if (text[skip] == 0) {
        mr__fmt(why, "the %s program is empty", mr__role_names[role]);
        return -EINVAL;
    }
    if (n == 0 || (text[skip + n] && !strchr(" \t\n;|&<>", text[skip + n]))) return 0;
    char *word = mr__str(slice_of(text + skip, n));
    if (strchr(word, '/')) {
        if (stat(word, &st) < 0)
            rc = -errno;
        else if (!S_ISREG(st.st_mode) || access(word, X_OK) < 0)
            rc = -EACCES;
    } else if (!shell_knows(word) && !in_path(word)) {
        rc = -ENOENT;
    }
    if (rc == -ENOENT)
        mr__fmt(why, "there is no program '%s' (for --%s)", word, mr__role_names[role]);
    else if (rc < 0)
        mr__fmt(why, "the program '%s' (for --%s) cannot be run: %s%s", word, mr__role_names[role], err_text(rc),
                rc == -EACCES ? "; chmod +x?" : "");
    free(word);
    return rc;
}

int mr__program_open(const char *text, enum program_role role, struct program *out, struct buf *why)
{
    *out = (struct program){0};
    if (role == PROGRAM_COMBINE && strcmp(text, "sum") == 0) {
        out->fold = MR_FOLD_SUM;
        return 0;
    }
    if (role == PROGRAM_COMBINE && strcmp(text, "distinct") == 0) {
        out->fold = MR_FOLD_DISTINCT;
        return 0;
    }
    for (size_t i = 0; i < sizeof shipped / sizeof *shipped; i++)
        if (strcmp(text, shipped[i].name) == 0) return take_app(shipped[i].app, role, text, out, why);
    if (is_shared_object(text)) return open_shared(text, role, out, why);
    out->command = text;
    return check_command(text, role, why);
}

void mr__program_close(struct program *p)
{
    if (p->shared) dlclose(p->shared);
    *p = (struct program){0};
}

const char *mr__program_params(const struct program *p)
{
    for (size_t i = 0; i < sizeof shipped / sizeof *shipped; i++)
        if (p->app == shipped[i].app) return shipped[i].params;
    return p->app || p->command ? NULL : "";
}
