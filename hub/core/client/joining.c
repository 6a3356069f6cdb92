#include "core/client/joining.h"

#include <assert.h>
#include <stdlib.h>

#include "common/v1.h"
#include "core/client/client_ids.h"
#include "core/client/emit.h"
#include "core/client/further.h"
#include "core/client/subscribing.h"
#include "core/presence.h"
#include "core/session/outbox.h"
#include "core/session/session.h"

struct session *joining_session(struct hub *hub, const struct target *target)
{
    struct session *session = session_open(hub, target);
    if (session)
        session_flush(session);
    return session;
}

void joining_add(struct subscription *subscription, const struct target *target)
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

void joining_forget(struct subscription *subscription)
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

void joining_leave(struct subscription *subscription)
{
    struct session *session = subscription->session;
    struct watcher *watcher = watcher_of(subscription);
    joining_forget(subscription);
    presence_left(session, watcher);
    session_left(session, subscription->request);
}

/* --- further sessions --- */

struct subscription *joining_subscribe(struct client *client, const struct target *target)
{
    struct session *session = joining_session(client->hub, target);
    struct subscription *subscription = session ? further_add(client, session, target->vin) : NULL;
    if (session && !subscription) /* it may have been opened for this one */
        session_left(session, session_came(session, target));
    if (!subscription)
        return NULL;
    joining_add(subscription, target);
    client_ids_follow(subscription);
    char id[V1_CLIENT_MAX + 1];
    struct position at = {0, 0};
    bool has_token = target->resume && v1_resume(target->resume, &at, id) == STATUS_OK;
    subscription_open(subscription, target, has_token, at);
    return subscription;
}

void joining_unsubscribe(struct subscription *subscription)
{
    further_take_out(subscription);
    joining_leave(subscription);
    free(subscription);
}

void joining_end(struct subscription *subscription, unsigned code, const char *reason)
{
    struct client *client = subscription->client;
    if (subscription == &client->own) {
        client_close(client, code, reason);
        return;
    }
    if (client_takes(client)) {
        struct subscribe_answer *answer = subscription_take_answer(subscription);
        if (answer)
            subscribing_ended(answer, code, reason);
        else
            emit_closed(subscription, NULL, code, reason);
    }
    joining_unsubscribe(subscription);
}

void joining_check(const struct client *client)
{
    const struct further *further = client->further;
    uint32_t reading = 0;
    size_t held = 0;
    subscription_check(&client->own);
    for (size_t i = 0; further && i < further->len; i++) {
        subscription_check(further->items[i]);
        reading += subscription_is_reading(further->items[i]);
        held += subscription_held_bytes(further->items[i]);
    }
    assert(!further || (reading == further->reading && held == further->held_bytes));
    further_check(client);
    subscribing_check(client);
}
