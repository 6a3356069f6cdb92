/*
 * How a node stops. Each of these is a clean stop with exit code 0.
 *
 *   SIGTERM, SIGINT, POST /api/drain, DRAIN on the bus
 *       DRAINING: sessions are handed over, clients are closed, spread over node.drain.
 *   No client and no session is left, or the hub gives the rest up (7 s after node.drain)
 *       LEAVING: the node signs off from the bus, then ends.
 *   10 s after node.drain, if the hub is not done even then
 *       The node ends without a sign-off; other nodes take its sessions over after a lease.
 *   A second SIGTERM or SIGINT
 *       The same, at once.
 */
#include <stdio.h>

#include "app/app_private.h"
#include "common/log.h"

enum {
    DRAIN_GRACE_MS = 10000, /* after node.drain; the hub itself ends the drain after 7 s */
    LEAVE_MS = 100,         /* time to write the sign-off to the socket */
};

static void stop(struct app *app, enum exit_code code)
{
    app->exit_code = code;
    loop_stop(app->loop);
}

static void leave(struct app *app)
{
    app->state = APP_LEAVING;
    app->bus->ops->sign_off(app->bus);
    loop_timer_start(app->stop, LEAVE_MS);
}

void app_drain(void *ctx, const char *why)
{
    struct app *app = ctx;
    if (app->state != APP_RUNNING)
        return;
    app->state = APP_DRAINING;
    log_info("draining", LOG_STR("asked_by", why), LOG_U64("drain_ms", app->conf->node.drain_ms));
    loop_timer_start(app->stop, (uint64_t)app->conf->node.drain_ms + DRAIN_GRACE_MS);
    hub_drain(app->hub); /* may call on_drained before it returns, so the timer is armed first */
}

void app_on_stop_signal(void *ctx)
{
    struct app *app = ctx;
    if (app->state == APP_RUNNING) {
        app_drain(app, "signal");
        return;
    }
    log_warn("forced_stop", LOG_STR("reason", "second signal"));
    stop(app, EXIT_CLEAN);
}

/* The hub must not be called from within its own event: the stop timer does the next step. */
void app_on_drained(void *ctx)
{
    struct app *app = ctx;
    app->drained = true;
    if (app->state == APP_DRAINING)
        loop_timer_start(app->stop, 0);
}

/* The same for DRAIN, which another node or vinhubctl has sent. */
void app_on_drain_asked(void *ctx)
{
    struct app *app = ctx;
    if (app->state == APP_RUNNING)
        loop_timer_start(app->stop, 0);
}

void app_on_id_in_use(void *ctx)
{
    struct app *app = ctx;
    char line[CONF_NAME_MAX + 96];
    (void)snprintf(line, sizeof(line),
                   "node id %s is in use by another node: set node.id to another one, or leave it "
                   "empty",
                   app->node_id);
    log_error("start_failed", LOG_STR("reason", line));
    stop(app, EXIT_RUNTIME);
}

void app_on_stop_due(void *ctx)
{
    struct app *app = ctx;
    switch (app->state) {
    case APP_RUNNING: app_drain(app, "bus"); break;
    case APP_DRAINING:
        if (app->drained) {
            leave(app);
            break;
        }
        /* This node may still own sessions. Without a sign-off the other nodes wait for a lease
         * before they take them over. */
        log_warn("drain_timeout", LOG_U64("connections", front_connections(app->front)));
        stop(app, EXIT_CLEAN);
        break;
    case APP_LEAVING: stop(app, EXIT_CLEAN); break;
    }
}
