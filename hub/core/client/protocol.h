/*
 * Messages to clients of vinhub.v1, and their requests: WELCOME, STATUS, acknowledgements,
 * errors, CLOSED; SEND, SUBSCRIBE, UNSUBSCRIBE, REFRESH and PING. How these look on the wire is for
 * the client's form to say.
 */
#ifndef VINHUB_CORE_CLIENT_PROTOCOL_H
#define VINHUB_CORE_CLIENT_PROTOCOL_H

#include "common/v1.h"
#include "core/client/client.h"

struct subscribe_answer;

/* What a client brings from an earlier connection. */
struct brought {
    bool has_place; /* in the stream: at */
    struct position at;
};
/* Takes that from its token (NULL: none); the client gets its id of there, or a new one. */
struct brought protocol_open(struct client *client, const char *token);
/* answer: what it is the answer of; NULL: of the session that the client came with. */
struct wire *protocol_make_welcome(const struct subscription *subscription,
                                   const struct subscribe_answer *answer, struct position at,
                                   bool resumed);
void protocol_welcome(struct subscription *subscription, const struct subscribe_answer *answer,
                      struct position at, bool resumed);
/* Of a client without a session of its own. */
void protocol_welcome_alone(struct client *client);
/* One message of a client. */
void protocol_message(struct client *client, enum opcode opcode, const void *payload, size_t len);
struct wire *protocol_make_error(const struct client *client, const struct v1_error *error);
struct wire *protocol_make_closed(const struct client *client, const uint64_t *id,
                                  const char *session, unsigned code, const char *reason);
/* Sends CLOSED. id: of the request that is answered; NULL: none. */
void protocol_closed(struct subscription *subscription, const uint64_t *id, unsigned code,
                     const char *reason);
/* A request names a session that the client does not follow. */
void protocol_not_subscribed(struct client *client, uint64_t id);
/* That SEND went upstream. */
void protocol_ack(struct subscription *subscription, uint64_t send_id);
/* That SEND never does. */
void protocol_expired(struct subscription *subscription, uint64_t send_id);
/* The session's status has changed: sends STATUS to every client that has its WELCOME. */
void protocol_status(struct session *session);
/* Sends PRESENCE to every client that has its WELCOME and a form with presence. */
void protocol_presence(struct session *session, const struct v1_watcher *users, size_t len,
                       uint64_t more);

#endif
