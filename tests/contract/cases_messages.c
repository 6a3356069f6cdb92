#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "contract_cases.h"

#define SESSION "remoteWs:%E4;a=b&c/d?x~y"

static void publish_range(struct rig_peer *peer, uint64_t epoch, uint64_t from, uint64_t to,
                          uint32_t history_size)
{
    for (uint64_t offset = from; offset <= to; offset++) {
        char payload[16];
        snprintf(payload, sizeof(payload), "p%llu", (unsigned long long)offset);
        assert_int_equal(peer_publish(peer, SESSION, epoch, offset, payload, history_size, true),
                         STATUS_OK);
    }
}

static const struct seen *history(struct rig_peer *peer, uint64_t tag, struct position after,
                                  size_t limit)
{
    peer->bus->ops->history(peer->bus, SESSION, tag, after, limit);
    const struct seen *seen = rig_wait(peer, SEEN_HISTORY, tag);
    assert_int_equal(seen->status, STATUS_OK);
    assert_string_equal(seen->session, SESSION);
    return seen;
}

static void what_is_published_reaches_all_subscribers_in_order(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b"), *c = rig_peer(rig, "c");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(a, SESSION);
    peer_subscribe(b, SESSION);
    peer_subscribe(c, SESSION);
    publish_range(a, epoch, 1, 50, 0);
    struct rig_peer *peers[] = {a, b, c};
    for (size_t i = 0; i < 3; i++) {
        for (uint64_t offset = 1; offset <= 50; offset++) {
            const struct seen *seen = rig_wait(peers[i], SEEN_PUSH, 0);
            char payload[16];
            snprintf(payload, sizeof(payload), "p%llu", (unsigned long long)offset);
            assert_int_equal(seen->tag, ENVELOPE_PUSH);
            assert_string_equal(seen->session, SESSION);
            assert_string_equal(seen->text, "a");
            assert_true(seen->epoch == epoch);
            assert_int_equal(seen->len, 1);
            assert_true(seen->items[0].number == offset && seen->items[0].time_ms == 1000 + offset);
            assert_int_equal(seen->items[0].opcode, OPCODE_TEXT);
            assert_string_equal(seen->items[0].id, payload);
        }
    }
}

static void several_publications_travel_in_one_message(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(a, SESSION);
    static char large[1 << 20];
    memset(large, 0xc3, sizeof(large));
    struct publication *publications[] = {publication_copy(OPCODE_TEXT, "", 0),
                                          publication_copy(OPCODE_BINARY, "\0\xff\r\n", 4),
                                          publication_copy(OPCODE_BINARY, large, sizeof(large))};
    for (uint64_t i = 0; i < 3; i++)
        publications[i]->at = (struct position){epoch, i + 1};
    a->bus->ops->publish(a->bus, SESSION, 1, epoch, publications, 3, 10, 60000, true);
    for (size_t i = 0; i < 3; i++)
        publication_unref(publications[i]);
    assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 1)->status, STATUS_OK);

    const struct seen *pushed = rig_wait(a, SEEN_PUSH, ENVELOPE_PUSH);
    const struct seen *kept = history(a, 2, (struct position){0, 0}, 10);
    const struct seen *both[] = {pushed, kept};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(both[i]->len, 3);
        assert_int_equal(both[i]->items[0].id_len, 0);
        assert_int_equal(both[i]->items[0].opcode, OPCODE_TEXT);
        assert_int_equal(both[i]->items[1].id_len, 4);
        assert_memory_equal(both[i]->items[1].id, "\0\xff\r\n", 4);
        assert_int_equal(both[i]->items[1].opcode, OPCODE_BINARY);
        assert_int_equal(both[i]->items[2].id_len, sizeof(large));
        assert_memory_equal(both[i]->items[2].id, large, sizeof(large));
        assert_true(both[i]->items[2].number == 3);
    }
}

static size_t publish_bytes(struct rig_peer *peer, uint64_t tag, uint64_t epoch, size_t len)
{
    static char bytes[1 << 20];
    struct publication *publication = publication_copy(OPCODE_BINARY, bytes, len);
    publication->at = (struct position){epoch, tag};
    peer->bus->ops->publish(peer->bus, SESSION, tag, epoch, &publication, 1, 0, 0, true);
    publication_unref(publication);
    return len + BUS_PUBLICATION_BYTES;
}

