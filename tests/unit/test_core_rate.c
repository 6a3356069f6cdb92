/*
 * The rate of subscriptions, on a fake clock: how many messages come, when, and which; what a
 * client gets that does not read; and what counts as a loss.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/bus_memory.h"
#include "common/metrics.h"
#include "core/client/door.h"
#include "core/client/further.h"
#include "core/client/joining.h"
#include "core/client/rate.h"
#include "core/forms.h"
#include "core/hub.h"
#include "core/pubs.h"
#include "core/session/session.h"
#include "core/session/stream.h"

/* --- a door that records messages: a character for the kind, and the offset --- */

#define VEHICLES 8
#define KEPT     4096

struct rate_end {
    struct client client; /* first */
    bool busy, closed;
    unsigned writes, code;
    size_t len;
    struct {
        char kind; /* m: message, g: gap */
        uint64_t offset, to, at_ms;
    } got[KEPT];
};

static struct hub *hub;
static struct bus *bus;
static struct conf *conf;
static uint64_t now_ms;
static struct upstream {
    struct session *session;
    bool opened;
} upstreams[VEHICLES];
static unsigned door_form;
static struct position last_welcome;

static struct wire *line(char kind, uint64_t offset, uint64_t to)
{
    struct wire *wire = wire_new(17);
    wire->bytes[0] = (uint8_t)kind;
    memcpy(wire->bytes + 1, &offset, 8);
    memcpy(wire->bytes + 9, &to, 8);
    return wire;
}

static const struct encoding *line_publication(void *ctx, unsigned key,
                                               struct publication *publication, const char *session)
{
    (void)ctx;
    (void)session;
    return publication_encode(publication, key, line('m', publication->at.offset, 0));
}

static struct wire *line_gap(void *ctx, const struct v1_head *head, uint64_t epoch, uint64_t from,
                             uint64_t to)
{
    (void)ctx;
    (void)head;
    (void)epoch;
    return line('g', from, to);
}

static struct wire *line_welcome(void *ctx, const struct v1_head *head,
                                 const struct v1_welcome *welcome)
{
    (void)ctx;
    (void)head;
    last_welcome = welcome->at;
    return line('w', welcome->at.offset, 0);
}

static struct wire *line_status(void *ctx, const struct v1_head *head, const char *upstream,
                                const char *reason)
{
    (void)ctx;
    (void)head;
    (void)upstream;
    (void)reason;
    return line('s', 0, 0);
}

static const struct form line_form = {.name = "line",
                                      .follows = true,
                                      .publication = line_publication,
                                      .gap = line_gap,
                                      .welcome = line_welcome,
                                      .status = line_status};

static uint64_t boot_clock(void)
{
    return now_ms;
}

static uint64_t unix_clock(void)
{
    return 1700000000000 + now_ms;
}

static uint64_t hub_now(void *ctx)
{
    (void)ctx;
    return now_ms;
}

static uint64_t hub_unix(void *ctx)
{
    (void)ctx;
    return unix_clock();
}

static struct upstream *upstream_open(void *ctx, struct session *session, struct service *service,
                                      const char *url)
{
    (void)ctx;
    (void)service;
    struct upstream *upstream = &upstreams[url[strlen(url) - 1] - '0'];
    upstream->session = session;
    return upstream;
}

static enum status upstream_send(void *ctx, struct upstream *upstream, enum opcode opcode,
                                 const void *payload, size_t len)
{
    (void)ctx;
    (void)upstream;
    (void)opcode;
    (void)payload;
    (void)len;
    return STATUS_OK;
}

static void upstream_close(void *ctx, struct upstream *upstream, unsigned code, const char *reason)
{
    (void)ctx;
    (void)upstream;
    (void)code;
    (void)reason;
}

static void upstream_reset(void *ctx, struct upstream *upstream)
{
    (void)ctx;
    upstream->session = NULL;
}

static const struct upstream_ops upstream_ops = {upstream_open, upstream_send, upstream_close,
                                                 upstream_reset};

static enum status end_write(void *ctx, struct client *client, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    struct rate_end *end = (struct rate_end *)(void *)client;
    assert_false(end->closed);
    if (end->busy)
        return STATUS_AGAIN;
    end->writes++;
    for (; len; bytes += 17, len -= 17) {
        if (bytes[0] != 'm' && bytes[0] != 'g')
            continue;
        assert_true(end->len < KEPT);
        end->got[end->len].kind = (char)bytes[0];
        memcpy(&end->got[end->len].offset, bytes + 1, 8);
        memcpy(&end->got[end->len].to, bytes + 9, 8);
        end->got[end->len++].at_ms = now_ms;
    }
    return STATUS_OK;
}

