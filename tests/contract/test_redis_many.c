/* Thousands of calls at once: what a lease depends on does not wait behind them. Redis stands still
 * or answers slowly, so that all of them wait. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proxy.h"
#include "rig_redis.h"

#define LEASE_MS 60000 /* much longer than all of this takes */
#define CALLS    3000
#define AHEAD    600 /* some more than may be under way at once */
#define RENEWAL  900000

static struct redis_rig r;

static int set_up(void **state)
{
    (void)state;
    r = (struct redis_rig){0};
    redis_rig_start(&r, LEASE_MS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    redis_rig_stop(&r);
    return 0;
}

static void assert_many(struct rig_peer *peer, uint64_t epoch)
{
    for (unsigned i = 1; i <= CALLS; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s:%u", i);
        peer->bus->ops->assert_owner(peer->bus, session, i, epoch, "u");
    }
}

/* How many were answered before the renewal. */
static unsigned answered_before(const struct rig_peer *peer)
{
    unsigned count = 0;
    for (const struct seen *seen = peer->first; seen; seen = seen->next) {
        if (seen->kind == SEEN_RENEWED && seen->tag == RENEWAL)
            return count;
        count += seen->kind == SEEN_ASSERTED;
    }
    fail_msg("expected an answer to the renewal");
    return 0;
}

static void assert_all_answered_in_order(struct rig_peer *peer)
{
    uint64_t last = 0;
    for (unsigned i = 1; i <= CALLS; i++)
        assert_int_equal(rig_wait(peer, SEEN_ASSERTED, i)->status, STATUS_OK);
    for (const struct seen *seen = peer->first; seen; seen = seen->next) {
        if (seen->kind != SEEN_ASSERTED)
            continue;
        assert_true(seen->tag == last + 1);
        last = seen->tag;
    }
    assert_null(rig_find(peer, SEEN_DISCONNECTED, 0));
}

static void a_renewal_does_not_wait_behind_thousands_of_calls(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    kill(r.server.pid, SIGSTOP);
    assert_many(a, a->bus->ops->heard_ms(a->bus));
    a->bus->ops->renew(a->bus, RENEWAL);
    kill(r.server.pid, SIGCONT);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, RENEWAL)->status, STATUS_OK);
    assert_all_answered_in_order(a);
    assert_in_range(answered_before(a), 1, AHEAD);
}

struct hearing {
    struct bus *bus;
    uint64_t before_ms;
};

static bool is_heard_again(void *ctx)
{
    const struct hearing *heard = ctx;
    return heard->bus->ops->heard_ms(heard->bus) != heard->before_ms;
}

/* Answers crawl, 5 of them each 50 ms. Of the probes that bring the inbox to life the first may
 * have been under way already. */
static void the_own_inbox_is_heard_while_thousands_of_calls_wait(void **state)
{
    (void)state;
    struct proxy proxy;
    proxy_start(&proxy, r.server.port);
    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%u", proxy.port);
    r.conf.node.lease_ms = 1000;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    proxy_crawl(&proxy, 20);
    assert_many(a, 7);
    for (unsigned probe = 0; probe < 4; probe++) {
        struct hearing heard = {a->bus, a->bus->ops->heard_ms(a->bus)};
        rig_until(&r.rig, is_heard_again, &heard);
    }
    assert_null(rig_find(a, SEEN_ASSERTED, CALLS / 2));
    proxy_crawl(&proxy, 0);
    assert_all_answered_in_order(a);
    rig_clear(&r.rig);
    proxy_stop(&proxy);
}

static void scripts_that_are_lost_meanwhile_change_no_order(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    redis_server_ask(&r.server, "SCRIPT FLUSH");
    assert_many(a, a->bus->ops->heard_ms(a->bus));
    a->bus->ops->renew(a->bus, RENEWAL);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, RENEWAL)->status, STATUS_OK);
    assert_all_answered_in_order(a);
    assert_in_range(answered_before(a), 0, 2 * AHEAD);
}

/* All are answered at once, those that were not sent as well. */
static void a_connection_that_ends_answers_all_of_them(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    kill(r.server.pid, SIGSTOP);
    assert_many(a, 7);
    redis_server_kill(&r.server);
    rig_wait(a, SEEN_DISCONNECTED, 0);
    for (unsigned i = 1; i <= CALLS; i++)
        assert_int_equal(rig_find(a, SEEN_ASSERTED, i)->status, STATUS_IO);
    redis_server_start(&r.server);
    rig_wait(a, SEEN_CONNECTED, 0);
    rig_forget_events(a);
    assert_many(a, 7);
    assert_all_answered_in_order(a);
}

int main(void)
{
#define MANY(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        MANY(a_renewal_does_not_wait_behind_thousands_of_calls),
        MANY(the_own_inbox_is_heard_while_thousands_of_calls_wait),
        MANY(scripts_that_are_lost_meanwhile_change_no_order),
        MANY(a_connection_that_ends_answers_all_of_them),
    };
    return cmocka_run_group_tests_name("bus_redis_many", tests, NULL, NULL);
}
