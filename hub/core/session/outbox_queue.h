/*
 * The client messages that wait on this node: their memory, their bound and their order; a list of
 * each source; and when what a client sent has waited too long. Where they go, and when, is decided
 * in outbox.c.
 *
 *   WAITING -> FORWARDED -> dropped   on a member: it went upstream, or never will
 *      ^-----------'                  handed back, or the owner has changed
 *   WAITING -> dropped                on the owner: it went upstream, or expired
 *   WAITING -> EXPIRED -> dropped     on the owner: it expired behind others of its member
 *
 * The cursor stands at the first message that has not been forwarded to the owner. It moves on by
 * itself when that message is dropped.
 */
#ifndef VINHUB_CORE_SESSION_OUTBOX_QUEUE_H
#define VINHUB_CORE_SESSION_OUTBOX_QUEUE_H

#include "common/timer.h"
#include "core/session/outbox.h"

enum outbox_source_kind {
    SOURCE_CLIENT, /* of this node; it goes with its last message */
    SOURCE_LEFT,   /* a client of this node that has left; it goes with its last message, too */
    SOURCE_MEMBER, /* another node; until outbox_queue_remove_member */
};

/* Who a message is from. */
struct outbox_source {
    const void *key; /* the subscription, or what names the member; NULL: SOURCE_LEFT */
    struct outbox_queue *queue;
    enum outbox_source_kind kind;
    struct subscription *from; /* SOURCE_CLIENT; else NULL */
    struct outbox_item *first; /* its messages, oldest first */
    size_t len;
    uint32_t spread_ms;  /* of its own, that its messages may wait beyond to_upstream.wait */
    struct timer expiry; /* of a client: of its oldest message, or before */
    UT_hash_handle hh;   /* by key */
};

enum outbox_item_state {
    OUTBOX_ITEM_WAITING,
    OUTBOX_ITEM_FORWARDED, /* an owner may have it, and alone knows whether it went upstream */
    OUTBOX_ITEM_EXPIRED,   /* it only keeps its place, until those before it have gone */
    OUTBOX_ITEM_STATES
};

/* A client message on its way upstream. */
struct outbox_item {
    struct outbox_item *prev, *next;       /* in the queue; prev of the first is the last */
    struct outbox_item *prev_of, *next_of; /* of the source */
    struct outbox_source *source;
    uint64_t number; /* grows per session and node; of the member's counting where it is one's */
    uint64_t send_id;
    uint64_t expires_ms;
    uint64_t ttl_at_ms; /* of a SEND: from then on it is not sent any more; 0: never */
    size_t len;
    uint8_t opcode;
    uint8_t sender_len;
    uint8_t state; /* of enum outbox_item_state; outbox_item_set_state */
    char bytes[];  /* sender, a zero byte, payload */
};

struct outbox_queue {
    struct outbox_item *first;  /* oldest; a list of utlist */
    struct outbox_item *cursor; /* the first that has not been forwarded; NULL: all have */
    size_t len, bytes;          /* what messages and their sources cost */
    struct outbox_source *sources;
    struct timers *timers;
    void (*on_expired)(struct outbox_source *source); /* its oldest message has waited too long */
    void *ctx;
};

void outbox_queue_init(struct outbox_queue *queue, struct timers *timers,
                       void (*on_expired)(struct outbox_source *source), void *ctx);
/* Frees all messages, and their sources; no member is left. */
void outbox_queue_fini(struct outbox_queue *queue);

/* Copies sender and payload. NULL: no memory. */
struct outbox_item *outbox_item_new(const struct outbox_message *message);
static inline const char *outbox_item_sender(const struct outbox_item *item)
{
    return item->bytes;
}
static inline const void *outbox_item_payload(const struct outbox_item *item)
{
    return item->bytes + item->sender_len + 1;
}
/* Asserts that the step is legal. */
void outbox_item_set_state(struct outbox_item *item, enum outbox_item_state state);
/* Of a client of this node, which may have left. */
static inline bool outbox_item_is_own(const struct outbox_item *item)
{
    return item->source->kind != SOURCE_MEMBER;
}
/* Its time is over: it is not sent any more. */
static inline bool outbox_item_is_over(const struct outbox_item *item, uint64_t now_ms)
{
    return item->ttl_at_ms && item->ttl_at_ms <= now_ms;
}
/* What is left of its time, at least 1; 0: it has no end. */
static inline uint64_t outbox_item_ttl_ms(const struct outbox_item *item, uint64_t now_ms)
{
    if (!item->ttl_at_ms)
        return 0;
    return outbox_item_is_over(item, now_ms) ? 1 : item->ttl_at_ms - now_ms;
}

/* One message fits always, else bytes is the bound. */
bool outbox_queue_has_room(const struct outbox_queue *queue, const struct outbox_message *message,
                           size_t bytes);
struct outbox_source *outbox_queue_find(const struct outbox_queue *queue, const void *key);
/* A client lives as a source while it has messages here. */
struct outbox_source *outbox_queue_client(struct outbox_queue *queue, struct subscription *from,
                                          uint64_t spread_ms);
/* Its client has left: its messages stay. */
void outbox_queue_orphan(struct outbox_queue *queue, struct outbox_source *source);
/* The caller's memory, zeroed, is a source from now on. */
void outbox_queue_add_member(struct outbox_queue *queue, struct outbox_source *source,
                             const void *key);
/* Without messages; the memory is the caller's again. */
void outbox_queue_remove_member(struct outbox_queue *queue, struct outbox_source *source);
/* At the end of both lists; takes the message. */
void outbox_queue_add(struct outbox_queue *queue, struct outbox_source *source,
                      struct outbox_item *item);
/* A member's message has expired: only its place is left, and what that costs. Frees the item. */
void outbox_queue_expire(struct outbox_queue *queue, struct outbox_item *item);
/* Takes it out and frees it; a client's source with its last one. */
void outbox_queue_drop(struct outbox_queue *queue, struct outbox_item *item);
/* Drops all messages of the source; returns how many. A client's source goes with them. */
uint64_t outbox_queue_drop_source(struct outbox_queue *queue, struct outbox_source *source);
/* Asserts what must hold. */
void outbox_queue_check(const struct outbox_queue *queue);

#endif
