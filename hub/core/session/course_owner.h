/*
 * What is done for a session that this node owns: it is taken, outbid, released, handed over, lost.
 * When each is done stands in the table of course.c.
 */
#ifndef VINHUB_CORE_SESSION_COURSE_OWNER_H
#define VINHUB_CORE_SESSION_COURSE_OWNER_H

#include "core/session/state.h"

/* It is this node's, at that epoch. */
void course_take(struct session *session, uint64_t epoch);
/* It is another's (empty: nobody is named): the upstream is cut, the session joins or claims, or
 * ends. */
void course_lose(struct session *session, struct slice owner, uint64_t epoch);
/* An owner takes an epoch above seen. */
void course_outbid(struct session *session, uint64_t seen_epoch);
/* What was set aside meanwhile gets its place. */
void course_place_aside(struct session *session);
/* Everything that only an owner has goes; what was to be published and is not certain to be, is
 * counted. */
void course_drop_owner_part(struct session *session);
/* The member that was asked takes it. */
void course_move(struct session *session);
/* Redis forbids its push channel. no_subscription: the session is given up until the subscription
 * works again; otherwise its clients get the reason as STATUS. */
void course_refused(struct session *session, const char *why, bool no_subscription);
/* The store has lost data. */
void course_emptied(struct session *session);

/* Of the table: */
course_fn course_fence;
course_fn course_lose_to;
course_fn course_release;
course_fn course_send_release;
course_fn course_linger_if_unwanted;
course_fn course_stop_lingering;
course_fn course_own_again;
course_fn course_start_link;
course_fn course_assert;
course_fn course_consider_handover;
course_fn course_escape;
course_fn course_transfer;

#endif
