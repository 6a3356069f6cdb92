/*
 * Hand-over of a session to another member without a gap (design section 4, Hand-over).
 *
 * OFFER > ACCEPT > the upstream is closed to the end, all it still sent is published > transfer
 * script > TAKE, repeated until TAKEN.
 */
#ifndef VINHUB_CORE_HANDOVER_H
#define VINHUB_CORE_HANDOVER_H

#include "core/state.h"

/* A draining owner with members offers the session. */
void handover_consider(struct session *session);
/* The backend can't be reached from here for long: another member may try, at most once a minute.
 */
void handover_unreachable(struct session *session);
void handover_upstream_gone(struct session *session);
/* Does the transfer under way name that owner? */
bool handover_expects(const struct session *session, struct slice owner);
/* Is a TAKE with that epoch on its way to this node, by an offer it has accepted within this run of
 * its lease? */
bool handover_awaited(const struct session *session, uint64_t epoch);
/* Announced as the owner: TAKE is on its way, or the session is claimed. */
void handover_named(struct session *session);
void handover_forget(struct session *session);

void handover_on_transferred(struct session *session, uint64_t tag, enum status status,
                             uint64_t epoch);
void handover_on_offer(struct hub *hub, struct session *session, const struct envelope *envelope);
void handover_on_answer(struct session *session,
                        const struct envelope *envelope); /* ACCEPT, DECLINE */
void handover_on_take(struct hub *hub, struct session *session, const struct envelope *envelope);
void handover_on_taken(struct hub *hub, const struct envelope *envelope);
void handover_free_all(struct hub *hub);

#endif
