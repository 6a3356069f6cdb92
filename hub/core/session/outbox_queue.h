/*
 * The client messages that wait on this node: their memory, their bound and their order; a list of
 * each source; and when what a client sent has waited too long. When they go, and where to, is
 * decided in outbox.c.
 */
#ifndef VINHUB_CORE_SESSION_OUTBOX_QUEUE_H
#define VINHUB_CORE_SESSION_OUTBOX_QUEUE_H

#include "core/session/outbox.h"

/* A client, of this node or one that has left, or a member. */
struct source {
    const void *key; /* the subscription, or what names the member; NULL: it has left */
    struct outbox_queue *queue;
    struct subscription *from; /* NULL: a member, or it has left */
    struct command *first;     /* its messages, oldest first */
    size_t len;
    uint32_t spread_ms; /* of its own, that its messages may wait beyond to_upstream.wait */
    bool member;
    bool confirm_due;  /* in the row of those that are told what went upstream */
    const char *node;  /* the member's; borrowed */
    uint64_t taken;    /* last message taken from it */
    uint64_t sent;     /* last message of it that went upstream */
    uint64_t reported; /* up to which CONFIRMs have said what went, and what expired */
    uint64_t seen;     /* number of the last COMMANDS or JOIN of it */
    struct source *next_due;
    struct timer expiry; /* of a client: of its oldest message, or before */
    UT_hash_handle hh;   /* by key */
};

/* A client message on its way upstream. */
struct command {
    struct command *prev, *next;       /* in the queue; prev of the first is the last */
    struct command *prev_of, *next_of; /* of the source */
    struct source *source;
    uint64_t number; /* grows per session and node; of the member's counting where it is one's */
    uint64_t send_id;
    uint64_t expires_ms;
    uint64_t ttl_at_ms; /* of a SEND: from then on it does not go any more; 0: never */
    size_t len;
    uint8_t opcode;
    uint8_t sender_len;
    bool told;    /* an owner may have it: whether it went upstream is known to that owner alone */
    bool expired; /* of a member: it only keeps its place, until those before it have gone */
    char bytes[]; /* sender, a zero byte, payload */
};

struct outbox_queue {
    struct command *first; /* oldest; a list of utlist */
    size_t len, bytes;     /* what messages and their sources cost */
    struct source *sources;
    struct timers *timers;
    void (*on_expired)(struct source *source); /* its oldest message has waited too long */
    void *ctx;
};

void outbox_queue_init(struct outbox_queue *queue, struct timers *timers,
                       void (*on_expired)(struct source *source), void *ctx);
void outbox_queue_fini(struct outbox_queue *queue);

/* Copies sender and payload. NULL: no memory. */
struct command *command_new(const struct outbox_message *message);
static inline const char *command_sender(const struct command *command)
{
    return command->bytes;
}
static inline const void *command_payload(const struct command *command)
{
    return command->bytes + command->sender_len + 1;
}

/* One message fits always, else bytes is the bound. */
bool outbox_queue_has_room(const struct outbox_queue *queue, const struct outbox_message *message,
                           size_t bytes);
struct source *outbox_queue_find(const struct outbox_queue *queue, const void *key);
/* A client lives as a source while it has messages here. */
struct source *outbox_queue_client(struct outbox_queue *queue, struct subscription *from,
                                   uint64_t spread_ms);
struct source *outbox_queue_member(struct outbox_queue *queue, const void *key, const char *node);
/* Its client has left: its messages stay. */
void outbox_queue_orphan(struct outbox_queue *queue, struct source *source);
/* A member, without messages. */
void outbox_queue_forget(struct outbox_queue *queue, struct source *source);
/* At the end of both lists; takes the command. */
void outbox_queue_add(struct outbox_queue *queue, struct source *source, struct command *command);
/* A member's message expired: only its place is left, and what that costs. */
void outbox_queue_expire(struct outbox_queue *queue, struct command *command);
/* Takes it out and frees it; a client's source with its last one. */
void outbox_queue_drop(struct outbox_queue *queue, struct command *command);
/* Asserts what must hold. */
void outbox_queue_check(const struct outbox_queue *queue);

#endif
