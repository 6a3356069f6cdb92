#include "core/client/protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/client/client_ids.h"
#include "core/client/emit.h"
#include "core/client/further.h"
#include "core/client/outgoing.h"
#include "core/client/subscribing.h"
#include "core/session/session.h"

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
        emit_not_subscribed(client, request->id);
}

static void on_subscribe(struct client *client, struct v1_request *request)
{
    if (client_spend(client))
        subscribing_ask(client, request);
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
        emit_ack(client, request->id);
        subscribing_check_token(client);
        break;
    case REFRESH_REFUSED: emit_error(client, &request->id, "unauthorized", why); break;
    case REFRESH_NOT_COVERED: client_close(client, CLOSE_UNAUTHORIZED, why); break;
    }
}

void protocol_message(struct client *client, enum opcode opcode, const void *payload, size_t len)
{
    struct v1_request request;
    struct v1_mistake mistake;
    const struct form *form = form_get(client->hub, client->form);
    enum status status = form->request(client->hub->forms.items[client->form].ctx, opcode, payload,
                                       len, &request, &mistake);
    if (status == STATUS_NO_MEMORY) {
        client_close(client, CLOSE_TRY_LATER, "out of memory");
        return;
    }
    if (status != STATUS_OK) {
        emit_error(client, mistake.has_id ? &mistake.id : NULL, mistake.code, mistake.why);
        return;
    }
    switch (request.type) {
    case V1_PING: emit_pong(client); break;
    case V1_SEND: on_send(client, &request); break;
    case V1_SUBSCRIBE:
    case V1_UNSUBSCRIBE: on_subscribe(client, &request); break;
    case V1_REFRESH: on_refresh(client, &request); break;
    }
    v1_request_fini(&request);
}
