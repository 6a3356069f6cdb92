/* The bus's promises on three primaries of a Redis Cluster, and while slots move and primaries die.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "contract_cases.h"
#include "redis_cluster_servers.h"
#include "rig_redis.h"

#define LEASE_MS 2000

static struct redis_rig r;
static struct cluster_servers cluster;

static void flush(const struct cluster_process *server)
{
    redis_server_ask(&server->server, "FLUSHALL");
}

static int before(void **state)
{
    (void)state;
    for (size_t i = 0; i < PRIMARIES; i++)
        flush(&cluster.primaries[i]);
    return 0;
}

static int after(void **state)
{
    (void)state;
    return 0;
}

static void start(bool replicated)
{
    cluster = (struct cluster_servers){0};
    cluster_servers_start(&cluster, replicated);
    r = (struct redis_rig){0};
    redis_rig_start_elsewhere(&r, LEASE_MS);
    snprintf(r.url, sizeof(r.url), "redis-cluster://127.0.0.1:1,127.0.0.1:%u",
             cluster.primaries[0].server.port);
    for (size_t i = 0; i < PRIMARIES; i++)
        redis_server_await_age(&cluster.primaries[i].server, LEASE_MS / 1000 + 1);
}

static void stop(void)
{
    redis_rig_stop(&r);
    cluster_servers_stop(&cluster);
}

static int set_up(void **state)
{
    (void)state;
    start(true);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    stop();
    return 0;
}

static unsigned slot_of(const char *session)
{
    char command[128];
    snprintf(command, sizeof(command), "CLUSTER KEYSLOT test:session:{%s}", session);
    return (unsigned)strtoul(redis_server_ask(&cluster.primaries[0].server, command), NULL, 10);
}

/* A session whose slot is on that primary, "s:N". */
static void session_on(size_t primary, char out[16])
{
    for (unsigned n = 0; n < 100; n++) {
        snprintf(out, 16, "s:%u", n);
        if (cluster_servers_of_slot(slot_of(out)) == primary)
            return;
    }
    fail_msg("no session on primary %zu", primary);
}

struct pushed_stream {
    struct rig_peer *peer;
    const char *session;
    uint64_t epoch, offset;
};

static void publish_some(struct pushed_stream *stream, unsigned count)
{
    while (count-- > 0) {
        struct publication *publication = publication_copy(OPCODE_TEXT, "x", 1);
        publication->at = (struct position){stream->epoch, ++stream->offset};
        stream->peer->bus->ops->publish(stream->peer->bus, stream->session, stream->offset,
                                        stream->epoch, &publication, 1, 10000, 60000, true);
        publication_unref(publication);
    }
    r.rig.kind->turn(&r.rig, 1);
}

static void assert_all_published(struct pushed_stream *stream)
{
    for (uint64_t tag = 1; tag <= stream->offset; tag++)
        assert_int_equal(rig_wait(stream->peer, SEEN_PUBLISHED, tag)->status, STATUS_OK);
    stream->peer->bus->ops->history(stream->peer->bus, stream->session, 9999,
                                    (struct position){0, 0}, 10000);
    assert_int_equal(rig_wait(stream->peer, SEEN_HISTORY, 9999)->len, stream->offset);
}

/* All arrived in order. Messages sent while the subscription moved may be missing; its return was
 * reported. */
static void assert_heard_in_order(struct rig_peer *peer, uint64_t last)
{
    uint64_t offset = 0;
    while (offset < last) {
        const struct seen *seen = rig_wait(peer, SEEN_PUSH, ENVELOPE_PUSH);
        assert_true(seen->items[0].number > offset);
        offset = seen->items[0].number;
    }
}

static void a_slot_moves_while_its_session_publishes(void **state)
{
    (void)state;
    char session[16];
    session_on(1, session);
    unsigned slot = slot_of(session);
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    peer_subscribe(b, session);
    struct pushed_stream stream = {a, session, peer_claim(a, session), 0};
    for (unsigned i = 0; i < 10; i++)
        publish_some(&stream, 10);
    cluster_servers_begin_move(&cluster, slot, 1, 2);
    for (unsigned i = 0; i < 10; i++)
        publish_some(&stream, 10);
    /* After the first key has moved, the server refuses calls that need both. */
    while (cluster_servers_move_key(&cluster, slot, 1, 2)) {
        for (unsigned i = 0; i < 10; i++)
            publish_some(&stream, 10);
    }
    cluster_servers_end_move(&cluster, slot, 1, 2);
    for (unsigned i = 0; i < 10; i++)
        publish_some(&stream, 10);
    assert_all_published(&stream);
    assert_string_equal(rig_wait(b, SEEN_SUBSCRIBED, 0)->session, session);
    publish_some(&stream, 1);
    assert_heard_in_order(b, stream.offset);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
}