static void end_close(void *ctx, struct client *client, unsigned code, const char *reason)
{
    (void)ctx;
    (void)reason;
    struct rate_end *end = (struct rate_end *)(void *)client;
    end->closed = true;
    end->code = code;
}

static void end_pause(void *ctx, struct client *client, bool paused)
{
    (void)ctx;
    (void)client;
    (void)paused;
}

static const struct client_ops client_ops = {
    .write = end_write, .close = end_close, .pause = end_pause};

/* --- a node, its turns, its backends --- */

static void turn_begin(void)
{
    hub_enter(hub, now_ms);
}

/* Lets time pass, with a turn whenever the hub has one due. */
static void wait_ms(uint64_t ms)
{
    uint64_t end_ms = now_ms + ms;
    while (now_ms < end_ms) {
        uint64_t next_ms = hub_next_deadline(hub);
        now_ms = next_ms > end_ms ? end_ms : next_ms > now_ms ? next_ms : now_ms;
        turn_begin();
        hub_flush(hub);
        hub_check(hub);
        if (now_ms < end_ms && hub_next_deadline(hub) <= now_ms)
            now_ms++;
    }
}

static int start(void **state)
{
    (void)state;
    const char *services[] = {"svc=ws://backend:80/s{path}"};
    const struct conf_overrides overrides = {
        .services = services, .services_len = 1, .redis_url = ""};
    struct conf_findings findings = {0};
    if (conf_load(NULL, &overrides, &findings, &conf) != STATUS_OK)
        return -1;
    conf_findings_fini(&findings);
    now_ms = 1000;
    bus = bus_memory_new(NULL, "n1", boot_clock, unix_clock);
    const struct hub_setup setup = {.conf = conf,
                                    .node_id = "n1",
                                    .life = 1,
                                    .seed = 1,
                                    .host = "host",
                                    .version = "1",
                                    .bus = bus,
                                    .upstream_ops = &upstream_ops,
                                    .client_ops = &client_ops,
                                    .now_ms = hub_now,
                                    .unix_ms = hub_unix};
    hub = hub_new(&setup);
    door_form = form_add(hub, &line_form, NULL);
    hub_start(hub);
    wait_ms(100);
    return hub_ready(hub) ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    hub_free(hub);
    bus->ops->free(bus);
    conf_unref(conf);
    memset(upstreams, 0, sizeof(upstreams));
    return 0;
}

static void target_of(unsigned vehicle, const char *rest, struct target *out)
{
    char url[128];
    const char *why;
    snprintf(url, sizeof(url), "/u/v%u?svc%s", vehicle, rest);
    const struct url_options options = {.protocol_client = true};
    assert_int_equal(url_parse(conf, url, strlen(url), &options, out, &why), STATUS_OK);
}

static void come(struct rate_end *end, unsigned vehicle, const char *rest)
{
    struct target target;
    *end = (struct rate_end){0};
    target_of(vehicle, rest, &target);
    turn_begin();
    assert_int_equal(door_open(hub, &end->client, &target, &in6addr_loopback, door_form),
                     STATUS_OK);
    hub_flush(hub);
    target_fini(&target);
}

static void subscribe(struct rate_end *end, unsigned vehicle, const char *rest)
{
    struct target target;
    target_of(vehicle, rest, &target);
    turn_begin();
    assert_non_null(joining_subscribe(&end->client, &target));
    hub_flush(hub);
    target_fini(&target);
}

/* The vehicles' upstreams that were asked for are open. */
static void settle(void)
{
    wait_ms(100);
    turn_begin();
    for (size_t i = 0; i < VEHICLES; i++) {
        struct upstream *upstream = &upstreams[i];
        if (upstream->session && !upstream->opened)
            hub_upstream_opened(upstream->session, upstream);
        upstream->opened = upstream->session != NULL;
    }
    hub_flush(hub);
    wait_ms(20);
}

static void push(unsigned vehicle)
{
    hub_upstream_message(upstreams[vehicle].session, &upstreams[vehicle],
                         publication_copy(OPCODE_TEXT, "xy", 2));
}

static void push_turn(unsigned vehicle)
{
    turn_begin();
    push(vehicle);
    hub_flush(hub);
    hub_check(hub);
}

