/*
 * Hand-over of a session to another member without a gap (hub/README.md, Hand-over).
 *
 *   NONE -> OFFERED -> CLOSING -> TRANSFERRING -> NONE
 *     ^--------'
 *
 * OFFER > ACCEPT > the upstream is closed to the end, all it still sent is published > transfer
 * script > TAKE, repeated until TAKEN. Owns the step of the owner's side, the TAKEs on their way,
 * which outlive their session, and what the successor has accepted.
 */
#ifndef VINHUB_CORE_SESSION_HANDOVER_H
#define VINHUB_CORE_SESSION_HANDOVER_H

#include "common/node_messages.h"
#include "core/session/state.h"

enum handover_step {
    HANDOVER_NONE,
    HANDOVER_OFFERED,      /* until ACCEPT, DECLINE, or a second has passed */
    HANDOVER_CLOSING,      /* until the upstream is closed to the end */
    HANDOVER_TRANSFERRING, /* until the store has answered */
    HANDOVER_STEPS
};

struct handover_events {
    /* An offer was declined or not answered: the next one may be asked. */
    void (*free_again)(struct session *session);
};

void handover_new(struct session *session, const struct handover_events *events);
void handover_free(struct session *session);

/* owner's side */
enum handover_step handover_step(const struct session *session);
/* How often it was offered so far: who is asked next. */
unsigned handover_tries(const struct session *session);
/* The backend can't be reached from here: another member may try, at most once a minute. */
bool handover_may_escape(const struct session *session);
void handover_offer(struct session *session, struct slice to, const char *url);
/* Returns true where the answer is that of the node asked, and accepts. */
bool handover_accepted(struct session *session, struct slice node,
                       const struct answer_message *answer);
void handover_set_transferring(struct session *session);
const char *handover_to(const struct session *session);
/* Does the transfer under way name that owner? */
bool handover_expects(const struct session *session, struct slice owner);
void handover_forget(struct session *session);
/* Sends TAKE to the successor, until it answers. The names in items are copied. */
void handover_send_take(struct session *session, uint64_t epoch, const char *url,
                        const struct envelope_item *items, size_t len);
void handover_on_taken(struct hub *hub, struct slice session, uint64_t epoch);
bool handover_has_pending_take(const struct hub *hub);
void handover_free_all(struct hub *hub);

/* successor's side */
void handover_accept(struct session *session, uint64_t epoch);
void handover_disown_offer(struct session *session);
/* Is a TAKE with that epoch on its way to this node, by an offer it has accepted within this run of
 * its lease? */
bool handover_awaited(const struct session *session, uint64_t epoch);
/* Asserts what must hold. */
void handover_check(const struct session *session);

#endif
