/* Input that is held until it can be taken, and the row of those who wait for a share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "front/front_private.h"

/* A front with two connections, whose sockets are closed: to wake one does nothing. */
struct bench {
    struct front front;
    struct conn a, b;
};

static int setup(void **state)
{
    struct bench *bench = test_calloc(1, sizeof(*bench));
    assert_int_equal(loop_new(&bench->front.loop), STATUS_OK);
    bench->front.share_timer = loop_timer_new(bench->front.loop, "client_share", share_grant,
                                              &bench->front);
    assert_non_null(bench->front.share_timer);
    bench->a.front = bench->b.front = &bench->front;
    bench->a.deflate = bench->b.deflate = true;
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    held_drop(&bench->a);
    held_drop(&bench->b);
    loop_timer_free(bench->front.share_timer);
    loop_free(bench->front.loop);
    test_free(bench);
    return 0;
}

static void add(struct conn *conn, const char *text)
{
    assert_true(held_add(conn, (const uint8_t *)text, strlen(text)));
}

static void gives_the_pieces_in_their_order(void **state)
{
    struct bench *bench = *state;
    size_t len = 0;
    assert_false(held_any(&bench->a));
    add(&bench->a, "one ");
    add(&bench->a, "two ");
    add(&bench->a, "three");
    assert_true(held_any(&bench->a));
    uint8_t *bytes = held_take(&bench->a, &len);
    assert_int_equal(len, strlen("one two three"));
    assert_memory_equal(bytes, "one two three", len);
    assert_false(held_any(&bench->a));
    free(bytes);
}

/* What is taken may be held again in part, before it is settled. */
static void holds_again_what_was_left(void **state)
{
    struct bench *bench = *state;
    size_t len = 0;
    add(&bench->a, "taken, left");
    uint8_t *bytes = held_take(&bench->a, &len);
    assert_true(held_add(&bench->a, bytes + 7, len - 7));
    free(bytes);
    held_settle(&bench->a);
    assert_true(held_any(&bench->a));
    bytes = held_take(&bench->a, &len);
    assert_int_equal(len, 4);
    assert_memory_equal(bytes, "left", len);
    free(bytes);
}

static void an_idle_connection_has_no_object(void **state)
{
    struct bench *bench = *state;
    size_t len = 0;
    add(&bench->a, "x");
    free(held_take(&bench->a, &len));
    assert_non_null(bench->a.held);
    held_settle(&bench->a);
    assert_null(bench->a.held);
    held_settle(&bench->a);
    held_drop(&bench->a);
    assert_null(bench->a.held);
}

/* Its place in the row is in the object. */
static void who_waits_for_a_share_keeps_the_object(void **state)
{
    struct bench *bench = *state;
    size_t len = 0;
    bench->a.share_bytes = -3 * SHARE_BYTES / 2;
    bench->b.share_bytes = -7 * SHARE_BYTES / 2;
    add(&bench->a, "x");
    add(&bench->b, "y");
    share_wait(&bench->a);
    share_wait(&bench->a);
    share_wait(&bench->b);
    assert_int_equal(bench->front.sharing_len, 2);
    free(held_take(&bench->a, &len));
    held_settle(&bench->a);
    assert_ptr_equal(bench->front.sharing, bench->a.held);

    share_grant(&bench->front); /* two rounds: the first one is out of debt, and holds nothing */
    assert_null(bench->a.held);
    assert_int_equal(bench->front.sharing_len, 1);
    assert_ptr_equal(bench->front.sharing, bench->b.held);

    share_grant(&bench->front);
    assert_null(bench->front.sharing);
    assert_true(held_any(&bench->b));
}

static void a_drop_leaves_the_row(void **state)
{
    struct bench *bench = *state;
    add(&bench->a, "x");
    add(&bench->b, "y");
    share_wait(&bench->a);
    share_wait(&bench->b);
    held_drop(&bench->a);
    assert_null(bench->a.held);
    assert_int_equal(bench->front.sharing_len, 1);
    assert_ptr_equal(bench->front.sharing, bench->b.held);
    share_forget(&bench->a);
    assert_int_equal(bench->front.sharing_len, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gives_the_pieces_in_their_order),
        TEST(holds_again_what_was_left),
        TEST(an_idle_connection_has_no_object),
        TEST(who_waits_for_a_share_keeps_the_object),
        TEST(a_drop_leaves_the_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
