/* Urgent watches are served before those left over from earlier turns, and starve none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "loop/loop.h"

#define SLOW    40   /* watches that are ready at once */
#define SLOW_US 4000 /* the time to serve one of them: three fill a turn */

struct ready {
    struct loop *loop;
    struct loop_watch *watch;
    int fd;
    bool again; /* stays readable */
};

static struct {
    unsigned slow, urgent;     /* called so far */
    unsigned slow_when_urgent; /* how many of the slow ones went before the first urgent call */
} seen;

static void on_slow(void *ctx)
{
    struct ready *ready = ctx;
    uint64_t value, until_us = clock_boot_us() + SLOW_US;
    assert_int_equal(read(ready->fd, &value, sizeof(value)), sizeof(value));
    while (clock_boot_us() < until_us)
        continue;
    if (++seen.slow == SLOW)
        loop_stop(ready->loop);
}

static void on_urgent(void *ctx)
{
    struct ready *ready = ctx;
    uint64_t value;
    if (seen.urgent++ == 0)
        seen.slow_when_urgent = seen.slow;
    if (!ready->again) /* libevent may come for it as well, after us */
        (void)!read(ready->fd, &value, sizeof(value));
}

static void watch(struct ready *ready, struct loop *loop, loop_fn *fn)
{
    ready->loop = loop;
    ready->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(ready->fd >= 0);
    ready->watch = loop_watch_new(loop, "test", ready->fd, LOOP_READABLE, fn, ready);
    assert_non_null(ready->watch);
}

static void unwatch(struct ready *ready)
{
    loop_watch_free(ready->watch);
    close(ready->fd);
}

/* SLOW watches, and behind them one more, all ready before the loop runs. */
static void run(bool urgent, bool again)
{
    struct loop *loop;
    struct ready slow[SLOW] = {0}, last = {.again = again};
    assert_int_equal(loop_new(&loop), STATUS_OK);
    seen.slow = seen.urgent = seen.slow_when_urgent = 0;
    for (unsigned i = 0; i < SLOW; i++)
        watch(&slow[i], loop, on_slow);
    watch(&last, loop, on_urgent);
    if (urgent)
        loop_watch_set_urgent(last.watch);
    loop_run(loop);
    for (unsigned i = 0; i < SLOW; i++)
        unwatch(&slow[i]);
    unwatch(&last);
    loop_free(loop);
}

static void test_urgent_goes_before_what_was_left_behind(void **state)
{
    (void)state;
    run(true, false);
    assert_true(seen.urgent >= 1);
    assert_in_range(seen.slow_when_urgent, 1,
                    5); /* those of the turn that was under way, and no more */
}

static void test_others_wait_for_all_that_came_before(void **state)
{
    (void)state;
    run(false, false);
    assert_true(seen.urgent == 0 || seen.slow_when_urgent > 10);
}

/* All slow ones were served although the urgent one stayed ready: otherwise this would not end. */
static void test_urgent_without_end_starves_nobody(void **state)
{
    (void)state;
    run(true, true);
    assert_int_equal(seen.slow, SLOW);
    assert_true(seen.urgent > SLOW / 4);
}

static void free_itself(void *ctx)
{
    struct ready *ready = ctx;
    seen.urgent++;
    loop_watch_free(ready->watch);
    ready->watch = NULL;
}

static void test_an_urgent_watch_may_be_freed_in_its_callback(void **state)
{
    (void)state;
    struct loop *loop;
    struct ready slow[SLOW] = {0}, last = {0};
    assert_int_equal(loop_new(&loop), STATUS_OK);
    seen.slow = seen.urgent = 0;
    for (unsigned i = 0; i < SLOW; i++)
        watch(&slow[i], loop, on_slow);
    watch(&last, loop, free_itself);
    loop_watch_set_urgent(last.watch);
    loop_run(loop);
    assert_int_equal(seen.urgent, 1);
    for (unsigned i = 0; i < SLOW; i++)
        unwatch(&slow[i]);
    close(last.fd);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urgent_goes_before_what_was_left_behind),
        cmocka_unit_test(test_others_wait_for_all_that_came_before),
        cmocka_unit_test(test_urgent_without_end_starves_nobody),
        cmocka_unit_test(test_an_urgent_watch_may_be_freed_in_its_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
