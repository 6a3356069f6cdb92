/*
 * What is done with each message of another node. messages.c chooses by type; the files by who
 * speaks: messages_channel (the push channel), messages_owner (members, to the owner),
 * messages_member (the owner, to members), messages_handover (an owner, to its successor).
 */
#ifndef VINHUB_CORE_SESSION_MESSAGES_PRIVATE_H
#define VINHUB_CORE_SESSION_MESSAGES_PRIVATE_H

#include "common/node_messages.h"
#include "core/session/state.h"

/* The id as text; false where it can't be one. */
bool messages_id_of(struct slice session, char id[SESSION_ID_MAX]);
bool messages_is_of_owner(const struct session *session, const struct envelope *envelope);
/* A request is another node's word: it must name this very session. The URL is made of it here, by
 * this node's template, so nobody on the bus can name a backend that is not the service's. */
bool messages_is_of_session(const struct session *session, struct slice request);

/* --- the push channel --- */

void messages_on_push(struct session *session, const struct envelope *envelope);
void messages_on_grant(struct session *session, const struct envelope *envelope);
void messages_on_ended(struct session *session, const struct envelope *envelope);

/* --- members, to the owner; session may be NULL --- */

void messages_on_join(struct hub *hub, struct session *session, const struct envelope *envelope);
void messages_on_leave(struct hub *hub, struct session *session, const struct envelope *envelope);
void messages_on_commands(struct hub *hub, struct session *session,
                          const struct envelope *envelope);

/* --- the owner, to members --- */

void messages_on_joined(struct session *session, const struct envelope *envelope);
void messages_on_left(struct session *session, const struct envelope *envelope);
void messages_on_not_owner(struct session *session, const struct envelope *envelope);
void messages_on_status(struct session *session, const struct envelope *envelope);
void messages_on_confirm(struct session *session, const struct envelope *envelope);
void messages_on_handback(struct session *session, const struct envelope *envelope);

/* --- an owner, to its successor; session may be NULL but for the answer --- */

void messages_on_offer(struct hub *hub, struct session *session, const struct envelope *envelope);
void messages_on_offer_answer(struct session *session, const struct envelope *envelope);
void messages_on_take(struct hub *hub, struct session *session, const struct envelope *envelope);
void messages_on_sends(struct hub *hub, struct session *session, const struct envelope *envelope);

#endif
