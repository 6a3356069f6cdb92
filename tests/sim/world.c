/* Time, chance, faults, and the properties that are checked after every step. */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/client/joining.h"
#include "sim.h"

#define FAULTS_US 25000000u /* how long things break */
#define LATE_MS   250u      /* history.every */
/* Links break for up to 1.8 s, stall for up to 3 s; then a lease and its watch */
#define ROLLED_BACK_US 8000000u
#define SETTLE_US      20000000u /* everything must work again within it */

struct world_event {
    struct timer timer;
    event_fn *fn;
    void *ctx;
};

static void on_event(struct timer *timer, uint64_t now_us)
{
    struct world_event *event = (struct world_event *)(void *)timer;
    (void)now_us;
    event->fn(event->ctx);
    free(event);
}

bool sim_pages, sim_presence, sim_sends;

void at_us(struct world *world, uint64_t when_us, event_fn *fn, void *ctx)
{
    struct world_event *event = calloc(1, sizeof(*event));
    event->fn = fn;
    event->ctx = ctx;
    timer_start(&world->events, &event->timer,
                when_us > world->now_us ? when_us : world->now_us + 1, on_event);
}

uint64_t between(struct world *world, uint64_t low, uint64_t high)
{
    return low + rng_below(&world->rng, high - low + 1);
}

bool chance(struct world *world, unsigned percent)
{
    return rng_below(&world->rng, 100) < percent;
}

void world_say(struct world *world, const char *format, ...)
{
    va_list args;
    if (!world->verbose)
        return;
    va_start(args, format);
    printf("%12.6f ", (double)world->now_us / 1e6);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void world_fail(struct world *world, const char *format, ...)
{
    va_list args;
    if (world->failure || world->lied_to)
        return;
    va_start(args, format);
    vsnprintf(world->failure_text, sizeof(world->failure_text), format, args);
    va_end(args);
    world->failure = world->failure_text;
    world_say(world, "FAILED: %s", world->failure);
}

const char *session_name(int index)
{
    static char names[SESSIONS_MAX][24];
    if (!names[index][0])
        snprintf(names[index], sizeof(names[index]), "svc:v%d", index);
    return names[index];
}

int session_index(const char *id)
{
    int index = strncmp(id, "svc:v", 5) ? -1 : atoi(id + 5);
    if (index < 0 || index >= SESSIONS_MAX)
        abort();
    return index;
}

/* Checks. */

static void check_held(struct world *world, int session, int held)
{
    if (held > 1)
        world_fail(world, "%s: %d upstreams are held open by live, unpaused nodes",
                   session_name(session), held);
}

static void check_upstreams(struct world *world)
{
    /* After lost acknowledged writes two may be open until both reach the same store, plus one
     * lease (contract section 9). */
    if (world->rolls_back && world->now_us - world->rolled_back_us < ROLLED_BACK_US)
        return;
    int held[SESSIONS];
    upstreams_count(world, held);
    for (int i = 0; i < SESSIONS; i++)
        check_held(world, i, held[i]);
    if (world->sessions == SESSIONS)
        return;
    /* One session of the crowd at each step, in turn */
    unsigned crowd = (unsigned)(world->sessions - SESSIONS);
    int next = SESSIONS + (int)(world->steps % crowd);
    check_held(world, next, upstreams_held(world, next));
}

/* Each part of the core checks its invariants: one node and one client at each step, in turn. */
static void check_parts(const struct world *world)
{
    const struct sim_node *node = &world->nodes[world->steps % NODES];
    if (node->alive && !node->paused)
        hub_check(node->hub);
    const struct sim_client *client = &world->clients[world->steps % CLIENTS];
    if (!client->open || !client->node->alive)
        return;
    client_check(&client->client);
    joining_check(&client->client);
}

static void check_epochs(struct world *world)
{
    for (int i = 0; i < SESSIONS; i++) {
        struct memory_record *record = &world->store.records[i].own;
        if (!record->there)
            continue;
        if (record->epoch < world->highest_epoch[i] && !world->loses_data && !world->rolls_back)
            world_fail(world, "%s: the epoch went back", session_name(i));
        if (record->epoch > world->highest_epoch[i])
            world->highest_epoch[i] = record->epoch;
    }
}

void world_pass(struct world *world, uint64_t for_us)
{
    uint64_t until_us = world->now_us + for_us;
    while (!world->failure && timers_next(&world->events) <= until_us) {
        uint64_t next = timers_next(&world->events);
        if (next > world->now_us)
            world->now_us = next;
        /* One event a step: those of the same microsecond are apart by the order of the heap, which
         * is fixed. */
        timers_run(&world->events, world->now_us);
        world->steps++;
        check_upstreams(world);
        check_epochs(world);
        check_parts(world);
    }
    if (!world->failure)
        world->now_us = until_us;
}

static void mend_all(struct world *world)
{
    world->faults = false;
    if (!world->store.up)
        store_start(world);
    for (int i = 0; i < SESSIONS; i++)
        world->backend_up[i] = true;
    for (int i = 0; i < NODES; i++) {
        struct sim_node *node = &world->nodes[i];
        if (!node->alive)
            node_start(world, i);
        if (node->paused)
            node_resume(node);
        if (node->alive && node->cut)
            link_heal(node);
    }
}

static void check_well(struct world *world)
{
    for (int i = 0; i < SESSIONS; i++) {
        int open = 0, held = upstreams_held(world, i);
        for (int k = 0; k < CLIENTS; k++)
            open += world->clients[k].open && world->clients[k].session == i;
        if (open && held != 1)
            world_fail(world, "%s: %d upstreams for %d clients after all is mended",
                       session_name(i), held, open);
    }
}

static void check_markers(struct world *world, const char *marker)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct sim_client *client = &world->clients[i];
        if (client->open && client->page)
            page_check_marker(client, marker);
        if (client->open && !client->rate && !client->alone &&
            strcmp(client->last_marker, marker) != 0)
            world_fail(world,
                       "client %d of %s on %s (state %d, blocked %d, busy %d, closing %d) does not "
                       "get pushes after all is mended (last \"%s\")",
                       i, session_name(client->session), client->node->id, client->client.state,
                       client->client.blocked, client->busy, client->closing, client->last_marker);
    }
}

