/* Client messages on their way upstream: order, bound, deadlines, and the work of a turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/metrics.h"
#include "core/client/subscription.h"
#include "core/session/outbox.h"
#include "core_rig.h"

#define CLIENTS 250

static struct core_rig rig;
static struct session *session;
static struct subscription clients[CLIENTS];

static enum outbox_way way;
static enum status answer; /* of the upstream */
static size_t sent, refused, acked, emptied, told_len, paused, resumed, expired, told_expired;
static uint64_t told_first, told_ttl_ms;
static char last_sent[64];

static enum outbox_way on_way(const struct session *of)
{
    (void)of;
    return way;
}

static enum status on_send(struct session *of, enum opcode opcode, const void *payload, size_t len)
{
    (void)of, (void)opcode;
    if (answer != STATUS_OK)
        return answer;
    sent++;
    len = len < sizeof(last_sent) - 1 ? len : sizeof(last_sent) - 1;
    memcpy(last_sent, payload, len);
    last_sent[len] = '\0';
    return STATUS_OK;
}

static void on_tell(struct session *of, struct commands_message *message)
{
    (void)of;
    bool found = false;
    for (size_t i = 0; i < message->commands.len; i++) {
        struct command_entry command;
        struct expired_entry over;
        if (command_entry_of(&message->commands.at[i], &command)) {
            told_first = found ? told_first : command.number;
            told_ttl_ms = command.ttl_ms;
            told_len++;
            found = true;
        } else {
            assert_true(expired_entry_of(&message->commands.at[i], &over));
            told_expired++;
        }
    }
}

static void on_emptied(struct session *of)
{
    (void)of;
    emptied++;
}

static void on_room(struct session *of)
{
    (void)of;
}

static void on_refused(struct session *of, struct subscription *from)
{
    (void)of, (void)from;
    refused++;
}

static void on_acked(struct session *of, struct subscription *from, uint64_t id)
{
    (void)of, (void)from, (void)id;
    acked++;
}

static void on_expired(struct session *of, struct subscription *from, uint64_t id)
{
    (void)of, (void)from, (void)id;
    expired++;
}

static void on_paused(struct session *of, struct subscription *from)
{
    (void)of, (void)from;
    paused++;
}

static void on_resumed(struct session *of)
{
    (void)of;
    resumed++;
}

static const struct outbox_events events = {
    .way = on_way,
    .send = on_send,
    .send_commands = on_tell,
    .emptied = on_emptied,
    .room_again = on_room,
    .refused = on_refused,
    .acked = on_acked,
    .expired = on_expired,
    .paused = on_paused,
    .resumed = on_resumed,
};

/* The owner's CONFIRM: commands up to upto went; those after from that expired are listed. */
static void confirm(uint64_t from, uint64_t upto, const struct envelope_item *over, size_t n)
{
    const struct confirm_message message = {.upto = upto, .from = from, .expired = {over, n}};
    outbox_on_confirm(session, &message);
}

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_OWNER);
    session = &rig.session;
    way = OUTBOX_NOWHERE;
    answer = STATUS_OK;
    sent = refused = acked = emptied = told_len = paused = resumed = expired = told_expired = 0;
    outbox_new(session, &events);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    outbox_check(session);
    outbox_free(session);
    rig_fini(&rig);
    return 0;
}

static bool say(size_t client, const char *text)
{
    struct outbox_message message = {
        .sender = "", .opcode = OPCODE_TEXT, .payload = text, .len = strlen(text)};
    return outbox_add(session, &clients[client], false, &message);
}

static bool say_send(size_t client, uint64_t id)
{
    struct outbox_message message = {
        .send_id = id, .sender = "one", .opcode = OPCODE_TEXT, .payload = "s", .len = 1};
    return outbox_add(session, &clients[client], false, &message);
}

static void go_upstream(void)
{
    way = OUTBOX_UPSTREAM;
    outbox_pump(session);
    rig_pass(&rig, 0);
}

