/*
 * What the files of hub/app share.
 */
#ifndef VINHUB_APP_APP_PRIVATE_H
#define VINHUB_APP_APP_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "admin/admin.h"
#include "app/app.h"
#include "bus/bus.h"
#include "core/hub.h"
#include "front/front.h"
#include "loop/loop.h"
#include "upstream/upstream.h"

/*
 *   RUNNING   until a signal or an operator starts a drain
 *   DRAINING  until all clients and sessions are gone, or the time for it is over
 *   LEAVING   while the sign-off is written to the bus
 */
enum app_state { APP_RUNNING, APP_DRAINING, APP_LEAVING };

struct app {
    const struct app_inputs *inputs;
    struct conf *conf; /* the effective one; referenced */
    char node_id[CONF_NAME_MAX + 1];
    char host[256];
    uint64_t started_ms; /* Unix time; also the life of the node */
    struct loop *loop;
    struct bus *bus;
    struct upstreams *upstreams;
    struct front *front;
    struct hub *hub;
    struct admin *admin;
    struct loop_timer *deadline; /* armed for hub_next_deadline */
    uint64_t deadline_ms;        /* the time for which it is armed; 0: not armed */
    struct loop_timer *log;      /* armed while lines of the log wait for standard error */
    struct loop_timer *stop;     /* ends the drain if it takes too long, then LEAVING */
    uint64_t sampled_ms;         /* when RSS and lag were last measured */
    enum app_state state;
    bool drained; /* the hub has no client and no session left */
    enum exit_code exit_code;
};

/* --- app_node.c */
/* Sets the node id (the configured one, or HOSTNAME-xxxx with four random digits) and the host's
 * name. */
void app_name_node(struct app *app);
/* Sets the gauges of memory and loop lag, at most once a second. */
void app_sample(struct app *app, uint64_t now_ms);
/* Logs the line `started` with the addresses of all ports. */
void app_log_started(const struct app *app);

/* --- app_stop.c: the ways to stop */
void app_on_stop_signal(void *ctx); /* the first signal drains, the second stops at once */
void app_drain(void *ctx, const char *why);
/* Events of the hub. */
void app_on_drained(void *ctx);
void app_on_drain_asked(void *ctx);
void app_on_id_in_use(void *ctx);
/* Callback of the stop timer. */
void app_on_stop_due(void *ctx);

/* --- app_reload.c */
void app_on_reload_signal(void *ctx);

#endif
