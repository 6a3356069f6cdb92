/*
 * Replies of a Redis server as bytes: well-formed ones, and any that the input chooses.
 */
#ifndef VINHUB_TESTS_FUZZ_RESP_H
#define VINHUB_TESTS_FUZZ_RESP_H

#include "fuzz.h"

/* A reply that does not fit is cut: a server may stop anywhere. */
struct resp {
    char bytes[16384];
    size_t len;
};

void resp_add(struct resp *out, const void *bytes, size_t len);
void resp_line(struct resp *out, char type, uint64_t number);
void resp_bulk(struct resp *out, struct slice text);
void resp_text(struct resp *out, const char *text);
void resp_number_text(struct resp *out, uint64_t number);
/* Any value: scalars of all types of RESP 2 and 3, arrays in arrays. */
void resp_any(struct resp *out, struct fuzz_input *input, unsigned depth);
/* An error that a server knows, or any. */
void resp_any_error(struct resp *out, struct fuzz_input *input);
/* Changes some bytes. */
void resp_spoil(struct resp *out, struct fuzz_input *input);

#endif
