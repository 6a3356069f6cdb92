/*
 * Sequences of events on the core: nodes that share a store, browsers, backends, time, broken
 * connections, kills, drains, messages that are forged.
 *
 * Without forgery the promises of the contract hold in every sequence: one upstream a session among
 * the nodes that run, positions that grow without a silent gap, bounded queues, and when all
 * browsers have left nothing stays behind. With it, what
 * remains of them: no crash, no disorder, no growth. The first byte says which.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_memory.h"
#include "common/clock.h"
#include "core/session/state.h"
#include "ends.h"
#include "lossy_bus.h"

#define NODES     3
#define STEPS_MAX 400

#define SETTLE_MS 40000 /* more than the longest wait, that of a message without an upstream */

struct node {
    struct end_node end; /* first */
    struct bus *bus;
    uint64_t entered_ms; /* time of its last turn */
    bool in_turn;
};

static struct node nodes[NODES];
static struct bus_memory_store *store;
static bool lies;
static unsigned lives; /* nodes started so far */

static const char yaml[] = "node: {lease: 1s, drain: 1s}\n"
                           "clients: {max_message: 1KiB}\n"
                           "services:\n"
                           "  - name: svc\n"
                           "    upstream: 'ws://backend:80/s{path}'\n"
                           "    linger: 500ms\n"
                           "    presence: true\n"
                           "    reconnect: {min: 100ms, max: 2s, timeout: 2s}\n"
                           "    history: {size: 5, ttl: 1m}\n"
                           "    to_upstream: {queue: 2KiB, wait: 5s}\n"
                           "    slow_client: {queue: 2KiB, policy: %s}\n";

static struct conf *conf_of(unsigned policy)
{
    static const char *const policies[] = {"close", "drop_oldest", "latest"};
    static struct conf *made[3];
    if (!made[policy]) {
        char text[sizeof(yaml) + 16];
        snprintf(text, sizeof(text), yaml, policies[policy]);
        made[policy] = fuzz_conf(text);
    }
    return made[policy];
}

/* --- nodes --- */

static void node_start(struct node *node, struct conf *conf)
{
    fuzz_say("n%td starts", node - nodes);
    static const char *const ids[NODES] = {"n0", "n1", "n2"};
    const char *id = ids[node - nodes];
    *node = (struct node){.entered_ms = fuzz_now_ms};
    node->bus = lossy_bus_new(bus_memory_new(store, id, clock_boot_ms, clock_unix_ms));
    /* Now and then earlier than the last: clocks are set back. */
    uint64_t life = clock_unix_ms() + ++lives % 8;
    ends_hub_start(&node->end, conf, id, life, node->bus);
}

static void node_kill(struct node *node)
{
    fuzz_say("n%td is killed", node - nodes);
    hub_free(node->end.hub);
    ends_node_died(&node->end);
    node->bus->ops->free(node->bus);
    *node = (struct node){0};
}

static void turn_begin(struct node *node)
{
    fuzz_say("%" PRIu64 " ms: n%td", fuzz_now_ms, node - nodes);
    hub_enter(node->end.hub, fuzz_now_ms);
    node->entered_ms = fuzz_now_ms;
    node->in_turn = true;
    ends_time(&node->end);
}

static void turn_end(struct node *node)
{
    if (!node->in_turn)
        return;
    hub_flush(node->end.hub);
    node->in_turn = false;
    ends_check_bounds(&node->end);
    if (hub_state(node->end.hub) != NODE_STOPPED)
        return;
    /* Its drain is over: the process ends. */
    node->bus->ops->sign_off(node->bus);
    node_kill(node);
}

/* --- what must hold --- */

/* A node that missed one of its deadlines counts as paused. */
static bool is_running(const struct node *node)
{
    return node->end.hub &&
           (node->entered_ms == fuzz_now_ms || hub_next_deadline(node->end.hub) > fuzz_now_ms);
}

static void check_owners(void)
{
    unsigned held[END_SESSIONS] = {0};
    for (const struct upstream *up = ends_upstreams(); up; up = up->next) {
        if (is_running((const struct node *)(const void *)up->node))
            held[up->backend]++;
    }
    for (size_t i = 0; i < END_SESSIONS; i++)
        assert(lies || held[i] <= 1);
}

/* --- forged messages --- */

static struct slice any_name(struct fuzz_input *input)
{
    static const char *const names[] = {"n0", "n1", "n2", "n9", ""};
    unsigned which = fuzz_below(input, 6);
    return which < 5 ? slice_of(names[which]) : fuzz_slice(input);
}

