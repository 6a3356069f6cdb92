/* A primary that Sentinels name: the bus finds it, loses it, and finds its successor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "rig_redis.h"

#define LEASE_MS  1000
#define SENTINELS 3
#define SESSION   "s:k"

static struct redis_rig r; /* its server is the first primary */
static struct redis_server replica, sentinels[SENTINELS];
static char sentinel_conf[256], primary_port[8], url[256];

static void await(const struct redis_server *server, const char *command, const char *wanted)
{
    uint64_t deadline_ms = clock_boot_ms() + RIG_WAIT_MS;
    while (!strstr(redis_server_ask(server, command), wanted)) {
        assert_true(clock_boot_ms() < deadline_ms);
        redis_rig_pass(&r, 20);
    }
}

static int set_up(void **state)
{
    (void)state;
    r = (struct redis_rig){.server.extra = {"--repl-diskless-sync-delay", "0"}};
    redis_rig_start(&r, LEASE_MS);
    snprintf(primary_port, sizeof(primary_port), "%u", r.server.port);
    replica = (struct redis_server){
        .extra = {"--replicaof", "127.0.0.1", primary_port, "--repl-diskless-sync-delay", "0"}};
    redis_server_start(&replica);
    await(&replica, "INFO replication", "master_link_status:up");
    snprintf(sentinel_conf, sizeof(sentinel_conf),
             "sentinel monitor cars 127.0.0.1 %s 2\nsentinel down-after-milliseconds cars 500\n"
             "sentinel failover-timeout cars 2000\n",
             primary_port);
    for (size_t i = 0; i < SENTINELS; i++) {
        sentinels[i] = (struct redis_server){.sentinel = sentinel_conf};
        redis_server_start(&sentinels[i]);
    }
    for (size_t i = 0; i < SENTINELS; i++) {
        await(&sentinels[i], "SENTINEL MASTER cars", "num-other-sentinels\n2");
        await(&sentinels[i], "SENTINEL MASTER cars", "num-slaves\n1");
    }
    /* Nobody listens on port 1: the next Sentinel is asked. */
    snprintf(url, sizeof(url),
             "redis-sentinel://127.0.0.1:1,127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u/cars/0",
             sentinels[0].port, sentinels[1].port, sentinels[2].port);
    r.conf.redis.url = url;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_clear(&r.rig);
    for (size_t i = 0; i < SENTINELS; i++)
        redis_server_discard(&sentinels[i]);
    redis_server_discard(&replica);
    redis_rig_stop(&r);
    return 0;
}

static void assert_works(struct rig_peer *a, struct rig_peer *b, uint64_t epoch, uint64_t offset)
{
    assert_int_equal(peer_publish(a, SESSION, epoch, offset, "x", 10, true), STATUS_OK);
    assert_true(rig_wait(b, SEEN_PUSH, ENVELOPE_PUSH)->items[0].number == offset);
}

static void a_new_primary_is_found_after_the_old_one_died(void **state)
{
    (void)state;
    redis_server_await_age(&r.server, 2);
    struct rig_peer *a = rig_peer(&r.rig, "a"), *b = rig_peer(&r.rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(b, SESSION);
    assert_works(a, b, epoch, 1);
    await(&replica, "XLEN test:history:{" SESSION "}", "1");

    redis_server_kill(&r.server);
    rig_wait(a, SEEN_DISCONNECTED, 0);
    rig_wait(a, SEEN_CONNECTED, 0);
    rig_wait(b, SEEN_CONNECTED, 0);
    rig_wait(b, SEEN_SUBSCRIBED, 0);
    assert_non_null(strstr(redis_server_ask(&replica, "INFO replication"), "role:master"));
    a->bus->ops->assert_owner(a->bus, SESSION, 9, epoch, "u");
    assert_int_equal(rig_wait(a, SEEN_ASSERTED, 9)->status, STATUS_OK);
    assert_works(a, b, epoch, 2);
    assert_string_equal(redis_server_ask(&replica, "XLEN test:history:{" SESSION "}"), "2");
}

static void a_primary_that_was_replaced_is_left_though_it_answers(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    assert_string_equal(redis_server_ask(&sentinels[0], "SENTINEL FAILOVER cars"), "OK");
    rig_wait(a, SEEN_DISCONNECTED, 0);
    rig_wait(a, SEEN_CONNECTED, 0);
    a->bus->ops->renew(a->bus, 1);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 1)->status, STATUS_OK);
    assert_string_equal(redis_server_ask(&replica, "ZCARD test:nodes"), "1");
    assert_non_null(strstr(redis_server_ask(&replica, "INFO replication"), "role:master"));
}

static void a_sentinel_that_dies_is_followed_by_another(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    redis_server_kill(&sentinels[0]);
    redis_rig_pass(&r, 500);
    assert_string_equal(redis_server_ask(&sentinels[1], "SENTINEL FAILOVER cars"), "OK");
    rig_wait(a, SEEN_DISCONNECTED, 0);
    rig_wait(a, SEEN_CONNECTED, 0);
}

/* --- a Sentinel that disagrees with the others --- */

static const char *trouble(const struct rig_peer *peer)
{
    const char *why = peer->bus->ops->trouble(peer->bus);
    return why ? why : "";
}

struct sentinel_words {
    const struct rig_peer *peer;
    const char *words;
};

static bool says(void *ctx)
{
    const struct sentinel_words *wanted = ctx;
    return strstr(trouble(wanted->peer), wanted->words) != NULL;
}

