/*
 * What a client says goes on its way to the upstream of a session: counted, audited, and given to
 * the session's outbox.
 */
#ifndef VINHUB_CORE_CLIENT_OUTGOING_H
#define VINHUB_CORE_CLIENT_OUTGOING_H

#include "core/client/client.h"
#include "core/session/outbox.h"

/* May close the client with 4004. */
void outgoing_send(struct subscription *from, const struct outbox_message *message);

#endif
