/*
 * Commands on their way to one Redis connection: RESP requests, built one by one, gathered during a
 * turn and handed to the socket at its end.
 *
 * The chunks keep a long backlog cheap: a partly written one is never moved together with all that
 * stands behind it.
 */
#ifndef VINHUB_BUS_REDIS_OUTPUT_H
#define VINHUB_BUS_REDIS_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "common/envelope.h"

/* One or more requests in one piece. Starts zeroed. */
struct redis_request {
    char *bytes;
    size_t len, cap;
};

/* Begins a request of argc arguments, each of which must follow. */
void redis_request_begin(struct redis_request *request, size_t argc);
void redis_request_add(struct redis_request *request, struct slice argument);
void redis_request_text(struct redis_request *request, const char *argument);
void redis_request_number(struct redis_request *request, uint64_t argument);
/* Arguments that were built in another request. */
void redis_request_append(struct redis_request *request, const struct redis_request *arguments);
void redis_request_fini(struct redis_request *request);

struct redis_chunk {
    struct redis_chunk *next;
    size_t len, cap;
    char bytes[];
};

struct redis_output {
    struct redis_chunk *first, *last;
    size_t bytes; /* in all chunks */
};

void redis_output_append(struct redis_output *output, const struct redis_request *request);
/* Takes the first chunk out; the caller frees it. NULL where there is none. */
struct redis_chunk *redis_output_take(struct redis_output *output);
void redis_output_clear(struct redis_output *output);

/* Zeroed memory that is never NULL: small objects of a fixed size, whose lack ends the process. */
void *redis_claim_memory(size_t count, size_t size);
char *redis_copy_text(const char *text); /* NULL reads as "" */

#endif
