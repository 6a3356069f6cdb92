/*
 * "host:port" of the admin port and of the Host header.
 */
#ifndef VINHUB_ADMIN_ADMIN_ADDRESS_H
#define VINHUB_ADMIN_ADMIN_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

/* The host of "host", "host:port" or "[v6]:port", without brackets. False where it is of no such
 * form or does not fit. */
bool admin_address_host(const char *address, char *out, size_t size);
/* localhost, 127.0.0.0/8 or ::1. */
bool admin_host_is_loopback(const char *host);
/*
 * A listening, non-blocking socket. STATUS_INVALID: no address; STATUS_IO: errno says why.
 */
MUST_USE enum status admin_address_listen(const char *address, int *out_fd);
/* The bound address of a socket as "host:port". */
void admin_address_bound(int fd, char *out, size_t size);

#endif
