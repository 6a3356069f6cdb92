#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "contract_cases.h"

#define SESSION "remoteWs:LSVAA4182E2"

static const struct seen *claim(struct rig_peer *peer, uint64_t tag, const struct bus_claim *claim)
{
    peer->bus->ops->claim(peer->bus, SESSION, tag, claim);
    return rig_wait(peer, SEEN_CLAIMED, tag);
}

static void assert_refused(const struct seen *seen, const char *owner, uint64_t epoch)
{
    assert_int_equal(seen->status, STATUS_REFUSED);
    assert_string_equal(seen->text, owner);
    assert_true(seen->epoch == epoch);
}

/* from: the epoch that was handed over, 0 for a claim */
static void assert_grant(struct rig_peer *peer, const char *owner, uint64_t epoch, uint64_t from)
{
    const struct seen *seen = rig_wait(peer, SEEN_PUSH, 0);
    assert_int_equal(seen->tag, ENVELOPE_GRANT);
    assert_string_equal(seen->session, SESSION);
    assert_string_equal(seen->text, owner);
    assert_true(seen->epoch == epoch);
    assert_true(seen->number == from);
}

static void the_first_claim_is_granted_and_later_ones_learn_the_winner(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t before_ms = clock_unix_ms();
    uint64_t epoch = peer_claim(a, SESSION);
    assert_in_range(epoch, before_ms - 1000, clock_unix_ms() + 1000);
    assert_refused(claim(b, 1, &(struct bus_claim){.upstream = "u"}), "a", epoch);
}

static void of_claims_at_once_one_is_granted(struct contract_rig *rig)
{
    struct rig_peer *peers[] = {rig_peer(rig, "a"), rig_peer(rig, "b"), rig_peer(rig, "c")};
    for (size_t i = 0; i < 3; i++)
        peers[i]->bus->ops->claim(peers[i]->bus, SESSION, 1, &(struct bus_claim){.upstream = "u"});
    unsigned granted = 0;
    char owner[3][8];
    for (size_t i = 0; i < 3; i++) {
        const struct seen *seen = rig_wait(peers[i], SEEN_CLAIMED, 1);
        granted += seen->status == STATUS_OK;
        snprintf(owner[i], sizeof(owner[i]), "%s", seen->text);
    }
    assert_int_equal(granted, 1);
    assert_string_equal(owner[0], owner[1]);
    assert_string_equal(owner[0], owner[2]);
}

static void the_owner_claims_again_and_the_epoch_grows(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t first = peer_claim(a, SESSION);
    uint64_t second = peer_claim(a, SESSION);
    assert_true(second > first);
}

static void a_claim_goes_beyond_what_the_caller_has_seen(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t seen_epoch = clock_unix_ms() + 1000000000;
    const struct seen *seen = claim(a, 1,
                                    &(struct bus_claim){.seen_epoch = seen_epoch, .upstream = "u"});
    assert_int_equal(seen->status, STATUS_OK);
    assert_true(seen->epoch == seen_epoch + 1);
    assert_true(peer_claim(a, SESSION) == seen_epoch + 2);
}

static void a_dead_owner_is_replaced_only_at_the_epoch_named(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    assert_refused(
        claim(b, 1,
              &(struct bus_claim){.dead_owner = "a", .dead_epoch = epoch - 1, .upstream = "u"}),
        "a", epoch);
    assert_refused(
        claim(b, 2, &(struct bus_claim){.dead_owner = "c", .dead_epoch = epoch, .upstream = "u"}),
        "a", epoch);
    const struct seen *seen = claim(
        b, 3, &(struct bus_claim){.dead_owner = "a", .dead_epoch = epoch, .upstream = "u"});
    assert_int_equal(seen->status, STATUS_OK);
    assert_string_equal(seen->text, "b");
    assert_true(seen->epoch > epoch);
}

static void a_grant_is_announced_and_a_refusal_is_not(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    peer_subscribe(b, SESSION);
    uint64_t first = peer_claim(a, SESSION);
    assert_grant(b, "a", first, 0);
    claim(b, 1, &(struct bus_claim){.upstream = "u"});
    uint64_t second = peer_claim(a, SESSION);
    assert_grant(b, "a", second, 0);
}

static void only_the_owner_at_its_epoch_releases(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    b->bus->ops->release(b->bus, SESSION, 1, epoch, 60000);
    assert_int_equal(rig_wait(b, SEEN_RELEASED, 1)->status, STATUS_REFUSED);
    a->bus->ops->release(a->bus, SESSION, 2, epoch - 1, 60000);
    assert_int_equal(rig_wait(a, SEEN_RELEASED, 2)->status, STATUS_REFUSED);
    a->bus->ops->release(a->bus, "remoteWs:other", 3, epoch, 60000);
    assert_int_equal(rig_wait(a, SEEN_RELEASED, 3)->status, STATUS_REFUSED);
    assert_refused(claim(b, 4, &(struct bus_claim){.upstream = "u"}), "a", epoch);

    a->bus->ops->release(a->bus, SESSION, 5, epoch, 60000);
    const struct seen *seen = rig_wait(a, SEEN_RELEASED, 5);
    assert_int_equal(seen->status, STATUS_OK);
    assert_string_equal(seen->session, SESSION);
    a->bus->ops->release(a->bus, SESSION, 6, epoch, 60000);
    assert_int_equal(rig_wait(a, SEEN_RELEASED, 6)->status, STATUS_REFUSED);
}

