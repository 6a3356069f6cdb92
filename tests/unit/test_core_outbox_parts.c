/* The parts of the outbox, each alone: the queue with its cursor, messages forwarded to the owner,
 * messages from members, and expired SENDs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "core/client/subscription.h"
#include "core/session/outbox_expiry.h"
#include "core/session/outbox_forward.h"
#include "core/session/outbox_members.h"
#include "core/session/outbox_upstream.h"
#include "core_rig.h"

static struct core_rig rig;
static struct session *session;
static struct subscription client, other;
static struct outbox_queue queue;
static struct outbox_forward forward;
static struct outbox_members members;
static struct outbox_expiry expiry;
static size_t waited, due, over, again, sent, paused, resumed;
static uint64_t last_number;
static enum status answer;

static void on_waited(struct outbox_source *source)
{
    waited++;
    outbox_queue_drop_source(&queue, source);
}

static void on_due(struct session *of)
{
    (void)of;
    due++;
}

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_MEMBER);
    session = &rig.session;
    waited = due = over = sent = paused = resumed = 0;
    last_number = 0;
    answer = STATUS_OK;
    outbox_queue_init(&queue, &rig.hub.timers, on_waited, NULL);
    outbox_forward_init(&forward, session, &queue);
    outbox_members_init(&members, session, &queue);
    outbox_expiry_init(&expiry, session, &queue, on_due);
    return 0;
}

static void check(void)
{
    outbox_queue_check(&queue);
    outbox_forward_check(&forward);
    outbox_members_check(&members);
}

static int tear_down(void **state)
{
    (void)state;
    check();
    outbox_members_fini(&members);
    outbox_queue_fini(&queue);
    outbox_expiry_fini(&expiry);
    rig_fini(&rig);
    return 0;
}

static struct outbox_item *add(struct subscription *from, uint64_t send_id, uint64_t ttl_ms)
{
    const struct outbox_message message = {.send_id = send_id,
                                           .sender = send_id ? "one" : "",
                                           .opcode = OPCODE_TEXT,
                                           .payload = "text",
                                           .len = 4};
    struct outbox_source *source = outbox_queue_find(&queue, from);
    struct outbox_item *item = outbox_item_new(&message);
    if (!source)
        source = outbox_queue_client(&queue, from, 0);
    item->number = ++last_number;
    item->expires_ms = rig.hub.now_ms + 30000;
    item->ttl_at_ms = ttl_ms ? rig.hub.now_ms + ttl_ms : 0;
    outbox_queue_add(&queue, source, item);
    outbox_expiry_add(&expiry, item->ttl_at_ms);
    return item;
}

/* Returns how many messages the next COMMANDS has. */
static size_t next_commands(bool messages)
{
    struct envelope_item items[COMMANDS_ITEMS];
    return outbox_forward_next(&forward, items, 0, messages).commands.len;
}

static void the_cursor_moves_on_with_the_message_it_stands_at(void **state)
{
    (void)state;
    struct outbox_item *first = add(&client, 0, 0), *second = add(&other, 0, 0);
    assert_ptr_equal(queue.cursor, first);
    outbox_queue_drop(&queue, first);
    assert_ptr_equal(queue.cursor, second);
    outbox_queue_drop(&queue, second);
    assert_null(queue.cursor);
    assert_int_equal(queue.bytes, 0);
}

static void who_has_left_leaves_its_messages_until_they_have_waited_too_long(void **state)
{
    (void)state;
    add(&client, 0, 0);
    outbox_queue_orphan(&queue, outbox_queue_find(&queue, &client));
    assert_null(outbox_queue_find(&queue, &client));
    assert_int_equal(queue.len, 1);
    rig_pass(&rig, 29999);
    assert_int_equal(waited, 0);
    rig_pass(&rig, 1);
    assert_int_equal(waited, 1);
    assert_int_equal(queue.len, 0);
}

static void what_is_forwarded_is_not_forwarded_again_before_it_is_looked_for(void **state)
{
    (void)state;
    add(&client, 0, 0);
    add(&client, 0, 0);
    assert_true(outbox_forward_is_due(&forward));
    assert_int_equal(next_commands(true), 2);
    assert_false(outbox_forward_is_due(&forward));
    rig_pass(&rig, ASK_AGAIN_MS - 1);
    outbox_forward_look(&forward);
    assert_false(outbox_forward_is_due(&forward));
    rig_pass(&rig, 1);
    outbox_forward_look(&forward);
    assert_int_equal(next_commands(true), 2);
    outbox_forward_answered(&forward);
    rig_pass(&rig, ASK_AGAIN_MS - 1);
    outbox_forward_look(&forward);
    assert_false(outbox_forward_is_due(&forward));
}

