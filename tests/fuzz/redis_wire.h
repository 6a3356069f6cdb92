/*
 * Redis as the bus sees it, without sockets: bytes chosen by the input go through hiredis' reader
 * into the bus's handlers. Requests of the bus are parsed here and answered, correctly or not.
 *
 * It replaces redis_link.c and the loop's timers, whose time is fuzz_now_ms, in a program that
 * refers to it.
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
/* When the next timer is due; UINT64_MAX: never. */
uint64_t wire_next_ms(void);

/* Connects all links, and answers all requests correctly until none is left. */
void wire_serve(void);
/* Each of these acts on one link, which the input chooses. */
void wire_connect_one(struct fuzz_input *input);
void wire_cut_one(struct fuzz_input *input);
/* Answers the oldest request: nearly correctly, or with something else. */
void wire_answer_one(struct fuzz_input *input);
/* Sends bytes that no request asked for. */
void wire_babble(struct fuzz_input *input);
/* A message on a channel that is, or may be, subscribed. */
void wire_push(struct fuzz_input *input);
/* When the last possible answer to a renewal came, one that names the node. */
uint64_t wire_renewed_ms(void);
/* All connections are gone. */
void wire_cut_all(void);

#endif
