#include "core/tail.h"

#include <stdlib.h>
#include <string.h>

#include "common/node_messages.h"
#include "core/pubs.h"
#include "core/session/session.h"

#define KEPT_MAX 500 /* read of the history at most */
#define HELD_MAX 500 /* held while it is read; an observer does without the rest */

struct hub_tail {
    struct hub *hub;
    char *session;
    /* Of the last one passed on: a session that comes to this node may bring some again */
    struct position at;
    hub_tail_fn *fn;
    void *ctx;
    /* What is kept is being read: live ones are held meanwhile; 0: it is not */
    uint64_t history_tag;
    struct pubs held;
    struct hub_tail *prev, *next;
};

static void emit(struct hub_tail *tail, struct publication *publication)
{
    if (position_compare(publication->at, tail->at) <= 0)
        return;
    if (tail->history_tag) {
        if (tail->held.len < HELD_MAX)
            pubs_add(&tail->held, publication);
        return;
    }
    tail->at = publication->at;
    tail->fn(tail->ctx, publication);
}

void tail_batch(struct session *session, const struct pubs *batch)
{
    struct hub_tail *tail;
    DL_FOREACH (session->hub->tails, tail) {
        if (strcmp(tail->session, session->id) != 0)
            continue;
        for (size_t i = 0; i < batch->len; i++) {
            if (!is_gap_note(batch->items[i]))
                emit(tail, batch->items[i]);
        }
    }
}

static void emit_item(struct hub_tail *tail, uint64_t epoch, const struct envelope_item *item)
{
    struct publication_entry entry;
    struct publication *publication = publication_entry_of(item, &entry)
                                          ? publication_copy(entry.opcode, entry.payload.at,
                                                             entry.payload.len)
                                          : NULL;
    if (!publication)
        return; /* an observer's loss, which its next offset shows */
    publication->at = (struct position){epoch, entry.offset};
    publication->time_ms = entry.time_ms;
    emit(tail, publication);
    publication_unref(publication);
}

void tail_on_push(struct hub *hub, const struct envelope *envelope)
{
    struct hub_tail *tail;
    if (envelope->type != ENVELOPE_PUSH)
        return;
    const struct push_message push = push_decode(envelope);
    DL_FOREACH (hub->tails, tail) {
        if (strlen(tail->session) != envelope->session.len ||
            memcmp(tail->session, envelope->session.at, envelope->session.len) != 0)
            continue;
        for (size_t i = 0; i < push.publications.len; i++)
            emit_item(tail, push.epoch, &push.publications.at[i]);
    }
}

bool tail_on_history(struct hub *hub, uint64_t tag, struct publication *const *publications,
                     size_t len)
{
    struct hub_tail *tail;
    DL_FOREACH (hub->tails, tail) {
        if (tail->history_tag == tag)
            break;
    }
    if (!tail)
        return false;
    tail->history_tag = 0;
    for (size_t i = 0; i < len; i++)
        if (!is_gap_note(publications[i]))
            emit(tail, publications[i]);
    for (size_t i = 0; i < tail->held.len; i++)
        emit(tail, tail->held.items[i]);
    pubs_fini(&tail->held);
    return true;
}

static bool tail_wants(const struct hub *hub, const char *session_id)
{
    const struct hub_tail *tail;
    DL_FOREACH (hub->tails, tail) {
        if (strcmp(tail->session, session_id) == 0)
            return true;
    }
    return false;
}

struct hub_tail *hub_tail_open(struct hub *hub, const char *session_id, struct position after,
                               hub_tail_fn *fn, void *ctx)
{
    struct hub_tail *tail = calloc(1, sizeof(*tail));
    char *session = strdup(session_id);
    if (!tail || !session)
        abort();
    struct session *here = session_find(hub, session_id, strlen(session_id));
    if (here)
        session_write_history(here, false);
    else
        hub->bus->ops->subscribe(hub->bus, session_id);
    *tail = (struct hub_tail){.hub = hub, .session = session, .fn = fn, .ctx = ctx};
    DL_APPEND(hub->tails, tail);
    if (after.epoch) {
        tail->at = after;
        tail->history_tag = hub_tag(hub);
        hub->bus->ops->history(hub->bus, session_id, tail->history_tag, after, KEPT_MAX);
    }
    return tail;
}

void hub_tail_close(struct hub_tail *tail)
{
    struct hub *hub = tail->hub;
    DL_DELETE(hub->tails, tail);
    if (!tail_wants(hub, tail->session) && !session_find(hub, tail->session, strlen(tail->session)))
        hub->bus->ops->unsubscribe(hub->bus, tail->session);
    pubs_fini(&tail->held);
    free(tail->session);
    free(tail);
}

void tail_session_ended(struct session *session)
{
    struct hub *hub = session->hub;
    if (!tail_wants(hub, session->id))
        hub->bus->ops->unsubscribe(hub->bus, session->id);
}
