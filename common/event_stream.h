/*
 * Server-sent events (the WHATWG HTML standard, section 9.2): what a client of an event stream is
 * told, contract section 6.
 *
 * Pure encoding. Each encoder makes one whole event in one allocation, which the caller owns; NULL
 * means out of memory. Strings given to an encoder are valid UTF-8.
 */
#ifndef VINHUB_COMMON_EVENT_STREAM_H
#define VINHUB_COMMON_EVENT_STREAM_H

#include <stdint.h>

#include "common/publication.h"

/* A lone id: where the client stands. It dispatches no event, but is what the client names when it
 * connects again. */
struct wire *event_position(struct position at);
/* A publication: `message` with a text in data lines, where each LF, CRLF or CR of it begins a new
 * one; `binary` with base64. Its id is its position. */
struct wire *event_publication(const struct publication *publication);
/* The payloads are those of STATUS and GAP of vinhub.v1; reason may be NULL. These events have no
 * id, so the client's position stays. */
struct wire *event_status(const char *upstream, const char *reason);
struct wire *event_gap(uint64_t epoch, uint64_t from, uint64_t to);

#endif
