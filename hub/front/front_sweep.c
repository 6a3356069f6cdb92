/*
 * One timer for all deadlines of connections: handshakes, PINGs and their answers, closes.
 */
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "front/front_private.h"
#include "front/front_refuse.h"

/* Deadlines are met within this; a timer fires no more often. */
#define COARSE_MS 50U
/* Connections of one queue looked at in one go; the rest follows in the next turn. */
#define SLICE 512

/* With pings disabled, open connections are not swept. */
static bool is_off(const struct front *front, enum queue_name name)
{
    return front->conf->clients.ping_every_ms == 0 &&
           (name == QUEUE_QUIET || name == QUEUE_PINGED || name == QUEUE_ANSWERED);
}

static bool is_due(const struct front *front, const struct conn *conn)
{
    return (int32_t)(front->now_ms - conn->due_ms) >= 0;
}

static void ping(struct conn *conn)
{
    static const uint8_t frame[] = {0x89, 0x00};
    if (conn->events) { /* no PONG is expected: the kernel notices peers that are gone */
        events_ping(conn);
        conn_enqueue(conn, QUEUE_QUIET);
        return;
    }
    /* While output waits in the kernel, the peer is alive if it takes some of it. */
    if (!socket_blocked(&conn->socket))
        socket_write(&conn->socket, frame, sizeof(frame));
    conn->unanswered++;
    conn_enqueue(conn, QUEUE_PINGED);
}

/* The last PING went out at due_ms less the wait of the queue. */
static bool is_heard(const struct conn *conn)
{
    uint32_t pinged_ms = conn->due_ms - conn->front->queues[QUEUE_PINGED].wait_ms;
    return (int32_t)(pinged_ms - conn->heard_ms) <= 0;
}

/* Where an answer may take longer than the time between two PINGs, its time runs from the first
 * that has none. PINGs are apart by the wait or more: more where this node was busy or stopped. */
static bool is_silent(const struct conn *conn)
{
    const struct front *front = conn->front;
    if (conn->unanswered == 0 || conn->paused || held_any(conn))
        return false;
    return (uint64_t)conn->unanswered * front->queues[QUEUE_PINGED].wait_ms >=
           front->conf->clients.ping_timeout_ms;
}

static void check_answer(struct conn *conn)
{
    if (is_heard(conn))
        conn->unanswered = 0;
    if (!is_silent(conn)) {
        if (conn->front->queues[QUEUE_ANSWERED].wait_ms > 0)
            conn_enqueue(conn, QUEUE_ANSWERED);
        else
            ping(conn);
        return;
    }
    conn_keep_why(conn, "ping timeout");
    conn_enqueue(conn, QUEUE_CLOSING);
    socket_kill(&conn->socket, false);
}

static void on_due(struct conn *conn)
{
    switch ((enum queue_name)conn->queue) {
    case QUEUE_HANDSHAKE:
        log_debug("handshake_timeout", LOG_U64("waited_ms", HANDSHAKE_MS));
        if (conn->handshake->heard)
            refuse_unanswered(conn, REFUSE_TIMEOUT, "no whole request within 10 s");
        conn_enqueue(conn, QUEUE_CLOSING);
        socket_kill(&conn->socket, false);
        break;
    case QUEUE_QUIET:
    case QUEUE_ANSWERED: ping(conn); break;
    case QUEUE_PINGED: check_answer(conn); break;
    case QUEUE_CLOSING:
        conn_enqueue(conn, QUEUE_CLOSING);
        socket_kill(&conn->socket, false);
        break;
    case QUEUE_NONE:
    case QUEUES: break;
    }
}

void sweep_run(void *ctx)
{
    struct front *front = ctx;
    front->sweep_armed = false;
    loop_run_timers(&front->expiries);
    for (enum queue_name name = QUEUE_HANDSHAKE; name < QUEUES; name++) {
        struct conn_queue *queue = &front->queues[name];
        if (is_off(front, name))
            continue;
        for (int i = 0; i < SLICE && queue->first && is_due(front, queue->first); i++)
            on_due(queue->first);
    }
    sweep_arm(front);
}

/* How long until that time; none of this file's waits is shorter than COARSE_MS. */
static uint32_t wait_until(uint64_t at_ms, uint64_t now_ms)
{
    if (at_ms == UINT64_MAX || at_ms > now_ms + CLOSING_MS)
        return at_ms == UINT64_MAX ? UINT32_MAX : CLOSING_MS;
    return at_ms > now_ms + COARSE_MS ? (uint32_t)(at_ms - now_ms) : COARSE_MS;
}

/* A queue with a shorter wait, or a token with an earlier end, may get its first member while the
 * timer runs: never sleep longer than the shortest. */
static uint32_t sleep_max(const struct front *front)
{
    uint32_t pinged_ms = front->queues[QUEUE_PINGED].wait_ms; /* no longer than that of QUIET */
    if (is_off(front, QUEUE_PINGED) || pinged_ms > CLOSING_MS)
        return CLOSING_MS;
    return pinged_ms > COARSE_MS ? pinged_ms : COARSE_MS;
}

void sweep_arm(struct front *front)
{
    if (front->sweep_armed)
        return;
    uint32_t wait_ms = wait_until(timers_next(&front->expiries), clock_boot_ms());
    for (enum queue_name name = QUEUE_HANDSHAKE; name < QUEUES; name++) {
        const struct conn *first = front->queues[name].first;
        if (!first || is_off(front, name))
            continue;
        int32_t left = (int32_t)(first->due_ms - front->now_ms);
        uint32_t left_ms = left > (int32_t)COARSE_MS ? (uint32_t)left : COARSE_MS;
        if (left_ms < wait_ms)
            wait_ms = left_ms;
    }
    if (wait_ms == UINT32_MAX)
        return;
    if (wait_ms > sleep_max(front))
        wait_ms = sleep_max(front);
    front->sweep_armed = true;
    loop_timer_start(front->sweep_timer, wait_ms);
}

/* A deadline that was set with the old times would be misread with the new ones, and be out of
 * order in its queue. */
void sweep_restart_pings(struct front *front)
{
    static const enum queue_name names[] = {QUEUE_QUIET, QUEUE_PINGED, QUEUE_ANSWERED};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct conn *last = front->queues[names[i]].last, *conn = NULL;
        while (conn != last) {
            conn = front->queues[names[i]].first;
            conn->unanswered = 0;
            conn_enqueue(conn, QUEUE_QUIET);
        }
    }
    sweep_arm(front);
}