static void publications_take_credit_and_answers_bring_it_back(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    static const size_t lens[] = {10000, 100000, 1 << 20};
    uint64_t epoch = peer_claim(a, SESSION), tag = 0, answered = 0;
    for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
        rig_settle(a);
        /* A bus may have a call of its own under way. */
        assert_in_range(bus_credit(a->bus, SESSION), BUS_CREDIT_BYTES - 1024, BUS_CREDIT_BYTES);
        size_t published = 0, before = BUS_CREDIT_BYTES + 1, credit;
        while ((credit = bus_credit(a->bus, SESSION)) > 0) {
            assert_true(credit < before);
            before = credit;
            published += publish_bytes(a, ++tag, epoch, lens[i]);
        }
        assert_in_range(published, BUS_CREDIT_BYTES / 4, BUS_CREDIT_BYTES * 4 + (1 << 20));
        assert_null(rig_find(a, SEEN_CREDIT, 0));
        rig_wait(a, SEEN_CREDIT, 0);
        assert_true(bus_credit(a->bus, SESSION) >= BUS_CREDIT_BYTES / 2);
        while (answered < tag)
            assert_int_equal(rig_wait(a, SEEN_PUBLISHED, ++answered)->status, STATUS_OK);
        rig_settle(a);
        assert_null(rig_find(a, SEEN_CREDIT, 0)); /* no call waits for credit any more */
        rig_forget_events(a);
    }
}

/* New pushes go out while others wait for their portion. */
static void publish_takes_more_than_the_credit(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION), tag = 0;
    size_t published = 0;
    while (published < 2 * BUS_CREDIT_BYTES)
        published += publish_bytes(a, ++tag, epoch, 1 << 20);
    assert_int_equal(bus_credit(a->bus, SESSION), 0);
    for (uint64_t answered = 1; answered <= tag; answered++)
        assert_int_equal(rig_wait(a, SEEN_PUBLISHED, answered)->status, STATUS_OK);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
    rig_wait(a, SEEN_CREDIT, 0);
}

static void who_does_not_own_the_session_does_not_publish(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    assert_int_equal(peer_publish(a, SESSION, 1, 1, "x", 10, true), STATUS_REFUSED);
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(b, SESSION);
    assert_int_equal(peer_publish(b, SESSION, epoch, 1, "x", 10, true), STATUS_REFUSED);
    assert_int_equal(peer_publish(a, SESSION, epoch - 1, 1, "x", 10, true), STATUS_REFUSED);
    assert_int_equal(peer_publish(a, SESSION, epoch + 1, 1, "x", 10, true), STATUS_REFUSED);
    assert_int_equal(history(b, 1, (struct position){0, 0}, 10)->len, 0);
    rig_settle(b);
    assert_null(rig_find(b, SEEN_PUSH, 0));
}

/* More than fit into one call; one of the sessions belongs to another node. */
static void many_sessions_publish_in_one_turn(struct contract_rig *rig)
{
#define SESSIONS 600
#define FOREIGN  300
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    char names[SESSIONS][16];
    uint64_t epochs[SESSIONS];
    for (size_t i = 0; i < SESSIONS; i++) {
        snprintf(names[i], sizeof(names[i]), "s:%zu", i);
        epochs[i] = peer_claim(i == FOREIGN ? b : a, names[i]);
    }
    peer_subscribe(b, names[0]);
    peer_subscribe(b, names[FOREIGN]);
    peer_subscribe(b, names[SESSIONS - 1]);
    for (uint64_t offset = 1; offset <= 2; offset++) {
        for (size_t i = 0; i < SESSIONS; i++) {
            struct publication *publication = publication_copy(OPCODE_TEXT, names[i],
                                                               strlen(names[i]));
            publication->at = (struct position){epochs[i], offset};
            a->bus->ops->publish(a->bus, names[i], 1000 * offset + i, epochs[i], &publication, 1,
                                 i % 2 ? 0 : 10, 60000, BUS_ANNOUNCE);
            publication_unref(publication);
        }
    }
    for (uint64_t offset = 1; offset <= 2; offset++)
        for (size_t i = 0; i < SESSIONS; i++)
            assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 1000 * offset + i)->status,
                             i == FOREIGN ? STATUS_REFUSED : STATUS_OK);
    size_t heard[2] = {0};
    for (size_t i = 0; i < 4; i++) {
        const struct seen *seen = rig_wait(b, SEEN_PUSH, 0);
        size_t which = strcmp(seen->session, names[0]) != 0;
        assert_string_equal(seen->session, names[which * (SESSIONS - 1)]);
        assert_string_equal(seen->items[0].id, seen->session);
        assert_true(seen->items[0].number == ++heard[which]);
    }
    rig_settle(b);
    assert_null(rig_find(b, SEEN_PUSH, 0));
}

