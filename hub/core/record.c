#include "core/record.h"

#include "common/metrics.h"
#include "core/session.h"

/* Each owned session at least this often: the record lives 30 minutes */
#define REFRESH_MS      (10 * 60 * 1000u)
#define RECORDS_A_LEASE 1000u /* contract section 11 */

void record_node(struct hub *hub)
{
    struct bus_node_record record = {
        .host = hub->setup.host,
        .version = hub->setup.version,
        .listen = hub->conf->listen.address,
        .admin = hub->conf->admin.address,
        .state = node_state_name(hub->state == NODE_STARTING ? NODE_UP : hub->state),
        .pid = hub->setup.pid,
        .started_ms = hub->started_unix_ms,
        .lease_ms = hub->conf->node.lease_ms,
        .clients = hub->clients,
        .sessions = HASH_COUNT(hub->sessions),
        .upstreams = hub->upstreams,
        .msgs_in = metric_get(METRIC_MESSAGES_IN),
        .msgs_out = metric_get(METRIC_MESSAGES_OUT),
        .rss_bytes = metric_get(METRIC_RSS_BYTES),
        .loop_lag_ms = metric_get(METRIC_LOOP_LAG_MS),
    };
    hub->bus->ops->record_node(hub->bus, &record);
}

static void on_record_timer(struct timer *timer, uint64_t now_ms);

static void arm(struct session *session, uint64_t after_ms)
{
    timer_start(&session->hub->timers, &session->record, session->hub->now_ms + after_ms,
                on_record_timer);
}

/* So many sessions may change at once that the rest waits for the next lease. */
static bool spend(struct hub *hub)
{
    if (hub->now_ms - hub->records_at_ms >= hub->conf->node.lease_ms) {
        hub->records_at_ms = hub->now_ms;
        hub->records_left = RECORDS_A_LEASE;
    }
    return hub->records_left && hub->records_left--;
}

static uint64_t all_clients(const struct session *session)
{
    uint64_t clients = session->clients_len;
    const struct member *member;
    DL_FOREACH (session->members, member)
        clients += member->count;
    return clients;
}

static void on_record_timer(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, record);
    struct hub *hub = session->hub;
    (void)now_ms;
    if (!session_is_owned(session))
        return;
    if (!hub->bus_connected || !spend(hub)) {
        arm(session, hub->conf->node.lease_ms);
        return;
    }
    struct bus_session_record record = {
        .state = session_state_word(session),
        .reason = session->reason,
        .upstream = session->redacted,
        .since_ms = session->since_unix_ms,
        .clients = all_clients(session),
        .members = session->members_len + (session->clients_len ? 1 : 0),
        .offset = session->placed,
    };
    hub->bus->ops->record_session(hub->bus, session->id, session->epoch, &record);
    arm(session, REFRESH_MS);
}

void record_session_soon(struct session *session)
{
    uint64_t soon_ms = session->hub->conf->node.lease_ms / 3;
    if (!session_is_owned(session))
        return;
    if (!timer_armed(&session->record) || session->record.at_ms > session->hub->now_ms + soon_ms)
        arm(session, soon_ms);
}
