/*
 * Messages to clients of vinhub.v1: WELCOME, STATUS, PRESENCE, acknowledgements, errors, CLOSED and
 * PONG. How these look on the wire is for the client's form to say.
 */
#ifndef VINHUB_CORE_CLIENT_EMIT_H
#define VINHUB_CORE_CLIENT_EMIT_H

#include "common/v1.h"
#include "core/client/client.h"

struct subscribe_answer;

/* answer: what it is the answer of; NULL: of the session that the client came with. */
struct wire *emit_make_welcome(const struct subscription *subscription,
                               const struct subscribe_answer *answer, struct position at,
                               bool resumed);
void emit_welcome(struct subscription *subscription, const struct subscribe_answer *answer,
                  struct position at, bool resumed);
/* Of a client without a session of its own. */
void emit_welcome_alone(struct client *client);

struct wire *emit_make_error(const struct client *client, const struct v1_error *error);
/* id: of the request; NULL: it has none. */
void emit_error(struct client *client, const uint64_t *id, const char *code, const char *message);
/* A request names a session that the client does not follow. */
void emit_not_subscribed(struct client *client, uint64_t id);

struct wire *emit_make_closed(const struct client *client, const uint64_t *id, const char *session,
                              unsigned code, const char *reason);
/* Sends CLOSED. id: of the request that is answered; NULL: none. */
void emit_closed(struct subscription *subscription, const uint64_t *id, unsigned code,
                 const char *reason);

void emit_pong(struct client *client);
/* The acknowledgement of the request with that id. */
void emit_ack(struct client *client, uint64_t id);
/* That SEND went upstream. */
void emit_acked(struct subscription *subscription, uint64_t send_id);
/* That SEND never does. */
void emit_expired(struct subscription *subscription, uint64_t send_id);

/* The session's status has changed: sends STATUS to every client that has its WELCOME. */
void emit_status(struct session *session);
/* Sends PRESENCE to every client that has its WELCOME and a form with presence. */
void emit_presence(struct session *session, const struct v1_watcher *users, size_t len,
                   uint64_t more);

#endif
