/*
 * How much of what is sent again may be unanswered: one pool a node, of which each session has
 * shares.
 */
#ifndef VINHUB_CORE_SESSION_BACKLOG_CREDIT_H
#define VINHUB_CORE_SESSION_BACKLOG_CREDIT_H

#include <stddef.h>

/* Zeroed but for the pool, it has none of it. */
struct backlog_credit {
    size_t *in_flight; /* the pool: bytes that are unanswered, of all sessions of the node */
    size_t bytes;      /* of these */
};

static inline void backlog_credit_take(struct backlog_credit *credit, size_t bytes)
{
    credit->bytes += bytes;
    *credit->in_flight += bytes;
}

/* At most what it has. */
static inline void backlog_credit_return(struct backlog_credit *credit, size_t bytes)
{
    bytes = bytes < credit->bytes ? bytes : credit->bytes;
    credit->bytes -= bytes;
    *credit->in_flight -= bytes;
}

static inline void backlog_credit_return_all(struct backlog_credit *credit)
{
    backlog_credit_return(credit, credit->bytes);
}

#endif
