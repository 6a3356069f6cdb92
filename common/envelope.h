/*
 * What nodes tell each other: one message on an inbox or push channel, as a msgpack array.
 *
 * Every type has the same layout, so that a reader needs one table and no version ever breaks
 * another: [version, type, session, node, life, number, epoch, offset, count, status, text, url,
 * items] with items an array of [kind, number, id, time_ms or after, opcode, name, bytes, ttl_ms],
 * the last where it is not 0. Fields
 * are only added at the end; missing ones at the end read as zero or empty, further ones are
 * ignored. Which type uses which field is said in the enum below.
 */
#ifndef VINHUB_COMMON_ENVELOPE_H
#define VINHUB_COMMON_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"
#include "common/status.h"

#define ENVELOPE_VERSION 1

/* Values travel between versions of the program: never renumber. */
enum envelope_type {
    /* inbox of the owner, from a member */
    ENVELOPE_JOIN =
        /* Number, count: clients of the member; epoch: highest it has seen; status: epoch at which
           the record names the addressee; offset: last command confirmed */
    1,
    ENVELOPE_LEAVE = 2, /* number */
    ENVELOPE_COMMANDS =
        /* Client messages: epoch; number: grows with that of JOIN and LEAVE; offset: number of the
           last JOIN that was answered, 0: not said; count: ms since that answer came; items: number
           (grows per member), after (number of the one before it that is not confirmed, 0: it is
           the oldest), id (SEND id or 0), opcode, name (client id or ""), bytes, ttl_ms (what is
           left of a SEND's, 0: none); SENDs that expired (kind EXPIRED) */
    3,
    /* inbox of a member, from the owner */
    ENVELOPE_JOINED =
        /* Number (of the JOIN); epoch, offset; count: how many of the last offsets may not be in
           the history yet; status, text: as STATUS; url: of the upstream */
    4,
    ENVELOPE_LEFT = 5,      /* number (of the LEAVE) */
    ENVELOPE_NOT_OWNER = 6, /* epoch: the highest this node has seen; the asker claims again */
    /* Epoch; number: commands up to it went upstream, but for SENDs that expired: items, kind
       EXPIRED; offset: those after it, up to number, are all named here, 0: not said */
    ENVELOPE_CONFIRM = 7,
    /* Epoch; number: commands from it on were not sent and are the member's again; offset: number
       of the last COMMANDS or JOIN seen, older ones are not taken any more; 0: not said */
    ENVELOPE_HANDBACK = 8,
    ENVELOPE_STATUS = 9, /* epoch; status: enum upstream_status; text: reason */
    /* Also on the push channel. Epoch, offset: the last of an epoch that is over */
    ENVELOPE_ENDED = 34,
    /* Inbox of the owner, from a member: clients have come with these ids; epoch; items: kind
       CLIENT_ID. And its word to all members: epoch; text: the node where they are; the items */
    ENVELOPE_TAKE_ID = 32,
    ENVELOPE_ID_TAKEN = 33,
    /* hand-over, both inboxes */
    ENVELOPE_OFFER = 10,   /* epoch; url */
    ENVELOPE_ACCEPT = 11,  /* epoch */
    ENVELOPE_DECLINE = 12, /* epoch */
    ENVELOPE_TAKE = 13,    /* epoch: the new one; url; items: members (kind MEMBER), last SEND ids
                              (kind SEND), those that expired (kind EXPIRED) */
    ENVELOPE_TAKEN = 14,   /* epoch */
    /* inboxes of all, from who releases the session */
    ENVELOPE_SENDS = 19, /* items: last SEND ids (kind SEND), those that expired (kind EXPIRED) */
    /* operators */
    ENVELOPE_PUBLISH = 15, /* to the owner: number (of the request); items: one, opcode and bytes */
    ENVELOPE_PUBLISHED = 16, /* answer: number; epoch, offset; status: 0 or an HTTP status */
    ENVELOPE_CLOSE = 17,     /* push channel: clients of the session are closed with 4006 */
    ENVELOPE_DRAIN = 18,     /* inbox: drain as on SIGTERM */
    /* Inboxes of all: a token, or those of a subject, are revoked; number (of the request, 0: no
       answer is expected); text: "jti:…" or "sub:…"; count: until when it matters, Unix s; offset:
       of a subject those issued before it, Unix s */
    ENVELOPE_REVOKE = 40,
    /* Answer to what was asked of all nodes: number; count: clients that were closed */
    ENVELOPE_COUNTED = 41,
    /* Inboxes of all: which clients are there, or are to be closed; number (of the request); items:
       kind FILTER; count: rows at most, 0: they are closed; text: the node where the page begins,
       offset: the slot there; url: the reason of the close */
    ENVELOPE_CLIENTS = 42,
    /* Answer: number; items: kinds CLIENT and CLIENT_MORE in turn; status: 1 where there are more,
       offset: the slot where they begin */
    ENVELOPE_CLIENT_ROWS = 43,
    /* Inbox of the owner, from a member: who watches there; epoch; number: grows with each other
       roster of the node; offset: number of the sum that it has; status: 1 where it does not know
       yet that this one has come; count: users that are not named; items: kind WATCHER */
    ENVELOPE_ROSTER = 44,
    /* Inbox of a member, from the owner: who watches on all nodes; epoch; number: grows; offset:
       number of the member's roster that is in it; count and items: as above */
    ENVELOPE_PRESENCE = 45,
    /* push channel of a session */
    /* Node: the owner from now on; epoch; number: the epoch it was handed over from, 0 by a claim.
       Made by these scripts */
    ENVELOPE_GRANT = 20,
    ENVELOPE_PUSH =
        21, /* node, epoch; items: kind PUBLICATION: number (offset), time_ms, opcode, bytes */
    /* inbox, from a node that has just registered */
    /* Life: members of an older life under that id are gone; number: random, of the process */
    ENVELOPE_HELLO = 31,
    /* inbox, to itself */
    ENVELOPE_PROBE = 30, /* number: monotonic ms when it was sent */
};