static void messages_wait_and_go_in_order(void **state)
{
    (void)state;
    assert_true(say(0, "a") && say(1, "b") && say(0, "c"));
    assert_int_equal(sent, 0);
    go_upstream();
    assert_int_equal(sent, 3);
    assert_string_equal(last_sent, "c");
    assert_true(say(1, "d"));
    assert_string_equal(last_sent, "d");
    assert_int_equal(outbox_bytes(session), 0);
}

static void the_bound_counts_what_messages_cost(void **state)
{
    (void)state;
    size_t n = 0;
    while (say(n % CLIENTS, "x"))
        n++;
    /* 256 KiB hold far fewer than 256 Ki one-byte messages, since each costs more than its byte */
    assert_true(n > 500 && n < 3000);
    assert_true(outbox_bytes(session) <= rig.service.to_upstream.queue_bytes);
    assert_int_equal(refused, 1);
}

static void an_empty_queue_takes_one_of_any_size(void **state)
{
    (void)state;
    size_t len = 1024 * 1024;
    char *large = malloc(len + 1);
    memset(large, 'x', len);
    large[len] = '\0';
    assert_true(say(0, large));
    assert_false(say(1, "x"));
    free(large);
}

static void who_is_refused_sends_nothing_more_later(void **state)
{
    (void)state;
    assert_true(say(0, "first of one") && say(1, "of another"));
    while (say(0, "more of one"))
        ;
    go_upstream();
    assert_int_equal(sent, 1);
    assert_string_equal(last_sent, "of another");
}

static void a_client_waits_as_long_as_is_promised_and_once(void **state)
{
    (void)state;
    uint64_t wait_ms = rig.service.to_upstream.wait_ms;
    assert_true(say(0, "a"));
    rig_pass(&rig, 5000);
    assert_true(say(0, "b"));
    rig_pass(&rig, wait_ms - 5001);
    assert_int_equal(refused, 0);
    rig_pass(&rig, wait_ms / 2 + 2);
    assert_int_equal(refused, 1);
    assert_int_equal(emptied, 1);
    go_upstream();
    assert_int_equal(sent, 0);
}

static void deadlines_of_many_are_spread(void **state)
{
    (void)state;
    for (size_t i = 0; i < CLIENTS; i++)
        assert_true(say(i, "x"));
    rig_pass(&rig, rig.service.to_upstream.wait_ms);
    size_t largest = 0;
    for (size_t i = 0; i < 20; i++) {
        size_t before = refused;
        rig_pass(&rig, rig.service.to_upstream.wait_ms / 40 + 1);
        largest = refused - before > largest ? refused - before : largest;
    }
    assert_int_equal(refused, CLIENTS);
    assert_true(largest < CLIENTS / 4);
}

static void messages_of_who_has_left_still_go(void **state)
{
    (void)state;
    assert_true(say(0, "a") && say(1, "b"));
    outbox_from_gone(session, &clients[0]);
    outbox_check(session);
    assert_true(say(0, "another client at the same place"));
    go_upstream();
    assert_int_equal(sent, 3);
}

/* A session without clients stays only while messages wait, and ends after that. */
static void the_last_message_of_who_has_left_ends_the_session(void **state)
{
    (void)state;
    assert_true(say(0, "a"));
    outbox_from_gone(session, &clients[0]);
    go_upstream();
    assert_int_equal(sent, 1);
    assert_int_equal(emptied, 1);
    session->facts.clients = 1;
    way = OUTBOX_NOWHERE;
    assert_true(say(1, "b"));
    go_upstream();
    rig_pass(&rig, 1000);
    assert_int_equal(sent, 2);
    assert_int_equal(emptied, 1); /* it ends when the last message leaves */
}

static uint64_t processor_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* What a client's leaving costs must not depend on the messages of others: ten times as many must
 * not cost ten times as much. */
