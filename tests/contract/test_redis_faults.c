/* The bus when Redis restarts, hangs, loses data or refuses. Each case has its own server. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/metrics.h"
#include "proxy.h"
#include "rig_redis.h"

#define LEASE_MS 1000
#define SESSION  "s:k"

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

static const char *ask(const char *command)
{
    return redis_server_ask(&r.server, command);
}

/* Waits until the server is old enough to grant missing records. */
static void grow_up(void)
{
    redis_server_await_age(&r.server, LEASE_MS / 1000 + 1);
}

static size_t count_seen(const struct rig_peer *peer, enum seen_kind kind, int status)
{
    size_t count = 0;
    for (const struct seen *seen = peer->first; seen; seen = seen->next)
        count += seen->kind == kind && seen->status == status;
    return count;
}

static void publish(struct rig_peer *peer, uint64_t tag, uint64_t epoch, uint64_t offset,
                    const char *payload, size_t len)
{
    struct publication *publication = publication_copy(OPCODE_TEXT, payload, len);
    publication->at = (struct position){epoch, offset};
    peer->bus->ops->publish(peer->bus, SESSION, tag, epoch, &publication, 1, 1000, 60000, true);
    publication_unref(publication);
}

/* --- restarts --- */

static void a_server_that_comes_back_empty_is_filled_again_by_its_owners(void **state)
{
    (void)state;
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(b, SESSION);
    redis_server_kill(&r.server);
    rig_wait(a, SEEN_DISCONNECTED, 0);
    rig_wait(b, SEEN_DISCONNECTED, 0);
    redis_server_start(&r.server);
    rig_wait(a, SEEN_CONNECTED, 0);
    rig_wait(b, SEEN_CONNECTED, 0);
    assert_string_equal(rig_wait(b, SEEN_SUBSCRIBED, 0)->session, SESSION);

    a->bus->ops->renew(a->bus, 1);
    assert_false(rig_wait(a, SEEN_RENEWED, 1)->flag);
    a->bus->ops->assert_owner(a->bus, SESSION, 2, epoch, "u");
    assert_int_equal(rig_wait(a, SEEN_ASSERTED, 2)->status, STATUS_OK);
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 0, true), STATUS_OK);
    assert_int_equal(rig_wait(b, SEEN_PUSH, ENVELOPE_PUSH)->len, 1);
}

static bool claim_is_decided(void *ctx)
{
    struct rig_peer *peer = ctx;
    static uint64_t tag = 500;
    peer->bus->ops->claim(peer->bus, SESSION, ++tag, &(struct bus_claim){.upstream = "u"});
    return rig_wait(peer, SEEN_CLAIMED, tag)->status == STATUS_OK;
}

static void a_young_server_grants_a_missing_record_to_its_holder_only(void **state)
{
    (void)state;
    r.conf.node.lease_ms = 4000;
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    a->bus->ops->claim(a->bus, SESSION, 1, &(struct bus_claim){.upstream = "u"});
    assert_int_equal(rig_wait(a, SEEN_CLAIMED, 1)->status, STATUS_AGAIN);
    b->bus->ops->claim(b->bus, SESSION, 2,
                       &(struct bus_claim){.holds = true, .seen_epoch = 7, .upstream = "u"});
    const struct seen *seen = rig_wait(b, SEEN_CLAIMED, 2);
    assert_int_equal(seen->status, STATUS_OK);
    uint64_t epoch = seen->epoch;
    a->bus->ops->claim(a->bus, SESSION, 3, &(struct bus_claim){.upstream = "u"});
    seen = rig_wait(a, SEEN_CLAIMED, 3);
    assert_int_equal(seen->status, STATUS_REFUSED);
    assert_string_equal(seen->text, "b");

    /* A record that exists, even if released, is granted at any age. */
    b->bus->ops->release(b->bus, SESSION, 4, epoch, 60000);
    rig_wait(b, SEEN_RELEASED, 4);
    peer_claim(a, SESSION);
    ask("FLUSHALL");
    assert_false(claim_is_decided(a));
    rig_until(&r.rig, claim_is_decided, a);
}

/* --- connections that end or hang --- */

