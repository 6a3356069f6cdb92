/*
 * Host names, addresses and ports as text.
 */
#ifndef VINHUB_COMMON_ADDRESS_H
#define VINHUB_COMMON_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

/* A host name or an IPv4 address: what is all digits and dots has to be a valid one. */
bool address_is_name(const char *text);
bool address_is_host(const char *text); /* the same, or an IPv6 address without brackets */
bool address_is_port(const char *text); /* 0 to 65535 */
/* "host:port" or "[v6]:port"; port 0 is the kernel's choice. */
bool address_is_host_and_port(const char *text);
bool address_is_loopback(const char *text); /* of "host:port": 127.0.0.0/8, ::1 or localhost */
bool address_is_loopback_host(const char *host, size_t len);
bool address_is_network(const char *text); /* an address or CIDR, both families */

/* Cuts "host:port" or "[v6]:port" in place at the last colon; false where it has none. */
bool address_cut_port(char *text, char **host, char **port);
/* Takes the brackets off in place; false where there are none or they hold no IPv6 address. */
bool address_cut_brackets(char **host);

/* Reads an address without port or brackets, IPv4 in its mapped form; false where it is none. */
bool address_parse(const char *text, struct in6_addr *out);
/* Without port; of an IPv4 address in its mapped form (::ffff:0:0/96) the four numbers. */
void address_print(const struct in6_addr *address, char out[INET6_ADDRSTRLEN]);

#endif