static void a_released_session_is_free_and_its_epoch_stays(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t ahead = clock_unix_ms() + 1000000000;
    uint64_t epoch = claim(a, 1, &(struct bus_claim){.seen_epoch = ahead, .upstream = "u"})->epoch;
    a->bus->ops->release(a->bus, SESSION, 2, epoch, 60000);
    assert_int_equal(rig_wait(a, SEEN_RELEASED, 2)->status, STATUS_OK);
    assert_true(peer_claim(b, SESSION) == epoch + 1);
}

static bool record_is_gone(void *ctx)
{
    struct rig_peer *peer = ctx;
    peer->bus->ops->list(peer->bus, BUS_LIST_SESSION, SESSION, 1, peer_on_rows, peer);
    return rig_wait(peer, SEEN_ROWS, 0)->len == 0;
}

static void a_released_record_is_kept_as_long_as_asked(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    uint64_t epoch = peer_claim(a, SESSION);
    a->bus->ops->release(a->bus, SESSION, 1, epoch, 60000);
    rig_wait(a, SEEN_RELEASED, 1);
    a->bus->ops->list(a->bus, BUS_LIST_SESSION, SESSION, 1, peer_on_rows, a);
    const struct seen *seen = rig_wait(a, SEEN_ROWS, 0);
    assert_int_equal(seen->len, 1);
    assert_string_equal(seen_field(&seen->items[0], "owner"), "");
    assert_string_equal(seen_field(&seen->items[0], "state"), "released");
    assert_true(strtoull(seen_field(&seen->items[0], "epoch"), NULL, 10) == epoch);

    epoch = peer_claim(a, SESSION);
    a->bus->ops->release(a->bus, SESSION, 2, epoch, 50);
    rig_wait(a, SEEN_RELEASED, 2);
    rig_until(rig, record_is_gone, a);
}

static void a_session_is_transferred_by_its_owner_only(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b"), *c = rig_peer(rig, "c");
    uint64_t epoch = peer_claim(a, SESSION);
    b->bus->ops->transfer(b->bus, SESSION, 1, epoch, "b");
    assert_int_equal(rig_wait(b, SEEN_TRANSFERRED, 1)->status, STATUS_REFUSED);
    a->bus->ops->transfer(a->bus, SESSION, 2, epoch + 1, "b");
    assert_int_equal(rig_wait(a, SEEN_TRANSFERRED, 2)->status, STATUS_REFUSED);

    peer_subscribe(c, SESSION);
    a->bus->ops->transfer(a->bus, SESSION, 3, epoch, "b");
    const struct seen *seen = rig_wait(a, SEEN_TRANSFERRED, 3);
    assert_int_equal(seen->status, STATUS_OK);
    assert_true(seen->epoch > epoch);
    assert_grant(c, "b", seen->epoch, epoch);
    assert_refused(claim(a, 4, &(struct bus_claim){.upstream = "u"}), "b", seen->epoch);
}

static const struct seen *assert_owner(struct rig_peer *peer, uint64_t tag, uint64_t epoch)
{
    peer->bus->ops->assert_owner(peer->bus, SESSION, tag, epoch, "ws://backend/");
    return rig_wait(peer, SEEN_ASSERTED, tag);
}

static void a_vanished_record_is_written_back(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    const struct seen *seen = assert_owner(a, 1, 77);
    assert_int_equal(seen->status, STATUS_OK);
    assert_string_equal(seen->session, SESSION);
    assert_refused(claim(b, 2, &(struct bus_claim){.upstream = "u"}), "a", 77);
    assert_int_equal(peer_publish(a, SESSION, 77, 1, "x", 0, true), STATUS_OK);
}

static void an_assertion_of_what_is_so_changes_nothing(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(b, SESSION);
    assert_int_equal(assert_owner(a, 1, epoch)->status, STATUS_OK);
    assert_refused(claim(b, 2, &(struct bus_claim){.upstream = "u"}), "a", epoch);
    rig_settle(b);
    assert_null(rig_find(b, SEEN_PUSH, 0));
}

static void a_higher_epoch_stays(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    assert_refused(assert_owner(b, 1, epoch - 1), "a", epoch);
    assert_refused(assert_owner(b, 2, epoch), "a", epoch);
    assert_refused(assert_owner(a, 3, epoch - 1), "a", epoch);
    a->bus->ops->release(a->bus, SESSION, 4, epoch, 60000);
    rig_wait(a, SEEN_RELEASED, 4);
    assert_refused(assert_owner(b, 5, epoch - 1), "", epoch);
}

