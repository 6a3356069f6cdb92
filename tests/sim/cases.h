/*
 * What the files of written histories share.
 */
#ifndef VINHUB_TESTS_SIM_CASES_H
#define VINHUB_TESTS_SIM_CASES_H

#include "sim.h"

#define MS       1000u
#define STEP_US  MS       /* how often conditions are checked */
#define SOON_US  5000000u /* everything expected happens within this time */
#define LEASE_US 1000000u /* node.lease of main.c */
#define FENCE_US \
    890000u /* after a renewal was sent: past the margin, before another node finds it dead */

typedef bool condition_fn(const struct world *world);

void expect(struct world *world, bool holds, const char *what);
void until(struct world *world, condition_fn *condition, const char *what);
/* All nodes are up. */
void all_up(struct world *world);
/* The session is 0: its clients are 0, 3 (raw), 6 and 9. */
bool has_owner(const struct world *world, int node);
bool n0_owns(const struct world *world);
bool n1_owns(const struct world *world);
bool n2_owns(const struct world *world);
bool one_upstream_ever(const struct world *world);
/* Every message of raw clients reached the backend. */
bool all_heard(const struct world *world);
bool watchers_welcome(const struct world *world);
bool watchers_up_to_date(const struct world *world);
void everybody_gets_a_push(struct world *world);
/* n0 owns the session and has a client; the client of n1 is raw, so that it may send. */
void n0_owns_n1_speaks(struct world *world);
void n1_says(struct world *world);
void nothing_was_lost(struct world *world); /* of the messages of n1's client */
/* The same, but the client of n1 follows the stream. */
void n0_owns_n1_watches(struct world *world);
/* The script's spy has seen its request. */
bool spy_is_gone(const struct world *world);
/* Cuts the node's subscriptions and allows no new ones. */
void unhear(struct sim_node *node);

#endif
