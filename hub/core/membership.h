/*
 * Membership: the nodes that have clients of a session, and its owner (design section 4, Join).
 *
 * The member asks again each second until it is answered; numbers that grow keep late messages from
 * undoing newer ones.
 */
#ifndef VINHUB_CORE_MEMBERSHIP_H
#define VINHUB_CORE_MEMBERSHIP_H

#include "core/state.h"

/* member's side */
void membership_join(struct session *session);      /* state JOINING; JOIN is sent */
void membership_send_join(struct session *session); /* JOIN as the state asks */
void membership_step(struct session *session);      /* the time of JOINING or MEMBER has come */
void membership_leave(struct session *session);     /* state LEAVING; LEAVE is sent */
void membership_send_leave(struct session *session);
void membership_count_changed(struct session *session);
/* As a member: the owner says soon where the stream stands, for what came had been there before. */
void membership_ask_position(struct session *session);

/* owner's side */
void membership_remove(struct member *member);
void membership_remove_all(struct session *session);
void membership_dismiss_all(struct session *session); /* the same, and tells them NOT_OWNER */
void membership_tell_status(struct session *session);
struct member *membership_find(struct session *session, struct slice node);
/* That of another life under the name gives way. since: number of the JOIN; 0: a TAKE names it */
struct member *membership_add(struct session *session, struct slice node, uint64_t life,
                              uint64_t since);
/* Tells the session's attempt which URLs the members' clients have. */
void membership_requests(struct session *session);
void membership_answer_joined(struct session *session, struct slice node, uint64_t number);
/* The members that the last owner named have two leases to come. */
void membership_expect(struct session *session);

/* messages; session is NULL where this node has no part in it */
void membership_on_join(struct hub *hub, struct session *session, const struct envelope *envelope);
void membership_on_joined(struct session *session, const struct envelope *envelope);
void membership_on_leave(struct hub *hub, struct session *session, const struct envelope *envelope);
void membership_on_left(struct session *session, const struct envelope *envelope);
void membership_on_not_owner(struct session *session, const struct envelope *envelope);
void membership_on_status(struct session *session, const struct envelope *envelope);

/* Somebody takes this node for a member of a session it has no part in: a JOIN came late, over an
 * old connection. It leaves again. */
void membership_stray(struct hub *hub, const struct envelope *envelope);

/* Tells a node; sender and life are filled in. */
void membership_tell(struct hub *hub, struct slice node, struct envelope *envelope);
/* True where the message comes from the node that the session takes for its owner. */
bool membership_from_owner(const struct session *session, const struct envelope *envelope);

#endif
