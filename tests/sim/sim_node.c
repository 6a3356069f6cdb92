/* The nodes of the simulated cluster: the real core with virtual clocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "sim.h"

#define WALL_APART_MS 7000u /* by which the wall clocks of two nodes differ */

uint64_t node_now_ms(const struct sim_node *node)
{
    int64_t now = (int64_t)node->world->now_us;
    return (uint64_t)((now + now / 1000000 * node->drift_ppm + node->clock_offset_us) / 1000);
}

static uint64_t now_ms(void *ctx)
{
    struct sim_node *node = ctx;
    node->clock_offset_us += node->stops_us;
    node->stops_us = 0;
    return node_now_ms(node);
}

static uint64_t unix_ms(void *ctx)
{
    struct sim_node *node = ctx;
    return 1700000000000u + WALL_APART_MS * (unsigned)(NODES - node->index) +
           node->world->now_us / 1000;
}

void node_works(struct sim_node *node, unsigned tenths)
{
    struct world *world = node->world;
    node->work += tenths;
    if (node->work > world->most_work)
        world->most_work = node->work;
    if (node->work > WORK_TENTHS_A_TURN)
        world_fail(world, "a turn of %s does too much: %u calls and messages", node->id,
                   node->work / 10);
}

static void node_flush(struct sim_node *node)
{
    node->flush_due = false;
    hub_flush(node->hub);
    node->held_up_us = 0;
    node->work = 0;
}

static void on_wake(struct timer *timer, uint64_t now_us);

static void node_arm(struct sim_node *node)
{
    struct world *world = node->world;
    uint64_t at_ms = hub_next_deadline(node->hub), clock_ms = node_now_ms(node);
    timer_stop(&world->events, &node->wake);
    if (at_ms == UINT64_MAX)
        return;
    uint64_t after_us = at_ms > clock_ms ? (at_ms - clock_ms) * 1000 : 0;
    timer_start(&world->events, &node->wake, world->now_us + after_us + between(world, 50, 1500),
                on_wake);
}

struct flush_later {
    struct sim_node *node;
    unsigned life;
};

static void on_flush(void *ctx)
{
    struct flush_later *later = ctx;
    struct sim_node *node = later->node;
    if (node->life == later->life && node->alive && !node->paused && node->flush_due) {
        hub_enter(node->hub, node_now_ms(node));
        node_flush(node);
        node_arm(node);
    }
    free(later);
}

static void node_turn(struct sim_node *node, event_fn *fn, void *ctx)
{
    struct world *world = node->world;
    hub_enter(node->hub, node_now_ms(node));
    if (fn)
        fn(ctx);
    if (!node->alive)
        return;
    bool more = chance(world, 20);
    if (more || world->turn_us) { /* more comes within the same turn */
        struct flush_later *later = malloc(sizeof(*later));
        *later = (struct flush_later){node, node->life};
        node->flush_due = true;
        at_us(world, world->now_us + (world->turn_us ? world->turn_us : between(world, 1, 300)),
              on_flush, later);
    } else {
        node_flush(node);
    }
    node_arm(node);
}

static void on_wake(struct timer *timer, uint64_t now_us)
{
    struct sim_node *node = (struct sim_node *)(void *)((char *)timer -
                                                        offsetof(struct sim_node, wake));
    (void)now_us;
    if (node->alive && !node->paused)
        node_turn(node, NULL, NULL);
}

void node_event(struct sim_node *node, unsigned life, event_fn *fn, void *ctx)
{
    if (node->life != life || !node->alive) {
        free(ctx);
        return;
    }
    if (!node->paused) {
        node_turn(node, fn, ctx);
        return;
    }
    struct waiting_event *event = malloc(sizeof(*event));
    *event = (struct waiting_event){fn, ctx, life, NULL};
    *node->pile_end = event;
    node->pile_end = &event->next;
}

static void on_drained(void *ctx)
{
    struct sim_node *node = ctx;
    node->stopping = true;
    node->bus->bus.ops->sign_off(&node->bus->bus);
}

static const struct hub_events events = {.on_drained = on_drained};

void node_start(struct world *world, int index)
{
    struct sim_node *node = &world->nodes[index];
    unsigned life = node->life + 1;
    memset(node, 0, sizeof(*node));
    node->world = world;
    node->index = index;
    node->life = life;
    node->alive = true;
    node->pile_end = &node->pile;
    node->clock_offset_us = (int64_t)between(world, 1000000, 900000000);
    node->drift_ppm = (int32_t)between(world, 0, 10000) - 5000;
    if (world->has_sends)
        node->drift_ppm /= 10; /* the rest of a ttl is measured by the clocks of two nodes */
    snprintf(node->id, sizeof(node->id), "n%d", index);
    node->bus = sim_bus_new(node);
    struct hub_setup setup = {
        .conf = world->conf,
        .node_id = node->id,
        .life = world->now_us + life - world->set_back_us,
        .seed = rng_next(&world->rng),
        .host = "sim",
        .version = "sim",
        .bus = &node->bus->bus,
        .upstream_ops = &sim_upstream_ops,
        .upstream_ctx = node,
        .client_ops = &sim_client_ops,
        .client_ctx = node,
        .events = &events,
        .events_ctx = node,
        .now_ms = now_ms,
        .unix_ms = unix_ms,
        .clock_ctx = node,
    };
    node->hub = hub_new(&setup);
    box_register(node->hub);
    hub_start(node->hub);
    link_heal(node);
    node_arm(node);
    world_say(world, "node %s starts, life %u", node->id, life);
}

/* Kills the node: the kernel closes its sockets, and only its data in the store remain. */
void node_crash(struct sim_node *node)
{
    struct world *world = node->world;
    world_say(world, "node %s is killed%s", node->id, node->paused ? " while paused" : "");
    node->alive = false;
    timer_stop(&world->events, &node->wake);
    upstreams_of_node_die(node);
    clients_of_node_die(node);
    while (node->pile) {
        struct waiting_event *event = node->pile;
        node->pile = event->next;
        free(event->ctx);
        free(event);
    }
    node->paused = false;
    hub_free(node->hub);
    sim_bus_free(node->bus);
    node->hub = NULL;
    node->bus = NULL;
}

void node_pause(struct sim_node *node)
{
    world_say(node->world, "node %s is paused", node->id);
    node->paused = true;
    if (node->flush_due && !node->held_up_us)
        node->held_up_us = node->world->now_us;
    timer_stop(&node->world->events, &node->wake);
}

void node_resume(struct sim_node *node)
{
    world_say(node->world, "node %s goes on", node->id);
    node->paused = false;
    struct waiting_event *pile = node->pile;
    node->pile = NULL;
    node->pile_end = &node->pile;
    while (pile) {
        struct waiting_event *event = pile;
        pile = event->next;
        node_event(node, event->life, event->fn, event->ctx);
        free(event);
    }
    if (node->alive)
        node_turn(node, NULL, NULL);
}

static void on_drain(void *ctx)
{
    struct sim_node **node = ctx;
    hub_drain((*node)->hub);
    free(node);
}

void node_drain(struct sim_node *node)
{
    struct sim_node **which = malloc(sizeof(*which));
    *which = node;
    node_event(node, node->life, on_drain, which);
}
