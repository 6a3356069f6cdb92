/*
 * The order in which the addresses of a name are tried: RFC 6724 section 6.
 *
 * A datagram socket is connected to each destination, which sends nothing. The kernel then reports
 * whether there is a route, and which address of this machine would be the source.
 */
#ifndef VINHUB_LOOP_ADDRESS_ORDER_H
#define VINHUB_LOOP_ADDRESS_ORDER_H

#include <stdbool.h>
#include <stddef.h>

#include "loop/resolve.h"

/* Sorts in place; addresses that the rules treat as equal keep their order. len is at most
 * 2 * RESOLVE_MAX. */
void address_order(union resolve_address *addresses, size_t len);

/* Sets *from to the source address that the route to *to uses. Returns false if there is no route.
 */
typedef bool source_fn(const union resolve_address *to, union resolve_address *from);
/* The same with another function in place of the kernel, for tests. */
void address_order_by(union resolve_address *addresses, size_t len, source_fn *source);

#endif