static void what_was_under_way_is_answered_before_the_disconnection_is_told(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    rig_settle(a);
    ask("CLIENT PAUSE 60000 ALL");
    rig_forget_events(a);
    for (uint64_t tag = 1; tag <= 50; tag++)
        a->bus->ops->renew(a->bus, tag);
    uint64_t start_ms = clock_boot_ms(), held_ms = rig_held_up_ms();
    rig_wait(a, SEEN_DISCONNECTED, 0);
    uint64_t waited_ms = clock_boot_ms() - start_ms;
    assert_true(waited_ms >= LEASE_MS / 4);
    assert_true(waited_ms - (rig_held_up_ms() - held_ms) <= 3 * LEASE_MS);
    uint64_t tag = 1;
    for (const struct seen *seen = a->first; seen->kind != SEEN_DISCONNECTED; seen = seen->next) {
        assert_int_equal(seen->kind, SEEN_RENEWED);
        assert_int_equal(seen->status, STATUS_IO);
        assert_int_equal(seen->tag, tag++);
    }
    assert_int_equal(tag, 51);
    assert_int_equal(count_seen(a, SEEN_DISCONNECTED, 0), 1);

    a->bus->ops->renew(a->bus, 100);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 100)->status, STATUS_IO);
}

static void a_server_that_slept_is_used_again(void **state)
{
    (void)state;
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a");
    peer_subscribe(a, SESSION);
    kill(r.server.pid, SIGSTOP);
    rig_wait(a, SEEN_DISCONNECTED, 0);
    kill(r.server.pid, SIGCONT);
    rig_wait(a, SEEN_CONNECTED, 0);
    uint64_t epoch = peer_claim(a, SESSION);
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 0, true), STATUS_OK);
    rig_wait(a, SEEN_PUSH, ENVELOPE_PUSH);
}

