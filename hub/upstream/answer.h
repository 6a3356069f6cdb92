/*
 * The answer to a handshake with a backend: gathered until its head is complete, then judged, all
 * of it or nothing (RFC 6455 section 4.1). Interim answers before it (100 Continue, 103 Early
 * Hints; RFC 9110 section 15.2) are passed over.
 *
 * The hub offers neither extensions nor subprotocols, so an answer that names one is wrong.
 */
#ifndef VINHUB_UPSTREAM_ANSWER_H
#define VINHUB_UPSTREAM_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "loop/http_head.h"

/* A head that is larger is no answer to a handshake. */
#define ANSWER_MAX 32768U
/* How many interim answers there may be; their bytes count for ANSWER_MAX, too. */
#define ANSWER_INTERIM_MAX 16U

/* Zeroed but for accept. */
struct answer_reader {
    char accept[WS_ACCEPT_SIZE]; /* what Sec-WebSocket-Accept must be */
    char *head;                  /* so far */
    size_t len, cap;
    size_t passed;    /* bytes of interim answers */
    unsigned interim; /* how many there were */
};

enum answer_verdict {
    ANSWER_MORE,    /* is to come */
    ANSWER_OPENS,   /* the WebSocket */
    ANSWER_REFUSES, /* with an HTTP status */
    ANSWER_WRONG,
};

struct answer {
    enum answer_verdict verdict;
    size_t used;          /* OPENS: how many of the bytes were the head's; frames follow */
    unsigned http_status; /* REFUSES */
    const char *why;      /* WRONG; static */
};

/* Takes the next bytes of the connection; none after a verdict. */
struct answer answer_take(struct answer_reader *reader, const uint8_t *bytes, size_t len);
void answer_reader_fini(struct answer_reader *reader);

#endif
