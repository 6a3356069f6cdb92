/*
 * A member's side of its membership: what it has asked its owner, and what of the answers counts
 * (hub/README.md, Join).
 *
 * The member asks again until it is answered; numbers that grow keep late messages from undoing
 * newer ones. Owns these numbers, and when the owner was heard; the owner's side is roster.h.
 */
#ifndef VINHUB_CORE_SESSION_MEMBERSHIP_H
#define VINHUB_CORE_SESSION_MEMBERSHIP_H

#include "common/node_messages.h"
#include "core/session/roster.h"

/* What JOIN says beside its number. */
struct membership_join {
    struct slice owner;            /* who is asked; empty: nobody, for now */
    uint64_t named_at;             /* epoch at which the record names it */
    uint64_t confirmed;            /* last command that went upstream, as far as is known here */
    struct position stands;        /* where this node takes the stream to be */
    struct message_items requests; /* URLs of the clients here */
};

void membership_new(struct session *session, const struct roster_events *events);
void membership_free(struct session *session);

/* JOIN or LEAVE begins anew: answers to what was asked before do not count. */
void membership_begin(struct session *session);
/* JOIN is to be sent with the next step: the number of clients has changed, or the position is
 * doubtful. */
void membership_want_join(struct session *session);
bool membership_wants_join(const struct session *session);
void membership_send_join(struct session *session, const struct membership_join *join);
void membership_send_leave(struct session *session, struct slice owner);
/* Somebody takes this node for a member of a session it has no part in: a JOIN came late, over an
 * old connection. It leaves again. */
void membership_send_stray(struct hub *hub, const struct envelope *envelope);

/* Is it an answer to what was asked since membership_begin? */
bool membership_is_answer(const struct session *session, uint64_t number);
/* JOIN number was answered. */
void membership_joined(struct session *session, uint64_t number);
/* Of the JOIN that was answered last; 0: none. */
uint64_t membership_joined_number(const struct session *session);
uint64_t membership_joined_ago_ms(const struct session *session);
/* JOIN number is answered: the stream stands there. What was heard before the JOIN went out can't
 * be more than the owner has published until then: something was taken for a publication that is
 * none. */
bool membership_disproves(const struct session *session, uint64_t number, struct position stands);

void membership_heard(struct session *session);
/* It was not heard for three roll calls: it may have forgotten this node. */
bool membership_is_forgotten(const struct session *session, uint64_t roll_call_ms);
/* The named owner says that it is not. Returns true where it has said so a moment ago, too. */
bool membership_refused(struct session *session);
/* Asserts what must hold. */
void membership_check(const struct session *session);

#endif