static void lose(struct session *session, uint64_t from, uint64_t to)
{
    struct pubs notes = {0};
    struct publication *note = gap_note_new(stream_at(session).epoch, from, to);
    pubs_add(&notes, note);
    publication_unref(note);
    rate_announce_loss(session, &notes);
    pubs_fini(&notes);
}

static void leave(struct rate_end *end)
{
    turn_begin();
    door_gone(&end->client, 1000, "");
    hub_flush(hub);
}

static uint64_t metric(enum metric which)
{
    return (uint64_t)metric_get(which);
}

/* --- how many, when, which --- */

static void at_most_so_many_a_second_and_each_the_newest(void **state)
{
    (void)state;
    static const struct {
        const char *rest;
        uint64_t every_ms;
    } rates[] = {{"&rate=1", 1000}, {"&rate=0.1", 10000}, {"&rate=3", 334},    {"&rate=100", 10},
                 {"&rate=10", 100}, {"&rate=0.7", 1429},  {"&rate=12.345", 82}};
    static struct rate_end end;
    for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
        unsigned vehicle = (unsigned)i;
        come(&end, vehicle, rates[i].rest);
        settle();
        uint64_t pushes = 0, every_ms = rates[i].every_ms, start_ms = now_ms;
        uint64_t before = last_welcome.offset;
        while (now_ms < start_ms + 20 * every_ms + 7) {
            push_turn(vehicle);
            pushes++;
            wait_ms(every_ms / 20 ? every_ms / 20 : 1);
        }
        wait_ms(every_ms + 50);
        for (size_t k = 1; k < end.len; k++) {
            assert_int_equal(end.got[k].kind, 'm');
            assert_true(end.got[k].at_ms - end.got[k - 1].at_ms >= every_ms - 1);
            assert_true(end.got[k].at_ms - end.got[k - 1].at_ms <= every_ms + 30);
        }
        assert_int_equal(end.got[0].at_ms, start_ms); /* the first one waits for nothing */
        assert_int_equal(end.got[end.len - 1].offset, before + pushes);
        assert_int_equal(end.client.sent, end.len);
        assert_int_equal(end.client.own.session->facts.messages_out, end.len);
        assert_true(end.len >= 18 && end.len <= 22);
        leave(&end);
    }
}

static void the_last_one_arrives_in_time(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "&rate=2");
    settle();
    for (unsigned i = 0; i < 40; i++) {
        uint64_t pushed_ms = now_ms;
        unsigned pushes = i % 7 + 1;
        for (unsigned k = 0; k < pushes; k++) {
            push_turn(0);
            pushed_ms = now_ms;
            wait_ms(i % 5 * 13 + 1);
        }
        wait_ms(pushed_ms + 550 - now_ms);
        uint64_t newest = stream_at(end.client.own.session).offset;
        assert_int_equal(end.got[end.len - 1].offset, newest);
        assert_true(end.got[end.len - 1].at_ms <= pushed_ms + 550);
        wait_ms(i % 3 * 217);
    }
    leave(&end);
}

static void others_of_the_session_get_all(void **state)
{
    (void)state;
    static struct rate_end slow, all;
    uint64_t conflated = metric(METRIC_CONFLATED);
    come(&slow, 0, "&rate=1");
    come(&all, 0, "");
    settle();
    for (unsigned i = 0; i < 100; i++) {
        push_turn(0);
        wait_ms(50);
    }
    wait_ms(1050);
    assert_int_equal(all.len, 100);
    assert_true(slow.len >= 5 && slow.len <= 7);
    assert_int_equal(metric(METRIC_CONFLATED) - conflated, 100 - slow.len);
    leave(&slow);
    leave(&all);
}

static void of_one_turn_the_newest_goes(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "&rate=1");
    settle();
    turn_begin();
    for (unsigned i = 0; i < 5; i++)
        push(0);
    hub_flush(hub);
    assert_int_equal(end.len, 1);
    assert_int_equal(end.got[0].offset, last_welcome.offset + 5);
    leave(&end);
}

static void what_is_due_for_a_client_leaves_together(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "&rate=1");
    for (unsigned i = 1; i < VEHICLES; i++)
        subscribe(&end, i, "&rate=1");
    settle();
    /* Each begins at its own time, within 25 ms */
    for (unsigned i = 0; i < VEHICLES; i++) {
        push_turn(i);
        wait_ms(3);
    }
    end.writes = 0;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < VEHICLES; i++)
            push_turn(i);
        wait_ms(50);
    }
    assert_true(end.writes <= 2 * 10 + 2);
    assert_true(end.len >= VEHICLES * 10);
    leave(&end);
}

