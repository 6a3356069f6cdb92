/* Random events: faults, and what browsers do. */
#include <stdlib.h>

#include "sim.h"

static struct sim_node *any_node(struct world *world)
{
    return &world->nodes[between(world, 0, NODES - 1)];
}

struct later {
    struct world *world;
    int index;
    unsigned life;
};

static struct later *later_new(struct world *world, int index, unsigned life)
{
    struct later *later = malloc(sizeof(*later));
    *later = (struct later){world, index, life};
    return later;
}

static void on_restart(void *ctx)
{
    struct later *later = ctx;
    if (!later->world->nodes[later->index].alive)
        node_start(later->world, later->index);
    free(later);
}

static void on_resume(void *ctx)
{
    struct later *later = ctx;
    struct sim_node *node = &later->world->nodes[later->index];
    if (node->alive && node->life == later->life && node->paused)
        node_resume(node);
    free(later);
}

static void on_heal(void *ctx)
{
    struct later *later = ctx;
    struct sim_node *node = &later->world->nodes[later->index];
    if (node->alive && node->life == later->life && node->cut)
        link_heal(node);
    free(later);
}

static void on_store_back(void *ctx)
{
    struct later *later = ctx;
    if (!later->world->store.up)
        store_start(later->world);
    free(later);
}

static void on_backend_back(void *ctx)
{
    struct later *later = ctx;
    later->world->backend_up[later->index] = true;
    free(later);
}

static void break_something(struct world *world)
{
    struct sim_node *node = any_node(world);
    uint64_t lease_us = world->conf->node.lease_ms * 1000ull;
    int session = (int)between(world, 0, SESSIONS - 1);
    switch (between(world, 0, 11)) {
    case 0:
        if (node->alive) {
            node_crash(node);
            at_us(world, world->now_us + between(world, 10000, 4 * lease_us), on_restart,
                  later_new(world, node->index, 0));
        }
        break;
    case 1:
    case 2:
        if (node->alive && !node->paused) {
            node_pause(node);
            at_us(world, world->now_us + between(world, 1000, 3 * lease_us), on_resume,
                  later_new(world, node->index, node->life));
        }
        break;
    case 3:
        if (node->alive && !node->cut) {
            link_cut(node);
            at_us(world, world->now_us + between(world, 1000, 3 * lease_us), on_heal,
                  later_new(world, node->index, node->life));
        }
        break;
    case 4:
    case 5:
        if (node->alive && node->bus->sub_up)
            sub_cut(node, chance(world, 30));
        break;
    case 6:
        if (world->store.up && chance(world, 40)) {
            store_stop(world, world->loses_data && chance(world, 50));
            at_us(world, world->now_us + between(world, 10000, 3 * lease_us), on_store_back,
                  later_new(world, 0, 0));
        }
        break;
    case 7:
        if (world->backend_up[session]) {
            backend_stop(world, session);
            at_us(world, world->now_us + between(world, 100000, 3000000), on_backend_back,
                  later_new(world, session, 0));
        }
        break;
    case 8:
        if (node->alive)
            link_stall(node, between(world, 10000, 3 * lease_us));
        break;
    case 9:
        if (world->rolls_back && world->store.up && chance(world, 50))
            store_roll_back(world);
        else if (world->rolls_back && world->store.up)
            store_repeat_stale(world, session);
        break;
    case 10:
    case 11:
        if (node->alive && !node->paused && hub_state(node->hub) == NODE_UP)
            node_drain(node);
        break;
    }
}

static void on_blink(void *ctx)
{
    struct later *later = ctx;
    struct sim_node *node = &later->world->nodes[later->index];
    if (node->alive && node->life == later->life)
        link_blink(node);
    free(later);
}

static void on_return(void *ctx)
{
    struct later *later = ctx;
    struct sim_client *client = &later->world->clients[later->index];
    if (!client->open && later->world->nodes[later->life].alive)
        client_start(later->world, later->index, (int)later->life);
    free(later);
}

/* A page reloads while its node's link breaks: the LEAVE on the old connection may arrive after the
 * new JOIN. */
static void reload_over_a_broken_link(struct world *world, int index)
{
    struct sim_client *client = &world->clients[index];
    struct sim_node *node = client->node;
    link_stall(node, between(world, 5000, 30000));
    client_leave(client, 1001);
    at_us(world, world->now_us + 1500, on_blink, later_new(world, node->index, node->life));
    at_us(world, world->now_us + between(world, 3000, 12000), on_return,
          later_new(world, index, (unsigned)node->index));
}

/* At the end it follows all sessions. */
static void live_of_page(struct sim_client *page)
{
    struct world *world = page->world;
    if (world->has_sends && chance(world, 70))
        page_acts(page, PAGE_SENDS);
    else
        page_acts(page, !world->faults || chance(world, 70) ? PAGE_SUBSCRIBES : PAGE_LEAVES);
}

/* Browsers connect, send, leave, and come back at other nodes. */
static void browsers_live(struct world *world)
{
    int index = (int)between(world, 0, CLIENTS - 1);
    struct sim_client *client = &world->clients[index];
    if (!client->open) {
        int node = (int)between(world, 0, NODES - 1);
        if (world->nodes[node].alive)
            client_start(world, index, node);
    } else if (chance(world, 10) && world->faults) {
        if (chance(world, 30))
            reload_over_a_broken_link(world, index);
        else
            client_leave(client, 1001);
    } else if (client->page) {
        live_of_page(client);
    } else if (!world->quiet) {
        client_says(client);
    }
}

static void restart_drained(struct world *world)
{
    for (int i = 0; i < NODES; i++) {
        struct sim_node *node = &world->nodes[i];
        if (!node->alive || !node->stopping)
            continue;
        node_crash(node);
        at_us(world, world->now_us + between(world, 1000, 500000), on_restart,
              later_new(world, i, 0));
    }
}

void world_beats(void *ctx)
{
    struct world *world = ctx;
    at_us(world, world->now_us + between(world, 2000, 40000), world_beats, world);
    if (!world->deserted && !world->frozen)
        browsers_live(world);
    restart_drained(world);
    if (!world->hushed && (world->store.up || chance(world, 30)))
        backend_push(world, (int)between(world, 0, SESSIONS - 1), "push");
    if (chance(world, 10))
        store_remember(world);
    if (world->faults && chance(world, 8))
        break_something(world);
}