static uint64_t leave_all_us(size_t each)
{
    rig.service.to_upstream.queue_bytes = 1u << 30;
    for (size_t n = 0; n < each; n++)
        for (size_t i = 0; i < CLIENTS; i++)
            assert_true(say(i, "x"));
    uint64_t before_us = processor_us();
    for (size_t i = 0; i < CLIENTS; i++)
        outbox_from_gone(session, &clients[i]);
    return processor_us() - before_us;
}

static void a_mass_disconnect_does_not_walk_the_messages(void **state)
{
    (void)state;
    leave_all_us(1000);
    uint64_t took_us = leave_all_us(1000);
    assert_true(took_us <
                50000); /* 250 clients leave half a million messages: a walk would take seconds */
}

static void what_goes_upstream_in_a_turn_has_a_bound(void **state)
{
    (void)state;
    rig.service.to_upstream.queue_bytes = 1u << 30;
    for (size_t n = 0; n < 3000; n++)
        assert_true(say(n % CLIENTS, "x"));
    way = OUTBOX_UPSTREAM;
    outbox_pump(session);
    assert_true(sent > 0 && sent <= 500);
    rig_pass(&rig, 0);
    assert_int_equal(sent, 3000);
}

static void a_congested_upstream_stops_the_reading_and_starts_it_again(void **state)
{
    (void)state;
    way = OUTBOX_UPSTREAM;
    answer = STATUS_AGAIN;
    struct outbox_message message = {.sender = "", .opcode = OPCODE_TEXT, .payload = "x", .len = 1};
    for (size_t n = 0; !paused; n++)
        assert_true(n < 10000 && outbox_add(session, &clients[0], true, &message));
    answer = STATUS_OK;
    outbox_link_writable(session);
    rig_pass(&rig, 0);
    assert_int_equal(resumed, 1);
    assert_true(outbox_is_empty(session));
}

static void a_send_that_went_is_acknowledged_and_not_sent_again(void **state)
{
    (void)state;
    way = OUTBOX_UPSTREAM;
    assert_true(say_send(0, 5));
    assert_true(say_send(1, 5));
    assert_int_equal(sent, 1);
    assert_int_equal(acked, 2);
}

static void a_member_sends_once_and_again_after_a_second(void **state)
{
    (void)state;
    rig.session.state = SESSION_MEMBER;
    way = OUTBOX_OWNER;
    assert_true(say(0, "a") && say(1, "b"));
    outbox_flush(session);
    assert_int_equal(told_len, 2);
    outbox_flush(session);
    assert_int_equal(told_len, 2);
    rig_pass(&rig, 2000);
    outbox_flush(session);
    assert_int_equal(told_len, 4);
    confirm(0, 2, NULL, 0);
    assert_true(outbox_is_empty(session));
    assert_int_equal(outbox_confirmed(session), 2);
}

static void with_a_lost_owner_go_raw_messages_that_it_may_have(void **state)
{
    (void)state;
    rig.session.state = SESSION_MEMBER;
    way = OUTBOX_OWNER;
    assert_true(say(0, "a") && say_send(1, 1));
    outbox_flush(session);
    assert_true(say(0, "not told yet"));
    uint64_t before = metric_drops(DROP_OWNER_LOST);
    outbox_owner_lost(session);
    assert_int_equal(metric_drops(DROP_OWNER_LOST) - before, 1);
    rig.session.state = SESSION_OWNER;
    outbox_owner_changed(session);
    go_upstream();
    assert_int_equal(sent, 2);
    assert_string_equal(last_sent, "not told yet");
}

static void members_messages_are_taken_in_their_order(void **state)
{
    (void)state;
    const struct command_entry first = {.number = 1, .opcode = OPCODE_TEXT, .payload = {"a", 1}},
                               third = {.number = 3,
                                        .after = 2,
                                        .opcode = OPCODE_TEXT,
                                        .payload = {"c", 1}};
    const struct envelope_item items[] = {command_item(&first), command_item(&third)};
    const struct message_items commands = {items, 2};
    int member = 0;
    way = OUTBOX_UPSTREAM;
    outbox_member_came(session, &member, "n1");
    outbox_take(session, &member, 1, 0, &commands);
    assert_int_equal(sent, 1);
    assert_int_equal(rig.told_len, 1); /* handed back from 2 on */
    assert_int_equal(rig.told[0].type, ENVELOPE_HANDBACK);
    assert_int_equal(rig.told[0].number, 2);
    outbox_flush(session);
    assert_int_equal(rig.told[1].type, ENVELOPE_CONFIRM);
    assert_int_equal(rig.told[1].number, 1);
    assert_int_equal(outbox_member_sent(session, &member), 1);
    outbox_member_gone(session, &member);
}

