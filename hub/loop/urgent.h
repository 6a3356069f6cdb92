/*
 * Sockets that are served first when a turn leaves work behind: upstreams and Redis.
 *
 * libevent serves what one epoll_wait brought in its order, and a turn ends after 10 ms: where
 * thousands of clients leave or come at once, a push that arrives meanwhile would wait until all of
 * them are served. So these few sockets are in an epoll set of their own as well. The next turn
 * looks there first, for a bounded time; the rest goes on where it stood, so that nobody starves.
 * As long as turns are short this costs nothing but the entry.
 */
#ifndef VINHUB_LOOP_URGENT_H
#define VINHUB_LOOP_URGENT_H

#include <stdbool.h>

/* Embedded in its owner, who removes it before the descriptor is closed or the entry freed. */
struct urgent_entry {
    void (*fn)(void *ctx); /* reads what is there; it is called again while there is more */
    void *ctx;
};

/* The set's descriptor; -1 where there is none left: all sockets are equal then. */
int urgent_open(void);
/* fd is readable: fn. */
void urgent_add(int set, int fd, struct urgent_entry *entry);
void urgent_remove(int set, int fd);
/* Calls what is ready, in turn, each time one entry: fn may remove any other. Ends when nothing is
 * ready any more, or after some milliseconds. */
void urgent_serve(int set);

#endif
