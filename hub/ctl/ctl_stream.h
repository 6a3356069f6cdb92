/*
 * The messages of a session from the event stream of a node's traffic port (contract section 6), as
 * a page gets them. It needs neither an admin port nor Redis.
 */
#ifndef VINHUB_CTL_CTL_STREAM_H
#define VINHUB_CTL_CTL_STREAM_H

#include "ctl.h"

struct ctl_stream_setup {
    const char *url;   /* the URL of a WebSocket, but with http:// or https:// */
    const char *token; /* NULL: none, or it is in the URL */
    const struct tls_client *tls;
};

/* Whether the text is a URL, and not a session id. */
bool ctl_stream_is_url(const char *text);
/*
 * Follows the stream until fn returns false. json is that of source_message_fn, without "time";
 * also
 * {"status": {...}} and {"gap": {...}}, the payloads of contract section 6. If the stream ends, it
 * connects again and resumes after the last message. Not STATUS_OK: the stream was refused, the
 * first connection failed, or ten attempts in a row have failed; why (of why_len bytes) has one
 * line.
 */
MUST_USE enum status ctl_stream_tail(const struct ctl_stream_setup *setup, source_message_fn *fn,
                                     void *ctx, char *why, size_t why_len);

#endif
