#include "core/client/audience.h"

#include "core/client/client.h"
#include "core/client/client_ids.h"
#include "core/client/emit.h"
#include "core/client/joining.h"
#include "core/client/subscription.h"
#include "core/fanout.h"
#include "core/presence.h"

static void on_refused(struct subscription *subscription)
{
    client_close(subscription->client, CLOSE_QUEUE_FULL, "upstream queue full");
}

static void on_paused(struct subscription *subscription)
{
    if (client_takes(subscription->client))
        client_pause(subscription, true);
}

static void on_resumed(struct session *session)
{
    struct subscription *subscription;
    DL_FOREACH (session->subscriptions, subscription)
        if (subscription->paused && client_takes(subscription->client))
            client_pause(subscription, false);
}

static uint64_t end_some(struct session *session, uint64_t n, unsigned code, const char *reason)
{
    struct subscription *subscription, *next;
    uint64_t ended = 0;
    DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
        if (ended == n)
            break;
        if (!client_takes(subscription->client))
            continue;
        ended++;
        joining_end(subscription, code, reason);
    }
    return ended;
}

static uint64_t close_some(struct hub *hub, struct session *session, uint64_t n, unsigned code,
                           const char *reason)
{
    struct subscription *subscription;
    uint64_t closed = 0;
    DL_FOREACH (session ? session->subscriptions : hub->lobby, subscription) {
        struct client *client = subscription->client;
        if (closed == n)
            break;
        if (subscription != &client->own || !client_takes(client))
            continue;
        closed++;
        client_close(client, code, reason);
    }
    return closed;
}

static void on_joined(struct session *session)
{
    client_ids_on_joined(session);
    presence_moved(session);
}

const struct audience_events audience_events = {
    .deliver = fanout_deliver,
    .moved = subscription_session_moved,
    .members = presence_moved,
    .joined = on_joined,
    .status = emit_status,
    .refused = on_refused,
    .acked = emit_acked,
    .expired = emit_expired,
    .paused = on_paused,
    .resumed = on_resumed,
    .end_some = end_some,
    .close_some = close_some,
};
