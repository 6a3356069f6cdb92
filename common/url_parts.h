/*
 * The parts of a ws:// or wss:// URL.
 */
#ifndef VINHUB_URL_PARTS_H
#define VINHUB_URL_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

/* Splits a ws:// or wss:// URL. host is without brackets; path includes the query and starts with
 * '/'. STATUS_INVALID where the URL is not of that form (credentials and fragments are not) or the
 * host does not fit. */
struct url_parts {
    bool tls;
    char host[256];
    uint16_t port;
    const char *path; /* within the URL, or "/" */
};
MUST_USE enum status url_split(const char *url, struct url_parts *out);

#endif
