#include "core/kept_sends.h"

#include <stdlib.h>
#include <string.h>

#include "core/last_sends.h"
#include "core/membership.h"
#include "core/session.h"

#define KEPT_SENDS 100000 /* of the whole cluster; of more the oldest are forgotten */
#define TOLD_SENDS 1000   /* of one session: those of last use */

/* A session that was released, and the SENDs of its clients. */
struct kept_sends {
    char *session;  /* without an end: the map knows its length */
    uint64_t at_ms; /* when it was told, own clock */
    size_t len;
    UT_hash_handle hh;
    struct kept_send {
        char client[33];
        uint64_t id;
    } sends[];
};

static void forget(struct hub *hub, struct kept_sends *kept)
{
    HASH_DEL(hub->kept_sends, kept);
    hub->kept_len -= kept->len;
    free(kept->session);
    free(kept);
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct hub *hub = CONTAINER_OF(timer, struct hub, kept_timer);
    while (hub->kept_sends && now_ms - hub->kept_sends->at_ms >= SEND_MEMORY_MS)
        forget(hub, hub->kept_sends); /* in the order of their coming */
    if (hub->kept_sends)
        timer_start(&hub->timers, timer, hub->kept_sends->at_ms + SEND_MEMORY_MS, on_timer);
}

static struct kept_sends *find(struct hub *hub, struct slice session)
{
    struct kept_sends *kept = NULL;
    HASH_FIND(hh, hub->kept_sends, session.at, session.len, kept);
    return kept;
}

static bool is_send(const struct envelope_item *item)
{
    return item->kind == ITEM_SEND && item->name.len && item->name.len <= 32;
}

static void keep(struct hub *hub, const struct envelope *told)
{
    struct kept_sends *before = find(hub, told->session);
    if (before)
        forget(hub, before); /* who released it last knew what this says */
    size_t len = told->items_len < TOLD_SENDS ? told->items_len : TOLD_SENDS;
    struct kept_sends *kept = calloc(1, sizeof *kept + len * sizeof kept->sends[0]);
    char *session = malloc(told->session.len);
    if (!kept || !session)
        abort();
    kept->session = memcpy(session, told->session.at, told->session.len);
    kept->at_ms = hub->now_ms;
    for (size_t i = 0; i < len; i++) {
        const struct envelope_item *item = &told->items[i];
        if (!is_send(item))
            continue;
        memcpy(kept->sends[kept->len].client, item->name.at, item->name.len);
        kept->sends[kept->len++].id = item->id;
    }
    if (!kept->len) {
        free(session);
        free(kept);
        return;
    }
    HASH_ADD_KEYPTR(hh, hub->kept_sends, kept->session, told->session.len, kept);
    hub->kept_len += kept->len;
    while (hub->kept_len > KEPT_SENDS)
        forget(hub, hub->kept_sends);
    if (!timer_armed(&hub->kept_timer))
        timer_start(&hub->timers, &hub->kept_timer, hub->now_ms + SEND_MEMORY_MS, on_timer);
}

void kept_sends_tell(struct session *session)
{
    struct hub *hub = session->hub;
    size_t count = HASH_COUNT(session->last_sends),
           skip = count > TOLD_SENDS ? count - TOLD_SENDS : 0;
    struct envelope_item *items = count ? calloc(count, sizeof *items) : NULL;
    struct last_send *send, *next_send;
    struct peer *peer, *next;
    size_t len = 0;
    if (!items)
        return;
    HASH_ITER (hh, session->last_sends, send, next_send) {
        if (skip) {
            skip--;
            continue;
        }
        if (hub->now_ms - send->at_ms < SEND_MEMORY_MS)
            items[len++] = (struct envelope_item){
                .kind = ITEM_SEND, .name = slice_of(send->client), .id = send->id};
    }
    struct envelope sends = {
        .type = ENVELOPE_SENDS, .session = slice_of(session->id), .items = items, .items_len = len};
    if (len) {
        keep(hub, &sends);
        HASH_ITER (hh, hub->peers, peer, next)
            if (peer->score && !peer->dead)
                membership_tell(hub, slice_of(peer->id), &sends);
    }
    free(items);
}

void kept_sends_on_told(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (!envelope->session.len || envelope->session.len >= SESSION_ID_MAX)
        return;
    keep(hub, envelope);
    if (session && session_is_owned(session))
        kept_sends_adopt(session); /* it was faster than this message */
}

void kept_sends_adopt(struct session *session)
{
    struct kept_sends *kept = find(session->hub, slice_of(session->id));
    if (!kept)
        return;
    for (size_t i = 0; i < kept->len; i++)
        last_sends_note(session, kept->sends[i].client, kept->sends[i].id);
    forget(session->hub, kept);
}

void kept_sends_free_all(struct hub *hub)
{
    timer_stop(&hub->timers, &hub->kept_timer);
    while (hub->kept_sends)
        forget(hub, hub->kept_sends);
}
