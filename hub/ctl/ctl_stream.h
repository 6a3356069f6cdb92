/*
 * The messages of a vehicle from the event stream of a node's traffic port (contract section 6): as
 * a page gets them, without an admin port and without Redis.
 */
#ifndef VINHUB_CTL_CTL_STREAM_H
#define VINHUB_CTL_CTL_STREAM_H

#include "ctl.h"

struct ctl_stream_setup {
    const char *url;   /* http:// or https://, as a WebSocket's but for the scheme */
    const char *token; /* NULL: none, or in the URL */
    const struct tls_client *tls;
};

/* Whether it names such a stream, and no session. */
bool ctl_stream_is_url(const char *text);
/*
 * Follows it until fn ends it: messages as source_message_fn says, without "time"; also {"status":
 * {...}} and {"gap": {...}}, the payloads of contract section 6. Where the stream ends it connects
 * again, and goes on where it stood. Not STATUS_OK: refused, or out of reach for ten tries; why (of
 * why_len bytes) says so in one line.
 */
MUST_USE enum status ctl_stream_tail(const struct ctl_stream_setup *setup, source_message_fn *fn,
                                     void *ctx, char *why, size_t why_len);

#endif
