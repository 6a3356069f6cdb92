#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "contract_cases.h"

static const struct seen *renew(struct rig_peer *peer, uint64_t tag)
{
    peer->bus->ops->renew(peer->bus, tag);
    const struct seen *seen = rig_wait(peer, SEEN_RENEWED, tag);
    assert_int_equal(seen->status, STATUS_OK);
    return seen;
}

static const struct bus_node_record node_record = {.host = "h",
                                                   .version = "1.2",
                                                   .listen = "0.0.0.0:8080",
                                                   .admin = "127.0.0.1:9600",
                                                   .state = "up",
                                                   .pid = 42,
                                                   .started_ms = 1700000000000,
                                                   .lease_ms = 3000,
                                                   .clients = 7,
                                                   .sessions = 5,
                                                   .upstreams = 3,
                                                   .msgs_in = 11,
                                                   .msgs_out = 13,
                                                   .rss_bytes = 17,
                                                   .loop_lag_ms = 2};

static void connected_comes_once_and_first(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer_unconnected(rig, "a");
    assert_null(a->first);
    rig_wait(a, SEEN_CONNECTED, 0);
    rig_hear(a);
    rig_settle(a);
    assert_int_equal(a->first->kind, SEEN_CONNECTED);
    assert_null(rig_find(a, SEEN_CONNECTED, 0));
    assert_true(a->bus->shared == rig->kind->shared);
}

static void no_event_comes_before_its_call_returned(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    rig_settle(a);
    rig_forget_events(a);
    a->bus->ops->renew(a->bus, 1);
    a->bus->ops->subscribe(a->bus, "s:k");
    a->bus->ops->claim(a->bus, "s:k", 2, &(struct bus_claim){.upstream = "u"});
    a->bus->ops->send(a->bus, "a", &(struct envelope){.type = ENVELOPE_JOIN}, 3);
    a->bus->ops->list(a->bus, BUS_LIST_NODES, NULL, 10, peer_on_rows, a);
    assert_null(a->first);
    rig_wait(a, SEEN_RENEWED, 1);
    rig_wait(a, SEEN_CLAIMED, 2);
    rig_wait(a, SEEN_TOLD, 3);
    rig_wait(a, SEEN_ROWS, 0);
}

static void a_renewal_says_whether_the_entry_was_there(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t before_ms = clock_unix_ms();
    const struct seen *first = renew(a, 1);
    assert_false(first->flag);
    assert_int_equal(first->len, 1);
    assert_string_equal(first->items[0].id, "a");
    assert_true(first->items[0].number >= before_ms && first->items[0].number <= clock_unix_ms());
    const struct seen *second = renew(a, 2);
    assert_true(second->flag);
}

static void each_renewal_moves_the_score(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t score = 0;
    for (uint64_t tag = 1; tag <= 20; tag++)
        a->bus->ops->renew(a->bus, tag);
    for (uint64_t tag = 1; tag <= 20; tag++) {
        const struct seen *seen = rig_wait(a, SEEN_RENEWED, tag);
        assert_true(seen->items[0].number > score);
        score = seen->items[0].number;
    }
}

static void a_renewal_shows_all_nodes(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    renew(a, 1);
    const struct seen *seen = renew(b, 1);
    assert_int_equal(seen->len, 2);
    assert_non_null(seen_item(seen, "a"));
    assert_non_null(seen_item(seen, "b"));
    assert_false(seen->flag);
}

struct lease_wait {
    struct rig_peer *peer;
    uint64_t tag;
};

static bool lease_of_a_is_known(void *ctx)
{
    struct lease_wait *wait = ctx;
    const struct seen_item *item = seen_item(renew(wait->peer, ++wait->tag), "a");
    return item && item->lease_ms == 3000;
}

static void the_lease_of_another_node_becomes_known(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    renew(a, 1);
    a->bus->ops->record_node(a->bus, &node_record);
    rig_settle(a);
    rig_until(rig, lease_of_a_is_known, &(struct lease_wait){b, 100});
}

