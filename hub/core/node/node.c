#include "core/node/node.h"

#include <assert.h>
#include <string.h>

#include "common/log.h"

static const char *const state_names[] = {"starting", "up", "draining", "fenced", "stopped"};

const char *node_state_name(enum node_state state)
{
    return state_names[state];
}

void node_set_state(struct hub *hub, enum node_state state)
{
    static const bool legal[5][5] = {
        /* to:            starting up draining fenced stopped */
        [NODE_STARTING] = {false, true, true, false, true},
        [NODE_UP] = {false, false, true, true, true},
        [NODE_DRAINING] = {false, false, false, false, true},
        [NODE_FENCED] = {false, true, true, false, true},
        [NODE_STOPPED] = {false, false, false, false, false},
    };
    if (hub->state == state)
        return;
    assert(legal[hub->state][state]);
    hub->state = state;
    log_info("node_state", LOG_STR("state", state_names[state]));
    if (hub->setup.events && hub->setup.events->on_state)
        hub->setup.events->on_state(hub->setup.events_ctx, state);
}

uint64_t hub_tag(struct hub *hub)
{
    return ++hub->tags;
}

bool node_has_lease(const struct hub *hub)
{
    return hub->now_ms < hub->act_until_ms;
}

bool node_may_write(const struct hub *hub)
{
    return !hub->bus->shared || hub->conf->redis.on_loss == ON_LOSS_SERVE ||
           hub->setup.now_ms(hub->setup.clock_ctx) < hub->act_until_ms;
}

uint64_t node_unix_ms(const struct hub *hub)
{
    return hub->setup.unix_ms(hub->setup.clock_ctx);
}

uint64_t node_first_number(const struct hub *hub)
{
    return hub->setup.life << 16; /* a life begins in a millisecond of its own */
}

uint64_t node_unix_of(struct hub *hub, uint64_t moment_ms)
{
    uint64_t apart_ms = node_unix_ms(hub) - hub->now_ms;
    if (apart_ms - hub->unix_apart_ms + 1000 > 2000)
        hub->unix_apart_ms = apart_ms;
    return hub->unix_apart_ms + moment_ms;
}

void node_send(struct hub *hub, struct slice to, struct envelope *envelope)
{
    char id[CONF_NAME_MAX + 1];
    assert(to.len && to.len <= CONF_NAME_MAX);
    memcpy(id, to.at, to.len);
    id[to.len] = '\0';
    envelope->node = slice_of(hub->id);
    envelope->life = hub->setup.life;
    hub->bus->ops->send(hub->bus, id, envelope, 0);
}

bool node_is_self(const struct hub *hub, struct slice name)
{
    return slice_equals(slice_of(hub->id), name);
}

void node_check(const struct hub *hub)
{
    assert(hub->counts.owned <= hub->counts.sessions);
    assert(hub->counts.upstreams <= hub->counts.owned);
    assert(hub->state != NODE_FENCED || hub->conf->redis.on_loss == ON_LOSS_FENCE);
    assert(hub->bus_connected <= (hub->links != 0));
}
