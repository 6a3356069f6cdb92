/*
 * The records for people in the store, contract section 11: the node's own, and how many of
 * sessions may be written within a lease.
 */
#ifndef VINHUB_CORE_NODE_RECORD_H
#define VINHUB_CORE_NODE_RECORD_H

#include "core/node/node.h"

void record_new(struct hub *hub);
void record_free(struct hub *hub);
void record_node(struct hub *hub);
/* Takes one session's record out of what may be written within this lease; false: none is left. */
bool record_spend(struct hub *hub);
/* Asserts what must hold. */
void record_check(const struct hub *hub);

#endif