/* --- a time to live --- */

static bool say_within(size_t client, uint64_t id, uint64_t ttl_ms)
{
    struct outbox_message message = {.send_id = id,
                                     .sender = "abc",
                                     .opcode = OPCODE_TEXT,
                                     .payload = "x",
                                     .len = 1,
                                     .ttl_ms = ttl_ms};
    return outbox_add(session, &clients[client], false, &message);
}

static void what_did_not_go_within_its_time_never_does(void **state)
{
    (void)state;
    assert_true(say_within(1, 1, 500));
    rig_pass(&rig, 499);
    assert_int_equal(expired, 0);
    rig_pass(&rig, 2);
    assert_int_equal(expired, 1);
    assert_true(outbox_is_empty(session));
    assert_int_equal(emptied, 1);
    way = OUTBOX_UPSTREAM;
    outbox_pump(session);
    assert_true(say_within(1, 1, 500)); /* a repeat gets the same answer, whatever its ttl */
    assert_true(say_within(1, 1, 0));
    assert_int_equal(expired, 3);
    assert_int_equal(sent, 0);
    assert_true(say_within(1, 2, 1));
    assert_int_equal(sent, 1);
    assert_true(say_within(1, 1, 0)); /* also after a later SEND went */
    assert_int_equal(expired, 4);
    assert_int_equal(acked, 1);
    assert_true(say_within(1, 2, 1));
    rig_pass(&rig, 1000);
    assert_int_equal(expired, 4);
    assert_int_equal(acked, 2);
}

static void those_around_one_that_expired_stay(void **state)
{
    (void)state;
    assert_true(say_within(1, 1, 0) && say_within(1, 2, 100) && say_within(1, 3, 0));
    rig_pass(&rig, 200);
    assert_int_equal(expired, 1);
    outbox_check(session);
    way = OUTBOX_UPSTREAM;
    outbox_pump(session);
    assert_int_equal(sent, 2);
    assert_int_equal(acked, 2);
}

/* The turn's clock may have advanced before its timers run. */
static void a_time_that_ends_within_a_turn_counts(void **state)
{
    (void)state;
    assert_true(say_within(1, 1, 100));
    rig.hub.now_ms += 100;
    way = OUTBOX_UPSTREAM;
    outbox_pump(session);
    assert_int_equal(sent, 0);
    assert_int_equal(expired, 1);
}

static void the_owner_decides_on_messages_that_it_may_have(void **state)
{
    (void)state;
    rig.session.state = SESSION_MEMBER;
    way = OUTBOX_OWNER;
    assert_true(say_within(1, 7, 500) && say_within(1, 8, 500));
    rig_pass(&rig, 100);
    outbox_flush(session);
    assert_int_equal(told_len, 2);
    assert_int_equal(told_ttl_ms, 400);
    rig_pass(&rig, 600);
    assert_int_equal(expired, 0);
    const struct expired_entry over = {.client = slice_of("abc"), .send_id = 7};
    const struct envelope_item item = expired_item(&over);
    confirm(0, 0, &item, 1);
    assert_int_equal(expired, 1);
    confirm(0, 2, NULL, 0);
    assert_int_equal(acked, 1);
    assert_true(outbox_is_empty(session));
    assert_true(say_within(1, 7, 500));
    assert_int_equal(expired, 2);
}

