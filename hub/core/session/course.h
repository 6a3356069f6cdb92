/*
 * The course of a session: what follows from what. One table says for each state what is done when
 * something happens (course.c); course_owner and course_member do it. The parts and what they
 * report are below: they reach the table by session_event (state.h).
 */
#ifndef VINHUB_CORE_SESSION_COURSE_H
#define VINHUB_CORE_SESSION_COURSE_H

#include "core/session/state.h"

void course(struct session *session, enum course_event event);
/* Another node says so, or the announcement. Older ones are ignored. */
void course_announced(struct session *session, const struct owner_news *news);

#endif
