/*
 * What operators ask for: a publication through the owner's order, closing a session's clients,
 * draining another node.
 */
#ifndef VINHUB_CORE_OPERATORS_H
#define VINHUB_CORE_OPERATORS_H

#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"
#include "common/status.h"

struct envelope;
struct hub;
struct session;

/* Publishes through the owner's order. done is called once, at the latest after 5 s: status 200
 * with the position, 404, 503, or 504. */
typedef void hub_published_fn(void *ctx, unsigned http_status, struct position at);
void hub_publish(struct hub *hub, const char *session_id, enum opcode opcode, const void *payload,
                 size_t len, hub_published_fn *done, void *ctx);
/* Closes all clients of the session on every node with 4006. */
void hub_close_session(struct hub *hub, const char *session_id);
/* Asks another node to drain. */
void hub_ask_drain(struct hub *hub, const char *node_id);

void operators_on_publish(struct hub *hub, struct session *session,
                          const struct envelope *envelope);
void operators_on_published(struct hub *hub, const struct envelope *envelope);
void operators_on_close(struct session *session);
void operators_on_sent(struct hub *hub, uint64_t tag, enum status status);
void operators_free_all(struct hub *hub);

#endif