static void with_a_lost_owner_its_time_counts_again(void **state)
{
    (void)state;
    rig.session.state = SESSION_MEMBER;
    way = OUTBOX_OWNER;
    assert_true(say_within(1, 7, 500) && say_within(1, 8, 5000));
    outbox_flush(session);
    rig_pass(&rig, 600);
    way = OUTBOX_NOWHERE;
    outbox_owner_lost(session);
    rig_pass(&rig, 1);
    assert_int_equal(expired, 1);
    /* The next owner learns it, so that it knows a repeat that comes over another node */
    way = OUTBOX_OWNER;
    outbox_owner_ready(session);
    outbox_flush(session);
    assert_int_equal(told_expired, 1);
    assert_int_equal(told_len, 3);
    outbox_flush(session);
    assert_int_equal(told_expired, 1);
    outbox_owner_ready(session);
    outbox_flush(session);
    assert_int_equal(told_expired, 2);
}

static void a_members_send_expires_at_the_owner(void **state)
{
    (void)state;
    int member = 0;
    struct command_entry told = {
        .number = 1, .send_id = 7, .sender = slice_of("abc"), .opcode = OPCODE_TEXT, .ttl_ms = 100};
    struct envelope_item items[2];
    items[0] = command_item(&told);
    told = (struct command_entry){.number = 2, .after = 1, .opcode = OPCODE_TEXT};
    items[1] = command_item(&told);
    const struct message_items commands = {items, 2};
    way = OUTBOX_UPSTREAM;
    answer = STATUS_AGAIN;
    outbox_member_came(session, &member, "n1");
    outbox_take(session, &member, 1, 0, &commands);
    rig_pass(&rig, 101);
    outbox_flush(session);
    assert_int_equal(rig.told_len, 1);
    assert_int_equal(rig.told[0].type, ENVELOPE_CONFIRM);
    assert_int_equal(rig.told[0].number, 1);
    assert_int_equal(rig.told[0].len, 1);           /* the one that expired */
    outbox_take(session, &member, 2, 0, &commands); /* that answer was lost */
    outbox_flush(session);
    assert_int_equal(rig.told[1].len, 1);
    answer = STATUS_OK;
    outbox_link_writable(session);
    assert_int_equal(sent, 1);
    outbox_flush(session);
    assert_int_equal(rig.told[2].number, 2);
    assert_int_equal(rig.told[2].len, 0);
    /* A member reports an expired SEND that never came here */
    const struct expired_entry over = {.client = slice_of("abc"), .send_id = 9};
    items[0] = expired_item(&over);
    outbox_take(session, &member, 3, 0, &(struct message_items){items, 1});
    assert_true(say_within(1, 9, 0));
    assert_int_equal(expired, 1);
    outbox_member_gone(session, &member);
}

static void note_expired(const char *client, uint64_t from, uint64_t upto)
{
    const struct envelope_item item = expired_item(
        &(struct expired_entry){.client = slice_of(client), .send_id = from, .upto = upto});
    outbox_note(session, &item);
}

static void a_successor_learns_what_expired(void **state)
{
    (void)state;
    struct envelope_item items[8];
    struct expired_entry over;
    struct send_entry went;
    way = OUTBOX_UPSTREAM;
    assert_true(say_within(1, 3, 0));
    note_expired("abc", 2, 2);
    note_expired("other", 4, 4);
    assert_int_equal(outbox_sends_len(session), 4);
    size_t n = outbox_sends(session, UINT64_MAX, items, 8);
    assert_int_equal(n, 3); /* no SEND of the other client went */
    assert_true(expired_entry_of(&items[0], &over) && over.send_id == 2);
    assert_true(send_entry_of(&items[1], &went) && went.send_id == 3);
    assert_true(expired_entry_of(&items[2], &over) && over.send_id == 4);
    assert_int_equal(outbox_sends(session, UINT64_MAX, items, 2), 1);
}

