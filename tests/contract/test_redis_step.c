/*
 * Replies that do not belong to the requests. No server sends them, but a broken proxy may. The
 * connection ends at once, however busy it is, and another replaces it. Here a proxy in front of a
 * real Redis replaces one answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "proxy.h"
#include "rig_redis.h"

#define LEASE_MS 2000
#define SESSION  "s:k"
#define OTHER    "s:other"

static struct redis_rig r;
static struct proxy proxy;
static struct rig_peer *a, *b; /* only a is behind the proxy */

static int set_up(void **state)
{
    (void)state;
    r = (struct redis_rig){0};
    redis_rig_start(&r, LEASE_MS);
    b = rig_peer(&r.rig, "b");
    proxy_start(&proxy, r.server.port);
    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%u/0", proxy.port);
    a = rig_peer(&r.rig, "a");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_clear(&r.rig);
    proxy_stop(&proxy);
    redis_rig_stop(&r);
    return 0;
}

static bool is_swapped(void *ctx)
{
    (void)ctx;
    return proxy_swapped(&proxy);
}

/* Each turn makes a call, so that answers keep coming. */
static bool is_cut_though_busy(void *ctx)
{
    static const struct envelope envelope = {.type = ENVELOPE_HELLO, .life = 7};
    (void)ctx;
    a->bus->ops->send(a->bus, "b", &envelope, 9);
    return rig_find(a, SEEN_DISCONNECTED, 0) != NULL;
}

static void works_again(void)
{
    rig_wait(a, SEEN_CONNECTED, 0);
    a->bus->ops->renew(a->bus, 77);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 77)->status, STATUS_OK);
}

static void a_reply_that_is_missing_is_noticed_though_others_come(void **state)
{
    (void)state;
    proxy_swap(&proxy, false, NULL);
    rig_until(&r.rig, is_cut_though_busy, NULL);
    works_again();
}

static void a_reply_too_many_is_noticed_though_others_come(void **state)
{
    (void)state;
    proxy_swap(&proxy, false, ":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n");
    rig_until(&r.rig, is_cut_though_busy, NULL);
    works_again();
}

/* It ends before the deadline, and the outcome of the call is unknown. */
static void a_reply_of_another_kind_ends_the_connection_at_once(void **state)
{
    (void)state;
    static const char *const wrong[] = {"+OK\r\n", ":1\r\n", "$1\r\n1\r\n", "$-1\r\n"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        rig_settle(a);
        rig_forget_events(a);
        proxy_swap(&proxy, false, wrong[i]);
        a->bus->ops->renew(a->bus, 1 + i);
        assert_int_equal(rig_wait(a, SEEN_RENEWED, 1 + i)->status, STATUS_IO);
        assert_non_null(rig_find(a, SEEN_DISCONNECTED, 0));
        works_again();
    }
}

/* A claim answered with such an epoch has an unknown outcome; a refusal is accepted. */
static void an_epoch_too_high_to_be_one_is_not_taken(void **state)
{
    (void)state;
    rig_settle(a);
    proxy_swap(&proxy, false, "*3\r\n:1\r\n$1\r\na\r\n$16\r\n4503599627370497\r\n");
    a->bus->ops->claim(a->bus, SESSION, 1, &(struct bus_claim){.holds = true, .upstream = "u"});
    assert_int_equal(rig_wait(a, SEEN_CLAIMED, 1)->status, STATUS_IO);
    uint64_t epoch = peer_claim(a, SESSION);
    rig_settle(a);
    proxy_swap(&proxy, false, "*3\r\n:0\r\n$1\r\nb\r\n$20\r\n18446744073709551615\r\n");
    a->bus->ops->claim(a->bus, SESSION, 2, &(struct bus_claim){.upstream = "u"});
    const struct seen *seen = rig_wait(a, SEEN_CLAIMED, 2);
    assert_int_equal(seen->status, STATUS_REFUSED);
    assert_true(seen->epoch == 0);
    epoch = peer_claim(a, SESSION);
    rig_settle(a);
    proxy_swap(&proxy, false, "$16\r\n4503599627370497\r\n");
    a->bus->ops->transfer(a->bus, SESSION, 3, epoch, "b");
    assert_int_equal(rig_wait(a, SEEN_TRANSFERRED, 3)->status, STATUS_IO);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
}

/* Messages keep coming on the other channel. */
static bool is_subscribed_though_busy(void *ctx)
{
    static const struct envelope envelope = {.type = ENVELOPE_STATUS, .session = {SESSION, 3}};
    b->bus->ops->broadcast(b->bus, SESSION, &envelope);
    return rig_find(a, SEEN_SUBSCRIBED, 0) && ctx;
}

static void a_confirmation_of_something_else_is_noticed_though_messages_come(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
        "*3\r\n$11\r\nunsubscribe\r\n$14\r\ntest:push:{s:k}\r\n:1\r\n", "+PONG\r\n"};
    peer_subscribe(a, SESSION);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        unsigned before = proxy_subscribers(&proxy);
        a->bus->ops->unsubscribe(a->bus, OTHER);
        rig_settle(a);
        rig_forget_events(a);
        proxy_swap(&proxy, true, wrong[i]);
        a->bus->ops->subscribe(a->bus, OTHER);
        rig_until(&r.rig, is_swapped, NULL);
        rig_until(&r.rig, is_subscribed_though_busy, a);
        assert_true(proxy_subscribers(&proxy) > before);
        assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
    }
}

/* If it counted, the bus would wait until that time, or take the connection for broken. */
static void a_probe_from_the_future_does_not_count(void **state)
{
    (void)state;
    uint64_t far_ms = clock_boot_ms() + 1000000;
    const struct envelope probe = {
        .type = ENVELOPE_PROBE, .life = r.rig.lives, .number = far_ms}; /* a came last */
    b->bus->ops->send(b->bus, "a", &probe, 1);
    rig_wait(b, SEEN_TOLD, 1);
    rig_settle(a);
    assert_true(a->bus->ops->heard_ms(a->bus) < far_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_reply_that_is_missing_is_noticed_though_others_come,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reply_too_many_is_noticed_though_others_come, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_reply_of_another_kind_ends_the_connection_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_epoch_too_high_to_be_one_is_not_taken, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            a_confirmation_of_something_else_is_noticed_though_messages_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_probe_from_the_future_does_not_count, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("redis_step", tests, NULL, NULL);
}
