/*
 * A TCP proxy in front of a server, in a process of its own, that can go deaf: connections stay
 * open and nothing comes back on those over which channels were subscribed. Or it crawls, or it
 * answers something itself.
 */
#ifndef VINHUB_TESTS_CONTRACT_PROXY_H
#define VINHUB_TESTS_CONTRACT_PROXY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proxy_shared;

struct proxy {
    uint16_t port;
    pid_t pid;
    struct proxy_shared *shared;
};

void proxy_start(struct proxy *proxy, uint16_t to_port);
void proxy_stop(struct proxy *proxy);
/* Subscribers accepted so far go deaf; later ones hear. */
void proxy_deafen(struct proxy *proxy);
/* Of answers this many bytes are passed on at a time, with 50 ms in between; 0: all at once. */
void proxy_crawl(struct proxy *proxy, unsigned bytes);
/* What comes next from the server to a subscriber, or to one that is none, is this text instead, or
 * with a NULL nothing at all. */
void proxy_swap(struct proxy *proxy, bool subscriber, const char *text);
/* Whether that has happened. */
bool proxy_swapped(const struct proxy *proxy);
/* How many connections have subscribed to something so far. */
unsigned proxy_subscribers(const struct proxy *proxy);

#endif
