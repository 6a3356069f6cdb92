#include "core/client/door.h"

#include <stdlib.h>
#include <string.h>

#include "common/address.h"
#include "common/log.h"
#include "common/metrics.h"
#include "core/client/client_ids.h"
#include "core/client/emit.h"
#include "core/client/further.h"
#include "core/client/joining.h"
#include "core/client/outgoing.h"
#include "core/client/protocol.h"
#include "core/client/subscribing.h"
#include "core/session/outbox.h"
#include "core/session/session.h"
#include "core/session/state.h"

static void count(struct hub *hub, int change)
{
    hub->counts.clients += (uint64_t)change;
    metric_set(METRIC_CLIENTS, hub->counts.clients);
}

enum status door_open(struct hub *hub, struct client *client, const struct target *target,
                      const struct in6_addr *address, unsigned form)
{
    memset(client, 0, sizeof(*client));
    client->hub = hub;
    client->own.client = client;
    client->entry = directory_add(client, target);
    if (!client->entry)
        return STATUS_LIMIT;
    if (!target->subscribes && !(client->own.session = joining_session(hub, target))) {
        directory_remove(client->entry);
        return STATUS_LIMIT;
    }
    client->form = (uint8_t)form;
    client->follows = form_get(hub, form)->follows;
    client->opened_ms = hub->now_ms;
    client_rate_start(client);
    client_set_state(client, CLIENT_OPEN);
    count(hub, 1);
    client->address = *address;
    struct brought brought = {0};
    if (client->follows)
        brought = protocol_open(client, target->resume);
    if (client->own.session)
        joining_add(&client->own, target);
    else
        DL_APPEND(hub->lobby, &client->own);
    if (client->id)
        client_ids_add(client, client->id);
    if (client->own.session)
        subscription_open(&client->own, target, brought.has_place, brought.at);
    else
        emit_welcome_alone(client);
    log_debug("client_opened", LOG_STR("session", client_session(client)),
              LOG_STR("form", form_get(hub, form)->name));
    return STATUS_OK;
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

static void send_text(struct client *client, const char *text)
{
    const struct form *form = form_get(client->hub, client->form);
    client_send(client, form->text(client->hub->forms.items[client->form].ctx, text, strlen(text)));
}

void door_message(struct client *client, enum opcode opcode, const void *payload, size_t len)
{
    if (!client_takes(client))
        return;
    client->received++;
    if (client->follows) {
        protocol_message(client, opcode, payload, len);
        return;
    }
    const char *reply = opcode == OPCODE_TEXT ? reply_to(client->hub->conf, payload, len) : NULL;
    if (reply)
        send_text(client, reply);
    else if (client_spend(client))
        outgoing_send(&client->own,
                      &(struct outbox_message){
                          .sender = "", .opcode = opcode, .payload = payload, .len = len});
}

void door_writable(struct client *client)
{
    client_unblock(client);
}

/* It leaves all its sessions, those beside its own little by little. */
static void leave_all(struct client *client)
{
    subscribing_free(client);
    further_leave_all(client, joining_leave);
    if (client->own.session)
        joining_leave(&client->own);
    else
        DL_DELETE(client->hub->lobby, &client->own);
}

void door_gone(struct client *client, unsigned code, const char *reason)
{
    if (client->state == CLIENT_GONE)
        return; /* the hub is gone, or it never came in */
    char address[INET6_ADDRSTRLEN];
    address_print(&client->address, address);
    log_info("client_closed", LOG_STR("session", client_session(client)),
             LOG_STR("user", client_user(client)), LOG_STR("address", address),
             LOG_U64("code", code), LOG_STR("reason", reason),
             LOG_U64("duration_ms", client->hub->now_ms - client->opened_ms),
             LOG_U64("received", client->received), LOG_U64("sent", client->sent));
    client_set_state(client, CLIENT_GONE);
    count(client->hub, -1);
    if (client->id)
        client_ids_remove(client, client->id);
    leave_all(client);
    client_fini(client);
}

static void forget_client(struct client *client)
{
    client_set_state(client, CLIENT_GONE);
    count(client->hub, -1);
    if (client->id)
        client_ids_remove(client, client->id);
    subscribing_free(client);
    further_leave_all(client, joining_forget);
    if (client->own.session)
        joining_forget(&client->own);
    else
        DL_DELETE(client->hub->lobby, &client->own);
    further_free_all(client->hub, joining_forget);
    client_fini(client);
}

void door_forget_all(struct hub *hub)
{
    struct session *session, *next;
    further_free_all(hub, joining_forget);
    while (hub->lobby)
        forget_client(hub->lobby->client);
    HASH_ITER (hh, hub->sessions->by_id, session, next)
        while (session->subscriptions)
            forget_client(session->subscriptions->client);
    subscribing_free_all(hub);
}
