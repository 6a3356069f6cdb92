/*
 * A whole node in one process, with browsers that speak vinhub.v1 in JSON and record each message
 * as a line. Its bus is in memory, its backends are always there.
 */
#ifndef VINHUB_TESTS_CLIENT_RIG_H
#define VINHUB_TESTS_CLIENT_RIG_H

#include "common/conf.h"
#include "core/client/door.h"
#include "core/hub.h"

#define RIG_VEHICLES 2000

struct browser {
    struct client client; /* first */
    bool busy;            /* its socket takes nothing */
    bool paused, closed;
    unsigned code, writes;
    char *text; /* the messages it got, a line each; terminated */
    size_t len, cap;
};

struct client_rig {
    struct hub *hub;
    struct bus *bus;
    struct conf *conf;
    uint64_t now_ms;
    bool backends_away;
    size_t upstreams; /* that are open */
    size_t sent;      /* messages that went upstream */
    char last_sent[256];
    const char *uncovered; /* a vin that no token covers; NULL: no token is needed */
};

extern struct client_rig client_rig;

/* Set-up for cmocka: two services, svc and other, by vin; other keeps no history. */
int client_rig_start(void **state);
int client_rig_stop(void **state);

void rig_turns(unsigned n);
/* Connects with that path and query: "/u/v1?svc". */
void browser_come(struct browser *browser, const char *url);
void browser_leave(struct browser *browser);
/* Sends a text, made from a format, in a turn of its own. */
void browser_say(struct browser *browser, const char *format, ...) PRINTF_LIKE(2, 3);
/* Forgets the messages it got so far. */
void browser_forget(struct browser *browser);
bool browser_heard(const struct browser *browser, const char *part);
/* How often that text stands in the messages it got. */
size_t browser_count(const struct browser *browser, const char *part);
/* Within the present turn, vehicle vN of svc pushes a text. */
void rig_push(unsigned vehicle, const char *text);
void rig_turn_begin(void);
void rig_turn_end(void);

#endif