static void a_server_that_is_late_but_answers_keeps_its_connection(void **state)
{
    (void)state;
    grow_up();
    struct proxy proxy;
    proxy_start(&proxy, r.server.port);
    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%u", proxy.port);
    struct rig_peer *a = rig_peer(&r.rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    proxy_crawl(&proxy, 20);
    uint64_t start_ms = clock_boot_ms();
    for (uint64_t tag = 1; tag <= 200; tag++) /* each is a call of its own */
        a->bus->ops->assert_owner(a->bus, SESSION, tag, epoch, "ws://backend/path");
    for (uint64_t tag = 1; tag <= 200; tag++)
        assert_int_equal(rig_wait(a, SEEN_ASSERTED, tag)->status, STATUS_OK);
    assert_true(clock_boot_ms() - start_ms > LEASE_MS); /* the deadline is half of it */
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
    rig_clear(&r.rig);
    proxy_stop(&proxy);
}

static void a_killed_command_connection_comes_back(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    for (unsigned round = 0; round < 3; round++) {
        ask("CLIENT KILL TYPE normal");
        rig_wait(a, SEEN_DISCONNECTED, 0);
        rig_wait(a, SEEN_CONNECTED, 0);
    }
    rig_settle(a);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
}

static void a_killed_subscription_connection_comes_back_without_a_disconnection(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    peer_subscribe(a, SESSION);
    peer_subscribe(a, "s:gone");
    a->bus->ops->unsubscribe(a->bus, "s:gone");
    rig_settle(a);
    ask("CLIENT KILL TYPE pubsub");
    assert_string_equal(rig_wait(a, SEEN_SUBSCRIBED, 0)->session, SESSION);
    rig_settle(a);
    assert_null(rig_find(a, SEEN_SUBSCRIBED, 0));
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
    assert_string_equal(ask("PUBSUB NUMSUB test:push:{s:gone}"), "test:push:{s:gone}\n0\n");
}

struct subscribers_wait {
    const struct proxy *proxy;
    unsigned wanted;
};

static bool has_subscribers(void *ctx)
{
    const struct subscribers_wait *wait = ctx;
    return proxy_subscribers(wait->proxy) >= wait->wanted;
}

static void a_silent_subscription_connection_is_replaced(void **state)
{
    (void)state;
    struct proxy proxy;
    proxy_start(&proxy, r.server.port);
    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%u", proxy.port);
    struct rig_peer *a = rig_peer(&r.rig, "a");
    peer_subscribe(a, SESSION);
    uint64_t heard_ms = a->bus->ops->heard_ms(a->bus);
    proxy_deafen(&proxy);
    rig_until(&r.rig, has_subscribers, &(struct subscribers_wait){&proxy, 2});
    assert_string_equal(rig_wait(a, SEEN_SUBSCRIBED, 0)->session, SESSION);
    rig_settle(a);
    assert_true(a->bus->ops->heard_ms(a->bus) > heard_ms);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
    rig_clear(&r.rig);
    proxy_stop(&proxy);
}

/* No probe was sent meanwhile, so none that came back is younger than a lease. */
static void a_node_that_stood_still_keeps_its_connections(void **state)
{
    (void)state;
    struct proxy proxy;
    proxy_start(&proxy, r.server.port);
    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%u", proxy.port);
    struct rig_peer *a = rig_peer(&r.rig, "a");
    rig_settle(a);
    unsigned subscribers = proxy_subscribers(&proxy);
    nanosleep(&(struct timespec){.tv_sec = 2 * LEASE_MS / 1000}, NULL);
    redis_rig_pass(&r, LEASE_MS / 2 + LEASE_MS);
    rig_settle(a);
    assert_int_equal(proxy_subscribers(&proxy), subscribers);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
    rig_clear(&r.rig);
    proxy_stop(&proxy);
}

static void a_probe_of_an_earlier_life_does_not_count(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    struct rig_peer *b = rig_peer(&r.rig, "b");
    uint64_t far_ms = clock_boot_ms() + 1000000;
    b->bus->ops->send(b->bus, "a",
                      &(struct envelope){.type = ENVELOPE_PROBE, .life = 77777, .number = far_ms},
                      1);
    rig_wait(b, SEEN_TOLD, 1);
    rig_settle(a);
    assert_true(a->bus->ops->heard_ms(a->bus) < far_ms);
}

/* --- scripts --- */

static void lost_scripts_are_loaded_again_and_nothing_changes_its_order(void **state)
{
    (void)state;
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(a, SESSION);
    ask("SCRIPT FLUSH");
    for (uint64_t offset = 1; offset <= 200; offset++) {
        publish(a, offset, epoch, offset, "x", 1);
        if (offset % 20 == 0)
            r.rig.kind->turn(&r.rig, 1);
    }
    for (uint64_t tag = 1; tag <= 200; tag++)
        assert_int_equal(rig_wait(a, SEEN_PUBLISHED, tag)->status, STATUS_OK);
    for (uint64_t offset = 1; offset <= 200; offset++)
        assert_true(rig_wait(a, SEEN_PUSH, ENVELOPE_PUSH)->items[0].number == offset);
    a->bus->ops->history(a->bus, SESSION, 999, (struct position){0, 0}, 1000);
    assert_int_equal(rig_wait(a, SEEN_HISTORY, 999)->len, 200);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
}

static void a_key_of_another_type_harms_its_session_only(void **state)
{
    (void)state;
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a");
    ask("SET test:session:{s:broken} x");
    a->bus->ops->claim(a->bus, "s:broken", 1, &(struct bus_claim){.upstream = "u"});
    assert_int_equal(rig_wait(a, SEEN_CLAIMED, 1)->status, STATUS_IO);
    peer_claim(a, SESSION);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
}

/* Such a record was written by hand or by an attacker. The session works again, with an epoch that
 * can grow. */
static void an_epoch_that_no_node_can_have_written_counts_for_nothing(void **state)
{
    (void)state;
    static const char *const wrong[] = {"junk", "-5", "1e300", "18446744073709551616",
                                        "4503599627370497"};
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char command[120], key[16];
        snprintf(key, sizeof(key), "s:%u", i);
        snprintf(command, sizeof(command), "HSET test:session:{%s} owner x epoch %s", key,
                 wrong[i]);
        assert_string_equal(ask(command), "2");
        uint64_t epoch = peer_claim(a, key);
        assert_true(epoch > 0 && epoch <= clock_unix_ms());
        snprintf(command, sizeof(command), "HSET test:session:{%s} epoch %s", key, wrong[i]);
        assert_string_equal(ask(command), "0");
        a->bus->ops->assert_owner(a->bus, key, 100 + i, epoch, "u");
        assert_int_equal(rig_wait(a, SEEN_ASSERTED, 100 + i)->status, STATUS_OK);
        b->bus->ops->claim(b->bus, key, 200 + i, &(struct bus_claim){.upstream = "u"});
        const struct seen *seen = rig_wait(b, SEEN_CLAIMED, 200 + i);
        assert_int_equal(seen->status, STATUS_REFUSED);
        assert_true(seen->epoch == epoch);
    }
}

