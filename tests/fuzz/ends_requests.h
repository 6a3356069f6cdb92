/*
 * Requests of a browser in vinhub.v1 (JSON): SUBSCRIBE, UNSUBSCRIBE, REFRESH, a SEND with ttl or
 * for any session. Some are right, some nearly right, some wrong.
 */
#ifndef VINHUB_TESTS_FUZZ_ENDS_REQUESTS_H
#define VINHUB_TESTS_FUZZ_ENDS_REQUESTS_H

#include "ends.h"

/* Writes one to text, terminated; at: where the browser stands in each session. Returns its length.
 * id is counted up. */
size_t ends_request(struct fuzz_input *input, const struct position at[END_SESSIONS], uint64_t *id,
                    char *text, size_t size);

#endif
