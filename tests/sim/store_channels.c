/*
 * The channels of the simulated store: pub/sub without memory, to the nodes that listen at the
 * time.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "store.h"

struct delivery {
    struct sim_node *node;
    unsigned life, generation;
    int session; /* -1: inbox */
    size_t len;
    uint8_t bytes[];
};

static void hear_roster(const struct delivery *delivery, const struct envelope *envelope)
{
    struct sim_node *node = delivery->node;
    char id[128];
    snprintf(id, sizeof(id), "%.*s", (int)envelope->session.len, envelope->session.at);
    if (!node->world->lied_to)
        roster_heard(node, session_index(id), envelope);
    node->bus->bus.events->on_message(node->bus->bus.events_ctx, envelope, delivery->session >= 0);
}

static void on_delivery_turn(void *ctx)
{
    struct delivery *delivery = ctx;
    struct sim_node *node = delivery->node;
    struct sim_bus *bus = node->bus;
    struct envelope envelope;
    struct envelope_item *items;
    if (bus->sub_up && !bus->deaf && bus->sub_generation == delivery->generation) {
        if (envelope_decode(delivery->bytes, delivery->len, &envelope, &items) != STATUS_OK)
            abort();
        if (envelope.type == ENVELOPE_PROBE)
            bus->heard_ms = probe_decode(&envelope).sent_ms;
        else if (envelope.type == ENVELOPE_PRESENCE)
            hear_roster(delivery, &envelope);
        else
            bus->bus.events->on_message(bus->bus.events_ctx, &envelope, delivery->session >= 0);
        free(items);
    }
    free(delivery);
}

static void on_delivery(void *ctx)
{
    struct delivery *delivery = ctx;
    node_event(delivery->node, delivery->life, on_delivery_turn, delivery);
}

void channel_deliver(struct sim_node *node, int session, const uint8_t *bytes, size_t len)
{
    struct world *world = node->world;
    struct sim_bus *bus = node->bus;
    if (bus->deaf || node->cut)
        return;
    struct delivery *delivery = malloc(sizeof(*delivery) + len);
    *delivery = (struct delivery){node, node->life, bus->sub_generation, session, len};
    memcpy(delivery->bytes, bytes, len);
    uint64_t at = world->now_us + delay_us(world);
    if (at <= bus->sub_us)
        at = bus->sub_us + 1;
    bus->sub_us = at;
    at_us(world, at, on_delivery, delivery);
}

int channel_publish(struct world *world, int session, const struct envelope *envelope)
{
    uint8_t *bytes;
    size_t len;
    int receivers = 0;
    if (envelope_encode(envelope, &bytes, &len) != STATUS_OK)
        abort();
    for (int i = 0; i < NODES; i++) {
        if (!world->nodes[i].alive || !world->store.subscribed[i][session])
            continue;
        receivers++;
        channel_deliver(&world->nodes[i], session, bytes, len);
    }
    free(bytes);
    return receivers;
}

bool inbox_publish(struct world *world, const char *id, const uint8_t *bytes, size_t len)
{
    for (int i = 0; i < NODES; i++) {
        if (!world->nodes[i].alive || strcmp(world->nodes[i].id, id) != 0 || !world->store.inbox[i])
            continue;
        channel_deliver(&world->nodes[i], -1, bytes, len);
        return true;
    }
    return false;
}

void store_repeat_stale(struct world *world, int session)
{
    size_t n = world->granted_len[session];
    if (n < 2)
        return;
    const char text[] = "stale";
    const struct publication_entry entry = {.offset = between(world, 1, 60),
                                            .opcode = OPCODE_TEXT,
                                            .payload = {text, sizeof(text) - 1}};
    const struct envelope_item item = publication_item(&entry);
    const struct push_message message = {world->granted[session][n - 2].epoch, {&item, 1}};
    struct envelope push = push_encode(&message);
    push.session = slice_of(session_name(session));
    push.node = slice_of(world->granted[session][n - 2].owner);
    channel_publish(world, session, &push);
}

void store_lie(struct world *world, int node, const struct envelope *envelope)
{
    uint8_t *bytes;
    size_t len;
    if (envelope_encode(envelope, &bytes, &len) != STATUS_OK)
        abort();
    inbox_publish(world, world->nodes[node].id, bytes, len);
    free(bytes);
    for (int i = 0; i < SESSIONS; i++)
        if (envelope->session.at == session_name(i) && chance(world, 30))
            channel_publish(world, i, envelope);
}
