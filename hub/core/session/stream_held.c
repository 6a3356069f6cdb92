#include "core/session/stream_held.h"

#include <assert.h>

#define HELD_BYTES (4u << 20)

void stream_held_add(struct stream_held *held, struct publication *publication)
{
    pubs_add(&held->pubs, publication);
    held->bytes += pubs_cost(publication);
    size_t n = 0;
    for (; held->bytes > HELD_BYTES && n + 1 < held->pubs.len; n++)
        held->bytes -= pubs_cost(held->pubs.items[n]);
    if (n)
        pubs_shift(&held->pubs, n);
}

struct pubs stream_held_take(struct stream_held *held)
{
    struct pubs pubs = held->pubs;
    *held = (struct stream_held){0};
    return pubs;
}

void stream_held_clear(struct stream_held *held)
{
    pubs_clear(&held->pubs);
    held->bytes = 0;
}

void stream_held_check(const struct stream_held *held)
{
    size_t bytes = 0;
    for (size_t i = 0; i < held->pubs.len; i++)
        bytes += pubs_cost(held->pubs.items[i]);
    assert(bytes == held->bytes);
    assert(held->pubs.len <= 1 || bytes <= HELD_BYTES);
}
