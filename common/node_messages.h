/*
 * What nodes say to each other: each message with its own fields, by name.
 *
 * An envelope (common/envelope.h) is the frame on the bus: its fields are numbered, the same for
 * every type, so that no version of the program breaks another. Here stands what they mean. Each
 * message has an encoder, which gives an envelope that points into the message, and a decoder,
 * whose result points into the envelope. The envelope's head (session, node, life) is the sender's
 * to fill, and the same of all.
 *
 * A new field takes a place of the envelope that its message does not use yet, or a new one at the
 * envelope's end; 0 and "" mean what an older node, which does not know the field, would have said.
 * tests/unit/test_node_messages.c holds the bytes of 0.1.0 against it.
 */
#ifndef VINHUB_COMMON_NODE_MESSAGES_H
#define VINHUB_COMMON_NODE_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/envelope.h"

/* Envelope items, to be built with the _item functions and read with the _of functions below. */
struct message_items {
    const struct envelope_item *at;
    size_t len;
};

/* --- inbox of the owner, from a member --- */

/* Asks to become a member, or to stay one. */
struct join_message {
    uint64_t number;               /* grows with each JOIN, LEAVE and COMMANDS of the node */
    uint64_t clients;              /* that the member has */
    uint64_t seen_epoch;           /* the highest it has seen */
    uint64_t named_epoch;          /* of the record that names the receiver as owner */
    uint64_t confirmed;            /* its last command that was confirmed */
    struct message_items requests; /* URLs of its clients: request_item, not attended */
};
struct envelope join_encode(const struct join_message *message);
struct join_message join_decode(const struct envelope *envelope);

struct leave_message {
    uint64_t number;
    uint64_t epoch;
};
struct envelope leave_encode(const struct leave_message *message);
struct leave_message leave_decode(const struct envelope *envelope);

/* Messages of its clients. */
struct commands_message {
    uint64_t epoch;
    uint64_t number;
    uint64_t joined_number;        /* of the last JOIN that was answered; 0: not said */
    uint64_t joined_ago_ms;        /* since its answer came */
    struct message_items commands; /* command_item, expired_item */
};
struct envelope commands_encode(const struct commands_message *message);
struct commands_message commands_decode(const struct envelope *envelope);

/* --- inbox of a member, from the owner --- */

/* The state of the upstream, for clients. */
struct status_message {
    uint64_t epoch;
    uint64_t status; /* enum upstream_status, or one that a newer version knows */
    struct slice reason;
};
struct envelope status_encode(const struct status_message *message);
struct status_message status_decode(const struct envelope *envelope);

struct joined_message {
    uint64_t number;     /* of the JOIN */
    struct position at;  /* where the stream stands */
    uint64_t on_the_way; /* how many of the last offsets may not be in the history yet */
    uint64_t status;
    struct slice reason;
    struct slice url;              /* of the upstream */
    struct message_items requests; /* at most one: what that URL was made of */
};
struct envelope joined_encode(const struct joined_message *message);
struct joined_message joined_decode(const struct envelope *envelope);

/* The last position of an epoch whose end was never written to the store. Sent before JOINED of
 * the next epoch, and to the push channel. */
struct ended_message {
    struct position last;
};
struct envelope ended_encode(const struct ended_message *message);
struct ended_message ended_decode(const struct envelope *envelope);

struct left_message {
    uint64_t number; /* of the LEAVE */
};
struct envelope left_encode(const struct left_message *message);
struct left_message left_decode(const struct envelope *envelope);

/* The session has no owner here: the node that asked claims again. */
struct not_owner_message {
    uint64_t epoch; /* the highest this node has seen */
};
struct envelope not_owner_encode(const struct not_owner_message *message);
struct not_owner_message not_owner_decode(const struct envelope *envelope);

struct confirm_message {
    uint64_t epoch;
    uint64_t upto; /* commands up to it went upstream, but for those that expired */
    /* This message names every command after from, up to upto, that expired. An earlier CONFIRM
       that named those before it may be lost. 0: the first CONFIRM, or an older node's */
    uint64_t from;
    struct message_items expired; /* expired_item */
};
struct envelope confirm_encode(const struct confirm_message *message);
struct confirm_message confirm_decode(const struct envelope *envelope);

struct handback_message {
    uint64_t epoch;
    uint64_t from;        /* commands from it on were not sent, and are the member's again */
    uint64_t seen_number; /* of the last COMMANDS or JOIN; older ones are ignored; 0: unknown */
};
struct envelope handback_encode(const struct handback_message *message);
struct handback_message handback_decode(const struct envelope *envelope);

/* --- ids of clients (core/client_ids.h) --- */

