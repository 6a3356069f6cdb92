/* Other nodes: which are dead, and that peers may be removed while they are walked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "core/node/peers.h"
#include "core_rig.h"

#define WATCHES 3000

static struct core_rig rig;
static struct watch watches[WATCHES];
static size_t dead, reborn;
static bool takes_next; /* the callback removes the next peer, too */

static void on_dead(struct watch *watch)
{
    size_t i = (size_t)(watch - watches);
    dead++;
    peer_unwatch(watch);
    if (takes_next && i + 1 < WATCHES)
        peer_unwatch(&watches[i + 1]);
}

static void on_reborn(struct watch *watch)
{
    size_t i = (size_t)(watch - watches);
    reborn++;
    peer_unwatch(watch);
    if (takes_next && i + 1 < WATCHES)
        peer_unwatch(&watches[i + 1]);
}

static const struct watch_events events = {.dead = on_dead, .reborn = on_reborn};

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_MEMBER);
    peers_new(&rig.hub);
    memset(watches, 0, sizeof(watches));
    dead = reborn = 0;
    takes_next = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < WATCHES; i++)
        peer_unwatch(&watches[i]);
    peers_free(&rig.hub);
    rig_fini(&rig);
    return 0;
}

static void watch_some(size_t n)
{
    for (size_t i = 0; i < n; i++)
        peer_watch(&rig.hub, &watches[i], peer_get(&rig.hub, "other", 5), &events);
}

static void read_score(uint64_t score)
{
    struct bus_node node = {.id = "other", .score = score, .lease_ms = 3000};
    peers_read(&rig.hub, rig.hub.now_ms, &node, 1);
}

static void a_score_that_moves_is_a_life(void **state)
{
    (void)state;
    watch_some(1);
    for (uint64_t score = 1; score < 10; score++) {
        read_score(score);
        rig_pass(&rig, 2900);
    }
    assert_int_equal(dead, 0);
}

static void a_score_unchanged_for_the_longer_lease_is_a_death(void **state)
{
    (void)state;
    watch_some(1);
    read_score(1);
    rig_pass(&rig, 2999);
    read_score(1);
    assert_int_equal(dead, 0);
    rig_pass(&rig, 1);
    read_score(1);
    assert_int_equal(dead, 1);
}

static void a_watch_newer_than_the_reading_is_not_called(void **state)
{
    (void)state;
    watch_some(1);
    read_score(1);
    uint64_t sent_ms = rig.hub.now_ms + 3000;
    rig_pass(&rig, 3001);
    peer_watch(&rig.hub, &watches[0], peer_get(&rig.hub, "other", 5), &events);
    struct bus_node node = {.id = "other", .score = 1, .lease_ms = 3000};
    peers_read(&rig.hub, sent_ms, &node, 1);
    assert_int_equal(dead, 0);
}

static void many_watches_are_called_in_portions(void **state)
{
    (void)state;
    watch_some(WATCHES);
    read_score(1);
    rig_pass(&rig, 3000);
    read_score(1);
    assert_true(dead > 0 && dead <= 500);
    for (size_t turns = 0; dead < WATCHES; turns++) {
        size_t before = dead;
        assert_true(turns < 100);
        timers_run(&rig.hub.timers, rig.hub.now_ms);
        assert_true(dead - before <= 500);
    }
}

static void a_called_watch_may_remove_others(void **state)
{
    (void)state;
    takes_next = true;
    watch_some(1001);
    read_score(1);
    rig_pass(&rig, 3000);
    read_score(1);
    rig_pass(&rig, 0);
    assert_int_equal(dead, 501);
}

static void a_watch_called_for_a_new_life_may_remove_others(void **state)
{
    (void)state;
    struct envelope hello = {.node = slice_of("other"), .life = 5};
    takes_next = true;
    watch_some(1001);
    peers_heard(&rig.hub, &hello);
    assert_int_equal(reborn, 501);
    hello.life = 4; /* late */
    peers_heard(&rig.hub, &hello);
    assert_int_equal(reborn, 501);
    assert_true(peers_outlived(&rig.hub, slice_of("other"), 4));
}

static void one_that_comes_back_meanwhile_is_not_dead(void **state)
{
    (void)state;
    watch_some(WATCHES);
    read_score(1);
    rig_pass(&rig, 3000);
    read_score(1);
    size_t before = dead;
    read_score(2);
    rig_pass(&rig, 100);
    assert_int_equal(dead, before);
}

/* --- what is sent to all --- */

static size_t sent_to_other(void)
{
    struct envelope sends = {.type = ENVELOPE_SENDS};
    size_t before = rig.told_len;
    peers_broadcast(&rig.hub, &sends);
    for (size_t i = before; i < rig.told_len; i++)
        assert_string_equal(rig.told[i].to, "other");
    return rig.told_len - before;
}

static void read_nobody(void)
{
    peers_read(&rig.hub, rig.hub.now_ms, NULL, 0);
}

static void who_is_listed_and_not_dead_is_sent_what_all_are(void **state)
{
    (void)state;
    assert_int_equal(sent_to_other(), 0);
    read_score(1);
    assert_int_equal(sent_to_other(), 1);
    watch_some(1);
    rig_pass(&rig, 3000);
    read_score(1);
    assert_int_equal(sent_to_other(), 0);
}

/* A reading comes each half second at most. A client may open a session there before that. */
static void who_has_just_started_is_sent_what_all_are(void **state)
{
    (void)state;
    const struct envelope hello = {.type = ENVELOPE_HELLO, .node = slice_of("other")};
    peers_said_hello(&rig.hub, &hello);
    assert_int_equal(sent_to_other(), 1);
    read_nobody(); /* of the time before it */
    assert_int_equal(sent_to_other(), 1);
    rig_pass(&rig, 3000);
    read_nobody();
    assert_int_equal(sent_to_other(), 0);
    peers_check(&rig.hub);
}

/* It may be here again before the next reading. */
static void who_has_left_is_sent_it_for_a_lease(void **state)
{
    (void)state;
    read_score(1);
    read_nobody();
    assert_int_equal(sent_to_other(), 1);
    rig_pass(&rig, 3000);
    read_nobody();
    assert_int_equal(sent_to_other(), 0);
}

static void who_is_dead_and_starts_again_is_sent_it(void **state)
{
    (void)state;
    const struct envelope hello = {.type = ENVELOPE_HELLO, .node = slice_of("other")};
    read_score(1);
    rig_pass(&rig, 3000);
    read_score(1);
    assert_int_equal(sent_to_other(), 0);
    peers_said_hello(&rig.hub, &hello);
    read_nobody();
    assert_int_equal(sent_to_other(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_score_that_moves_is_a_life, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_score_unchanged_for_the_longer_lease_is_a_death, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_watch_newer_than_the_reading_is_not_called, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_watches_are_called_in_portions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_called_watch_may_remove_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_watch_called_for_a_new_life_may_remove_others, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_is_listed_and_not_dead_is_sent_what_all_are, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_has_just_started_is_sent_what_all_are, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_has_left_is_sent_it_for_a_lease, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_dead_and_starts_again_is_sent_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_comes_back_meanwhile_is_not_dead, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
