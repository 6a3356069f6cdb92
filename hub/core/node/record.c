#include "core/node/record.h"

#include <assert.h>
#include <stdlib.h>

#include "common/metrics.h"

#define RECORDS_A_LEASE 1000u /* contract section 11 */

struct record_budget {
    uint32_t left;
    uint64_t since_ms;
};

void record_new(struct hub *hub)
{
    hub->records = calloc(1, sizeof(*hub->records));
    if (!hub->records)
        abort();
}

void record_free(struct hub *hub)
{
    free(hub->records);
    hub->records = NULL;
}

void record_node(struct hub *hub)
{
    const struct node_counts *counts = &hub->counts;
    struct bus_node_record record = {
        .host = hub->setup.host,
        .version = hub->setup.version,
        .listen = hub->conf->listen.address,
        .admin = hub->conf->admin.address,
        .state = node_state_name(hub->state == NODE_STARTING ? NODE_UP : hub->state),
        .pid = hub->setup.pid,
        .started_ms = hub->started_unix_ms,
        .lease_ms = hub->conf->node.lease_ms,
        .clients = counts->clients,
        .sessions = counts->sessions,
        .upstreams = counts->upstreams,
        .msgs_in = counts->messages_in,
        .msgs_out = counts->messages_out,
        .rss_bytes = metric_get(METRIC_RSS_BYTES),
        .loop_lag_ms = metric_get(METRIC_LOOP_LAG_MS),
    };
    hub->bus->ops->record_node(hub->bus, &record);
}

bool record_spend(struct hub *hub)
{
    struct record_budget *budget = hub->records;
    if (hub->now_ms - budget->since_ms >= hub->conf->node.lease_ms) {
        budget->since_ms = hub->now_ms;
        budget->left = RECORDS_A_LEASE;
    }
    return budget->left && budget->left--;
}

void record_check(const struct hub *hub)
{
    assert(hub->records->left <= RECORDS_A_LEASE);
    assert(hub->records->since_ms <= hub->now_ms);
}
