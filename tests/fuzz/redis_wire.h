/*
 * Redis as the bus sees it, without sockets: bytes that the input wants go through hiredis' reader
 * into the bus's handlers, and what the bus asks for is taken apart here and answered, truthfully
 * or not.
 *
 * It stands in for redis_link.c and for the loop's timers, whose time is fuzz_now_ms: a program
 * that refers to it has these and not the real ones.
 */
#ifndef VINHUB_TESTS_FUZZ_REDIS_WIRE_H
#define VINHUB_TESTS_FUZZ_REDIS_WIRE_H

#include "bus/redis_link.h"
#include "fuzz.h"

void wire_start(const char *node);
/* Frees what is left of it; the bus is freed. */
void wire_stop(void);

/* Runs the timers that are due. */
void wire_time(void);
/* When the next one is; UINT64_MAX: never. */
uint64_t wire_next_ms(void);

/* Connects all that want to, and answers all that was asked for, truthfully, until nothing is. */
void wire_serve(void);
/* Each does one thing to the link that the input picks. */
void wire_connect_one(struct fuzz_input *input);
void wire_cut_one(struct fuzz_input *input);
/* Answers the oldest request: nearly truthfully, or with something else. */
void wire_answer_one(struct fuzz_input *input);
/* Bytes that nobody asked for. */
void wire_babble(struct fuzz_input *input);
/* A message on a channel that is, or may be, subscribed. */
void wire_push(struct fuzz_input *input);
/* When an answer came last that can be one to a renewal: it names the node. */
uint64_t wire_renewed_ms(void);
/* All connections are gone. */
void wire_cut_all(void);

#endif