static void what_can_not_be_read_is_counted_and_dropped(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    peer_subscribe(a, SESSION);
    uint64_t before = metric_drops(DROP_BUS_UNREADABLE);
    ask("PUBLISH test:inbox:a garbage");
    ask("PUBLISH test:push:{" SESSION "} garbage");
    rig_settle(a);
    a->bus->ops->broadcast(
        a->bus, SESSION, &(struct envelope){.type = ENVELOPE_CLOSE, .session = slice_of(SESSION)});
    rig_wait(a, SEEN_PUSH, ENVELOPE_CLOSE);
    assert_int_equal(metric_drops(DROP_BUS_UNREADABLE), before + 2);
}

/* --- memory --- */

static void over_maxmemory_ownership_works_and_pushes_go_on_without_history(void **state)
{
    (void)state;
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(b, SESSION);
    ask("CONFIG SET maxmemory 100kb");
    assert_non_null(strstr(ask("SET probe x"), "OOM"));

    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 10, true), STATUS_NO_MEMORY);
    assert_true(rig_wait(b, SEEN_PUSH, ENVELOPE_PUSH)->items[0].number == 1);
    assert_string_equal(ask("EXISTS test:history:{" SESSION "}"), "0");
    assert_int_equal(peer_publish(a, SESSION, epoch, 2, "x", 0, true), STATUS_OK);
    assert_int_equal(peer_publish(b, SESSION, epoch, 2, "x", 10, true), STATUS_REFUSED);

    a->bus->ops->renew(a->bus, 1);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 1)->status, STATUS_OK);
    peer_claim(b, "s:new");
    a->bus->ops->transfer(a->bus, SESSION, 2, epoch, "b");
    const struct seen *seen = rig_wait(a, SEEN_TRANSFERRED, 2);
    assert_int_equal(seen->status, STATUS_OK);
    b->bus->ops->release(b->bus, SESSION, 3, seen->epoch, 60000);
    assert_int_equal(rig_wait(b, SEEN_RELEASED, 3)->status, STATUS_OK);
    b->bus->ops->assert_owner(b->bus, "s:lost", 4, 5, "u");
    assert_int_equal(rig_wait(b, SEEN_ASSERTED, 4)->status, STATUS_OK);
    b->bus->ops->record_session(b->bus, "s:lost", 5,
                                &(struct bus_session_record){.state = "connected"});
    rig_settle(b);
    assert_string_equal(ask("HGET test:session:{s:lost} state"), "connected");
}

static uint64_t assert_owned(struct rig_peer *peer)
{
    uint64_t epoch = peer->bus->ops->heard_ms(peer->bus);
    peer->bus->ops->assert_owner(peer->bus, SESSION, 1, epoch, "u");
    rig_wait(peer, SEEN_ASSERTED, 1);
    return epoch;
}

/* Redis hangs for a while, and the buffer fills: calls that were accepted are sent over the same
 * connection; the owner publishes the refused ones again later. */
static void what_waits_for_an_answer_is_bounded_and_not_in_vain(void **state)
{
    (void)state;
    static char large[1 << 20];
    memset(large, 'x', sizeof(large));
    grow_up();
    r.conf.node.lease_ms = 60000; /* much longer than all of this takes */
    struct rig_peer *a = rig_peer(&r.rig, "a");
    uint64_t epoch = assert_owned(a), reconnects = metric_get(METRIC_BUS_RECONNECTS);
    kill(r.server.pid, SIGSTOP);
    for (uint64_t tag = 1; tag <= 80; tag++)
        publish(a, tag, epoch, tag, large, sizeof(large));
    assert_int_equal(bus_credit(a->bus, SESSION), 0);
    a->bus->ops->renew(a->bus, 900);
    kill(r.server.pid, SIGCONT);
    rig_wait(a, SEEN_DISCONNECTED, 0);
    rig_wait(a, SEEN_CONNECTED, 0);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 900)->status, STATUS_OK);
    uint64_t taken = count_seen(a, SEEN_PUBLISHED, STATUS_OK);
    assert_in_range(taken, 60, 63); /* each carries its payload once */
    for (uint64_t tag = 1; tag <= 80; tag++)
        assert_int_equal(rig_wait(a, SEEN_PUBLISHED, tag)->status,
                         tag <= taken ? STATUS_OK : STATUS_IO);
    assert_true(bus_credit(a->bus, SESSION) > BUS_CREDIT_BYTES / 2);
    for (uint64_t tag = taken + 1; tag <= 80; tag++) {
        publish(a, 1000 + tag, epoch, tag, large, sizeof(large));
        assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 1000 + tag)->status, STATUS_OK);
    }
    assert_string_equal(ask("XLEN test:history:{" SESSION "}"), "80");
    assert_int_equal(metric_get(METRIC_BUS_RECONNECTS), reconnects);
}

