/*
 * The bounded queue of a client: what its socket has not taken yet.
 *
 * Holds references to publications and ready frames of its own (WELCOME, ACK, replies). At the
 * bound the service's slow_client policy decides. Of a protocol client it drops publications only,
 * and leaves a gap note in their place; one that lets its own frames fill the queue is closed.
 */
#ifndef VINHUB_CORE_QUEUE_H
#define VINHUB_CORE_QUEUE_H

#include "core/state.h"

void queue_publication(struct client *client, struct publication *publication);
/* Sends a frame that is this client's alone, in order with the rest; of a client that catches up,
 * before all publications that wait. Takes over the reference; NULL
 * closes the client (out of memory). */
void queue_wire(struct client *client, struct wire *wire);
/* What a catching client missed, oldest first, goes before the publications that wait. Without
 * policy: it is bounded by the history. */
void queue_put_first(struct client *client, const struct pubs *missed);
/* The first publication that waits; {0,0}: none. */
struct position queue_first(const struct client *client);
/* Forgets waiting publications up to the position: the client has them. */
void queue_skip(struct client *client, struct position upto);
/* Writes what fits; frees the queue when it is empty. */
void queue_drain(struct client *client);
/* Counts what is left as dropped and frees. */
void queue_discard(struct client *client);
/* Asks memory for what the next queue_publication will look at. */
void queue_fetch_ahead(const struct client *client);
size_t queue_bytes(const struct client *client);

#endif
