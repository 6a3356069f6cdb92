/*
 * How a client joins a session and leaves it: its place in the session's list, and what presence,
 * the outbox and the other connections with its id have to know of that.
 */
#ifndef VINHUB_CORE_CLIENT_JOINING_H
#define VINHUB_CORE_CLIENT_JOINING_H

#include "core/client/client.h"

/* The session of a target; what was placed in this turn is of the time before the client and is
 * delivered now. NULL: no memory. */
struct session *joining_session(struct hub *hub, const struct target *target);
/* Lists a subscription whose session is set; subscription_open is for the caller. */
void joining_add(struct subscription *subscription, const struct target *target);
void joining_leave(struct subscription *subscription);
/* Leaves without a word to the session, or of it to others. */
void joining_forget(struct subscription *subscription);

/* A further session for a client that follows positions, which it does not follow yet. NULL: no
 * memory. The memory is the core's, until it leaves or the client is gone. */
struct subscription *joining_subscribe(struct client *client, const struct target *target);
/* Leaves a further session. */
void joining_unsubscribe(struct subscription *subscription);
/* The hub ends it for a reason: the client's own subscription closes the client; for a further one
 * the client gets CLOSED. Frees a further one. */
void joining_end(struct subscription *subscription, unsigned code, const char *reason);
/* Asserts what must hold of all its subscriptions. */
void joining_check(const struct client *client);

#endif
