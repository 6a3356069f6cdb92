#include "core/client/client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/client/further.h"
#include "core/client/rate.h"
#include "core/client/retry.h"
#include "core/pubs.h"
#include "core/session/session.h"
#include "core/session/state.h"

#define OWN_QUEUE_BYTES (1u << 20) /* for a client without subscriptions: the default of services \
                                    */

static const char *const state_names[CLIENT_STATES] = {"gone", "open", "closing"};

/* Which states may follow which, as bits. */
static const unsigned next_states[CLIENT_STATES] = {
    [CLIENT_GONE] = 1u << CLIENT_OPEN,
    [CLIENT_OPEN] = 1u << CLIENT_CLOSING | 1u << CLIENT_GONE,
    [CLIENT_CLOSING] = 1u << CLIENT_GONE,
};

void client_set_state(struct client *client, enum client_state state)
{
    assert(next_states[client->state] & 1u << state);
    log_debug("client_state", LOG_STR("from", state_names[client->state]),
              LOG_STR("to", state_names[state]));
    client->state = (uint8_t)state;
}

/* --- rate --- */

/* The size of the token bucket, in thousandths of a message; at most four million messages. */
static uint32_t burst_milli(const struct conf *conf)
{
    uint32_t burst = conf->clients.rate_burst ? conf->clients.rate_burst
                                              : conf->clients.rate_messages;
    return burst < UINT32_MAX / 1000u ? burst * 1000u : UINT32_MAX;
}

void client_rate_start(struct client *client)
{
    client->rate_tokens_milli = burst_milli(client->hub->conf);
    client->rate_at_ms = (uint32_t)client->hub->now_ms;
}

/* Token bucket; closes with 4002 where it is empty. */
bool client_spend(struct client *client)
{
    const struct conf *conf = client->hub->conf;
    uint64_t messages = conf->clients.rate_messages, per_ms = conf->clients.rate_per_ms;
    if (!messages || !per_ms)
        return true;
    uint32_t now = (uint32_t)client->hub->now_ms;
    uint64_t gained = (uint64_t)(uint32_t)(now - client->rate_at_ms) * messages * 1000 / per_ms;
    uint64_t tokens = client->rate_tokens_milli + gained;
    if (tokens > burst_milli(conf))
        tokens = burst_milli(conf);
    if (gained)
        client->rate_at_ms = now;
    if (tokens < 1000) {
        client->rate_tokens_milli = (uint32_t)tokens;
        metric_drop(DROP_RATE, 1);
        client_close(client, CLOSE_RATE, "rate limit exceeded");
        return false;
    }
    client->rate_tokens_milli = (uint32_t)(tokens - 1000);
    return true;
}

/* --- what leaves --- */

void client_mark_due(struct client *client)
{
    struct hub *hub = client->hub;
    if (client->due_at || client->blocked)
        return;
    if (hub->due_len == hub->due_cap) {
        size_t cap = hub->due_cap ? hub->due_cap * 2 : 16;
        struct client **due = realloc(hub->due, cap * sizeof(struct client *));
        if (!due)
            abort();
        hub->due = due;
        hub->due_cap = cap;
    }
    hub->due[hub->due_len++] = client;
    client->due_at = (uint32_t)hub->due_len;
}

static void forget_due(struct client *client)
{
    if (client->due_at)
        client->hub->due[client->due_at - 1] = NULL;
    client->due_at = 0;
}

/* The bound of a client's queue: that of the service whose message is added, whatever else is
 * queued. */
static struct queue_rules rules_for(const struct client *client, const struct subscription *of)
{
    const struct session *session = of ? of->session : client->own.session;
    if (!session && client->further && client->further->len)
        session = client->further->items[0]->session;
    struct queue_rules rules = {
        .policy = SLOW_CLOSE, .bytes = OWN_QUEUE_BYTES, .notes = client->follows};
    if (!session)
        return rules;
    rules.policy = session->service->slow_client.policy;
    rules.bytes = session->service->slow_client.queue_bytes;
    return rules;
}

