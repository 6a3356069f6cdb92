#include "app/app.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app_private.h"
#include "bus/bus_memory.h"
#include "bus/bus_redis.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/rng.h"
#include "common/version.h"

/* A pipe takes 64 KiB at a time, so this allows over 3 MB of log a second: more than a node writes.
 */
#define LOG_AGAIN_MS 20

static const struct hub_events hub_events = {
    .on_id_in_use = app_on_id_in_use,
    .on_drained = app_on_drained,
    .on_drain_asked = app_on_drain_asked,
};

static uint64_t now_ms(void *ctx)
{
    (void)ctx;
    return clock_boot_ms();
}

static uint64_t now_us(void *ctx)
{
    (void)ctx;
    return clock_boot_us();
}

static uint64_t unix_ms(void *ctx)
{
    (void)ctx;
    return clock_unix_ms();
}

static enum exit_code refuse(enum status status, const char *why)
{
    log_error("start_failed", LOG_STR("reason", why));
    return status == STATUS_INVALID ? EXIT_USAGE : EXIT_RUNTIME;
}

static void on_turn_start(void *ctx)
{
    struct app *app = ctx;
    uint64_t at_ms = clock_boot_ms();
    hub_enter(app->hub, at_ms);
    app_sample(app, at_ms);
}

static void on_turn_end(void *ctx)
{
    struct app *app = ctx;
    hub_flush(app->hub);
    if (!log_flush())
        loop_timer_start(app->log, LOG_AGAIN_MS);
    uint64_t next_ms = hub_next_deadline(app->hub);
    if (next_ms == app->deadline_ms)
        return;
    app->deadline_ms = next_ms;
    if (next_ms == UINT64_MAX) {
        loop_timer_stop(app->deadline);
        return;
    }
    uint64_t at_ms = clock_boot_ms();
    loop_timer_start(app->deadline, next_ms > at_ms ? next_ms - at_ms : 0);
}

/* The timer begins a turn; the log is written at the end of the turn. */
static void on_log_due(void *ctx)
{
    (void)ctx;
}

/* The timer begins a turn, which runs the hub's due timers and arms this one again at its end. */
static void on_deadline(void *ctx)
{
    struct app *app = ctx;
    app->deadline_ms = 0;
}

static enum exit_code make_bus(struct app *app)
{
    if (app->conf->redis.url[0] == '\0') {
        app->bus = bus_memory_new(NULL, app->node_id, clock_boot_ms, clock_unix_ms);
        return EXIT_CLEAN;
    }
    char why[512] = "redis.url can't be used";
    enum status status = bus_redis_new(app->loop, app->conf, app->node_id, app->started_ms,
                                       &app->bus, why, sizeof(why));
    return status == STATUS_OK ? EXIT_CLEAN : refuse(status, why);
}

static enum exit_code make_sockets(struct app *app)
{
    char why[512] = "upstream sockets can't be set up";
    enum status status = upstreams_new(app->loop, &app->upstreams);
    if (status == STATUS_OK)
        status = front_new(app->loop, app->conf, &app->front, why, sizeof(why));
    return status == STATUS_OK ? EXIT_CLEAN : refuse(status, why);
}

static void make_hub(struct app *app)
{
    uint64_t seed = 0;
    rng_secure(&seed, sizeof(seed));
    struct hub_setup setup = {
        .conf = app->conf,
        .node_id = app->node_id,
        .life = app->started_ms,
        .seed = seed,
        .host = app->host,
        .version = version_number(),
        .pid = (uint64_t)getpid(),
        .bus = app->bus,
        .upstream_ops = &upstream_socket_ops,
        .upstream_ctx = app->upstreams,
        .client_ops = &front_client_ops,
        .client_ctx = app->front,
        .events = &hub_events,
        .events_ctx = app,
        .now_ms = now_ms,
        .unix_ms = unix_ms,
        .now_us = now_us,
    };
    app->hub = hub_new(&setup);
    front_attach(app->front, app->hub);
}

static void on_drain_posted(void *ctx)
{
    app_drain(ctx, "api");
}