/* Redis hangs past the deadline: the connection is ended, as without a full buffer. */
static void too_much_for_a_server_that_hangs_is_answered(void **state)
{
    (void)state;
    static char large[1 << 20];
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a");
    uint64_t epoch = assert_owned(a);
    ask("CLIENT PAUSE 60000 ALL");
    for (uint64_t tag = 1; tag <= 80; tag++)
        publish(a, tag, epoch, tag, large, sizeof(large));
    rig_wait(a, SEEN_DISCONNECTED, 0);
    assert_int_equal(count_seen(a, SEEN_PUBLISHED, STATUS_IO), 80);
}

/* --- replicas --- */

static bool renewal_counts(void *ctx)
{
    struct rig_peer *peer = ctx;
    static uint64_t tag = 700;
    peer->bus->ops->renew(peer->bus, ++tag);
    return rig_wait(peer, SEEN_RENEWED, tag)->status == STATUS_OK;
}

static void start_replica(struct redis_server *replica)
{
    static char port[8];
    ask("CONFIG SET repl-diskless-sync-delay 0");
    snprintf(port, sizeof(port), "%u", r.server.port);
    replica->extra[0] = "--replicaof";
    replica->extra[1] = "127.0.0.1";
    replica->extra[2] = port;
    redis_server_start(replica);
}

static void without_the_replicas_asked_for_nothing_counts(void **state)
{
    (void)state;
    grow_up();
    r.conf.redis.replicas = 1;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    a->bus->ops->renew(a->bus, 1);
    a->bus->ops->claim(a->bus, SESSION, 2, &(struct bus_claim){.upstream = "u"});
    a->bus->ops->history(a->bus, SESSION, 3, (struct position){0, 0}, 1);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 1)->status, STATUS_IO);
    assert_int_equal(rig_wait(a, SEEN_CLAIMED, 2)->status, STATUS_IO);
    assert_int_equal(rig_wait(a, SEEN_HISTORY, 3)->status, STATUS_OK);

    struct redis_server replica = {.port = 0};
    start_replica(&replica);
    rig_until(&r.rig, renewal_counts, a);
    rig_until(&r.rig, claim_is_decided, a);
    redis_server_discard(&replica);
}

/* Whether the first answer came before the second. */
static bool came_before(const struct rig_peer *peer, enum seen_kind kind, uint64_t tag,
                        const struct seen *other)
{
    const struct seen *seen = peer->first;
    while (seen != other && (seen->kind != kind || seen->tag != tag))
        seen = seen->next;
    return seen != other;
}

/* Only renewals and claims wait for replicas. Later calls on the claimed session wait for the
 * claim. */
static void a_replica_that_stands_still_does_not_hold_up_pushes(void **state)
{
    (void)state;
    r.conf.redis.replicas = 1;
    r.conf.node.lease_ms = 4000;
    redis_server_await_age(&r.server, 5);
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    struct redis_server replica = {.port = 0};
    start_replica(&replica);
    rig_until(&r.rig, renewal_counts, a);
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(b, SESSION);
    assert_int_equal(kill(replica.pid, SIGSTOP), 0);

    const struct bus_claim claim = {.upstream = "u"};
    publish(a, 1, epoch, 1, "x", 1);
    a->bus->ops->claim(a->bus, "s:new", 2, &claim);
    a->bus->ops->release(a->bus, "s:new", 3, 1, 1000);
    a->bus->ops->renew(a->bus, 4);
    for (uint64_t tag = 5; tag < 20; tag++)
        publish(a, tag, epoch, tag - 3, "x", 1);
    const struct seen *claimed = rig_wait(a, SEEN_CLAIMED, 2);
    assert_int_equal(claimed->status, STATUS_IO);
    for (uint64_t tag = 5; tag < 20; tag++)
        assert_true(came_before(a, SEEN_PUBLISHED, tag, claimed));
    assert_false(came_before(a, SEEN_RELEASED, 3, claimed));
    assert_int_equal(rig_wait(a, SEEN_RELEASED, 3)->status, STATUS_REFUSED);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 4)->status, STATUS_IO);
    assert_true(count_seen(b, SEEN_PUSH, 0) >= 16);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));

    assert_int_equal(kill(replica.pid, SIGCONT), 0);
    rig_until(&r.rig, renewal_counts, a);
    peer_claim(a, "s:newer");
    redis_server_discard(&replica);
}

