/*
 * The listings of the bus in memory: rows as text, in the form people see them over Redis.
 */
#ifndef VINHUB_BUS_BUS_MEMORY_LIST_H
#define VINHUB_BUS_BUS_MEMORY_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"

struct bus_memory_store;

/* Calls fn once. A page of sessions costs one walk over all of them: it is for people, a page at a
 * time. */
void memory_list(struct bus_memory_store *store, enum bus_listing listing, const char *after,
                 size_t limit, uint64_t now_ms, uint64_t unix_ms, bus_rows_fn *fn, void *ctx);

#endif
