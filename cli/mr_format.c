/* mr_format.c - mr_format.h. */
#include "cli/mr_format.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

static const char *const inputs[] = {[MR_IN_LINES] = "lines", [MR_IN_FILES] = "files", [MR_IN_PAIRS] = "pairs"};
static const char *const pipes[] = {[MR_PIPE_LINES] = "lines", [MR_PIPE_PAIRS] = "pairs"};
static const char *const outputs[] = {[MR_OUT_LINES] = "lines", [MR_OUT_PAIRS] = "pairs", [MR_OUT_RAW] = "raw"};

#define NAMES(v) v, sizeof(v) / sizeof *(v)

static bool take_name(const char *s, const char *const *v, size_t n, uint32_t *out)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!v[i] || strcmp(v[i], s) != 0) continue;
        *out = i;
        return true;
    }
    return false;
}

static bool take_number(const char *s, uint64_t max, uint32_t *out)
{
    uint64_t n;
    if (!parse_u64(s, &n) || n == 0 || n > max) return false;
    *out = (uint32_t)n;
    return true;
}

static bool take_partition(const char *s, struct mr_options *o)
{
    o->partition_fields = 0;
    if (strcmp(s, "hash") == 0)
        o->partition = MR_PARTITION_HASH;
    else if (strcmp(s, "range") == 0)
        o->partition = MR_PARTITION_RANGE;
    else if (strncmp(s, "field:", 6) == 0 && take_number(s + 6, 1000, &o->partition_fields))
        o->partition = MR_PARTITION_FIELD;
    else
        return false;
    return true;
}

static bool take_size(const char *s, struct mr_options *o)
{
    uint64_t n;
    if (!parse_bytes(s, &n) || n == 0 || n > 256u * MIB) return false;
    o->record_bytes = (uint32_t)n;
    o->input_format = MR_IN_RECORDS;
    return true;
}

static bool take_separator(const char *s, struct mr_options *o)
{
    if (strcmp(s, "\\t") == 0) s = "\t";
    if (strlen(s) != 1) return false;
    o->separator = *s;
    return true;
}

static bool take_param(const char *s, struct mr_options *o, const char **params)
{
    if (!strchr(s, '=') || *s == '=') return false;
    o->params = params;
    params[o->params_n++] = s;
    return true;
}

const char *mr_format_take(struct mr_options *o, const char **params, int opt, const char *value)
{
    switch (opt) {
    case OPT_INPUT_FORMAT:
        o->record_bytes = 0;
        return take_name(value, NAMES(inputs), &o->input_format) ? NULL : "lines, files or pairs";
    case OPT_RECORD_SIZE:
        return take_size(value, o) ? NULL : "a size of up to 256M";
    case OPT_NO_RECURSIVE:
        o->flat = true;
        return NULL;
    case OPT_NO_DECOMPRESS:
        o->no_decompress = true;
        return NULL;
    case OPT_PIPE:
        return take_name(value, NAMES(pipes), &o->pipe_format) ? NULL : "lines or pairs";
    case OPT_OUTPUT_FORMAT:
        return take_name(value, NAMES(outputs), &o->output_format) ? NULL : "lines, pairs or raw";
    case OPT_KEY_FIELDS:
        return take_number(value, 1000, &o->key_fields) ? NULL : "a number from 1 to 1000";
    case OPT_PARTITION:
        return take_partition(value, o) ? NULL : "hash, range or field:N";
    case OPT_SEPARATOR:
        return take_separator(value, o) ? NULL : "one character (or \\t)";
    case OPT_SORT_VALUES:
        o->sort_values = true;
        return NULL;
    case OPT_SKIP_BAD:
        o->skip_bad = 0;
        return strcmp(value, "0") == 0 || take_number(value, 1000000, &o->skip_bad) ? NULL : "a number up to 1000000";
    default:
        return take_param(value, o, params) ? NULL : "NAME=VALUE";
    }
}

static void add_option(void (*add)(struct buf *b, const char *word), struct buf *b, const char *name, const char *value)
{
    add(b, name);
    add(b, value);
}

static void add_number(void (*add)(struct buf *b, const char *word), struct buf *b, const char *name, uint64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    if (n) add_option(add, b, name, text);
}

void mr_format_words(const struct mr_options *o, void (*add)(struct buf *b, const char *word), struct buf *b)
{
    static const char *const partitions[] = {
        [MR_PARTITION_HASH] = "hash", [MR_PARTITION_RANGE] = "range", [MR_PARTITION_FIELD] = "field:"};
    char text[32];

    add_number(add, b, "--record-size", o->record_bytes);
    if (o->input_format && !o->record_bytes) add_option(add, b, "--input-format", inputs[o->input_format]);
    if (o->flat) add(b, "--no-recursive");
    if (o->no_decompress) add(b, "--no-decompress");
    if (o->pipe_format) add_option(add, b, "--pipe", pipes[o->pipe_format]);
    if (o->output_format) add_option(add, b, "--output-format", outputs[o->output_format]);
    add_number(add, b, "--key-fields", o->key_fields);
    snprintf(text, sizeof text, "%s", o->partition ? partitions[o->partition] : "");
    if (o->partition == MR_PARTITION_FIELD)
        snprintf(text + strlen(text), 12, "%u", o->partition_fields ? o->partition_fields : 1);
    if (o->partition) add_option(add, b, "--partition", text);
    snprintf(text, sizeof text, "%c", o->separator);
    if (o->separator) add_option(add, b, "--field-separator", text);
    if (o->sort_values) add(b, "--sort-values");
    add_number(add, b, "--skip-bad", o->skip_bad);
    for (size_t i = 0; i < o->params_n; i++) add_option(add, b, "--set", o->params[i]);
}
