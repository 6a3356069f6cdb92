/*
 * What a front door reports about its connections: one is open, a message came, its socket takes
 * something again, it is gone. The door embeds struct client in its connection.
 */
#ifndef VINHUB_CORE_CLIENT_DOOR_H
#define VINHUB_CORE_CLIENT_DOOR_H

#include "core/client/client.h"

/*
 * A handshake is complete: the client joins its session (made on demand), or none where the target
 * subscribes. target is only read;
 * client's memory is the door's and stays in place until door_gone. form: the id of one that the
 * door has registered (form_add). STATUS_LIMIT: no more sessions or memory: the door closes with
 * 1013. address: where it comes from, as far as that is believed; IPv4 mapped.
 */
MUST_USE enum status door_open(struct hub *hub, struct client *client, const struct target *target,
                               const struct in6_addr *address, unsigned form);
/* One whole message, already checked (size, UTF-8, inflated). */
void door_message(struct client *client, enum opcode opcode, const void *payload, size_t len);
/* The socket took all that was buffered. */
void door_writable(struct client *client);
/* The socket is gone; code and reason for the log: of the close frame seen or sent, 1006 for none.
 * After this the memory is the door's alone. */
void door_gone(struct client *client, unsigned code, const char *reason);
/* Frees what the core has for all clients, without a word to anybody. For hub_free. */
void door_forget_all(struct hub *hub);

#endif