static void a_lower_epoch_gives_way_and_its_owner_hears_of_it(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    peer_subscribe(a, SESSION);
    assert_int_equal(assert_owner(b, 1, epoch + 5)->status, STATUS_OK);
    assert_grant(a, "b", epoch + 5, 0);
    assert_int_equal(peer_publish(a, SESSION, epoch, 1, "x", 0, true), STATUS_REFUSED);
}

static const struct bus_session_record session_record = {.state = "connected",
                                                         .reason = "why",
                                                         .upstream = "ws://h/p",
                                                         .since_ms = 5,
                                                         .clients = 3,
                                                         .members = 2,
                                                         .offset = 9};

static void the_record_for_people_is_the_owners(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a"), *b = rig_peer(rig, "b");
    uint64_t epoch = peer_claim(a, SESSION);
    a->bus->ops->record_session(a->bus, SESSION, epoch, &session_record);
    rig_settle(a);
    struct bus_session_record foreign = session_record;
    foreign.state = "stolen";
    b->bus->ops->record_session(b->bus, SESSION, epoch, &foreign);
    rig_settle(b);
    a->bus->ops->record_session(a->bus, SESSION, epoch - 1, &foreign);
    rig_settle(a);
    a->bus->ops->list(a->bus, BUS_LIST_SESSION, SESSION, 1, peer_on_rows, a);
    const struct seen *seen = rig_wait(a, SEEN_ROWS, 0);
    assert_int_equal(seen->status, STATUS_OK);
    assert_int_equal(seen->len, 1);
    assert_string_equal(seen->items[0].id, SESSION);
    const char *const expected[][2] = {
        {"owner", "a"}, {"state", "connected"}, {"reason", "why"}, {"upstream", "ws://h/p"},
        {"since", "5"}, {"clients", "3"},       {"members", "2"},  {"offset", "9"}};
    for (size_t i = 0; i < CASES_LEN(expected); i++)
        assert_string_equal(seen_field(&seen->items[0], expected[i][0]), expected[i][1]);
    assert_true(strtoull(seen_field(&seen->items[0], "epoch"), NULL, 10) == epoch);
}

static void a_session_that_is_not_there_lists_as_no_row(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    a->bus->ops->list(a->bus, BUS_LIST_SESSION, "s:none", 1, peer_on_rows, a);
    const struct seen *seen = rig_wait(a, SEEN_ROWS, 0);
    assert_int_equal(seen->status, STATUS_OK);
    assert_int_equal(seen->len, 0);
}

/* Pages through all sessions, `limit` at a time; every id once, in order. */
static size_t page_through(struct rig_peer *peer, size_t limit)
{
    char after[64] = "";
    size_t rows = 0;
    for (;;) {
        peer->bus->ops->list(peer->bus, BUS_LIST_SESSIONS, after, limit, peer_on_rows, peer);
        const struct seen *seen = rig_wait(peer, SEEN_ROWS, 0);
        assert_int_equal(seen->status, STATUS_OK);
        assert_true(seen->len <= limit);
        for (size_t i = 0; i < seen->len; i++) {
            assert_true(strcmp(seen->items[i].id, after) > 0);
            assert_string_equal(seen_field(&seen->items[i], "owner"), "a");
            snprintf(after, sizeof(after), "%s", seen->items[i].id);
        }
        rows += seen->len;
        if (!seen->text)
            return rows;
        assert_string_equal(seen->text, after);
    }
}

static void sessions_are_listed_in_pages_in_the_order_of_their_ids(struct contract_rig *rig)
{
    struct rig_peer *a = rig_peer(rig, "a");
    for (unsigned i = 0; i < 57; i++) {
        char id[32];
        snprintf(id, sizeof(id), "s:%u", i * 7919 % 57);
        peer_claim(a, id);
    }
    assert_int_equal(page_through(a, 10), 57);
    assert_int_equal(page_through(a, 57), 57);
    assert_int_equal(page_through(a, 1000), 57);
}

const struct contract_case cases_ownership[] = {
    CASE(the_first_claim_is_granted_and_later_ones_learn_the_winner),
    CASE(of_claims_at_once_one_is_granted),
    CASE(the_owner_claims_again_and_the_epoch_grows),
    CASE(a_claim_goes_beyond_what_the_caller_has_seen),
    CASE(a_dead_owner_is_replaced_only_at_the_epoch_named),
    CASE(a_grant_is_announced_and_a_refusal_is_not),
    CASE(only_the_owner_at_its_epoch_releases),
    CASE(a_released_session_is_free_and_its_epoch_stays),
    CASE(a_released_record_is_kept_as_long_as_asked),
    CASE(a_session_is_transferred_by_its_owner_only),
    CASE(a_vanished_record_is_written_back),
    CASE(an_assertion_of_what_is_so_changes_nothing),
    CASE(a_higher_epoch_stays),
    CASE(a_lower_epoch_gives_way_and_its_owner_hears_of_it),
    CASE(the_record_for_people_is_the_owners),
    CASE(a_session_that_is_not_there_lists_as_no_row),
    CASE(sessions_are_listed_in_pages_in_the_order_of_their_ids),
};
const size_t cases_ownership_len = CASES_LEN(cases_ownership);
