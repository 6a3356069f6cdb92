/*
 * SENDs of a session whose time is over, and what became of those before: which was the last of a
 * client that went upstream, and which never will (last_sends.h).
 *
 * Owns that memory and the timer of the first message whose time runs out. A message that an owner
 * may have is not looked at: that owner decides. What follows for the message and its client is
 * decided in outbox.c.
 */
#ifndef VINHUB_CORE_SESSION_OUTBOX_EXPIRY_H
#define VINHUB_CORE_SESSION_OUTBOX_EXPIRY_H

#include "common/node_messages.h"
#include "core/session/last_sends.h"
#include "core/session/outbox_queue.h"

/* Called for a message that does not go upstream; drops it. */
typedef void outbox_expired_fn(void *ctx, struct outbox_item *item);

enum outbox_verdict {
    VERDICT_SEND,
    VERDICT_SENT,    /* it went before */
    VERDICT_EXPIRED, /* it never goes */
};

struct outbox_expiry {
    struct session *session;
    struct outbox_queue *queue;
    void (*on_due)(struct session *session); /* outbox_expiry_run is to be called */
    struct last_sends sends;
    struct timer timer;
};

void outbox_expiry_init(struct outbox_expiry *expiry, struct session *session,
                        struct outbox_queue *queue, void (*on_due)(struct session *session));
void outbox_expiry_fini(struct outbox_expiry *expiry);

/* A message waits whose time is over then; 0: never. */
void outbox_expiry_add(struct outbox_expiry *expiry, uint64_t ttl_at_ms);
/* Messages are this node's again: those whose time is over since do not go any more. */
void outbox_expiry_look(struct outbox_expiry *expiry);
/* Calls over for each message that waits here and whose time is over; again, where it comes again
 * and went before. */
void outbox_expiry_run(struct outbox_expiry *expiry, outbox_expired_fn *over,
                       outbox_expired_fn *again, void *ctx);

/* --- what became of SENDs --- */

/* The message is listed as expired. */
bool outbox_expiry_has(const struct outbox_expiry *expiry, const struct outbox_item *item);
/* It is listed, or may be one that is not listed any more. */
bool outbox_expiry_may_have(const struct outbox_expiry *expiry, const struct outbox_item *item);
/* A SEND that has come, perhaps again, never goes upstream. */
bool outbox_expiry_refuses(const struct outbox_expiry *expiry, const char *client, uint64_t id);
bool outbox_expiry_refuses_entry(const struct outbox_expiry *expiry,
                                 const struct command_entry *entry);
/* That SEND, or one after it, went upstream; or it never does. */
bool outbox_expiry_settles(const struct outbox_expiry *expiry, const char *client, uint64_t id);
/* That SEND of a connection here went upstream: it, or one after it, did, and it neither expired
 * nor waits. */
bool outbox_expiry_went(const struct outbox_expiry *expiry, const char *client, uint64_t id);
/* That one did; 0: the client's connection is gone. */
void outbox_expiry_went_from_here(struct outbox_expiry *expiry, const char *client, uint64_t id);
/* What is to be done with the message whose turn it is. */
enum outbox_verdict outbox_expiry_verdict(struct outbox_expiry *expiry,
                                          const struct outbox_item *item);
/* That SEND went upstream. client: at most 32 bytes. */
void outbox_expiry_note_sent(struct outbox_expiry *expiry, const char *client, uint64_t id);
/* What became of SENDs, as another node says: send_item, expired_item; others are passed over. */
void outbox_expiry_note_item(struct outbox_expiry *expiry, const struct envelope_item *item);
/* The owner's word on those that expired: notes them, and calls over for each own message among
 * them. */
void outbox_expiry_confirmed(struct outbox_expiry *expiry, const struct message_items *expired,
                             outbox_expired_fn *over, void *ctx);

/* Expired SENDs that the owner does not know of, for a report to it. Returns how many. Names live
 * until the next one is noted. */
size_t outbox_expiry_report(struct outbox_expiry *expiry, struct envelope_item *items, size_t max);
/* There is something to report. */
bool outbox_expiry_has_report(const struct outbox_expiry *expiry);
/* There is another owner, which may know of none. */
void outbox_expiry_report_again(struct outbox_expiry *expiry);
/* See outbox_sends. */
size_t outbox_expiry_list(const struct outbox_expiry *expiry, uint64_t younger_ms,
                          struct envelope_item *items, size_t max);
/* Asserts what must hold. */
void outbox_expiry_check(const struct outbox_expiry *expiry);

#endif
