#include "core_rig.h"

#include <stdlib.h>
#include <string.h>

static struct core_rig *of(struct bus *bus)
{
    return (struct core_rig *)(void *)bus; /* its first member */
}

static void on_publish(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                       struct publication *const *publications, size_t len, uint32_t history_size,
                       uint64_t ttl_ms, unsigned how)
{
    struct core_rig *rig = of(bus);
    (void)session, (void)history_size;
    struct rig_call *call = &rig->published[rig->published_len++ % RIG_CALLS];
    *call = (struct rig_call){.tag = tag, .epoch = epoch, .len = len, .how = how, .ttl_ms = ttl_ms};
    for (size_t i = 0; i < len; i++)
        call->bytes += publications[i]->len;
}

static void on_tell(struct bus *bus, const char *node, const struct envelope *envelope,
                    uint64_t tag)
{
    struct core_rig *rig = of(bus);
    (void)tag;
    struct rig_call *call = &rig->told[rig->told_len++ % RIG_CALLS];
    *call = (struct rig_call){.type = envelope->type,
                              .number = envelope->number,
                              .epoch = envelope->epoch,
                              .offset = envelope->offset,
                              .len = envelope->items_len};
    strncpy(call->to, node, sizeof(call->to) - 1);
}

static void on_claim(struct bus *bus, const char *session, uint64_t tag,
                     const struct bus_claim *claim)
{
    (void)session, (void)claim;
    of(bus)->claims++;
    of(bus)->tag = tag;
}

static void on_release(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                       uint64_t keep_ms)
{
    (void)session, (void)epoch, (void)keep_ms;
    of(bus)->releases++;
    of(bus)->tag = tag;
}

static void on_transfer(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                        const char *to)
{
    (void)session, (void)epoch, (void)to;
    of(bus)->transfers++;
    of(bus)->tag = tag;
}

static void on_assert_owner(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                            const char *upstream)
{
    (void)session, (void)epoch, (void)upstream;
    of(bus)->assertions++;
    of(bus)->tag = tag;
}

static void on_history(struct bus *bus, const char *session, uint64_t tag, struct position after,
                       size_t limit)
{
    (void)session, (void)after, (void)limit;
    of(bus)->histories++;
    of(bus)->tag = tag;
}

static void on_renew(struct bus *bus, uint64_t tag)
{
    of(bus)->renewals++;
    of(bus)->tag = tag;
}

static uint64_t heard_ms(const struct bus *bus)
{
    return ((const struct core_rig *)(const void *)bus)->heard_ms;
}

static void on_record_node(struct bus *bus, const struct bus_node_record *record)
{
    (void)bus, (void)record;
}

static void on_list(struct bus *bus, enum bus_listing what, const char *after, size_t limit,
                    bus_rows_fn *done, void *ctx)
{
    (void)what, (void)after, (void)limit;
    of(bus)->lists++;
    of(bus)->list_done = done;
    of(bus)->list_ctx = ctx;
}

static const struct bus_ops ops = {
    .renew = on_renew,
    .heard_ms = heard_ms,
    .record_node = on_record_node,
    .list = on_list,
    .publish = on_publish,
    .send = on_tell,
    .claim = on_claim,
    .release = on_release,
    .transfer = on_transfer,
    .assert_owner = on_assert_owner,
    .history = on_history,
};

static uint64_t now_ms(void *ctx)
{
    const struct core_rig *rig = ctx;
    return rig->lease ? rig->hub.now_ms : UINT64_MAX;
}

static uint64_t unix_ms(void *ctx)
{
    return 1700000000000u + ((const struct core_rig *)ctx)->hub.now_ms;
}

static void ignore(struct session *session)
{
    (void)session;
}

static void ignore_event(struct session *session, enum course_event event)
{
    (void)session, (void)event;
}

void rig_init(struct core_rig *rig, enum session_state state)
{
    memset(rig, 0, sizeof(*rig));
    struct conf *conf = calloc(1, sizeof(*conf));
    if (!conf)
        abort();
    conf->node.lease_ms = 3000;
    conf->redis.on_loss = ON_LOSS_FENCE;
    rig->bus = (struct bus){.ops = &ops, .shared = true};
    rig->lease = true;
    rig->service = (struct service){.name = (char *)(uintptr_t) "svc"};
    rig->service.to_upstream.queue_bytes = 256 * 1024;
    rig->service.to_upstream.wait_ms = 30000;
    rig->service.reconnect.min_ms = 500;
    rig->service.reconnect.max_ms = 10000;
    rig->service.history.size = 100;
    rig->service.history.ttl_ms = 300000;
    rig->sessions = (struct sessions){
        .on_event = ignore_event, .on_state = ignore, .on_ended = ignore};
    struct hub *hub = &rig->hub;
    hub->setup.now_ms = now_ms;
    hub->setup.unix_ms = unix_ms;
    hub->setup.clock_ctx = rig;
    hub->setup.life = 1;
    hub->conf = conf;
    hub->bus = &rig->bus;
    hub->bus_connected = true;
    hub->links = 1;
    hub->now_ms = 1000000;
    hub->act_until_ms = UINT64_MAX - 1;
    hub->state = NODE_UP;
    hub->sessions = &rig->sessions;
    strcpy(hub->id, "self");
    rng_seed(&hub->rng, 1);
    timers_init(&hub->timers);
    rig->session = (struct session){.hub = hub,
                                    .service = &rig->service,
                                    .id = (char *)(uintptr_t) "svc:v",
                                    .state = state,
                                    .epoch = 7};
}

void rig_fini(struct core_rig *rig)
{
    timer_stop(&rig->hub.timers, &rig->session.step.timer);
    timers_fini(&rig->hub.timers);
    free(rig->hub.conf);
}

void rig_pass(struct core_rig *rig, uint64_t ms)
{
    uint64_t end_ms = rig->hub.now_ms + ms;
    while (timers_next(&rig->hub.timers) <= end_ms) {
        uint64_t next_ms = timers_next(&rig->hub.timers);
        if (next_ms > rig->hub.now_ms)
            rig->hub.now_ms = next_ms;
        timers_run(&rig->hub.timers, rig->hub.now_ms);
    }
    rig->hub.now_ms = end_ms;
}

struct publication *rig_publication(size_t len)
{
    struct publication *publication = publication_new(OPCODE_TEXT, len);
    if (!publication)
        abort();
    memset(publication->payload, 'x', len);
    return publication;
}
