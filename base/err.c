/* err.c - names and sentences for error codes: our own from QE_MAP, the rest from the C library's constant tables.
 *
 * Unknown codes, positive ones too, are answered with a placeholder, never NULL: these strings go into messages. */
#include "base/err.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

const char *err_text(int err)
{
    switch (err) {
#define X(name, num, text) case name: return text;
        QE_MAP(X)
#undef X
    case 0: return "no error";
    default: break;
    }
    const char *s = err < 0 && err != INT_MIN ? strerrordesc_np(-err) : NULL;
    return s ? s : "unknown error";
}

const char *err_name(int err)
{
    switch (err) {
#define X(name, num, text) case name: return #name;
        QE_MAP(X)
#undef X
    case 0: return "OK";
    default: break;
    }
    const char *s = err < 0 && err != INT_MIN ? strerrorname_np(-err) : NULL;
    return s ? s : "UNKNOWN";
}
