/*
 * Server-sent events: each second the state of the cluster, or the live messages of one session.
 *
 * The output of a stream is bounded: messages that do not fit are dropped, counted, and reported in
 * a `dropped` event. All streams together send a bounded number of messages a second, so that
 * operators who watch never slow down pushes.
 *
 *   open     at once: {"node", "session"}
 *   stats    each second, without ?session=: {"time", "node", "nodes", "totals", "self"};
 *            nodes as in /api/nodes, null while Redis does not answer
 *   message  with ?session=ID: {"epoch", "offset", "time", "encoding", "payload"}; encoding as in
 *            vinhub.v1; &history=N begins with about the last N that are kept
 *   dropped  before the next message: {"count"}
 *
 * The life of a stream:
 *
 *   GET /api/events -> `open`, and with ?session= a tail of the hub (after the record of the
 * session
 *     was read, if past messages are wanted) -> events
 *     -> on_closed          the client has left
 *     -> admin_events_end   the token has changed: the answer ends
 *     -> admin_events_free  the port closes: evhttp frees the request
 */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "common/base64.h"
#include "common/clock.h"
#include "common/metrics.h"
#include "common/text.h"

enum {
    STREAMS_MAX = 16,
    HISTORY_MAX = 200,
    OUTPUT_MAX = 1 << 20,     /* if the output is empty, one message of any size fits */
    MESSAGES_A_SECOND = 4000, /* of all streams together */
    TICK_MS = 1000,
    COMMENT_TICKS = 15, /* a silent stream gets a comment, so that proxies keep it open */
};

struct admin_stream {
    struct admin_events *events;
    struct admin_stream *prev, *next;
    struct evhttp_request *req;
    char *session; /* NULL: stats */
    struct hub_tail *tail;
    uint64_t dropped;
    uint64_t serial;
};

struct admin_events {
    struct admin *admin;
    struct loop_timer *tick;
    struct admin_stream *streams;
    size_t len;
    struct admin_call *asking; /* the listing of nodes that is under way; NULL: none */
    uint64_t ticks;
    uint64_t last_serial; /* the serial of the newest stream */
    unsigned messages_left;
    bool ticking;
};

static size_t output_of(const struct admin_stream *stream)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(stream->req);
    struct bufferevent *bev = connection ? evhttp_connection_get_bufferevent(connection) : NULL;
    return bev ? evbuffer_get_length(bufferevent_get_output(bev)) : 0;
}

static void send_text(struct admin_stream *stream, const char *event, const char *data)
{
    struct evbuffer *buffer = evbuffer_new();
    if (!buffer)
        abort();
    if (event)
        (void)evbuffer_add_printf(buffer, "event: %s\ndata: %s\n\n", event, data);
    else
        (void)evbuffer_add_printf(buffer, ": %s\n\n", data);
    evhttp_send_reply_chunk(stream->req, buffer);
    evbuffer_free(buffer);
}

/* Takes over the reference. */
static void send_json(struct admin_stream *stream, const char *event, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text)
        send_text(stream, event, text);
    free(text);
}

static void stream_free(struct admin_stream *stream)
{
    struct admin_events *events = stream->events;
    if (stream->tail)
        hub_tail_close(stream->tail);
    if (stream->prev)
        stream->prev->next = stream->next;
    else
        events->streams = stream->next;
    if (stream->next)
        stream->next->prev = stream->prev;
    events->len--;
    free(stream->session);
    free(stream);
}

/* If the client leaves before the answer is complete, the request must be freed here. If the port
 * closes, evhttp frees it. */
static void on_closed(struct evhttp_connection *connection, void *ctx)
{
    struct admin_stream *stream = ctx;
    (void)connection;
    loop_enter(stream->events->admin->setup.loop, "admin_events");
    struct evhttp_request *req = stream->req;
    stream_free(stream);
    if (!evhttp_request_get_connection(req))
        evhttp_request_free(req);
}

static json_t *base64_json(const void *data, size_t len)
{
    size_t size = base64_size(len);
    uint8_t *text = malloc(size + 1);
    if (!text)
        return json_string("");
    base64_encode(data, len, text);
    json_t *json = json_stringn_nocheck((const char *)text, size);
    free(text);
    return json;
}

static json_t *message_json(const struct publication *publication)
{
    json_t *json = json_pack("{s:I, s:I, s:I}", "epoch", (json_int_t)publication->at.epoch,
                             "offset", (json_int_t)publication->at.offset, "time",
                             (json_int_t)publication->time_ms);
    const char *payload = (const char *)publication->payload;
    bool text = publication->opcode == OPCODE_TEXT && text_is_utf8(payload, publication->len);
    (void)json_object_set_new(json, "encoding", json_string(text ? "text" : "base64"));
    (void)json_object_set_new(json, "payload",
                              text ? json_stringn_nocheck(payload, publication->len)
                                   : base64_json(payload, publication->len));
    return json;
}

