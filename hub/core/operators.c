#include "core/operators.h"

#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "core/client/subscription.h"
#include "core/session/backlog.h"
#include "core/session/ownership.h"
#include "core/session/session.h"

#define ANSWER_MS 5000 /* contract section 10: 504 after 5 s */

/* A publication asked for here, for a session that another node owns. */
struct publish_request {
    struct hub *hub;
    uint64_t number;
    char *session;
    struct publication *publication;
    hub_published_fn *done;
    void *ctx;
    struct timer timer;
    UT_hash_handle hh;
};

static void finish(struct publish_request *request, unsigned http_status, struct position at)
{
    struct hub *hub = request->hub;
    HASH_DEL(hub->requests, request);
    timer_stop(&hub->timers, &request->timer);
    request->done(request->ctx, http_status, at);
    publication_unref(request->publication);
    free(request->session);
    free(request);
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    finish(CONTAINER_OF(timer, struct publish_request, timer), 504, (struct position){0, 0});
}

static void tell_publish(struct publish_request *request, const char *owner)
{
    struct hub *hub = request->hub;
    struct envelope_item item = {
        .kind = ITEM_PUBLICATION,
        .opcode = (unsigned)request->publication->opcode,
        .bytes = {(const char *)request->publication->payload, request->publication->len},
    };
    struct envelope envelope = {
        .type = ENVELOPE_PUBLISH,
        .session = slice_of(request->session),
        .node = slice_of(hub->id),
        .life = hub->setup.life,
        .number = request->number,
        .items = &item,
        .items_len = 1,
    };
    hub->bus->ops->tell(hub->bus, owner, &envelope, request->number);
}

/* The record names the owner. ctx is the number: the request may be over by now. */
static void on_record(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                      const char *next)
{
    struct publish_request *key = ctx, *request = NULL;
    struct hub *hub = key->hub;
    (void)next;
    HASH_FIND(hh, hub->requests, &key->number, sizeof key->number, request);
    free(key);
    if (!request)
        return;
    const char *owner = "";
    for (size_t f = 0; status == STATUS_OK && len && f < rows[0].fields_len; f++)
        if (!strcmp(rows[0].fields[f].name, "owner"))
            owner = rows[0].fields[f].value;
    if (status != STATUS_OK)
        finish(request, 503, (struct position){0, 0});
    else if (!*owner)
        finish(request, 404, (struct position){0, 0});
    else
        tell_publish(request, owner);
}

static void ask_owner(struct publish_request *request, const struct session *session)
{
    struct hub *hub = request->hub;
    if (session && ownership_owner(session) && session->state == SESSION_MEMBER) {
        tell_publish(request, ownership_owner(session));
        return;
    }
    struct publish_request *key = calloc(1, sizeof *key);
    if (!key)
        abort();
    key->hub = hub;
    key->number = request->number;
    hub->bus->ops->list(hub->bus, BUS_LIST_SESSION, request->session, 1, on_record, key);
}

void hub_publish(struct hub *hub, const char *session_id, enum opcode opcode, const void *payload,
                 size_t len, hub_published_fn *done, void *ctx)
{
    struct session *session = session_find(hub, session_id, strlen(session_id));
    struct publication *publication = publication_copy(opcode, payload, len);
    if (!publication) {
        done(ctx, 503, (struct position){0, 0});
        return;
    }
    if (session && session_may_place(session)) {
        session_place(session, publication);
        done(ctx, 200, (struct position){session->epoch, backlog_placed(session)});
        return;
    }
    if (!hub->bus->shared && !session) {
        publication_unref(publication);
        done(ctx, 404, (struct position){0, 0});
        return;
    }
    struct publish_request *request = calloc(1, sizeof *request);
    char *id = strdup(session_id);
    if (!request || !id)
        abort();
    *request = (struct publish_request){.hub = hub,
                                        .number = hub_tag(hub),
                                        .session = id,
                                        .publication = publication,
                                        .done = done,
                                        .ctx = ctx};
    HASH_ADD(hh, hub->requests, number, sizeof request->number, request);
    timer_start(&hub->timers, &request->timer, hub->now_ms + ANSWER_MS, on_timer);
    ask_owner(request, session);
}

void operators_on_publish(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    struct envelope answer = {.type = ENVELOPE_PUBLISHED,
                              .session = envelope->session,
                              .number = envelope->number,
                              .status = 503};
    bool owner = session && session_may_place(session);
    if (owner && envelope->items_len == 1) {
        const struct envelope_item *item = &envelope->items[0];
        struct publication *publication = publication_copy(
            item->opcode == OPCODE_BINARY ? OPCODE_BINARY : OPCODE_TEXT, item->bytes.at,
            item->bytes.len);
        if (publication) {
            session_place(session, publication);
            answer.status = 200;
            answer.epoch = session->epoch;
            answer.offset = backlog_placed(session);
        }
    }
    node_tell(hub, envelope->node, &answer);
}

void operators_on_published(struct hub *hub, const struct envelope *envelope)
{
    struct publish_request *request = NULL;
    HASH_FIND(hh, hub->requests, &envelope->number, sizeof envelope->number, request);
    if (request)
        finish(request, envelope->status == 200 ? 200 : 503,
               (struct position){envelope->epoch, envelope->offset});
}

void operators_on_told(struct hub *hub, uint64_t tag, enum status status)
{
    struct publish_request *request = NULL;
    HASH_FIND(hh, hub->requests, &tag, sizeof tag, request);
    if (request && status == STATUS_NOT_FOUND)
        finish(request, 503, (struct position){0, 0});
}

void hub_close_session(struct hub *hub, const char *session_id)
{
    struct envelope envelope = {.type = ENVELOPE_CLOSE,
                                .session = slice_of(session_id),
                                .node = slice_of(hub->id),
                                .life = hub->setup.life};
    hub->bus->ops->shout(hub->bus, session_id, &envelope);
}

void operators_on_close(struct session *session)
{
    struct subscription *subscription, *next;
    DL_FOREACH_SAFE (session->subscriptions, subscription, next)
        subscription_end(subscription, CLOSE_BY_OPERATOR, "closed by an operator");
}

void hub_ask_drain(struct hub *hub, const char *node_id)
{
    struct envelope envelope = {
        .type = ENVELOPE_DRAIN, .node = slice_of(hub->id), .life = hub->setup.life};
    hub->bus->ops->tell(hub->bus, node_id, &envelope, 0);
}

void operators_free_all(struct hub *hub)
{
    struct publish_request *request, *next;
    HASH_ITER (hh, hub->requests, request, next)
        finish(request, 503, (struct position){0, 0});
}
