/*
 * Publications of many sessions, which go to Redis as plain commands: what the script would refuse
 * is refused, and nothing is announced twice. Each case has its own server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy.h"
#include "rig_redis.h"

#define LEASE_MS 1000
#define SESSIONS 8
#define SIZE     4

static struct redis_rig r;
static const char *const names[SESSIONS] = {"s:0", "s:1", "s:2", "s:3", "s:4", "s:5", "s:6", "s:7"};
static uint64_t epochs[SESSIONS];
static struct rig_peer *a, *b; /* a owns all sessions, b listens */

static const char *ask(const char *command)
{
    return redis_server_ask(&r.server, command);
}

static unsigned scripts_called(void)
{
    const char *line = strstr(ask("INFO commandstats"), "cmdstat_evalsha:calls=");
    return line ? (unsigned)strtoul(line + strlen("cmdstat_evalsha:calls="), NULL, 10) : 0;
}

static void begin(void)
{
    redis_server_await_age(&r.server, LEASE_MS / 1000 + 1);
    a = rig_peer(&r.rig, "a");
    b = rig_peer(&r.rig, "b");
    for (size_t i = 0; i < SESSIONS; i++) {
        epochs[i] = peer_claim(a, names[i]);
        peer_subscribe(b, names[i]);
    }
    rig_forget_events(b);
}

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

struct publish_turn {
    uint64_t offset; /* of the first publication of each session */
    size_t len;      /* publications of each session; 0: one */
    uint64_t ttl_ms;
    unsigned how;
};

/* All sessions publish in one turn. */
static void publish(const struct publish_turn *turn)
{
    size_t len = turn->len > 0 ? turn->len : 1;
    for (size_t i = 0; i < SESSIONS; i++) {
        struct publication *list[8];
        for (size_t k = 0; k < len; k++) {
            list[k] = publication_copy(k % 2 ? OPCODE_BINARY : OPCODE_TEXT, names[i], 3);
            list[k]->at = (struct position){epochs[i], turn->offset + k};
        }
        a->bus->ops->publish(a->bus, names[i], turn->offset, epochs[i], list, len, SIZE,
                             turn->ttl_ms, BUS_ANNOUNCE | turn->how);
        for (size_t k = 0; k < len; k++)
            publication_unref(list[k]);
    }
}

/* How the sessions' publications of a turn were answered: that of one session, and of all others.
 */
static void expect(uint64_t offset, const char *special, enum status its, enum status others)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        const struct seen *seen = rig_wait(a, SEEN_PUBLISHED, offset);
        bool is_it = special && strcmp(seen->session, special) == 0;
        assert_int_equal(seen->status, is_it ? its : others);
    }
}

/* Each session has published offset 1, and its history lives for a minute. */
static void begin_with_one(void)
{
    begin();
    publish(&(struct publish_turn){.offset = 1, .ttl_ms = 60000});
    expect(1, NULL, STATUS_OK, STATUS_OK);
}

static size_t pushes_heard(uint64_t offset)
{
    size_t heard = 0;
    const struct seen *seen;
    rig_settle(b);
    while ((seen = rig_find(b, SEEN_PUSH, ENVELOPE_PUSH)))
        heard += seen->len > 0 && seen->items[0].number == offset;
    return heard;
}

static const char *length_of(size_t session)
{
    char command[64];
    snprintf(command, sizeof(command), "XLEN test:history:{%s}", names[session]);
    return ask(command);
}

static void no_script_is_called_and_all_is_kept_and_heard(void **state)
{
    (void)state;
    begin_with_one();
    unsigned before = scripts_called();
    publish(&(struct publish_turn){.offset = 2, .len = 5, .ttl_ms = 60000});
    expect(2, NULL, STATUS_OK, STATUS_OK);
    assert_int_equal(scripts_called(), before);
    for (size_t i = 0; i < 2 * SESSIONS; i++) {
        const struct seen *seen = rig_wait(b, SEEN_PUSH, ENVELOPE_PUSH);
        assert_string_equal(seen->items[0].id, seen->session);
        assert_int_equal(seen->len, seen->items[0].number == 1 ? 1 : 5);
    }
    for (size_t i = 0; i < SESSIONS; i++)
        assert_string_equal(length_of(i), "4");
    assert_true(atoi(ask("PTTL test:history:{s:3}")) > 50000);
    b->bus->ops->history(b->bus, "s:3", 1, (struct position){epochs[3], 4}, 10);
    const struct seen *seen = rig_wait(b, SEEN_HISTORY, 1);
    assert_int_equal(seen->len, 2);
    assert_true(seen->items[0].number == 5 && seen->items[0].opcode == OPCODE_BINARY);
    assert_true(seen->items[1].number == 6 && seen->items[1].opcode == OPCODE_TEXT);
    assert_string_equal(seen->items[1].id, "s:3");
}

