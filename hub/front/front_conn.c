/*
 * The life of a connection: from the accepted socket to the last byte, and the ops that the core
 * asks for.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/container_of.h"
#include "common/log.h"
#include "common/text.h"
#include "core/hub.h"
#include "front/front_private.h"
#include "front/front_refuse.h"
#include "loop/ws_head.h"

/* The next larger block of malloc costs each idle client 16 bytes (tests/bench/README.md). */
_Static_assert(sizeof(struct conn) <= 312, "an idle client grows");

/* How many messages and control frames of one connection are handled in one turn: one read may hold
 * thousands of small ones, while the other connections wait. */
#define ITEMS_MAX 256

static const char *const state_names[] = {"handshake", "refused", "open", "closing", "gone"};

/* Where each state may lead, as bits. */
static const unsigned transitions[] = {
    [CONN_HANDSHAKE] = 1U << CONN_OPEN | 1U << CONN_REFUSED | 1U << CONN_GONE,
    [CONN_REFUSED] = 1U << CONN_GONE,
    [CONN_OPEN] = 1U << CONN_CLOSING | 1U << CONN_GONE,
    [CONN_CLOSING] = 1U << CONN_GONE,
    [CONN_GONE] = 0,
};

void conn_set_state(struct conn *conn, enum conn_state state)
{
    assert((transitions[conn->state] & 1U << state) != 0);
    log_debug("connection_state", LOG_STR("from", state_names[conn->state]),
              LOG_STR("to", state_names[state]));
    if (conn->state == CONN_OPEN)
        conn->front->open--;
    if (state == CONN_OPEN)
        conn->front->open++;
    conn->state = (uint8_t)state;
}

/* --- queues --- */

static void dequeue(struct conn *conn)
{
    struct conn_queue *queue = &conn->front->queues[conn->queue];
    if (conn->queue == QUEUE_NONE)
        return;
    *(conn->prev ? &conn->prev->next : &queue->first) = conn->next;
    *(conn->next ? &conn->next->prev : &queue->last) = conn->prev;
    conn->prev = conn->next = NULL;
    conn->queue = QUEUE_NONE;
}

void conn_enqueue(struct conn *conn, enum queue_name name)
{
    dequeue(conn);
    if (name == QUEUE_NONE)
        return;
    struct conn_queue *queue = &conn->front->queues[name];
    conn->queue = (uint8_t)name;
    conn->due_ms = conn->front->now_ms + queue->wait_ms;
    conn->prev = queue->last;
    *(queue->last ? &queue->last->next : &queue->first) = conn;
    queue->last = conn;
    sweep_arm(conn->front);
}

/* --- making and freeing --- */

void conn_free(struct conn *conn)
{
    struct front *front = conn->front;
    if (conn->state != CONN_GONE)
        conn_set_state(conn, CONN_GONE);
    dequeue(conn);
    admit_release_ip(conn);
    conn_forget_pass(conn);
    held_drop(conn);
    handshake_free(conn->handshake);
    ws_reader_fini(&conn->reader);
    free(conn->why);
    free(conn);
    front->connections--;
}

void conn_report_gone(struct conn *conn, unsigned code, const char *reason)
{
    if (!conn->gone_due)
        return;
    conn->gone_due = false;
    door_gone(&conn->client, code, reason);
}

/* --- writing --- */

static void update_reading(struct conn *conn)
{
    socket_pause(&conn->socket, conn->paused || held_any(conn));
}

/* Output that input causes directly (PONGs, answers to heartbeats) is gathered until that input
 * is read, so that a flood of them costs few writes. */
static void gather_flush(struct conn *conn)
{
    struct gather *gather = &conn->front->gather;
    if (gather->conn != conn || gather->len == 0)
        return;
    size_t len = gather->len;
    gather->len = 0;
    socket_write(&conn->socket, gather->bytes, len);
}

static void conn_write(struct conn *conn, const uint8_t *bytes, size_t len)
{
    struct gather *gather = &conn->front->gather;
    if (gather->conn != conn) {
        socket_write(&conn->socket, bytes, len);
        return;
    }
    if (len > sizeof(gather->bytes) - gather->len)
        gather_flush(conn);
    if (len > sizeof(gather->bytes)) {
        socket_write(&conn->socket, bytes, len);
        return;
    }
    memcpy(gather->bytes + gather->len, bytes, len);
    gather->len += len;
}

