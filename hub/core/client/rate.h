/*
 * The rate of a subscription (contract section 6): at most so many MESSAGEs a second, each the
 * newest there is.
 *
 * Owns what waits for its time: the newest publication, which replaces the one before it, and the
 * gap notes around it. What is replaced is no loss and leaves no note. What is due is given to the
 * client's queue; what a client that does not read has not taken comes back from there, so that it
 * gets the newest when it reads on, whatever the service's policy.
 *
 * The times at which something is due are multiples of a few milliseconds, and of all subscriptions
 * of a node one timer looks after the earliest: what is due for a client in one of them leaves in
 * one write, and a subscription for which nothing waits costs nothing.
 *
 *   IDLE -> DUE -> IDLE            something waits for its time
 *     `------|---> OVERDUE -> IDLE the client does not read
 */
#ifndef VINHUB_CORE_CLIENT_RATE_H
#define VINHUB_CORE_CLIENT_RATE_H

#include <stdint.h>

struct client;
struct hub;
struct publication;
struct rate;
struct subscription;

/* milli: MESSAGEs a second, in thousandths, RATE_MIN_MILLI to RATE_MAX_MILLI. */
void rate_open(struct subscription *subscription, uint32_t milli);
/* Forgets what waits. No effect on a subscription without a rate. */
void rate_close(struct subscription *subscription);
/* The next of the stream, a publication or a gap note. It is given on with rate_settle at the
 * earliest; a note before which nothing waits at once. */
void rate_add(struct subscription *subscription, struct publication *publication);
/* All that came together has been added: gives on what may go now, else when it may. */
void rate_settle(struct subscription *subscription);

/* The socket of a client takes no more: what its queue has of subscriptions with a rate comes back.
 */
void rate_take_back(struct client *client);
/* It takes something again. */
void rate_read_on(struct client *client);

/* For hub_free: every rate has been closed. */
void rates_free(struct hub *hub);
/* Asserts what must hold. */
void rate_check(const struct subscription *subscription);

#endif
