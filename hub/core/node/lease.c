#include "core/node/lease.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "common/node_messages.h"
#include "core/node/peers.h"
#include "core/node/record.h"

#define RENEW_AT_MOST_MS 500 /* renewed every lease/4, but at least this often */
#define FENCE_MARGIN_MS  100 /* at least; lease/8 where that is more */
/* Who hears nothing for so long has lost its sessions, and with them their members */
#define HELLO_LEASES 2
/* Portions follow each other without a pause, so what is done in one go gains little: only the end
 * is, with a turn's time left and a millisecond for each of so many sessions (a reset takes 15 to
 * 30 us) */
#define FENCED_A_MS  100
#define LATE_TURN_MS 50
/* A starting node asks again this soon while its inbox has not been heard */
#define FIRST_HEARING_MS 20

/* Where the registration stands. */
enum lease_step {
    LEASE_LOOKING,     /* until the own id is seen free; it may be another process' */
    LEASE_REGISTERING, /* until a first renewal is answered and the inbox was heard */
    LEASE_HELD,        /* each renewal makes it longer; until it runs out */
    LEASE_FENCING,     /* upstreams are being reset; until all are, before the lease is over */
    LEASE_LAPSED,      /* it ran out, and that has been acted upon; until a renewal is answered */
    LEASE_STEPS
};

static const char *const step_names[LEASE_STEPS] = {"looking", "registering", "held", "fencing",
                                                    "lapsed"};

struct lease {
    struct hub *hub;
    const struct lease_events *events;
    enum lease_step step;
    uint64_t until_ms;       /* 0: none yet */
    uint64_t sent_ms;        /* of the renewal under way */
    uint64_t tag;            /* of the renewal under way; 0: none is */
    uint64_t read_ms;        /* when the last answer came */
    bool listing;            /* the own entry is being read */
    uint64_t watch_start_ms; /* of the own id at start */
    uint64_t watch_score, watch_changed_ms;
    uint64_t duplicate_nonce; /* another process that said HELLO under this id: its random number */
    uint64_t hello_until_ms;  /* HELLO is sent to other nodes until then */
    struct timer timer;
};

void lease_new(struct hub *hub, const struct lease_events *events)
{
    hub->lease = calloc(1, sizeof(*hub->lease));
    if (!hub->lease)
        abort();
    hub->lease->hub = hub;
    hub->lease->events = events;
}

void lease_free(struct hub *hub)
{
    lease_stop(hub);
    free(hub->lease);
    hub->lease = NULL;
}

static void set_step(struct lease *lease, enum lease_step step)
{
    static const bool legal[LEASE_STEPS][LEASE_STEPS] = {
        [LEASE_LOOKING] = {[LEASE_REGISTERING] = true},
        [LEASE_REGISTERING] = {[LEASE_HELD] = true},
        [LEASE_HELD] = {[LEASE_FENCING] = true, [LEASE_LAPSED] = true},
        [LEASE_FENCING] = {[LEASE_LAPSED] = true},
        [LEASE_LAPSED] = {[LEASE_HELD] = true},
    };
    if (lease->step == step)
        return;
    assert(legal[lease->step][step]);
    lease->step = step;
    log_debug("lease", LOG_STR("step", step_names[step]));
}

static uint64_t renew_every_ms(const struct hub *hub)
{
    uint64_t every = hub->conf->node.lease_ms / 4;
    return every < RENEW_AT_MOST_MS ? (every ? every : 1) : RENEW_AT_MOST_MS;
}

static uint64_t fence_at_ms(const struct hub *hub)
{
    uint64_t margin = hub->conf->node.lease_ms / 8;
    if (margin < FENCE_MARGIN_MS)
        margin = FENCE_MARGIN_MS;
    return hub->lease->until_ms > margin ? hub->lease->until_ms - margin : 0;
}

static void set_until(struct hub *hub, uint64_t until_ms)
{
    hub->lease->until_ms = until_ms;
    if (hub->lease->step != LEASE_FENCING)
        hub->act_until_ms = fence_at_ms(hub);
}