/* The last one always arrives: within a second and 50 ms at one a second. */
static void check_last(struct world *world)
{
    world->hushed = true;
    world_pass(world, 1200000);
    for (int i = 0; i < CLIENTS; i++) {
        const struct sim_client *client = &world->clients[i];
        for (int k = 0; client->rate && client->open && k < CLIENTS; k++) {
            const struct sim_client *other = &world->clients[k];
            if (other->open && other->protocol && !other->rate && !other->alone &&
                other->session == client->session && position_compare(other->at, client->at) != 0)
                world_fail(world,
                           "client %d on %s: the last it has is %" PRIu64 ".%" PRIu64
                           ", of client %d on %s %" PRIu64 ".%" PRIu64,
                           i, client->node->id, client->at.epoch, client->at.offset, k,
                           other->node->id, other->at.epoch, other->at.offset);
        }
    }
}

/* When all clients have left, no node keeps a session: at once, or after the next roll call if a
 * LEAVE or a HELLO was lost. */
static void all_leave(struct world *world)
{
    for (int i = 0; i < CLIENTS; i++)
        client_leave(&world->clients[i], 1001);
}

bool world_keeps(const struct world *world)
{
    bool keeps = false;
    for (int i = 0; i < NODES; i++) {
        struct hub_counts counts = {0};
        if (world->nodes[i].alive)
            hub_count(world->nodes[i].hub, &counts);
        keeps = keeps || counts.sessions;
    }
    return keeps;
}

static void check_left(struct world *world)
{
    for (int i = 0; i < NODES; i++) {
        struct hub_counts counts = {0};
        if (world->nodes[i].alive)
            hub_count(world->nodes[i].hub, &counts);
        if (counts.sessions)
            world_fail(world,
                       "node n%d keeps %" PRIu64 " sessions that nobody wants, %" PRIu64
                       " of them as the owner",
                       i, counts.sessions, counts.owned);
    }
}

static void check_commands(struct world *world)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct sim_client *client = &world->clients[i];
        if (client->open && !client->protocol && client->heard != client->said)
            world_fail(world,
                       "client %d: the backend heard %" PRIu64 " of %" PRIu64 " when all is mended",
                       i, client->heard, client->said);
    }
}

static void all_connect(struct world *world)
{
    for (int i = 0; i < CLIENTS; i++)
        if (!world->clients[i].open)
            client_start(world, i, i % NODES);
}

static void free_events(struct world *world)
{
    while (world->events.len) {
        struct world_event *event = (struct world_event *)(void *)world->events.heap[0];
        timer_stop(&world->events, world->events.heap[0]);
        if (event->ctx != world)
            free(event->ctx);
        free(event);
    }
    timers_fini(&world->events);
}

