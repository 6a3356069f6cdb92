/*
 * The one reader of URL queries: items, their names and values, and how backends may read them.
 *
 * A query is read as forms are written (WHATWG URL, "application/x-www-form-urlencoded"): items
 * between '&', '+' is a space, %XX is a byte. "a" and "a=" are one item. Empty items are passed
 * over. Spans point into the query; nothing is allocated but by query_decode.
 */
#ifndef VINHUB_COMMON_URL_QUERY_H
#define VINHUB_COMMON_URL_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Bytes of the longest name that the hub looks for: that of a service. */
#define QUERY_NAME_MAX 64
/* Hexadecimal digits of query_digest. */
#define QUERY_DIGEST_LEN 32

struct span {
    const char *at;
    size_t len;
};

struct query_item {
    struct span raw;               /* as it came */
    struct span value;             /* as it came; empty for "a" as for "a=" */
    char name[QUERY_NAME_MAX + 1]; /* decoded; "" where it is longer than that, or unreadable */
};

/* Takes the next item out of *rest (a query without its '?'), which moves on. False: no more. */
bool query_next(struct span *rest, struct query_item *out);

/* Decodes a value into a string of its own, which the caller frees. STATUS_INVALID where it has a
 * bad escape or holds a NUL byte; *out is untouched then. */
MUST_USE enum status query_decode(struct span value, char **out);

/* A value of digits, at most UINT32_MAX. STATUS_INVALID: it is none. */
MUST_USE enum status query_number(struct span value, uint32_t *out);
/* "2" or "0.5", in thousandths, below 1,000,000; further digits are cut off. STATUS_INVALID: it is
 * no such number. */
MUST_USE enum status query_thousandths(struct span value, uint32_t *out);

enum query_vin {
    QUERY_VIN_NONE,  /* no backend reads a vin here */
    QUERY_VIN,       /* the item is the parameter vin */
    QUERY_VIN_UNSURE /* some backends read a vin here: " vin", "vin[]", "k=v;vin=X" */
};
/* Whether the item names the vin. What only some backends take for one must be refused, since hub
 * and backend would read two vehicles out of one URL. */
enum query_vin query_vin(const struct query_item *item);

/* Whether the item's value is a credential, by its name ("access_token", "ticket") or because it
 * looks like a JSON Web Token. Such a value must not stand in session ids, logs or Redis keys. */
bool query_is_secret(const struct query_item *item);
/* Stands for a credential where only equality matters: half of its SHA-256, in hexadecimal. */
void query_digest(struct span value, char out[QUERY_DIGEST_LEN + 1]);

#endif
