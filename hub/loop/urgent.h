/*
 * Sockets that are served first after a turn that left work behind: upstreams and Redis.
 *
 * libevent serves the events of one epoll_wait in their order, and a turn ends after 10 ms. If
 * thousands of clients come or leave at once, a push that arrives meanwhile would wait until all of
 * them are served. So these few sockets are also in an epoll set of their own. The next turn serves
 * that set first, for a bounded time, and then goes on with the other events, so that no client
 * starves. While turns are short the set is not read.
 */
#ifndef VINHUB_LOOP_URGENT_H
#define VINHUB_LOOP_URGENT_H

#include <stdbool.h>

/* Embedded in its owner, who removes it from the set before the descriptor is closed or the entry
 * is freed. */
struct urgent_entry {
    void (*fn)(void *ctx); /* reads input; it is called again while there is more */
    void *ctx;
};

/* Returns the descriptor of a new set. -1: no descriptor is left; then no socket is urgent. */
int urgent_open(void);
/* Adds fd: urgent_serve calls the entry's fn if fd is readable. */
void urgent_add(int set, int fd, struct urgent_entry *entry);
void urgent_remove(int set, int fd);
/* Calls the fn of each entry that is ready, one after the other; an fn may remove any entry. Ends
 * when none is ready any more, or after 5 ms. */
void urgent_serve(int set);

#endif
