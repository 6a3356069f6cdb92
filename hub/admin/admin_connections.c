#include "admin/admin_connections.h"

#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"

enum {
    CONNECTIONS_MAX = 64,
    SILENCE_S = 60, /* the longest time between two bytes, in either direction */
    /* The request must be complete by then. This is also how long a kept connection may be idle. */
    READING_MAX_MS = 90000,
    ANSWERING_MAX_MS = 60000, /* the client must have read the answer by then */
    SWEEP_MS = 1000,
    FULL_SWEEP_MS = 50,      /* the same at the limit of connections */
    FULL_GRACE_MS = 500,     /* at the limit, a connection may be closed after this time */
    FULL_CUTS = 16,          /* at the limit, at most this many are closed in one sweep */
    INPUT_MAX = 9 << 20,     /* above evhttp's largest body, which it gathers in the bufferevent */
    STREAM_INPUT_MAX = 4096, /* nothing is expected from the client of a stream */
};

enum connection_state { CONNECTION_READING, CONNECTION_ANSWERING, CONNECTION_STREAMING };

struct admin_connection {
    struct bufferevent *bev;
    uint64_t since_ms; /* when it entered the state */
    enum connection_state state;
};

struct admin_connections {
    struct loop *loop;
    struct evconnlistener *listener;
    struct loop_timer *sweep;
    struct admin_connection list[CONNECTIONS_MAX];
    size_t len;
    bool answered_itself; /* evhttp may have written an answer of its own in this turn */
};

static void enter_state(struct admin_connection *connection, enum connection_state state)
{
    connection->state = state;
    connection->since_ms = clock_boot_ms();
}

static bool was_released(struct bufferevent *bev)
{
    bufferevent_event_cb on_event = NULL;
    bufferevent_getcb(bev, NULL, NULL, &on_event, NULL);
    return !on_event;
}

/* Ends the connection: evhttp sees the end of the input and releases the bufferevent. */
static void cut(struct bufferevent *bev)
{
    evutil_socket_t fd = bufferevent_getfd(bev);
    if (fd >= 0)
        (void)shutdown(fd, SHUT_RDWR);
}

static void remove_released(struct admin_connections *connections)
{
    for (size_t i = 0; i < connections->len;) {
        struct admin_connection *connection = &connections->list[i];
        if (was_released(connection->bev)) {
            bufferevent_decref(connection->bev);
            *connection = connections->list[--connections->len];
        } else {
            i++;
        }
    }
}

/* Sorts the connections that have been reading for longest to the front. */
static int by_patience(const void *a, const void *b)
{
    const struct admin_connection *x = a;
    const struct admin_connection *y = b;
    if (x->state != y->state)
        return x->state < y->state ? -1 : 1;
    return x->since_ms < y->since_ms ? -1 : x->since_ms > y->since_ms;
}

/* Closes the connections that have been reading for longest. New connections wait in the kernel
 * meanwhile. */
static void make_room(struct admin_connections *connections, uint64_t now_ms)
{
    qsort(connections->list, connections->len, sizeof(connections->list[0]), by_patience);
    for (size_t i = 0; i < FULL_CUTS && i < connections->len; i++) {
        struct admin_connection *connection = &connections->list[i];
        if (connection->state == CONNECTION_READING &&
            now_ms - connection->since_ms > FULL_GRACE_MS)
            cut(connection->bev);
    }
}

static bool is_late(const struct admin_connection *connection, uint64_t now_ms)
{
    switch (connection->state) {
    case CONNECTION_READING: return now_ms - connection->since_ms > READING_MAX_MS;
    case CONNECTION_ANSWERING: return now_ms - connection->since_ms > ANSWERING_MAX_MS;
    case CONNECTION_STREAMING: return false;
    }
    return false;
}

static void on_sweep(void *ctx)
{
    struct admin_connections *connections = ctx;
    remove_released(connections);
    uint64_t now_ms = clock_boot_ms();
    for (size_t i = 0; i < connections->len; i++) {
        if (is_late(&connections->list[i], now_ms))
            cut(connections->list[i].bev);
    }
    bool full = connections->len == CONNECTIONS_MAX;
    if (full)
        make_room(connections, now_ms);
    else
        (void)evconnlistener_enable(connections->listener);
    loop_timer_start(connections->sweep, full ? FULL_SWEEP_MS : SWEEP_MS);
}

/*
 * evhttp answers a malformed request itself, with an HTML page, and ends the connection. The errors
 * of this API are JSON (contract section 10). The page is sent in the next turn at the earliest, so
 * it can be replaced at the end of this one.
 */