static void history_is_read_after_a_position(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    const struct seen *seen = history(b, 1, (struct position){0, 0}, 10);
    assert_true(seen->len == 0 && seen->oldest.epoch == 0 && seen->oldest.offset == 0 &&
                !seen->flag);

    uint64_t epoch = peer_claim(a, SESSION);
    publish_range(a, epoch, 1, 10, 100);
    seen = history(b, 2, (struct position){epoch, 4}, 100);
    assert_int_equal(seen->len, 6);
    assert_true(seen->oldest.epoch == epoch && seen->oldest.offset == 1 && !seen->flag);
    for (uint64_t i = 0; i < 6; i++) {
        assert_true(seen->items[i].epoch == epoch && seen->items[i].number == 5 + i &&
                    seen->items[i].time_ms == 1005 + i);
        assert_int_equal(seen->items[i].opcode, OPCODE_TEXT);
    }
    assert_string_equal(seen->items[5].id, "p10");
    assert_int_equal(history(b, 3, (struct position){epoch, 10}, 100)->len, 0);
    assert_int_equal(history(b, 4, (struct position){epoch + 1, 0}, 100)->len, 0);
    assert_int_equal(history(b, 5, (struct position){epoch - 1, 1000}, 100)->len, 10);
}

static void a_limit_cuts_the_newest_and_says_so(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    publish_range(a, epoch, 1, 10, 100);
    const struct seen *seen = history(a, 1, (struct position){epoch, 2}, 3);
    assert_int_equal(seen->len, 3);
    assert_true(seen->items[0].number == 3 && seen->items[2].number == 5 && seen->flag);
    seen = history(a, 2, (struct position){epoch, 7}, 3);
    assert_int_equal(seen->len, 3);
    assert_false(seen->flag);
}

static void history_keeps_the_newest_up_to_its_size(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    publish_range(a, epoch, 1, 30, 5);
    const struct seen *seen = history(a, 1, (struct position){0, 0}, 100);
    assert_int_equal(seen->len, 5);
    assert_true(seen->oldest.offset == 26 && seen->items[0].number == 26 &&
                seen->items[4].number == 30);
}

static void history_goes_on_over_epochs(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t first = peer_claim(a, SESSION);
    publish_range(a, first, 1, 3, 100);
    uint64_t second = peer_claim(a, SESSION);
    publish_range(a, second, 1, 2, 100);
    const struct seen *seen = history(a, 1, (struct position){first, 2}, 100);
    assert_int_equal(seen->len, 3);
    assert_true(seen->items[0].epoch == first && seen->items[0].number == 3);
    assert_true(seen->items[1].epoch == second && seen->items[1].number == 1);
}

static void a_publication_that_is_kept_already_counts_as_done(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    publish_range(a, epoch, 1, 3, 100);
    assert_int_equal(peer_publish(a, SESSION, epoch, 2, "again", 100, true), STATUS_OK);
    publish_range(a, epoch, 3, 4, 100);
    const struct seen *seen = history(a, 1, (struct position){0, 0}, 100);
    assert_int_equal(seen->len, 4);
    assert_string_equal(seen->items[1].id, "p2");
}

/* A call that is repeated, or comes late over an old connection: members have the publication. */
static void what_is_kept_already_is_not_announced_again(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(b, SESSION);
    publish_range(a, epoch, 1, 3, 10);
    publish_range(a, epoch, 2, 3, 10);
    publish_range(a, epoch, 4, 4, 10);
    for (uint64_t offset = 1; offset <= 4; offset++)
        assert_int_equal(rig_wait(b, SEEN_PUSH, 0)->items[0].number, offset);
}

static void what_is_not_announced_is_only_kept(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(a, SESSION);
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "quiet", 10, false), STATUS_OK);
    assert_int_equal(peer_publish(a, SESSION, epoch, 2, "loud", 0, true), STATUS_OK);
    const struct seen *seen = rig_wait(a, SEEN_PUSH, ENVELOPE_PUSH);
    assert_string_equal(seen->items[0].id, "loud");
    seen = history(a, 1, (struct position){0, 0}, 10);
    assert_int_equal(seen->len, 1);
    assert_string_equal(seen->items[0].id, "quiet");
}

struct history_wait {
    struct rig_peer *peer;
    uint64_t tag;
};

static bool history_is_empty(void *ctx)
{
    struct history_wait *wait = ctx;
    return history(wait->peer, ++wait->tag, (struct position){0, 0}, 1)->len == 0;
}

static uint64_t take_from_dead(struct rig_peer *peer, uint64_t tag, const char *dead,
                               uint64_t epoch)
{
    const struct bus_claim claim = {.dead_owner = dead, .dead_epoch = epoch, .seen_epoch = epoch};
    peer->bus->ops->claim(peer->bus, SESSION, tag, &claim);
    const struct seen *seen = rig_wait(peer, SEEN_CLAIMED, tag);
    assert_int_equal(seen->status, STATUS_OK);
    return seen->epoch;
}

