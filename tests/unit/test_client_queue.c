/* The queue of a client: its cost, what is dropped at its bound, and the note left in its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/client/queue.h"
#include "core/client/subscription.h"
#include "core/pubs.h"

static struct queue_spares spares;
static struct subscription first, second;

static void add(struct queue *queue, struct subscription *to, uint64_t offset, size_t len)
{
    struct publication *publication = publication_new(OPCODE_TEXT, len);
    memset(publication->payload, 'x', len);
    publication->at = (struct position){7, offset};
    queue_add(queue, to, publication);
    publication_unref(publication);
    queue_check(queue);
}

static void assert_note(const struct queue *queue, size_t i, uint64_t from, uint64_t to)
{
    const struct publication *note = queue_at(queue, i)->publication;
    assert_true(is_gap_note(note));
    assert_int_equal(note->at.epoch, 7);
    assert_int_equal(note->at.offset, from);
    assert_int_equal(gap_note_to(note), to);
}

static void assert_offset(const struct queue *queue, size_t i, uint64_t offset)
{
    assert_false(is_gap_note(queue_at(queue, i)->publication));
    assert_int_equal(queue_at(queue, i)->publication->at.offset, offset);
}

static void items_leave_in_the_order_in_which_they_came(void **state)
{
    (void)state;
    struct queue *queue = queue_take(&spares);
    for (uint64_t round = 0; round < 5; round++) {
        for (uint64_t i = 1; i <= 21; i++) /* more than the ring's first size */
            add(queue, &first, i, i);
        for (uint64_t i = 1; i <= 21; i++) {
            assert_offset(queue, 0, i);
            queue_pop(queue, 1);
        }
        assert_int_equal(queue->bytes, 0);
    }
    queue_return(&spares, queue);
}

static void messages_without_content_cost_memory_too(void **state)
{
    (void)state;
    const struct queue_rules rules = {SLOW_DROP_OLDEST, 4096, false};
    struct queue *queue = queue_take(&spares);
    for (uint64_t i = 1; i <= 10000; i++) {
        assert_int_equal(queue_make_room(queue, &rules, &first, queue_cost(0)), STATUS_OK);
        add(queue, &first, i, 0);
    }
    assert_true(queue->bytes <= rules.bytes);
    assert_true(queue->len * sizeof(struct publication) <= rules.bytes);
    assert_offset(queue, queue->len - 1, 10000);
    queue_return(&spares, queue);
}

static void an_empty_queue_takes_one_message_of_any_size(void **state)
{
    (void)state;
    const struct queue_rules rules = {SLOW_CLOSE, 100, true};
    struct queue *queue = queue_take(&spares);
    assert_int_equal(queue_make_room(queue, &rules, &first, queue_cost(5000)), STATUS_OK);
    add(queue, &first, 1, 5000);
    assert_int_equal(queue_make_room(queue, &rules, &first, queue_cost(0)), STATUS_LIMIT);
    assert_int_equal(queue->len, 1);
    queue_return(&spares, queue);
}

static void one_note_covers_all_that_were_dropped_in_a_row(void **state)
{
    (void)state;
    const struct queue_rules rules = {SLOW_DROP_OLDEST, 4 * queue_cost(100), true};
    struct queue *queue = queue_take(&spares);
    for (uint64_t i = 1; i <= 50; i++) {
        assert_int_equal(queue_make_room(queue, &rules, &first, queue_cost(100)), STATUS_OK);
        add(queue, &first, i, 100);
    }
    assert_note(queue, 0, 1, 50 - (queue->len - 1));
    for (size_t i = 1; i < queue->len; i++)
        assert_offset(queue, i, 50 - (queue->len - 1) + i);
    queue_return(&spares, queue);
}

/* Each session in a queue has one note, not one for each dropped message. */
static void a_note_covers_a_session_across_frames_of_others(void **state)
{
    (void)state;
    struct queue *queue = queue_take(&spares);
    const struct queue_rules rules = {
        .policy = SLOW_DROP_OLDEST, .bytes = 10 * queue_cost(10), .notes = true};
    size_t largest = 0;
    for (uint64_t i = 1; i <= 200; i++) {
        assert_int_equal(queue_make_room(queue, &rules, &first, queue_cost(10)), STATUS_OK);
        add(queue, &first, i, 10);
        assert_int_equal(queue_make_room(queue, &rules, &second, queue_cost(10)), STATUS_OK);
        add(queue, &second, i, 10);
        largest = queue->bytes > largest ? queue->bytes : largest;
    }
    assert_true(largest <= rules.bytes);
    size_t notes = 0;
    for (size_t i = 0; i < queue->len; i++)
        notes += is_gap_note(queue_at(queue, i)->publication);
    assert_int_equal(notes, 2);
    queue_return(&spares, queue);
}

static void raw_clients_get_no_notes(void **state)
{
    (void)state;
    const struct queue_rules rules = {SLOW_DROP_OLDEST, 2 * queue_cost(100), false};
    struct queue *queue = queue_take(&spares);
    for (uint64_t i = 1; i <= 9; i++) {
        assert_int_equal(queue_make_room(queue, &rules, &first, queue_cost(100)), STATUS_OK);
        add(queue, &first, i, 100);
    }
    assert_int_equal(queue->len, 2);
    assert_offset(queue, 0, 8);
    assert_offset(queue, 1, 9);
    queue_return(&spares, queue);
}

