#include "core/client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/commands.h"
#include "core/fanout.h"
#include "core/follower.h"
#include "core/queue.h"
#include "core/session.h"
#include "core/state.h"

/* What the bucket holds at most, in thousandths; more than four million messages count as that. */
static uint32_t burst_milli(const struct conf *conf)
{
    uint32_t burst = conf->clients.rate_burst ? conf->clients.rate_burst
                                              : conf->clients.rate_messages;
    return burst < UINT32_MAX / 1000u ? burst * 1000u : UINT32_MAX;
}

enum status client_open(struct hub *hub, struct client *client, const struct target *target,
                        enum client_protocol protocol, unsigned window_bits)
{
    memset(client, 0, sizeof *client);
    client->hub = hub;
    client->state = CLIENT_GONE;
    struct session *session = session_open(hub, target);
    if (session)
        fanout_flush(session); /* what was placed in this turn is of the time before this client */
    if (session && session->state == SESSION_ENDED)
        session = session_open(hub, target); /* fenced by the flush */
    if (!session)
        return STATUS_LIMIT;
    client->protocol = (uint8_t)protocol;
    client->window_bits = (uint8_t)window_bits;
    client->opened_ms = hub->now_ms;
    client->rate_tokens_milli = burst_milli(hub->conf);
    client->rate_at_ms = (uint32_t)hub->now_ms;
    client->state = CLIENT_LIVE;
    client->request = attempt_come(&session->attempt, target->path, target->query);
    session_add_client(session, client);
    if (hub->conf->log.audit && target->user)
        client->user = strdup(target->user);
    follower_open(client, target);
    log_debug("client_opened", LOG_STR("session", session->id), LOG_U64("protocol", protocol));
    return STATUS_OK;
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

static struct wire *text_frame(const char *text)
{
    size_t len = strlen(text);
    uint8_t head[10];
    size_t head_len = frame_header(head, OPCODE_TEXT, false, len);
    struct wire *wire = wire_new(head_len + len);
    if (!wire)
        return NULL;
    memcpy(wire->bytes, head, head_len);
    memcpy(wire->bytes + head_len, text, len);
    return wire;
}

/* The canned answer to a heartbeat, NULL where it is none. */
static const char *reply_to(const struct conf *conf, const void *payload, size_t len)
{
    for (size_t i = 0; i < conf->clients.replies_len; i++) {
        const struct conf_pair *reply = &conf->clients.replies[i];
        if (strlen(reply->name) == len && !memcmp(reply->name, payload, len))
            return reply->value;
    }
    return NULL;
}

void client_audit(const struct client *client, size_t len)
{
    if (client->hub->conf->log.audit)
        log_info("audit", LOG_STR("user", client->user ? client->user : ""),
                 LOG_STR("session", client->session->id), LOG_U64("bytes", len));
}

void client_message(struct client *client, enum opcode opcode, const void *payload, size_t len)
{
    if (client->state == CLIENT_CLOSING || client->state == CLIENT_GONE)
        return;
    client->received++;
    if (client->protocol != CLIENT_RAW) {
        follower_message(client, opcode, payload, len);
        return;
    }
    const char *reply = opcode == OPCODE_TEXT ? reply_to(client->hub->conf, payload, len) : NULL;
    if (reply) {
        queue_wire(client, text_frame(reply));
        return;
    }
    if (!client_spend(client))
        return;
    commands_add(client->session, client, 0, "", opcode, payload, len);
}

void client_writable(struct client *client)
{
    if (client->state == CLIENT_LIVE || client->state == CLIENT_CATCHING)
        queue_drain(client);
}

void client_close(struct client *client, unsigned code, const char *reason)
{
    if (client->state == CLIENT_CLOSING || client->state == CLIENT_GONE)
        return;
    client->state = CLIENT_CLOSING;
    queue_discard(client);
    client->hub->setup.client_ops->close(client->hub->setup.client_ctx, client, code, reason);
}

void client_let_go(struct client *client)
{
    queue_discard(client);
    follower_gone(client);
    commands_client_gone(client);
    client->state = CLIENT_GONE;
}

void client_gone(struct client *client, unsigned code, const char *reason)
{
    struct session *session = client->session;
    if (!session)
        return; /* the hub is gone, or it never came in */
    client_let_go(client);
    log_info("client_closed", LOG_STR("session", session->id), LOG_STR("user", client->user),
             LOG_U64("code", code), LOG_STR("reason", reason),
             LOG_U64("duration_ms", client->hub->now_ms - client->opened_ms),
             LOG_U64("received", client->received), LOG_U64("sent", client->sent));
    free(client->user);
    client->user = NULL;
    session_remove_client(session, client);
}
