#include "core/session/kept_sends.h"

#include <stdlib.h>
#include <string.h>

#include "core/session/last_sends.h"

#define KEPT_SENDS 100000 /* of the whole cluster; of more the oldest are forgotten */

/* A session that was released, and the SENDs of its clients. */
struct kept_session {
    char *session;  /* without an end: the map knows its length */
    uint64_t at_ms; /* when it was heard of, own clock */
    size_t len;
    UT_hash_handle hh;
    struct kept_send {
        char client[33];
        bool expired, some; /* as in struct expired_entry; else the last that went upstream */
        uint64_t id, upto;
    } sends[];
};

struct kept_sends {
    struct hub *hub;
    struct kept_session *by_session; /* oldest first */
    size_t len;                      /* SENDs in them */
    struct timer timer;
};

void kept_sends_new(struct hub *hub)
{
    hub->kept_sends = calloc(1, sizeof(*hub->kept_sends));
    if (!hub->kept_sends)
        abort();
    hub->kept_sends->hub = hub;
}

static void forget(struct hub *hub, struct kept_session *kept)
{
    HASH_DEL(hub->kept_sends->by_session, kept);
    hub->kept_sends->len -= kept->len;
    free(kept->session);
    free(kept);
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct hub *hub = CONTAINER_OF(timer, struct kept_sends, timer)->hub;
    while (hub->kept_sends->by_session &&
           now_ms - hub->kept_sends->by_session->at_ms >= SEND_MEMORY_MS)
        forget(hub, hub->kept_sends->by_session); /* in the order of their coming */
    if (hub->kept_sends->by_session)
        timer_start(&hub->timers, timer, hub->kept_sends->by_session->at_ms + SEND_MEMORY_MS,
                    on_timer);
}

static struct kept_session *find(struct hub *hub, struct slice session)
{
    struct kept_session *kept = NULL;
    HASH_FIND(hh, hub->kept_sends->by_session, session.at, session.len, kept);
    return kept;
}

static bool is_send(const struct envelope_item *item, struct kept_send *out)
{
    struct send_entry send;
    struct expired_entry expired;
    *out = (struct kept_send){.expired = expired_entry_of(item, &expired)};
    if (!item->name.len || item->name.len > 32 || (!out->expired && !send_entry_of(item, &send)))
        return false;
    memcpy(out->client, item->name.at, item->name.len);
    out->id = out->expired ? expired.send_id : send.send_id;
    out->upto = out->expired ? expired.upto : 0;
    out->some = out->expired && expired.some;
    return true;
}

static struct envelope_item item_of(const struct kept_send *send)
{
    const struct slice client = slice_of(send->client);
    return send->expired
               ? expired_item(&(struct expired_entry){client, send->id, send->upto, send->some})
               : send_item(&(struct send_entry){.client = client, .send_id = send->id});
}

void kept_sends_keep(struct hub *hub, struct slice id, struct message_items sends)
{
    struct kept_session *before = find(hub, id);
    if (before)
        forget(hub, before); /* who released it last knew what this says */
    size_t len = sends.len < SENDS_A_SESSION ? sends.len : SENDS_A_SESSION;
    struct kept_session *kept = calloc(1, sizeof(*kept) + len * sizeof(kept->sends[0]));
    char *session = malloc(id.len);
    if (!kept || !session)
        abort();
    kept->session = memcpy(session, id.at, id.len);
    kept->at_ms = hub->now_ms;
    for (size_t i = 0; i < len; i++)
        kept->len += is_send(&sends.at[i], &kept->sends[kept->len]);
    if (!kept->len) {
        free(session);
        free(kept);
        return;
    }
    HASH_ADD_KEYPTR(hh, hub->kept_sends->by_session, kept->session, id.len, kept);
    hub->kept_sends->len += kept->len;
    while (hub->kept_sends->len > KEPT_SENDS)
        forget(hub, hub->kept_sends->by_session);
    if (!timer_armed(&hub->kept_sends->timer))
        timer_start(&hub->timers, &hub->kept_sends->timer, hub->now_ms + SEND_MEMORY_MS, on_timer);
}

void kept_sends_take(struct hub *hub, struct slice id,
                     void (*note)(struct session *session, const struct envelope_item *item),
                     struct session *session)
{
    struct kept_session *kept = find(hub, id);
    if (!kept)
        return;
    for (size_t i = 0; i < kept->len; i++) {
        const struct envelope_item item = item_of(&kept->sends[i]);
        note(session, &item);
    }
    forget(hub, kept);
}

void kept_sends_free(struct hub *hub)
{
    timer_stop(&hub->timers, &hub->kept_sends->timer);
    while (hub->kept_sends->by_session)
        forget(hub, hub->kept_sends->by_session);
    free(hub->kept_sends);
    hub->kept_sends = NULL;
}
