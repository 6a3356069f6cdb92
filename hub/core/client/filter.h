/*
 * Which clients an operator means: all that are named must fit, each exactly.
 */
#ifndef VINHUB_CORE_CLIENT_FILTER_H
#define VINHUB_CORE_CLIENT_FILTER_H

#include <netinet/in.h>
#include <stdbool.h>

#include "common/status.h"

struct client;

/* vin, service and session fit where the client's own session or one that it has subscribed to
 * does; where several of them are named, one and the same. */
enum client_filter_key {
    CLIENT_FILTER_USER,
    CLIENT_FILTER_VIN,
    CLIENT_FILTER_SERVICE,
    CLIENT_FILTER_SESSION,
    CLIENT_FILTER_NODE,
    CLIENT_FILTER_ADDRESS, /* without a port */
    CLIENT_FILTERS
};
#define CLIENT_FILTER_MAX 1024u /* bytes of a value */

struct client_filter {
    const char *values[CLIENT_FILTERS]; /* NULL: any */
};

const char *client_filter_name(enum client_filter_key key);
/* CLIENT_FILTERS: there is none of that name. */
enum client_filter_key client_filter_key_of(const char *name, size_t len);
/* NULL: the values can be looked for; else a static text that says what is wrong with one. */
const char *client_filter_wrong(const struct client_filter *filter);

/* The same, ready to be compared with. */
struct client_match {
    struct client_filter filter; /* its values are owned */
    struct in6_addr address;     /* where the filter names one */
};
/* Copies. The filter is not wrong. */
void client_match_init(struct client_match *match, const struct client_filter *filter);
void client_match_fini(struct client_match *match);
bool client_match_fits(const struct client_match *match, const struct client *client);

#endif
