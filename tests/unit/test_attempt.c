/* Which client's URL an attempt to open an upstream takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/session/attempt.h"

static struct attempt attempt;

static int tear_down(void **state)
{
    (void)state;
    attempt_fini(&attempt);
    return 0;
}

static uint16_t note(const char *text)
{
    return attempt_note(&attempt, text, strlen(text));
}

static void nothing_is_chosen_where_nobody_came(void **state)
{
    (void)state;
    assert_null(attempt_choose(&attempt));
    assert_null(attempt_current(&attempt));
    assert_false(attempt_has_fresh(&attempt));
    assert_false(attempt_is_attended(&attempt));
    attempt_leave(&attempt, ATTEMPT_NONE);
    assert_null(attempt_own(&attempt, 0));
}

static void the_first_is_taken_until_it_is_refused(void **state)
{
    (void)state;
    attempt_come(&attempt, "/a/V", "");
    attempt_come(&attempt, "/b/V", "?t=1");
    attempt_come(&attempt, "/c/V", "");
    for (int i = 0; i < 3; i++) {
        assert_string_equal(attempt_choose(&attempt), "/a/V");
        attempt_end(&attempt, i == 1 ? ATTEMPT_TAKEN : ATTEMPT_UNTRIED);
    }
    attempt_end(&attempt, ATTEMPT_REFUSED);
    assert_true(attempt.last_refused);
    assert_true(attempt_has_fresh(&attempt));
    assert_string_equal(attempt_choose(&attempt), "/b/V?t=1");
    attempt_end(&attempt, ATTEMPT_TAKEN);
    assert_string_equal(attempt_choose(&attempt), "/b/V?t=1");
}

static void where_all_are_refused_each_has_its_turn(void **state)
{
    (void)state;
    static const char *const turns[] = {"/a", "/b", "/c", "/a", "/b", "/c", "/a"};
    attempt_come(&attempt, "/a", "");
    attempt_come(&attempt, "/b", "");
    attempt_come(&attempt, "/c", "");
    for (size_t i = 0; i < sizeof(turns) / sizeof(turns[0]); i++) {
        assert_string_equal(attempt_choose(&attempt), turns[i]);
        attempt_end(&attempt, ATTEMPT_REFUSED);
    }
    assert_false(attempt_has_fresh(&attempt));
    attempt_come(&attempt, "/d", "");
    assert_string_equal(attempt_choose(&attempt), "/d");
    attempt_end(&attempt, ATTEMPT_REFUSED);
    assert_string_equal(attempt_choose(&attempt), "/a");
    attempt_end(&attempt, ATTEMPT_TAKEN); /* the backend works again: keep this URL */
    assert_string_equal(attempt_choose(&attempt), "/a");
}

static void who_has_left_is_passed_over(void **state)
{
    (void)state;
    uint16_t a = attempt_come(&attempt, "/a", ""), again = attempt_come(&attempt, "/a", "");
    uint16_t b = attempt_come(&attempt, "/b", "");
    assert_int_equal(a, again);
    assert_string_equal(attempt_choose(&attempt), "/a");
    attempt_leave(&attempt, a);
    assert_true(attempt_is_attended(&attempt));
    assert_string_equal(attempt_choose(&attempt), "/a");
    attempt_leave(&attempt, again);
    assert_false(attempt_is_attended(&attempt));
    assert_string_equal(attempt_choose(&attempt), "/b");
    attempt_leave(&attempt, b);
    assert_string_equal(attempt_choose(&attempt), "/b"); /* no client is left: the last URL */
}

static void clients_of_other_nodes_count(void **state)
{
    (void)state;
    uint16_t a = attempt_come(&attempt, "/a", "");
    uint16_t b = note("/b"), c = note("/c");
    assert_true(b && c && b != c);
    assert_int_equal(note("/b"), b);
    attempt_choose(&attempt);
    attempt_leave(&attempt, a);
    attempt_set_far(&attempt, c);
    assert_string_equal(attempt_choose(&attempt), "/c");
    attempt_end(&attempt, ATTEMPT_REFUSED);
    attempt_set_far(&attempt, note("/b") | note("/c"));
    assert_string_equal(attempt_choose(&attempt), "/b");
    assert_null(attempt_own(&attempt, 0)); /* nothing to tell the owner */
}

static void what_the_last_owner_used_is_taken_once_more(void **state)
{
    (void)state;
    attempt_come(&attempt, "/a", "");
    attempt_adopt(&attempt, "/z", 2);
    assert_string_equal(attempt_choose(&attempt), "/z");
    attempt_end(&attempt, ATTEMPT_UNTRIED);
    assert_string_equal(attempt_choose(&attempt), "/a"); /* no client with the other URL is left */
}

static void fill(int from, int to, uint16_t handles[])
{
    for (int i = from; i < to; i++) {
        char text[16];
        snprintf(text, sizeof(text), "/%d", i);
        handles[i] = attempt_come(&attempt, text, "");
    }
}

static void places_are_bounded_and_a_refused_one_gives_way(void **state)
{
    (void)state;
    uint16_t handles[ATTEMPT_REQUESTS + 3];
    fill(0, ATTEMPT_REQUESTS, handles);
    assert_int_equal(attempt_come(&attempt, "/more", ""), ATTEMPT_NONE);
    assert_int_equal(note("/far"), 0);
    for (int i = 0; i < 2; i++) { /* 0 and 1 */
        attempt_choose(&attempt);
        attempt_end(&attempt, ATTEMPT_REFUSED);
    }
    fill(ATTEMPT_REQUESTS, ATTEMPT_REQUESTS + 1, handles);
    assert_int_not_equal(handles[ATTEMPT_REQUESTS], ATTEMPT_NONE);
    attempt_leave(&attempt, handles[0]); /* a handle whose place has a new client */
    for (int i = 1; i < ATTEMPT_REQUESTS; i++)
        attempt_leave(&attempt, handles[i]);
    assert_string_equal(attempt_choose(&attempt), "/16");
    fill(ATTEMPT_REQUESTS + 1, ATTEMPT_REQUESTS + 3, handles);
    assert_true(attempt.len <= ATTEMPT_REQUESTS);
    attempt_leave(&attempt, handles[ATTEMPT_REQUESTS]);
    assert_string_not_equal(attempt_choose(&attempt), "/16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nothing_is_chosen_where_nobody_came, tear_down),
        cmocka_unit_test_teardown(the_first_is_taken_until_it_is_refused, tear_down),
        cmocka_unit_test_teardown(where_all_are_refused_each_has_its_turn, tear_down),
        cmocka_unit_test_teardown(who_has_left_is_passed_over, tear_down),
        cmocka_unit_test_teardown(clients_of_other_nodes_count, tear_down),
        cmocka_unit_test_teardown(what_the_last_owner_used_is_taken_once_more, tear_down),
        cmocka_unit_test_teardown(places_are_bounded_and_a_refused_one_gives_way, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