static void few_sessions_go_to_the_script(void **state)
{
    (void)state;
    begin();
    unsigned before = scripts_called();
    assert_int_equal(peer_publish(a, "s:1", epochs[1], 1, "x", SIZE, BUS_ANNOUNCE), STATUS_OK);
    assert_int_equal(scripts_called(), before + 1);
}

static uint64_t take_from_dead(const char *session, uint64_t epoch)
{
    const struct bus_claim claim = {.dead_owner = "a", .dead_epoch = epoch, .seen_epoch = epoch};
    b->bus->ops->claim(b->bus, session, 77, &claim);
    const struct seen *seen = rig_wait(b, SEEN_CLAIMED, 77);
    assert_int_equal(seen->status, STATUS_OK);
    return seen->epoch;
}

static void a_former_owner_is_refused_by_the_history(void **state)
{
    (void)state;
    begin_with_one();
    take_from_dead("s:3", epochs[3]);
    publish(&(struct publish_turn){.offset = 2});
    expect(2, "s:3", STATUS_REFUSED, STATUS_OK);
    assert_string_equal(length_of(3), "1");
    assert_string_equal(length_of(4), "2");
}

static void a_session_that_was_handed_over_is_refused_by_the_history(void **state)
{
    (void)state;
    begin_with_one();
    a->bus->ops->transfer(a->bus, "s:5", 9, epochs[5], "b");
    assert_int_equal(rig_wait(a, SEEN_TRANSFERRED, 9)->status, STATUS_OK);
    publish(&(struct publish_turn){.offset = 2});
    expect(2, "s:5", STATUS_REFUSED, STATUS_OK);
    assert_string_equal(length_of(5), "1");
}

/* There is no history that could refuse it: neither does it begin one, with or without a time to
 * live. */
static void a_former_owner_does_not_begin_a_history(void **state)
{
    (void)state;
    begin();
    take_from_dead("s:3", epochs[3]);
    publish(&(struct publish_turn){.offset = 1});
    expect(1, "s:3", STATUS_REFUSED, STATUS_OK);
    assert_string_equal(length_of(3), "0");
    assert_string_equal(length_of(4), "1");
    take_from_dead("s:4", epochs[4]);
    ask("DEL test:history:{s:4}");
    publish(&(struct publish_turn){.offset = 2, .ttl_ms = 60000});
    rig_wait(a, SEEN_PUBLISHED, 2);
    rig_settle(a);
    assert_string_equal(length_of(3), "0");
    assert_string_equal(length_of(4), "0");
    assert_string_equal(length_of(5), "2");
}

static void a_history_that_is_not_there_is_begun_and_nothing_announced_twice(void **state)
{
    (void)state;
    begin_with_one();
    assert_int_equal(pushes_heard(1), SESSIONS);
    ask("DEL test:history:{s:2} test:history:{s:6}");
    publish(&(struct publish_turn){.offset = 2, .len = 2});
    publish(&(struct publish_turn){.offset = 4, .len = 2});
    expect(2, NULL, STATUS_OK, STATUS_OK);
    expect(4, NULL, STATUS_OK, STATUS_OK);
    assert_string_equal(length_of(2), "4");
    assert_string_equal(length_of(3), "4");
    size_t heard = 0;
    const struct seen *seen;
    rig_settle(b);
    while ((seen = rig_find(b, SEEN_PUSH, ENVELOPE_PUSH)))
        heard += seen->len;
    assert_int_equal(heard, SESSIONS * 4);
}

static void publish_alone(size_t session, uint64_t offset)
{
    struct publication *alone = publication_copy(OPCODE_TEXT, "x", 1);
    alone->at = (struct position){epochs[session], offset};
    a->bus->ops->publish(a->bus, names[session], 900 + offset, epochs[session], &alone, 1, SIZE, 0,
                         BUS_ANNOUNCE);
    publication_unref(alone);
}

/* The script keeps what the plain call could not, then what came behind it. */
static void nothing_overtakes_what_begins_a_history(void **state)
{
    (void)state;
    begin();
    publish(&(struct publish_turn){.offset = 1, .ttl_ms = 60000});
    a->bus->ops->renew(a->bus, 1); /* sends what is gathered */
    publish_alone(5, 2);
    publish_alone(5, 3);
    a->bus->ops->renew(a->bus, 2);
    publish_alone(5, 4);
    a->bus->ops->release(a->bus, names[5], 99, epochs[5], 60000);
    expect(1, NULL, STATUS_OK, STATUS_OK);
    for (uint64_t offset = 2; offset <= 4; offset++)
        assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 900 + offset)->status, STATUS_OK);
    assert_int_equal(rig_wait(a, SEEN_RELEASED, 99)->status, STATUS_OK);
    assert_string_equal(length_of(5), "4");
}

