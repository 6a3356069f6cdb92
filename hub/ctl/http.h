/*
 * The HTTP/1.1 that vinhubctl needs: one request, one connection, blocking, with deadlines.
 */
#ifndef VINHUB_CTL_HTTP_H
#define VINHUB_CTL_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

struct tls_client;

struct http_url {
    bool tls;
    char host[256];
    char port[8];
    char path[256]; /* in front of every path asked for: "" or "/prefix" */
};
MUST_USE enum status http_url_parse(const char *url, struct http_url *out);

struct http_request {
    const struct http_url *url;
    const struct tls_client *tls; /* of an https URL: whom it trusts */
    const char *method, *path;
    const char *accept;   /* NULL: JSON */
    const char *after_id; /* of events, as Last-Event-ID; NULL: none */
    const char *token;    /* NULL: none */
    const char *body;     /* JSON, NULL: none */
    size_t body_len;
};

/* A piece of the body as it comes; false ends the reading. */
typedef bool http_body_fn(void *ctx, const char *data, size_t len);

/*
 * Sends the request and reads the answer. on_status is told the status before any of the body; its
 * answer false ends. quiet_s: the longest silence. STATUS_IO, STATUS_TIMEOUT or STATUS_INVALID (not
 * HTTP), why then says more until the next call; ended by a callback is STATUS_OK.
 */
MUST_USE enum status http_ask(const struct http_request *request, int quiet_s, int *out_http_status,
                              http_body_fn *fn, void *ctx, const char **why);

#endif
