/* faults.c - names of the kinds of faults. */
#include "tests/sim/faults.h"

#include <stdio.h>

static const struct {
    const char *name, *what;
} kinds[] = {
#define X(id, name, what) {name, what},
    SIM_FAULTS(X)
#undef X
};

_Static_assert(SIM_FAULT_KINDS <= 64, "a set of them is 64 bits");

const char *sim_fault_name(unsigned kind) { return kinds[kind].name; }
const char *sim_fault_what(unsigned kind) { return kinds[kind].what; }

void sim_faults_text(sim_fault_set set, char *out, size_t n)
{
    size_t at = 0;
    snprintf(out, n, "%s", set ? "" : "none");
    for (unsigned i = 0; i < SIM_FAULT_KINDS && at < n; i++)
        if (set >> i & 1) at += (size_t)snprintf(out + at, n - at, "%s%s", at ? " " : "", kinds[i].name);
}

static bool find(const char *name, size_t n, sim_fault_set *out)
{
    *out = n == 3 && memcmp(name, "all", 3) == 0 ? SIM_FAULT_ALL : 0;
    if (*out || (n == 4 && memcmp(name, "none", 4) == 0)) return true;
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++)
        if (strlen(kinds[i].name) == n && memcmp(kinds[i].name, name, n) == 0) *out = 1ull << i;
    return *out != 0;
}

bool sim_faults_parse(const char *text, sim_fault_set *out, char *bad, size_t n)
{
    *out = *text == '-' ? SIM_FAULT_ALL : 0;
    for (;;) {
        size_t len = strcspn(text, ",");
        bool minus = *text == '-';
        sim_fault_set one;
        if (!find(text + minus, len - minus, &one)) {
            snprintf(bad, n, "%.*s", (int)len, text);
            return false;
        }
        *out = minus ? *out & ~one : *out | one;
        if (!text[len]) return true;
        text += len + 1;
    }
}