static void signing_off_removes_the_node(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    renew(a, 1);
    a->bus->ops->record_node(a->bus, &node_record);
    a->bus->ops->sign_off(a->bus);
    rig_settle(a);
    assert_null(seen_item(renew(b, 1), "a"));
    assert_false(renew(a, 2)->flag);
}

static void nodes_are_listed_with_what_they_say_of_themselves(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t score = renew(a, 1)->items[0].number;
    renew(b, 1);
    a->bus->ops->record_node(a->bus, &node_record);
    rig_settle(a);
    b->bus->ops->list(b->bus, BUS_LIST_NODES, NULL, 100, peer_on_rows, b);
    const struct seen *seen = rig_wait(b, SEEN_ROWS, 0);
    assert_int_equal(seen->status, STATUS_OK);
    assert_int_equal(seen->len, 2);
    assert_null(seen->text);
    const struct seen_item *row = seen_item(seen, "a");
    assert_non_null(row);
    const char *const expected[][2] = {{"host", "h"},
                                       {"pid", "42"},
                                       {"version", "1.2"},
                                       {"started", "1700000000000"},
                                       {"lease", "3000"},
                                       {"listen", "0.0.0.0:8080"},
                                       {"admin", "127.0.0.1:9600"},
                                       {"state", "up"},
                                       {"clients", "7"},
                                       {"sessions", "5"},
                                       {"upstreams", "3"},
                                       {"msgs_in", "11"},
                                       {"msgs_out", "13"},
                                       {"rss", "17"},
                                       {"loop_lag_ms", "2"}};
    for (size_t i = 0; i < CASES_LEN(expected); i++)
        assert_string_equal(seen_field(row, expected[i][0]), expected[i][1]);
    assert_true(strtoull(seen_field(row, "renewed"), NULL, 10) == score);
    assert_non_null(seen_item(seen, "b"));
}

struct heard_wait {
    struct rig_peer *peer;
    uint64_t later_than_ms;
};

static bool was_heard(void *ctx)
{
    const struct heard_wait *wait = ctx;
    return wait->peer->bus->ops->heard_ms(wait->peer->bus) > wait->later_than_ms;
}

static void the_inbox_is_heard_again_and_again(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t start_ms = clock_boot_ms();
    rig_until(rig, was_heard, &(struct heard_wait){a, start_ms});
    uint64_t first_ms = a->bus->ops->heard_ms(a->bus);
    rig_until(rig, was_heard, &(struct heard_wait){a, first_ms});
    assert_true(a->bus->ops->heard_ms(a->bus) <= clock_boot_ms());
    assert_null(rig_find(a, SEEN_INBOX, ENVELOPE_PROBE));
}

/* Tags of one session, of renewals, and of messages to one node share their tens digit. */
static void answers_come_in_the_order_of_the_calls_on_each_session(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    rig_settle(a);
    rig_forget_events(a);
    const struct bus_ops *ops = a->bus->ops;
    const struct envelope envelope = {.type = ENVELOPE_JOIN};
    ops->claim(a->bus, "s:1", 11, &(struct bus_claim){.upstream = "u"});
    ops->renew(a->bus, 31);
    ops->release(a->bus, "s:2", 21, 1, 1000);
    ops->send(a->bus, "nobody", &envelope, 41);
    ops->transfer(a->bus, "s:2", 22, 1, "b");
    ops->history(a->bus, "s:1", 12, (struct position){0, 0}, 10);
    ops->publish(a->bus, "s:1", 13, 1, NULL, 0, 0, 0, true);
    ops->renew(a->bus, 32);
    ops->assert_owner(a->bus, "s:2", 23, 5, "u");
    ops->publish(a->bus, "s:2", 24, 5, NULL, 0, 0, 0, true);
    ops->send(a->bus, "nobody", &envelope, 42);
    ops->renew(a->bus, 33);
    ops->claim(a->bus, "s:1", 14, &(struct bus_claim){.upstream = "u"});
    static const struct {
        enum seen_kind kind;
        uint64_t tag;
    } last[] = {{SEEN_CLAIMED, 14}, {SEEN_PUBLISHED, 24}, {SEEN_RENEWED, 33}, {SEEN_TOLD, 42}};
    for (size_t i = 0; i < sizeof(last) / sizeof(*last); i++)
        rig_wait(a, last[i].kind, last[i].tag);
    uint64_t expected[] = {0, 11, 21, 31, 41};
    for (const struct seen *seen = a->first; seen; seen = seen->next) {
        if (seen->tag != 0)
            assert_int_equal(seen->tag, expected[seen->tag / 10]++);
    }
}

