/*
 * Addresses of a host name, without blocking the loop: literals at once, names through evdns, asked
 * again each time.
 */
#ifndef VINHUB_BUS_REDIS_RESOLVER_H
#define VINHUB_BUS_REDIS_RESOLVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "loop/loop.h"

#define REDIS_ADDRESSES_MAX 16

struct evdns_base;
struct evdns_getaddrinfo_request;
struct evutil_addrinfo;

struct redis_address {
    struct sockaddr_storage at;
    socklen_t len;
};

struct redis_resolver {
    struct loop *loop;
    struct evdns_base *dns; /* made for the first name */
    struct evdns_getaddrinfo_request *request;
    void (*on_resolved)(void *ctx);
    void *ctx;
    uint16_t port;
    struct redis_address addresses[REDIS_ADDRESSES_MAX];
    size_t len; /* 0: no address was found */
    bool stale; /* the name servers failed */
};

void redis_resolver_init(struct redis_resolver *resolver, struct loop *loop,
                         void (*on_resolved)(void *ctx), void *ctx);
void redis_resolver_fini(struct redis_resolver *resolver);

/* on_resolved comes once, possibly before this returns. Another start or stop takes an earlier
 * request back. */
void redis_resolver_start(struct redis_resolver *resolver, const char *host, uint16_t port);
void redis_resolver_stop(struct redis_resolver *resolver);

#endif
