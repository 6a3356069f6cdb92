/*
 * The parts of a session, made and connected: where the events of each go.
 */
#ifndef VINHUB_CORE_SESSION_PARTS_H
#define VINHUB_CORE_SESSION_PARTS_H

#include "core/session/state.h"

/* False: no memory. */
MUST_USE bool parts_new(struct session *session, const struct target *target);
void parts_free(struct session *session);
/* Asserts what must hold of each. */
void parts_check(const struct session *session);

#endif
