/*
 * Which sessions of a node send what they kept, one after the other: under a credit of what may be
 * unanswered, and a budget a turn. New pushes of sessions that have nothing to send again go on
 * meanwhile.
 */
#ifndef VINHUB_CORE_SESSION_BACKLOG_ROW_H
#define VINHUB_CORE_SESSION_BACKLOG_ROW_H

#include "core/node/node.h"

#define BACKLOG_CREDIT_BYTES (4u << 20) /* of what is sent again, that may be unanswered */

enum backlog_written {
    BACKLOG_WROTE, /* a portion of what it kept */
    BACKLOG_BEGAN, /* the portion with which it begins */
    BACKLOG_DONE,  /* nothing was left: it has left the row */
};

/* A session in the row; embedded. */
struct backlog_place {
    struct backlog_place *prev, *next;
};

struct backlog_row {
    struct hub *hub;
    /* Sends the next portion; *bytes: what it costs. */
    enum backlog_written (*write)(struct backlog_place *place, size_t *bytes);
    struct backlog_place *first;
    size_t in_flight; /* credit that is taken (backlog_credit.h) */
    struct timer timer;
};

void backlog_row_init(struct backlog_row *row, struct hub *hub,
                      enum backlog_written (*write)(struct backlog_place *place, size_t *bytes));
/* Nobody is in it. */
void backlog_row_fini(struct backlog_row *row);
void backlog_row_add(struct backlog_row *row, struct backlog_place *place);
void backlog_row_remove(struct backlog_row *row, struct backlog_place *place);
/* Lets them write what the credit and the budget of the turn allow; goes on by itself. */
void backlog_row_run(struct backlog_row *row);
/* Asserts what must hold. */
void backlog_row_check(const struct backlog_row *row);

#endif
