/*
 * Lists of watchers: sums of several lists, in the order of the names, and which entries of a
 * message count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/presence_list.h"

static void assert_user(const struct presence_list *list, size_t i, const char *user,
                        uint64_t clients)
{
    assert_true(i < list->len);
    assert_string_equal(list->users[i].user, user);
    assert_int_equal(list->users[i].clients, clients);
}

static void a_sum_has_each_user_once_by_name(void **state)
{
    (void)state;
    const struct v1_watcher a[] = {{"", 2}, {"b", 1}, {"d", 5}}, b[] = {{"a", 1}, {"b", 3}};
    struct presence_list *lists[] = {presence_list_new(a, 3, 0), presence_list_new(b, 2, 7),
                                     presence_list_new(NULL, 0, 0)};
    const struct presence_list *all[] = {lists[0], lists[1], lists[2]};
    struct presence_list *sum = presence_list_sum(all, 3, 100), *cut = presence_list_sum(all, 3, 2);
    assert_int_equal(sum->len, 4);
    assert_int_equal(sum->more, 7);
    assert_user(sum, 0, "", 2);
    assert_user(sum, 1, "a", 1);
    assert_user(sum, 2, "b", 4);
    assert_user(sum, 3, "d", 5);
    assert_int_equal(cut->len, 2);
    assert_int_equal(cut->more, 9);
    assert_user(cut, 1, "a", 1);
    struct presence_list *none = presence_list_sum(NULL, 0, 100);
    assert_int_equal(none->len + none->more, 0);
    assert_true(presence_list_same(sum, sum));
    assert_false(presence_list_same(sum, cut));
    assert_false(presence_list_same(NULL, sum));
    for (size_t i = 0; i < 3; i++)
        free(lists[i]);
    free(sum);
    free(cut);
    free(none);
}

static void a_message_is_read_as_it_was_written(void **state)
{
    (void)state;
    const struct v1_watcher users[] = {{"", 1}, {"a", 2}, {"\xc3\xa4", 3}};
    struct presence_list *list = presence_list_new(users, 3, 4);
    struct envelope_item items[3];
    presence_list_items(list, items);
    struct presence_list *read = presence_list_read(&(struct message_items){items, 3}, 4);
    assert_true(presence_list_same(list, read));
    free(list);
    free(read);
}

/* Entries from another node that are double, out of order or no name are left out. */
static void what_is_out_of_order_does_not_count(void **state)
{
    (void)state;
    const char nul[] = {'z', '\0', 'z'};
    struct envelope_item items[] = {
        watcher_item(&(struct watcher_entry){slice_of("b"), 1}),
        watcher_item(&(struct watcher_entry){slice_of("b"), 1}),
        watcher_item(&(struct watcher_entry){slice_of("a"), 1}),
        filter_item(&(struct filter_entry){slice_of("c"), slice_of("x")}),
        watcher_item(&(struct watcher_entry){{nul, 3}, 1}),
        watcher_item(&(struct watcher_entry){slice_of("d"), 6}),
    };
    struct presence_list *read = presence_list_read(&(struct message_items){items, 6}, 0);
    assert_int_equal(read->len, 2);
    assert_user(read, 0, "b", 1);
    assert_user(read, 1, "d", 6);
    free(read);
}

/* The list goes to browsers: names that are not UTF-8 or too long are left out. */
static void what_browsers_could_not_take_does_not_count(void **state)
{
    (void)state;
    char fits[PRESENCE_NAME_MAX + 1], too_long[PRESENCE_NAME_MAX + 2];
    memset(fits, 'x', sizeof(fits) - 1);
    fits[sizeof(fits) - 1] = '\0';
    memset(too_long, 'y', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    struct envelope_item items[] = {
        watcher_item(&(struct watcher_entry){slice_of("a\xff"), 1}),
        watcher_item(&(struct watcher_entry){slice_of(fits), 2}),
        watcher_item(&(struct watcher_entry){slice_of(too_long), 3}),
        watcher_item(&(struct watcher_entry){slice_of("z\xed\xa0\x80"), 4}),
        watcher_item(&(struct watcher_entry){slice_of("z\xc3\xa4"), 5}),
    };
    struct presence_list *read = presence_list_read(&(struct message_items){items, 5}, 0);
    assert_int_equal(read->len, 2);
    assert_user(read, 0, fits, 2);
    assert_user(read, 1, "z\xc3\xa4", 5);
    free(read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sum_has_each_user_once_by_name),
        cmocka_unit_test(a_message_is_read_as_it_was_written),
        cmocka_unit_test(what_is_out_of_order_does_not_count),
        cmocka_unit_test(what_browsers_could_not_take_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
