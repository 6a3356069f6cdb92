/*
 * The table of chains, compared with a plain list while it grows and empties.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/chains.h"

#define THINGS 5000

struct thing {
    struct chain_link link; /* first */
    uint64_t hash;
    int in;
};

static struct thing things[THINGS];

static size_t count(const struct chains *chains, uint64_t hash)
{
    size_t n = 0;
    for (const struct chain_link *link = chains_find(chains, hash); link;
         link = chains_next(link)) {
        assert_true(((const struct thing *)link)->in);
        assert_true(((const struct thing *)link)->hash == hash);
        n++;
    }
    return n;
}

static size_t expected(uint64_t hash)
{
    size_t n = 0;
    for (size_t i = 0; i < THINGS; i++)
        n += things[i].in && things[i].hash == hash;
    return n;
}

static void flip(struct chains *chains, struct thing *thing)
{
    if (thing->in)
        chains_remove(chains, &thing->link);
    else
        chains_add(chains, &thing->link, thing->hash);
    thing->in = !thing->in;
}

static void what_is_in_is_found_and_nothing_else(void **state)
{
    (void)state;
    struct chains chains = {0};
    assert_null(chains_find(&chains, 7));
    srand(4711);
    for (size_t i = 0; i < THINGS; i++) /* some hashes are equal, some differ only in high bits */
        things[i] = (struct thing){.hash = i % 3 == 0   ? 7
                                           : i % 3 == 1 ? (uint64_t)i << 40 | 7
                                                        : (uint64_t)rand() * 2654435761u};
    for (size_t i = 0; i < THINGS; i++)
        flip(&chains, &things[i]);
    for (size_t i = 0; i < THINGS; i++)
        assert_int_equal(count(&chains, things[i].hash), expected(things[i].hash));
    for (int step = 0; step < 20000; step++) {
        struct thing *thing = &things[rand() % THINGS];
        flip(&chains, thing);
        if (step % 50 == 0)
            assert_int_equal(count(&chains, thing->hash), expected(thing->hash));
    }
    for (size_t i = 0; i < THINGS; i++)
        if (things[i].in)
            flip(&chains, &things[i]);
    assert_int_equal(chains.links, 0);
    for (size_t i = 0; i < THINGS; i++)
        assert_null(chains_find(&chains, things[i].hash));
    chains_fini(&chains);
}

/* With long chains an attacker could stop a node. */
static void chains_stay_short(void **state)
{
    (void)state;
    struct chains chains = {0};
    uint64_t hash = 1;
    for (size_t i = 0; i < THINGS; i++) {
        hash = hash * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        chains_add(&chains, &things[i].link, hash ^ hash >> 32);
        assert_true(chains.len >= chains.links);
    }
    size_t longest = 0;
    for (size_t i = 0; i < chains.len; i++) {
        size_t n = 0;
        for (const struct chain_link *link = chains.heads[i]; link; link = link->next)
            n++;
        longest = n > longest ? n : longest;
    }
    assert_in_range(longest, 1, 12);
    chains_fini(&chains);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_is_found_and_nothing_else),
        cmocka_unit_test(chains_stay_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
