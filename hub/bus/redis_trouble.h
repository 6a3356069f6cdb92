/*
 * Why Redis can't be used: one line, with the server's own error text, for /readyz, metrics and
 * log.
 *
 * Each part of the bus that may fail has a fault, which it sets and clears. The fault that was set
 * first is the cause. The bus owns struct redis_trouble, which lives longer than the parts.
 */
#ifndef VINHUB_BUS_REDIS_TROUBLE_H
#define VINHUB_BUS_REDIS_TROUBLE_H

#include <stdbool.h>

#include "common/redis_url.h"

#define REDIS_WHY_BYTES 320

struct redis_fault {
    struct redis_fault *next; /* in the order in which they were set */
    bool set;
    char text[REDIS_WHY_BYTES];
};

struct redis_trouble {
    struct redis_fault *first;
    struct redis_fault renewal; /* the renewal of the lease was refused */
    struct redis_fault probe;   /* the message to the own inbox was refused */
};

/* A fault starts zeroed. text is copied. trouble may be NULL: then the fault is not listed. */
void redis_fault_set(struct redis_trouble *trouble, struct redis_fault *fault, const char *text);
void redis_fault_clear(struct redis_trouble *trouble, struct redis_fault *fault);
/* The text of the cause; NULL: there is none. */
const char *redis_trouble_why(const struct redis_trouble *trouble);

/* Whether an error says that the user has no right to a command, key or channel. In a script Redis
 * uses other words for it; they are known here, too. */
bool redis_is_no_right(const char *error);

/* Makes an error of the server fit to be shown: one line, without the password, without the command
 * arguments that the server repeats, and without Redis' additions about the script. out has
 * REDIS_WHY_BYTES. */
void redis_quote(const struct redis_url *url, const char *error, char *out);

#endif
