/*
 * What operators ask about clients, of all nodes: a page of them, or to close those that they mean.
 *
 * Each node answers for its own clients, in portions a turn. A page is in the order of the nodes'
 * ids, and on a node in that of its directory: it costs as much as it has rows, where nothing is
 * filtered. A node that does not answer in time is named.
 */
#ifndef VINHUB_CORE_CLIENTS_H
#define VINHUB_CORE_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/status.h"
#include "core/client/filter.h"

struct envelope;
struct hub;

#define CLIENTS_PAGE_MAX       1000u
#define CLIENTS_REASON_MAX     123u /* bytes of a close frame's reason (RFC 6455 section 5.5) */
#define CLIENTS_NEXT_BYTES     (CONF_NAME_MAX + 16)
#define CLIENTS_REASON_DEFAULT "closed by an operator"

/* One client; texts live during the call. */
struct client_row {
    const char *id, *user, *session, *node, *address, *protocol;
    uint64_t since_ms; /* Unix time */
    uint64_t subscriptions, received, sent, queued_bytes;
    uint32_t slot; /* its place on its node */
};

/* next: NULL at the end, else what to ask with for more. missing: nodes that did not answer. */
typedef void hub_clients_fn(void *ctx, const struct client_row *rows, size_t len, const char *next,
                            const char *const *missing, size_t missing_len);
/* A page: at most limit rows, from 1 to CLIENTS_PAGE_MAX; after: what an earlier page had as next,
 * or NULL. done is called once, in a later turn, after about a second at the latest.
 * STATUS_INVALID: after is none; STATUS_LIMIT: too much is asked for at once. */
MUST_USE enum status hub_clients(struct hub *hub, const struct client_filter *filter,
                                 const char *after, size_t limit, hub_clients_fn *done, void *ctx);

/* closed: on all nodes that answered. */
typedef void hub_closed_fn(void *ctx, uint64_t closed, const char *const *missing,
                           size_t missing_len);
/* Closes those with 4006. As hub_clients; the nodes have two seconds. reason: at most
 * CLIENTS_REASON_MAX bytes of UTF-8. */
MUST_USE enum status hub_close_clients(struct hub *hub, const struct client_filter *filter,
                                       const char *reason, hub_closed_fn *done, void *ctx);

void clients_on_ask(struct hub *hub, const struct envelope *envelope);
void clients_free_all(struct hub *hub);

#endif
