/* node.c - what this mount knows of the regular files that the kernel knows: how often each is open, and how old the
 * kernel's pages of it can be.
 *
 * The kernel drops a file's pages by itself when an attribute reply brings an mtime or a size other than the ones it
 * has, and at each open that does not say keep_cache. It asks for attributes before each read(2). That leaves contents
 * that change while mtime and size end up as the kernel has them (somebody sets the time back), and the reply to
 * SETATTR, whose mtime the kernel takes without a look at its pages. So a node has the version its pages are known to
 * be no older than, and the (mtime, size) pairs that were told; where the kernel cannot see a change,
 * mount__node_tell() says so, for GETATTR, and the pages are dropped by notification before the reply. Other replies
 * only mark the version as unknown: the GETATTR or OPEN that precedes the next read settles it.
 *
 * The kernel may ignore a reply that crosses with a change of the same file, so it may still have any of the last
 * pairs: a pair that comes back is never taken for news. A notification makes it ignore the reply that follows,
 * therefore none is sent where the size differs and the kernel needs the new one.
 *
 * What is not known is always the safe side: a node that is missing means no keep_cache. Nodes that nobody has open are
 * dropped by FORGET, or when there are too many. Mappings are not confirmed by the leader on each access, nor is
 * sendfile(2): they see what the last open, stat or read on this mount saw. */
#include "mount/state.h"

#include <stdlib.h>
#include <sys/stat.h>

#define IDLE_MAX 16384u

void mount__nodes_init(struct nodes *t)
{
    *t = (struct nodes){.nbuckets = 256};
    t->buckets = xcalloc(t->nbuckets, sizeof *t->buckets);
    list_init(&t->idle);
}

void mount__nodes_free(struct nodes *t)
{
    for (size_t i = 0; i < t->nbuckets; i++) {
        for (struct node *n = t->buckets[i], *next; n; n = next) {
            next = n->next;
            free(n);
        }
    }
    free(t->buckets);
}

static struct node **bucket_of(const struct nodes *t, uint64_t ino)
{
    return &t->buckets[hash_mix(ino) & (t->nbuckets - 1)];
}

static void grow(struct nodes *t)
{
    struct nodes bigger = {.nbuckets = t->nbuckets * 2};
    bigger.buckets = xcalloc(bigger.nbuckets, sizeof *bigger.buckets);
    for (size_t i = 0; i < t->nbuckets; i++) {
        for (struct node *n = t->buckets[i], *next; n; n = next) {
            struct node **b = bucket_of(&bigger, n->ino);
            next = n->next;
            n->next = *b;
            *b = n;
        }
    }
    free(t->buckets);
    t->buckets = bigger.buckets;
    t->nbuckets = bigger.nbuckets;
}

static bool is_held(const struct node *n) { return n->opens || n->owed; }

static void drop(struct nodes *t, struct node *n)
{
    struct node **at = bucket_of(t, n->ino);
    while (*at != n) at = &(*at)->next;
    *at = n->next;
    list_remove(&n->idle);
    t->nidle--;
    t->count--;
    free(n);
}

struct node *mount__node_find(struct mount *m, uint64_t ino)
{
    struct node *n = *bucket_of(&m->nodes, ino);
    while (n && n->ino != ino) n = n->next;
    return n;
}

struct node *mount__node_get(struct mount *m, uint64_t ino)
{
    struct nodes *t = &m->nodes;
    struct node *n = mount__node_find(m, ino);
    if (n) return n;
    if (t->nidle >= IDLE_MAX) drop(t, container_of(t->idle.next, struct node, idle));
    if (t->count >= t->nbuckets) grow(t);
    n = xcalloc(1, sizeof(*n));
    n->ino = ino;
    struct node **b = bucket_of(t, ino);
    n->next = *b;
    *b = n;
    list_push_back(&t->idle, &n->idle);
    t->nidle++;
    t->count++;
    return n;
}

void mount__node_settle(struct mount *m, struct node *n)
{
    struct nodes *t = &m->nodes;
    bool idle = !list_empty(&n->idle);
    if (idle && is_held(n)) {
        list_remove(&n->idle);
        t->nidle--;
    } else if (!idle && !is_held(n)) {
        list_push_back(&t->idle, &n->idle);
        t->nidle++;
    }
}

void mount__node_forget(struct mount *m, uint64_t ino)
{
    struct node *n = mount__node_find(m, ino);
    if (n && !is_held(n)) drop(&m->nodes, n);
}

/* ---- pages ---- */

static bool was_told(const struct node *n, int64_t mtime)
{
    for (unsigned i = 0; i < n->ntold; i++)
        if (n->told[i].mtime == mtime) return true;
    return false;
}

static void remember(struct node *n, struct told t)
{
    if (n->ntold && n->told[0].mtime == t.mtime && n->told[0].size == t.size) return;
    memmove(n->told + 1, n->told, (NODE_TOLD - 1) * sizeof *n->told);
    n->told[0] = t;
    if (n->ntold < NODE_TOLD) n->ntold++;
}

/* Call it with every attr that is told. True (for GETATTR only): drop the pages first. */
bool mount__node_tell(struct mount *m, const struct fs_attr *attr, enum tell how)
{
    if (!S_ISREG(attr->mode)) return false;
    struct node *n = mount__node_get(m, attr->ino);
    bool first = n->ntold == 0;
    bool same = !first && n->told[0].mtime == attr->mtime && n->told[0].size == attr->size;
    bool kernel_drops = how != TELL_SETATTR && !first && !was_told(n, attr->mtime);
    bool current = n->version == attr->version;
    bool pages = n->version != 0 || n->opens != 0;
    remember(n, (struct told){attr->mtime, attr->size});
    if (!pages) return false;
    if (kernel_drops) {
        n->version = attr->version;
        return false;
    }
    if (current && (same || first || how == TELL_SETATTR)) return false;
    if (same && how == TELL_GETATTR) return true;
    n->version = 0;
    return false;
}

/* An OPEN was answered by the leader with attr: whether the kernel may keep its pages. */
bool mount__node_opened(struct node *n, const struct fs_attr *attr)
{
    bool keep = n->version && n->version == attr->version;
    n->version = attr->version;
    return keep;
}

/* A notification has dropped the pages after the leader had said `version`. */
void mount__node_dropped(struct mount *m, uint64_t ino, uint64_t version)
{
    struct node *n = mount__node_find(m, ino);
    if (n && n->version < version) n->version = version;
}
