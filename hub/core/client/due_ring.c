#include "core/client/due_ring.h"

#include <assert.h>
#include <utlist.h>

/* The first slot from `from` on that is not empty; UINT64_MAX: all are. */
static uint64_t first_filled(const struct due_ring *ring)
{
    const uint64_t words = DUE_RING_SLOTS / 64;
    uint64_t at = ring->from % DUE_RING_SLOTS;
    for (uint64_t i = 0; i <= words; i++) {
        uint64_t word = (at / 64 + i) % words;
        uint64_t bits = ring->filled[word];
        if (!i)
            bits &= UINT64_MAX << at % 64;
        if (bits) {
            uint64_t slot = word * 64 + (uint64_t)__builtin_ctzll(bits);
            return ring->from + (slot + DUE_RING_SLOTS - at) % DUE_RING_SLOTS;
        }
    }
    return UINT64_MAX;
}

void due_add(struct due_ring *ring, struct due *due, uint64_t at_ms, uint64_t now_ms)
{
    assert(at_ms > now_ms && at_ms % DUE_SLOT_MS == 0 && at_ms - now_ms <= DUE_AHEAD_MS);
    if (first_filled(ring) == UINT64_MAX)
        ring->from = now_ms / DUE_SLOT_MS;
    uint64_t at = at_ms / DUE_SLOT_MS % DUE_RING_SLOTS;
    due->at_ms = at_ms;
    DL_APPEND(ring->slots[at], due);
    ring->filled[at / 64] |= UINT64_C(1) << at % 64;
}

void due_remove(struct due_ring *ring, struct due *due)
{
    uint64_t at = due->at_ms / DUE_SLOT_MS % DUE_RING_SLOTS;
    DL_DELETE(ring->slots[at], due);
    if (!ring->slots[at])
        ring->filled[at / 64] &= ~(UINT64_C(1) << at % 64);
}

uint64_t due_next_ms(const struct due_ring *ring)
{
    uint64_t slot = first_filled(ring);
    return slot == UINT64_MAX ? UINT64_MAX : slot * DUE_SLOT_MS;
}

/* If the ring was not visited for longer than one round, a slot may also hold entries of a later
 * round. */
struct due *due_first(struct due_ring *ring, uint64_t now_ms)
{
    uint64_t slot;
    while ((slot = first_filled(ring)) <= now_ms / DUE_SLOT_MS) {
        struct due *due;
        ring->from = slot;
        DL_FOREACH (ring->slots[slot % DUE_RING_SLOTS], due)
            if (due->at_ms <= now_ms)
                return due;
        ring->from = slot + 1;
    }
    return NULL;
}
