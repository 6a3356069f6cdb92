/*
 * What a client says goes on its way to the upstream of a session: counted, audited, and given to
 * the session's outbox.
 */
#ifndef VINHUB_CORE_CLIENT_OUTGOING_H
#define VINHUB_CORE_CLIENT_OUTGOING_H

#include "core/client/client.h"

/* send_id 0: a raw message; else a SEND of the client with its id. May close the client with 4004.
 */
void outgoing_send(struct subscription *from, uint64_t send_id, enum opcode opcode,
                   const void *payload, size_t len);

#endif