static void write_control(struct conn *conn, enum ws_opcode opcode, const uint8_t *payload,
                          size_t len)
{
    uint8_t frame[WS_SERVER_HEAD_MAX + WS_CONTROL_MAX];
    assert(len <= WS_CONTROL_MAX);
    size_t head = ws_head(frame, opcode, false, len);
    if (len > 0)
        memcpy(frame + head, payload, len);
    conn_write(conn, frame, head + len);
}

static void write_close_frame(struct conn *conn, unsigned code, const char *reason)
{
    uint8_t payload[WS_CONTROL_MAX];
    write_control(conn, WS_CLOSE, payload, ws_close_payload(payload, code, reason));
}

void conn_keep_why(struct conn *conn, const char *why)
{
    free(conn->why);
    conn->why = why ? strdup(why) : NULL;
}

void conn_start_closing(struct conn *conn, unsigned code, const char *reason)
{
    if (conn->state != CONN_OPEN)
        return;
    if (conn->events)
        events_end(conn, code, reason);
    else
        write_close_frame(conn, code, reason);
    conn->close_code = (uint16_t)code;
    conn_keep_why(conn, reason);
    conn_set_state(conn, CONN_CLOSING);
    conn_enqueue(conn, QUEUE_CLOSING);
    /* The core does not want the held input any more, and the peer's close frame has to be read. */
    held_drop(conn);
    conn->paused = false;
    update_reading(conn);
}

/* Our close frame was the last output. Input is discarded until the peer ends the connection, for
 * a second at most (QUEUE_CLOSING). */
static void end_sending(struct conn *conn)
{
    conn->ignoring_input = true;
    gather_flush(conn);
    socket_shut(&conn->socket);
}

/* --- reading --- */

/* The close frame of the peer: the core hears of it at once, the answer goes out after what was
 * written before. */
static void on_close_frame(struct conn *conn, const struct ws_item *item)
{
    char reason[WS_CONTROL_MAX + 1];
    memcpy(reason, item->payload, item->len);
    reason[item->len] = '\0';
    conn_report_gone(conn, item->code, reason);
    conn_start_closing(conn, item->code, NULL);
    end_sending(conn);
}

static void on_bad_input(struct conn *conn, const struct ws_item *item)
{
    metric_drop(item->code == CLOSE_MESSAGE_TOO_LARGE ? DROP_TOO_LARGE : DROP_MALFORMED, 1);
    client_close(&conn->client, item->code, item->why);
    /* An answer could not be read any more (RFC 6455 section 7.1.7). */
    end_sending(conn);
}

static void bad_data(struct conn *conn, enum status status)
{
    struct ws_item item = {.code = CLOSE_INVALID_DATA, .why = "not deflated data"};
    if (status == STATUS_LIMIT)
        item = (struct ws_item){.code = CLOSE_MESSAGE_TOO_LARGE, .why = "message too large"};
    else if (status == STATUS_REFUSED)
        item.why = "text is not UTF-8";
    on_bad_input(conn, &item);
}

static void on_compressed(struct conn *conn, const struct ws_item *item)
{
    struct front *front = conn->front;
    const uint8_t *plain = NULL;
    size_t len = 0, max = front->conf->clients.max_message_bytes;
    enum status status = inflate_message(front->deflater, item->payload, item->len, max, &plain,
                                         &len);
    share_spend(conn, status == STATUS_OK ? len : max);
    if (status == STATUS_OK && item->opcode == WS_TEXT && !text_is_utf8(plain, len))
        status = STATUS_REFUSED;
    if (status == STATUS_OK)
        door_message(&conn->client, (enum opcode)item->opcode, plain, len);
    else
        bad_data(conn, status);
    inflate_done(front->deflater);
}

static void on_message(struct conn *conn, const struct ws_item *item)
{
    if (item->compressed) {
        on_compressed(conn, item);
        return;
    }
    share_spend(conn, item->len);
    door_message(&conn->client, (enum opcode)item->opcode, item->payload, item->len);
}