static enum exit_code open_ports(struct app *app)
{
    char why[512] = "";
    enum status status = front_listen(app->front, app->conf->listen.address, why, sizeof(why));
    if (status != STATUS_OK) {
        char line[600];
        (void)snprintf(line, sizeof(line), "listen %s", why);
        return refuse(STATUS_IO, line);
    }
    struct admin_setup setup = {
        .loop = app->loop,
        .hub = app->hub,
        .bus = app->bus,
        .conf = app->conf,
        .started_ms = app->started_ms,
        .on_drain = on_drain_posted,
        .ctx = app,
    };
    status = admin_new(&setup, &app->admin);
    if (status == STATUS_OK)
        return EXIT_CLEAN;
    const char *reason = status == STATUS_REFUSED
                             ? "not on loopback: expected admin.token, or admin.allow_open: true"
                         : status == STATUS_INVALID ? "not an address of this host"
                                                    : strerror(errno);
    (void)snprintf(why, sizeof(why), "admin %s: %s", app->conf->admin.address, reason);
    return refuse(status == STATUS_REFUSED ? STATUS_INVALID : STATUS_IO, why);
}

static void watch_signals(struct app *app)
{
    if (loop_on_signal(app->loop, SIGTERM, app_on_stop_signal, app) != STATUS_OK ||
        loop_on_signal(app->loop, SIGINT, app_on_stop_signal, app) != STATUS_OK ||
        loop_on_signal(app->loop, SIGHUP, app_on_reload_signal, app) != STATUS_OK)
        abort();
}

/* Each part needs those before it. */
static enum exit_code start(struct app *app)
{
    enum status status = loop_new(&app->loop);
    if (status != STATUS_OK)
        return refuse(status, "event loop can't be set up");
    watch_signals(app);
    enum exit_code code = make_bus(app);
    if (code == EXIT_CLEAN)
        code = make_sockets(app);
    if (code != EXIT_CLEAN)
        return code;
    make_hub(app);
    app->deadline = loop_timer_new(app->loop, "core_times", on_deadline, app);
    app->log = loop_timer_new(app->loop, "log", on_log_due, app);
    app->stop = loop_timer_new(app->loop, "stop", app_on_stop_due, app);
    loop_at_turn_start(app->loop, "core_times", on_turn_start, app);
    loop_at_turn_end(app->loop, "core_output", on_turn_end, app);
    code = open_ports(app);
    if (code != EXIT_CLEAN)
        return code;
    loop_enter(app->loop, "start");
    hub_start(app->hub);
    return EXIT_CLEAN;
}

/* The opposite order of start, but for the front: it is freed before the hub, so that it reports
 * each of its clients as gone. admin is freed before the hub, which it calls. */
static void app_free(struct app *app)
{
    admin_free(app->admin);
    if (app->front)
        front_free(app->front);
    if (app->hub)
        hub_free(app->hub);
    if (app->upstreams)
        upstreams_free(app->upstreams);
    if (app->bus)
        app->bus->ops->free(app->bus);
    loop_timer_free(app->deadline);
    loop_timer_free(app->log);
    loop_timer_free(app->stop);
    loop_free(app->loop);
    conf_unref(app->conf);
}

enum exit_code app_run(const struct app_inputs *inputs, struct conf *conf)
{
    struct app app = {.inputs = inputs, .conf = conf_ref(conf), .started_ms = clock_unix_ms()};
    app_name_node(&app);
    log_configure(conf->log.level, conf->log.format, app.node_id);
    enum exit_code code = start(&app);
    if (code == EXIT_CLEAN) {
        app_log_started(&app);
        loop_run(app.loop);
        code = app.exit_code;
        log_info("stopped", LOG_U64("uptime_s", (clock_unix_ms() - app.started_ms) / 1000),
                 LOG_U64("exit_code", code));
    }
    app_free(&app);
    log_finish();
    return code;
}

enum exit_code app_check(struct conf *conf)
{
    struct app app = {.conf = conf_ref(conf), .started_ms = clock_unix_ms()};
    app_name_node(&app);
    log_configure(LOG_LEVEL_ERROR, conf->log.format, NULL);
    enum status status = loop_new(&app.loop);
    enum exit_code code = status == STATUS_OK ? make_bus(&app)
                                              : refuse(status, "event loop can't be set up");
    if (code == EXIT_CLEAN)
        code = make_sockets(&app);
    app_free(&app);
    return code;
}
