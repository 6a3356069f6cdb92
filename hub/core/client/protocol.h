/*
 * What clients of vinhub.v1 ask for: SEND, SUBSCRIBE, UNSUBSCRIBE, REFRESH and PING, and the token
 * that they bring. What they are sent is in emit.h.
 */
#ifndef VINHUB_CORE_CLIENT_PROTOCOL_H
#define VINHUB_CORE_CLIENT_PROTOCOL_H

#include "core/client/client.h"

/* What a client brings from an earlier connection. */
struct brought {
    bool has_place; /* in the stream: at */
    struct position at;
};
/* Takes that from its token (NULL: none); the client gets its id of there, or a new one. */
struct brought protocol_open(struct client *client, const char *token);
/* One message of a client. */
void protocol_message(struct client *client, enum opcode opcode, const void *payload, size_t len);

#endif