/* --- who does not read --- */

static void who_reads_on_gets_the_newest_whatever_the_policy(void **state)
{
    (void)state;
    static struct rate_end end;
    for (enum slow_policy policy = SLOW_CLOSE; policy <= SLOW_LATEST; policy++) {
        conf->services[0]->slow_client.policy = policy;
        conf->services[0]->slow_client.queue_bytes = 1000;
        unsigned vehicle = (unsigned)policy;
        come(&end, vehicle, "&rate=10");
        settle();
        push_turn(vehicle);
        assert_int_equal(end.len, 1);
        end.busy = true;
        for (unsigned i = 0; i < 300; i++) {
            wait_ms(20);
            push_turn(vehicle);
        }
        assert_true(client_queue_bytes(&end.client) == 0);
        uint64_t newest = stream_at(end.client.own.session).offset;
        end.busy = false;
        turn_begin();
        door_writable(&end.client);
        hub_flush(hub);
        assert_int_equal(end.len, 2);
        assert_int_equal(end.got[1].kind, 'm');
        assert_int_equal(end.got[1].offset, newest);
        wait_ms(200);
        assert_int_equal(end.len, 2);
        assert_int_equal(end.client.sent, 2);
        assert_false(end.closed);
        leave(&end);
    }
}

/* More messages are due at once than its queue may hold. */
static void many_that_are_due_need_no_room_in_the_queue(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "&rate=1");
    for (unsigned i = 1; i < VEHICLES; i++)
        subscribe(&end, i, "&rate=1");
    settle();
    conf->services[0]->slow_client.queue_bytes = 300; /* two of them */
    end.busy = true;
    for (unsigned i = 0; i < VEHICLES; i++)
        push_turn(i);
    for (unsigned i = 0; i < VEHICLES; i++)
        push_turn(i);
    wait_ms(5000);
    assert_int_equal(end.len, 0);
    end.busy = false;
    turn_begin();
    door_writable(&end.client);
    hub_flush(hub);
    assert_int_equal(end.len, VEHICLES);
    for (unsigned i = 0; i < VEHICLES; i++)
        assert_int_equal(end.got[i].kind, 'm');
    assert_false(end.closed);
    hub_check(hub);
    leave(&end);
}

/* --- losses --- */

static void a_gap_means_lost_and_stands_in_its_place(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "&rate=1");
    settle();
    struct session *session = end.client.own.session;
    push_turn(0); /* goes at once */
    push_turn(0); /* waits */
    uint64_t sent = stream_at(session).offset;
    turn_begin();
    lose(session, sent + 1, sent + 3);
    hub_flush(hub);
    hub_check(hub);
    assert_int_equal(end.len, 1);
    wait_ms(1050);
    assert_int_equal(end.len, 3);
    assert_int_equal(end.got[1].kind, 'm');
    assert_int_equal(end.got[1].offset, sent);
    assert_int_equal(end.got[2].kind, 'g');
    assert_int_equal(end.got[2].offset, sent + 1);
    assert_int_equal(end.got[2].to, sent + 3);
    leave(&end);
}

static void of_losses_without_end_a_few_notes_are_kept(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "&rate=0.1");
    settle();
    push_turn(0);
    push_turn(0);
    struct position at = stream_at(end.client.own.session);
    turn_begin();
    for (uint64_t i = 0; i < 1000; i++)
        lose(end.client.own.session, at.offset + 1 + 2 * i, at.offset + 1 + 2 * i);
    hub_flush(hub);
    hub_check(hub);
    wait_ms(10050);
    assert_true(end.len <= 40);
    assert_int_equal(end.got[2].offset, at.offset + 1);
    assert_int_equal(end.got[end.len - 1].to, at.offset + 1999);
    leave(&end);
}

static void a_resume_gives_the_newest_and_no_gap(void **state)
{
    (void)state;
    static struct rate_end watcher, end;
    char rest[64];
    come(&watcher, 0, "");
    settle();
    for (unsigned i = 0; i < 20; i++)
        push_turn(0);
    snprintf(rest, sizeof(rest), "&rate=1&resume=%" PRIu64 ".%" PRIu64, last_welcome.epoch,
             last_welcome.offset + 3);
    uint64_t newest = stream_at(watcher.client.own.session).offset;
    come(&end, 0, rest);
    wait_ms(20);
    assert_int_equal(end.len, 1);
    assert_int_equal(end.got[0].kind, 'm');
    assert_int_equal(end.got[0].offset, newest);
    leave(&end);
    leave(&watcher);
}