static void on_publication(void *ctx, const struct publication *publication)
{
    struct admin_stream *stream = ctx;
    struct admin_events *events = stream->events;
    size_t waiting = output_of(stream);
    if (events->messages_left == 0 || (waiting > 0 && waiting + publication->len > OUTPUT_MAX)) {
        stream->dropped++;
        return;
    }
    events->messages_left--;
    if (stream->dropped > 0)
        send_json(stream, "dropped", json_pack("{s:I}", "count", (json_int_t)stream->dropped));
    stream->dropped = 0;
    send_json(stream, "message", message_json(publication));
}

static json_t *self_json(const struct admin *admin)
{
    struct hub_counts counts;
    hub_count(admin->setup.hub, &counts);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "clients",
                     (json_int_t)counts.clients, "sessions", (json_int_t)counts.sessions, "owned",
                     (json_int_t)counts.owned, "upstreams", (json_int_t)counts.upstreams, "msgs_in",
                     (json_int_t)counts.messages_in, "msgs_out", (json_int_t)counts.messages_out,
                     "rss", (json_int_t)metric_get(METRIC_RSS_BYTES), "loop_lag_ms",
                     (json_int_t)loop_lag_ms(admin->setup.loop), "shared",
                     (int)admin->setup.bus->shared);
}

/* Sums over all nodes. `sessions` counts a session once for each node with clients of it;
 * `upstreams` counts it once. */
static json_t *totals_json(const json_t *nodes)
{
    static const char *const names[] = {"clients", "sessions", "upstreams", "msgs_in", "msgs_out"};
    json_t *totals = json_object();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        json_int_t sum = 0;
        for (size_t n = 0; n < json_array_size(nodes); n++)
            sum += json_integer_value(json_object_get(json_array_get(nodes, n), names[i]));
        (void)json_object_set_new(totals, names[i], json_integer(sum));
    }
    return totals;
}

static void on_nodes(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                     const char *next)
{
    struct admin_call *call = ctx;
    (void)next;
    if (!call->admin) { /* the port was closed meanwhile */
        admin_call_end(call);
        return;
    }
    struct admin *admin = call->admin;
    struct admin_events *events = admin->events;
    events->asking = NULL;
    admin_call_end(call);
    json_t *nodes = status == STATUS_OK ? json_array() : json_null();
    for (size_t i = 0; status == STATUS_OK && i < len; i++)
        (void)json_array_append_new(nodes, admin_json_row(&rows[i]));
    json_t *totals = totals_json(nodes);
    json_t *json = json_pack("{s:I, s:s, s:o, s:o, s:o}", "time", (json_int_t)clock_unix_ms(),
                             "node", hub_node_id(admin->setup.hub), "nodes", nodes, "totals",
                             totals, "self", self_json(admin));
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    for (struct admin_stream *stream = events->streams; text && stream; stream = stream->next) {
        if (!stream->session && output_of(stream) < OUTPUT_MAX)
            send_text(stream, "stats", text);
    }
    free(text);
}

static void on_tick(void *ctx)
{
    struct admin_events *events = ctx;
    struct admin *admin = events->admin;
    bool wanted = false;
    events->messages_left = MESSAGES_A_SECOND;
    events->ticks++;
    for (struct admin_stream *stream = events->streams; stream; stream = stream->next) {
        if (!stream->session)
            wanted = true;
        else if (events->ticks % COMMENT_TICKS == 0 && output_of(stream) == 0)
            send_text(stream, NULL, "still here");
    }
    if (wanted && !events->asking) {
        struct bus *bus = admin->setup.bus;
        events->asking = admin_call_new(admin, NULL, sizeof(*events->asking));
        bus->ops->list(bus, BUS_LIST_NODES, NULL, 1000, on_nodes, events->asking);
    }
    events->ticking = events->streams != NULL;
    if (events->ticking)
        loop_timer_start(events->tick, TICK_MS);
}

static void stream_start(struct admin_stream *stream)
{
    struct admin *admin = stream->events->admin;
    struct evkeyvalq *headers = evhttp_request_get_output_headers(stream->req);
    (void)evhttp_add_header(headers, "Content-Type", "text/event-stream");
    (void)evhttp_add_header(headers, "Cache-Control", "no-store");
    (void)evhttp_add_header(headers, "X-Accel-Buffering", "no"); /* nginx passes it on at once */
    evhttp_connection_set_closecb(evhttp_request_get_connection(stream->req), on_closed, stream);
    evhttp_send_reply_start(stream->req, 200, "OK");
    admin_connection_streaming(admin->connections, stream->req);
    send_json(stream, "open",
              json_pack("{s:s, s:s?}", "node", hub_node_id(admin->setup.hub), "session",
                        stream->session));
}

