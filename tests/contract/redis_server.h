/*
 * A real redis-server of a test's own: no persistence, its own folder, a free port.
 */
#ifndef VINHUB_TESTS_CONTRACT_REDIS_SERVER_H
#define VINHUB_TESTS_CONTRACT_REDIS_SERVER_H

#include <stdint.h>
#include <sys/types.h>

struct redis_server {
    uint16_t port;
    pid_t pid; /* 0: not running */
    char folder[64];
    const char *extra[16]; /* further arguments, up to a NULL */
    const char *sentinel;  /* the configuration of a Sentinel, which runs instead; or NULL */
};

/* A free port on loopback, another one each time, from a block of this process alone. */
uint16_t redis_server_free_port(void);
/* Starts it, empty, and returns when it answers. Port 0: a free one is chosen. Fails the test if
 * the server does not come up. */
void redis_server_start(struct redis_server *server);
/* SIGKILL. */
void redis_server_kill(struct redis_server *server);
/* Kills it and removes its folder. */
void redis_server_discard(struct redis_server *server);
/* One command, words by spaces, on a connection of its own; the answer as text (an array as lines),
 * valid until the next call. */
const char *redis_server_ask(const struct redis_server *server, const char *command);
/* Waits until uptime_in_seconds is at least that. */
void redis_server_await_age(const struct redis_server *server, unsigned seconds);

#endif