/* Keeps bytes for a later turn, after those that are kept already: of TLS the rest of what was read
 * is still to come when the reading stops, no more than that. False: no memory. */
static bool hold(struct conn *conn, const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return true;
    if (!held_add(conn, bytes, len))
        return false;
    update_reading(conn);
    return true;
}

/* After our close frame only the peer's close frame matters. */
static void closing_frames(struct conn *conn, const struct ws_rules *rules, uint8_t *bytes,
                           size_t len)
{
    struct ws_item item;
    while (!conn->ignoring_input && ws_next(&conn->reader, rules, &bytes, &len, &item)) {
        if (item.kind == WS_ITEM_CLOSE)
            end_sending(conn);
        else
            conn->ignoring_input = item.kind == WS_ITEM_BAD;
    }
}

static void on_item(struct conn *conn, const struct ws_item *item)
{
    switch (item->kind) {
    case WS_ITEM_MESSAGE: on_message(conn, item); break;
    case WS_ITEM_PING:
        if (conn->state == CONN_OPEN)
            write_control(conn, WS_PONG, item->payload, item->len);
        break;
    case WS_ITEM_PONG: break; /* heard_ms was set by the bytes */
    case WS_ITEM_CLOSE: on_close_frame(conn, item); break;
    case WS_ITEM_BAD: on_bad_input(conn, item); break;
    }
}

/* Held input is read in a later turn, from on_writable. */
static void ask_for_turn(struct conn *conn)
{
    if (!held_any(conn) || conn->paused)
        return;
    if (share_is_left(conn))
        socket_wake(&conn->socket);
    else
        share_wait(conn);
}

/* Input that is left when the budget for the turn is used up is held. */
static bool read_frames(struct conn *conn, uint8_t *bytes, size_t len)
{
    size_t message_max = conn->front->conf->clients.max_message_bytes;
    struct ws_rules rules = {.masked = true,
                             .rsv1 = conn->deflate,
                             .message_max = message_max,
                             .deflated_more = message_max / 8 + 64,
                             .too_large = CLOSE_MESSAGE_TOO_LARGE};
    struct ws_item item;
    unsigned items = 0;
    while (conn->state == CONN_OPEN && !conn->paused && items++ < ITEMS_MAX &&
           share_is_left(conn) && ws_next(&conn->reader, &rules, &bytes, &len, &item))
        on_item(conn, &item);
    if (conn->state == CONN_OPEN && !hold(conn, bytes, len))
        return false;
    ask_for_turn(conn);
    if (conn->state == CONN_CLOSING)
        closing_frames(conn, &rules, bytes, len);
    return true;
}

bool conn_frames(struct conn *conn, uint8_t *bytes, size_t len)
{
    if (conn->events) {
        events_input(conn, len);
        return true;
    }
    if (held_any(conn))
        return hold(conn, bytes, len);
    struct gather *gather = &conn->front->gather;
    assert(!gather->conn && gather->len == 0);
    gather->conn = conn;
    bool alive = read_frames(conn, bytes, len);
    gather_flush(conn);
    gather->conn = NULL;
    return alive;
}

static struct conn *conn_of_socket(struct socket *socket)
{
    return CONTAINER_OF(socket, struct conn, socket);
}

static void count_discarded(struct conn *conn, size_t len)
{
    conn->discarded += (uint32_t)len;
    if (conn->discarded > DISCARD_MAX)
        socket_pause(&conn->socket, true);
}

static bool on_bytes(struct socket *socket, uint8_t *bytes, size_t len)
{
    struct conn *conn = conn_of_socket(socket);
    conn->heard_ms = conn->front->now_ms;
    switch ((enum conn_state)conn->state) {
    case CONN_HANDSHAKE: return handshake_read(conn, bytes, len);
    case CONN_OPEN: return conn_frames(conn, bytes, len);
    case CONN_CLOSING: count_discarded(conn, len); return conn_frames(conn, bytes, len);
    case CONN_REFUSED: /* input is discarded, so that the answer is not lost in a reset
                        */
    case CONN_GONE: break;
    }
    return true;
}