struct promoted {
    struct rig_peer *peer;
    const char *session;
    uint64_t tag, epoch;
};

static bool assertion_holds(void *ctx)
{
    struct promoted *p = ctx;
    p->peer->bus->ops->assert_owner(p->peer->bus, p->session, ++p->tag, p->epoch, "u");
    return rig_wait(p->peer, SEEN_ASSERTED, p->tag)->status == STATUS_OK;
}

/* While the cluster votes, a publish on another primary may be answered with "not known", too. On a
 * busy machine that primary may be voted out as well, and its replica may lack the record: then the
 * owner asserts it, as the core would. */
static bool publication_holds(void *ctx)
{
    struct promoted *p = ctx;
    if (peer_publish(p->peer, p->session, p->epoch, 1, "x", 10, true) == STATUS_OK)
        return true;
    assertion_holds(p);
    return false;
}

struct listened {
    struct promoted owner;
    uint64_t offset;
    struct rig_peer *listener;
};

/* A subscription may move more than once until all servers agree; messages published meanwhile may
 * be missing (bus.h). */
static bool next_is_heard(void *ctx)
{
    struct listened *listened = ctx;
    struct promoted *owner = &listened->owner;
    if (peer_publish(owner->peer, owner->session, owner->epoch, ++listened->offset, "x", 10,
                     true) != STATUS_OK) {
        assertion_holds(owner);
        return false;
    }
    const struct seen *seen = rig_find(listened->listener, SEEN_PUSH, ENVELOPE_PUSH);
    assert_true(!seen || seen->items[0].number > 1);
    return seen != NULL;
}

static void fail_over(size_t dead, bool home)
{
    char session[16], other[16];
    session_on(dead, session);
    session_on((dead + 1) % PRIMARIES, other);
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    peer_subscribe(b, session);
    uint64_t epoch = peer_claim(a, session), other_epoch = peer_claim(a, other);
    assert_int_equal(peer_publish(a, session, epoch, 1, "x", 10, true), STATUS_OK);
    rig_wait(b, SEEN_PUSH, ENVELOPE_PUSH);

    redis_server_kill(&cluster.primaries[dead].server);
    rig_wait(a, SEEN_DISCONNECTED, 0);
    rig_wait(a, SEEN_CONNECTED, 0);
    rig_until(&r.rig, assertion_holds, &(struct promoted){a, session, 100, epoch});
    if (!home)
        rig_until(&r.rig, publication_holds, &(struct promoted){a, other, 200, other_epoch});
    assert_string_equal(rig_wait(b, SEEN_SUBSCRIBED, 0)->session, session);
    rig_until(&r.rig, next_is_heard, &(struct listened){{a, session, 300, epoch}, 1, b});
    rig_settle(a);
}

static size_t home_primary(void)
{
    const char *slot = redis_server_ask(&cluster.primaries[0].server, "CLUSTER KEYSLOT test:nodes");
    return cluster_servers_of_slot((unsigned)strtoul(slot, NULL, 10));
}

static void a_primary_dies_and_its_replica_takes_its_sessions(void **state)
{
    (void)state;
    fail_over((home_primary() + 1) % PRIMARIES, false);
}

static void the_primary_with_the_nodes_dies(void **state)
{
    (void)state;
    fail_over(home_primary(), true);
}

/* --- a server that hangs --- */

static size_t primary_of_key(const char *kind, const char *id)
{
    char command[96];
    snprintf(command, sizeof(command), "CLUSTER KEYSLOT test:%s%s", kind, id);
    const char *slot = redis_server_ask(&cluster.primaries[0].server, command);
    return cluster_servers_of_slot((unsigned)strtoul(slot, NULL, 10));
}

/* A peer whose inbox is not on that primary. */
static struct rig_peer *peer_elsewhere(size_t primary)
{
    char id[8] = "a";
    for (unsigned n = 0; primary_of_key("inbox:", id) == primary; n++)
        snprintf(id, sizeof(id), "a%u", n);
    return rig_peer(&r.rig, id);
}

