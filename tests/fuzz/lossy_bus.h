/*
 * A bus over another one, whose connection breaks on demand: pending calls are answered with
 * STATUS_IO whether the store carried them out or not, messages are lost, subscriptions come back
 * with the connection. All of it within bus.h's guarantees.
 */
#ifndef VINHUB_TESTS_FUZZ_LOSSY_BUS_H
#define VINHUB_TESTS_FUZZ_LOSSY_BUS_H

#include "bus/bus.h"

/* Takes over inner. Freed with bus->ops->free. */
struct bus *lossy_bus_new(struct bus *inner);
/* To be called within a turn. No effect if it is already so. */
void lossy_bus_break(struct bus *bus);
void lossy_bus_restore(struct bus *bus);
/* The subscriptions alone break and come back at once: messages on their way are lost. */
void lossy_bus_resubscribe(struct bus *bus);
/* Gives the node a forged message. */
void lossy_bus_forge(struct bus *bus, const struct envelope *envelope, bool push);

#endif
