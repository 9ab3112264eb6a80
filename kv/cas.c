/* cas.c - compare-and-set whose current contents lie in the log, where applying cannot look at them. The leader reads
 * and compares them; if they are equal, it proposes the change again, naming the inode and version that it found
 * equal instead of the expected bytes, and applying only compares the version. If the file has changed in between,
 * the change comes back undecided and is compared again. If they differ, the refusal goes through the log like
 * everything a change is answered, because only there it is certain that no earlier try of the same number has
 * succeeded. */
#include "kv/server.h"

static void refuse(struct kv__query *q, int err)
{
    kv__query_pause(q);
    kv__propose_refusal(q->server, q->conn, &q->call, KV_CAS, err, q);
}

static void propose_version(struct kv__query *q)
{
    struct kv_op op = q->op;
    op.flags = 2;
    op.off = q->res.reply.off;
    op.ino = q->res.reply.attr.ino;
    op.name2 = (struct slice){0};
    struct buf bytes = {0};
    kv_op_encode(&op, &bytes, NULL);
    kv__query_pause(q);
    kv__propose(q->server, q->conn, &q->call, KV_CAS, buf_slice(&bytes), q);
    buf_free(&bytes);
}

void kv__cas_bytes(struct kv__query *q, const struct kv__result *res, int err)
{
    if (err) refuse(q, -EIO);
    else if (!slice_eq(buf_slice(&res->data), q->op.name2)) refuse(q, QE_MISMATCH);
    else propose_version(q);
}

void kv__cas_compare(struct kv__query *q, bool lease)
{
    struct kv_server *s = q->server;
    struct fs_attr attr = {0};
    int err = fs_walk(&s->store->fs, q->op.name, &attr);
    if (!err && (attr.mode & 0170000) == 0040000) err = -EISDIR;
    bool same_size = !err && attr.size == q->op.name2.n;
    kv__query_blank(s->store, &q->res);
    if (same_size) err = kv__query_contents(s->store, attr.ino, (uint32_t)attr.size, &q->res);
    q->res.reply.attr.ino = attr.ino;
    q->res.reply.off = attr.version;
    if (lease && !node_read_valid(s->node)) kv__query_again(q);
    else if (err) refuse(q, err == -ENOENT ? QE_MISMATCH : err);
    else if (!same_size) refuse(q, QE_MISMATCH);
    else kv__query_payload(q, &q->res);
}