/* Claims use another connection. Calls before a claim still reach the store before it, and later
 * calls after it. */
static void claims_keep_their_place_among_calls_on_their_session(void **state)
{
    (void)state;
    /* A replica has a quarter of the lease to confirm each of the claims. */
    r.conf.node.lease_ms = 4 * LEASE_MS;
    redis_server_await_age(&r.server, 4 * LEASE_MS / 1000 + 1);
    r.conf.redis.replicas = 1;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    struct redis_server replica = {.port = 0};
    start_replica(&replica);
    rig_until(&r.rig, renewal_counts, a);
    uint64_t epoch = peer_claim(a, SESSION);
    const struct bus_claim claim = {.upstream = "u", .seen_epoch = epoch};
    for (uint64_t tag = 10; tag < 200; tag += 10) {
        publish(a, tag, epoch, tag, "x", 1);
        a->bus->ops->claim(a->bus, SESSION, tag + 1, &claim);
        publish(a, tag + 2, epoch, tag + 1, "x", 1);
        a->bus->ops->claim(a->bus, SESSION, tag + 3, &claim);
        assert_int_equal(rig_wait(a, SEEN_PUBLISHED, tag)->status, STATUS_OK);
        assert_int_equal(rig_wait(a, SEEN_CLAIMED, tag + 1)->status, STATUS_OK);
        assert_int_equal(rig_wait(a, SEEN_PUBLISHED, tag + 2)->status, STATUS_REFUSED);
        const struct seen *seen = rig_wait(a, SEEN_CLAIMED, tag + 3);
        assert_int_equal(seen->status, STATUS_OK);
        epoch = seen->epoch;
    }
    redis_server_discard(&replica);
}

/* --- many --- */

static bool all_subscribed(void *ctx)
{
    return count_seen(ctx, SEEN_SUBSCRIBED, 0) == 100000;
}

static void a_hundred_thousand_channels_are_subscribed_again_after_a_cut(void **state)
{
    (void)state;
    r.conf.node.lease_ms = 5000;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    for (unsigned i = 0; i < 100000; i++) {
        char session[32];
        snprintf(session, sizeof(session), "s:%u", i);
        a->bus->ops->subscribe(a->bus, session);
    }
    rig_until(&r.rig, all_subscribed, a);
    rig_forget_events(a);
    ask("CLIENT KILL TYPE pubsub");
    rig_until(&r.rig, all_subscribed, a);
    assert_string_equal(ask("PUBSUB NUMSUB test:push:{s:99999}"), "test:push:{s:99999}\n1\n");
}

/* --- keys people look at --- */

static void keys_have_the_types_and_times_to_live_of_the_contract(void **state)
{
    (void)state;
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a");
    a->bus->ops->renew(a->bus, 1);
    a->bus->ops->record_node(
        a->bus, &(struct bus_node_record){.host = "h", .lease_ms = LEASE_MS, .state = "up"});
    uint64_t epoch = peer_claim(a, SESSION);
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 5, true), STATUS_OK);
    rig_settle(a);
    assert_string_equal(ask("TYPE test:nodes"), "zset");
    assert_string_equal(ask("TYPE test:node:a"), "hash");
    assert_string_equal(ask("TYPE test:sessions"), "zset");
    assert_string_equal(ask("TYPE test:session:{" SESSION "}"), "hash");
    assert_string_equal(ask("TYPE test:history:{" SESSION "}"), "stream");
    assert_in_range(strtoul(ask("PTTL test:node:a"), NULL, 10), 1, LEASE_MS);
    assert_in_range(strtoul(ask("PTTL test:session:{" SESSION "}"), NULL, 10), 29 * 60000,
                    30 * 60000);
    assert_in_range(strtoul(ask("PTTL test:history:{" SESSION "}"), NULL, 10), 1, 60000);
    assert_string_equal(ask("HMGET test:session:{" SESSION "} owner state reason upstream clients"),
                        "a\nconnecting\n\nws://backend/\n0\n");
    char id[64];
    snprintf(id, sizeof(id), "%llu-1\n", (unsigned long long)epoch);
    assert_non_null(strstr(ask("XRANGE test:history:{" SESSION "} - +"), id));
}

