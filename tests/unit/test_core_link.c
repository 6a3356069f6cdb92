/* The owner's link to the backend alone: when it tries again, and what it reports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "core/session/link.h"
#include "core_rig.h"

static struct core_rig rig;
static struct session *session;
static char socket_memory;
static size_t opened, sent, closes, resets;
static size_t reports, ups, downs, closed, unreachable;
static enum status answer;

static struct upstream *socket_of(void)
{
    return (struct upstream *)(void *)&socket_memory;
}

static struct upstream *on_open(void *ctx, struct session *of, struct service *service,
                                const char *url)
{
    (void)ctx, (void)of, (void)service;
    assert_string_equal(url, "ws://backend/v");
    opened++;
    return socket_of();
}

static enum status on_send(void *ctx, struct upstream *upstream, enum opcode opcode,
                           const void *payload, size_t len)
{
    (void)ctx, (void)upstream, (void)opcode, (void)payload, (void)len;
    sent += answer == STATUS_OK;
    return answer;
}

static void on_close(void *ctx, struct upstream *upstream, unsigned code, const char *reason)
{
    (void)ctx, (void)upstream, (void)reason;
    assert_int_equal(code, CLOSE_NORMAL);
    closes++;
}

static void on_reset(void *ctx, struct upstream *upstream)
{
    (void)ctx, (void)upstream;
    resets++;
}

static const struct upstream_ops ops = {on_open, on_send, on_close, on_reset};

static void on_told(struct session *of, bool changed)
{
    (void)of;
    reports += changed;
}

static void on_up(struct session *of)
{
    (void)of;
    ups++;
}

static void on_down(struct session *of)
{
    (void)of;
    downs++;
}

static void on_closed(struct session *of)
{
    (void)of;
    closed++;
}

static void on_unreachable(struct session *of)
{
    (void)of;
    unreachable++;
}

static uint16_t no_requests(const struct session *of)
{
    (void)of;
    return 0;
}

static const struct link_events events = {on_told,   on_up,          on_down,
                                          on_closed, on_unreachable, no_requests};

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_OWNER);
    session = &rig.session;
    opened = sent = closes = resets = reports = ups = downs = closed = unreachable = 0;
    answer = STATUS_OK;
    rig.hub.setup.upstream_ops = &ops;
    rig.service.upstream = (char *)(uintptr_t) "ws://backend";
    struct target target = {.service = &rig.service,
                            .path = (char *)(uintptr_t) "/v",
                            .query = (char *)(uintptr_t) "",
                            .session_id = "svc:v"};
    assert_true(link_new(session, &target, &events));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    link_check(session);
    link_reset(session);
    link_free(session);
    assert_int_equal(rig.hub.counts.upstreams, 0);
    rig_fini(&rig);
    return 0;
}

static void end(enum upstream_end_kind kind)
{
    const struct upstream_end how = {.kind = kind, .reason = "because"};
    link_on_closed(session, socket_of(), &how);
    link_check(session);
}

static void open_it(void)
{
    link_start(session);
    link_on_opened(session, socket_of());
    link_check(session);
}

static void it_opens_once_and_says_so(void **state)
{
    (void)state;
    link_start(session);
    link_start(session);
    assert_int_equal(opened, 1);
    assert_int_equal(link_status(session), UPSTREAM_CONNECTING);
    link_on_opened(session, socket_of());
    assert_int_equal(link_state(session), LINK_OPEN);
    assert_int_equal(link_status(session), UPSTREAM_CONNECTED);
    assert_int_equal(ups, 1);
    assert_int_equal(reports, 2);
    assert_int_equal(rig.hub.counts.upstreams, 1);
    assert_int_equal(link_send(session, OPCODE_TEXT, "x", 1), STATUS_OK);
    answer = STATUS_AGAIN;
    assert_int_equal(link_send(session, OPCODE_TEXT, "x", 1), STATUS_AGAIN);
    assert_int_equal(sent, 1);
}

static void waits_grow_up_to_the_maximum(void **state)
{
    (void)state;
    uint64_t longest_ms = 0;
    link_start(session);
    for (size_t n = 1; n < 12; n++) {
        end(UPSTREAM_END_TIMEOUT);
        assert_int_equal(link_state(session), LINK_WAITING);
        uint64_t wait_ms = timers_next(&rig.hub.timers) - rig.hub.now_ms;
        assert_true(wait_ms >= rig.service.reconnect.min_ms / 2);
        assert_true(wait_ms <= rig.service.reconnect.max_ms);
        longest_ms = wait_ms > longest_ms ? wait_ms : longest_ms;
        rig_pass(&rig, wait_ms);
        assert_int_equal(opened, n + 1);
    }
    assert_true(longest_ms > rig.service.reconnect.max_ms / 2);
    assert_int_equal(downs, 11);
}

static void after_a_refusal_a_client_that_comes_shortens_the_wait(void **state)
{
    (void)state;
    link_start(session);
    for (size_t n = 0; n < 8; n++) {
        end(UPSTREAM_END_REFUSED);
        if (n < 7)
            rig_pass(&rig, timers_next(&rig.hub.timers) - rig.hub.now_ms);
    }
    assert_true(timers_next(&rig.hub.timers) - rig.hub.now_ms > rig.service.reconnect.max_ms);
    link_client_came(session);
    assert_true(timers_next(&rig.hub.timers) - rig.hub.now_ms <= 1000);
}

static void a_close_is_waited_for(void **state)
{
    (void)state;
    assert_false(link_close(session)); /* nothing is open */
    open_it();
    assert_true(link_close(session));
    assert_true(link_close(session)); /* an attempt is under way */
    assert_int_equal(closes, 1);
    assert_int_equal(closed, 0);
    end(UPSTREAM_END_ASKED);
    assert_int_equal(closed, 1);
    assert_int_equal(link_state(session), LINK_NONE);
}

static void without_a_lease_nothing_is_opened_and_nothing_more_is_said(void **state)
{
    (void)state;
    rig.lease = false;
    link_start(session);
    assert_int_equal(opened, 0);
    rig.lease = true;
    rig_pass(&rig, 200);
    assert_int_equal(opened, 1);
    link_on_opened(session, socket_of());
    rig.lease = false;
    assert_false(link_close(session));
    assert_int_equal(closes, 0);
    assert_int_equal(resets, 1);
}

static void a_backend_out_of_reach_is_reported_after_three_waits(void **state)
{
    (void)state;
    link_start(session);
    uint64_t from_ms = rig.hub.now_ms;
    while (!unreachable) {
        end(UPSTREAM_END_NO_TCP);
        assert_true(rig.hub.now_ms - from_ms < 10ull * rig.service.reconnect.max_ms);
        rig_pass(&rig, timers_next(&rig.hub.timers) - rig.hub.now_ms);
    }
    assert_true(rig.hub.now_ms - from_ms >= 3ull * rig.service.reconnect.max_ms);
}

static void what_is_the_same_is_not_reported_again(void **state)
{
    (void)state;
    link_set_status(session, UPSTREAM_DOWN, "one");
    link_set_status(session, UPSTREAM_DOWN, "one");
    assert_int_equal(reports, 1);
    link_set_status(session, UPSTREAM_DOWN, "other");
    assert_int_equal(reports, 2);
    assert_string_equal(link_reason(session), "other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_opens_once_and_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waits_grow_up_to_the_maximum, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_a_refusal_a_client_that_comes_shortens_the_wait,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_close_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_lease_nothing_is_opened_and_nothing_more_is_said,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_backend_out_of_reach_is_reported_after_three_waits,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_the_same_is_not_reported_again, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
