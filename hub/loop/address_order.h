/*
 * The order in which the addresses of a name are tried: RFC 6724 section 6.
 *
 * Each destination is connected once as a datagram socket, which sends nothing: the kernel then
 * says whether there is a way to it, and from which address of this machine.
 */
#ifndef VINHUB_LOOP_ADDRESS_ORDER_H
#define VINHUB_LOOP_ADDRESS_ORDER_H

#include <stdbool.h>
#include <stddef.h>

#include "loop/resolve.h"

/* Sorts in place; what the rules hold for equal keeps its order. At most 2 * RESOLVE_MAX. */
void address_order(union resolve_address *addresses, size_t len);

/* Says from which address of this machine to is reached, or false where there is no way to it. */
typedef bool source_fn(const union resolve_address *to, union resolve_address *from);
/* The same by sources that are not the kernel's, for tests. */
void address_order_by(union resolve_address *addresses, size_t len, source_fn *source);

#endif
