/*
 * A TCP proxy in front of a server, in a process of its own. It can be made to pass nothing back to
 * subscribers while their connections stay open, to pass answers on slowly, to replace an answer,
 * or to keep a connection to the server open when that to the client has ended.
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
/* Passes nothing back to the subscribers accepted so far; later ones are served. */
void proxy_deafen(struct proxy *proxy);
/* Passes on this many bytes of answers every 50 ms; 0: all at once. */
void proxy_crawl(struct proxy *proxy, unsigned bytes);
/* From now on the server does not see that a client ends its connection. */
void proxy_hide_ends(struct proxy *proxy);
/* Replaces the next answer to a subscriber (or to another connection) by this text, or with NULL by
 * nothing. */
void proxy_swap(struct proxy *proxy, bool subscriber, const char *text);
/* Whether that has happened. */
bool proxy_swapped(const struct proxy *proxy);
/* How many connections have subscribed to something so far. */
unsigned proxy_subscribers(const struct proxy *proxy);

#endif