/* To the owner: clients have come with these ids. */
struct take_id_message {
    uint64_t epoch;
    struct message_items ids; /* client_id_item */
};
struct envelope take_id_encode(const struct take_id_message *message);
struct take_id_message take_id_decode(const struct envelope *envelope);

/* The owner's answer, to all members. */
struct id_taken_message {
    uint64_t epoch;
    struct slice by; /* the node where those clients are */
    struct message_items ids;
};
struct envelope id_taken_encode(const struct id_taken_message *message);
struct id_taken_message id_taken_decode(const struct envelope *envelope);

/* --- hand-over, both inboxes --- */

struct offer_message {
    uint64_t epoch;
    struct slice url;
};
struct envelope offer_encode(const struct offer_message *message);
struct offer_message offer_decode(const struct envelope *envelope);

/* ACCEPT, or DECLINE. */
struct answer_message {
    bool accepts;
    uint64_t epoch; /* of the offer */
};
struct envelope answer_encode(const struct answer_message *message);
struct answer_message answer_decode(const struct envelope *envelope);

struct take_message {
    uint64_t epoch; /* the new one */
    struct slice url;
    struct message_items items; /* member_item, send_item, expired_item */
};
struct envelope take_encode(const struct take_message *message);
struct take_message take_decode(const struct envelope *envelope);

struct taken_message {
    uint64_t epoch;
};
struct envelope taken_encode(const struct taken_message *message);
struct taken_message taken_decode(const struct envelope *envelope);

/* --- presence (core/presence.h) --- */

/* To the owner: who watches on the member's node. */
struct roster_message {
    uint64_t epoch;
    uint64_t number;               /* grows whenever the node's roster changes */
    uint64_t seen;                 /* number of the sum that it has; 0: none of this epoch */
    bool wants_word;               /* the sender does not know yet that this roster has arrived */
    uint64_t more;                 /* users that are not named */
    struct message_items watchers; /* watcher_item, by name */
};
struct envelope roster_encode(const struct roster_message *message);
struct roster_message roster_decode(const struct envelope *envelope);

/* To a member: who watches on all nodes. */
struct presence_message {
    uint64_t epoch;
    uint64_t number; /* grows whenever the owner's sum changes */
    uint64_t heard;  /* number of the member's roster that has come */
    uint64_t more;
    struct message_items watchers;
};
struct envelope presence_encode(const struct presence_message *message);
struct presence_message presence_decode(const struct envelope *envelope);

/* --- inboxes of all --- */

/* What clients sent last, from the owner that releases the session. */
struct sends_message {
    struct message_items sends; /* send_item, expired_item */
};
struct envelope sends_encode(const struct sends_message *message);
struct sends_message sends_decode(const struct envelope *envelope);

/* A node has just started: members of an older life under its id are gone. */
struct hello_message {
    uint64_t process; /* random: two processes under one id differ in it */
};
struct envelope hello_encode(const struct hello_message *message);
struct hello_message hello_decode(const struct envelope *envelope);

/* To the node's own inbox, to see whether it is heard. */
struct probe_message {
    uint64_t sent_ms; /* monotonic */
};
struct envelope probe_encode(const struct probe_message *message);
struct probe_message probe_decode(const struct envelope *envelope);

/* --- operators --- */

/* To the owner. */
struct publish_message {
    uint64_t number;                   /* of the request */
    struct message_items publications; /* publication_item; one */
};
struct envelope publish_encode(const struct publish_message *message);
struct publish_message publish_decode(const struct envelope *envelope);

struct published_message {
    uint64_t number; /* of the request */
    struct position at;
    uint64_t http_status;
};
struct envelope published_encode(const struct published_message *message);
struct published_message published_decode(const struct envelope *envelope);

/* To the push channel: clients of the session are closed with 4006. To an inbox: drain. */
struct envelope close_encode(void);
struct envelope drain_encode(void);

/* Tokens end before their time (core/revoked.h). */
struct revoke_message {
    uint64_t number;          /* of the request; 0: no answer is expected */
    struct slice name;        /* "jti:…" or "sub:…" */
    uint64_t until_s;         /* Unix time from which on the entry is not needed */
    uint64_t issued_before_s; /* of a subject */
};
struct envelope revoke_encode(const struct revoke_message *message);
struct revoke_message revoke_decode(const struct envelope *envelope);

/* The answer to a request to all nodes. */
struct counted_message {
    uint64_t number; /* of the request */
    uint64_t closed; /* clients of the node that it closed */
};
struct envelope counted_encode(const struct counted_message *message);
struct counted_message counted_decode(const struct envelope *envelope);

