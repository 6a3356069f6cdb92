/*
 * What becomes no client: the answers that say why, their metrics and their lines, and the health
 * checks of balancers, which are answered and leave neither.
 */
#ifndef VINHUB_FRONT_FRONT_REFUSE_H
#define VINHUB_FRONT_FRONT_REFUSE_H

#include <stdbool.h>

#include "common/metrics.h"
#include "loop/http_head.h"

struct conn;

enum refusal {
    REFUSAL_MALFORMED_URL,
    REFUSAL_BAD_HANDSHAKE,
    REFUSAL_NOT_HTTP,
    REFUSAL_PLAIN_ON_TLS,
    REFUSAL_PROXY_HEADER,
    REFUSAL_UNAUTHORIZED, /* of an event stream: no token that counts */
    REFUSAL_NOT_COVERED,  /* of an event stream: the token is for something else */
    REFUSAL_ORIGIN,
    REFUSAL_NO_SERVICE,
    REFUSAL_METHOD,
    REFUSAL_LONG_URL,
    REFUSAL_NO_UPGRADE,
    REFUSAL_LONG_HEAD,
    REFUSAL_FULL,
    REFUSAL_DRAINING,
    REFUSAL_PER_IP,
    REFUSALS
};

/* Answers with the status of the refusal and why (a line of text), counts it and logs it: the same
 * cause once, then each minute. The connection is in state CONN_REFUSED then: what still comes is
 * thrown away, and it is closed when the peer has had a moment to read. */
void refuse(struct conn *conn, enum refusal refusal, const char *why);

/* Ends the connection with that answer, uncounted, in the same way. */
void answer_and_end(struct conn *conn, const char *answer, size_t len);

/* Counts and logs a connection in its handshake that gets no answer: the caller drops it. */
void refuse_unanswered(struct conn *conn, enum refuse_reason reason, const char *why);

/* Of a connection that ends in its handshake: counts it where it sent something and nothing was
 * counted yet. */
void refuse_aborted(struct conn *conn);

/* Answers GET and HEAD of /healthz and /readyz, without a line and without a count. False: it is
 * another request. */
bool health_answer(struct conn *conn, const struct http_head *head);

#endif
