/* The heap of deadlines: order, stopping and starting from callbacks, and a random run against a
 * plain list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "common/clock.h"
#include "common/rng.h"
#include "common/timer.h"

struct probe {
    struct timer timer; /* first: callbacks cast back */
    int id;
    int runs;
    uint64_t seen_ms;
};

static struct timers timers;
static int order[64];
static size_t order_len;

static int set_up(void **state)
{
    (void)state;
    timers_init(&timers);
    order_len = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    timers_fini(&timers);
    return 0;
}

static void on_due(struct timer *timer, uint64_t now_ms)
{
    struct probe *probe = (struct probe *)timer;
    assert_false(timer_armed(timer));
    probe->runs++;
    probe->seen_ms = now_ms;
    order[order_len++] = probe->id;
}

static void nothing_armed_has_no_deadline(void **state)
{
    (void)state;
    assert_int_equal(timers_next(&timers), UINT64_MAX);
    timers_run(&timers, UINT64_MAX);
}

static void due_timers_run_by_deadline_then_by_arming(void **state)
{
    (void)state;
    struct probe a = {.id = 1}, b = {.id = 2}, c = {.id = 3}, d = {.id = 4};
    timer_start(&timers, &a.timer, 30, on_due);
    timer_start(&timers, &b.timer, 10, on_due);
    timer_start(&timers, &c.timer, 10, on_due);
    timer_start(&timers, &d.timer, 31, on_due);
    assert_int_equal(timers_next(&timers), 10);

    timers_run(&timers, 9);
    assert_int_equal(order_len, 0);
    timers_run(&timers, 30);
    assert_int_equal(order_len, 3);
    assert_int_equal(order[0], 2);
    assert_int_equal(order[1], 3);
    assert_int_equal(order[2], 1);
    assert_int_equal(a.seen_ms, 30);
    assert_true(timer_armed(&d.timer));
    assert_int_equal(timers_next(&timers), 31);
    timer_stop(&timers, &d.timer);
    assert_int_equal(timers_next(&timers), UINT64_MAX);
}

static void a_started_timer_moves_to_its_new_deadline(void **state)
{
    (void)state;
    struct probe a = {.id = 1}, b = {.id = 2};
    timer_start(&timers, &a.timer, 10, on_due);
    timer_start(&timers, &b.timer, 20, on_due);
    timer_start(&timers, &a.timer, 30, on_due);
    assert_int_equal(timers_next(&timers), 20);
    timer_start(&timers, &a.timer, 5, on_due);
    assert_int_equal(timers_next(&timers), 5);
    timers_run(&timers, 100);
    assert_int_equal(a.runs, 1);
    assert_int_equal(b.runs, 1);
}

static void stopping_twice_has_no_effect(void **state)
{
    (void)state;
    struct probe a = {.id = 1};
    timer_start(&timers, &a.timer, 10, on_due);
    timer_stop(&timers, &a.timer);
    timer_stop(&timers, &a.timer);
    timers_run(&timers, 100);
    assert_int_equal(a.runs, 0);
}

static void on_due_again(struct timer *timer, uint64_t now_ms)
{
    on_due(timer, now_ms);
    timer_start(&timers, timer, now_ms - 5, on_due_again);
}

static void what_arms_itself_for_the_past_waits_for_the_next_run_and_holds_up_nobody(void **state)
{
    (void)state;
    struct probe a = {.id = 1}, b = {.id = 2};
    timer_start(&timers, &a.timer, 10, on_due_again);
    timer_start(&timers, &b.timer, 20, on_due);
    timers_run(&timers, 20);
    assert_int_equal(a.runs, 1);
    assert_int_equal(b.runs, 1);
    assert_true(timers_next(&timers) <= 20);
    timers_run(&timers, 20);
    assert_int_equal(a.runs, 2);
    timer_stop(&timers, &a.timer);
}

static struct probe *victim;

static bool has_time_for(void *ctx)
{
    unsigned *left = ctx;
    return --*left > 0;
}

/* A timer that a callback arms for the past also waits behind the ones left over. */
static void a_portion_ends_where_its_time_does_and_the_next_goes_on(void **state)
{
    (void)state;
    struct probe a = {.id = 1}, b = {.id = 2}, c = {.id = 3};
    unsigned left = 2;
    timer_start(&timers, &a.timer, 10, on_due_again);
    timer_start(&timers, &b.timer, 10, on_due);
    timer_start(&timers, &c.timer, 10, on_due);
    timers_run_portion(&timers, 10, has_time_for, &left);
    assert_int_equal(a.runs + b.runs, 2);
    assert_int_equal(c.runs, 0);
    assert_true(timers_next(&timers) <= 10);
    left = 1;
    timers_run_portion(&timers, 10, has_time_for, &left);
    assert_int_equal(c.runs, 1);
    assert_int_equal(a.runs, 1);
    timers_run(&timers, 10);
    assert_int_equal(a.runs, 2);
    timer_stop(&timers, &a.timer);
}

