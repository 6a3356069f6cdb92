/*
 * An open upstream: messages both ways, the text heartbeat, and the close.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/rng.h"
#include "core/hub.h"
#include "loop/ws_head.h"
#include "upstream/upstream_private.h"

/* A scratch buffer that is larger than this is freed after the message. */
#define SCRATCH_KEEP 65536U

/* Stands for a close frame without a code (RFC 6455 section 7.4.1). */
#define NO_CODE 1005U

/* --- the way out --- */

/* A mask must be unpredictable (RFC 6455 section 5.3). The kernel is asked for many at a time. */
static const uint8_t *next_mask(struct upstreams *all)
{
    if (all->masks_left < 4) {
        rng_secure(all->masks, sizeof(all->masks));
        all->masks_left = sizeof(all->masks);
    }
    all->masks_left -= 4;
    return all->masks + all->masks_left;
}

static bool scratch_reserve(struct upstreams *all, size_t need)
{
    if (need <= all->scratch_cap)
        return true;
    uint8_t *grown = realloc(all->scratch, need);
    if (!grown)
        return false;
    all->scratch = grown;
    all->scratch_cap = need;
    return true;
}

static void scratch_shrink(struct upstreams *all)
{
    if (all->scratch_cap <= SCRATCH_KEEP)
        return;
    free(all->scratch);
    all->scratch = NULL;
    all->scratch_cap = 0;
}

/* A payload is masked piece by piece: a piece that stays in the processor's cache costs far less
 * than a copy of a large message. There are at most 64 pieces, since lws keeps a list of the pieces
 * that the kernel does not take. */
static size_t piece_size(size_t len)
{
    return len / 64 < SCRATCH_KEEP ? SCRATCH_KEEP : len / 64 + 1;
}

/* Masks copies of the payload, since other sessions and clients share the caller's bytes. Returns
 * false if memory ran out; then nothing was written. */
static bool write_frame(struct upstream *up, unsigned opcode, const void *payload, size_t len)
{
    struct upstreams *all = up->all;
    size_t most = piece_size(len), done = 0;
    if (!scratch_reserve(all, WS_HEAD_MAX + (len < most ? len : most)))
        return false;
    size_t head = ws_head(all->scratch, opcode, false, len);
    all->scratch[1] |= 0x80;
    const uint8_t *mask = next_mask(all);
    memcpy(all->scratch + head, mask, 4);
    head += 4;
    do {
        size_t piece = len - done < most ? len - done : most;
        uint8_t *body = all->scratch + head;
        if (piece > 0)
            memcpy(body, (const uint8_t *)payload + done, piece);
        ws_mask(body, piece, mask, done);
        socket_write(&up->socket, all->scratch, head + piece);
        done += piece;
        head = 0;
    } while (done < len);
    scratch_shrink(all);
    return true;
}

enum status talk_send(struct upstream *up, unsigned opcode, const void *payload, size_t len)
{
    if (up->state != UP_OPEN || socket_blocked(&up->socket)) {
        up->want_writable = true;
        return STATUS_AGAIN;
    }
    if (!write_frame(up, opcode, payload, len)) {
        up->want_writable = true;
        socket_wake(&up->socket); /* the message stays in the outbox and is sent again later */
        return STATUS_AGAIN;
    }
    return STATUS_OK;
}

static void write_close(struct upstream *up, unsigned code, const char *reason)
{
    uint8_t payload[WS_CONTROL_MAX];
    (void)write_frame(up, WS_CLOSE, payload, ws_close_payload(payload, code, reason));
}

/* Before the upstream is open there is no WebSocket to close: the attempt ends. */
void talk_close(struct upstream *up, unsigned code, const char *reason)
{
    if (up->state == UP_CLOSING || up->state == UP_ENDED)
        return;
    if (up->state != UP_OPEN) {
        /* The end is reported from the loop, not from within this call: set the deadline to now. */
        up->asked = true;
        up_deadline(up, up->all->now_ms);
        return;
    }
    write_close(up, code, reason);
    up_set_state(up, UP_CLOSING);
    up_deadline(up, up->all->now_ms + CLOSING_MS);
}

/* --- the heartbeat --- */

static void next_beat(struct upstream *up)
{
    const struct service *service = up->service;
    if (service->heartbeat.every_ms == 0)
        return;
    uint64_t silent_at_ms = up->heard_at_ms + service->heartbeat.timeout_ms;
    up_deadline(up, up->heartbeat_at_ms < silent_at_ms ? up->heartbeat_at_ms : silent_at_ms);
}

static void beat(struct upstream *up)
{
    const struct service *service = up->service;
    uint64_t now_ms = up->all->now_ms;
    if (now_ms >= up->heard_at_ms + service->heartbeat.timeout_ms) {
        up_end_plain(up, UPSTREAM_END_SILENT, "nothing received within heartbeat.timeout");
        return;
    }
    if (now_ms >= up->heartbeat_at_ms) {
        up->heartbeat_at_ms = now_ms + service->heartbeat.every_ms;
        /* While the socket takes nothing, further heartbeats would only pile up. */
        if (!socket_blocked(&up->socket))
            (void)write_frame(up, WS_TEXT, service->heartbeat.text,
                              strlen(service->heartbeat.text));
    }
    next_beat(up);
}

