/*
 * Assertion: an owner's record is written back where the store has lost it, or learned to be
 * another's (design section 4, Ownership). After a reconnect, a refusal, an answer that did not
 * come, and where the store was emptied.
 */
#ifndef VINHUB_CORE_ASSERTION_H
#define VINHUB_CORE_ASSERTION_H

#include "core/state.h"

/* The record is, or has to be, this node's: nobody else may be granted the session yet. */
bool assertion_applies(const struct session *session);
void assertion_send(struct session *session);
/* The store refused a publication. */
void assertion_on_refusal(struct session *session);
/* An assertion is under way or due: nothing is published before its answer. */
bool assertion_pending(const struct session *session);
/* An operation of an owner has STATUS_IO for an answer: the record is asserted after a while, if
 * not after a reconnect before that. */
void assertion_doubt(struct session *session);
void assertion_store_emptied(struct hub *hub);
void assertion_on_answer(struct session *session, uint64_t tag, enum status status,
                         const char *owner, uint64_t epoch);

#endif
