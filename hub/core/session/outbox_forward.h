/*
 * A member's messages on their way to the owner (go-back-N): whether the owner takes them, what the
 * last COMMANDS was, and whether it was answered.
 *
 *   OPEN <-> HANDED_BACK
 *
 * Owns these, and each message's mark that an owner may have it. The queue's cursor says what
 * is to be forwarded next. When an owner is killed, nobody can say whether what it had went
 * upstream: raw messages are dropped and counted, SENDs are forwarded to the next owner.
 */
#ifndef VINHUB_CORE_SESSION_OUTBOX_FORWARD_H
#define VINHUB_CORE_SESSION_OUTBOX_FORWARD_H

#include "common/node_messages.h"
#include "core/session/outbox_queue.h"

#define COMMANDS_ITEMS 1000       /* messages in one COMMANDS */
#define COMMANDS_BYTES (1u << 20) /* payload in it, but for a single larger one */

enum outbox_forward_state {
    FORWARD_OPEN,        /* messages go to the owner at the end of the turn */
    FORWARD_HANDED_BACK, /* the owner can't send; until its STATUS, or five seconds */
    FORWARD_STATES
};

struct outbox_forward {
    struct session *session;
    struct outbox_queue *queue;
    enum outbox_forward_state state;
    uint64_t number; /* of the last COMMANDS: a HANDBACK that has not seen it is out of date */
    uint64_t
        asked_again_ms; /* when all was forwarded once more, since a CONFIRM was lost; 0: never */
    uint64_t active_ms; /* when the last COMMANDS was sent, or the owner last answered */
};

void outbox_forward_init(struct outbox_forward *forward, struct session *session,
                         struct outbox_queue *queue);

/* The next COMMANDS: what is in items already, and (messages) as many as fit, from the cursor on.
 */
struct commands_message outbox_forward_next(struct outbox_forward *forward,
                                            struct envelope_item *items, size_t len, bool messages);
/* Messages wait that the owner takes. */
bool outbox_forward_is_due(const struct outbox_forward *forward);
/* The owner takes messages: all that waits is to be forwarded (again). */
void outbox_forward_open(struct outbox_forward *forward);
/* The same, where messages wait and the owner has not answered for too long. */
void outbox_forward_look(struct outbox_forward *forward);
/* An answer was lost: all is forwarded once more, once a second at most. The owner answers each of
 * those that it has had before. */
void outbox_forward_ask_again(struct outbox_forward *forward);
void outbox_forward_answered(struct outbox_forward *forward);
/* SENDs of the source that no owner has yet are dropped; returns how many. */
uint64_t outbox_forward_drop_unsent(struct outbox_forward *forward, struct outbox_source *source);
/* Of the last own message that went upstream, as far as is known; last: of the last one at all. */
uint64_t outbox_forward_confirmed(const struct outbox_forward *forward, uint64_t last);
/* The owner has messages from that number on no more. Returns false where its word is out of date:
 * what was forwarded since is answered, too, and may go upstream. */
bool outbox_forward_handed_back(struct outbox_forward *forward, uint64_t from,
                                uint64_t seen_number);
/* The owner is gone, and did not hand over: own messages that it may have are not its any more. */
void outbox_forward_owner_lost(struct outbox_forward *forward);
/* This node is the owner now: no other has anything. */
void outbox_forward_owned(struct outbox_forward *forward);
/* Asserts what must hold. */
void outbox_forward_check(const struct outbox_forward *forward);

#endif
