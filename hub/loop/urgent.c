#include "loop/urgent.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "common/clock.h"

/* Half of a turn (loop.c). The other half is for the work that the last turn left. */
#define SERVE_US 5000

int urgent_open(void)
{
    return epoll_create1(EPOLL_CLOEXEC);
}

void urgent_add(int set, int fd, struct urgent_entry *entry)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = entry};
    if (set >= 0)
        epoll_ctl(set, EPOLL_CTL_ADD, fd,
                  &event); /* if it fails, the socket is served with all others */
}

void urgent_remove(int set, int fd)
{
    if (set >= 0)
        epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL);
}

void urgent_serve(int set)
{
    uint64_t until_us = clock_boot_us() + SERVE_US;
    struct epoll_event event;
    /* One event at a time: the kernel moves a served socket to the end of its list, and no entry is
     * held here that an fn could free. */
    while (clock_boot_us() < until_us && epoll_wait(set, &event, 1, 0) == 1) {
        struct urgent_entry *entry = event.data.ptr;
        entry->fn(entry->ctx);
    }
}
