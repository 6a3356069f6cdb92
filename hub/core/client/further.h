/*
 * The sessions that a client follows beside the one that it came with.
 *
 * Each is a subscription of its own, allocated here. They stand in the order of their sessions'
 * ids, so that one is found without a walk, and a history of the simulation replays exactly,
 * wherever the sessions stand in memory. Where the client goes they leave their sessions in
 * portions: one connection may have thousands, and many connections may go in one turn.
 */
#ifndef VINHUB_CORE_CLIENT_FURTHER_H
#define VINHUB_CORE_CLIENT_FURTHER_H

#include "core/client/client.h"

struct subscribing;
struct watcher;

struct further {
    struct subscription **items;
    uint32_t len, cap;
    uint32_t paused;   /* how many of their sessions stop reading from the client */
    bool asking;       /* its request is done in portions; the client is not read from meanwhile */
    uint32_t reading;  /* histories that are read for its subscriptions */
    size_t held_bytes; /* that its subscriptions hold while they catch up */
    struct subscribing *subscribing; /* its requests that are not answered yet; NULL: none */
    struct further *next;            /* of those that leave */
};

/* Gives the client one without subscriptions, where it has none. False: no memory. */
bool further_start(struct client *client);
/* The client's subscription of that session, its own included; NULL: it does not follow the
 * session. */
struct subscription *further_find(const struct client *client, const struct session *session);
/* The first behind that session id; NULL: there is none. session_id NULL: the first of all. */
struct subscription *further_after(const struct client *client, const char *session_id);
/* Makes a subscription of a session that it does not follow yet; it is in its place here, and else
 * nowhere. vin: of its URL, or NULL. NULL: no memory. */
struct subscription *further_add(struct client *client, struct session *session, const char *vin);
/* Its handle of presence.h. */
void further_set_watcher(struct subscription *subscription, struct watcher *watcher);
struct watcher *further_watcher(const struct subscription *subscription);
/* The vin of its URL, NULL: that has none. */
const char *further_vin(const struct subscription *subscription);
/* Takes it out, before it leaves its session; the caller frees it after that. */
void further_take_out(struct subscription *subscription);

/* The client is gone: its subscriptions leave their sessions in portions. leave: takes one out of
 * its session and writes nothing to the client. */
void further_leave_all(struct client *client, void (*leave)(struct subscription *subscription));
/* All that are still to leave, at once, and what is kept for it; for hub_free. */
void further_free_all(struct hub *hub, void (*leave)(struct subscription *subscription));
/* Asserts what must hold of the list; joining_check also looks at what is in it. */
void further_check(const struct client *client);

#endif