/* Makes room by the policy. Returns false where the client is closed instead. */
static bool make_room(struct client *client, const struct subscription *of, size_t len)
{
    const struct queue_rules rules = rules_for(client, of);
    if (!client->queue)
        client->queue = queue_take(&client->hub->spare_queues);
    if (queue_make_room(client->queue, &rules, of, len) == STATUS_OK)
        return true;
    metric_drop(DROP_SLOW_CLIENT, client->queue->len + 1);
    queue_pop(client->queue, client->queue->len); /* counted once: the close would do it again */
    client_close(client, CLOSE_SLOW, "slow client");
    return false;
}

void client_send(struct client *client, struct wire *wire)
{
    if (!wire) {
        client_close(client, CLOSE_TRY_LATER, "out of memory");
    } else if (!client_takes(client) || !make_room(client, NULL, wire->len)) {
        wire_unref(wire);
    } else {
        queue_add_wire(client->queue, wire);
        client_mark_due(client);
    }
}

void client_enqueue(struct subscription *subscription, struct publication *publication)
{
    struct client *client = subscription->client;
    if (!client_takes(client) || (!client->follows && is_gap_note(publication)) ||
        !make_room(client, subscription, queue_cost(publication->len)))
        return;
    queue_add(client->queue, subscription, publication);
    client_mark_due(client);
}

void client_enqueue_missed(struct subscription *subscription, const struct pubs *missed)
{
    struct client *client = subscription->client;
    for (size_t i = 0; client_takes(client) && i < missed->len; i++) {
        if (!client->follows && is_gap_note(missed->items[i]))
            continue;
        if (!client->queue)
            client->queue = queue_take(&client->hub->spare_queues);
        queue_add(client->queue, subscription, missed->items[i]);
        client_mark_due(client);
    }
}

/* Mostly the encoding is there: then the subscription, which may have left the processor's cache,
 * is not looked at. */
static const uint8_t *item_frame(struct client *client, const struct queue_item *item, size_t *len)
{
    if (!item->subscription) {
        *len = item->wire->len;
        return item->wire->bytes;
    }
    unsigned form = client_form(client, item->subscription);
    const struct encoding *encoding = publication_encoding(item->publication, form);
    if (!encoding)
        encoding = form_of(client->hub, form, item->publication, item->subscription->session->id);
    if (!encoding)
        return NULL;
    *len = encoding->len;
    return encoding->bytes;
}

/* Gathers frames into the scratch buffer; a first one that is larger than that, or the only one,
 * goes alone and in place. Returns how many items; 0: out of memory. */
static size_t gather_frames(struct client *client, const uint8_t **out, size_t *out_len)
{
    struct queue *queue = client->queue;
    uint8_t *scratch = client->hub->scratch;
    size_t n = 0, total = 0, len;
    for (; n < queue->len; n++) {
        const uint8_t *frame = item_frame(client, queue_at(queue, n), &len);
        if (!frame)
            break;
        if (!n && (len > SCRATCH_BYTES || queue->len == 1)) {
            *out = frame;
            *out_len = len;
            return 1;
        }
        if (total + len > SCRATCH_BYTES)
            break;
        memcpy(scratch + total, frame, len);
        total += len;
    }
    *out = scratch;
    *out_len = total;
    return n;
}

static void return_queue(struct client *client)
{
    queue_return(&client->hub->spare_queues, client->queue);
    client->queue = NULL;
}

/* Writes until nothing is left or the socket takes no more. Returns false where memory ran out. */
static bool write_out(struct client *client)
{
    struct hub *hub = client->hub;
    while (client->queue && client->queue->len && !client->blocked) {
        const uint8_t *frames;
        size_t len, n = gather_frames(client, &frames, &len);
        if (!n)
            return false;
        if (len &&
            hub->setup.client_ops->write(hub->setup.client_ctx, client, frames, len) != STATUS_OK) {
            client->blocked = true;
            rate_take_back(client);
            break;
        }
        metric_add(METRIC_BYTES_OUT, len);
        queue_pop(client->queue, n);
    }
    if (client->queue && !client->queue->len)
        return_queue(client);
    return true;
}