static void the_end_that_a_dead_owner_wrote_late_is_noted(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 10, BUS_ANNOUNCE | BUS_LATE),
                     STATUS_OK);
    assert_int_equal(peer_publish(a, SESSION, epoch, 2, "y", 10, BUS_ANNOUNCE), STATUS_OK);
    uint64_t next = take_from_dead(b, 1, "a", epoch);
    assert_int_equal(peer_publish(b, SESSION, next, 1, "z", 10, BUS_ANNOUNCE), STATUS_OK);
    const struct seen *seen = history(b, 2, (struct position){epoch, 1}, 10);
    assert_int_equal(seen->len, 3);
    assert_true(seen->items[0].number == 2);
    assert_true(seen->items[1].number == OFFSET_END && seen->items[1].opcode == 0);
    assert_true(seen->items[2].number == 1);
    /* The present owner writes with each push: the end of its epoch is whole */
    epoch = take_from_dead(a, 3, "b", next);
    assert_int_equal(history(a, 4, (struct position){next, 0}, 10)->len, 1);
}

static void the_end_that_an_owner_wrote_itself_is_not_noted(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 10, BUS_ANNOUNCE | BUS_LATE),
                     STATUS_OK);
    a->bus->ops->claim(a->bus, SESSION, 1, &(struct bus_claim){.seen_epoch = epoch, .holds = true});
    epoch = rig_wait(a, SEEN_CLAIMED, 1)->epoch;
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 10, BUS_ANNOUNCE | BUS_LATE),
                     STATUS_OK);
    a->bus->ops->publish(a->bus, SESSION, 9, epoch, NULL, 0, 0, 0, BUS_PROMPT);
    assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 9)->status, STATUS_OK);
    epoch = take_from_dead(b, 2, "a", epoch);
    assert_int_equal(peer_publish(b, SESSION, epoch, 1, "x", 10, BUS_ANNOUNCE | BUS_LATE),
                     STATUS_OK);
    b->bus->ops->release(b->bus, SESSION, 3, epoch, 60000);
    assert_int_equal(rig_wait(b, SEEN_RELEASED, 3)->status, STATUS_OK);
    peer_claim(a, SESSION);
    assert_int_equal(history(a, 4, (struct position){0, 0}, 10)->len, 3);
}

static void history_goes_after_its_time_to_live(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    struct publication *publication = publication_copy(OPCODE_TEXT, "x", 1);
    publication->at = (struct position){epoch, 1};
    a->bus->ops->publish(a->bus, SESSION, 1, epoch, &publication, 1, 10, 300, true);
    publication_unref(publication);
    assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 1)->status, STATUS_OK);
    publication = publication_copy(OPCODE_TEXT, "y", 1);
    publication->at = (struct position){epoch, 2};
    a->bus->ops->publish(a->bus, SESSION, 3, epoch, &publication, 1, 10, 0, true);
    publication_unref(publication);
    assert_int_equal(rig_wait(a, SEEN_PUBLISHED, 3)->status, STATUS_OK);
    assert_int_equal(history(a, 2, (struct position){0, 0}, 2)->len, 2);
    rig_until(rig, history_is_empty, &(struct history_wait){a, 100});
    assert_int_equal(peer_publish(a, SESSION, epoch, 3, "z", 10, true), STATUS_OK);
}

static void after_unsubscribing_nothing_comes(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(b, SESSION);
    publish_range(a, epoch, 1, 1, 0);
    rig_wait(b, SEEN_PUSH, ENVELOPE_PUSH);
    b->bus->ops->unsubscribe(b->bus, SESSION);
    peer_subscribe(b, "s:other");
    publish_range(a, epoch, 2, 2, 0);
    rig_settle(b);
    assert_null(rig_find(b, SEEN_PUSH, 0));
    peer_subscribe(b, SESSION);
    publish_range(a, epoch, 3, 3, 0);
    assert_true(rig_wait(b, SEEN_PUSH, ENVELOPE_PUSH)->items[0].number == 3);
}

