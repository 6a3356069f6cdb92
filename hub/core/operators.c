#include "core/operators.h"

#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "common/node_messages.h"
#include "core/client/subscription.h"
#include "core/session/backlog.h"
#include "core/session/ownership.h"
#include "core/session/session.h"

#define ANSWER_MS     5000 /* contract section 10: 504 after 5 s */
#define CLOSED_A_TURN 500  /* clients of a session that is closed */

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

/* A session that an operator closes: its clients a portion a turn. */
struct closing {
    struct hub *hub;
    struct timer timer;
    uint64_t left;
    struct closing *prev, *next;
    char session[];
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

static void send_publish(struct publish_request *request, const char *owner)
{
    struct hub *hub = request->hub;
    const struct envelope_item item = publication_as_item(request->publication);
    const struct publish_message message = {request->number, {&item, 1}};
    struct envelope envelope = publish_encode(&message);
    envelope.session = slice_of(request->session);
    envelope.node = slice_of(hub->id);
    envelope.life = hub->setup.life;
    hub->bus->ops->send(hub->bus, owner, &envelope, request->number);
}

/* The record names the owner. ctx is the number: the request may be over by now. */
static void on_record(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                      const char *next)
{
    struct publish_request *key = ctx, *request = NULL;
    struct hub *hub = key->hub;
    (void)next;
    HASH_FIND(hh, hub->requests, &key->number, sizeof(key->number), request);
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
        send_publish(request, owner);
}

static void ask_owner(struct publish_request *request, const struct session *session)
{
    struct hub *hub = request->hub;
    if (session && ownership_owner(session) && session->state == SESSION_MEMBER) {
        send_publish(request, ownership_owner(session));
        return;
    }
    struct publish_request *key = calloc(1, sizeof(*key));
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
    struct publish_request *request = calloc(1, sizeof(*request));
    char *id = strdup(session_id);
    if (!request || !id)
        abort();
    *request = (struct publish_request){.hub = hub,
                                        .number = hub_tag(hub),
                                        .session = id,
                                        .publication = publication,
                                        .done = done,
                                        .ctx = ctx};
    HASH_ADD(hh, hub->requests, number, sizeof(request->number), request);
    timer_start(&hub->timers, &request->timer, hub->now_ms + ANSWER_MS, on_timer);
    ask_owner(request, session);
}

void operators_on_publish(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    const struct publish_message asked = publish_decode(envelope);
    struct published_message message = {.number = asked.number, .http_status = 503};
    struct publication_entry entry;
    struct publication *publication = NULL;
    if (session && session_may_place(session) && asked.publications.len == 1 &&
        publication_entry_of(asked.publications.at, &entry))
        publication = publication_copy(entry.opcode, entry.payload.at, entry.payload.len);
    if (publication) {
        session_place(session, publication);
        message.http_status = 200;
        message.at = (struct position){session->epoch, backlog_placed(session)};
    }
    struct envelope answer = published_encode(&message);
    answer.session = envelope->session;
    node_send(hub, envelope->node, &answer);
}

void operators_on_published(struct hub *hub, const struct envelope *envelope)
{
    const struct published_message answer = published_decode(envelope);
    struct publish_request *request = NULL;
    HASH_FIND(hh, hub->requests, &answer.number, sizeof(answer.number), request);
    if (request)
        finish(request, answer.http_status == 200 ? 200 : 503, answer.at);
}

void operators_on_sent(struct hub *hub, uint64_t tag, enum status status)
{
    struct publish_request *request = NULL;
    HASH_FIND(hh, hub->requests, &tag, sizeof(tag), request);
    if (request && status == STATUS_NOT_FOUND)
        finish(request, 503, (struct position){0, 0});
}

void hub_close_session(struct hub *hub, const char *session_id)
{
    struct envelope envelope = close_encode();
    envelope.session = slice_of(session_id);
    envelope.node = slice_of(hub->id);
    envelope.life = hub->setup.life;
    hub->bus->ops->broadcast(hub->bus, session_id, &envelope);
}

static void forget_closing(struct closing *closing)
{
    DL_DELETE(closing->hub->closings, closing);
    timer_stop(&closing->hub->timers, &closing->timer);
    free(closing);
}

static void on_closing(struct timer *timer, uint64_t now_ms);

/* The next portion. The session may be gone meanwhile, with all that was left. */
static void close_on(struct closing *closing)
{
    struct hub *hub = closing->hub;
    struct session *session = session_find(hub, closing->session, strlen(closing->session));
    uint64_t n = closing->left < CLOSED_A_TURN ? closing->left : CLOSED_A_TURN;
    uint64_t ended = session ? hub->sessions->audience->end_some(session, n, CLOSE_BY_OPERATOR,
                                                                 "closed by an operator")
                             : 0;
    closing->left -= ended;
    if (ended < n || !closing->left)
        forget_closing(closing);
    else
        timer_start(&hub->timers, &closing->timer, hub->now_ms, on_closing);
}

static void on_closing(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    close_on(CONTAINER_OF(timer, struct closing, timer));
}

void operators_on_close(struct session *session)
{
    size_t len = strlen(session->id);
    struct closing *closing = calloc(1, sizeof(*closing) + len + 1);
    if (!closing)
        abort();
    closing->hub = session->hub;
    closing->left = session->facts.clients; /* clients that come later stay */
    memcpy(closing->session, session->id, len);
    DL_APPEND(session->hub->closings, closing);
    close_on(closing);
}

void hub_ask_drain(struct hub *hub, const char *node_id)
{
    struct envelope envelope = drain_encode();
    envelope.node = slice_of(hub->id);
    envelope.life = hub->setup.life;
    hub->bus->ops->send(hub->bus, node_id, &envelope, 0);
}

void operators_free_all(struct hub *hub)
{
    struct publish_request *request, *next;
    HASH_ITER (hh, hub->requests, request, next)
        finish(request, 503, (struct position){0, 0});
    while (hub->closings)
        forget_closing(hub->closings);
}
