/*
 * Why Redis can't be used, in one line with the other side's own words: for /readyz, metrics and
 * log.
 *
 * Each part of the bus that may fail has a fault, which it sets and clears; the one that was set
 * first is the cause. The struct belongs to the bus and outlives its parts.
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

/* Starts zeroed. text is copied. trouble may be NULL: nothing is kept. */
void redis_fault_set(struct redis_trouble *trouble, struct redis_fault *fault, const char *text);
void redis_fault_clear(struct redis_trouble *trouble, struct redis_fault *fault);
/* NULL: there is none. */
const char *redis_trouble_why(const struct redis_trouble *trouble);

/* Whether an error says that the user has not the right to a command, key or channel; of a script
 * as well, which Redis words otherwise. */
bool redis_is_no_right(const char *error);

/* An error of the server as it may be shown: one line, without the password and without arguments
 * that it repeats, without what Redis adds about the script. out has REDIS_WHY_BYTES. */
void redis_quote(const struct redis_url *url, const char *error, char *out);

#endif