static void stream_add(struct admin_events *events, struct admin_stream *stream)
{
    stream->next = events->streams;
    if (stream->next)
        stream->next->prev = stream;
    events->streams = stream;
    events->len++;
    if (!events->ticking) {
        events->ticking = true;
        events->messages_left = MESSAGES_A_SECOND;
        loop_timer_start(events->tick, 1);
    }
}

/* The parameters of a request for a stream. */
struct stream_query {
    char *session; /* NULL: stats */
    uint64_t history;
};

/* Returns false if the query is malformed or names an impossible session id. */
static bool read_stream_query(struct evhttp_request *req, struct stream_query *out)
{
    const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req));
    struct evkeyvalq query = {0};
    bool good = evhttp_parse_query_str(text ? text : "", &query) == 0;
    const char *session = good ? evhttp_find_header(&query, "session") : NULL;
    const char *history = good ? evhttp_find_header(&query, "history") : NULL;
    good = good && (!session || admin_is_session_id(session, strlen(session)));
    *out = (struct stream_query){.session = good && session ? strdup(session) : NULL,
                                 .history = history ? strtoull(history, NULL, 10) : 0};
    if (out->history > HISTORY_MAX)
        out->history = HISTORY_MAX;
    evhttp_clear_headers(&query);
    return good;
}

/* Reads the record of a session, so that its stream can begin with past messages. */
struct past_call {
    struct admin_call call; /* first: freed with it */
    uint64_t serial;        /* of the stream, which may be gone when the record comes */
    uint64_t history;
};

static struct admin_stream *stream_of(const struct admin_events *events, uint64_t serial)
{
    struct admin_stream *stream = events->streams;
    while (stream && stream->serial != serial)
        stream = stream->next;
    return stream;
}

static void on_record(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                      const char *next)
{
    struct past_call *past = ctx;
    struct admin *admin = past->call.admin;
    struct admin_stream *stream = admin ? stream_of(admin->events, past->serial) : NULL;
    (void)next;
    if (stream) {
        struct position after = {0, 0};
        if (status == STATUS_OK && len > 0) {
            after.epoch = strtoull(admin_row_field(&rows[0], "epoch"), NULL, 10);
            after.offset = strtoull(admin_row_field(&rows[0], "offset"), NULL, 10);
            after.offset = after.offset > past->history ? after.offset - past->history : 0;
        }
        stream->tail = hub_tail_open(admin->setup.hub, stream->session, after, on_publication,
                                     stream);
    }
    admin_call_end(&past->call);
}

static void follow_session(struct admin_stream *stream, uint64_t history)
{
    struct admin *admin = stream->events->admin;
    struct bus *bus = admin->setup.bus;
    if (history == 0) {
        struct position live = {0, 0};
        stream->tail = hub_tail_open(admin->setup.hub, stream->session, live, on_publication,
                                     stream);
        return;
    }
    struct past_call *past = (void *)admin_call_new(admin, NULL, sizeof(*past));
    past->serial = stream->serial;
    past->history = history;
    bus->ops->list(bus, BUS_LIST_SESSION, stream->session, 1, on_record, past);
}

void admin_get_events(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    struct admin_events *events = admin->events;
    struct stream_query query;
    if (!read_stream_query(req, &query)) {
        admin_reply_error(req, 404, "no such session");
        return;
    }
    bool head = evhttp_request_get_command(req) == EVHTTP_REQ_HEAD;
    if (head || events->len >= STREAMS_MAX) {
        free(query.session);
        if (head)
            admin_reply_bytes(req, 200, "text/event-stream", "", 0);
        else
            admin_reply_error(req, 503,
                              "too many event streams are open: close a page of the console");
        return;
    }
    struct admin_stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        abort();
    *stream = (struct admin_stream){
        .events = events, .req = req, .session = query.session, .serial = ++events->last_serial};
    stream_add(events, stream);
    stream_start(stream);
    if (stream->session)
        follow_session(stream, query.history);
}

struct admin_events *admin_events_new(struct admin *admin)
{
    struct admin_events *events = calloc(1, sizeof(*events));
    if (!events)
        abort();
    events->admin = admin;
    events->tick = loop_timer_new(admin->setup.loop, "admin_events", on_tick, events);
    return events;
}

void admin_events_free(struct admin_events *events)
{
    for (struct admin_stream *stream = events->streams, *next; stream; stream = next) {
        next = stream->next;
        struct evhttp_connection *connection = evhttp_request_get_connection(stream->req);
        if (connection)
            evhttp_connection_set_closecb(connection, NULL, NULL);
        stream_free(stream);
    }
    loop_timer_free(events->tick);
    free(events);
}

void admin_events_end(struct admin_events *events)
{
    while (events->streams) {
        struct evhttp_request *req = events->streams->req;
        struct evhttp_connection *connection = evhttp_request_get_connection(req);
        if (connection)
            evhttp_connection_set_closecb(connection, NULL, NULL);
        stream_free(events->streams);
        evhttp_send_reply_end(req);
    }
}