static void on_due_stop_victim(struct timer *timer, uint64_t now_ms)
{
    on_due(timer, now_ms);
    timer_stop(&timers, &victim->timer);
    free(victim);
}

static void a_callback_may_stop_and_free_a_timer_that_is_due(void **state)
{
    (void)state;
    struct probe a = {.id = 1};
    victim = calloc(1, sizeof(*victim));
    timer_start(&timers, &a.timer, 10, on_due_stop_victim);
    timer_start(&timers, &victim->timer, 10, on_due);
    timers_run(&timers, 10);
    assert_int_equal(order_len, 1);
}

static void on_due_free_itself(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    order_len++;
    free(timer);
}

static void a_callback_may_free_its_own_timer(void **state)
{
    (void)state;
    struct probe *a = calloc(1, sizeof(*a));
    timer_start(&timers, &a->timer, 10, on_due_free_itself);
    timers_run(&timers, 10);
    assert_int_equal(order_len, 1);
}

#define RANDOM_TIMERS 300

static uint64_t least_deadline(const struct probe *probes)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < RANDOM_TIMERS; i++) {
        if (timer_armed(&probes[i].timer) && probes[i].timer.at_ms < least)
            least = probes[i].timer.at_ms;
    }
    return least;
}

static void on_due_check(struct timer *timer, uint64_t now_ms)
{
    struct probe *probe = (struct probe *)timer;
    assert_true(timer->at_ms <= now_ms);
    probe->runs++;
}

static void random_use_agrees_with_a_plain_list(void **state)
{
    (void)state;
    static struct probe probes[RANDOM_TIMERS];
    const char *given = getenv("VINHUB_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : clock_unix_ms();
    print_message("# VINHUB_TEST_SEED=%llu\n", (unsigned long long)seed);
    struct rng rng;
    rng_seed(&rng, seed);

    uint64_t now = 1000;
    for (int step = 0; step < 20000; step++) {
        struct probe *probe = &probes[rng_below(&rng, RANDOM_TIMERS)];
        uint64_t action = rng_below(&rng, 10);
        if (action < 6) {
            timer_start(&timers, &probe->timer, now + rng_below(&rng, 1000), on_due_check);
        } else if (action < 9) {
            timer_stop(&timers, &probe->timer);
            assert_false(timer_armed(&probe->timer));
        } else {
            now += rng_below(&rng, 50);
            timers_run(&timers, now);
            assert_true(timers_next(&timers) > now);
        }
        assert_int_equal(timers_next(&timers), least_deadline(probes));
    }
    for (size_t i = 0; i < RANDOM_TIMERS; i++)
        timer_stop(&timers, &probes[i].timer);
}

static void random_numbers_replay_from_their_seed_and_stay_below_the_bound(void **state)
{
    (void)state;
    struct rng a, b, c;
    unsigned seen = 0;
    rng_seed(&a, 7);
    rng_seed(&b, 7);
    rng_seed(&c, 8);
    assert_int_not_equal(rng_next(&a), rng_next(&c));
    rng_next(&b);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(rng_next(&a), rng_next(&b));
        uint64_t drawn = rng_below(&c, 3);
        assert_true(drawn < 3);
        seen |= 1U << drawn;
    }
    assert_int_equal(seen, 7);
}

static void clocks_go_forward(void **state)
{
    (void)state;
    uint64_t before = clock_boot_us();
    assert_true(clock_boot_us() >= before);
    assert_true(clock_boot_ms() >= before / 1000);
    assert_true(clock_unix_ms() > 1600000000000U);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(nothing_armed_has_no_deadline),
        CASE(due_timers_run_by_deadline_then_by_arming),
        CASE(a_started_timer_moves_to_its_new_deadline),
        CASE(stopping_twice_has_no_effect),
        CASE(what_arms_itself_for_the_past_waits_for_the_next_run_and_holds_up_nobody),
        CASE(a_portion_ends_where_its_time_does_and_the_next_goes_on),
        CASE(a_callback_may_stop_and_free_a_timer_that_is_due),
        CASE(a_callback_may_free_its_own_timer),
        CASE(random_use_agrees_with_a_plain_list),
        CASE(random_numbers_replay_from_their_seed_and_stay_below_the_bound),
        CASE(clocks_go_forward),
    };
    return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
