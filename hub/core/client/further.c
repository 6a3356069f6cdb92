#include "core/client/further.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "core/client/rate.h"
#include "core/session/state.h"

#define LEFT_A_TURN 250 /* subscriptions of clients that are gone */
#define CAP_MIN     4u

/* A further subscription, and what of its URL the next token is compared with. */
struct further_item {
    struct subscription subscription; /* first */
    struct watcher *watcher;          /* core/presence.h */
    char vin[];                       /* "": the URL has none */
};

/* Those that are left by clients which are gone. */
struct leaving {
    struct hub *hub;
    struct client nobody; /* whose they are meanwhile: it is GONE, and takes nothing */
    struct further *first;
    void (*leave)(struct subscription *subscription);
    struct timer timer;
};

bool further_start(struct client *client)
{
    if (!client->further)
        client->further = calloc(1, sizeof(*client->further));
    return client->further != NULL;
}

/* Where the subscription of that session stands, or would stand. */
static size_t place_of(const struct further *further, const char *session_id)
{
    size_t low = 0, high = further->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(further->items[middle]->session->id, session_id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct subscription *further_after(const struct client *client, const char *session_id)
{
    const struct further *further = client->further;
    if (!further)
        return NULL;
    size_t k = session_id ? place_of(further, session_id) : 0;
    if (session_id && k < further->len && strcmp(further->items[k]->session->id, session_id) == 0)
        k++;
    return k < further->len ? further->items[k] : NULL;
}

struct subscription *further_find(const struct client *client, const struct session *session)
{
    const struct further *further = client->further;
    if (client->own.session == session)
        return (struct subscription *)&client->own;
    size_t k = further ? place_of(further, session->id) : 0;
    return further && k < further->len && further->items[k]->session == session ? further->items[k]
                                                                                : NULL;
}

static bool has_room(struct further *further)
{
    if (further->len < further->cap)
        return true;
    uint32_t cap = further->cap ? further->cap * 2 : CAP_MIN;
    struct subscription **grown = realloc(further->items, cap * sizeof(struct subscription *));
    if (!grown)
        return false;
    further->items = grown;
    further->cap = cap;
    return true;
}

static void count(struct hub *hub, int change)
{
    hub->counts.subscriptions += (uint64_t)change;
    metric_set(METRIC_SUBSCRIPTIONS, hub->counts.subscriptions);
}

struct subscription *further_add(struct client *client, struct session *session, const char *vin)
{
    struct further_item *item = NULL;
    size_t vin_len = vin ? strlen(vin) : 0;
    if (!further_start(client) || !has_room(client->further) ||
        !(item = calloc(1, sizeof(*item) + vin_len + 1)))
        return NULL;
    if (vin_len)
        memcpy(item->vin, vin, vin_len);
    item->subscription.client = client;
    item->subscription.session = session;
    struct further *further = client->further;
    size_t k = place_of(further, session->id);
    assert(k == further->len || further->items[k]->session != session);
    memmove(&further->items[k + 1], &further->items[k],
            (further->len - k) * sizeof(struct subscription *));
    further->items[k] = &item->subscription;
    further->len++;
    count(client->hub, 1);
    return &item->subscription;
}

void further_set_watcher(struct subscription *subscription, struct watcher *watcher)
{
    ((struct further_item *)subscription)->watcher = watcher;
}

struct watcher *further_watcher(const struct subscription *subscription)
{
    return ((const struct further_item *)subscription)->watcher;
}

const char *further_vin(const struct subscription *subscription)
{
    const struct further_item *item = (const struct further_item *)subscription;
    return *item->vin ? item->vin : NULL;
}

void further_take_out(struct subscription *subscription)
{
    struct further *further = subscription->client->further;
    size_t k = place_of(further, subscription->session->id);
    assert(k < further->len && further->items[k] == subscription);
    further->len--;
    memmove(&further->items[k], &further->items[k + 1],
            (further->len - k) * sizeof(struct subscription *));
    count(subscription->client->hub, -1);
}

/* --- of clients that are gone --- */

static void further_free(struct further *further)
{
    free(further->items);
    free(further);
}

/* At most that many; returns how many are still allowed. */
static size_t leave_some(struct leaving *leaving, size_t at_most)
{
    while (leaving->first && at_most) {
        struct further *further = leaving->first;
        while (further->len && at_most) {
            struct subscription *subscription = further->items[--further->len];
            at_most--;
            leaving->leave(subscription);
            free(subscription);
            count(leaving->hub, -1);
        }
        if (further->len)
            break;
        leaving->first = further->next;
        further_free(further);
    }
    return at_most;
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct leaving *leaving = CONTAINER_OF(timer, struct leaving, timer);
    leave_some(leaving, LEFT_A_TURN);
    if (leaving->first)
        timer_start(&leaving->hub->timers, timer, now_ms, on_timer);
}

static struct leaving *leaving_of(struct hub *hub, void (*leave)(struct subscription *))
{
    if (hub->leaving)
        return hub->leaving;
    struct leaving *leaving = calloc(1, sizeof(*leaving));
    if (!leaving)
        abort();
    leaving->hub = hub;
    leaving->nobody.hub = hub;
    leaving->leave = leave;
    hub->leaving = leaving;
    return leaving;
}

void further_leave_all(struct client *client, void (*leave)(struct subscription *subscription))
{
    struct further *further = client->further;
    struct hub *hub = client->hub;
    if (!further)
        return;
    client->further = NULL;
    if (!further->len) {
        further_free(further);
        return;
    }
    struct leaving *leaving = leaving_of(hub, leave);
    for (size_t i = 0; i < further->len; i++) {
        rate_close(further->items[i]);
        further->items[i]->client = &leaving->nobody;
        further->items[i]->paused = false;
    }
    further->next = leaving->first;
    leaving->first = further;
    if (!timer_armed(&leaving->timer))
        timer_start(&hub->timers, &leaving->timer, hub->now_ms, on_timer);
}

void further_free_all(struct hub *hub, void (*leave)(struct subscription *subscription))
{
    struct leaving *leaving = hub->leaving;
    if (!leaving)
        return;
    leaving->leave = leave;
    leave_some(leaving, SIZE_MAX);
    timer_stop(&hub->timers, &leaving->timer);
    free(leaving);
    hub->leaving = NULL;
}

void further_check(const struct client *client)
{
    const struct further *further = client->further;
    uint32_t paused = 0;
    for (size_t i = 0; further && i < further->len; i++) {
        const struct subscription *subscription = further->items[i];
        assert(subscription->client == client);
        assert(!i || strcmp(further->items[i - 1]->session->id, subscription->session->id) < 0);
        paused += subscription->paused;
    }
    assert(!further || (paused == further->paused && further->len <= further->cap));
}
