/*
 * Whose messages are opened next: inflated, or taken out of the JSON of vinhub.v1.
 *
 * Such a message costs its sender far less than it costs here (a deflated one a thousandth), so
 * that a read a turn for each connection is no fair share. Each has credit, in bytes of what was
 * opened. Who has none left waits, with what it has sent, in a row; each round gives everyone in it
 * the same, and a message larger than that is paid for by as many rounds. So whoever needs little
 * never waits for those who need much, and a turn of the loop has no more of it than
 * SHARE_TURN_BYTES and one message.
 */
#include <assert.h>
#include <utlist.h>

#include "front/front_private.h"

#define SHARE_TURN_BYTES 65536U
/* How many are woken in one turn: the credit of each may be small. */
#define SHARE_WAKE_MAX 64U

/* A message that needs no inflating or decoding costs no more than its bytes, so it needs no
 * credit. */
static bool is_cheap(const struct conn *conn)
{
    return !conn->deflate && !conn->client.follows;
}

bool share_is_left(const struct conn *conn)
{
    return is_cheap(conn) || (conn->share_bytes > 0 && conn->front->share_spent < SHARE_TURN_BYTES);
}

void share_spend(struct conn *conn, size_t len)
{
    if (is_cheap(conn))
        return;
    conn->front->share_spent += len;
    conn->share_bytes -= (int32_t)len; /* clients.max_message is at most a GiB */
}

void share_wait(struct conn *conn)
{
    struct front *front = conn->front;
    struct held_input *held = conn->held;
    assert(held);
    if (held->waits)
        return;
    held->waits = true;
    DL_APPEND(front->sharing, held);
    if (front->sharing_len++ == 0)
        loop_timer_start(front->share_timer, 0);
}

void share_forget(struct conn *conn)
{
    struct held_input *held = conn->held;
    if (!held || !held->waits)
        return;
    held->waits = false;
    DL_DELETE(conn->front->sharing, held);
    conn->front->sharing_len--;
}

/* The number of rounds until it has credit again. */
static int32_t rounds_owed(const struct conn *conn)
{
    return conn->share_bytes > 0 ? 1 : -conn->share_bytes / SHARE_BYTES + 1;
}

/* True: it may go on. rounds: at most as many as it owes. */
static bool grant_share(struct conn *conn, int32_t rounds)
{
    conn->share_bytes += rounds * SHARE_BYTES;
    if (conn->share_bytes > SHARE_BYTES)
        conn->share_bytes = SHARE_BYTES;
    share_forget(conn);
    if (conn->share_bytes > 0)
        socket_wake(&conn->socket);
    else
        share_wait(conn);
    held_settle(conn);
    return conn->share_bytes > 0;
}

/* One round, or as many at once as it takes until someone is out of debt. */
void share_grant(void *ctx)
{
    struct front *front = ctx;
    size_t woken = 0, waiting = front->sharing_len;
    int32_t rounds = INT32_MAX;
    const struct held_input *held;
    DL_FOREACH (front->sharing, held) {
        int32_t owed = rounds_owed(held->conn);
        rounds = owed < rounds ? owed : rounds;
    }
    for (; waiting > 0 && woken < SHARE_WAKE_MAX; waiting--)
        woken += grant_share(front->sharing->conn, rounds) ? 1 : 0;
    if (front->sharing)
        loop_timer_start(front->share_timer, 0);
}