enum item_kind {
    ITEM_PUBLICATION = 0,
    ITEM_COMMAND = 1,
    /* Name: node; id: its life; number: last JOIN number; after: last command that went upstream;
       opcode: unused; bytes: count as decimal text */
    ITEM_MEMBER = 2,
    ITEM_SEND = 3, /* name: client id; id: last SEND id that went upstream; time_ms: Unix time of it
                      by the sender's clock, which the receiver's need not agree with */
    /* Bytes: path and query of a client's URL. In JOIN those of the member's clients; in JOINED the
       one the owner uses; number: 1 where a client with it is there */
    ITEM_REQUEST = 4,
    ITEM_WATCHER = 9, /* name: user; number: clients */
    ITEM_FILTER = 6,  /* name: of the filter; bytes: what must fit */
    /* Name: its id; bytes: user; number: messages received; id: sent; time_ms: Unix time it came */
    ITEM_CLIENT = 7,
    /* Name: session; bytes: address, a space, protocol; number: bytes queued; id: subscriptions
       beside its own; after: its slot */
    ITEM_CLIENT_MORE = 8,
    ITEM_CLIENT_ID = 5, /* name: client id; number: of the telling, which comes back */
    /* Name: client id; id: of a SEND that never goes upstream; number: of the last of several in a
       row, 0: it is one; opcode: 1 where that is so of some of them only */
    ITEM_EXPIRED = 6,
};

struct slice {
    const char *at; /* not terminated; NULL only where len is 0 */
    size_t len;
};

struct envelope_item {
    enum item_kind kind;
    uint64_t number;
    uint64_t id;
    union {
        uint64_t time_ms; /* PUBLICATION, SEND */
        uint64_t after;   /* COMMAND, MEMBER: the number of a command */
    };
    unsigned opcode;
    struct slice name;
    struct slice bytes;
    uint64_t ttl_ms; /* COMMAND */
};

/* A message. Slices and items belong to whoever made it; a decoded one points into its input and
 * its scratch. */
struct envelope {
    unsigned type; /* enum envelope_type, or one that a newer version knows */
    struct slice session;
    struct slice node; /* the sender, or what the type says */
    /* Of the sender: its start, so that a later life under the same id is told apart */
    uint64_t life;
    uint64_t number;
    uint64_t epoch;
    uint64_t offset;
    uint64_t count;
    uint64_t status;
    struct slice text;
    struct slice url;
    const struct envelope_item *items;
    size_t items_len;
};

/* Encodes into a malloc'd buffer the caller frees. STATUS_NO_MEMORY only. */
MUST_USE enum status envelope_encode(const struct envelope *envelope, uint8_t **out,
                                     size_t *out_len);

/* The same, and where in it the bytes of each item end: an array of items_len. */
MUST_USE enum status envelope_encode_placed(const struct envelope *envelope, uint8_t **out,
                                            size_t *out_len, size_t *ends);

/* Whether it is a message of that type, by its first fields; the rest may be unreadable. */
bool envelope_is(struct slice message, enum envelope_type type);

/*
 * Decodes. STATUS_INVALID: not a message, another layout, trailing bytes, more than 65,536
 * items, or a text that is not UTF-8. *items is the item array that out points to, malloc'd (NULL
 * where there are none), freed by the caller; strings point into data.
 */
MUST_USE enum status envelope_decode(const void *data, size_t len, struct envelope *out,
                                     struct envelope_item **items);

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, text ? __builtin_strlen(text) : 0};
}

#endif
