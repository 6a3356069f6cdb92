/*
 * A client: one browser socket as the core sees it. Embedded in the front's connection object.
 *
 * Owns the bounded queue of what the socket has not taken yet and the position of a protocol
 * client. Knows nothing of sockets: it writes through client_ops.
 */
#ifndef VINHUB_CORE_CLIENT_H
#define VINHUB_CORE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"
#include "common/url.h"
#include "core/ports.h"

struct hub;
struct queue;
struct protocol_client;

enum client_protocol { CLIENT_RAW, CLIENT_JSON, CLIENT_MSGPACK };

enum client_state {
    CLIENT_LIVE,     /* gets what comes */
    CLIENT_CATCHING, /* history is being read for it; live publications wait in its queue */
    CLIENT_CLOSING,  /* close was asked for, the socket is not gone yet */
    CLIENT_GONE,     /* before client_open and after client_gone */
};

/* What a delivery looks at comes first: of many clients each line of memory that is fetched counts.
 */
struct client {
    struct client *next, *prev; /* in the session's list */
    struct queue *queue;        /* NULL while the socket takes everything */
    uint64_t sent;              /* messages, for the closing log line */
    uint32_t pending;           /* own messages that wait for the upstream */
    uint8_t protocol;           /* enum client_protocol */
    uint8_t state;              /* enum client_state; one setter */
    /* With permessage-deflate the client's window, 8 to 15; 0: nothing is deflated for it */
    uint8_t window_bits;
    bool blocked;     /* write said STATUS_AGAIN; client_writable is awaited */
    bool paused;      /* reading is stopped, for the upstream's sake */
    uint16_t request; /* handle of its URL in the session's attempt; attempt.h */
    struct hub *hub;
    struct session *session;
    /* Follower.c's; NULL for raw clients that want no replay */
    struct protocol_client *protocol_part;
    char *user;        /* for the audit log; NULL where that is off */
    uint64_t received; /* messages, for the closing log line */
    uint64_t opened_ms;
    uint32_t rate_tokens_milli; /* token bucket, thousandths of a message */
    uint32_t rate_at_ms;        /* low 32 bits of the time of the last refill */
};

/*
 * A handshake is complete: the client joins its session (made on demand). target is only read;
 * client's memory is the front's and stays in place until client_gone. window_bits: of
 * permessage-deflate where it was agreed, the window the client inflates with, else 0.
 * STATUS_LIMIT: no more sessions or memory: the front closes with 1013.
 */
MUST_USE enum status client_open(struct hub *hub, struct client *client,
                                 const struct target *target, enum client_protocol protocol,
                                 unsigned window_bits);
/* One whole message, already checked (size, UTF-8, inflated). */
void client_message(struct client *client, enum opcode opcode, const void *payload, size_t len);
/* The socket took all that was buffered. */
void client_writable(struct client *client);
/* The socket is gone; code and reason for the log: of the close frame seen or sent, 1006 for none.
 * After this the memory is the front's alone. */
void client_gone(struct client *client, unsigned code, const char *reason);
/* Spends one message of its rate. Returns false where there is none left: it is being closed with
 * 4002. */
bool client_spend(struct client *client);
/* A line for the audit log, where it is on: a message of this client goes upstream, or into the
 * queue for it. */
void client_audit(const struct client *client, size_t len);
/* Frees what the core has for it, without a word to anybody; its session forgets it next. For
 * client_gone and hub_free. */
void client_let_go(struct client *client);
/* The front (or the core) closes it with a code of contract section 7; counted and logged. No
 * effect on a closing client. */
void client_close(struct client *client, unsigned code, const char *reason);

#endif
