/*
 * What clients of vinhub.v1 are told and what they ask for: WELCOME, STATUS, acknowledgements,
 * errors; SEND, REFRESH and PING. How these look on the wire is for the client's form to say.
 */
#ifndef VINHUB_CORE_CLIENT_PROTOCOL_H
#define VINHUB_CORE_CLIENT_PROTOCOL_H

#include "core/client/client.h"

/* What a client brings of an earlier connection. */
struct brought {
    bool has_place; /* in the stream: at */
    bool has_id;
    struct position at;
};
/* Takes that from its token (NULL: none); the client gets its id of there, or a new one. */
struct brought protocol_open(struct client *client, const char *token);
void protocol_welcome(struct subscription *subscription, struct position at, bool resumed);
/* One message of a client. */
void protocol_message(struct client *client, enum opcode opcode, const void *payload, size_t len);
/* That SEND went upstream. */
void protocol_ack(struct subscription *subscription, uint64_t send_id);
/* The session's status has changed: who has been welcomed is told. */
void protocol_status(struct session *session);

#endif
