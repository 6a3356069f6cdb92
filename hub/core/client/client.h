/*
 * A client: one connection of a browser as the core sees it. Embedded in the front's object.
 *
 * It owns the bounded queue of output, the rate limit of its messages, and its end. Its
 * subscriptions say which sessions it follows. The subscription of its own URL is embedded, so that
 * a client of one session needs no second allocation; further.h has the others. A client may have
 * no session of its own: then its own subscription is in the hub's lobby. A client knows nothing of
 * sockets. It writes through client_ops, once a turn: output waits in its queue until hub_flush.
 *
 *   state      entered by                          left by
 *   GONE       before door_open, after door_gone   door_open: OPEN
 *   OPEN       door_open                           client_close: CLOSING; door_gone: GONE
 *   CLOSING    client_close: the close frame is    door_gone, about 1 s later at most: GONE
 *              behind the queued output
 *
 * The front frees its object after door_gone. The core keeps no pointer to a client that is GONE.
 */
#ifndef VINHUB_CORE_CLIENT_CLIENT_H
#define VINHUB_CORE_CLIENT_CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"
#include "common/url.h"
#include "core/client/directory.h"
#include "core/client/queue.h"
#include "core/client/subscription.h"
#include "core/forms.h"
#include "core/ports.h"

struct client_id;
struct hub;

enum client_state {
    CLIENT_GONE,    /* before door_open and after door_gone */
    CLIENT_OPEN,    /* until it is closed, or its socket is gone */
    CLIENT_CLOSING, /* a close was asked for; until its socket is gone (about 1 s) */
    CLIENT_STATES
};

/* What a delivery looks at comes first: of many clients each line of memory that is fetched
 * counts. */
struct client {
    struct subscription own; /* of the session that it came with, maybe none; first */
    struct queue *queue;     /* NULL: nothing waits */
    uint64_t sent;           /* messages, for the closing log line */
    uint32_t due_at; /* its index, from 1 on, in the list of clients that hub_flush writes to; 0:
                        not listed */
    uint8_t form;    /* id of the form of its messages; core/forms.h */
    uint8_t state;   /* enum client_state: client_set_state */
    bool follows;    /* its form has positions and acknowledgements */
    bool blocked;    /* write said STATUS_AGAIN; door_writable is awaited */
    uint32_t rate_at_ms;        /* low 32 bits of the time of the last refill */
    uint32_t rate_tokens_milli; /* token bucket, thousandths of a message */
    struct further *further;    /* subscriptions beside the own; NULL: it has none */
    struct rate *overdue; /* publications of subscriptions with a rate that wait until the client
                             reads again; rate.c */
    struct hub *hub;
    struct client_id *id;          /* the id in its WELCOME; NULL if its form has no positions */
    struct in6_addr address;       /* IPv4 mapped */
    struct directory_entry *entry; /* its user and vin, and its place in the directory */
    uint64_t received;             /* messages, for the closing log line */
    uint64_t opened_ms;
};

/* The one setter; asserts that the step is legal. */
void client_set_state(struct client *client, enum client_state state);
/* Sets the time of its bucket, which begins full. */
void client_rate_start(struct client *client);
/* Spends one message of its rate. Returns false where there is none left: it is being closed with
 * 4002. */
bool client_spend(struct client *client);

/* Sends a frame that is this client's alone, at the end of the turn and in order with the rest.
 * Takes over the reference; NULL closes the client (out of memory). */
void client_send(struct client *client, struct wire *wire);
/* Sends a publication of one of its subscriptions, in the same way. If the queue is full, the
 * slow_client policy of the service applies. */
void client_enqueue(struct subscription *subscription, struct publication *publication);
/* Sends publications that it has missed. No policy applies: their number is bounded by the
 * history. */
void client_enqueue_missed(struct subscription *subscription, const struct pubs *missed);
/* Lists it for hub_flush, unless its socket is blocked. */
void client_mark_due(struct client *client);
/* Writes as much of the queue as the socket takes now. */
void client_drain(struct client *client);
/* The socket is writable again. */
void client_unblock(struct client *client);

/* A session stops reading from it, or resumes: its outbox is full, or has room again. */
void client_pause(struct subscription *subscription, bool paused);
/* The same for its own SUBSCRIBE and UNSUBSCRIBE requests, which are done in portions. */
void client_pause_asking(struct client *client, bool paused);
/* Closes it with a code of contract section 7; counts and logs that. The queued output goes
 * first, as far as the socket takes it. No effect if it is closing already. */
void client_close(struct client *client, unsigned code, const char *reason);
/* A line for the audit log, where it is on: a message of this client goes upstream, or into the
 * queue for it. */
void client_audit(const struct subscription *subscription, size_t len);
/* Frees the queue, counting what was left, and its names. It is GONE. */
void client_fini(struct client *client);

/* The form of what concerns a subscription of the client: its session is named where it is not the
 * client's own.
 */
static inline unsigned client_form(const struct client *client,
                                   const struct subscription *subscription)
{
    return client->form | (subscription == &client->own ? 0 : FORM_NAMED);
}
static inline unsigned subscription_form(const struct subscription *subscription)
{
    return client_form(subscription->client, subscription);
}
/* Of its URL; NULL: that has none. */
static inline const char *client_user(const struct client *client)
{
    return directory_user(client->entry);
}
static inline bool client_takes(const struct client *client)
{
    return client->state == CLIENT_OPEN;
}
/* The id of the session that it came with, for logs; "" where it came without. */
const char *client_session(const struct client *client);
/* How many sessions it follows beside its own. */
size_t client_subscriptions(const struct client *client);
size_t client_queue_bytes(const struct client *client);
/* Half of its queue is free: then it gets answers that could also come later. */
bool client_has_room(const struct client *client);
/* Asserts what must hold of it and its queue. */
void client_check(const struct client *client);

#endif
