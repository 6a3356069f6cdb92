/*
 * What members have given the owner of a session: how far their messages were taken and went
 * upstream, and the answers that they get at the end of the turn.
 *
 *   COMMANDS -> taken -> waits in the queue -> went upstream, or expired -> CONFIRM
 *        ^---------------'  HANDBACK: the owner can't send it; the member keeps it and all after it
 *
 * Owns a source of the queue for each member. A message that is taken twice is known by its number.
 */
#ifndef VINHUB_CORE_SESSION_OUTBOX_MEMBERS_H
#define VINHUB_CORE_SESSION_OUTBOX_MEMBERS_H

#include "core/session/outbox_queue.h"

#define CONFIRM_ITEMS 1000 /* expired SENDs in one CONFIRM */

struct outbox_member {
    struct outbox_source source;
    const char *node;  /* borrowed */
    uint64_t taken;    /* number of the last message taken from it */
    uint64_t sent;     /* of the last message of it that went upstream */
    uint64_t reported; /* up to which CONFIRMs have said what went, and what expired */
    uint64_t seen;     /* of the last COMMANDS or JOIN of it */
    struct outbox_member *prev, *next; /* in the row of those to be confirmed; prev NULL: not in */
};

/* What is said of messages that have come before: their confirmation was lost or is still to come.
 * Zeroed, it says nothing. */
struct outbox_repeat {
    uint64_t from, upto;
    size_t n;
    struct envelope_item expired[CONFIRM_ITEMS];
};

struct outbox_members {
    struct session *session;
    struct outbox_queue *queue;
    struct outbox_member *to_confirm;
    struct expired_note *expired; /* expired SENDs that members do not know of yet */
    bool room_awaited;            /* messages were handed back though the upstream is open */
};

void outbox_members_init(struct outbox_members *members, struct session *session,
                         struct outbox_queue *queue);
/* Their messages are dropped. */
void outbox_members_fini(struct outbox_members *members);

/* key: any pointer that names the member. */
struct outbox_member *outbox_members_find(const struct outbox_members *members, const void *key);
/* It is there, or begins anew. node lives as long as it. */
void outbox_members_add(struct outbox_members *members, const void *key, const char *node);
/* It knows of that much that went upstream, or the last owner says so. */
void outbox_members_confirmed(struct outbox_members *members, const void *key, uint64_t number);
/* It is gone, and what it gave. No effect where it is not there. */
void outbox_members_remove(struct outbox_members *members, const void *key);

/* Takes a message of it, which waits then; it was on its way for late_ms. NULL: there is no room
 * for it. */
struct outbox_item *outbox_members_take(struct outbox_members *members,
                                        struct outbox_member *member,
                                        const struct command_entry *entry, uint64_t late_ms);
/* A message of it went upstream. */
void outbox_members_sent(struct outbox_members *members, struct outbox_source *source,
                         uint64_t number);
/* At the end of the turn it gets a CONFIRM; with expired, also that this SEND of one of its clients
 * never goes upstream. */
void outbox_members_confirm(struct outbox_members *members, struct outbox_member *member);
void outbox_members_expired(struct outbox_members *members, struct outbox_source *source,
                            const char *client, uint64_t id);
/* A message of it has come before; expired: it never goes upstream. What is to be said of several
 * is one answer, sent by outbox_members_send_repeat, or before where it is full. */
void outbox_members_repeat(const struct outbox_members *members, const struct outbox_member *member,
                           struct outbox_repeat *repeat, const struct command_entry *entry,
                           bool expired);
void outbox_members_send_repeat(const struct outbox_members *members,
                                const struct outbox_member *member, struct outbox_repeat *repeat);
/* Its messages from that number on are its own again. */
void outbox_members_hand_back(struct outbox_members *members, struct outbox_member *member,
                              uint64_t from);
/* All that members gave and that waits is handed back. */
void outbox_members_hand_back_all(struct outbox_members *members);
/* At the end of the turn: sends the CONFIRMs that are due. */
void outbox_members_flush(struct outbox_members *members);
/* Asserts what must hold. */
void outbox_members_check(const struct outbox_members *members);

#endif
