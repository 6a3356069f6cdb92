/*
 * What is done for a session that another node owns, or nobody yet: it claims, joins and leaves,
 * and follows who becomes the owner. When each is done stands in the table of course.c.
 */
#ifndef VINHUB_CORE_SESSION_COURSE_MEMBER_H
#define VINHUB_CORE_SESSION_COURSE_MEMBER_H

#include "core/session/state.h"

/* CLAIMING anew; ends a session that nobody wants. */
void course_claim(struct session *session);
/* JOINING anew. */
void course_join(struct session *session);
/* Many reasons within a while make one JOIN. */
void course_join_soon(struct session *session);
/* The owner answered a JOIN; ask_soon: the next one says what was on its way. */
void course_member(struct session *session, bool ask_soon);
/* The named owner says that it is not. */
void course_not_owner(struct session *session);

/* Of the table: */
course_fn course_member_step;
course_fn course_join_again;
course_fn course_clients_changed;
course_fn course_send_leave;
course_fn course_leave_if_unwanted;
course_fn course_end;
course_fn course_end_if_unwanted;
course_fn course_end_if_settled;
course_fn course_lapse;
course_fn course_take_over;
course_fn course_note_owner;
course_fn course_learn_owner;
course_fn course_follow_after_fence;

#endif
