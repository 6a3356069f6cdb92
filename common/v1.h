/*
 * The subprotocols vinhub.v1 (JSON text) and vinhub.v1.msgpack: messages to and from protocol
 * clients, contract section 6.
 *
 * Pure encoding and decoding, without a frame: the sender puts that before it. Each encoder
 * makes one message in one allocation; NULL means out of memory. Strings given to an encoder are
 * valid UTF-8. session is the id that stands beside type where a client has several; NULL: it does
 * not. The keys stand in the order of the contract, and every message has a payload: that of PONG
 * is empty.
 *
 * encoding has the same value in both forms and names the kind of message: "text", or "base64" for
 * a binary one. In msgpack a binary payload is a bin, the bytes themselves, with nothing left to
 * decode: the type of the value says so. The same holds for a SEND: a bin is sent as a binary
 * message, with encoding "base64" or without; a str with "base64" is decoded first.
 */
#ifndef VINHUB_COMMON_V1_H
#define VINHUB_COMMON_V1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"
#include "common/status.h"

enum v1_encoding { V1_JSON, V1_MSGPACK };

/* What the head of each message says: unix_ms becomes the timestamp. */
struct v1_head {
    uint64_t unix_ms;
    const char *session; /* NULL: left out */
};

/* Valid UTF-8, not terminated. */
struct v1_text {
    const char *at;
    size_t len;
};

struct v1_welcome {
    const char *node, *session, *client;
    struct position at;
    bool resumed;
    const char *upstream; /* connected, connecting, down */
    /* Of a further session: its URL and the id of the SUBSCRIBE. url.at NULL: the own session */
    struct v1_text url;
    uint64_t id;
};

struct v1_error {
    const uint64_t *id; /* NULL: left out */
    struct v1_text url; /* at NULL: left out */
    const char *code, *message;
};

struct v1_closed {
    const uint64_t *id; /* NULL: left out */
    const char *session;
    unsigned code;
    const char *reason;
};

/* A user and how many clients he has in a session. */
struct v1_watcher {
    const char *user; /* "": their URLs have none */
    uint64_t clients;
};

/* The caller owns the reference. */
struct wire *v1_welcome(enum v1_encoding encoding, const struct v1_head *head,
                        const struct v1_welcome *welcome);
/* A publication as MESSAGE: its time_ms is the timestamp; text payloads as JSON string, binary ones
 * as base64; in msgpack str or bin. NULL also for a payload over 4 GiB, which msgpack can't hold.
 */
struct wire *v1_message(enum v1_encoding encoding, const struct publication *publication,
                        const char *session);
struct wire *v1_status(enum v1_encoding encoding, const struct v1_head *head, const char *upstream,
                       const char *reason); /* reason may be NULL */
struct wire *v1_gap(enum v1_encoding encoding, const struct v1_head *head, uint64_t epoch,
                    uint64_t from, uint64_t to);
struct wire *v1_ack(enum v1_encoding encoding, const struct v1_head *head, uint64_t id);
struct wire *v1_error(enum v1_encoding encoding, const struct v1_head *head,
                      const struct v1_error *error);
struct wire *v1_closed(enum v1_encoding encoding, const struct v1_head *head,
                       const struct v1_closed *closed);
/* more: users beside those. */
struct wire *v1_presence(enum v1_encoding encoding, const struct v1_head *head,
                         const struct v1_watcher *users, size_t len, uint64_t more);
struct wire *v1_pong(enum v1_encoding encoding, const struct v1_head *head);

enum v1_request_type { V1_SEND, V1_REFRESH, V1_SUBSCRIBE, V1_UNSUBSCRIBE, V1_PING };

struct v1_request {
    enum v1_request_type type;
    uint64_t id;        /* of all but a PING */
    enum opcode opcode; /* of its payload: text, or binary for encoding base64 / msgpack bin */
    /* malloc'd, but for one that is borrowed; NULL only where len is 0. Of a REFRESH: the token, a
     * text with a 0 behind it; of a SUBSCRIBE or UNSUBSCRIBE: its texts, as v1_texts_next reads them
     */
    uint8_t *payload;
    size_t len;
    bool borrowed; /* of a SEND: its payload stands in the message, and is valid as long as that */
    char *session;   /* of a SEND: the one that it names, malloc'd; NULL: the connection's own */
    uint32_t ttl_ms; /* of a SEND; 0: none */
};

/* Frees what is in it; a token is wiped. */
void v1_request_fini(struct v1_request *request);

#define V1_TEXTS_MAX 10000 /* in one SUBSCRIBE or UNSUBSCRIBE */
/* The next text of a list that begins at *at, within len bytes from payload on. Each has a 0
 * behind it, which is not counted. False: there is no more. */
bool v1_texts_next(const uint8_t *payload, size_t len, size_t *at, struct v1_text *out);

/* What an ERROR answers to a message that is not understood. code and why are static texts. */
struct v1_mistake {
    bool has_id; /* the message has a readable id, whatever else is wrong with it */
    uint64_t id;
    /* malformed, unknown_type, invalid_id, invalid_payload, invalid_encoding, invalid_session,
     * invalid_ttl, invalid_urls, invalid_sessions, unauthorized or no_memory */
    const char *code;
    const char *why; /* a sentence: what was expected */
};

/*
 * Reads a client's message that came with opcode. A text is valid UTF-8: who receives messages has
 * checked it. Fields without a meaning are ignored; a field that is there twice, nesting over 16, a
 * list of more than V1_TEXTS_MAX texts and more than 256 values beside those of such a list are
 * mistakes, so that reading costs little more than going over the bytes. ids are 1 to 2^53 in JSON,
 * where a browser's numbers are exact, and 1 to 2^64-1 in msgpack. STATUS_INVALID: *mistake is
 * filled. STATUS_NO_MEMORY: nothing is.
 */
MUST_USE enum status v1_decode(enum v1_encoding encoding, enum opcode opcode, const void *data,
                               size_t len, struct v1_request *out, struct v1_mistake *mistake);

/* A resume token: EPOCH.OFFSET or EPOCH.OFFSET.CLIENT. client gets the rest, a name, or "".
 * STATUS_INVALID where unreadable. 0.0, from a WELCOME without a known position, is readable. */
#define V1_CLIENT_MAX 32
MUST_USE enum status v1_resume(const char *token, struct position *at,
                               char client[V1_CLIENT_MAX + 1]);

#endif
