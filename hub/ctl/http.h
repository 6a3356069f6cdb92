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
    char path[256]; /* put in front of the path of each request: "" or "/prefix" */
};
MUST_USE enum status http_url_parse(const char *url, struct http_url *out);

struct http_request {
    const struct http_url *url;
    const struct tls_client *tls; /* for an https URL: trusted authorities, our certificate */
    const char *method, *path;
    const char *accept;   /* NULL: JSON */
    const char *after_id; /* sent as Last-Event-ID; NULL: none */
    const char *token;    /* NULL: none */
    const char *body;     /* JSON; NULL: none */
    size_t body_len;
};

/* Called with each piece of the body as it comes; returns false to end. */
typedef bool http_body_fn(void *ctx, const char *data, size_t len);

/*
 * Sends the request and reads the answer. *out_http_status is set before fn is called. quiet_s: the
 * longest time without a byte. Returns STATUS_OK at the end of the body, or when fn has ended it.
 * Otherwise STATUS_IO, STATUS_TIMEOUT or STATUS_INVALID (not HTTP); *why has the cause, valid until
 * the next call.
 */
MUST_USE enum status http_ask(const struct http_request *request, int quiet_s, int *out_http_status,
                              http_body_fn *fn, void *ctx, const char **why);

#endif
