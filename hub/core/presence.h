/*
 * Presence: who watches a session, on all nodes (contract section 6). For sessions whose service
 * wants it; others cost nothing.
 *
 * Each node counts the clients of each user by itself. A member sends the owner its counts (ROSTER)
 * when they change, at most once a second. The owner sends the members the sum (PRESENCE), at most
 * once a second too, and each node sends it to its clients. Both are repeated each second until the
 * other side confirms them, so that a lost message does no harm and nothing is sent while nothing
 * changes. A roster counts while its node is a member, in that life: a dead node's clients go with
 * it.
 */
#ifndef VINHUB_CORE_PRESENCE_H
#define VINHUB_CORE_PRESENCE_H

#include <stdbool.h>
#include <stdint.h>

struct client;
struct envelope;
struct hub;
struct session;
struct watcher;

#define PRESENCE_SHOWN 100u  /* users that PRESENCE names to a client */
#define PRESENCE_NAMED 1000u /* users that a ROSTER names; further ones are only counted */

/* Counts a client that follows the session. user: of its URL, or NULL. Returns a handle for
 * presence_left; NULL if the service has no presence. */
struct watcher *presence_came(struct session *session, const char *user);
/* Counts one more client of a user that is counted already. */
struct watcher *presence_find(const struct session *session, const char *user);
/* The client does not follow the session any more; watcher may be NULL. */
void presence_left(struct session *session, struct watcher *watcher);
/* The client has its WELCOME: it gets a PRESENCE. */
void presence_welcomed(struct session *session);
/* The owner, the epoch or its members have changed. */
void presence_moved(struct session *session);

void presence_on_roster(struct session *session, const struct envelope *envelope);
void presence_on_presence(struct session *session, const struct envelope *envelope);
/* How many clients of that user were in the last PRESENCE to clients; for tests. */
uint64_t presence_shown(const struct session *session, const char *user);
void presence_fini(struct session *session);
void presence_free_all(struct hub *hub);

#endif