static void latest_drops_what_came_before_of_that_session_alone(void **state)
{
    (void)state;
    const struct queue_rules rules = {SLOW_LATEST, 4 * queue_cost(100), true};
    struct queue *queue = queue_take(&spares);
    add(queue, &second, 1, 100);
    for (uint64_t i = 1; i <= 3; i++)
        add(queue, &first, i, 100);
    assert_int_equal(queue_make_room(queue, &rules, &first, queue_cost(100)), STATUS_OK);
    add(queue, &first, 4, 100);
    assert_int_equal(queue->len, 3);
    assert_ptr_equal(queue_at(queue, 0)->subscription, &second);
    assert_offset(queue, 0, 1);
    assert_note(queue, 1, 1, 3);
    assert_offset(queue, 2, 4);
    queue_return(&spares, queue);
}

static void own_frames_are_never_dropped_but_have_a_bound(void **state)
{
    (void)state;
    const struct queue_rules rules = {SLOW_DROP_OLDEST, 1000, true};
    struct queue *queue = queue_take(&spares);
    size_t n = 0;
    while (queue_make_room(queue, &rules, NULL, 50) == STATUS_OK && n < 1000) {
        queue_add_wire(queue, wire_new(50));
        queue_check(queue);
        n++;
    }
    assert_in_range(n, 5, 20);
    assert_int_equal(queue->len, n);
    queue_return(&spares, queue);
}

static void a_session_that_is_left_leaves_the_rest_in_order(void **state)
{
    (void)state;
    struct queue *queue = queue_take(&spares);
    for (uint64_t i = 1; i <= 9; i++) {
        add(queue, i % 3 ? &first : &second, i, 10);
        queue_add_wire(queue, wire_new(1));
    }
    assert_int_equal(queue_forget(queue, &first), 6);
    queue_check(queue);
    assert_int_equal(queue->len, 12);
    assert_int_equal(queue_keep_own(queue), 3);
    queue_check(queue);
    assert_int_equal(queue->len, 9);
    queue_return(&spares, queue);
}

static bool is_first(const struct subscription *subscription)
{
    return subscription == &first;
}

static void what_is_revoked_leaves_a_note_where_one_is_understood(void **state)
{
    (void)state;
    for (int notes = 0; notes < 2; notes++) {
        struct queue *queue = queue_take(&spares);
        add(queue, &second, 1, 10);
        for (uint64_t i = 5; i <= 8; i++)
            add(queue, &first, i, 10);
        add(queue, &second, 2, 10);
        assert_int_equal(queue_revoke(queue, is_first, notes), 4);
        queue_check(queue);
        assert_int_equal(queue->len, notes ? 3 : 2);
        if (notes)
            assert_note(queue, 1, 5, 8);
        assert_offset(queue, 0, 1);
        assert_offset(queue, queue->len - 1, 2);
        queue_return(&spares, queue);
    }
}

/* The bytes of a note name its end. Once they are made (for a write that the socket did not take),
 * the note can't cover later messages. */
static void a_note_in_bytes_covers_no_more(void **state)
{
    (void)state;
    struct queue *queue = queue_take(&spares);
    struct publication *note = gap_note_new(7, 1, 4);
    assert_non_null(publication_encode(note, 7, wire_new(1)));
    queue_add(queue, &first, note);
    publication_unref(note);
    add(queue, &first, 5, 10);
    add(queue, &first, 6, 10);
    assert_int_equal(queue_revoke(queue, is_first, true), 2);
    queue_check(queue);
    assert_int_equal(queue->len, 2);
    assert_note(queue, 0, 1, 4);
    assert_note(queue, 1, 5, 6);
    queue_return(&spares, queue);
}

static void spare_queues_have_a_bound(void **state)
{
    (void)state;
#define MANY 1000
    static struct queue *queues[MANY];
    for (size_t i = 0; i < MANY; i++) {
        queues[i] = queue_take(&spares);
        add(queues[i], &first, 1, 1);
    }
    for (size_t i = 0; i < MANY; i++)
        queue_return(&spares, queues[i]);
    assert_in_range(spares.len, 1, 256);
    queue_free_spares(&spares);
    assert_int_equal(spares.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_leave_in_the_order_in_which_they_came),
        cmocka_unit_test(messages_without_content_cost_memory_too),
        cmocka_unit_test(an_empty_queue_takes_one_message_of_any_size),
        cmocka_unit_test(one_note_covers_all_that_were_dropped_in_a_row),
        cmocka_unit_test(a_note_covers_a_session_across_frames_of_others),
        cmocka_unit_test(raw_clients_get_no_notes),
        cmocka_unit_test(latest_drops_what_came_before_of_that_session_alone),
        cmocka_unit_test(own_frames_are_never_dropped_but_have_a_bound),
        cmocka_unit_test(a_session_that_is_left_leaves_the_rest_in_order),
        cmocka_unit_test(what_is_revoked_leaves_a_note_where_one_is_understood),
        cmocka_unit_test(a_note_in_bytes_covers_no_more),
        cmocka_unit_test(spare_queues_have_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
