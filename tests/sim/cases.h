/*
 * What the files of written histories share.
 */
#ifndef VINHUB_TESTS_SIM_CASES_H
#define VINHUB_TESTS_SIM_CASES_H

#include "sim.h"

#define MS       1000u
#define STEP_US  MS       /* how finely conditions are looked at */
#define SOON_US  5000000u /* all that must happen happens within this */
#define LEASE_US 1000000u /* of main.c */

typedef bool condition_fn(const struct world *world);

void expect(struct world *world, bool holds, const char *what);
void until(struct world *world, condition_fn *condition, const char *what);
/* All nodes are up. */
void all_up(struct world *world);
/* The session is 0: its clients are 0, 3 (raw), 6 and 9. */
bool n0_owns(const struct world *world);
bool watchers_welcome(const struct world *world);
void everybody_gets_a_push(struct world *world);

#endif
