/* The bus in memory and time: the contract tests run it on a real clock, these on a fake one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bus/bus_memory.h"

#define MINUTE_MS UINT64_C(60000)
#define SESSION   "s:k"

static uint64_t time_ms;

static uint64_t now_ms(void)
{
    return time_ms;
}

static uint64_t unix_ms(void)
{
    return UINT64_C(1700000000000) + time_ms;
}

/* The last event of each kind. */
struct last {
    struct bus *bus;
    enum status status;
    uint64_t epoch;
    size_t len;
    uint64_t events;
    bool loops; /* asks again at each answer */
    char owner[16];
};

static void on_connected(void *ctx)
{
    ((struct last *)ctx)->events++;
}

static void on_renewed(void *ctx, uint64_t tag, enum status status, bool present,
                       const struct bus_node *nodes, size_t len)
{
    struct last *last = ctx;
    (void)present;
    (void)nodes;
    last->events++;
    last->status = status;
    last->len = len;
    if (last->loops)
        last->bus->ops->renew(last->bus, tag + 1);
}

static void on_claimed(void *ctx, const char *session, uint64_t tag, enum status status,
                       const char *owner, uint64_t epoch)
{
    struct last *last = ctx;
    (void)session;
    (void)tag;
    last->status = status;
    last->epoch = epoch;
    strncpy(last->owner, owner, sizeof(last->owner) - 1);
}

static void on_released(void *ctx, const char *session, uint64_t tag, enum status status)
{
    (void)session;
    (void)tag;
    ((struct last *)ctx)->status = status;
}

static void on_published(void *ctx, const char *session, uint64_t tag, enum status status)
{
    (void)session;
    (void)tag;
    ((struct last *)ctx)->status = status;
}

static void on_history(void *ctx, const char *session, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *publications, size_t len,
                       bool more)
{
    struct last *last = ctx;
    (void)session;
    (void)tag;
    (void)oldest;
    (void)publications;
    (void)more;
    last->status = status;
    last->len = len;
}

static void on_rows(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                    const char *next)
{
    struct last *last = ctx;
    (void)rows;
    (void)next;
    last->status = status;
    last->len = len;
}

static const struct bus_events events = {.on_connected = on_connected,
                                         .on_renewed = on_renewed,
                                         .on_claimed = on_claimed,
                                         .on_released = on_released,
                                         .on_published = on_published,
                                         .on_history = on_history};

struct fixture {
    struct bus_memory_store *store;
    struct last a, b;
};

static void open_one(struct fixture *f, struct last *last, const char *id)
{
    *last = (struct last){.bus = bus_memory_new(f->store, id, now_ms, unix_ms)};
    bus_listen(last->bus, &events, last);
}

static int set_up(void **state)
{
    static struct fixture f;
    time_ms = 1000;
    f.store = bus_memory_store_new();
    open_one(&f, &f.a, "a");
    open_one(&f, &f.b, "b");
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    f->a.bus->ops->free(f->a.bus);
    f->b.bus->ops->free(f->b.bus);
    bus_memory_store_free(f->store);
    return 0;
}

static void flush(struct last *last)
{
    last->bus->ops->flush(last->bus);
}

static uint64_t claim(struct last *last)
{
    last->bus->ops->claim(last->bus, SESSION, 1, &(struct bus_claim){.upstream = "u"});
    flush(last);
    return last->epoch;
}

static size_t listed(struct last *last, enum bus_listing listing)
{
    last->bus->ops->list(last->bus, listing, listing == BUS_LIST_SESSION ? SESSION : "", 10,
                         on_rows, last);
    flush(last);
    assert_int_equal(last->status, STATUS_OK);
    return last->len;
}

static void a_record_that_nobody_writes_is_gone_after_half_an_hour(void **state)
{
    struct fixture *f = *state;
    claim(&f->a);
    time_ms += 30 * MINUTE_MS - 1;
    claim(&f->b);
    assert_int_equal(f->b.status, STATUS_REFUSED);
    assert_string_equal(f->b.owner, "a");
    time_ms += 1;
    claim(&f->b);
    assert_int_equal(f->b.status, STATUS_OK);
    assert_string_equal(f->b.owner, "b");
}

static void writing_the_record_keeps_it(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch = claim(&f->a);
    time_ms += 29 * MINUTE_MS;
    f->a.bus->ops->record_session(f->a.bus, SESSION, epoch,
                                  &(struct bus_session_record){.state = "connected"});
    time_ms += 29 * MINUTE_MS;
    flush(&f->a);
    claim(&f->b);
    assert_int_equal(f->b.status, STATUS_REFUSED);
}

static void a_released_record_lives_as_long_as_asked(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch = claim(&f->a);
    f->a.bus->ops->release(f->a.bus, SESSION, 2, epoch, 40 * MINUTE_MS);
    flush(&f->a);
    assert_int_equal(f->a.status, STATUS_OK);
    time_ms += 40 * MINUTE_MS - 1;
    assert_int_equal(listed(&f->a, BUS_LIST_SESSION), 1);
    time_ms += 1;
    assert_int_equal(listed(&f->a, BUS_LIST_SESSION), 0);
}