static void what_is_handed_back_waits_for_the_owner_or_five_seconds(void **state)
{
    (void)state;
    struct outbox_item *first = add(&client, 0, 0), *second = add(&client, 0, 0);
    next_commands(true);
    uint64_t number = forward.number;
    assert_true(outbox_forward_handed_back(&forward, second->number, number));
    assert_true(first->state == OUTBOX_ITEM_FORWARDED && second->state == OUTBOX_ITEM_WAITING);
    assert_false(outbox_forward_is_due(&forward));
    check();
    rig_pass(&rig, 4999);
    outbox_forward_look(&forward);
    assert_false(outbox_forward_is_due(&forward));
    rig_pass(&rig, 1);
    outbox_forward_look(&forward);
    assert_int_equal(next_commands(true), 2);
    /* A HANDBACK of an owner that has not seen the last COMMANDS does not apply to it */
    assert_false(outbox_forward_handed_back(&forward, first->number, number));
    assert_int_equal(second->state, OUTBOX_ITEM_FORWARDED);
}

static void of_a_lost_owner_raw_messages_are_dropped_and_sends_stay(void **state)
{
    (void)state;
    add(&client, 0, 0);
    struct outbox_item *send = add(&client, 7, 0);
    next_commands(true);
    struct outbox_item *later = add(&client, 0, 0);
    outbox_forward_owner_lost(&forward);
    assert_int_equal(queue.len, 2);
    assert_ptr_equal(queue.first, send);
    assert_ptr_equal(queue.cursor, send);
    assert_ptr_equal(send->next, later);
    assert_int_equal(outbox_forward_confirmed(&forward, last_number), send->number - 1);
    assert_int_equal(outbox_forward_drop_unsent(&forward, outbox_queue_find(&queue, &client)), 1);
    assert_ptr_equal(queue.first, later);
}

static struct command_entry entry(uint64_t number, uint64_t send_id)
{
    return (struct command_entry){.number = number,
                                  .send_id = send_id,
                                  .opcode = OPCODE_TEXT,
                                  .sender = slice_of(send_id ? "one" : ""),
                                  .payload = slice_of("text")};
}

static void a_member_is_confirmed_once_a_turn_and_handed_back_what_waits(void **state)
{
    (void)state;
    int key;
    session->state = SESSION_OWNER;
    outbox_members_add(&members, &key, "node");
    struct outbox_member *member = outbox_members_find(&members, &key);
    for (uint64_t number = 1; number <= 3; number++) {
        const struct command_entry command = entry(number, 0);
        assert_non_null(outbox_members_take(&members, member, &command, 0));
    }
    assert_int_equal(member->taken, 3);
    for (uint64_t number = 1; number <= 2; number++) {
        outbox_members_sent(&members, &member->source, number);
        outbox_queue_drop(&queue, queue.first);
    }
    check();
    outbox_members_flush(&members);
    assert_int_equal(rig.told_len, 1);
    assert_int_equal(rig.told[0].type, ENVELOPE_CONFIRM);
    outbox_members_flush(&members);
    assert_int_equal(rig.told_len, 1);
    outbox_members_hand_back_all(&members);
    assert_int_equal(rig.told[1].type, ENVELOPE_HANDBACK);
    assert_int_equal(member->taken, 2);
    assert_int_equal(queue.len, 0);
}

static void a_member_that_goes_takes_its_messages_and_its_news_along(void **state)
{
    (void)state;
    int key, stays;
    session->state = SESSION_OWNER;
    outbox_members_add(&members, &key, "gone");
    outbox_members_add(&members, &stays, "stays");
    struct outbox_member *member = outbox_members_find(&members, &key);
    const struct command_entry command = entry(1, 4);
    assert_non_null(outbox_members_take(&members, member, &command, 0));
    outbox_members_expired(&members, &member->source, "one", 4);
    outbox_members_confirm(&members, outbox_members_find(&members, &stays));
    outbox_members_remove(&members, &key);
    check();
    assert_int_equal(queue.len, 0);
    outbox_members_flush(&members);
    assert_int_equal(rig.told_len, 1);
    assert_string_equal(rig.told[0].to, "stays");
}

static void on_over(void *ctx, struct outbox_item *item)
{
    (void)ctx;
    over++;
    outbox_queue_drop(&queue, item);
}

static void on_again(void *ctx, struct outbox_item *item)
{
    (void)ctx;
    again++;
    outbox_queue_drop(&queue, item);
}

