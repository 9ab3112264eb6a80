/* format.h - what a job's data look like and where its pairs go: all of a job but its programs; sent with the job. */
#ifndef QFS_MR_FORMAT_H
#define QFS_MR_FORMAT_H

#include "base/base.h"
#include "mr/mr.h"

#define MR_PARAMS_MAX 256u
#define MR_FIELDS_MAX 1000u

struct format {
    enum mr_input_format input;
    enum mr_pipe_format pipe;          /* how commands are spoken to */
    enum mr_output_format output;
    enum mr_partition partition;
    uint32_t record_bytes;             /* with MR_IN_RECORDS */
    uint32_t key_fields;               /* of a command's line: so many fields, cut at TABs, are the key */
    uint32_t partition_fields;         /* with MR_PARTITION_FIELD: the first so many fields of the key decide */
    uint8_t separator;                 /* between those */
    bool sort_values;                  /* the values of a key in byte order, not in the order of emission */
    bool flat;                         /* of an input directory only the files in it */
    bool raw;                          /* .gz and .zst are read as they are */
    uint32_t skip_bad;                 /* records that may be left out */
    char **params;                     /* "NAME=VALUE" */
    size_t params_n;
    struct slice *cuts;                /* with MR_PARTITION_RANGE: the first key of each part but the first, in order;
                                        * fewer where the sample had few keys */
    size_t cuts_n;
};

extern const struct format mr__format_default;

/* Checks the options; 0 or -EINVAL and `why`. */
int mr__format_make(const struct mr_options *o, struct format *out, struct buf *why);
void mr__format_free(struct format *f);
void mr__format_encode(struct buf *b, const struct format *f);
bool mr__format_decode(struct reader *r, struct format *out);      /* all or nothing; on false r is bad */

const char *mr__format_param(const struct format *f, const char *name);        /* NULL: it was not set */
uint32_t mr__format_part(const struct format *f, uint32_t parts, struct slice key);
/* A command's line: its key, and what is behind the TAB that ends it (nothing, if there is none). */
void mr__format_line(const struct format *f, struct slice line, struct slice *key, struct slice *value);
/* Appends "key TAB value LF". -EBADMSG and `why`: they have bytes that such a line cannot carry. `where`: what line. */
int mr__format_put_line(const struct format *f, struct buf *b, struct slice key, struct slice value, const char *where,
                        struct buf *why);
/* Appends u32 key length, u32 value length, key, value. */
void mr__format_put_pair(struct buf *b, struct slice key, struct slice value);
/* The bytes of the first such pair of `in`; 0: it is not complete; -EMSGSIZE: no pair is that large. */
int64_t mr__format_get_pair(struct slice in, struct slice *key, struct slice *value);

/* One record of a chunk (split.h): `raw` as it stands there, `key` with MR_IN_PAIRS, `text` without its line's end. */
struct format_record {
    struct slice raw, key, text;
};
/* Takes the next record off `rest`. False: there is none. */
bool mr__format_record(const struct format *f, struct slice *rest, struct format_record *out);

#endif
