/*
 * Whom a CLIENT belongs to: the connection that came last with it (contract section 6).
 *
 * A protocol client resumes under the id it was given. Where an older connection with that id
 * follows one of its sessions, it is closed with 4007, on whichever node it is; on the same node
 * also where both came without a session of their own. Which one is
 * the later is decided by the owner, the only node that sees both: a node sends the owner TAKE_ID
 * for each client that came with an id, before that client's messages; the owner sends all members
 * ID_TAKEN, in the order in which TAKE_ID came. A client without an answer of the owner yet is the
 * later one of the two. Owners of version 0.1 do not answer; they are asked
 * TAKE_ID_TRIES times.
 */
#ifndef VINHUB_CORE_CLIENT_CLIENT_IDS_H
#define VINHUB_CORE_CLIENT_CLIENT_IDS_H

#include <stdbool.h>

#include "common/envelope.h"
#include "common/v1.h"

struct client;
struct hub;
struct session;
struct subscription;

/* A protocol client's id and its place among all of this node. */
struct client_id {
    struct client_id *next;
    struct client *client; /* NULL: a later connection has taken the id over */
    bool resumed;          /* the client brought it: an older connection may still have it */
    char text[V1_CLIENT_MAX + 1];
};

/* The client has that id from now on. Where it was brought, an older one that has it is closed. */
void client_ids_add(struct client *client, struct client_id *id);
/* The same for a further session of a client. */
void client_ids_follow(struct subscription *subscription);
/* It is gone. */
void client_ids_remove(struct client *client, struct client_id *id);

/* End of a turn: sends TAKE_ID to the owner or, as the owner, ID_TAKEN to the members. */
void client_ids_flush(struct session *session);
/* The owner has answered a JOIN: a TAKE_ID sent before may be lost. */
void client_ids_on_joined(struct session *session);
void client_ids_on_take(struct session *session, const struct envelope *envelope);
void client_ids_on_taken(struct session *session, const struct envelope *envelope);
void client_ids_fini(struct session *session);
void client_ids_free_all(struct hub *hub);

#endif