static struct slice any_session(struct fuzz_input *input)
{
    unsigned which = fuzz_below(input, 8);
    return which < 7 ? slice_of(end_session_ids[which % END_SESSIONS]) : fuzz_slice(input);
}

/* An epoch near those the node knows, or any. */
static uint64_t any_epoch(struct fuzz_input *input, const struct hub *hub, struct slice id)
{
    const struct session *session = NULL;
    HASH_FIND(hh, hub->sessions->by_id, id.at, id.len, session);
    unsigned how = fuzz_below(input, 8);
    if (!session || how > 5)
        return fuzz_number(input);
    return session->epoch + how - 2;
}

static size_t any_items(struct fuzz_input *input, struct envelope_item items[4])
{
    size_t len = fuzz_below(input, 5);
    for (size_t i = 0; i < len; i++)
        items[i] = (struct envelope_item){
            .kind = (enum item_kind)fuzz_below(input, ITEM_WATCHER + 1),
            .number = fuzz_number(input),
            .id = fuzz_number(input),
            .time_ms = fuzz_number(input),
            .opcode = fuzz_below(input, 4),
            .name = any_name(input),
            .bytes = fuzz_slice(input)};
    return len;
}

static void forge(struct fuzz_input *input, struct node *node)
{
    struct envelope_item items[4];
    struct envelope envelope = {.type = fuzz_below(input, ENVELOPE_PRESENCE + 1)};
    envelope.session = any_session(input);
    envelope.node = any_name(input);
    envelope.epoch = any_epoch(input, node->end.hub, envelope.session);
    envelope.life = fuzz_below(input, 4) == 0 ? fuzz_number(input) : clock_unix_ms();
    envelope.number = fuzz_number(input);
    envelope.offset = fuzz_number(input);
    envelope.count = fuzz_number(input);
    envelope.status = fuzz_number(input);
    envelope.text = fuzz_slice(input);
    envelope.url = fuzz_below(input, 4) == 0 ? fuzz_slice(input)
                                             : slice_of("ws://backend:80/s/u/v0");
    envelope.items = items;
    envelope.items_len = any_items(input, items);
    bool push = fuzz_below(input, 2) == 0;
    fuzz_say("forged: type %u of %.*s, session %.*s, epoch %" PRIu64 ", number %" PRIu64
             ", offset %" PRIu64 ", %zu items, push %d",
             envelope.type, (int)envelope.node.len, envelope.node.at, (int)envelope.session.len,
             envelope.session.at, envelope.epoch, envelope.number, envelope.offset,
             envelope.items_len, push);
    for (size_t i = 0; i < envelope.items_len; i++)
        fuzz_say("  item: kind %u, number %" PRIu64, items[i].kind, items[i].number);
    lossy_bus_forge(node->bus, &envelope, push);
}

static void garble(struct fuzz_input *input, struct node *node)
{
    struct slice bytes = fuzz_slice(input);
    struct envelope envelope;
    struct envelope_item *items = NULL;
    void *exact = fuzz_copy(bytes);
    if (envelope_decode(exact, bytes.len, &envelope, &items) == STATUS_OK)
        lossy_bus_forge(node->bus, &envelope, fuzz_below(input, 2) == 0);
    free(items);
    free(exact);
}

/* --- operators --- */

static unsigned answers;

static void on_published(void *ctx, unsigned http_status, struct position at)
{
    (void)ctx;
    assert(http_status == 200 || http_status == 404 || http_status == 503 || http_status == 504);
    assert(http_status != 200 || at.epoch > 0);
    answers--;
}

static void operate(struct fuzz_input *input, struct node *node)
{
    struct hub *hub = node->end.hub;
    unsigned what = fuzz_byte(input);
    const char *session = end_session_ids[what % END_SESSIONS];
    fuzz_say("operator: %u on %s", what / 2 % 4, session);
    switch (what / 2 % 4) {
    case 0:
    case 1:
        answers++;
        hub_publish(hub, session, OPCODE_TEXT, "published", 9, on_published, NULL);
        break;
    case 2: hub_close_session(hub, session); break;
    case 3: hub_drain(hub); break;
    }
}

/* --- steps --- */

/* Time advances for the nodes that the input names; the others are paused meanwhile. */
static void pass_time(struct fuzz_input *input)
{
    static const uint64_t steps_ms[] = {1, 5, 20, 50, 100, 125, 250, 500, 1000, 3000};
    unsigned which = fuzz_byte(input);
    for (size_t i = 0; i < NODES; i++)
        turn_end(&nodes[i]);
    fuzz_now_ms += steps_ms[fuzz_below(input, 10)];
    for (size_t i = 0; i < NODES; i++) {
        if (nodes[i].end.hub && (which >> i & 1) == 0)
            turn_begin(&nodes[i]);
    }
    for (size_t i = 0; i < NODES; i++)
        turn_end(&nodes[i]);
}

