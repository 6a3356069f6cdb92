#include "core/client/door.h"

#include <stdlib.h>
#include <string.h>

#include "common/address.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/v1.h"
#include "core/client/client_ids.h"
#include "core/client/emit.h"
#include "core/client/further.h"
#include "core/client/outgoing.h"
#include "core/client/protocol.h"
#include "core/client/subscribing.h"
#include "core/presence.h"
#include "core/session/outbox.h"
#include "core/session/session.h"
#include "core/session/state.h"

/* The session of a target; what was placed in this turn is of the time before the client and is
 * delivered now. NULL: no memory. */
static struct session *session_for(struct hub *hub, const struct target *target)
{
    struct session *session = session_open(hub, target);
    if (session)
        session_flush(session);
    return session;
}

static void join(struct subscription *subscription, const struct target *target)
{
    struct session *session = subscription->session;
    if (session->rates.first) /* those with a rate stand behind the others */
        DL_PREPEND_ELEM(session->subscriptions, session->rates.first, subscription);
    else
        DL_APPEND(session->subscriptions, subscription);
    subscription->request = session_came(session, target);
    /* Whose URL it is: a further session is named by one of its own */
    struct watcher *watcher = presence_came(session, target->user);
    if (subscription != &subscription->client->own)
        further_set_watcher(subscription, watcher);
}

static void count(struct hub *hub, int change)
{
    hub->counts.clients += (uint64_t)change;
    metric_set(METRIC_CLIENTS, hub->counts.clients);
}

/* Without a word to the session, or of it to others. */
static void forget(struct subscription *subscription)
{
    struct session *session = subscription->session;
    outbox_from_gone(session, subscription);
    if (subscription->client->id)
        outbox_connection_gone(session, subscription->client->id->text);
    client_pause(subscription, false);
    subscription_close(subscription);
    DL_DELETE(session->subscriptions, subscription);
    subscription->session = NULL;
}

static struct watcher *watcher_of(const struct subscription *subscription)
{
    const struct client *client = subscription->client;
    return subscription == &client->own ? presence_find(subscription->session, client_user(client))
                                        : further_watcher(subscription);
}

static void leave(struct subscription *subscription)
{
    struct session *session = subscription->session;
    struct watcher *watcher = watcher_of(subscription);
    forget(subscription);
    presence_left(session, watcher);
    session_left(session, subscription->request);
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
    if (!target->subscribes && !(client->own.session = session_for(hub, target))) {
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
        join(&client->own, target);
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
    further_leave_all(client, leave);
    if (client->own.session)
        leave(&client->own);
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
    further_leave_all(client, forget);
    if (client->own.session)
        forget(&client->own);
    else
        DL_DELETE(client->hub->lobby, &client->own);
    further_free_all(client->hub, forget);
    client_fini(client);
}

void door_forget_all(struct hub *hub)
{
    struct session *session, *next;
    further_free_all(hub, forget);
    while (hub->lobby)
        forget_client(hub->lobby->client);
    HASH_ITER (hh, hub->sessions->by_id, session, next)
        while (session->subscriptions)
            forget_client(session->subscriptions->client);
    subscribing_free_all(hub);
}

/* --- further sessions --- */

struct subscription *door_subscribe(struct client *client, const struct target *target)
{
    struct session *session = session_for(client->hub, target);
    struct subscription *subscription = session ? further_add(client, session, target->vin) : NULL;
    if (session && !subscription) /* it may have been opened for this one */
        session_left(session, session_came(session, target));
    if (!subscription)
        return NULL;
    join(subscription, target);
    client_ids_follow(subscription);
    char id[V1_CLIENT_MAX + 1];
    struct position at = {0, 0};
    bool has_token = target->resume && v1_resume(target->resume, &at, id) == STATUS_OK;
    subscription_open(subscription, target, has_token, at);
    return subscription;
}

void door_unsubscribe(struct subscription *subscription)
{
    further_take_out(subscription);
    leave(subscription);
    free(subscription);
}