/* An expired SEND is never acknowledged because a later one went, whichever node learns of it. */
static void the_whole_of_a_client_is_handed_on_or_nothing(void **state)
{
    (void)state;
    struct envelope_item items[2 * EXPIRED_MAX];
    way = OUTBOX_UPSTREAM;
    for (uint64_t id = 2; id <= 4 * EXPIRED_MAX; id += 2)
        note_expired("abc", id, id);
    assert_true(say_within(1, 4 * EXPIRED_MAX + 1, 0)); /* a later SEND goes */
    note_expired("other", 7, 9);
    size_t len = outbox_sends_len(session), n = outbox_sends(session, UINT64_MAX, items, len - 1);
    assert_int_equal(n, 1); /* the row of the other client */
    struct expired_entry over;
    assert_true(expired_entry_of(&items[0], &over) && over.send_id == 7 && over.upto == 9);
    n = outbox_sends(session, UINT64_MAX, items, len);
    struct outbox *before = session->outbox, *successor; /* before owns the items' names */
    outbox_new(session, &events);
    successor = session->outbox;
    for (size_t i = 0; i < n; i++)
        outbox_note(session, &items[i]);
    session->outbox = before;
    outbox_free(session);
    session->outbox = successor;
    sent = expired = 0;
    assert_int_equal(outbox_sends_len(session), len);
    for (uint64_t id = 2; id <= 4 * EXPIRED_MAX; id += 2)
        assert_true(say_within(1, id, 0));
    assert_int_equal(sent, 0);
    assert_int_equal(expired, 2 * EXPIRED_MAX);
}

/* More rows than are remembered one by one */
#define MANY (EXPIRED_MAX + 6)

static void who_has_no_time_goes_though_many_around_it_expired(void **state)
{
    (void)state;
    assert_true(say_within(1, 1, 0) && say_within(1, 2, 1000) && say_within(1, 3, 0));
    for (uint64_t id = 4; id < 4 + MANY; id++)
        assert_true(say_within(1, id, 1000));
    rig_pass(&rig, 1001);
    assert_int_equal(expired, MANY + 1);
    assert_true(say_within(1, 1, 0)); /* repeated while it waits */
    assert_true(say_within(1, 3, 0));
    assert_int_equal(expired, MANY + 1);
    go_upstream();
    assert_int_equal(sent, 2);
    assert_int_equal(expired + acked, MANY + 5);
    assert_true(say_within(1, 1, 0)); /* and repeated after it went */
    assert_int_equal(sent, 2);
    assert_true(acked >= 3);
    size_t before = expired;
    for (uint64_t id = 4; id < 4 + MANY; id++)
        assert_true(say_within(1, id, 0));
    assert_int_equal(sent, 2);
    assert_int_equal(expired, before + MANY);
}

static void one_of_many_that_expires_last_is_not_acknowledged(void **state)
{
    (void)state;
    assert_true(say_within(1, 1, 5000));
    for (uint64_t id = 2; id < 2 + MANY; id++)
        assert_true(say_within(1, id, 1000));
    rig_pass(&rig, 1001);
    assert_int_equal(expired, MANY);
    rig_pass(&rig, 4000);
    assert_int_equal(expired, MANY + 1);
    assert_int_equal(acked, 0);
    assert_true(outbox_is_empty(session));
}

/* One COMMANDS with SENDs from that number on, each after the one before. */
static void take_sends(int *member, uint64_t first, size_t n, uint64_t ttl_ms)
{
    struct envelope_item *items = calloc(n, sizeof(*items));
    assert_non_null(items);
    for (size_t i = 0; i < n; i++) {
        const struct command_entry told = {.number = first + i,
                                           .after = first + i - 1,
                                           .send_id = first + i,
                                           .sender = slice_of("abc"),
                                           .opcode = OPCODE_TEXT,
                                           .ttl_ms = ttl_ms};
        items[i] = command_item(&told);
    }
    outbox_take(session, member, 1, 0, &(struct message_items){items, n});
    free(items);
}

