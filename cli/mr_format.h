/* mr_format.h - the options of `quorumfs mr` that say what a job's data look like. */
#ifndef QFS_CLI_MR_FORMAT_H
#define QFS_CLI_MR_FORMAT_H

#include "base/base.h"
#include "mr/mr.h"

enum {
    OPT_INPUT_FORMAT = 512,
    OPT_RECORD_SIZE,
    OPT_NO_RECURSIVE,
    OPT_NO_DECOMPRESS,
    OPT_PIPE,
    OPT_OUTPUT_FORMAT,
    OPT_KEY_FIELDS,
    OPT_PARTITION,
    OPT_SEPARATOR,
    OPT_SORT_VALUES,
    OPT_SKIP_BAD,
    OPT_SET,
};

#define MR_FORMAT_OPTIONS                                                                                              \
    {"input-format", 1, 0, OPT_INPUT_FORMAT}, {"record-size", 1, 0, OPT_RECORD_SIZE},                                  \
        {"no-recursive", 0, 0, OPT_NO_RECURSIVE}, {"no-decompress", 0, 0, OPT_NO_DECOMPRESS},                          \
        {"pipe", 1, 0, OPT_PIPE}, {"output-format", 1, 0, OPT_OUTPUT_FORMAT}, {"key-fields", 1, 0, OPT_KEY_FIELDS},    \
        {"partition", 1, 0, OPT_PARTITION}, {"field-separator", 1, 0, OPT_SEPARATOR},                                  \
        {"sort-values", 0, 0, OPT_SORT_VALUES}, {"skip-bad", 1, 0, OPT_SKIP_BAD}, {"set", 1, 0, OPT_SET}

#define MR_FORMAT_HELP                                                                                                 \
    "  --input-format F       lines, files (each file is one record), pairs (u32 and u32 length, key, value)\n"       \
    "  --record-size BYTES    the input is records of this size\n"                                                     \
    "  --no-recursive         of an input directory only the files in it\n"                                            \
    "  --no-decompress        read .gz and .zst files as they are\n"                                                   \
    "  --pipe F               how commands are spoken to: lines, pairs\n"                                              \
    "  --output-format F      lines (key TAB value), pairs, raw (keys and values, nothing between)\n"                  \
    "  --key-fields N         so many TAB-separated fields of a command's line are its key (1)\n"                      \
    "  --partition P          hash; range: the parts together are in order; field:N: hash of the key's first N\n"      \
    "  --field-separator C    between the fields of a key (TAB)\n"                                                     \
    "  --sort-values          the values of a key in byte order\n"                                                     \
    "  --skip-bad N           leave out up to N input records on which the map program fails\n"                        \
    "  --set NAME=VALUE       a parameter for applications; for commands in the environment\n"

/* Takes one of those options with its value. NULL, or what it would have wanted. `params` has room. */
const char *mr_format_take(struct mr_options *o, const char **params, int opt, const char *value);
/* `quorumfs mr lab ...` (mr_lab.c); argv[0] is "lab". */
int mr_lab(int argc, char **argv);
/* Calls add() for each word that makes these options again. */
void mr_format_words(const struct mr_options *o, void (*add)(struct buf *b, const char *word), struct buf *b);

#endif
