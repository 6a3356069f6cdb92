/*
 * Host names to addresses without blocking: literals, /etc/hosts, search domains and DNS, by
 * libevent's evdns.
 *
 * Nothing is cached: each call asks again. A changed resolv.conf or hosts file is read again once
 * no query is under way.
 */
#ifndef VINHUB_LOOP_RESOLVE_H
#define VINHUB_LOOP_RESOLVE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/status.h"

struct loop;
struct resolver;
struct resolve;

#define RESOLVE_MAX 16 /* addresses of a name that are kept */

struct resolved {
    struct sockaddr_storage addresses[RESOLVE_MAX]; /* in the order to be tried */
    socklen_t sizes[RESOLVE_MAX];
    size_t len;
};

/* why is NULL on success, else one line; result is valid during the call. */
typedef void resolve_fn(void *ctx, const struct resolved *result, const char *why);

MUST_USE enum status resolver_new(struct loop *loop, struct resolver **out);
/* Every query must be done or cancelled. May be called from within a resolve_fn. Before loop_free.
 */
void resolver_free(struct resolver *resolver);

/*
 * fn is called once, unless cancelled, and may be called before this returns (a literal address):
 * *out is NULL then. *out is the query under way else, gone once fn is called.
 */
MUST_USE enum status resolve_start(struct resolver *resolver, const char *host, uint16_t port,
                                   resolve_fn *fn, void *ctx, struct resolve **out);
/* fn is not called any more. */
void resolve_cancel(struct resolve *resolve);

#endif
