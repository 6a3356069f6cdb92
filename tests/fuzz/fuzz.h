/*
 * What the targets share: taking values out of the input, exact copies, and a configuration. Only
 * errors are logged.
 *
 * Taking never fails: past the end there are zeros, so every input is valid. Copies are
 * allocations of their exact size, so that a read past the end shows.
 */
#ifndef VINHUB_TESTS_FUZZ_H
#define VINHUB_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct fuzz_input {
    const uint8_t *at;
    size_t len;
};

uint8_t fuzz_byte(struct fuzz_input *input);
/* 0 <= value < bound; bound is at most 256. */
unsigned fuzz_below(struct fuzz_input *input, unsigned bound);
/* Small numbers, and those at the limits of the types. */
uint64_t fuzz_number(struct fuzz_input *input);
/* A length byte (two from 240 on) and that many bytes, or what is left. Points into the input. */
struct slice fuzz_slice(struct fuzz_input *input);
/* All that is left. */
struct slice fuzz_rest(struct fuzz_input *input);

/* The same bytes in an allocation of that size; the caller frees. */
void *fuzz_copy(struct slice bytes);
/* The same bytes up to the first NUL as a terminated text; the caller frees. */
char *fuzz_text(struct slice bytes);

/* A configuration from YAML. The caller unrefs. Aborts where it is wrong. */
struct conf *fuzz_conf(const char *yaml);
/* A file in memory with that content: a name to open while the process lives. */
const char *fuzz_file(const void *content, size_t len);

/* Prints a step of the target, if FUZZ_LOG is set. */
PRINTF_LIKE(1, 2)
void fuzz_say(const char *format, ...);

/* The time of a target that refers to it: then the program's clocks show this (virtual_clock.c). */
extern uint64_t fuzz_now_ms;
#define FUZZ_UNIX_MS UINT64_C(1700000000000)

#endif