/* Each CONFIRM lists the expired SENDs after the CONFIRM before it. */
static void check_confirms(size_t at, size_t n, uint64_t upto)
{
    size_t found = 0;
    for (; at < rig.told_len; at++) {
        assert_int_equal(rig.told[at].type, ENVELOPE_CONFIRM);
        assert_in_range(rig.told[at].len, 1, 1000);
        assert_int_equal(rig.told[at].offset, found);
        found += rig.told[at].len;
        assert_int_equal(rig.told[at].number, found);
    }
    assert_int_equal(found, n);
    assert_int_equal(found, upto);
}

static void a_member_learns_all_that_expired_before_what_went(void **state)
{
    (void)state;
    int member = 0;
    rig.service.to_upstream.queue_bytes = 1u << 30;
    way = OUTBOX_UPSTREAM;
    answer = STATUS_AGAIN;
    outbox_member_came(session, &member, "n1");
    take_sends(&member, 1, 2500, 100);
    rig_pass(&rig, 101);
    outbox_flush(session);
    check_confirms(0, 2500, 2500);
    size_t before = rig.told_len;
    assert_int_equal(before, 3);
    take_sends(&member, 1, 2500, 1); /* those answers were lost */
    outbox_flush(session);
    check_confirms(before, 2500, 2500);
    assert_int_equal(sent, 0);
    outbox_member_gone(session, &member);
}

static void a_member_acknowledges_none_of_many_that_expired(void **state)
{
    (void)state;
    struct envelope_item items[MANY];
    rig.session.state = SESSION_MEMBER;
    way = OUTBOX_OWNER;
    for (uint64_t id = 1; id <= MANY + 1; id++)
        assert_true(say_within(1, id, 500));
    outbox_flush(session);
    for (size_t i = 0; i < MANY; i++) { /* all but the first; the highest id first */
        const struct expired_entry over = {.client = slice_of("abc"), .send_id = MANY + 1 - i};
        items[i] = expired_item(&over);
    }
    confirm(0, 0, items, MANY);
    assert_int_equal(expired, MANY);
    assert_int_equal(acked, 0);
    assert_int_equal(emptied, 0);
    confirm(0, MANY + 1, NULL, 0);
    assert_int_equal(expired, MANY);
    assert_int_equal(acked, 1);
    assert_true(outbox_is_empty(session));
}

static void a_send_is_not_acknowledged_by_what_follows_a_lost_confirm(void **state)
{
    (void)state;
    rig.session.state = SESSION_MEMBER;
    way = OUTBOX_OWNER;
    assert_true(say(0, "raw") && say_within(1, 7, 500) && say_within(1, 8, 0));
    outbox_flush(session);
    assert_int_equal(told_len, 3);
    confirm(2, 3, NULL, 0); /* the CONFIRM that named 7 was lost */
    assert_int_equal(acked, 0);
    assert_int_equal(outbox_confirmed(session), 1); /* raw messages are not listed */
    outbox_flush(session);
    assert_int_equal(told_len, 5); /* it asks at once */
    confirm(2, 3, NULL, 0);
    outbox_flush(session);
    assert_int_equal(told_len, 5); /* once a second */
    const struct expired_entry over = {.client = slice_of("abc"), .send_id = 7};
    const struct envelope_item item = expired_item(&over);
    confirm(1, 3, &item, 1);
    assert_int_equal(expired, 1);
    assert_int_equal(acked, 1);
    assert_true(outbox_is_empty(session));
}

