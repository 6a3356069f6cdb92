/* The ring of deadlines, compared with a plain list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"
#include "core/client/due_ring.h"

#define ENTRIES 60

static struct due_ring ring;
static struct due entries[ENTRIES];
static bool there[ENTRIES];

static uint64_t earliest_ms(void)
{
    uint64_t at_ms = UINT64_MAX;
    for (size_t i = 0; i < ENTRIES; i++)
        if (there[i] && entries[i].at_ms < at_ms)
            at_ms = entries[i].at_ms;
    return at_ms;
}

static void take_all_due(uint64_t now_ms)
{
    struct due *due;
    while ((due = due_first(&ring, now_ms))) {
        assert_true(there[due - entries] && due->at_ms <= now_ms);
        due_remove(&ring, due);
        there[due - entries] = false;
    }
    assert_true(earliest_ms() > now_ms);
}

/* Now and then the ring is not looked at for sleep_ms. */
static void run(uint64_t sleep_ms)
{
    struct rng rng;
    uint64_t now_ms = 1000000;
    rng_seed(&rng, sleep_ms);
    memset(&ring, 0, sizeof(ring));
    memset(there, 0, sizeof(there));
    for (unsigned round = 0; round < 20000; round++) {
        size_t i = rng_below(&rng, ENTRIES);
        if (there[i])
            due_remove(&ring, &entries[i]);
        else
            due_add(&ring, &entries[i],
                    now_ms / DUE_SLOT_MS * DUE_SLOT_MS +
                        DUE_SLOT_MS * (1 + rng_below(&rng, DUE_RING_SLOTS - 1)),
                    now_ms);
        there[i] = !there[i];
        now_ms += rng_below(&rng, 1000) ? rng_below(&rng, 300) : rng_below(&rng, sleep_ms + 1);
        assert_true(due_next_ms(&ring) <= earliest_ms());
        assert_true((due_next_ms(&ring) == UINT64_MAX) == (earliest_ms() == UINT64_MAX));
        if (rng_below(&rng, 3))
            take_all_due(now_ms);
    }
}

static void what_is_due_is_found_and_nothing_else(void **state)
{
    (void)state;
    run(0);
}

static void also_after_a_sleep_longer_than_the_ring(void **state)
{
    (void)state;
    run(3 * DUE_AHEAD_MS);
}

static void the_next_is_exact_while_somebody_looks(void **state)
{
    (void)state;
    memset(&ring, 0, sizeof(ring));
    due_add(&ring, &entries[0], 20000, 1);
    assert_int_equal(due_next_ms(&ring), 20000);
    due_add(&ring, &entries[1], 5, 1);
    assert_int_equal(due_next_ms(&ring), 5);
    assert_null(due_first(&ring, 4));
    assert_ptr_equal(due_first(&ring, 5), &entries[1]);
    due_remove(&ring, &entries[1]);
    assert_int_equal(due_next_ms(&ring), 20000);
    due_remove(&ring, &entries[0]);
    assert_int_equal(due_next_ms(&ring), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_due_is_found_and_nothing_else),
        cmocka_unit_test(also_after_a_sleep_longer_than_the_ring),
        cmocka_unit_test(the_next_is_exact_while_somebody_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
