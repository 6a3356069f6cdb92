/*
 * A Redis with arbitrary answers: the bus over Redis and the core on top of it, with bytes that
 * went through hiredis' reader. Replies of wrong types, errors, nil, unexpected pushes; from one
 * server, behind Sentinels, and in a Cluster. Whatever it sends, each call is answered once,
 * browsers see positions that grow, and nothing is left at the end.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis.h"
#include "common/clock.h"
#include "core/revoked.h"
#include "ends.h"
#include "redis_wire.h"

#define STEPS_MAX 300

#define END_MS   60000 /* longer than any deadline */
#define LEASE_MS 1000

static const char *const shapes[] = {"redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0",
                                     "redis-sentinel://127.0.0.1:1,127.0.0.1:2/master",
                                     "redis-cluster://127.0.0.1:7000,127.0.0.1:7001"};

static struct end_node node;
static struct bus *bus;
static unsigned lists, publishes, revokes; /* that are not answered */

static struct conf *conf_of(unsigned shape, unsigned replicas)
{
    static struct conf *made[4][2];
    if (!made[shape][replicas]) {
        char text[1024];
        snprintf(text, sizeof(text),
                 "node: {lease: 1s, drain: 1s}\n"
                 "redis: {url: '%s', replicas: %u}\n"
                 "clients: {max_message: 1KiB}\n"
                 "services:\n"
                 "  - name: svc\n"
                 "    upstream: 'ws://backend:80/s{path}'\n"
                 "    linger: 500ms\n"
                 "    reconnect: {min: 100ms, max: 2s, timeout: 2s}\n"
                 "    history: {size: 5, ttl: 1m}\n"
                 "    to_upstream: {queue: 2KiB, wait: 5s}\n"
                 "    slow_client: {queue: 2KiB, policy: drop_oldest}\n",
                 shapes[shape], replicas);
        made[shape][replicas] = fuzz_conf(text);
    }
    return made[shape][replicas];
}

static void start(struct conf *conf)
{
    char why[512];
    wire_start("n0");
    if (bus_redis_new(NULL, conf, "n0", clock_unix_ms(), &bus, why, sizeof(why)) != STATUS_OK)
        abort();
    ends_hub_start(&node, conf, "n0", clock_unix_ms(), bus);
}

static void turn_begin(void)
{
    hub_enter(node.hub, fuzz_now_ms);
    ends_time(&node);
}

static void turn_end(void)
{
    hub_flush(node.hub);
    ends_check_bounds(&node);
    /* Only a reply that names this node renews its lease. */
    assert(!hub_ready(node.hub) || fuzz_now_ms - wire_renewed_ms() <= LEASE_MS);
}

/* Time advances in small steps; served: the server answers meanwhile. */
static void pass_time(uint64_t ms, bool served)
{
    for (uint64_t until_ms = fuzz_now_ms + ms; fuzz_now_ms < until_ms;) {
        uint64_t next_ms = wire_next_ms(), hub_ms = hub_next_deadline(node.hub);
        next_ms = hub_ms < next_ms ? hub_ms : next_ms;
        next_ms = next_ms > fuzz_now_ms ? next_ms : fuzz_now_ms + 1;
        next_ms = next_ms < fuzz_now_ms + 100 ? next_ms : fuzz_now_ms + 100;
        fuzz_now_ms = next_ms < until_ms ? next_ms : until_ms;
        turn_begin();
        wire_time();
        if (served)
            wire_serve();
        turn_end();
    }
}

static void on_rows(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                    const char *next)
{
    (void)ctx;
    lists--;
    assert(status == STATUS_OK || len == 0);
    for (size_t i = 0; i < len; i++) {
        assert(rows[i].id);
        for (size_t f = 0; f < rows[i].fields_len; f++)
            assert(rows[i].fields[f].name && rows[i].fields[f].value);
    }
    assert(!next || len > 0 || *next != '\0');
}

static void on_published(void *ctx, unsigned http_status, struct position at)
{
    (void)ctx;
    (void)at;
    publishes--;
    assert(http_status == 200 || http_status == 404 || http_status == 503 || http_status == 504);
}

static void on_revoked(void *ctx, enum status status, uint64_t closed, const char *const *missing,
                       size_t missing_len)
{
    (void)ctx;
    (void)closed;
    revokes--;
    assert(status == STATUS_OK || status == STATUS_IO);
    for (size_t i = 0; i < missing_len; i++)
        assert(missing[i][0] != '\0');
}

static void end_or_revoke(unsigned what, const char *session)
{
    const struct token_choice choice = {
        .sub = what % 2 == 0, .name = session, .issued_before_s = 1.5e9 + what};
    if (what < 128)
        hub_close_session(node.hub, session);
    else if (hub_revoke(node.hub, &choice, on_revoked, NULL) == STATUS_OK)
        revokes++;
}

static void operate(struct fuzz_input *input)
{
    unsigned what = fuzz_byte(input);
    const char *session = end_session_ids[what % END_SESSIONS];
    switch (what / 2 % 8) {
    case 0:
    case 1:
    case 2: {
        static const enum bus_listing kinds[] = {BUS_LIST_NODES, BUS_LIST_SESSIONS,
                                                 BUS_LIST_SESSION, BUS_LIST_REVOKED};
        lists++;
        bus->ops->list(bus, kinds[what >= 192 ? 3 : what / 2 % 8], what < 128 ? session : "",
                       1 + what % 5, on_rows, NULL);
        break;
    }
    case 3:
    case 4:
        publishes++;
        hub_publish(node.hub, session, OPCODE_TEXT, "published", 9, on_published, NULL);
        break;
    case 5: end_or_revoke(what, session); break;
    case 6: hub_ask_drain(node.hub, "other"); break;
    case 7: hub_drain(node.hub); break;
    }
}

static void step(struct fuzz_input *input)
{
    unsigned what = fuzz_below(input, 16);
    if (what < 2) {
        pass_time(10 * (uint64_t)fuzz_byte(input), what == 0);
        return;
    }
    turn_begin();
    switch (what) {
    case 2: wire_serve(); break;
    case 3: wire_cut_one(input); break;
    case 4: wire_connect_one(input); break;
    case 5: wire_babble(input); break;
    case 6:
    case 7: wire_push(input); break;
    case 8: operate(input); break;
    case 9:
    case 10: ends_client_step(input, &node); break;
    case 11: ends_upstream_step(input, &node); break;
    default: wire_answer_one(input); break;
    }
    turn_end();
}

/* The server is gone: all that waits for it is answered. */
static void stop(void)
{
    turn_begin();
    wire_cut_all();
    ends_all_leave(&node);
    turn_end();
    pass_time(END_MS, false);
    assert(lists == 0 && publishes == 0 && revokes == 0);
    hub_free(node.hub);
    ends_node_died(&node);
    bus->ops->free(bus);
    wire_stop();
    ends_stop();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input input = {data, len};
    unsigned mode = fuzz_byte(&input);
    struct conf *conf = conf_of(mode % 4, mode / 4 % 2);
    fuzz_now_ms = 100000;
    lists = publishes = revokes = 0;
    ends_start(conf, true);
    start(conf);
    if ((mode & 8) == 0)
        pass_time(1000, true);
    for (unsigned steps = 0; input.len > 0 && steps < STEPS_MAX; steps++)
        step(&input);
    stop();
    return 0;
}
