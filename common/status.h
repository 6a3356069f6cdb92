/*
 * The one return type of fallible functions.
 *
 * STATUS_OK is 0, every failure is negative. A function that fails leaves its out-parameters
 * untouched. A status speaks of peers and environment; a programmer's error is an assertion.
 */
#ifndef VINHUB_COMMON_STATUS_H
#define VINHUB_COMMON_STATUS_H

enum status {
    STATUS_OK = 0,
    STATUS_INVALID = -1,   /* input is not of the promised form */
    STATUS_LIMIT = -2,     /* a configured bound is reached */
    STATUS_NO_MEMORY = -3, /* an allocation sized by a peer failed */
    STATUS_IO = -4,        /* a remote end or the system refused or failed */
    STATUS_AGAIN = -5,     /* not now; ask later */
    STATUS_NOT_FOUND = -6,
    STATUS_REFUSED = -7, /* the other side answered no */
    STATUS_TIMEOUT = -8,
};

#define MUST_USE               __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* A short lower-case word for a status, for logs. Never NULL. */
const char *status_name(enum status status);

#endif