/* The owner's CONFIRM, and how a member with those messages reads it. */
static void the_owner_repeats_which_of_many_expired(void **state)
{
    (void)state;
    int member = 0;
    struct envelope_item items[3];
    for (uint64_t i = 0; i < 3; i++) {
        const struct command_entry told = {.number = i + 1,
                                           .after = i,
                                           .send_id = i + 1,
                                           .sender = slice_of("abc"),
                                           .opcode = OPCODE_TEXT,
                                           .ttl_ms = i == 1 ? 100 : 0};
        items[i] = command_item(&told);
    }
    way = OUTBOX_UPSTREAM;
    answer = STATUS_AGAIN;
    outbox_member_came(session, &member, "n1");
    outbox_take(session, &member, 1, 0, &(struct message_items){items, 3});
    rig_pass(&rig, 101);
    outbox_flush(session); /* early: it is lost */
    assert_int_equal(rig.told[0].len, 1);
    assert_int_equal(rig.told[0].number, 0);
    answer = STATUS_OK;
    outbox_link_writable(session);
    outbox_flush(session); /* and with those around it */
    assert_int_equal(rig.told_len, 2);
    assert_int_equal(rig.told[1].offset, 0);
    assert_int_equal(rig.told[1].number, 3);
    assert_int_equal(rig.told[1].len, 1);
    assert_int_equal(sent, 2);
    /* That CONFIRM was lost, too: a command that comes again gets its own answer */
    outbox_take(session, &member, 2, 0, &(struct message_items){items, 1});
    assert_int_equal(rig.told[2].offset, 0);
    assert_int_equal(rig.told[2].number, 1);
    assert_int_equal(rig.told[2].len, 0);
    outbox_take(session, &member, 3, 0, &(struct message_items){items + 1, 2});
    assert_int_equal(rig.told[3].offset, 1);
    assert_int_equal(rig.told[3].number, 3);
    assert_int_equal(rig.told[3].len, 1);
    outbox_member_gone(session, &member);
}

static void what_expired_frees_the_room_of_its_payload(void **state)
{
    (void)state;
    int member = 0;
    char *large = calloc(1, 100000);
    assert_non_null(large);
    struct envelope_item items[2];
    for (uint64_t i = 0; i < 2; i++) {
        const struct command_entry told = {.number = i + 1,
                                           .after = i,
                                           .send_id = i + 1,
                                           .sender = slice_of("abc"),
                                           .opcode = OPCODE_TEXT,
                                           .payload = {large, 100000},
                                           .ttl_ms = i ? 100 : 0};
        items[i] = command_item(&told);
    }
    way = OUTBOX_UPSTREAM;
    answer = STATUS_AGAIN;
    outbox_member_came(session, &member, "n1");
    outbox_take(session, &member, 1, 0, &(struct message_items){items, 2});
    assert_true(outbox_bytes(session) > 200000);
    rig_pass(&rig, 101);
    assert_true(outbox_bytes(session) < 101000);
    outbox_check(session);
    outbox_link_down(session); /* both are the member's again */
    assert_int_equal(rig.told[0].type, ENVELOPE_HANDBACK);
    assert_int_equal(rig.told[0].number, 1);
    outbox_member_gone(session, &member);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_wait_and_go_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_bound_counts_what_messages_cost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_queue_takes_one_of_any_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_refused_sends_nothing_more_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_waits_as_long_as_is_promised_and_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(deadlines_of_many_are_spread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_of_who_has_left_still_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_message_of_who_has_left_ends_the_session, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_mass_disconnect_does_not_walk_the_messages, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_goes_upstream_in_a_turn_has_a_bound, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_congested_upstream_stops_the_reading_and_starts_it_again,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_send_that_went_is_acknowledged_and_not_sent_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_member_sends_once_and_again_after_a_second, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(with_a_lost_owner_go_raw_messages_that_it_may_have, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(members_messages_are_taken_in_their_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_did_not_go_within_its_time_never_does, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(those_around_one_that_expired_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_time_that_ends_within_a_turn_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_owner_decides_on_messages_that_it_may_have, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(with_a_lost_owner_its_time_counts_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_members_send_expires_at_the_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_successor_learns_what_expired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_whole_of_a_client_is_handed_on_or_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_has_no_time_goes_though_many_around_it_expired, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_of_many_that_expires_last_is_not_acknowledged, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_member_learns_all_that_expired_before_what_went, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_member_acknowledges_none_of_many_that_expired, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_send_is_not_acknowledged_by_what_follows_a_lost_confirm,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_owner_repeats_which_of_many_expired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_expired_frees_the_room_of_its_payload, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