static void on_timer(struct timer *timer, uint64_t now_ms);

/* The next renewal; earlier where a node can be found dead by it. Also wakes the loop to fence in
 * time. */
static void lease_arm(struct hub *hub, uint64_t after_ms)
{
    uint64_t at_ms = hub->now_ms + after_ms, deadline = peers_next_deadline(hub);
    if (!hub->lease->tag && deadline > hub->now_ms && deadline < at_ms)
        at_ms = deadline;
    uint64_t fence_ms = fence_at_ms(hub);
    if (fence_ms > hub->now_ms && fence_ms < at_ms)
        at_ms = fence_ms;
    timer_start(&hub->timers, &hub->lease->timer, at_ms, on_timer);
}

static void lease_renew(struct hub *hub)
{
    hub->lease->sent_ms = hub->setup.now_ms(hub->setup.clock_ctx);
    hub->lease->tag = hub_tag(hub);
    if (hub->lease->step == LEASE_LOOKING)
        set_step(hub->lease, LEASE_REGISTERING);
    hub->bus->ops->renew(hub->bus, hub->lease->tag);
    record_node(hub);
}

/* Returns the score of this node's own entry, 0 if it has no entry. Raises *longest_ms to the lease
 * of that entry. */
static uint64_t own_score(const struct hub *hub, const struct bus_row *rows, size_t len,
                          uint64_t *longest_ms)
{
    uint64_t score = 0;
    for (size_t i = 0; i < len; i++) {
        if (strcmp(rows[i].id, hub->id) != 0)
            continue;
        for (size_t f = 0; f < rows[i].fields_len; f++) {
            uint64_t value = strtoull(rows[i].fields[f].value, NULL, 10);
            if (!strcmp(rows[i].fields[f].name, "renewed"))
                score = value;
            else if (!strcmp(rows[i].fields[f].name, "lease") && value > *longest_ms)
                *longest_ms = value;
        }
    }
    return score;
}

/* A start waits while its id is still renewed by another life (contract section 9). */
static void on_own_entry(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                         const char *next)
{
    struct hub *hub = ctx;
    struct lease *lease = hub->lease;
    (void)next;
    lease->listing = false;
    if (status != STATUS_OK || hub->state != NODE_STARTING || lease->step != LEASE_LOOKING)
        return;
    uint64_t longest_ms = hub->conf->node.lease_ms, score = own_score(hub, rows, len, &longest_ms);
    if (!lease->watch_start_ms)
        lease->watch_start_ms = hub->now_ms;
    if (score != lease->watch_score || !lease->watch_changed_ms) {
        lease->watch_score = score;
        lease->watch_changed_ms = hub->now_ms;
    }
    if (!score || hub->now_ms - lease->watch_changed_ms >= longest_ms) {
        lease_renew(hub);
    } else if (lease->watch_changed_ms > lease->watch_start_ms &&
               hub->now_ms - lease->watch_start_ms >= 2 * longest_ms) {
        if (hub->setup.events && hub->setup.events->on_id_in_use)
            hub->setup.events->on_id_in_use(hub->setup.events_ctx);
    }
    lease_arm(hub, renew_every_ms(hub));
}

static void look_for_own_entry(struct hub *hub)
{
    if (hub->lease->listing)
        return;
    hub->lease->listing = true;
    hub->bus->ops->list(hub->bus, BUS_LIST_NODES, NULL, 10000, on_own_entry, hub);
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct hub *hub = CONTAINER_OF(timer, struct lease, timer)->hub;
    (void)now_ms;
    if (!hub->bus_connected || hub->state == NODE_STOPPED)
        ; /* on_connected renews at once */
    else if (hub->lease->tag)
        ; /* one renewal at a time: its deadline is the bus's */
    else if (hub->lease->step == LEASE_LOOKING)
        look_for_own_entry(hub);
    else
        lease_renew(hub);
    lease_arm(hub, renew_every_ms(hub));
}

