/*
 * A growing array of referenced publications, and the gap note that may stand among them.
 */
#ifndef VINHUB_CORE_PUBS_H
#define VINHUB_CORE_PUBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"

struct pubs {
    struct publication **items;
    size_t len, cap;
};

/* Adds a reference of its own. Running out of memory here aborts: the payloads are what peers size,
 * not the array. */
void pubs_add(struct pubs *pubs, struct publication *publication);
void pubs_clear(struct pubs *pubs); /* unrefs all; keeps a small array, frees a large one */
void pubs_shift(struct pubs *pubs, size_t n); /* unrefs the first n */
void pubs_fini(struct pubs *pubs);
/* What one that is kept costs: the object, its frame, its place here, and what the allocator adds.
 */
static inline size_t pubs_cost(const struct publication *publication)
{
    return sizeof(*publication) + 10 + publication->len + sizeof(publication) + 16;
}

/* A note in the stream: publications from..to of that epoch can't be had (to 0: to its end). opcode
 * is 0, at is {epoch, from}. */
struct publication *gap_note_new(uint64_t epoch, uint64_t from, uint64_t to);
static inline bool is_gap_note(const struct publication *publication)
{
    return publication->opcode == 0;
}
uint64_t gap_note_to(const struct publication *note);
void gap_note_extend(struct publication *note, uint64_t to); /* only while one queue alone has it */

#endif