/* As after a fail-over that lost writes: the record of the higher epoch is written back. */
static void an_owner_of_a_lower_epoch_is_refused_by_the_history(void **state)
{
    (void)state;
    begin_with_one();
    b->bus->ops->assert_owner(b->bus, "s:2", 9, epochs[2] + 1, "u");
    assert_int_equal(rig_wait(b, SEEN_ASSERTED, 9)->status, STATUS_OK);
    publish(&(struct publish_turn){.offset = 2});
    expect(2, "s:2", STATUS_REFUSED, STATUS_OK);
    assert_string_equal(length_of(2), "1");
}

/* There is no history that could refuse it. */
static void an_owner_whose_record_is_gone_is_told_with_the_next_time_to_live(void **state)
{
    (void)state;
    begin_with_one();
    ask("DEL test:session:{s:6} test:history:{s:6}");
    publish(&(struct publish_turn){.offset = 2, .ttl_ms = 60000});
    expect(2, "s:6", STATUS_REFUSED, STATUS_OK);
}

static void what_may_have_been_published_before_is_not_announced_twice(void **state)
{
    (void)state;
    begin_with_one();
    assert_int_equal(pushes_heard(1), SESSIONS);
    publish(&(struct publish_turn){.offset = 1, .how = BUS_AGAIN});
    expect(1, NULL, STATUS_OK, STATUS_OK);
    assert_int_equal(pushes_heard(1), 0);
    publish(&(struct publish_turn){.offset = 2});
    expect(2, NULL, STATUS_OK, STATUS_OK);
    assert_int_equal(pushes_heard(2), SESSIONS);
    assert_string_equal(length_of(0), "2");
}

static void a_history_of_another_type_harms_its_session_only(void **state)
{
    (void)state;
    begin();
    ask("SET test:history:{s:2} x");
    publish(&(struct publish_turn){.offset = 1, .ttl_ms = 60000});
    expect(1, "s:2", STATUS_IO, STATUS_OK);
    ask("DEL test:history:{s:2}");
    publish(&(struct publish_turn){.offset = 2});
    expect(2, NULL, STATUS_OK, STATUS_OK);
}

static void over_maxmemory_publications_are_announced_and_not_kept(void **state)
{
    (void)state;
    begin_with_one();
    rig_settle(b);
    rig_forget_events(b);
    ask("CONFIG SET maxmemory 100kb");
    publish(&(struct publish_turn){.offset = 2});
    expect(2, NULL, STATUS_NO_MEMORY, STATUS_NO_MEMORY);
    assert_int_equal(pushes_heard(2), SESSIONS);
    assert_string_equal(length_of(1), "1");
    ask("CONFIG SET maxmemory 0");
    publish(&(struct publish_turn){.offset = 3});
    expect(3, NULL, STATUS_OK, STATUS_OK);
    assert_string_equal(length_of(1), "2");
}

static void a_forbidden_channel_harms_its_session_only(void **state)
{
    (void)state;
    assert_string_equal(ask("ACL SETUSER hub on >pw ~test:* &test:* +@all"), "OK");
    snprintf(r.url, sizeof(r.url), "redis://hub:pw@127.0.0.1:%u", r.server.port);
    begin();
    /* Not subscribed to: Redis ends the connections of subscribers that lose a right. */
    rig_remove(&r.rig, b);
    assert_string_equal(ask("ACL SETUSER hub resetchannels &test:inbox:* &test:push:{s:0} "
                            "&test:push:{s:1} &test:push:{s:2} &test:push:{s:3} &test:push:{s:4} "
                            "&test:push:{s:5} &test:push:{s:6}"),
                        "OK");
    publish(&(struct publish_turn){.offset = 1});
    expect(1, "s:7", STATUS_IO, STATUS_OK);
}

static void nothing_overtakes_a_script_that_the_server_has_lost(void **state)
{
    (void)state;
    begin_with_one();
    rig_settle(b);
    rig_forget_events(b);
    ask("SCRIPT FLUSH");
    publish_alone(1, 2);
    a->bus->ops->renew(a->bus, 1); /* sends what is gathered */
    for (size_t i = 0; i < SESSIONS; i++) {
        struct publication *next = publication_copy(OPCODE_TEXT, names[i], 3);
        next->at = (struct position){epochs[i], i == 1 ? 3 : 2};
        a->bus->ops->publish(a->bus, names[i], 950, epochs[i], &next, 1, SIZE, 0, BUS_ANNOUNCE);
        publication_unref(next);
    }
    assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 902)->status, STATUS_OK);
    expect(950, NULL, STATUS_OK, STATUS_OK);
    assert_string_equal(length_of(1), "3");
    rig_settle(b);
    uint64_t heard = 1;
    const struct seen *seen;
    while ((seen = rig_find(b, SEEN_PUSH, ENVELOPE_PUSH)))
        if (strcmp(seen->session, names[1]) == 0)
            assert_true(seen->items[0].number == ++heard);
    assert_int_equal(heard, 3);
}

