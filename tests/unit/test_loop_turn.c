/* A turn that is too long logs what took longest; work that could be long is done in portions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/timer.h"
#include "loop/loop.h"
#include "loop/resolve.h"
#include "loop/turn.h"

static int real_stderr, capture;
static char captured[1 << 16];

static void capture_start(void)
{
    char path[] = "/tmp/test_loop_turn.XXXXXX";
    capture = mkstemp(path);
    assert_true(capture >= 0);
    unlink(path);
    real_stderr = dup(STDERR_FILENO);
    dup2(capture, STDERR_FILENO);
}

/* What was written since capture_start. */
static const char *capture_stop(void)
{
    log_flush();
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    ssize_t len = pread(capture, captured, sizeof(captured) - 1, 0);
    close(capture);
    assert_true(len >= 0);
    captured[len] = '\0';
    return captured;
}

static void test_a_slow_turn_names_what_took_longest(void **state)
{
    (void)state;
    struct turn turn = {0};
    capture_start();
    turn_run(&turn, "short", 1000);
    turn_run(&turn, "long", 11000);
    turn_run(&turn, "last", 56000);
    turn_run(&turn, NULL, 61000);
    turn_run(&turn, "after a wait", 961000); /* a wait counts for nothing */
    turn_run(&turn, NULL, 962000);
    turn_end(&turn, TURN_SLOW_US + 1000);
    const char *line = capture_stop();
    assert_non_null(strstr(line, " warn slow_turn "));
    assert_non_null(strstr(line, "processor_ms=51 callbacks=4 longest=long longest_ms=45"));
}

static void test_a_turn_within_its_bound_says_nothing(void **state)
{
    (void)state;
    struct turn turn = {0};
    capture_start();
    turn_run(&turn, "long", 1000);
    turn_run(&turn, NULL, 101000); /* other processes had the processor */
    turn_end(&turn, TURN_SLOW_US);
    assert_string_equal(capture_stop(), "");
    assert_null(turn.longest);
    assert_int_equal(turn.callbacks, 0);
}

static void use_processor(uint64_t us)
{
    uint64_t until_us = clock_cpu_us() + us;
    while (clock_cpu_us() < until_us)
        continue;
}

static void work_and_stop(void *ctx)
{
    use_processor(TURN_SLOW_US + 10000);
    loop_stop(ctx);
}

static void test_the_loop_names_a_timer_that_takes_too_long(void **state)
{
    (void)state;
    struct loop *loop;
    assert_int_equal(loop_new(&loop), STATUS_OK);
    struct loop_timer *timer = loop_timer_new(loop, "heavy_timer", work_and_stop, loop);
    loop_timer_start(timer, 0);
    capture_start();
    loop_run(loop);
    assert_non_null(strstr(capture_stop(), "longest=heavy_timer"));
    loop_timer_free(timer);
    loop_free(loop);
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void work(void *ctx)
{
    (void)ctx;
    use_processor(TURN_SLOW_US + 10000);
}

static void test_the_loop_names_a_hook_that_takes_too_long(void **state)
{
    (void)state;
    struct loop *loop;
    assert_int_equal(loop_new(&loop), STATUS_OK);
    struct loop_timer *timer = loop_timer_new(loop, "light_timer", stop, loop);
    loop_at_turn_end(loop, "heavy_hook", work, NULL);
    loop_timer_start(timer, 0);
    capture_start();
    loop_run(loop);
    assert_non_null(strstr(capture_stop(), "longest=heavy_hook"));
    loop_timer_free(timer);
    loop_free(loop);
}

/* --- portions --- */

#define MANY       200
#define ONE_US     1000
#define PORTION_US 20000 /* well below a slow turn, well above what a portion is to take */

static struct {
    struct loop *loop;
    unsigned left, this_turn, most_in_turn;
} served;

static void on_turn_end(void *ctx)
{
    (void)ctx;
    if (served.this_turn > served.most_in_turn)
        served.most_in_turn = served.this_turn;
    served.this_turn = 0;
}

static void serve_one(void)
{
    use_processor(ONE_US);
    served.this_turn++;
    if (--served.left == 0)
        loop_stop(served.loop);
}

static void begin_serving(void)
{
    memset(&served, 0, sizeof(served));
    served.left = MANY;
    assert_int_equal(loop_new(&served.loop), STATUS_OK);
    loop_at_turn_end(served.loop, "count", on_turn_end, NULL);
}

static void judge_serving(void)
{
    assert_int_equal(served.left, 0);
    assert_in_range(served.most_in_turn, 1, PORTION_US / ONE_US);
    loop_free(served.loop);
}

static void on_resolved(void *ctx, const struct resolved *result, const char *why)
{
    (void)ctx;
    assert_null(why);
    assert_int_equal(result->len, 1);
    serve_one();
}

/* Each answer may open a socket. */
static void test_hundreds_of_addresses_are_answered_in_portions(void **state)
{
    (void)state;
    struct resolve *query[MANY];
    begin_serving();
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(resolve_start(served.loop, "127.0.0.1", 80, on_resolved, NULL, &query[i]),
                         STATUS_OK);
    loop_run(served.loop);
    judge_serving();
}

static struct {
    struct timers timers;
    struct timer due[MANY];
    struct loop_timer *wake;
} own;

static void on_due(struct timer *timer, uint64_t now_ms)
{
    (void)timer;
    (void)now_ms;
    serve_one();
}

static void on_wake(void *ctx)
{
    (void)ctx;
    loop_run_timers(&own.timers);
    if (served.left > 0)
        loop_timer_start(own.wake, 0);
}

static void test_hundreds_of_timers_run_in_portions(void **state)
{
    (void)state;
    begin_serving();
    timers_init(&own.timers);
    own.wake = loop_timer_new(served.loop, "own", on_wake, NULL);
    for (unsigned i = 0; i < MANY; i++)
        timer_start(&own.timers, &own.due[i], 0, on_due);
    loop_timer_start(own.wake, 0);
    loop_run(served.loop);
    loop_timer_free(own.wake);
    timers_fini(&own.timers);
    judge_serving();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slow_turn_names_what_took_longest),
        cmocka_unit_test(test_a_turn_within_its_bound_says_nothing),
        cmocka_unit_test(test_the_loop_names_a_timer_that_takes_too_long),
        cmocka_unit_test(test_the_loop_names_a_hook_that_takes_too_long),
        cmocka_unit_test(test_hundreds_of_addresses_are_answered_in_portions),
        cmocka_unit_test(test_hundreds_of_timers_run_in_portions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
