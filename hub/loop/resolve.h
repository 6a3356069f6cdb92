/*
 * Host names to addresses, as getaddrinfo would find them but without blocking: literals,
 * /etc/hosts, search domains, name servers (loop/dns.h). One resolver serves the whole process.
 *
 * Asked for again each time, but: who asks for a name that is being looked up waits for that
 * answer, and an answer serves for a quarter of a second, so that ten thousand sessions that
 * reconnect to one name are a few questions. Addresses that were found are kept for a day: where
 * the name servers do not answer within a quarter of a second, or can't say, they are used. A name
 * server that says that there is no such name, or no address, is believed: what was known is
 * forgotten, since the address may be another's by now.
 *
 * All addresses are those of one full name: search domains are gone through only while each answer
 * says that there is no such name or no address. A name server's trouble ends the search, or a
 * password would go to whoever has the name in a later domain.
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

/* why is NULL on success, else one line: "could not resolve NAME: CAUSE". Both are valid during the
 * call. */
typedef void resolve_fn(void *ctx, const struct resolved *result, const char *why);

/*
 * Asks for a name (a dot at its end: no search domains) or an address. fn is called once, from the
 * loop, never before this returns, unless cancelled; after five seconds at the latest. *out is
 * gone once fn is called. Every query must be done or cancelled before loop_free. STATUS_NO_MEMORY.
 */
MUST_USE enum status resolve_start(struct loop *loop, const char *host, uint16_t port,
                                   resolve_fn *fn, void *ctx, struct resolve **out);
/* fn is not called any more. */
void resolve_cancel(struct resolve *resolve);

#endif