static void the_last_word_of_a_turn_on_a_subscription_counts(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    a->bus->ops->subscribe(a->bus, SESSION);
    a->bus->ops->unsubscribe(a->bus, SESSION);
    a->bus->ops->subscribe(a->bus, SESSION);
    rig_wait(a, SEEN_SUBSCRIBED, 0);
    publish_range(a, epoch, 1, 1, 0);
    rig_wait(a, SEEN_PUSH, ENVELOPE_PUSH);

    a->bus->ops->subscribe(a->bus, "s:other");
    a->bus->ops->unsubscribe(a->bus, "s:other");
    peer_subscribe(a, "s:third");
    a->bus->ops->broadcast(
        a->bus, "s:other",
        &(struct envelope){.type = ENVELOPE_CLOSE, .session = slice_of("s:other")});
    a->bus->ops->broadcast(
        a->bus, "s:third",
        &(struct envelope){.type = ENVELOPE_CLOSE, .session = slice_of("s:third")});
    assert_string_equal(rig_wait(a, SEEN_PUSH, 0)->session, "s:third");
}

static void a_broadcast_reaches_subscribers_without_an_owner(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    peer_subscribe(b, SESSION);
    a->bus->ops->broadcast(a->bus, SESSION,
                           &(struct envelope){.type = ENVELOPE_CLOSE,
                                              .session = slice_of(SESSION),
                                              .node = slice_of("a")});
    const struct seen *seen = rig_wait(b, SEEN_PUSH, ENVELOPE_CLOSE);
    assert_string_equal(seen->session, SESSION);
    assert_string_equal(seen->text, "a");
}

static void a_node_is_told_and_the_teller_learns_whether_it_listened(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    rig_settle(b);
    const struct envelope_item item = {.kind = ITEM_COMMAND,
                                       .number = 3,
                                       .opcode = OPCODE_TEXT,
                                       .name = slice_of("c"),
                                       .bytes = slice_of("go")};
    a->bus->ops->send(a->bus, "b",
                      &(struct envelope){.type = ENVELOPE_COMMANDS,
                                         .session = slice_of(SESSION),
                                         .node = slice_of("a"),
                                         .epoch = 12,
                                         .items = &item,
                                         .items_len = 1},
                      7);
    a->bus->ops->send(a->bus, "nobody", &(struct envelope){.type = ENVELOPE_JOIN}, 8);
    assert_int_equal(rig_wait(a, SEEN_TOLD, 7)->status, STATUS_OK);
    assert_int_equal(rig_wait(a, SEEN_TOLD, 8)->status, STATUS_NOT_FOUND);
    const struct seen *seen = rig_wait(b, SEEN_INBOX, ENVELOPE_COMMANDS);
    assert_string_equal(seen->session, SESSION);
    assert_true(seen->epoch == 12);
    assert_int_equal(seen->len, 1);
    assert_true(seen->items[0].number == 3);
    assert_string_equal(seen->items[0].id, "go");
}

static void inbox_messages_keep_their_order_and_need_no_answer(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    rig_settle(b);
    for (uint64_t number = 1; number <= 200; number++)
        a->bus->ops->send(a->bus, "b", &(struct envelope){.type = ENVELOPE_JOIN, .number = number},
                          0);
    for (uint64_t number = 1; number <= 200; number++)
        assert_true(rig_wait(b, SEEN_INBOX, ENVELOPE_JOIN)->number == number);
    rig_settle(a);
    assert_null(rig_find(a, SEEN_TOLD, 0));
    rig_settle(b);
    assert_null(rig_find(b, SEEN_INBOX, ENVELOPE_JOIN));
}

const struct contract_case cases_messages[] = {
    CASE(what_is_published_reaches_all_subscribers_in_order),
    CASE(several_publications_travel_in_one_message),
    CASE(publications_take_credit_and_answers_bring_it_back),
    CASE(publish_takes_more_than_the_credit),
    CASE(who_does_not_own_the_session_does_not_publish),
    CASE(many_sessions_publish_in_one_turn),
    CASE(history_is_read_after_a_position),
    CASE(a_limit_cuts_the_newest_and_says_so),
    CASE(history_keeps_the_newest_up_to_its_size),
    CASE(history_goes_on_over_epochs),
    CASE(a_publication_that_is_kept_already_counts_as_done),
    CASE(what_is_kept_already_is_not_announced_again),
    CASE(what_is_not_announced_is_only_kept),
    CASE(the_end_that_a_dead_owner_wrote_late_is_noted),
    CASE(the_end_that_an_owner_wrote_itself_is_not_noted),
    CASE(history_goes_after_its_time_to_live),
    CASE(after_unsubscribing_nothing_comes),
    CASE(the_last_word_of_a_turn_on_a_subscription_counts),
    CASE(a_broadcast_reaches_subscribers_without_an_owner),
    CASE(a_node_is_told_and_the_teller_learns_whether_it_listened),
    CASE(inbox_messages_keep_their_order_and_need_no_answer),
};
const size_t cases_messages_len = CASES_LEN(cases_messages);
