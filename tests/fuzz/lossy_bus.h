/*
 * A bus over another one whose connection breaks when it is told to: what was under way is answered
 * with STATUS_IO whether the store did it or not, messages are lost, subscriptions come back with
 * the connection. Within bus.h's guarantees, for the core to live with.
 */
#ifndef VINHUB_TESTS_FUZZ_LOSSY_BUS_H
#define VINHUB_TESTS_FUZZ_LOSSY_BUS_H

#include "bus/bus.h"

/* Takes over inner. Freed with bus->ops->free. */
struct bus *lossy_bus_new(struct bus *inner);
/* Within a turn. No effect where it is so already. */
void lossy_bus_break(struct bus *bus);
void lossy_bus_restore(struct bus *bus);
/* The subscriptions alone break and come back at once: what was on its way to this node is lost. */
void lossy_bus_resubscribe(struct bus *bus);
/* Hands the node a message as if somebody had sent it. */
void lossy_bus_forge(struct bus *bus, const struct envelope *envelope, bool push);

#endif
