/*
 * A whole node in one process, with browsers that speak vinhub.v1 in JSON: what they were told they
 * write down, line by line. Its bus is in memory, its backends are always there.
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
    char *text; /* what it was told, a line each; terminated */
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
    const char *uncovered; /* a vin that no token covers; NULL: tokens are not asked for */
};

extern struct client_rig client_rig;

/* Of cmocka: two services, svc and other, by vin; other keeps no history. */
int client_rig_start(void **state);
int client_rig_stop(void **state);

void rig_turns(unsigned n);
/* Comes with that path and query: "/u/v1?svc". */
void browser_come(struct browser *browser, const char *url);
void browser_leave(struct browser *browser);
/* In a turn of its own; text is a format. */
void browser_say(struct browser *browser, const char *format, ...) PRINTF_LIKE(2, 3);
/* What it was told so far is forgotten. */
void browser_forget(struct browser *browser);
bool browser_heard(const struct browser *browser, const char *part);
/* How often that part stands in what it was told. */
size_t browser_count(const struct browser *browser, const char *part);
/* In the turn that has begun: a push of vehicle vN of svc. */
void rig_push(unsigned vehicle, const char *text);
void rig_turn_begin(void);
void rig_turn_end(void);

#endif
