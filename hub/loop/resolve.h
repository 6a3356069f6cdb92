/*
 * Resolves host names to addresses as getaddrinfo does, but without blocking: IP addresses,
 * /etc/hosts, search domains, name servers (loop/dns.h). One resolver serves the whole process.
 *
 * There is no cache by time to live. A query for a name that is being looked up waits for that
 * lookup, and an answer also serves the queries of the next quarter of a second: ten thousand
 * sessions that reconnect to one name make a few questions. Addresses that were found are kept for
 * a day, and are used if the name servers do not answer within a quarter of a second or answer with
 * an error. If a name server says that there is no such name or no address, the kept addresses are
 * forgotten, since they may belong to another host by now.
 *
 * All addresses are those of one full name. The search goes on to the next domain only if the
 * answer is that there is no such name or no address. An error of a name server ends the search:
 * otherwise a password could be sent to a host that has the name in a later domain.
 */
#ifndef VINHUB_LOOP_RESOLVE_H
#define VINHUB_LOOP_RESOLVE_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/status.h"

struct loop;
struct resolve;

#define RESOLVE_MAX 64 /* addresses of a name that are kept */

union resolve_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct resolved {
    union resolve_address addresses[RESOLVE_MAX]; /* in the order to be tried */
    socklen_t sizes[RESOLVE_MAX];
    size_t len;
};

/* On success why is NULL. On failure result is NULL, and why is one line: "could not resolve NAME:
 * CAUSE". Both are valid during the call. */
typedef void resolve_fn(void *ctx, const struct resolved *result, const char *why);

/*
 * Resolves a name (with a dot at its end: without search domains) or an IP address. Unless the
 * query is cancelled, fn is called once, from the loop, never before this returns, and within five
 * seconds. *out is freed before fn is called. Every query must be answered or cancelled before
 * loop_free. Fails with STATUS_NO_MEMORY.
 */
MUST_USE enum status resolve_start(struct loop *loop, const char *host, uint16_t port,
                                   resolve_fn *fn, void *ctx, struct resolve **out);
/* fn is not called any more. */
void resolve_cancel(struct resolve *resolve);

#endif
