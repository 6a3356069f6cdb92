/*
 * Whose turn it is to have messages inflated.
 *
 * A deflated message costs its sender a thousandth of what it costs here, so bytes read are no
 * measure of the work. Each connection has credit in inflated bytes. Who has none left waits with
 * what it has sent, in a row in which each gets the same, one of them a turn: a message larger than
 * that is paid for by as many rounds. Whoever inflates little never waits for those who inflate
 * much, and a turn of the loop has no more of it than SHARE_TURN_BYTES and two messages.
 */
#include <utlist.h>

#include "front/front_private.h"

#define SHARE_TURN_BYTES 262144U

bool share_is_left(const struct conn *conn)
{
    if (!conn->deflate)
        return true;
    bool in_turn = conn->share_granted || conn->front->inflated_bytes < SHARE_TURN_BYTES;
    return in_turn && conn->share_bytes > 0;
}

void share_spend(struct conn *conn, size_t len)
{
    conn->front->inflated_bytes += len;
    conn->share_bytes -= (int32_t)len; /* clients.max_message is at most a GiB */
}

void share_wait(struct conn *conn)
{
    struct front *front = conn->front;
    if (conn->share_waits)
        return;
    conn->share_waits = true;
    DL_APPEND2(front->sharing, conn, share_prev, share_next);
    if (front->sharing == conn)
        loop_timer_start(front->share_timer, 0);
}

void share_forget(struct conn *conn)
{
    if (!conn->share_waits)
        return;
    conn->share_waits = false;
    DL_DELETE2(conn->front->sharing, conn, share_prev, share_next);
}

/* A message has a bound, so that whoever is in debt comes out of it after as many rounds. */
void share_give(void *ctx)
{
    struct front *front = ctx;
    struct conn *conn = NULL;
    while (front->sharing != NULL && (conn == NULL || conn->share_bytes <= 0)) {
        conn = front->sharing;
        conn->share_bytes += SHARE_BYTES;
        if (conn->share_bytes > SHARE_BYTES)
            conn->share_bytes = SHARE_BYTES;
        share_forget(conn);
        if (conn->share_bytes <= 0)
            share_wait(conn);
    }
    if (conn == NULL)
        return;
    conn->share_granted = true;
    stream_wake(&conn->stream);
    if (front->sharing != NULL)
        loop_timer_start(front->share_timer, 0);
}
