/* omap_page.h - the pages of an omap: sorted rows of (key, value) in one block of memory, private to omap*.c and tests.
 *
 *   header | slots, in key order -> | free | <- cells, in any order
 *
 * A slot says where its cell lies, measured from the page's end (so that a page grows without touching its slots), how
 * long key and value are, and the first four key bytes behind the prefix that all keys of the page have in common: most
 * of a search reads only slots. The cell holds the key and behind it the value; a value over OMAP_INLINE_MAX bytes lies
 * in a blob of its own, its pointer in the cell. In inner pages the value is the child's pointer; row i leads to the
 * keys from its own up to row i+1's, `first` to those below row 0's.
 *
 * A page is allocated in steps of OMAP_PAGE_STEP up to OMAP_PAGE_MAX, so a half-filled page costs half the memory.
 * Pages are shared by reference count; only one with a single reference, reached through none but such, may change. */
#ifndef QFS_OMAP_PAGE_H
#define QFS_OMAP_PAGE_H

#include "base/buf.h"
#include "base/cursor.h"
#include "base/omap.h"

/* Steps less the eight bytes that the allocator takes for itself. */
#define OMAP_PAGE_STEP  512u
#define OMAP_PAGE_MAX   (8 * OMAP_PAGE_STEP - 8)
#define OMAP_INLINE_MAX 1024u
#define OMAP_LARGE      2047u    /* a slot's vlen: the cell holds a pointer to a blob */

struct omap_slot {
    uint32_t head;
    uint32_t at : 12, klen_1 : 9, vlen : 11;    /* klen_1: the key's length less one */
};

struct omap_page {
    uint32_t refs;
    uint16_t level;       /* 0: leaf */
    uint16_t n;           /* rows; an inner page has one child more */
    uint16_t cap;         /* bytes of the allocation */
    uint16_t data;        /* bytes of cells at the end, dead ones included */
    uint16_t dead;
    uint16_t prefix;      /* all keys have at least so many first bytes in common */
    uint16_t next;        /* behind the row inserted last, and how many insertions in a row went just there: */
    uint16_t ascending;   /* splits leave full pages behind an ascending run */
    struct omap_page *first;
    struct omap_slot slot[];
};

/* A row on its way into a page: its cell is bytes as above. */
struct omap_row {
    const uint8_t *cell;
    unsigned klen, vlen;
};

static inline unsigned omap__cell_bytes(unsigned klen, unsigned vlen)
{
    return klen + (vlen == OMAP_LARGE ? (unsigned)sizeof(void *) : vlen);
}
static inline unsigned omap__row_bytes(struct omap_row row)
{
    return (unsigned)sizeof(struct omap_slot) + omap__cell_bytes(row.klen, row.vlen);
}
static inline unsigned omap__klen(const struct omap_page *p, unsigned i) { return p->slot[i].klen_1 + 1u; }
static inline uint8_t *omap__cell(const struct omap_page *p, unsigned i)
{
    return (uint8_t *)(uintptr_t)p + p->cap - p->slot[i].at;
}
static inline struct omap_row omap__row(const struct omap_page *p, unsigned i)
{
    return (struct omap_row){omap__cell(p, i), omap__klen(p, i), p->slot[i].vlen};
}
static inline struct slice omap__key(const struct omap_page *p, unsigned i)
{
    return (struct slice){omap__cell(p, i), omap__klen(p, i)};
}
/* The pointer in the cell: the child of an inner page, the blob of a leaf's row whose vlen is OMAP_LARGE. */
static inline void *omap__pointer(const struct omap_page *p, unsigned i)
{
    void *to;
    memcpy(&to, omap__cell(p, i) + omap__klen(p, i), sizeof(to));
    return to;
}
static inline struct slice omap__value(const struct omap_page *p, unsigned i)
{
    if (p->slot[i].vlen == OMAP_LARGE) return blob_slice(omap__pointer(p, i));
    return (struct slice){omap__cell(p, i) + omap__klen(p, i), p->slot[i].vlen};
}
/* Child i of an inner page, 0 .. n. */
static inline struct omap_page *omap__child(const struct omap_page *p, unsigned i)
{
    return i == 0 ? p->first : omap__pointer(p, i - 1);
}
/* What the page would take without gaps. */
static inline size_t omap__used(const struct omap_page *p)
{
    return sizeof(*p) + p->n * sizeof(struct omap_slot) + p->data - p->dead;
}
static inline size_t omap__blob_bytes(size_t n) { return sizeof(struct blob) + n; }

/* The place of the first row with a key >= key; true if it is equal. */
bool omap__find(const struct omap_page *p, struct slice key, unsigned *at);
/* Which child holds key. */
unsigned omap__find_child(const struct omap_page *p, struct slice key);

/* The allocation for a page that uses so many bytes. */
unsigned omap__fit(size_t used);
struct omap_page *omap__page_new(unsigned level, size_t used);
/* Moves p's rows to a page for `used` bytes, without gaps, and frees p. */
struct omap_page *omap__page_resize(struct omap_page *p, size_t used);
/* A page of its own with the same rows; what the rows point to is shared from now on. */
struct omap_page *omap__page_copy(const struct omap_page *p);
/* Lets go of a page all of whose contents have been put into another page. */
void omap__page_moved(struct omap_page *p);
void omap__page_unref(struct omap_page *p);

/* Whether a row of so many bytes (omap__row_bytes) can be inserted right now. */
bool omap__has_room(const struct omap_page *p, size_t bytes);
void omap__insert(struct omap_page *p, unsigned at, struct omap_row row);
void omap__append(struct omap_page *p, const struct omap_page *from, unsigned begin, unsigned end);
/* What the row points to is the caller's affair. */
void omap__remove(struct omap_page *p, unsigned at);
/* Overwrites the value by one that is not longer in the cell. */
void omap__set_value(struct omap_page *p, unsigned at, const uint8_t *bytes, unsigned vlen);
void omap__set_child(struct omap_page *p, unsigned i, struct omap_page *child);
/* Takes child i and the row that leads to it away; the last one leaves NULL in `first`. */
void omap__remove_child(struct omap_page *p, unsigned i);

#endif
