/*
 * Presence: who watches a session, on all nodes (contract section 6). For sessions whose service
 * wants it; others cost nothing.
 *
 * Each node counts the clients of each user by itself. A member tells the owner its counts (ROSTER)
 * when they change, at most once a second; the owner adds them up, and tells the members the sum
 * (PRESENCE), at most once a second too; each node tells its clients. Both are told again each
 * second until the other side says that it has them, so that a lost message is made up for and
 * nothing is said while nothing changes. What a member told counts while it is a member, in that
 * life: a dead node's clients go with it.
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

#define PRESENCE_SHOWN 100u /* users that a client is told */
#define PRESENCE_TOLD \
    1000u /* users of one node that the owner is told; of more it knows the number */

/* A client follows the session. user: of its URL, or NULL. Returns what it is counted under, for
 * presence_left; NULL where nobody is told. */
struct watcher *presence_came(struct session *session, const char *user);
/* The same of one that is counted. */
struct watcher *presence_find(const struct session *session, const char *user);
/* It does no longer; watcher may be NULL. */
void presence_left(struct session *session, struct watcher *watcher);
/* It was welcomed: it is told who is there. */
void presence_welcomed(struct session *session);
/* The owner, the epoch or its members have changed. */
void presence_moved(struct session *session);

void presence_on_roster(struct session *session, const struct envelope *envelope);
void presence_on_presence(struct session *session, const struct envelope *envelope);
/* How many clients of that user its clients were told last; for tests. */
uint64_t presence_shown(const struct session *session, const char *user);
void presence_fini(struct session *session);
void presence_free_all(struct hub *hub);

#endif
