#include "core/client/emit.h"

#include "common/metrics.h"
#include "core/client/client_ids.h"
#include "core/client/subscribing.h"
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

static const struct form *form_of_client(const struct client *client)
{
    return form_get(client->hub, client->form);
}

struct wire *emit_make_welcome(const struct subscription *subscription,
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

void emit_welcome(struct subscription *subscription, const struct subscribe_answer *answer,
                  struct position at, bool resumed)
{
    client_send(subscription->client, emit_make_welcome(subscription, answer, at, resumed));
}

void emit_welcome_alone(struct client *client)
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

struct wire *emit_make_error(const struct client *client, const struct v1_error *error)
{
    const struct v1_head head = head_of(client, NULL);
    return form_of_client(client)->error(ctx_of(client), &head, error);
}

void emit_error(struct client *client, const uint64_t *id, const char *code, const char *message)
{
    const struct v1_error error = {.id = id, .code = code, .message = message};
    client_send(client, emit_make_error(client, &error));
}

void emit_not_subscribed(struct client *client, uint64_t id)
{
    metric_refuse(REFUSE_NOT_SUBSCRIBED);
    emit_error(client, &id, "not_subscribed",
               "this connection has no subscription of that session");
}

struct wire *emit_make_closed(const struct client *client, const uint64_t *id, const char *session,
                              unsigned code, const char *reason)
{
    const struct v1_head head = head_of(client, NULL);
    const struct v1_closed closed = {.id = id, .session = session, .code = code, .reason = reason};
    return form_of_client(client)->closed(ctx_of(client), &head, &closed);
}

void emit_closed(struct subscription *subscription, const uint64_t *id, unsigned code,
                 const char *reason)
{
    struct client *client = subscription->client;
    client_send(client, emit_make_closed(client, id, subscription->session->id, code, reason));
}

void emit_pong(struct client *client)
{
    const struct v1_head head = head_of(client, NULL);
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->pong(ctx_of(client), &head));
}

void emit_ack(struct client *client, uint64_t id)
{
    const struct v1_head head = head_of(client, NULL);
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->ack(ctx_of(client), &head, id));
}

void emit_acked(struct subscription *subscription, uint64_t send_id)
{
    if (client_takes(subscription->client))
        emit_ack(subscription->client, send_id);
}

void emit_expired(struct subscription *subscription, uint64_t send_id)
{
    if (client_takes(subscription->client))
        emit_error(subscription->client, &send_id, "expired",
                   "it did not go upstream within its ttl, and never will");
}

static struct wire *presence_for(const struct subscription *subscription,
                                 const struct v1_watcher *users, size_t len, uint64_t more)
{
    const struct client *client = subscription->client;
    const struct v1_head head = head_of(client, name_of(subscription));
    return form_get(client->hub, client->form)->presence(ctx_of(client), &head, users, len, more);
}

void emit_presence(struct session *session, const struct v1_watcher *users, size_t len,
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

void emit_status(struct session *session)
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
