#include "core/pubs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_CAP 64 /* entries an emptied array may keep */

void pubs_add(struct pubs *pubs, struct publication *publication)
{
    if (pubs->len == pubs->cap) {
        size_t cap = pubs->cap ? pubs->cap * 2 : 4;
        struct publication **items = realloc(pubs->items, cap * sizeof(*items));
        if (!items)
            abort();
        pubs->items = items;
        pubs->cap = cap;
    }
    pubs->items[pubs->len++] = publication_ref(publication);
}

void pubs_clear(struct pubs *pubs)
{
    for (size_t i = 0; i < pubs->len; i++)
        publication_unref(pubs->items[i]);
    pubs->len = 0;
    if (pubs->cap > KEPT_CAP)
        pubs_fini(pubs);
}

void pubs_shift(struct pubs *pubs, size_t n)
{
    assert(n <= pubs->len);
    if (n == pubs->len) {
        pubs_clear(pubs);
        return;
    }
    for (size_t i = 0; i < n; i++)
        publication_unref(pubs->items[i]);
    pubs->len -= n;
    memmove(pubs->items, pubs->items + n, pubs->len * sizeof(*pubs->items));
}

void pubs_fini(struct pubs *pubs)
{
    for (size_t i = 0; i < pubs->len; i++)
        publication_unref(pubs->items[i]);
    free(pubs->items);
    memset(pubs, 0, sizeof(*pubs));
}

struct publication *gap_note_new(uint64_t epoch, uint64_t from, uint64_t to)
{
    struct publication *note = publication_new(OPCODE_BINARY, sizeof(to));
    if (!note)
        abort();
    note->opcode = (enum opcode)0;
    note->at = (struct position){epoch, from};
    memcpy(note->payload, &to, sizeof(to));
    return note;
}

uint64_t gap_note_to(const struct publication *note)
{
    uint64_t to;
    memcpy(&to, note->payload, sizeof(to));
    return to;
}

void gap_note_extend(struct publication *note, uint64_t to)
{
    assert(is_gap_note(note) && note->refs == 1 && !note->encoding.form);
    memcpy(note->payload, &to, sizeof(to));
}
