/*
 * The answer of a backend to our handshake: its bytes are kept until the head is complete, then the
 * whole head is checked (RFC 6455 section 4.1). Interim answers before it (100 Continue, 103 Early
 * Hints; RFC 9110 section 15.2) are skipped.
 *
 * The hub offers neither extensions nor subprotocols, so an answer that names one is wrong.
 */
#ifndef VINHUB_UPSTREAM_ANSWER_H
#define VINHUB_UPSTREAM_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "loop/http_head.h"

/* The largest head that is accepted. */
#define ANSWER_MAX 32768U
/* How many interim answers are accepted; their bytes count towards ANSWER_MAX, too. */
#define ANSWER_INTERIM_MAX 16U

/* Starts zeroed but for accept. */
struct answer_reader {
    char accept[WS_ACCEPT_SIZE]; /* the expected Sec-WebSocket-Accept */
    char *head;                  /* the bytes of the head that have come so far */
    size_t len, cap;
    size_t passed;    /* bytes of interim answers */
    unsigned interim; /* how many there were */
};

enum answer_verdict {
    ANSWER_MORE,    /* the head is not complete yet */
    ANSWER_OPENS,   /* the WebSocket is open */
    ANSWER_REFUSES, /* the backend refuses with an HTTP status */
    ANSWER_WRONG,   /* the answer breaks the rules of the handshake */
};

struct answer {
    enum answer_verdict verdict;
    size_t used;          /* OPENS: how many of the bytes belong to the head; frames follow */
    unsigned http_status; /* REFUSES */
    const char *why;      /* WRONG; static */
};

/* Takes the next bytes of the connection. Not to be called again after another verdict than MORE.
 */
struct answer answer_take(struct answer_reader *reader, const uint8_t *bytes, size_t len);
void answer_reader_fini(struct answer_reader *reader);

#endif
