/*
 * What the parts of the simulated store share: its scripts (store.c), its channels, the bus by
 * which a node uses it, and the links between.
 */
#ifndef VINHUB_TESTS_SIM_STORE_H
#define VINHUB_TESTS_SIM_STORE_H

#include "common/node_messages.h"
#include "sim.h"

#define LEASE(world) ((world)->conf->node.lease_ms)

struct store *store_of(const struct sim_node *node);
uint64_t larger(uint64_t a, uint64_t b);
/* A random delay. */
uint64_t delay_us(struct world *world);

/* --- store.c --- */

/* The store's clock. */
uint64_t store_ms(const struct world *world);
/* Carries out the request and writes the answer into it. */
void store_apply(struct world *world, struct sim_request *request);

/* Announces a plain publication that is to be kept later (keeps_after_us). Returns whether it is one,
 * and was not announced before. */
bool store_announces_first(struct world *world, struct sim_request *request);

/* The connection ended within the request: of a plain publication the store may have announced what
 * it has not kept. */
void store_cut(struct world *world, const struct sim_request *request);

/* --- store_channels.c --- */

void channel_deliver(struct sim_node *node, int session, const uint8_t *bytes, size_t len);
/* The number of nodes that listen. */
int channel_publish(struct world *world, int session, const struct envelope *envelope);
/* Returns false if no node listens. */
bool inbox_publish(struct world *world, const char *id, const uint8_t *bytes, size_t len);

/* --- store_bus.c --- */

void request_free(struct sim_request *request);
/* The first that waits for its answer. */
struct sim_request *request_take_first(struct sim_bus *bus);
void request_answer(struct sim_bus *bus, struct sim_request *request);
void subscribe_send(struct sim_bus *bus, int session);

/* --- store_links.c --- */

void links_break(struct sim_node *node);

#endif
