/* list.h - intrusive doubly linked ring. A head and a link are the same struct; an unlinked link points to itself. */
#ifndef QFS_LIST_H
#define QFS_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_insert_after(struct list *at, struct list *l)
{
    l->prev = at;
    l->next = at->next;
    at->next->prev = l;
    at->next = l;
}
static inline void list_push_back(struct list *head, struct list *l) { list_insert_after(head->prev, l); }
static inline void list_push_front(struct list *head, struct list *l) { list_insert_after(head, l); }
static inline void list_remove(struct list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}
/* The first link, taken off; NULL of an empty list. */
static inline struct list *list_pop_front(struct list *head)
{
    struct list *l = head->next;
    if (l == head) return NULL;
    list_remove(l);
    return l;
}
#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
/* Allows to remove `it` in the body. */
#define list_for_each_safe(it, tmp, head)                                                                              \
    for (struct list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)

#endif
