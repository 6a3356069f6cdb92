#include "bus/redis_resolver.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void redis_resolver_init(struct redis_resolver *resolver, struct loop *loop,
                         void (*on_resolved)(void *ctx), void *ctx)
{
    *resolver = (struct redis_resolver){.loop = loop, .on_resolved = on_resolved, .ctx = ctx};
}

void redis_resolver_fini(struct redis_resolver *resolver)
{
    redis_resolver_stop(resolver);
    if (resolver->dns != NULL)
        evdns_base_free(resolver->dns, 0);
    resolver->dns = NULL;
}

static void add_address(struct redis_resolver *resolver, const struct sockaddr *address,
                        socklen_t len)
{
    if (resolver->len == REDIS_ADDRESSES_MAX || len > sizeof(struct sockaddr_storage))
        return;
    struct redis_address *added = &resolver->addresses[resolver->len++];
    memcpy(&added->at, address, len);
    added->len = len;
}

static bool take_literal(struct redis_resolver *resolver, const char *host)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(resolver->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(resolver->port)};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
        add_address(resolver, (const struct sockaddr *)&v4, sizeof(v4));
    else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1)
        add_address(resolver, (const struct sockaddr *)&v6, sizeof(v6));
    return resolver->len > 0;
}

/* A request that was taken back still calls, with EVUTIL_EAI_CANCEL; request is NULL or another one
 * then. */
static void on_answer(int error, struct evutil_addrinfo *found, void *ctx)
{
    struct redis_resolver *resolver = ctx;
    if (error == EVUTIL_EAI_CANCEL)
        return;
    loop_enter(resolver->loop);
    resolver->request = NULL;
    for (const struct evutil_addrinfo *at = found; at != NULL; at = at->ai_next)
        add_address(resolver, at->ai_addr, (socklen_t)at->ai_addrlen);
    if (found != NULL)
        evutil_freeaddrinfo(found);
    resolver->stale = resolver->len == 0;
    resolver->on_resolved(resolver->ctx);
}

/* Where the last asking failed, the name servers are read anew: they may be others by now. A
 * missing resolv.conf is no reason to leave the hosts file unread. */
static bool open_dns(struct redis_resolver *resolver)
{
    if (resolver->dns != NULL && resolver->stale) {
        evdns_base_free(resolver->dns, 0);
        resolver->dns = NULL;
    }
    resolver->stale = false;
    if (resolver->dns != NULL)
        return true;
    resolver->dns = evdns_base_new(loop_base(resolver->loop), EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (resolver->dns == NULL)
        return false;
    if (evdns_base_resolv_conf_parse(resolver->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf") != 0)
        evdns_base_load_hosts(resolver->dns, NULL);
    return true;
}

void redis_resolver_start(struct redis_resolver *resolver, const char *host, uint16_t port)
{
    redis_resolver_stop(resolver);
    resolver->len = 0;
    resolver->port = port;
    if (take_literal(resolver, host)) {
        resolver->on_resolved(resolver->ctx);
        return;
    }
    if (!open_dns(resolver)) {
        resolver->on_resolved(resolver->ctx);
        return;
    }
    char service[8];
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    const struct evutil_addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    /* An answer from the hosts file calls back before this returns, with NULL as the request. */
    struct evdns_getaddrinfo_request *request = evdns_getaddrinfo(resolver->dns, host, service,
                                                                  &hints, on_answer, resolver);
    if (request != NULL)
        resolver->request = request;
}

void redis_resolver_stop(struct redis_resolver *resolver)
{
    struct evdns_getaddrinfo_request *request = resolver->request;
    resolver->request = NULL;
    if (request != NULL)
        evdns_getaddrinfo_cancel(request);
}
