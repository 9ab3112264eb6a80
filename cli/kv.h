/* kv.h - what the files of `quorumfs kv` share. */
#ifndef QFS_CLI_KV_H
#define QFS_CLI_KV_H

#include "cli/cli.h"

struct kv_args {
    const char *spec, *from, *to;
    uint64_t timeout_ms, limit;
    bool absent, sizes, json, zero, exact;
};

/* kv.c */
/* A whole file or stdin, of at most `max` bytes. 0 or an exit code, having said why. */
int kv_read_all(int fd, const char *what, size_t max, struct buf *out);
/* VALUE, '@FILE' or (where stdin is allowed) '-'. The same. */
int kv_read_value(const char *arg, bool may_stdin, struct buf *out);
/* Says what a negative status means and returns the exit code. */
int kv_explain(struct slice key, int status, bool changed);
int kv_flush(void);                     /* stdout: 0 or an exit code */

/* kv_list.c, kv_txn.c, kv_watch.c: 0 or an exit code */
int kv_list(struct cli_client *c, const struct kv_args *a, int argc, char **argv);
int kv_txn(struct cli_client *c, const struct kv_args *a, int argc, char **argv);
int kv_watch_keys(struct cli_client *c, const struct kv_args *a, int argc, char **argv);

/* kv_print.c: a JSON object on one line, begun and ended by these; bytes that are no UTF-8 get the name NAME_base64 */
void kv_json_begin(void);
void kv_json_bytes(const char *name, struct slice value);
void kv_json_u64(const char *name, uint64_t value);
void kv_json_text(const char *name, const char *value);
void kv_json_version(uint64_t ino, uint64_t version);   /* "version": "INO.VERSION" */
void kv_json_raw(const char *name, const char *text);   /* text is JSON */
void kv_json_array(const char *name);                   /* its elements are objects, begun and ended by these, too */
void kv_json_array_end(const char *head);               /* prints `head` and the closing bracket */
void kv_json_end(const char *tail);                     /* prints the closing brace and `tail` */
/* As a word of a transaction's script: quoted if need be. */
void kv_print_word(struct slice s, bool quote);

#endif
