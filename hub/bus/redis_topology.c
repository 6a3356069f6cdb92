#include "bus/redis_topology.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"

struct redis_topology {
    struct redis_topology_options options;
    const struct redis_topology_events *events;
    void *ctx;
    struct redis_lane *lane;
    uint64_t open_ms;
};

/* --- what a server says of itself --- */

/* The value of a line "name:value" of INFO, up to its end; "" where it is not there. */
static void info_value(const char *info, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    out[0] = '\0';
    for (const char *line = info; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, name_len) != 0 || line[name_len] != ':')
            continue;
        size_t len = strcspn(line + name_len + 1, "\r\n");
        if (len < size) {
            memcpy(out, line + name_len + 1, len);
            out[len] = '\0';
        }
        return;
    }
}

static bool on_info(void *ctx, const char *info)
{
    (void)ctx;
    char role[32], policy[64], loading[8];
    info_value(info, "role", role, sizeof(role));
    info_value(info, "loading", loading, sizeof(loading));
    info_value(info, "maxmemory_policy", policy, sizeof(policy));
    if (strcmp(role, "slave") == 0 || strcmp(loading, "1") == 0)
        return false;
    if (policy[0] != '\0' && strcmp(policy, "noeviction") != 0)
        log_warn("redis_evicts", LOG_STR("maxmemory_policy", policy),
                 LOG_STR("advice", "noeviction"));
    return true;
}

/* --- one server --- */

static void on_open(void *ctx)
{
    struct redis_topology *t = ctx;
    t->open_ms = clock_boot_ms();
    t->events->on_open(t->ctx);
}

static void on_closed(void *ctx)
{
    struct redis_topology *t = ctx;
    t->open_ms = 0;
    t->events->on_closed(t->ctx);
}

static void on_progress(void *ctx)
{
    struct redis_topology *t = ctx;
    t->events->on_progress(t->ctx);
}

static void on_failed(void *ctx)
{
    (void)ctx; /* the next try goes to the same place */
}

static const struct redis_lane_events lane_events = {.on_open = on_open,
                                                     .on_closed = on_closed,
                                                     .on_progress = on_progress,
                                                     .on_info = on_info,
                                                     .on_failed = on_failed};

struct redis_topology *redis_topology_new(const struct redis_topology_options *options,
                                          const struct redis_topology_events *events, void *ctx)
{
    struct redis_topology *t = redis_claim_memory(1, sizeof(*t));
    t->options = *options;
    t->events = events;
    t->ctx = ctx;
    t->options.lane.link.name = "commands";
    t->options.lane.link.url = options->url;
    t->lane = redis_lane_new(&t->options.lane, &lane_events, t);
    redis_link_target(redis_lane_link(t->lane), options->url->hosts[0].name,
                      options->url->hosts[0].port);
    return t;
}

void redis_topology_free(struct redis_topology *t)
{
    redis_lane_free(t->lane);
    free(t);
}

void redis_topology_start(struct redis_topology *t)
{
    redis_link_start(redis_lane_link(t->lane));
}

void redis_topology_send(struct redis_topology *t, struct redis_op *op, const char *key)
{
    (void)key;
    redis_lane_send(t->lane, op);
}

void redis_topology_flush(struct redis_topology *t)
{
    redis_lane_flush(t->lane);
}

uint64_t redis_topology_open_ms(const struct redis_topology *t)
{
    return t->open_ms;
}

void redis_topology_place(const struct redis_topology *t, const char **host, uint16_t *port)
{
    *host = t->options.url->hosts[0].name;
    *port = t->options.url->hosts[0].port;
}
