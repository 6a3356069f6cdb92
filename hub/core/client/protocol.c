#include "core/client/protocol.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "common/v1.h"
#include "core/client/client_ids.h"
#include "core/client/further.h"
#include "core/client/outgoing.h"
#include "core/client/subscribing.h"
#include "core/presence.h"
#include "core/session/link.h"
#include "core/session/session.h"

static struct v1_head head_of(const struct client *client, const char *session)
{
    return (struct v1_head){client->hub->setup.unix_ms(client->hub->setup.clock_ctx), session};
}

/* The id of its session where the client has several. */
static const char *name_of(const struct subscription *subscription)
{
    return subscription == &subscription->client->own ? NULL : subscription->session->id;
}

static void *ctx_of(const struct client *client)
{
    return client->hub->forms.items[client->form].ctx;
}

static void make_id(char id[V1_CLIENT_MAX + 1])
{
    uint8_t random[16];
    rng_secure(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
}

struct brought protocol_open(struct client *client, const char *token)
{
    struct brought brought = {0};
    struct client_id *id = calloc(1, sizeof(*id));
    if (!id)
        abort();
    brought.has_place = token && v1_resume(token, &brought.at, id->text) == STATUS_OK;
    id->resumed = id->text[0];
    if (!id->resumed)
        make_id(id->text);
    client->id = id;
    return brought;
}

static const struct form *form_of_client(const struct client *client)
{
    return form_get(client->hub, client->form);
}

struct wire *protocol_make_welcome(const struct subscription *subscription,
                                   const struct subscribe_answer *answer, struct position at,
                                   bool resumed)
{
    const struct client *client = subscription->client;
    const struct session *session = subscription->session;
    struct v1_welcome message = {
        .node = client->hub->id,
        .session = session->id,
        .client = client->id->text,
        .at = at,
        .resumed = resumed,
        .upstream = upstream_status_name(link_status(session)),
    };
    if (answer) {
        message.url = (struct v1_text){answer->url, answer->url_len};
        message.id = answer->id;
    }
    const struct v1_head head = head_of(client, name_of(subscription));
    return form_of_client(client)->welcome(ctx_of(client), &head, &message);
}

void protocol_welcome(struct subscription *subscription, const struct subscribe_answer *answer,
                      struct position at, bool resumed)
{
    client_send(subscription->client, protocol_make_welcome(subscription, answer, at, resumed));
    presence_welcomed(subscription->session);
}

void protocol_welcome_alone(struct client *client)
{
    struct v1_welcome message = {
        .node = client->hub->id,
        .session = "",
        .client = client->id->text,
        .upstream = upstream_status_name(UPSTREAM_DOWN),
    };
    const struct v1_head head = head_of(client, NULL);
    client_send(client, form_of_client(client)->welcome(ctx_of(client), &head, &message));
}

struct wire *protocol_make_error(const struct client *client, const struct v1_error *error)
{
    const struct v1_head head = head_of(client, NULL);
    return form_of_client(client)->error(ctx_of(client), &head, error);
}

static void send_error(struct client *client, const uint64_t *id, const char *code,
                       const char *message)
{
    const struct v1_error error = {.id = id, .code = code, .message = message};
    client_send(client, protocol_make_error(client, &error));
}

void protocol_not_subscribed(struct client *client, uint64_t id)
{
    metric_refuse(REFUSE_NOT_SUBSCRIBED);
    send_error(client, &id, "not_subscribed",
               "this connection has no subscription of that session");
}

struct wire *protocol_make_closed(const struct client *client, const uint64_t *id,
                                  const char *session, unsigned code, const char *reason)
{
    const struct v1_head head = head_of(client, NULL);
    const struct v1_closed closed = {.id = id, .session = session, .code = code, .reason = reason};
    return form_of_client(client)->closed(ctx_of(client), &head, &closed);
}

void protocol_closed(struct subscription *subscription, const uint64_t *id, unsigned code,
                     const char *reason)
{
    struct client *client = subscription->client;
    client_send(client, protocol_make_closed(client, id, subscription->session->id, code, reason));
}

static void send_pong(struct client *client)
{
    const struct v1_head head = head_of(client, NULL);
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->pong(ctx_of(client), &head));
}

/* The subscription that a SEND names; NULL: the client does not follow that session. */
static struct subscription *named_by(struct client *client, const char *name)
{
    if (!name)
        return client->own.session ? &client->own : NULL;
    const struct session *session = session_find(client->hub, name, strlen(name));
    return session ? further_find(client, session) : NULL;
}

static void on_send(struct client *client, const struct v1_request *request)
{
    if (!client_spend(client))
        return;
    struct subscription *from = named_by(client, request->session);
    const struct outbox_message message = {.send_id = request->id,
                                           .sender = client->id->text,
                                           .opcode = request->opcode,
                                           .payload = request->payload,
                                           .len = request->len,
                                           .ttl_ms = request->ttl_ms};
    if (from)
        outgoing_send(from, &message);
    else
        protocol_not_subscribed(client, request->id);
}