/* What operators ask about clients (core/clients.h). */
struct clients_message {
    uint64_t number;              /* of the request */
    uint64_t limit;               /* rows; 0: the clients are closed */
    struct slice from_node;       /* where the page begins; "": with the first node */
    uint64_t from_slot;           /* on that node */
    struct slice reason;          /* of the close */
    struct message_items filters; /* filter_item */
};
struct envelope clients_encode(const struct clients_message *message);
struct clients_message clients_decode(const struct envelope *envelope);

struct client_rows_message {
    uint64_t number; /* of the request */
    bool more;       /* further rows follow, from next_slot on */
    uint64_t next_slot;
    struct message_items rows; /* client_items: two each */
};
struct envelope client_rows_encode(const struct client_rows_message *message);
struct client_rows_message client_rows_decode(const struct envelope *envelope);

/* --- push channel of a session --- */

/* The envelope's node is the owner from now on. Made by the scripts. */
struct grant_message {
    uint64_t epoch;
    uint64_t from_epoch; /* that it was handed over from; 0: by a claim */
};
struct envelope grant_encode(const struct grant_message *message);
struct grant_message grant_decode(const struct envelope *envelope);

struct push_message {
    uint64_t epoch;
    struct message_items publications; /* publication_item */
};
struct envelope push_encode(const struct push_message *message);
struct push_message push_decode(const struct envelope *envelope);

/* --- items: each _of returns false where the item is of another kind --- */

struct publication_entry {
    uint64_t offset;
    uint64_t time_ms;
    enum opcode opcode; /* what is not binary is text */
    struct slice payload;
};
struct envelope_item publication_item(const struct publication_entry *entry);
/* Of a publication that has its place; points into it. */
struct envelope_item publication_as_item(const struct publication *publication);
bool publication_entry_of(const struct envelope_item *item, struct publication_entry *out);

struct command_entry {
    uint64_t number;  /* grows per member */
    uint64_t after;   /* number of the one before it that is not confirmed; 0: it is the oldest */
    uint64_t send_id; /* 0: of a raw client */
    struct slice sender; /* client id of a SEND, or "" */
    enum opcode opcode;
    struct slice payload;
    uint64_t ttl_ms; /* a SEND must go upstream within it, or never; 0: no bound */
};
struct envelope_item command_item(const struct command_entry *entry);
bool command_entry_of(const struct envelope_item *item, struct command_entry *out);

struct member_entry {
    struct slice node;
    uint64_t life;
    uint64_t join_number; /* of its last JOIN */
    uint64_t sent;        /* its last command that went upstream */
};
struct envelope_item member_item(const struct member_entry *entry);
bool member_entry_of(const struct envelope_item *item, struct member_entry *out);

struct send_entry {
    struct slice client;
    uint64_t send_id; /* its last that went upstream */
    uint64_t unix_ms; /* when, by the sender's clock, which the receiver's need not agree with */
};
struct envelope_item send_item(const struct send_entry *entry);
bool send_entry_of(const struct envelope_item *item, struct send_entry *out);

/* One SEND, or several in a row, that did not go upstream within their ttl and never will. */
struct expired_entry {
    struct slice client;
    uint64_t send_id;
    uint64_t upto; /* the last of them; 0: it is one */
    bool some;     /* only some of them expired; which ones is not known */
};
struct envelope_item expired_item(const struct expired_entry *entry);
bool expired_entry_of(const struct envelope_item *item, struct expired_entry *out);

struct client_id_entry {
    struct slice client;
    uint64_t number; /* of this message; the answer repeats it */
};
struct envelope_item client_id_item(const struct client_id_entry *entry);
bool client_id_entry_of(const struct envelope_item *item, struct client_id_entry *out);

struct watcher_entry {
    struct slice user;
    uint64_t clients;
};
struct envelope_item watcher_item(const struct watcher_entry *entry);
bool watcher_entry_of(const struct envelope_item *item, struct watcher_entry *out);

struct filter_entry {
    struct slice name, value;
};
struct envelope_item filter_item(const struct filter_entry *entry);
bool filter_entry_of(const struct envelope_item *item, struct filter_entry *out);

struct client_entry {
    struct slice id, user, session;
    struct slice place; /* address, a space, protocol */
    uint64_t since_ms, subscriptions, received, sent, queued_bytes, slot;
};
void client_items(const struct client_entry *entry, struct envelope_item out[2]);
bool client_entry_of(const struct envelope_item items[2], struct client_entry *out);

struct request_entry {
    struct slice text; /* path and query of a client's URL */
    bool attended;     /* in JOINED: a client with this URL is connected */
};
struct envelope_item request_item(const struct request_entry *entry);
bool request_entry_of(const struct envelope_item *item, struct request_entry *out);

#endif
