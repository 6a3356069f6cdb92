/*
 * The bus of a single node: the same guarantees as over Redis, in this process's memory.
 *
 * Events are queued and delivered by bus_flush. History and records live here, bounded by their
 * sizes and times to live.
 */
#ifndef VINHUB_BUS_BUS_MEMORY_H
#define VINHUB_BUS_BUS_MEMORY_H

#include "bus/bus.h"

/* now_ms and unix_ms are asked for the time; never NULL. Several buses made with the same store
 * share it (tests); store may be NULL for an own one. Freed with bus->ops->free. */
struct bus_memory_store;
struct bus_memory_store *bus_memory_store_new(void);
void bus_memory_store_free(struct bus_memory_store *store); /* after all its buses */
struct bus *bus_memory_new(struct bus_memory_store *store, const char *node_id,
                           uint64_t (*now_ms)(void), uint64_t (*unix_ms)(void));

#endif