static void on_subscribe(struct client *client, struct v1_request *request)
{
    if (client_spend(client))
        subscribing_ask(client, request);
}

static void send_ack(struct client *client, uint64_t id)
{
    const struct v1_head head = head_of(client, NULL);
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->ack(ctx_of(client), &head, id));
}

/* Checking the signature costs time, so a REFRESH counts as a message of the client's rate. */
static void on_refresh(struct client *client, const struct v1_request *request)
{
    if (!client_spend(client))
        return;
    const struct hub_setup *setup = &client->hub->setup;
    const char *why = "REFRESH does not apply: this connection has no token";
    enum refresh_verdict verdict = REFRESH_REFUSED;
    if (setup->client_ops->refresh)
        verdict = setup->client_ops->refresh(setup->client_ctx, client,
                                             (const char *)request->payload, &why);
    switch (verdict) {
    case REFRESH_TAKEN:
        send_ack(client, request->id);
        subscribing_check_token(client);
        break;
    case REFRESH_REFUSED: send_error(client, &request->id, "unauthorized", why); break;
    case REFRESH_NOT_COVERED: client_close(client, CLOSE_UNAUTHORIZED, why); break;
    }
}

void protocol_message(struct client *client, enum opcode opcode, const void *payload, size_t len)
{
    struct v1_request request;
    struct v1_mistake mistake;
    const struct form *form = form_get(client->hub, client->form);
    enum status status = form->request(ctx_of(client), opcode, payload, len, &request, &mistake);
    if (status == STATUS_NO_MEMORY) {
        client_close(client, CLOSE_TRY_LATER, "out of memory");
        return;
    }
    if (status != STATUS_OK) {
        send_error(client, mistake.has_id ? &mistake.id : NULL, mistake.code, mistake.why);
        return;
    }
    switch (request.type) {
    case V1_PING: send_pong(client); break;
    case V1_SEND: on_send(client, &request); break;
    case V1_SUBSCRIBE:
    case V1_UNSUBSCRIBE: on_subscribe(client, &request); break;
    case V1_REFRESH: on_refresh(client, &request); break;
    }
    v1_request_fini(&request);
}

void protocol_ack(struct subscription *subscription, uint64_t send_id)
{
    if (client_takes(subscription->client))
        send_ack(subscription->client, send_id);
}

void protocol_expired(struct subscription *subscription, uint64_t send_id)
{
    if (client_takes(subscription->client))
        send_error(subscription->client, &send_id, "expired",
                   "it did not go upstream within its ttl, and never will");
}

static struct wire *presence_for(const struct subscription *subscription,
                                 const struct v1_watcher *users, size_t len, uint64_t more)
{
    const struct client *client = subscription->client;
    const struct v1_head head = head_of(client, name_of(subscription));
    return form_get(client->hub, client->form)->presence(ctx_of(client), &head, users, len, more);
}

void protocol_presence(struct session *session, const struct v1_watcher *users, size_t len,
                       uint64_t more)
{
    struct subscription *subscription, *next;
    struct wire *wires[FORM_KEYS_MAX] = {NULL};
    DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
        struct client *client = subscription->client;
        if (!client->follows || !client_takes(client) || !subscription_has_welcome(subscription) ||
            !form_get(client->hub, client->form)->presence)
            continue;
        struct wire **wire = &wires[subscription_form(subscription)];
        if (!*wire)
            *wire = presence_for(subscription, users, len, more);
        client_send(client, *wire ? wire_ref(*wire) : NULL);
    }
    for (size_t form = 0; form < FORM_KEYS_MAX; form++)
        if (wires[form])
            wire_unref(wires[form]);
}

static struct wire *status_for(const struct subscription *subscription)
{
    const struct client *client = subscription->client;
    const struct session *session = subscription->session;
    const struct v1_head head = head_of(client, name_of(subscription));
    return form_get(client->hub, client->form)
        ->status(ctx_of(client), &head, upstream_status_name(link_status(session)),
                 *link_reason(session) ? link_reason(session) : NULL);
}

void protocol_status(struct session *session)
{
    struct subscription *subscription, *next;
    struct wire *wires[FORM_KEYS_MAX] = {NULL};
    DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
        struct client *client = subscription->client;
        if (!client->follows || !client_takes(client) || !subscription_has_welcome(subscription))
            continue;
        struct wire **wire = &wires[subscription_form(subscription)];
        if (!*wire)
            *wire = status_for(subscription);
        client_send(client, *wire ? wire_ref(*wire) : NULL);
    }
    for (size_t form = 0; form < FORM_KEYS_MAX; form++)
        if (wires[form])
            wire_unref(wires[form]);
}