void lease_start(struct hub *hub)
{
    lease_arm(hub, renew_every_ms(hub));
}

void lease_stop(struct hub *hub)
{
    timer_stop(&hub->timers, &hub->lease->timer);
}

void lease_on_connected(struct hub *hub)
{
    if (hub->lease->step == LEASE_LOOKING)
        look_for_own_entry(hub);
    else if (!hub->lease->tag)
        lease_renew(hub);
}

static const char *bus_trouble(const struct hub *hub)
{
    return hub->bus->ops->trouble ? hub->bus->ops->trouble(hub->bus) : NULL;
}

/* What a start or a fenced node waits for. */
static const char *awaited(const struct hub *hub)
{
    const char *trouble = bus_trouble(hub);
    if (trouble)
        return trouble;
    if (!hub->bus_connected)
        return "Redis has not answered yet";
    if (hub->lease->step == LEASE_LOOKING && hub->lease->watch_score)
        return "an earlier node of this id may still be alive";
    return "Redis has not confirmed the lease yet";
}

void lease_why_not(const struct hub *hub, char *out, size_t size)
{
    switch (hub->state) {
    case NODE_STARTING: snprintf(out, size, "starting: %s", awaited(hub)); return;
    case NODE_UP:
    case NODE_FENCED: snprintf(out, size, "the lease ran out: %s", awaited(hub)); return;
    case NODE_DRAINING:
    case NODE_STOPPED: snprintf(out, size, "%s", node_state_name(hub->state)); return;
    }
}

static void begin_to_fence(struct hub *hub)
{
    metric_add(METRIC_FENCES, 1);
    log_warn("fenced", LOG_U64("sessions", hub->counts.owned), LOG_STR("reason", awaited(hub)));
    if (hub->state == NODE_UP)
        node_set_state(hub, NODE_FENCED);
    hub->lease->events->fence(hub);
}

/* Nobody else may open an upstream before the lease is over, nor may one be open here after that. A
 * process that was paused may find that it is over already. */
static bool must_hurry(const struct hub *hub)
{
    uint64_t needed_ms = LATE_TURN_MS + hub->counts.owned / FENCED_A_MS;
    return hub->lease->until_ms <= hub->now_ms + needed_ms;
}

void lease_enforce(struct hub *hub, uint64_t now_ms)
{
    struct lease *lease = hub->lease;
    if (now_ms > hub->now_ms)
        hub->now_ms = now_ms;
    if (lease->step == LEASE_HELD && !node_has_lease(hub)) {
        bool fences = hub->conf->redis.on_loss == ON_LOSS_FENCE && hub->state != NODE_STOPPED;
        set_step(lease, fences ? LEASE_FENCING : LEASE_LAPSED);
        hub->lease_runs++;
        lease->events->lapsed(hub);
        if (fences)
            begin_to_fence(hub);
    }
    if (lease->step == LEASE_FENCING && must_hurry(hub))
        lease->events->fence_rest(hub);
}

bool lease_is_fencing(const struct hub *hub)
{
    return hub->lease->step == LEASE_FENCING;
}

/* To itself, too: see lease_on_hello. */
static void send_hello(struct hub *hub, const struct bus_node *nodes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const struct hello_message message = {hub->setup.seed};
        struct envelope hello = hello_encode(&message);
        size_t id_len = strlen(nodes[i].id);
        if (id_len && id_len <= CONF_NAME_MAX)
            node_send(hub, slice_of(nodes[i].id), &hello);
    }
}