static void who_leaves_takes_what_waits_with_it(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "");
    subscribe(&end, 1, "&rate=1");
    subscribe(&end, 2, "&rate=1");
    settle();
    for (unsigned i = 0; i < 4; i++) {
        push_turn(1);
        push_turn(2);
    }
    size_t before = end.len;
    turn_begin();
    joining_unsubscribe(end.client.further->items[0]);
    hub_flush(hub);
    hub_check(hub);
    wait_ms(2000);
    assert_int_equal(end.len, before + 1);
    end.busy = true;
    push_turn(2);
    wait_ms(2000);
    leave(&end); /* while one is overdue */
    wait_ms(2000);
}

static void a_node_that_slept_goes_on(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "&rate=0.1");
    subscribe(&end, 1, "&rate=5");
    settle();
    for (unsigned i = 0; i < 2; i++) {
        push_turn(0);
        push_turn(1);
    }
    now_ms += 45000; /* longer than the ring of deadlines covers */
    wait_ms(11000);
    end.len = 0;
    for (unsigned i = 0; i < 200; i++) {
        push_turn(0);
        push_turn(1);
        wait_ms(100);
    }
    assert_true(end.len >= 2 + 90 && end.len <= 3 + 101);
    leave(&end);
}

/* A push looks at none of a hundred subscriptions that wait for their time. */
static void a_push_costs_nothing_for_those_that_wait(void **state)
{
    (void)state;
    static struct rate_end ends[20];
    for (size_t i = 0; i < 20; i++)
        come(&ends[i], 0, i % 5 ? "&rate=0.1" : "");
    settle();
    push_turn(0);
    push_turn(0);
    struct session *session = ends[0].client.own.session;
    assert_int_equal(session->rates.pending, 16);
    assert_null(session->rates.idle);
    assert_ptr_equal(session->rates.first, session->subscriptions->next->next->next->next);
    assert_non_null(session->rates.newest);
    wait_ms(11000);
    assert_int_equal(session->rates.pending, 0);
    assert_null(session->rates.newest); /* nobody waits for it */
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(ends[i].len, 2);
        leave(&ends[i]);
    }
    assert_null(session->rates.first);
}

static void rates_cost_nothing_where_there_is_none(void **state)
{
    (void)state;
    static struct rate_end end;
    come(&end, 0, "");
    settle();
    push_turn(0);
    assert_null(hub->rates);
    assert_null(end.client.own.rate);
    leave(&end);
    come(&end, 0, "&rate=1");
    settle();
    push_turn(0);
    assert_null(hub->rates); /* nothing has to wait */
    push_turn(0);
    assert_non_null(hub->rates);
    wait_ms(2000);
    uint64_t turns = 0, end_ms = now_ms + 3000;
    while (hub_next_deadline(hub) < end_ms) {
        now_ms = hub_next_deadline(hub);
        turn_begin();
        hub_flush(hub);
        turns++;
    }
    assert_true(turns < 100); /* turns of the node itself: an idle subscription needs none */
    leave(&end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(at_most_so_many_a_second_and_each_the_newest, start, stop),
        cmocka_unit_test_setup_teardown(the_last_one_arrives_in_time, start, stop),
        cmocka_unit_test_setup_teardown(others_of_the_session_get_all, start, stop),
        cmocka_unit_test_setup_teardown(of_one_turn_the_newest_goes, start, stop),
        cmocka_unit_test_setup_teardown(what_is_due_for_a_client_leaves_together, start, stop),
        cmocka_unit_test_setup_teardown(who_reads_on_gets_the_newest_whatever_the_policy, start,
                                        stop),
        cmocka_unit_test_setup_teardown(many_that_are_due_need_no_room_in_the_queue, start, stop),
        cmocka_unit_test_setup_teardown(a_gap_means_lost_and_stands_in_its_place, start, stop),
        cmocka_unit_test_setup_teardown(of_losses_without_end_a_few_notes_are_kept, start, stop),
        cmocka_unit_test_setup_teardown(a_resume_gives_the_newest_and_no_gap, start, stop),
        cmocka_unit_test_setup_teardown(who_leaves_takes_what_waits_with_it, start, stop),
        cmocka_unit_test_setup_teardown(a_node_that_slept_goes_on, start, stop),
        cmocka_unit_test_setup_teardown(a_push_costs_nothing_for_those_that_wait, start, stop),
        cmocka_unit_test_setup_teardown(rates_cost_nothing_where_there_is_none, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