static bool is_revoked(const struct subscription *subscription)
{
    return session_is_owned(subscription->session) ||
           subscription->session->state == SESSION_FENCED;
}

/* A node that was paused in the middle of a turn must not go on (contract section 9). */
static void revoke_where_fenced(struct client *client)
{
    const struct queue *queue = client->queue;
    if (!queue || client->blocked || queue->bytes == queue->own_bytes ||
        node_may_write(client->hub))
        return;
    metric_drop(DROP_FENCED, queue_revoke(client->queue, is_revoked, client->follows));
}

void client_drain(struct client *client)
{
    forget_due(client);
    revoke_where_fenced(client);
    if (client_takes(client) && !write_out(client))
        client_close(client, CLOSE_TRY_LATER, "out of memory");
}

void client_unblock(struct client *client)
{
    client->blocked = false;
    if (client->queue)
        client_mark_due(client);
    rate_read_on(client);
}

/* --- its end, and what stops it --- */

static bool is_paused(const struct client *client)
{
    return client->own.paused ||
           (client->further && (client->further->paused || client->further->asking));
}

static void report_pause(struct client *client, bool before)
{
    struct hub *hub = client->hub;
    if (is_paused(client) != before && client_takes(client))
        hub->setup.client_ops->pause(hub->setup.client_ctx, client, !before);
}

void client_pause(struct subscription *subscription, bool paused)
{
    struct client *client = subscription->client;
    bool before = is_paused(client);
    if (subscription->paused == paused)
        return;
    subscription->paused = paused;
    if (subscription != &client->own)
        client->further->paused += paused ? 1 : (uint32_t)-1;
    report_pause(client, before);
}

void client_pause_asking(struct client *client, bool paused)
{
    bool before = is_paused(client);
    client->further->asking = paused;
    report_pause(client, before);
}

const char *client_session(const struct client *client)
{
    return client->own.session ? client->own.session->id : "";
}

size_t client_subscriptions(const struct client *client)
{
    return client->further ? client->further->len : 0;
}

static void discard(struct client *client)
{
    forget_due(client);
    if (!client->queue)
        return;
    metric_drop(DROP_CLIENT_GONE, client->queue->len);
    return_queue(client);
}

void client_close(struct client *client, unsigned code, const char *reason)
{
    struct hub *hub = client->hub;
    if (!client_takes(client))
        return;
    if (client->queue) /* its publications may have been revoked; answers to it still leave */
        metric_drop(DROP_CLIENT_GONE, queue_keep_own(client->queue));
    write_out(client);
    client_set_state(client, CLIENT_CLOSING);
    discard(client);
    char text[RETRY_REASON_BYTES];
    hub->setup.client_ops->close(hub->setup.client_ctx, client, code,
                                 retry_reason(hub, code, reason, text));
}

void client_fini(struct client *client)
{
    discard(client);
    free(client->id);
    directory_remove(client->entry);
    client->id = NULL;
    client->entry = NULL;
}

void client_audit(const struct subscription *subscription, size_t len)
{
    const struct client *client = subscription->client;
    if (client->hub->conf->log.audit)
        log_info("audit", LOG_STR("user", client_user(client) ? client_user(client) : ""),
                 LOG_STR("session", subscription->session->id), LOG_U64("bytes", len));
}

bool client_has_room(const struct client *client)
{
    return !client->queue || client->queue->bytes <= rules_for(client, NULL).bytes / 2;
}

size_t client_queue_bytes(const struct client *client)
{
    return client->queue ? client->queue->bytes : 0;
}

void client_check(const struct client *client)
{
    assert(client->state < CLIENT_STATES);
    assert(client->state == CLIENT_OPEN || (!client->queue && !client->due_at));
    if (client->queue) {
        assert(client->queue->len && (client->blocked || client->due_at));
        queue_check(client->queue);
    }
    assert(!client->due_at || client->hub->due[client->due_at - 1] == client);
}
