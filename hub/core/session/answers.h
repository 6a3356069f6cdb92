/*
 * What the store answers of a session's record and its publications, and what that means.
 */
#ifndef VINHUB_CORE_SESSION_ANSWERS_H
#define VINHUB_CORE_SESSION_ANSWERS_H

#include "core/session/state.h"

/* session is NULL where it is gone meanwhile. */
void answers_on_claimed(struct hub *hub, struct session *session, const char *id, uint64_t tag,
                        enum status status, const char *owner, uint64_t epoch);
void answers_on_released(struct session *session, uint64_t tag, enum status status);
void answers_on_transferred(struct session *session, uint64_t tag, enum status status,
                            uint64_t epoch);
void answers_on_asserted(struct session *session, uint64_t tag, enum status status,
                         const char *owner, uint64_t epoch);
void answers_on_published(struct session *session, uint64_t tag, enum status status);

#endif
