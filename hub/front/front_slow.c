/*
 * Clients that do not keep up with what the kernel keeps for them.
 *
 * The kernel takes megabytes for a socket (net.ipv4.tcp_wmem), which carries clients that read well
 * through bursts. For one that does not read it is memory without a bound of ours, and each push
 * costs a system call for nothing. So whoever took less in a second than still waits gets a short
 * allowance until it has caught up: what is new waits in the core's queue then, which has a bound
 * and a policy, as a reference.
 */
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "front/front_private.h"

/* How long a client must be behind to count as slow: on a good line a burst is over by then. */
#define BEHIND_MS 1000U
/* How often a client that is behind is checked again. */
#define BEHIND_BYTES 4096U
/* How much unsent output the kernel keeps for a slow client. It reports the socket writable when
 * half of that is sent. */
#define UNSENT_BYTES 16384

/* 0: what the kernel does by default. */
static void allow_unsent(struct conn *conn, int bytes)
{
    setsockopt(socket_fd(&conn->socket), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
    conn->slow = bytes != 0;
}

void slow_check(struct conn *conn)
{
    int waiting = 0;
    uint32_t now_ms = conn->front->now_ms;
    conn->checked = conn->written;
    if (socket_blocked(&conn->socket) || ioctl(socket_fd(&conn->socket), SIOCOUTQ, &waiting) != 0)
        return;
    uint32_t taken = conn->written - (uint32_t)waiting;
    bool was_behind = conn->behind;
    conn->behind = waiting >= (int)SLOW_CHECK_BYTES / 2;
    if (!conn->behind)
        return;
    conn->checked -= SLOW_CHECK_BYTES - BEHIND_BYTES;
    if (was_behind && now_ms - conn->behind_ms < BEHIND_MS)
        return;
    if (was_behind && taken - conn->behind_taken < (uint32_t)waiting)
        allow_unsent(conn, UNSENT_BYTES);
    conn->behind_ms = now_ms;
    conn->behind_taken = taken;
}

void slow_caught_up(struct conn *conn)
{
    conn->behind = false;
    if (conn->slow)
        allow_unsent(conn, 0);
}
