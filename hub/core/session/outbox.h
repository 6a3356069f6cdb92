/*
 * Client messages of a session on their way to the upstream: one bounded queue a session and node,
 * in order, each once at most.
 *
 *   client -> waits -> upstream's socket                             on the owner
 *   client -> waits -> forwarded to the owner's inbox -> confirmed   on a member
 *               ^--------------------'  handed back: that one and all after it wait again
 *
 * Messages that are forwarded have numbers; the owner takes them in that order only. So a client's
 * messages never overtake each other. When an owner is killed, what it had and did not confirm is
 * dropped and counted for raw clients (once at most) and sent again for SENDs (at least once).
 *
 * Each message is in two lists: the queue, by age, and that of its source, a client or a member. So
 * the messages of a source are taken out without a walk over those of others. The bound counts what
 * they cost in memory. A source waits to_upstream.wait, and up to half of that again, for its
 * oldest message; then all it has here is dropped, and its client closed: a vehicle never gets the
 * second half of what somebody sent. What goes upstream in one turn has a bound, too.
 *
 * The parts: outbox_queue (what waits), outbox_upstream (the owner's way), outbox_forward (a
 * member's way), outbox_members (what members gave the owner), outbox_expiry (SENDs whose time is
 * over, and the memory of those before). None knows another but the queue.
 */
#ifndef VINHUB_CORE_SESSION_OUTBOX_H
#define VINHUB_CORE_SESSION_OUTBOX_H

#include "common/node_messages.h"
#include "core/session/last_sends.h"
#include "core/session/state.h"

/* Where messages go now. */
enum outbox_way { OUTBOX_NOWHERE, OUTBOX_UPSTREAM, OUTBOX_OWNER };

struct outbox_events {
    enum outbox_way (*way)(const struct session *session);
    /* STATUS_AGAIN: outbox_link_writable follows. */
    enum status (*send)(struct session *session, enum opcode opcode, const void *payload,
                        size_t len);
    /* Sends COMMANDS to the owner, with the number of the membership. */
    void (*send_commands)(struct session *session, struct commands_message *message);
    /* Nothing waits any more. */
    void (*emptied)(struct session *session);
    /* Members whose messages were handed back may forward them again. */
    void (*room_again)(struct session *session);
    /* Of the clients of a session, as struct audience_events. */
    void (*refused)(struct session *session, struct subscription *from);
    void (*acked)(struct session *session, struct subscription *from, uint64_t send_id);
    /* Its SEND never goes upstream. */
    void (*expired)(struct session *session, struct subscription *from, uint64_t send_id);
    void (*paused)(struct session *session, struct subscription *from);
    void (*resumed)(struct session *session); /* all that are paused */
};

/* A message as it comes from a client. */
struct outbox_message {
    uint64_t send_id;   /* 0: raw */
    const char *sender; /* client id of a SEND, at most 32 bytes; "" for raw */
    enum opcode opcode;
    const void *payload;
    size_t len;
    uint64_t ttl_ms; /* of a SEND; 0: none */
};

void outbox_new(struct session *session, const struct outbox_events *events);
void outbox_free(struct session *session);

/* A message of a local client; payload is copied. may_pause: its client is still read from. May
 * refuse it. Returns whether it is on its way, or waits. */
bool outbox_add(struct session *session, struct subscription *from, bool may_pause,
                const struct outbox_message *message);
/* The client leaves; its messages stay. */
void outbox_from_gone(struct session *session, struct subscription *from);
/* Its SENDs that no owner has yet do not go any more: it has given way to a later connection. */
void outbox_drop_unsent(struct session *session, struct subscription *from);
bool outbox_is_empty(const struct session *session);
size_t outbox_bytes(const struct session *session);
/* Sends what can be sent, a portion of it in this turn. */
void outbox_pump(struct session *session);
/* At the end of the turn: forwards messages, and confirms those of members. */
void outbox_flush(struct session *session);
/* Last own message that went upstream, as far as is known. */
uint64_t outbox_confirmed(const struct session *session);
uint64_t outbox_last_number(const struct session *session);

/* --- owner's side; member: any pointer that names it --- */

/* A member is there, or begins anew. node lives as long as it. */
void outbox_member_came(struct session *session, const void *member, const char *node);
/* It is gone, and what it gave. */
void outbox_member_gone(struct session *session, const void *member);
/* It knows of that much that went upstream, or the last owner says so. */
void outbox_member_confirmed(struct session *session, const void *member, uint64_t number);
uint64_t outbox_member_sent(const struct session *session, const void *member);
/* COMMANDS of a member; seen: the number of the last message of it, for HANDBACK; late_ms: for how
 * long they were on their way, which counts for their ttl. */
void outbox_take(struct session *session, const void *member, uint64_t seen, uint64_t late_ms,
                 const struct message_items *commands);
/* This node is the owner now. */
void outbox_owner_changed(struct session *session);
void outbox_link_writable(struct session *session);
/* What members gave goes back to them. */
void outbox_link_down(struct session *session);

/* --- member's side --- */

/* Joined, or the owner's upstream is there: it takes messages (again). */
void outbox_owner_ready(struct session *session);
/* Without a hand-over. */
void outbox_owner_lost(struct session *session);
/* The owner, or the last one, says that own messages up to the number went upstream. */
void outbox_went_upstream(struct session *session, uint64_t number);
void outbox_on_confirm(struct session *session, const struct confirm_message *confirm);
void outbox_on_handback(struct session *session, uint64_t from, uint64_t seen_number);

/* --- last SENDs --- */

/* That SEND, or one after it, went upstream; or it never does. */
bool outbox_settled(const struct session *session, const char *client, uint64_t id);
/* That SEND of a client's connection here went upstream. Of what the client said before, on another
 * node, only an owner may know that it expired. A later owner need not know that it went. */
bool outbox_went(const struct session *session, const char *client, uint64_t id);
/* What that client says from now on is of another connection. */
void outbox_connection_gone(struct session *session, const char *client);
/* What became of SENDs, as another node says: send_item, expired_item; others are passed over. */
void outbox_note(struct session *session, const struct envelope_item *item);
size_t outbox_sends_len(const struct session *session);
/* The last SENDs of clients, and before each those that expired; those of last use last; younger_ms
 * old at most. time_ms is Unix time. Names live as long as nothing is noted. Returns how many, at
 * most max: of a client it is all or nothing. */
size_t outbox_sends(const struct session *session, uint64_t younger_ms, struct envelope_item *items,
                    size_t max);
/* Asserts what must hold. */
void outbox_check(const struct session *session);

#endif