static void revoke(struct rig_peer *peer, const char *name, uint64_t until_s, uint64_t before_s)
{
    static uint64_t tag = 1000;
    const struct bus_revocation revocation = {name, until_s, before_s};
    peer->bus->ops->revoke(peer->bus, ++tag, &revocation);
    assert_int_equal(rig_wait(peer, SEEN_REVOKED, tag)->status, STATUS_OK);
}

/* Reads all revoked tokens, in portions. Returns the value of a name, "" if it is missing. */
static const char *revoked(struct rig_peer *peer, const char *name)
{
    static char value[64];
    char cursor[64] = "";
    value[0] = '\0';
    do {
        peer->bus->ops->list(peer->bus, BUS_LIST_REVOKED, cursor, 10, peer_on_rows, peer);
        const struct seen *seen = rig_wait(peer, SEEN_ROWS, 0);
        assert_int_equal(seen->status, STATUS_OK);
        const struct seen_item *item = seen_item(seen, name);
        if (item)
            snprintf(value, sizeof(value), "%s", seen_field(item, "value"));
        snprintf(cursor, sizeof(cursor), "%s", seen->text ? seen->text : "");
    } while (cursor[0] != '\0');
    return value;
}

static void of_two_revocations_what_revokes_more_is_kept(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t now_s = clock_unix_ms() / 1000;
    char expected[64];
    revoke(a, "sub:u v", now_s + 50, 1000);
    revoke(a, "sub:u v", now_s + 40, 2000);
    revoke(a, "sub:u v", now_s + 30, 1500);
    snprintf(expected, sizeof(expected), "%" PRIu64 " 2000", now_s + 50);
    assert_string_equal(revoked(a, "sub:u v"), expected);
    revoke(a, "jti:\xc3\xa4 1", now_s + 60, 0);
    revoke(a, "jti:\xc3\xa4 1", now_s + 5, 0);
    snprintf(expected, sizeof(expected), "%" PRIu64, now_s + 60);
    assert_string_equal(revoked(a, "jti:\xc3\xa4 1"), expected);
    assert_string_equal(revoked(a, "jti:other"), "");
    revoke(a, "jti:over", now_s - 10, 0);
    assert_string_equal(revoked(a, "jti:over"), "");
    revoke(a, "jti:\xc3\xa4 1", now_s - 10, 0);
    assert_string_equal(revoked(a, "jti:\xc3\xa4 1"), expected);
}

static void all_that_is_revoked_is_listed_in_portions(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t until_s = clock_unix_ms() / 1000 + 100;
    char name[32], expected[32];
    for (unsigned i = 0; i < 700; i++) {
        snprintf(name, sizeof(name), "jti:%u", i);
        revoke(a, name, until_s + i, 0);
    }
    for (unsigned i = 0; i < 700; i += 233) {
        snprintf(name, sizeof(name), "jti:%u", i);
        snprintf(expected, sizeof(expected), "%" PRIu64, until_s + i);
        assert_string_equal(revoked(a, name), expected);
    }
}

const struct contract_case cases_nodes[] = {
    CASE(connected_comes_once_and_first),
    CASE(no_event_comes_before_its_call_returned),
    CASE(a_renewal_says_whether_the_entry_was_there),
    CASE(each_renewal_moves_the_score),
    CASE(a_renewal_shows_all_nodes),
    CASE(the_lease_of_another_node_becomes_known),
    CASE(signing_off_removes_the_node),
    CASE(nodes_are_listed_with_what_they_say_of_themselves),
    CASE(the_inbox_is_heard_again_and_again),
    CASE(answers_come_in_the_order_of_the_calls_on_each_session),
    CASE(of_two_revocations_what_revokes_more_is_kept),
    CASE(all_that_is_revoked_is_listed_in_portions),
};
const size_t cases_nodes_len = CASES_LEN(cases_nodes);
