#include "core/client/protocol.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/v1.h"
#include "core/client/client_ids.h"
#include "core/client/outgoing.h"
#include "core/session/link.h"
#include "core/session/state.h"

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
    rng_secure(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
}

struct brought protocol_open(struct client *client, const char *token)
{
    struct brought brought = {0};
    struct client_id *id = calloc(1, sizeof *id);
    if (!id)
        abort();
    brought.has_place = token && v1_resume(token, &brought.at, id->text) == STATUS_OK;
    brought.has_id = id->text[0];
    if (!brought.has_id)
        make_id(id->text);
    client->id = id;
    return brought;
}

void protocol_welcome(struct subscription *subscription, struct position at, bool resumed)
{
    struct client *client = subscription->client;
    const struct session *session = subscription->session;
    struct v1_welcome message = {
        .node = client->hub->id,
        .session = session->id,
        .client = client->id->text,
        .at = at,
        .resumed = resumed,
        .upstream = upstream_status_name(link_status(session)),
    };
    const struct v1_head head = head_of(client, name_of(subscription));
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->welcome(ctx_of(client), &head, &message));
}

static void send_error(struct client *client, const uint64_t *id, const char *code,
                       const char *message)
{
    const struct v1_head head = head_of(client, NULL);
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->error(ctx_of(client), &head, id, code, message));
}

static void send_pong(struct client *client)
{
    const struct v1_head head = head_of(client, NULL);
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->pong(ctx_of(client), &head));
}

static void on_send(struct client *client, const struct v1_request *request)
{
    if (!client_spend(client))
        return;
    if (!request->id)
        send_error(client, &request->id, "bad_id", "id must be a number from 1 on");
    else
        outgoing_send(&client->own, request->id, request->opcode, request->payload, request->len);
}

static void send_ack(struct client *client, const char *session, uint64_t id)
{
    const struct v1_head head = head_of(client, session);
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->ack(ctx_of(client), &head, id));
}

/* A signature is checked for it, so it counts as a message. */
static void on_refresh(struct client *client, const struct v1_request *request)
{
    if (!client_spend(client))
        return;
    const struct hub_setup *setup = &client->hub->setup;
    const char *why = "this door has no tokens";
    enum refresh_verdict verdict = REFRESH_REFUSED;
    if (setup->client_ops->refresh)
        verdict = setup->client_ops->refresh(setup->client_ctx, client,
                                             (const char *)request->payload, &why);
    switch (verdict) {
    case REFRESH_TAKEN: send_ack(client, NULL, request->id); break;
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
    case V1_REFRESH: on_refresh(client, &request); break;
    }
    if (request.type == V1_REFRESH)
        explicit_bzero(request.payload, request.len);
    free(request.payload);
}

void protocol_ack(struct subscription *subscription, uint64_t send_id)
{
    send_ack(subscription->client, name_of(subscription), send_id);
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
        if (!client->follows || !client_takes(client) || !subscription_is_told(subscription))
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
