/*
 * What operators ask for: a publication through the owner's order, closing a session's clients,
 * draining another node.
 */
#ifndef VINHUB_CORE_OPERATORS_H
#define VINHUB_CORE_OPERATORS_H

#include "core/state.h"

void operators_on_publish(struct hub *hub, struct session *session,
                          const struct envelope *envelope);
void operators_on_published(struct hub *hub, const struct envelope *envelope);
void operators_on_close(struct session *session);
void operators_on_told(struct hub *hub, uint64_t tag, enum status status);
void operators_free_all(struct hub *hub);

#endif