void talk_deadline(struct upstream *up)
{
    if (up->state == UP_OPEN)
        beat(up);
    else if (up->fault)
        up_end_plain(up, UPSTREAM_END_INVALID, up->fault);
    else
        up_end_plain(up, UPSTREAM_END_ASKED,
                     up->state == UP_CLOSING ? "close was not answered"
                                             : "closed before it was open");
}

void talk_begin(struct upstream *up)
{
    if (up->asked) {
        up_end_plain(up, UPSTREAM_END_ASKED, "closed before it was open");
        return;
    }
    up_set_state(up, UP_OPEN);
    up->open_reported = true;
    up->heard_at_ms = up->all->now_ms;
    up->heartbeat_at_ms = up->all->now_ms + up->service->heartbeat.every_ms;
    timer_stop(&up->all->timers, &up->timer);
    next_beat(up);
    hub_upstream_opened(up->session, up);
}

/* --- the way in --- */

static bool is_heartbeat_reply(const struct upstream *up, const struct ws_item *item)
{
    const char *reply = up->service->heartbeat.reply;
    return up->service->heartbeat.every_ms > 0 && item->opcode == WS_TEXT &&
           item->len == strlen(reply) && memcmp(item->payload, reply, item->len) == 0;
}

static void on_message(struct upstream *up, const struct ws_item *item)
{
    if (is_heartbeat_reply(up, item))
        return;
    struct publication *publication = publication_copy((enum opcode)item->opcode, item->payload,
                                                       item->len);
    if (!publication) {
        metric_drop(DROP_NO_MEMORY, 1);
        hub_upstream_dropped(up->session, up);
        return;
    }
    publication->received_us = clock_boot_us();
    hub_upstream_message(up->session, up, publication);
}

static void on_close_frame(struct upstream *up, const struct ws_item *item)
{
    char reason[WS_CONTROL_MAX + 1];
    memcpy(reason, item->payload, item->len);
    reason[item->len] = '\0';
    if (item->len == 0 && item->code == NO_CODE)
        snprintf(reason, sizeof(reason), "the backend closed without a code");
    else if (item->len == 0)
        snprintf(reason, sizeof(reason), "the backend closed with code %u", item->code);
    if (up->state == UP_CLOSING) {
        up_end_plain(up, UPSTREAM_END_ASKED, "closed");
        return;
    }
    write_close(up, item->code, NULL);
    up_end(up, &(struct upstream_end){
                   .kind = UPSTREAM_END_CLOSED, .close_code = item->code, .reason = reason});
}

/* The backend broke a rule. Sends a close frame and ends our direction, but goes on reading: a
 * socket that is closed with unread bytes is reset, and the close frame would be lost. Later input
 * is discarded until the backend closes, or for CLOSING_MS. */
static void on_bad_input(struct upstream *up, const struct ws_item *item)
{
    metric_drop(item->code == CLOSE_TOO_BIG ? DROP_TOO_LARGE : DROP_MALFORMED, 1);
    if (up->state == UP_CLOSING) {
        up_end_plain(up, UPSTREAM_END_ASKED, item->why);
        return;
    }
    write_close(up, item->code, item->why);
    socket_shut(&up->socket);
    up->fault = item->why;
    up_set_state(up, UP_CLOSING);
    up_deadline(up, up->all->now_ms + CLOSING_MS);
}

/* Each call into the core may end the upstream, so the state is checked for each item. */
void talk_bytes(struct upstream *up, uint8_t *bytes, size_t len)
{
    struct ws_rules rules = {.masked = false,
                             .message_max = up->service->upstream_max_message_bytes,
                             .too_large = CLOSE_TOO_BIG};
    struct ws_item item;
    while ((up->state == UP_OPEN || up->state == UP_CLOSING) && !up->fault &&
           ws_next(&up->reader, &rules, &bytes, &len, &item)) {
        switch (item.kind) {
        case WS_ITEM_MESSAGE: on_message(up, &item); break;
        case WS_ITEM_PING:
            /* A backend that does not read our PONGs gets no more of them. */
            if (up->state == UP_OPEN && !socket_blocked(&up->socket))
                (void)write_frame(up, WS_PONG, item.payload, item.len);
            break;
        case WS_ITEM_PONG: break;
        case WS_ITEM_CLOSE: on_close_frame(up, &item); return;
        case WS_ITEM_BAD: on_bad_input(up, &item); return;
        }
    }
}

void talk_lost(struct upstream *up)
{
    if (up->fault)
        up_end_plain(up, UPSTREAM_END_INVALID, up->fault);
    else if (up->state == UP_CLOSING)
        up_end_plain(up, UPSTREAM_END_ASKED, "closed");
    else
        up_end_plain(up, UPSTREAM_END_CLOSED, "connection lost without a close frame");
}