/* --- the connection before --- */

static void a_new_connection_ends_the_one_before_at_the_server(void **state)
{
    (void)state;
    struct proxy proxy;
    proxy_start(&proxy, r.server.port);
    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%u", proxy.port);
    begin_with_one();
    rig_remove(&r.rig, b);
    rig_settle(a);
    unsigned long clients = strtoul(strstr(ask("INFO clients"), "connected_clients:") + 18, NULL,
                                    10);
    proxy_hide_ends(&proxy);
    proxy_swap(&proxy, false,
               ":1\r\n"); /* no answer to what is asked next: the hub connects anew */
    a->bus->ops->renew(a->bus, 1);
    rig_wait(a, SEEN_DISCONNECTED, 0);
    rig_wait(a, SEEN_CONNECTED, 0);
    rig_settle(a);
    assert_int_equal(strtoul(strstr(ask("INFO clients"), "connected_clients:") + 18, NULL, 10),
                     clients);
    unsigned before = scripts_called();
    publish(&(struct publish_turn){.offset = 2});
    expect(2, NULL, STATUS_OK, STATUS_OK);
    assert_int_equal(scripts_called(), before);
    rig_clear(&r.rig);
    proxy_stop(&proxy);
}

static void who_may_not_end_a_connection_goes_to_the_script(void **state)
{
    (void)state;
    assert_string_equal(ask("ACL SETUSER hub on >pw ~test:* &test:* +@all -client|kill"), "OK");
    snprintf(r.url, sizeof(r.url), "redis://hub:pw@127.0.0.1:%u", r.server.port);
    begin_with_one();
    unsigned before = scripts_called();
    publish(&(struct publish_turn){.offset = 2});
    expect(2, NULL, STATUS_OK, STATUS_OK);
    assert_int_equal(scripts_called(), before + 1);
}

/* Its scripts do not fence the history. */
static void beside_a_node_of_0_1_it_goes_to_the_script(void **state)
{
    (void)state;
    begin_with_one();
    ask("ZADD test:nodes 1700000000000 old");
    ask("HSET test:node:old version 0.1.0 lease 60000");
    for (uint64_t tag = 1; tag <= 2; tag++) { /* the first asks for the version */
        a->bus->ops->renew(a->bus, tag);
        rig_wait(a, SEEN_RENEWED, tag);
        rig_settle(a);
    }
    unsigned before = scripts_called();
    publish(&(struct publish_turn){.offset = 2});
    expect(2, NULL, STATUS_OK, STATUS_OK);
    assert_int_equal(scripts_called(), before + 1);
}

static void where_the_history_can_not_refuse_it_goes_to_the_script(void **state)
{
    (void)state;
    assert_string_equal(ask("ACL SETUSER hub on >pw ~test:* &test:* +@all -xsetid"), "OK");
    snprintf(r.url, sizeof(r.url), "redis://hub:pw@127.0.0.1:%u", r.server.port);
    begin_with_one();
    unsigned before = scripts_called();
    publish(&(struct publish_turn){.offset = 2});
    expect(2, NULL, STATUS_OK, STATUS_OK);
    assert_int_equal(scripts_called(), before + 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(no_script_is_called_and_all_is_kept_and_heard),
        CASE(few_sessions_go_to_the_script),
        CASE(a_former_owner_is_refused_by_the_history),
        CASE(a_session_that_was_handed_over_is_refused_by_the_history),
        CASE(a_former_owner_does_not_begin_a_history),
        CASE(a_history_that_is_not_there_is_begun_and_nothing_announced_twice),
        CASE(nothing_overtakes_what_begins_a_history),
        CASE(an_owner_of_a_lower_epoch_is_refused_by_the_history),
        CASE(an_owner_whose_record_is_gone_is_told_with_the_next_time_to_live),
        CASE(what_may_have_been_published_before_is_not_announced_twice),
        CASE(a_history_of_another_type_harms_its_session_only),
        CASE(over_maxmemory_publications_are_announced_and_not_kept),
        CASE(a_forbidden_channel_harms_its_session_only),
        CASE(nothing_overtakes_a_script_that_the_server_has_lost),
        CASE(a_new_connection_ends_the_one_before_at_the_server),
        CASE(who_may_not_end_a_connection_goes_to_the_script),
        CASE(beside_a_node_of_0_1_it_goes_to_the_script),
        CASE(where_the_history_can_not_refuse_it_goes_to_the_script),
    };
    return cmocka_run_group_tests_name("redis_plain", tests, NULL, NULL);
}
