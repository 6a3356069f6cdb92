/*
 * The rate of a subscription (contract section 6): at most so many MESSAGEs a second, each the
 * newest there is.
 *
 * What waits is the session's newest publication, kept once for all its subscriptions with a rate:
 * a push costs nothing for those that wait for their time already. What a newer one replaces is no
 * loss and leaves no gap note. Gap notes come in their place among what is given. What is due goes
 * into the client's queue; what a client that does not read has not taken comes back from there, so
 * that it gets the newest when it reads on, whatever the service's policy.
 *
 * The times at which something is due are multiples of a few milliseconds, and of all subscriptions
 * of a node one timer looks after the earliest: what is due for a client in one of them leaves in
 * one write, and a subscription for which nothing waits costs nothing.
 *
 *   OFF -> IDLE -> DUE -> IDLE             something waits for its time
 *             `------|---> OVERDUE -> IDLE  the client does not read
 */
#ifndef VINHUB_CORE_CLIENT_RATE_H
#define VINHUB_CORE_CLIENT_RATE_H

#include <stdint.h>

#include "common/publication.h"

struct client;
struct hub;
struct pubs;
struct rate;
struct session;
struct subscription;

/* milli: MESSAGEs a second, in thousandths, RATE_MIN_MILLI to RATE_MAX_MILLI. It is OFF: what comes
 * is not for it. */
void rate_open(struct subscription *subscription, uint32_t milli);
/* The subscription goes live: it stands in the session's list behind those without a rate. It has
 * missed this, in order, in two parts; what comes next is after that position. */
void rate_go_live(struct subscription *subscription, struct position after,
                  const struct pubs *missed, const struct pubs *held);
/* Forgets what waits; the subscription stands among those without a rate. No effect without one. */
void rate_close(struct subscription *subscription);

/* A batch of the session, of which session->rates.first and those behind it have been given nothing
 * yet. */
void rate_deliver(struct session *session, const struct pubs *batch);
/* The same in place of a batch that was lost: notes. */
void rate_announce_loss(struct session *session, const struct pubs *notes);

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