static void assert_says(const struct rig_peer *peer, const char *words)
{
    struct sentinel_words wanted = {peer, words};
    rig_until(&r.rig, says, &wanted);
}

/* A Sentinel that knows no other and names another primary. */
static void start_stale(struct redis_server *stale, char *conf, size_t size)
{
    snprintf(conf, size, "sentinel monitor cars 127.0.0.1 %u 2\n", stale[1].port);
    stale[0] = (struct redis_server){.sentinel = conf};
    redis_server_start(&stale[0]);
}

static void a_sentinel_that_is_stale_and_asked_first_is_not_believed(void **state)
{
    (void)state;
    static char conf[128];
    struct redis_server stale[2] = {{0}};
    redis_server_start(&stale[1]); /* the former primary, which still acts as one */
    start_stale(stale, conf, sizeof(conf));
    snprintf(url, sizeof(url), "redis-sentinel://127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u/cars",
             stale[0].port, sentinels[0].port, sentinels[1].port);
    struct rig_peer *a = rig_peer(&r.rig, "a");
    a->bus->ops->renew(a->bus, 1);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 1)->status, STATUS_OK);
    assert_string_equal(redis_server_ask(&r.server, "ZCARD test:nodes"), "1");
    assert_string_equal(redis_server_ask(&stale[1], "DBSIZE"), "0");
    rig_clear(&r.rig);

    /* Two Sentinels name different primaries: neither counts. */
    snprintf(url, sizeof(url), "redis-sentinel://127.0.0.1:%u,127.0.0.1:1/cars", stale[0].port);
    a = rig_peer_unconnected(&r.rig, "a");
    assert_says(a, "expected two of 2");
    assert_null(rig_find(a, SEEN_CONNECTED, 0));
    rig_clear(&r.rig);

    /* A single Sentinel that knows no other. */
    snprintf(url, sizeof(url), "redis-sentinel://127.0.0.1:%u/cars", stale[0].port);
    a = rig_peer(&r.rig, "a");
    assert_string_equal(trouble(a), "");
    rig_clear(&r.rig);
    redis_server_discard(&stale[0]);
    redis_server_discard(&stale[1]);
}

static void a_single_one_of_the_url_names_the_others(void **state)
{
    (void)state;
    snprintf(url, sizeof(url), "redis-sentinel://127.0.0.1:%u/cars", sentinels[0].port);
    struct rig_peer *a = rig_peer(&r.rig, "a");
    redis_server_kill(&sentinels[0]);
    assert_string_equal(redis_server_ask(&sentinels[1], "SENTINEL FAILOVER cars"), "OK");
    rig_wait(a, SEEN_DISCONNECTED, 0);
    rig_wait(a, SEEN_CONNECTED, 0);
}

static void a_name_that_no_sentinel_knows_is_reported(void **state)
{
    (void)state;
    snprintf(url, sizeof(url), "redis-sentinel://127.0.0.1:%u,127.0.0.1:%u/trucks",
             sentinels[0].port, sentinels[1].port);
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    assert_says(a, "does not know a primary named trucks");
}

static void sentinels_that_ask_for_a_password_get_those_of_the_url(void **state)
{
    (void)state;
    for (size_t i = 0; i < SENTINELS; i++)
        redis_server_ask(&sentinels[i], "ACL SETUSER car on >se:cret +@all");
    for (size_t i = 0; i < SENTINELS; i++)
        redis_server_ask(&sentinels[i], "ACL SETUSER default >other resetkeys resetchannels");
    redis_server_ask(&r.server, "ACL SETUSER car on >se:cret ~* &* +@all");
    snprintf(url, sizeof(url), "redis-sentinel://car:se%%3Acret@127.0.0.1:%u,127.0.0.1:%u/cars",
             sentinels[0].port, sentinels[1].port);
    rig_hear(rig_peer(&r.rig, "a"));
    rig_clear(&r.rig);
    for (size_t i = 0; i < SENTINELS; i++) /* every server requires a password */
        redis_server_ask(&sentinels[i], "ACL SETUSER default resetpass >other");
    rig_hear(rig_peer(&r.rig, "a"));
    rig_clear(&r.rig);
    r.conf.redis.sentinel_password = (char *)"other"; /* the Sentinels' own, for the default user */
    snprintf(url, sizeof(url), "redis-sentinel://car:se%%3Acret@127.0.0.1:%u,127.0.0.1:%u/cars",
             sentinels[0].port, sentinels[1].port);
    rig_hear(rig_peer(&r.rig, "a"));
    rig_clear(&r.rig);
    r.conf.redis.sentinel_password = NULL;
    snprintf(url, sizeof(url), "redis-sentinel://car:wrong@127.0.0.1:%u,127.0.0.1:%u/cars",
             sentinels[0].port, sentinels[1].port);
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    assert_says(a, "WRONGPASS");
    assert_null(strstr(trouble(a), "wrong"));
}

int main(void)
{
#define SENTINEL(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SENTINEL(a_new_primary_is_found_after_the_old_one_died),
        SENTINEL(a_primary_that_was_replaced_is_left_though_it_answers),
        SENTINEL(a_sentinel_that_dies_is_followed_by_another),
        SENTINEL(a_sentinel_that_is_stale_and_asked_first_is_not_believed),
        SENTINEL(a_single_one_of_the_url_names_the_others),
        SENTINEL(a_name_that_no_sentinel_knows_is_reported),
        SENTINEL(sentinels_that_ask_for_a_password_get_those_of_the_url),
    };
    return cmocka_run_group_tests_name("bus_redis_sentinel", tests, NULL, NULL);
}
