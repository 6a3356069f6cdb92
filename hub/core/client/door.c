#include "core/client/door.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/address.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/v1.h"
#include "core/client/client_ids.h"
#include "core/client/outgoing.h"
#include "core/client/protocol.h"
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

static void join(struct subscription *subscription, struct client *client, struct session *session,
                 const struct target *target)
{
    *subscription = (struct subscription){.client = client, .session = session};
    DL_APPEND(session->subscriptions, subscription);
    subscription->request = session_came(session, target);
}

/* Without a word to the session, or of it to others. */
static void forget(struct subscription *subscription)
{
    struct session *session = subscription->session;
    outbox_from_gone(session, subscription);
    client_pause(subscription, false);
    subscription_close(subscription);
    DL_DELETE(session->subscriptions, subscription);
    subscription->session = NULL;
}

static void leave(struct subscription *subscription)
{
    struct session *session = subscription->session;
    forget(subscription);
    session_left(session, subscription->request);
}

enum status door_open(struct hub *hub, struct client *client, const struct target *target,
                      const struct in6_addr *address, unsigned form)
{
    memset(client, 0, sizeof *client);
    client->hub = hub;
    struct session *session = session_for(hub, target);
    if (!session)
        return STATUS_LIMIT;
    client->form = (uint8_t)form;
    client->follows = form_get(hub, form)->follows;
    client->opened_ms = hub->now_ms;
    client_rate_start(client);
    client_set_state(client, CLIENT_OPEN);
    client->address = *address;
    if (target->user)
        client->user = strdup(target->user);
    struct brought brought = {0};
    if (client->follows)
        brought = protocol_open(client, target->resume);
    join(&client->own, client, session, target);
    if (client->id)
        client_ids_add(client, client->id, brought.has_id);
    subscription_open(&client->own, target, brought.has_place, brought.at);
    log_debug("client_opened", LOG_STR("session", session->id),
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
        outgoing_send(&client->own, 0, opcode, payload, len);
}

void door_writable(struct client *client)
{
    client_unblock(client);
}

/* It leaves all its sessions; the own one last, which the log names. */
static void leave_all(struct client *client)
{
    struct further *further = client->further;
    while (further && further->len)
        door_unsubscribe(further->items[further->len - 1]);
    free(further);
    client->further = NULL;
    leave(&client->own);
}

void door_gone(struct client *client, unsigned code, const char *reason)
{
    if (client->state == CLIENT_GONE)
        return; /* the hub is gone, or it never came in */
    char address[INET6_ADDRSTRLEN];
    address_print(&client->address, address);
    log_info("client_closed", LOG_STR("session", client->own.session->id),
             LOG_STR("user", client->user), LOG_STR("address", address), LOG_U64("code", code),
             LOG_STR("reason", reason),
             LOG_U64("duration_ms", client->hub->now_ms - client->opened_ms),
             LOG_U64("received", client->received), LOG_U64("sent", client->sent));
    client_set_state(client, CLIENT_GONE);
    if (client->id)
        client_ids_remove(client, client->id);
    leave_all(client);
    client_fini(client);
}

static void forget_client(struct client *client)
{
    struct further *further = client->further;
    client_set_state(client, CLIENT_GONE);
    if (client->id)
        client_ids_remove(client, client->id);
    for (size_t i = 0; further && i < further->len; i++) {
        forget(further->items[i]);
        free(further->items[i]);
    }
    free(further);
    client->further = NULL;
    forget(&client->own);
    client_fini(client);
}

void door_forget_all(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions->by_id, session, next)
        while (session->subscriptions)
            forget_client(session->subscriptions->client);
}

/* --- further sessions --- */

/* Where the session's subscription stands, or would stand. */
static size_t place_of(const struct further *further, const struct session *session)
{
    size_t low = 0, high = further ? further->len : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)further->items[middle]->session < (uintptr_t)session)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_room(struct client *client)
{
    struct further *further = client->further;
    if (further && further->len < further->cap)
        return true;
    uint32_t cap = further ? further->cap * 2 : 4;
    struct further *grown = realloc(further, sizeof *grown + cap * sizeof grown->items[0]);
    if (!grown)
        return false;
    if (!further)
        *grown = (struct further){0};
    grown->cap = cap;
    client->further = grown;
    return true;
}

struct subscription *door_subscribe(struct client *client, const struct target *target)
{
    struct session *session = session_for(client->hub, target);
    if (!session || session == client->own.session || !has_room(client))
        return NULL;
    struct further *further = client->further;
    size_t k = place_of(further, session);
    if (k < further->len && further->items[k]->session == session)
        return NULL;
    struct subscription *subscription = calloc(1, sizeof *subscription);
    if (!subscription)
        return NULL;
    memmove(&further->items[k + 1], &further->items[k],
            (further->len - k) * sizeof further->items[0]);
    further->items[k] = subscription;
    further->len++;
    join(subscription, client, session, target);
    char id[V1_CLIENT_MAX + 1];
    struct position at = {0, 0};
    bool has_token = target->resume && v1_resume(target->resume, &at, id) == STATUS_OK;
    subscription_open(subscription, target, has_token, at);
    return subscription;
}

void door_unsubscribe(struct subscription *subscription)
{
    struct further *further = subscription->client->further;
    size_t k = place_of(further, subscription->session);
    assert(further->items[k] == subscription);
    further->len--;
    memmove(&further->items[k], &further->items[k + 1],
            (further->len - k) * sizeof further->items[0]);
    leave(subscription);
    free(subscription);
}