void lease_on_hello(struct hub *hub, const struct envelope *hello)
{
    struct lease *lease = hub->lease;
    uint64_t process = hello_decode(hello).process;
    peers_said_hello(hub, hello);
    if (!node_is_self(hub, hello->node) || !process || process == hub->setup.seed)
        return;
    bool later = hello->life < hub->setup.life ||
                 (hello->life == hub->setup.life && process < hub->setup.seed);
    /* A single one may be late, of a life that is over */
    bool again = lease->duplicate_nonce == process;
    lease->duplicate_nonce = process;
    if (later && again && hub->setup.events && hub->setup.events->on_id_in_use)
        hub->setup.events->on_id_in_use(hub->setup.events_ctx);
}

/* The inbox has been heard within the lease. */
static bool is_heard(const struct hub *hub)
{
    uint64_t heard_ms = hub->bus->ops->heard_ms(hub->bus);
    return heard_ms && hub->lease->sent_ms < heard_ms + hub->conf->node.lease_ms;
}

/* Returns false where there is no lease yet: the inbox has not been heard. */
static bool make_longer(struct hub *hub)
{
    struct lease *lease = hub->lease;
    uint64_t length_ms = hub->conf->node.lease_ms;
    bool heard = is_heard(hub);
    if (heard)
        set_until(hub, lease->sent_ms + length_ms);
    if (lease->step != LEASE_REGISTERING)
        return true;
    if (heard) {
        set_step(lease, LEASE_HELD);
        lease->hello_until_ms = hub->now_ms + HELLO_LEASES * length_ms;
    }
    return heard;
}

static void begin_to_act(struct hub *hub, bool first)
{
    struct lease *lease = hub->lease;
    bool lapsed = lease->step == LEASE_LAPSED;
    if (hub->state == NODE_STARTING || hub->state == NODE_FENCED)
        node_set_state(hub, NODE_UP);
    set_step(lease, LEASE_HELD);
    if (first || lapsed)
        lease->events->back(hub);
}

void lease_fence_is_over(struct hub *hub)
{
    set_step(hub->lease, LEASE_LAPSED);
    set_until(hub, hub->lease->until_ms);
    if (node_has_lease(hub)) /* a renewal was answered meanwhile */
        begin_to_act(hub, false);
}

void lease_on_renewed(struct hub *hub, uint64_t tag, enum status status, bool present,
                      const struct bus_node *nodes, size_t len)
{
    struct lease *lease = hub->lease;
    if (tag != lease->tag)
        return;
    lease->tag = 0;
    metric_set(METRIC_BUS_CONNECTED, status == STATUS_OK && is_heard(hub) && !bus_trouble(hub));
    if (status != STATUS_OK)
        return;
    bool first = lease->step == LEASE_REGISTERING;
    if (!make_longer(hub)) {
        lease_arm(hub, FIRST_HEARING_MS);
        return;
    }
    if (first || hub->now_ms - lease->read_ms > hub->conf->node.lease_ms / 2)
        peers_restart(hub);
    lease->read_ms = hub->now_ms;
    if (hub->now_ms < lease->hello_until_ms)
        send_hello(hub, nodes, len);
    if (!present && !first)
        lease->events->emptied(hub);
    if (node_has_lease(hub))
        begin_to_act(hub, first);
    peers_read(hub, lease->sent_ms, nodes, len);
    /* Timed from the sending: a store that answered slowly must not cost a second wait. */
    uint64_t next_ms = lease->sent_ms + renew_every_ms(hub);
    lease_arm(hub, next_ms > hub->now_ms ? next_ms - hub->now_ms : 0);
}

void lease_check(const struct hub *hub)
{
    const struct lease *lease = hub->lease;
    bool had = lease->step >= LEASE_HELD;
    assert(had == (lease->until_ms != 0));
    assert(hub->act_until_ms <= lease->until_ms);
    assert(!lease->tag || lease->step != LEASE_LOOKING);
    assert(!lease->listing || lease->step == LEASE_LOOKING || hub->state != NODE_STARTING);
    assert((hub->state == NODE_STARTING) <= !node_has_lease(hub));
    assert(hub->state != NODE_FENCED || lease->step >= LEASE_FENCING);
    assert(lease->step != LEASE_FENCING || !node_has_lease(hub));
}