static void world_begin(struct world *world, uint64_t seed, bool verbose)
{
    struct conf *conf = world->conf;
    memset(world, 0, sizeof(*world));
    world->conf = conf;
    conf->redis.on_loss = ON_LOSS_FENCE;
    conf->services[0]->presence = false;
    world->seed = seed;
    world->has_sends = sim_sends;
    world->verbose = verbose;
    rng_seed(&world->rng, seed);
    timers_init(&world->events);
    world->now_us = 100000000;
    world->store.up = true;
    world->sessions = SESSIONS;
    for (int i = 0; i < SESSIONS_MAX; i++)
        world->backend_up[i] = true;
    for (int i = 0; i < CLIENTS; i++) {
        world->clients[i].world = world;
        world->clients[i].session = i % SESSIONS;
        world->clients[i].protocol = i % 4 != 3;
    }
    for (int i = 0; i < NODES; i++)
        node_start(world, i);
}

static void world_end(struct world *world)
{
    for (int i = 0; i < NODES; i++)
        if (world->nodes[i].alive) {
            timer_stop(&world->events, &world->nodes[i].wake);
            node_crash(&world->nodes[i]);
        }
    upstreams_free(world);
    crowd_free(world);
    store_clear(&world->store);
    memcpy(world->store.records, world->before, sizeof(world->before));
    store_clear(&world->store);
    free_events(world);
    requests_free(world);
}

void world_presence(struct world *world, bool has)
{
    world->has_presence = world->conf->services[0]->presence = has;
    if (has)
        world->clients[6].one_way = world->clients[9].one_way = true;
}

void world_run(struct world *world, uint64_t seed, bool late, bool verbose)
{
    world_begin(world, seed, verbose);
    world->loses_data = seed % 4 == 0;
    world->rolls_back = seed % 5 == 0;
    world->conf->services[0]->history.size = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 10 : 100;
    /* A quarter of the histories has clients with a rate; none of those that are kept as cases. */
    bool has_rates = seed % 8 == 5 || seed % 8 == 7;
    for (int i = 1; has_rates && i < CLIENTS; i += 4)
        world->clients[i].rate = i == 1 ? 20 : i == 5 ? 4 : 1;
    world->conf->services[0]->history.every_ms = late ? LATE_MS : 0;
    world->joins_calls = seed % 2;
    world->publishes_plainly = seed / 2 % 2;
    world->keeps_after_us = seed % 16 == 15 ? 10000 : 0;
    if (sim_pages)
        pages_begin(world);
    world_presence(world, sim_presence);
    if (sim_sends)
        world->clients[2].replay = world->clients[10].replay = 3;
    world->faults = true;
    at_us(world, world->now_us + 1000, world_beats, world);
    world_pass(world, FAULTS_US);
    mend_all(world);
    world_pass(world, SETTLE_US);
    all_connect(world);
    world_pass(world, 4000000);
    for (int i = 0; i < CLIENTS; i++)
        if (world->clients[i].page)
            page_acts(&world->clients[i], PAGE_SUBSCRIBES);
    world_pass(world, world->clients[0].page ? 3000000 : 0);
    check_well(world);
    world->quiet = true;
    for (int i = 0; i < CLIENTS; i++)
        if (world->has_sends && world->clients[i].page)
            page_acts(&world->clients[i], PAGE_SENDS_AGAIN);
    for (int i = 0; i < SESSIONS; i++)
        backend_push(world, i, "marker-1");
    world_pass(world, 3000000);
    check_commands(world);
    if (world->has_sends)
        sends_check(world);
    char marker[32] = "marker-1";
    check_markers(world, marker);
    if (world->has_presence)
        rosters_end(world);
    if (has_rates)
        check_last(world);
    world->deserted = true;
    all_leave(world);
    world_pass(world, 4000000);
    if (world_keeps(world))
        world_pass(world, ROLL_CALL_US);
    check_left(world);
    world_end(world);
}

void world_script(struct world *world, void (*script)(struct world *world), uint32_t history,
                  uint64_t seed, bool verbose)
{
    world_begin(world, seed, verbose);
    world->calm = world->joins_calls = true;
    world->conf->services[0]->history.size = history;
    world->conf->services[0]->history.every_ms = LATE_MS;
    script(world);
    world_end(world);
}
