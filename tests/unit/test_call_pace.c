/* When calls with publications leave: at once while few turns have some, else a millisecond apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus/call_pace.h"

/* Runs n turns, apart_us from each other, whose calls are answered at once. Returns how many calls
 * left. */
static unsigned turns(struct call_pace *pace, uint64_t *now_us, unsigned n, uint64_t apart_us)
{
    unsigned calls = 0;
    for (unsigned i = 0; i < n; i++) {
        *now_us += apart_us;
        call_pace_turn(pace, *now_us, true);
        calls += call_pace_may_call(pace, *now_us, 0);
    }
    return calls;
}

static void few_turns_have_their_call_at_once(void **state)
{
    (void)state;
    struct call_pace pace = {0};
    uint64_t now_us = 5000000;
    assert_int_equal(turns(&pace, &now_us, 1000, 1000000), 1000);
    assert_int_equal(turns(&pace, &now_us, 1000, 1000), 1000);
    assert_int_equal(turns(&pace, &now_us, 1000, 500), 1000);
}

static void a_short_burst_is_not_held_up(void **state)
{
    (void)state;
    struct call_pace pace = {0};
    uint64_t now_us = 5000000;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(turns(&pace, &now_us, 20, 50), 20);
        now_us += 40000;
    }
}

static void many_turns_share_a_call(void **state)
{
    (void)state;
    struct call_pace pace = {0};
    uint64_t now_us = 5000000;
    turns(&pace, &now_us, 400, 100); /* 40 ms: the pace has been noticed */
    assert_int_equal(turns(&pace, &now_us, 1000, 100), 100);
}

static void after_many_turns_few_go_at_once_again(void **state)
{
    (void)state;
    struct call_pace pace = {0};
    uint64_t now_us = 5000000;
    turns(&pace, &now_us, 1000, 100);
    now_us += 100000;
    assert_int_equal(turns(&pace, &now_us, 40, 900), 40);
}

static void turns_without_publications_do_not_count(void **state)
{
    (void)state;
    struct call_pace pace = {0};
    uint64_t now_us = 5000000;
    for (int i = 0; i < 1000; i++)
        call_pace_turn(&pace, now_us += 100, false);
    assert_int_equal(turns(&pace, &now_us, 10, 100), 10);
}

static void calls_under_way_are_waited_for(void **state)
{
    (void)state;
    struct call_pace pace = {0};
    uint64_t now_us = 5000000;
    call_pace_turn(&pace, now_us, true);
    assert_true(call_pace_may_call(&pace, now_us, 1));
    assert_false(call_pace_may_call(&pace, now_us, 2));
    turns(&pace, &now_us, 1000, 100);
    now_us += 1000;
    assert_false(call_pace_may_call(&pace, now_us, 1));
    assert_true(call_pace_may_call(&pace, now_us, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_turns_have_their_call_at_once),
        cmocka_unit_test(a_short_burst_is_not_held_up),
        cmocka_unit_test(many_turns_share_a_call),
        cmocka_unit_test(after_many_turns_few_go_at_once_again),
        cmocka_unit_test(turns_without_publications_do_not_count),
        cmocka_unit_test(calls_under_way_are_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