/* Its record is gone, and the clock of Redis was set back since. */
static void an_epoch_is_above_those_of_the_history(void **state)
{
    (void)state;
    grow_up();
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    peer_subscribe(b, SESSION);
    ask("XADD test:history:{" SESSION "} 3000000000000-7 o 1 t 1 d x");
    uint64_t epoch = peer_claim(a, SESSION);
    assert_int_equal(epoch, UINT64_C(3000000000001));
    rig_settle(b);
    rig_forget_events(b);
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 5, true), STATUS_OK);
    assert_int_equal(rig_wait(b, SEEN_PUSH, ENVELOPE_PUSH)->items[0].number, 1);
    assert_string_equal(ask("XLEN test:history:{" SESSION "}"), "2");
    ask("SET test:history:{other} x");
    assert_true(peer_claim(a, "other") > 0);
}

static bool b_is_forgotten(void *ctx)
{
    struct rig_peer *a = ctx;
    static uint64_t tag = 100;
    a->bus->ops->renew(a->bus, ++tag);
    const struct seen *seen = rig_wait(a, SEEN_RENEWED, tag);
    return seen->status == STATUS_OK && !seen_item(seen, "b");
}

static void a_silent_node_is_removed_after_ten_leases(void **state)
{
    (void)state;
    r.conf.node.lease_ms = 100;
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    b->bus->ops->renew(b->bus, 1);
    rig_wait(b, SEEN_RENEWED, 1);
    uint64_t start_ms = clock_boot_ms();
    assert_false(b_is_forgotten(a));
    rig_until(&r.rig, b_is_forgotten, a);
    assert_true(clock_boot_ms() - start_ms >= 1000);
}

int main(void)
{
#define FAULT(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        FAULT(a_server_that_comes_back_empty_is_filled_again_by_its_owners),
        FAULT(a_young_server_grants_a_missing_record_to_its_holder_only),
        FAULT(what_was_under_way_is_answered_before_the_disconnection_is_told),
        FAULT(a_server_that_slept_is_used_again),
        FAULT(a_server_that_is_late_but_answers_keeps_its_connection),
        FAULT(a_killed_command_connection_comes_back),
        FAULT(a_killed_subscription_connection_comes_back_without_a_disconnection),
        FAULT(a_silent_subscription_connection_is_replaced),
        FAULT(a_probe_of_an_earlier_life_does_not_count),
        FAULT(a_node_that_stood_still_keeps_its_connections),
        FAULT(lost_scripts_are_loaded_again_and_nothing_changes_its_order),
        FAULT(a_key_of_another_type_harms_its_session_only),
        FAULT(an_epoch_that_no_node_can_have_written_counts_for_nothing),
        FAULT(what_can_not_be_read_is_counted_and_dropped),
        FAULT(over_maxmemory_ownership_works_and_pushes_go_on_without_history),
        FAULT(what_waits_for_an_answer_is_bounded_and_not_in_vain),
        FAULT(too_much_for_a_server_that_hangs_is_answered),
        FAULT(without_the_replicas_asked_for_nothing_counts),
        FAULT(a_replica_that_stands_still_does_not_hold_up_pushes),
        FAULT(claims_keep_their_place_among_calls_on_their_session),
        FAULT(a_hundred_thousand_channels_are_subscribed_again_after_a_cut),
        FAULT(keys_have_the_types_and_times_to_live_of_the_contract),
        FAULT(an_epoch_is_above_those_of_the_history),
        FAULT(a_silent_node_is_removed_after_ten_leases),
    };
    return cmocka_run_group_tests_name("bus_redis_faults", tests, NULL, NULL);
}