static void assert_answered_before(struct rig_peer *peer, enum seen_kind kind, uint64_t tag,
                                   const struct seen *later)
{
    const struct seen *seen = peer->first;
    while (seen != later && (seen->kind != kind || seen->tag != tag))
        seen = seen->next;
    assert_true(seen != later);
    assert_int_equal(seen->status, STATUS_OK);
}

static void publish_one(struct rig_peer *peer, const char *session, uint64_t epoch, uint64_t tag)
{
    struct publication *publication = publication_copy(OPCODE_TEXT, "x", 1);
    publication->at = (struct position){epoch, tag};
    peer->bus->ops->publish(peer->bus, session, tag, epoch, &publication, 1, 100, 60000, true);
    publication_unref(publication);
}

/* When it has hung for long enough, its replica takes over, and the map changes. */
struct standstill {
    struct rig_peer *peer;
    const char *other;
    struct promoted stalled;
    uint64_t epoch, offset, renewals;
};

static bool stalled_session_goes_on(void *ctx)
{
    struct standstill *s = ctx;
    const struct bus_ops *ops = s->peer->bus->ops;
    uint64_t began_ms = clock_boot_ms();
    ops->assert_owner(s->peer->bus, s->stalled.session, ++s->stalled.tag, s->stalled.epoch, "u");
    publish_one(s->peer, s->other, s->epoch, ++s->offset);
    ops->renew(s->peer->bus, ++s->renewals);
    assert_int_equal(rig_wait(s->peer, SEEN_PUBLISHED, s->offset)->status, STATUS_OK);
    assert_int_equal(rig_wait(s->peer, SEEN_RENEWED, s->renewals)->status, STATUS_OK);
    assert_true(clock_boot_ms() - began_ms < LEASE_MS);
    return rig_wait(s->peer, SEEN_ASSERTED, s->stalled.tag)->status == STATUS_OK;
}

static void a_primary_that_stands_still_holds_up_its_own_sessions_only(void **state)
{
    (void)state;
    size_t still = (home_primary() + 1) % PRIMARIES;
    char session[16], other[16];
    session_on(still, session);
    session_on(home_primary(), other);
    struct rig_peer *a = peer_elsewhere(still);
    uint64_t epoch = peer_claim(a, session), other_epoch = peer_claim(a, other);
    for (size_t i = 0; i < PRIMARIES; i++) /* the others serve on while one is missing */
        redis_server_ask(&cluster.primaries[i].server,
                         "CONFIG SET cluster-require-full-coverage no");
    assert_int_equal(kill(cluster.primaries[still].server.pid, SIGSTOP), 0);

    publish_one(a, session, epoch, 1);
    a->bus->ops->history(a->bus, session, 2, (struct position){0, 0}, 10);
    publish_one(a, other, other_epoch, 3);
    a->bus->ops->history(a->bus, other, 4, (struct position){0, 0}, 10);
    a->bus->ops->renew(a->bus, 5);
    a->bus->ops->send(a->bus, a->id, &(struct envelope){.type = ENVELOPE_HELLO}, 6);
    const struct seen *stalled = rig_wait(a, SEEN_HISTORY, 2);
    assert_answered_before(a, SEEN_PUBLISHED, 3, stalled);
    assert_answered_before(a, SEEN_HISTORY, 4, stalled);
    assert_answered_before(a, SEEN_RENEWED, 5, stalled);
    assert_answered_before(a, SEEN_TOLD, 6, stalled);
    assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 1)->status, STATUS_IO); /* answered in order */
    assert_int_equal(stalled->status, STATUS_IO);

    struct standstill standstill = {a, other, {a, session, 100, epoch}, other_epoch, 10, 1000};
    rig_until(&r.rig, stalled_session_goes_on, &standstill);
    assert_true(clock_boot_ms() - a->bus->ops->heard_ms(a->bus) < LEASE_MS);
}

int main(void)
{
    start(false);
    r.patient = true;
    int failed = cases_run("bus_redis_cluster", &r.rig, before, after);
    stop();
#define CLUSTER(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CLUSTER(a_slot_moves_while_its_session_publishes),
        CLUSTER(a_primary_dies_and_its_replica_takes_its_sessions),
        CLUSTER(the_primary_with_the_nodes_dies),
        CLUSTER(a_primary_that_stands_still_holds_up_its_own_sessions_only),
    };
    return failed + cmocka_run_group_tests_name("bus_redis_cluster_faults", tests, NULL, NULL);
}