/* Feeds the input that was held back when the core paused the connection or its budget for the
 * turn was used up. */
static bool feed_held(struct conn *conn)
{
    if (!held_any(conn) || conn->paused)
        return true;
    if (!share_is_left(conn)) {
        share_wait(conn);
        return true;
    }
    size_t len;
    uint8_t *bytes = held_take(conn, &len);
    bool alive = conn_frames(conn, bytes, len);
    free(bytes);
    held_settle(conn);
    if (alive)
        update_reading(conn);
    return alive;
}

static bool on_writable(struct socket *socket)
{
    struct conn *conn = conn_of_socket(socket);
    /* The peer has taken buffered output, so it is alive. A wake-up of our own says nothing about
     * the peer. */
    if (socket->drained)
        conn->heard_ms = conn->front->now_ms;
    slow_caught_up(conn);
    if (!feed_held(conn))
        return false;
    if (conn->state == CONN_OPEN)
        door_writable(&conn->client);
    return true;
}

static void on_gone(struct socket *socket)
{
    struct conn *conn = conn_of_socket(socket);
    if (conn->state == CONN_HANDSHAKE)
        refuse_aborted(conn);
    conn_report_gone(conn, conn->close_code != 0 ? conn->close_code : 1006U,
                     conn->why ? conn->why : "");
    conn_free(conn);
}

static void on_secured(struct socket *socket, const char *why)
{
    handshake_secured(conn_of_socket(socket), why);
}

static const struct socket_handler conn_handler = {.name = "client",
                                                   .on_bytes = on_bytes,
                                                   .on_writable = on_writable,
                                                   .on_gone = on_gone,
                                                   .on_secured = on_secured};

void conn_new(struct front *front, int fd, const struct in6_addr *peer)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    struct handshake *handshake = calloc(1, sizeof(*handshake));
    if (!conn || !handshake) {
        free(conn);
        free(handshake);
        close(fd);
        return;
    }
    handshake->address = *peer;
    handshake->proxy_header = front->conf->listen.proxy_protocol;
    conn->front = front;
    conn->handshake = handshake;
    conn->client.state = CLIENT_GONE;
    conn->heard_ms = front->now_ms;
    conn->share_bytes = SHARE_BYTES;
    front->connections++;

    /* TLS begins with the first bytes that are its own (front_handshake.c). */
    if (socket_open(&conn->socket, front->loop, fd, NULL, &conn_handler) != STATUS_OK) {
        conn_free(conn);
        return;
    }
    conn_enqueue(conn, QUEUE_HANDSHAKE);
}

/* --- what the core asks for --- */

static struct conn *conn_of(struct client *client)
{
    return (struct conn *)client;
}

static enum status op_write(void *ctx, struct client *client, const uint8_t *frames, size_t len)
{
    (void)ctx;
    struct conn *conn = conn_of(client);
    if (conn->state != CONN_OPEN)
        return STATUS_OK; /* told by door_gone soon */
    if (socket_blocked(&conn->socket))
        return STATUS_AGAIN;
    conn_write(conn, frames, len);
    slow_count(conn, len);
    return STATUS_OK;
}

static void op_close(void *ctx, struct client *client, unsigned code, const char *reason)
{
    (void)ctx;
    conn_start_closing(conn_of(client), code, reason);
}

/* Bytes that were held back are read in the next turn, never within the core's call. */
static void op_pause(void *ctx, struct client *client, bool paused)
{
    struct front *front = ctx;
    struct conn *conn = conn_of(client);
    if (conn->state != CONN_OPEN)
        return;
    conn->paused = paused;
    conn->heard_ms = front->now_ms;
    update_reading(conn);
    ask_for_turn(conn);
}

/* Of descriptors: each session may want one for its upstream here. */
static bool op_has_room(void *ctx)
{
    const struct front *front = ctx;
    struct hub_counts counts;
    hub_count(front->hub, &counts);
    return front->connections + counts.owned < (size_t)front->descriptors_max;
}

const struct client_ops front_client_ops = {
    .write = op_write,
    .close = op_close,
    .pause = op_pause,
    .refresh = conn_refresh,
    .covers = conn_covers,
    .has_room = op_has_room,
};