static void a_send_that_went_before_does_not_expire_when_it_comes_again(void **state)
{
    (void)state;
    again = 0;
    outbox_expiry_note_sent(&expiry, "one", 2);
    add(&client, 2, 500);
    rig_pass(&rig, 500);
    outbox_expiry_run(&expiry, on_over, on_again, NULL);
    assert_int_equal(again, 1);
    assert_int_equal(over, 0);
    assert_false(outbox_expiry_refuses(&expiry, "one", 2));
}

static void a_send_whose_time_is_over_never_goes_but_where_an_owner_has_it(void **state)
{
    (void)state;
    add(&client, 1, 500);
    next_commands(true);
    add(&client, 2, 1000);
    rig_pass(&rig, 500);
    assert_int_equal(due, 1);
    outbox_expiry_run(&expiry, on_over, on_again, NULL);
    assert_int_equal(over, 0); /* the owner decides on the first */
    rig_pass(&rig, 500);
    outbox_expiry_run(&expiry, on_over, on_again, NULL);
    assert_int_equal(over, 1);
    assert_true(outbox_expiry_refuses(&expiry, "one", 2));
    assert_false(outbox_expiry_refuses(&expiry, "one", 1));
    outbox_expiry_check(&expiry);
    struct envelope_item items[4];
    assert_int_equal(outbox_expiry_report(&expiry, items, 4), 1);
    assert_false(outbox_expiry_has_report(&expiry));
    outbox_expiry_report_again(&expiry);
    assert_true(outbox_expiry_has_report(&expiry));
}

static void what_is_to_be_done_with_a_send_follows_from_those_before(void **state)
{
    (void)state;
    struct outbox_item *item = add(&client, 5, 100);
    assert_int_equal(outbox_expiry_verdict(&expiry, item), VERDICT_SEND);
    outbox_expiry_note_sent(&expiry, "one", 5);
    assert_int_equal(outbox_expiry_verdict(&expiry, item), VERDICT_SENT);
    struct outbox_item *next = add(&client, 6, 100);
    rig.hub.now_ms += 100;
    assert_int_equal(outbox_expiry_verdict(&expiry, next), VERDICT_EXPIRED);
    assert_true(outbox_expiry_refuses(&expiry, "one", 6));
}

static enum status on_send(struct session *of, enum opcode opcode, const void *payload, size_t len)
{
    (void)of, (void)opcode, (void)payload, (void)len;
    sent += answer == STATUS_OK;
    return answer;
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

static void reading_stops_at_half_of_the_queue_and_goes_on_at_a_quarter(void **state)
{
    (void)state;
    static const struct outbox_events events = {
        .send = on_send, .paused = on_paused, .resumed = on_resumed};
    struct outbox_upstream upstream;
    outbox_upstream_init(&upstream, session, &queue, &events);
    assert_true(outbox_upstream_send(&upstream, OPCODE_TEXT, "x", 1));
    answer = STATUS_AGAIN;
    assert_false(outbox_upstream_send(&upstream, OPCODE_TEXT, "x", 1));
    assert_int_equal(upstream.state, OUTBOX_CONGESTED);
    outbox_upstream_open(&upstream);
    rig.lease = false;
    assert_false(outbox_upstream_send(&upstream, OPCODE_TEXT, "x", 1));
    assert_int_equal(upstream.state, OUTBOX_WRITABLE);
    assert_int_equal(sent, 1);
    size_t most = rig.service.to_upstream.queue_bytes;
    while (queue.bytes <= most / 2) {
        assert_int_equal(paused, 0);
        add(&client, 0, 0);
        outbox_upstream_maybe_pause(&upstream, &client);
    }
    assert_int_equal(paused, 1);
    while (queue.bytes > most / 4) {
        assert_int_equal(resumed, 0);
        outbox_queue_drop(&queue, queue.first);
        outbox_upstream_maybe_resume(&upstream);
    }
    assert_int_equal(resumed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_cursor_moves_on_with_the_message_it_stands_at, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            who_has_left_leaves_its_messages_until_they_have_waited_too_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            what_is_forwarded_is_not_forwarded_again_before_it_is_looked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_handed_back_waits_for_the_owner_or_five_seconds,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_a_lost_owner_raw_messages_are_dropped_and_sends_stay,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_member_is_confirmed_once_a_turn_and_handed_back_what_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_member_that_goes_takes_its_messages_and_its_news_along,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_send_that_went_before_does_not_expire_when_it_comes_again,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_send_whose_time_is_over_never_goes_but_where_an_owner_has_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_to_be_done_with_a_send_follows_from_those_before,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(reading_stops_at_half_of_the_queue_and_goes_on_at_a_quarter,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
