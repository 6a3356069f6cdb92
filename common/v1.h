/*
 * The subprotocols vinhub.v1 (JSON text) and vinhub.v1.msgpack: messages to and from protocol clients, contract section 6.
 *
 * Pure encoding and decoding. Each encoder makes one ready WebSocket frame; NULL means out of memory.
 */
#ifndef VINHUB_COMMON_V1_H
#define VINHUB_COMMON_V1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"
#include "common/status.h"

struct v1_welcome {
    const char *node, *session, *client;
    struct position at;
    bool resumed;
    const char *upstream; /* connected, connecting, down */
};

/* form is WIRE_JSON or WIRE_MSGPACK; unix_ms becomes the timestamp. The caller owns the reference. */
struct wire *v1_welcome(enum wire_form form, uint64_t unix_ms, const struct v1_welcome *welcome);
/* A publication as MESSAGE: its time_ms is the timestamp; text payloads as JSON string, binary ones as base64; in msgpack str or bin. */
struct wire *v1_message(enum wire_form form, const struct publication *publication);
struct wire *v1_status(enum wire_form form, uint64_t unix_ms, const char *upstream, const char *reason); /* reason may be NULL */
struct wire *v1_gap(enum wire_form form, uint64_t unix_ms, uint64_t epoch, uint64_t from, uint64_t to);
struct wire *v1_ack(enum wire_form form, uint64_t unix_ms, uint64_t id);
struct wire *v1_error(enum wire_form form, uint64_t unix_ms, const uint64_t *id, const char *code, const char *message); /* id may be NULL */
struct wire *v1_pong(enum wire_form form, uint64_t unix_ms);

enum v1_request_type { V1_SEND, V1_PING };

struct v1_request {
    enum v1_request_type type;
    uint64_t id;         /* of a SEND */
    enum opcode opcode;  /* of its payload: text, or binary for encoding base64 / msgpack bin */
    uint8_t *payload;    /* malloc'd, the caller frees; NULL only where len is 0 */
    size_t len;
};

/* Reads a client's message. STATUS_INVALID: code and why are static texts for an ERROR answer, has_id and id say whose. */
struct v1_mistake {
    bool has_id;
    uint64_t id;
    const char *code; /* snake_case word */
    const char *why;  /* a sentence: what was expected */
};
MUST_USE enum status v1_decode(enum wire_form form, enum opcode opcode, const void *data, size_t len, struct v1_request *out,
                               struct v1_mistake *mistake);

/* A resume token: EPOCH.OFFSET or EPOCH.OFFSET.CLIENT. client gets the rest, or "". STATUS_INVALID where unreadable. */
#define V1_CLIENT_MAX 32
MUST_USE enum status v1_resume(const char *token, struct position *at, char client[V1_CLIENT_MAX + 1]);

#endif