static void replace_page(struct evbuffer *output)
{
    char start[64] = "";
    (void)evbuffer_copyout(output, start, sizeof(start) - 1);
    static const char http[] = "HTTP/1.1 ";
    int status = strncmp(start, "HTTP/1.", 7) == 0 ? (int)strtol(start + sizeof(http) - 1, NULL, 10)
                                                   : 0;
    if (status < 400) /* 100 Continue */
        return;
    const char *text = status == 413   ? "expected a body of at most 4 MiB"
                       : status == 501 ? "unknown method, expected GET, HEAD or POST"
                                       : "malformed request, or its head is over 16 KiB";
    char body[128];
    int len = snprintf(body, sizeof(body), "{\"error\":\"%s\"}", text);
    (void)evbuffer_drain(output, evbuffer_get_length(output));
    (void)evbuffer_add_printf(
        output,
        "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        "Connection: close\r\n\r\n%s",
        status, status == 413 ? "Payload Too Large" : "Error", len, body);
}

static void on_turn_end(void *ctx)
{
    struct admin_connections *connections = ctx;
    if (!connections->answered_itself)
        return;
    for (size_t i = 0; i < connections->len; i++) {
        struct admin_connection *connection = &connections->list[i];
        struct evbuffer *output = bufferevent_get_output(connection->bev);
        if (connection->state == CONNECTION_READING && evbuffer_get_length(output) > 0) {
            replace_page(output);
            enter_state(connection, CONNECTION_ANSWERING);
        }
    }
    connections->answered_itself = false;
}

static void on_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *ctx)
{
    struct admin_connections *connections = ctx;
    (void)output;
    if (info->n_added == 0)
        return;
    loop_enter(connections->loop, "admin_connection");
    connections->answered_itself = true;
}

/* evhttp asks for the bufferevent of a connection that it has accepted. */
static struct bufferevent *on_accepted(struct event_base *base, void *ctx)
{
    struct admin_connections *connections = ctx;
    loop_enter(connections->loop, "admin_connection");
    assert(connections->len < CONNECTIONS_MAX);
    struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (!bev)
        return NULL;
    bufferevent_setwatermark(bev, EV_READ, 0, INPUT_MAX);
    (void)evbuffer_add_cb(bufferevent_get_output(bev), on_output, connections);
    bufferevent_incref(bev);
    connections->list[connections->len++] = (struct admin_connection){
        .bev = bev, .since_ms = clock_boot_ms(), .state = CONNECTION_READING};
    if (connections->len == CONNECTIONS_MAX) {
        (void)evconnlistener_disable(connections->listener); /* also ends its loop of accepts */
        loop_timer_start(connections->sweep, FULL_SWEEP_MS);
    }
    return bev;
}

/* Most likely no descriptor is left: accepting again at once would spin. The next sweep enables the
 * listener. (ctx belongs to evhttp.) */
static void on_accept_failed(struct evconnlistener *listener, void *ctx)
{
    (void)ctx;
    (void)evconnlistener_disable(listener);
}

struct admin_connections *admin_connections_new(struct loop *loop, struct evhttp *http,
                                                struct evconnlistener *listener)
{
    struct admin_connections *connections = calloc(1, sizeof(*connections));
    if (!connections)
        abort();
    connections->loop = loop;
    connections->listener = listener;
    connections->sweep = loop_timer_new(loop, "admin_sweep", on_sweep, connections);
    loop_at_turn_end(loop, "admin_end", on_turn_end, connections);
    evhttp_set_timeout(http, SILENCE_S);
    evhttp_set_bevcb(http, on_accepted, connections);
    evconnlistener_set_error_cb(listener, on_accept_failed);
    loop_timer_start(connections->sweep, SWEEP_MS);
    return connections;
}

void admin_connections_free(struct admin_connections *connections)
{
    for (size_t i = 0; i < connections->len; i++)
        bufferevent_decref(connections->list[i].bev);
    loop_timer_free(connections->sweep);
    free(connections);
}

static struct admin_connection *connection_of(struct admin_connections *connections,
                                              struct evhttp_request *req)
{
    struct evhttp_connection *http = evhttp_request_get_connection(req);
    struct bufferevent *bev = http ? evhttp_connection_get_bufferevent(http) : NULL;
    for (size_t i = 0; i < connections->len; i++) {
        if (connections->list[i].bev == bev)
            return &connections->list[i];
    }
    return NULL;
}

static void on_answered(struct evhttp_request *req, void *ctx)
{
    struct admin_connection *connection = connection_of(ctx, req);
    if (connection)
        enter_state(connection, CONNECTION_READING);
}

void admin_connection_answering(struct admin_connections *connections, struct evhttp_request *req)
{
    struct admin_connection *connection = connection_of(connections, req);
    if (!connection)
        return;
    enter_state(connection, CONNECTION_ANSWERING);
    evhttp_request_set_on_complete_cb(req, on_answered, connections);
}

void admin_connection_streaming(struct admin_connections *connections, struct evhttp_request *req)
{
    struct admin_connection *connection = connection_of(connections, req);
    if (!connection)
        return;
    enter_state(connection, CONNECTION_STREAMING);
    struct timeval patience = {.tv_sec = SILENCE_S};
    bufferevent_set_timeouts(connection->bev, NULL, &patience);
    bufferevent_setwatermark(connection->bev, EV_READ, 0, STREAM_INPUT_MAX);
}