static size_t history_len(struct last *last)
{
    last->bus->ops->history(last->bus, SESSION, 3, (struct position){0, 0}, 100);
    flush(last);
    return last->len;
}

static void publish(struct last *last, uint64_t epoch, uint64_t offset, uint64_t ttl_ms)
{
    struct publication *publication = publication_copy(OPCODE_TEXT, "x", 1);
    publication->at = (struct position){epoch, offset};
    last->bus->ops->publish(last->bus, SESSION, 4, epoch, &publication, 1, 10, ttl_ms, true);
    publication_unref(publication);
    flush(last);
    assert_int_equal(last->status, STATUS_OK);
}

static void history_lives_from_its_latest_publication_on(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch = claim(&f->a);
    publish(&f->a, epoch, 1, 5 * MINUTE_MS);
    time_ms += 4 * MINUTE_MS;
    publish(&f->a, epoch, 2, 5 * MINUTE_MS);
    time_ms += 4 * MINUTE_MS;
    assert_int_equal(history_len(&f->a), 2);
    time_ms += MINUTE_MS;
    assert_int_equal(history_len(&f->a), 0);
}

static void history_outlives_its_record_and_the_other_way_round(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch = claim(&f->a);
    publish(&f->a, epoch, 1, 60 * MINUTE_MS);
    time_ms += 31 * MINUTE_MS;
    flush(&f->a);
    assert_int_equal(listed(&f->a, BUS_LIST_SESSION), 0);
    assert_int_equal(history_len(&f->a), 1);
    assert_true(claim(&f->b) > epoch);
    publish(&f->b, f->b.epoch, 1, MINUTE_MS);
    time_ms += 2 * MINUTE_MS;
    flush(&f->b);
    assert_int_equal(history_len(&f->b), 0);
    assert_int_equal(listed(&f->b, BUS_LIST_SESSION), 1);
}

static void a_session_leaves_the_index_an_hour_after_it_was_written(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch = claim(&f->a);
    f->a.bus->ops->release(f->a.bus, SESSION, 2, epoch, 120 * MINUTE_MS);
    flush(&f->a);
    time_ms += 59 * MINUTE_MS;
    assert_int_equal(listed(&f->a, BUS_LIST_SESSIONS), 1);
    time_ms += MINUTE_MS;
    assert_int_equal(listed(&f->a, BUS_LIST_SESSIONS), 0);
    assert_int_equal(listed(&f->a, BUS_LIST_SESSION), 1);
}

static void a_silent_node_is_forgotten_after_ten_leases(void **state)
{
    struct fixture *f = *state;
    f->a.bus->ops->record_node(f->a.bus, &(struct bus_node_record){.lease_ms = 3000});
    f->a.bus->ops->renew(f->a.bus, 1);
    time_ms += 30000;
    f->b.bus->ops->renew(f->b.bus, 1);
    flush(&f->b);
    assert_int_equal(f->b.len, 2);
    time_ms += 1;
    f->b.bus->ops->renew(f->b.bus, 2);
    flush(&f->b);
    assert_int_equal(f->b.len, 1);
}

/* Two calls whose answers cause each other without end do not keep the loop busy. */
static void a_flush_ends_though_each_answer_asks_again(void **state)
{
    struct fixture *f = *state;
    f->a.loops = true;
    f->a.bus->ops->renew(f->a.bus, 1);
    flush(&f->a);
    uint64_t after_one = f->a.events;
    assert_in_range(after_one, 2, 10000);
    flush(&f->a);
    assert_true(f->a.events > after_one);
}

static void a_bus_that_goes_hears_nothing_more(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch = claim(&f->a);
    f->b.bus->ops->subscribe(f->b.bus, SESSION);
    f->b.bus->ops->free(f->b.bus);
    publish(&f->a, epoch, 1, MINUTE_MS);
    open_one(f, &f->b, "b");
    flush(&f->b);
    assert_int_equal(f->b.events, 1);
}

int main(void)
{
#define MEMORY(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        MEMORY(a_record_that_nobody_writes_is_gone_after_half_an_hour),
        MEMORY(writing_the_record_keeps_it),
        MEMORY(a_released_record_lives_as_long_as_asked),
        MEMORY(history_lives_from_its_latest_publication_on),
        MEMORY(history_outlives_its_record_and_the_other_way_round),
        MEMORY(a_session_leaves_the_index_an_hour_after_it_was_written),
        MEMORY(a_silent_node_is_forgotten_after_ten_leases),
        MEMORY(a_flush_ends_though_each_answer_asks_again),
        MEMORY(a_bus_that_goes_hears_nothing_more),
    };
    return cmocka_run_group_tests_name("bus_memory", tests, NULL, NULL);
}