/* Runs all nodes at each of their deadlines, and their ends at least this often. */
static void run_to_next(uint64_t until_ms)
{
    uint64_t next_ms = fuzz_now_ms + 200;
    for (size_t i = 0; i < NODES; i++) {
        uint64_t at_ms = nodes[i].end.hub ? hub_next_deadline(nodes[i].end.hub) : next_ms;
        if (at_ms < next_ms)
            next_ms = at_ms > fuzz_now_ms ? at_ms : fuzz_now_ms + 1;
    }
    fuzz_now_ms = next_ms < until_ms ? next_ms : until_ms;
    for (size_t i = 0; i < NODES; i++) {
        if (!nodes[i].end.hub)
            continue;
        turn_begin(&nodes[i]);
        turn_end(&nodes[i]);
    }
    check_owners();
}

static void run_for(uint64_t ms)
{
    for (uint64_t until_ms = fuzz_now_ms + ms; fuzz_now_ms < until_ms;)
        run_to_next(until_ms);
}

static void connection(struct fuzz_input *input, struct node *node)
{
    unsigned what = fuzz_below(input, 4);
    fuzz_say("connection: %u", what);
    switch (what) {
    case 0: lossy_bus_break(node->bus); break;
    case 1:
    case 2: lossy_bus_restore(node->bus); break;
    case 3: lossy_bus_resubscribe(node->bus); break;
    }
}

static void step(struct fuzz_input *input, struct conf *conf)
{
    unsigned what = fuzz_byte(input);
    struct node *node = &nodes[what % NODES];
    what = what / NODES % 16;
    if (what < 3) {
        pass_time(input);
        return;
    }
    if (what == 3) {
        run_for(100 * (uint64_t)fuzz_below(input, 32));
        return;
    }
    if (!node->end.hub) {
        node_start(node, conf);
        return;
    }
    turn_begin(node);
    switch (what) {
    case 4:
    case 5:
    case 6:
    case 7: ends_client_step(input, &node->end); break;
    case 8:
    case 9:
    case 10: ends_upstream_step(input, &node->end); break;
    case 11: connection(input, node); break;
    case 12: operate(input, node); break;
    case 13: (lies ? forge : connection)(input, node); break;
    case 14: (lies ? garble : operate)(input, node); break;
    case 15:
        if (fuzz_below(input, 4) == 0) {
            node_kill(node);
            return;
        }
        break;
    }
    turn_end(node);
}

static bool is_empty(void)
{
    bool empty = !ends_upstreams() && answers == 0;
    for (size_t i = 0; i < NODES; i++) {
        struct hub_counts counts = {0};
        if (nodes[i].end.hub)
            hub_count(nodes[i].end.hub, &counts);
        assert(counts.clients == 0);
        empty = empty && counts.sessions == 0 && counts.owned == 0;
    }
    return empty;
}

/* Everything works again and all clients leave: nothing may be left. */
static void leave(void)
{
    for (size_t i = 0; i < NODES; i++) {
        if (!nodes[i].end.hub)
            continue;
        turn_begin(&nodes[i]);
        lossy_bus_restore(nodes[i].bus);
        ends_calm(&nodes[i].end);
        ends_all_leave(&nodes[i].end);
        turn_end(&nodes[i]);
    }
    for (uint64_t until_ms = fuzz_now_ms + SETTLE_MS; !is_empty() && fuzz_now_ms < until_ms;)
        run_to_next(until_ms);
    assert(is_empty() || lies);
    for (size_t i = 0; i < NODES; i++) {
        if (nodes[i].end.hub)
            node_kill(&nodes[i]);
    }
    assert(answers == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input input = {data, len};
    unsigned mode = fuzz_byte(&input);
    struct conf *conf = conf_of(mode / 2 % 3);
    lies = (mode & 1) != 0;
    answers = 0;
    lives = 0;
    fuzz_now_ms = 100000;
    store = bus_memory_store_new();
    ends_start(conf, lies);
    for (size_t i = 0; i < NODES; i++)
        node_start(&nodes[i], conf);
    run_for(1500);
    for (unsigned steps = 0; input.len > 0 && steps < STEPS_MAX; steps++) {
        step(&input, conf);
        check_owners();
    }
    leave();
    ends_stop();
    bus_memory_store_free(store);
    return 0;
}
