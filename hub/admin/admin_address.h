/*
 * "host:port" of the admin port and of the Host header.
 */
#ifndef VINHUB_ADMIN_ADMIN_ADDRESS_H
#define VINHUB_ADMIN_ADMIN_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

/* The host of "host", "host:port" or "[v6]:port", without brackets. Returns false if address has
 * another form or out is too small. */
bool admin_address_host(const char *address, char *out, size_t size);
/* Whether host is localhost, in 127.0.0.0/8, or ::1. */
bool admin_host_is_loopback(const char *host);
/*
 * Opens a listening, non-blocking socket. STATUS_INVALID: not an address; STATUS_IO: errno says
 * why.
 */
MUST_USE enum status admin_address_listen(const char *address, int *out_fd);
/* The bound address of a socket as "host:port". */
void admin_address_bound(int fd, char *out, size_t size);

#endif
