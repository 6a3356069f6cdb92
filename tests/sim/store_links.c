/*
 * The links of a node to the simulated store: how they break, how nodes notice, how they recover.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "store.h"

/* The network holds back what the node sends from now on; TCP delivers it in the end. */
void link_stall(struct sim_node *node, uint64_t for_us)
{
    world_say(node->world, "the link of %s stalls", node->id);
    node->bus->to_store_us = larger(node->bus->to_store_us, node->world->now_us + for_us);
}

struct change {
    struct sim_node *node;
    unsigned life, generation;
};

static void at_node(struct sim_node *node, uint64_t after_us, event_fn *fn, unsigned generation)
{
    struct change *change = malloc(sizeof(*change));
    *change = (struct change){node, node->life, generation};
    at_us(node->world, node->world->now_us + after_us, fn, change);
}

static void try_connect(void *ctx);

static void on_connected_turn(void *ctx)
{
    struct change *change = ctx;
    struct sim_bus *bus = change->node->bus;
    if (bus->generation == change->generation && bus->link_up && !bus->connected) {
        bus->connected = true;
        bus->bus.events->on_connected(bus->bus.events_ctx);
    } else if (!bus->connected) {
        at_node(change->node, between(change->node->world, 20000, 300000), try_connect, 0);
    }
    free(change);
}

static void on_connected(void *ctx)
{
    struct change *change = ctx;
    node_event(change->node, change->life, on_connected_turn, change);
}

static void try_connect(void *ctx);

static void on_disconnected_turn(void *ctx)
{
    struct change *change = ctx;
    struct sim_bus *bus = change->node->bus;
    if (bus->connected && bus->generation == change->generation) {
        bus->generation++;
        while (bus->unanswered) {
            struct sim_request *request = request_take_first(bus);
            request->status = STATUS_IO;
            request_answer(bus, request);
            request_free(request);
        }
        bus->connected = false;
        while (bus->outgoing) { /* asked for in this very turn */
            struct sim_request *request = bus->outgoing;
            bus->outgoing = request->next;
            request->status = STATUS_IO;
            request_answer(bus, request);
            request_free(request);
        }
        bus->outgoing_end = &bus->outgoing;
        bus->bus.events->on_disconnected(bus->bus.events_ctx);
        at_node(change->node,
                change->node->world->calm || chance(change->node->world, 50)
                    ? 1000
                    : between(change->node->world, 1000, 300000),
                try_connect, 0);
    }
    free(change);
}

static void on_disconnected(void *ctx)
{
    struct change *change = ctx;
    node_event(change->node, change->life, on_disconnected_turn, change);
}

static bool reachable(const struct sim_node *node)
{
    return node->world->store.up && !node->cut;
}

static void try_connect(void *ctx)
{
    struct change *change = ctx;
    struct sim_node *node = change->node;
    if (node->alive && node->life == change->life && !node->bus->connected) {
        if (reachable(node) && !node->paused) {
            node->bus->link_up = true;
            at_node(node, delay_us(node->world), on_connected, node->bus->generation);
        } else {
            at_node(node, between(node->world, 20000, 300000), try_connect, 0);
        }
    }
    free(change);
}

static void try_subscribe(void *ctx);

static void sub_connect(struct sim_node *node)
{
    struct sim_bus *bus = node->bus;
    bus->sub_up = true;
    bus->deaf = false;
    bus->sub_generation++;
    node->world->store.inbox[node->index] = true;
    memset(node->world->store.subscribed[node->index], 0, sizeof(node->world->store.subscribed[0]));
    for (int i = 0; i < node->world->sessions; i++)
        if (bus->wants[i])
            subscribe_send(bus, i);
}

static void try_subscribe(void *ctx)
{
    struct change *change = ctx;
    struct sim_node *node = change->node;
    if (node->alive && node->life == change->life && !node->bus->sub_up) {
        if (reachable(node) && !node->paused && !node->unheard)
            sub_connect(node);
        else
            at_node(node, between(node->world, 20000, 300000), try_subscribe, 0);
    }
    free(change);
}

static void on_sub_lost(void *ctx)
{
    struct change *change = ctx;
    struct sim_node *node = change->node;
    if (node->alive && node->life == change->life &&
        node->bus->sub_generation == change->generation) {
        node->bus->sub_up = false;
        at_node(node, between(node->world, 1000, 200000), try_subscribe, 0);
    }
    free(change);
}

void sub_cut(struct sim_node *node, bool deaf)
{
    struct world *world = node->world;
    world_say(world, "subscriptions of %s %s", node->id, deaf ? "go deaf" : "are cut");
    if (deaf) {
        node->bus->deaf = true; /* TCP is healthy; the probe finds out within a lease */
        at_node(node, between(world, 100000, (uint64_t)LEASE(world) * 1000), on_sub_lost,
                node->bus->sub_generation);
        return;
    }
    world->store.inbox[node->index] = false;
    memset(world->store.subscribed[node->index], 0, sizeof(world->store.subscribed[0]));
    at_node(node, 1, on_sub_lost, node->bus->sub_generation);
}

void links_break(struct sim_node *node)
{
    struct world *world = node->world;
    struct sim_bus *bus = node->bus;
    world->store.inbox[node->index] = false;
    memset(world->store.subscribed[node->index], 0, sizeof(world->store.subscribed[0]));
    bus->link_up = false;
    at_node(node, between(world, 1, 1500000), on_disconnected, bus->generation);
    at_node(node, between(world, 1, 1500000), on_sub_lost, bus->sub_generation);
}

void link_cut(struct sim_node *node)
{
    world_say(node->world, "node %s is cut off from the store", node->id);
    node->cut = true;
    links_break(node);
}

void link_blink(struct sim_node *node)
{
    struct sim_bus *bus = node->bus;
    if (!bus->connected || !bus->link_up)
        return;
    world_say(node->world, "the command link of %s breaks", node->id);
    bus->link_up = false;
    bus->to_store_us = node->world->now_us; /* a new connection waits for nothing of the old one */
    at_node(node, between(node->world, 100, 2000), on_disconnected, bus->generation);
}

void link_heal(struct sim_node *node)
{
    node->cut = false;
    if (!node->bus->connected)
        at_node(node, between(node->world, 100, 5000), try_connect, 0);
    if (!node->bus->sub_up)
        at_node(node, between(node->world, 100, 5000), try_subscribe, 0);
}
