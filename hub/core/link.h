/*
 * The owner's link to the backend: open, retry with back-off, close; and what members and clients
 * are told of it.
 *
 * The socket side (upstream_ops) makes one try each; when to try again is decided here.
 */
#ifndef VINHUB_CORE_LINK_H
#define VINHUB_CORE_LINK_H

#include "core/state.h"

/* Opens where it is not open or under way. */
void link_start(struct session *session);
/* Starts to close politely. Returns false where nothing is open: it is closed already. */
bool link_close(struct session *session);
/* A client has come, here or on another node: after a refusal the next attempt is made soon. */
void link_client_came(struct session *session);
/* Cuts at once, also a back-off. */
void link_reset(struct session *session);
/* Notes the status and tells local protocol clients and members where it changed. */
void link_tell(struct session *session, enum upstream_status status, const char *reason);
/* As STATUS and WELCOME name it. */
const char *upstream_status_name(enum upstream_status status);

#endif
