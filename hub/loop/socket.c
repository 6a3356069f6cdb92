#include "loop/socket.h"

#include <errno.h>
#include <libwebsockets.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/loop.h"
#include "loop/loop_private.h"
#include "loop/tls.h"

/* The most that lws writes at once. Its default, 0, would cut each write into pieces of the size of
 * the read buffer. */
#define WRITE_MAX 1048576

static struct loop *loop_of(const struct lws *wsi)
{
    return lws_context_user(lws_get_context(wsi));
}

/* --- the way out --- */

static void update_reading(struct socket *socket)
{
    if (socket->wsi)
        lws_rx_flow_control(socket->wsi, !socket->stalled && !socket->paused);
}

/* Gives lws the output that the kernel did not take; lws writes it later. */
static void keep_rest(struct socket *socket, const uint8_t *bytes, size_t len)
{
    /* lws only reads the bytes: its raw role neither frames nor masks. */
    if (lws_write(socket->wsi, (unsigned char *)(uintptr_t)bytes, len, LWS_WRITE_RAW) < 0) {
        socket_kill(socket, true);
        return;
    }
    if (!socket->stalled && lws_partial_buffered(socket->wsi)) {
        socket->stalled = true;
        update_reading(socket);
    }
}

/* The kernel nearly always takes all bytes. Only the rest goes through lws: so its object of about
 * a thousand bytes is not loaded into the processor's cache for each of many thousand clients. */
static void write_socket(struct socket *socket, const uint8_t *bytes, size_t len)
{
    if (!socket->wsi || socket->killed || len == 0)
        return;
    ssize_t n = socket->stalled ? 0 : send(socket->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == (ssize_t)len)
        return;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        socket_kill(socket, true);
    else
        keep_rest(socket, bytes + (n > 0 ? n : 0), len - (size_t)(n > 0 ? n : 0));
}

/* Writes the records that TLS has for the peer. */
static void write_records(struct socket *socket)
{
    const uint8_t *bytes;
    size_t len = tls_pending(socket->tls, &bytes);
    write_socket(socket, bytes, len);
    tls_sent(socket->tls);
}

void socket_write(struct socket *socket, const void *bytes, size_t len)
{
    if (!socket->tls) {
        write_socket(socket, bytes, len);
        return;
    }
    if (!socket->wsi || socket->killed || len == 0)
        return;
    if (tls_write(socket->tls, bytes, len) != STATUS_OK) {
        socket_kill(socket, true);
        return;
    }
    write_records(socket);
}

bool socket_blocked(const struct socket *socket)
{
    return socket->wsi && socket->stalled;
}

void socket_wake(struct socket *socket)
{
    if (socket->wsi)
        lws_callback_on_writable(socket->wsi);
}

void socket_pause(struct socket *socket, bool paused)
{
    socket->paused = paused;
    if (!paused && socket->tls && tls_ended(socket->tls))
        socket_kill(socket, false);
    else
        update_reading(socket);
}

/* --- the end --- */

static void set_reset(const struct lws *wsi, int fd)
{
    (void)wsi;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

int socket_fd(const struct socket *socket)
{
    return socket->wsi ? socket->fd : -1;
}

void socket_set_urgent(struct socket *socket)
{
    if (socket->wsi)
        lws_adapter_set_urgent(loop_lws_adapter(loop_of(socket->wsi)), socket->fd);
}

/* Without close_notify the peer can't distinguish a clean end from a truncated stream. */
static void end_records(struct socket *socket)
{
    if (!socket->wsi || !socket->tls)
        return;
    tls_shut(socket->tls);
    write_records(socket);
}

void socket_shut(struct socket *socket)
{
    if (!socket->wsi || socket->killed)
        return;
    end_records(socket);
    socket->shut_due = socket_blocked(socket);
    if (!socket->shut_due && !socket->killed)
        shutdown(socket_fd(socket), SHUT_WR);
}

/*
 * Makes lws close the connection when it runs its timers next.
 *
 * lws keeps timeouts in a sorted list and searches the place of a new one from the earliest on. So
 * each of a thousand LWS_TO_KILL_ASYNC in a turn would walk past all that came before it: for ten
 * thousand of them this took more than half of 158 ms. A negative time is due, too. Here each one
 * is earlier than the one before, so its place is the first. (lws 4.3, lib/core-net/wsi-timeout.c)
 */
static void close_soon(struct lws *wsi, enum pending_timeout reason)
{
    static unsigned calls;
    const int earliest = LWS_TO_KILL_ASYNC < LWS_TO_KILL_SYNC ? LWS_TO_KILL_ASYNC
                                                              : LWS_TO_KILL_SYNC;
    lws_set_timeout(wsi, reason, earliest - 1 - (int)(calls++ % (1u << 30)));
}

void socket_kill(struct socket *socket, bool reset)
{
    if (!socket->wsi || socket->killed)
        return;
    /* The peer has not taken the output by now: a reset frees the kernel's memory at once. */
    int unsent = 0;
    if (reset || socket_blocked(socket) ||
        (ioctl(socket_fd(socket), SIOCOUTQ, &unsent) == 0 && unsent > 0))
        set_reset(socket->wsi, socket_fd(socket));
    else
        end_records(socket);
    socket->killed = true;
    close_soon(socket->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT);
}

static void forget(struct socket *socket)
{
    if (socket->wsi)
        lws_set_opaque_user_data(socket->wsi, NULL);
    socket->wsi = NULL;
    tls_free(socket->tls);
    socket->tls = NULL;
}

void socket_detach(struct socket *socket, bool reset)
{
    struct lws *wsi = socket->wsi;
    if (wsi) {
        if (reset)
            set_reset(wsi, lws_get_socket_fd(wsi));
        else if (!socket->killed)
            end_records(socket);
        /* If lws still keeps output, it waits up to five seconds more for the peer to take it. */
        close_soon(wsi,
                   reset ? PENDING_TIMEOUT_KILLED_BY_PARENT : PENDING_TIMEOUT_HTTP_KEEPALIVE_IDLE);
    }
    forget(socket);
}

/* --- the way in --- */

static void report_secured(struct socket *socket, const char *why)
{
    if (socket->handler->on_secured)
        socket->handler->on_secured(socket, why);
}

/* Feeds bytes of the socket to TLS and passes the plain bytes to the owner, who may detach the
 * socket in any callback. */
static bool on_records(struct socket *socket, const uint8_t *bytes, size_t len)
{
    bool was_ready = tls_ready(socket->tls);
    enum status status = tls_feed(socket->tls, bytes, len);
    write_records(socket); /* also after a failure: an alert gives the peer the cause */
    if (status != STATUS_OK) {
        if (!was_ready)
            report_secured(socket, tls_why(socket->tls));
        return false;
    }
    if (!was_ready && tls_ready(socket->tls))
        report_secured(socket, NULL);

    uint8_t plain[16384];
    size_t n;
    while (socket->tls && (n = tls_read(socket->tls, plain, sizeof(plain))) > 0) {
        if (!socket->handler->on_bytes(socket, plain, n))
            return false;
    }
    if (!socket->tls)
        return true;
    write_records(socket);
    /* TLS 1.3: if a server requires a certificate of ours, it says so only after the handshake. */
    if (tls_why(socket->tls)[0] != '\0')
        report_secured(socket, tls_why(socket->tls));
    if (!socket->tls)
        return true;
    /* The peer has ended, but a paused owner may have input left: socket_pause closes later. */
    return socket->paused || !tls_ended(socket->tls);
}

bool socket_secure(struct socket *socket, struct tls *tls, const uint8_t *rest, size_t len)
{
    socket->tls = tls;
    return tls && (len == 0 || on_records(socket, rest, len));
}

static bool on_readable(struct socket *socket, struct lws *wsi, uint8_t *bytes, size_t len)
{
    bool goes_on = socket->tls ? on_records(socket, bytes, len)
                               : socket->handler->on_bytes(socket, bytes, len);
    if (!goes_on && lws_get_opaque_user_data(wsi))
        end_records(socket);
    return goes_on;
}

static bool on_writable(struct socket *socket)
{
    if (socket->stalled) {
        socket->stalled = false;
        socket->drained = true;
        update_reading(socket);
        if (socket->shut_due)
            socket_shut(socket);
        lws_callback_on_writable(socket->wsi);
        return true;
    }
    bool alive = socket->handler->on_writable(socket);
    socket->drained = false;
    return alive;
}

static void on_closed(struct socket *socket)
{
    forget(socket);
    if (socket->opening)
        return; /* socket_open returns the failure */
    socket->handler->on_gone(socket);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    (void)user;
    struct socket *socket = lws_get_opaque_user_data(wsi);
    if (!socket)
        return 0;
    loop_enter(loop_of(wsi), socket->handler->name);
    if (!lws_get_opaque_user_data(wsi))
        return 0; /* a start hook of this turn has detached it */

    /* The rest of lws's reasons does not concern a raw connection. */
    if (reason == LWS_CALLBACK_RAW_ADOPT)
        socket->wsi = wsi;
    else if (reason == LWS_CALLBACK_RAW_RX)
        return on_readable(socket, wsi, in, len) ? 0 : -1;
    else if (reason == LWS_CALLBACK_RAW_WRITEABLE)
        return on_writable(socket) ? 0 : -1;
    else if (reason == LWS_CALLBACK_RAW_CLOSE || reason == LWS_CALLBACK_WSI_DESTROY)
        on_closed(socket);
    return 0;
}

static const struct lws_protocols protocols[] = {
    {.name = "socket",
     .callback = callback,
     .rx_buffer_size = 0, /* reads go through lws's own buffer, none is kept a connection */
     .tx_packet_size = WRITE_MAX},
    LWS_PROTOCOL_LIST_TERM,
};

struct lws_vhost *socket_vhost_new(struct lws_context *context)
{
    struct lws_context_creation_info info = {
        .vhost_name = "sockets", .port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols};
    return lws_create_vhost(context, &info);
}

enum status socket_open(struct socket *socket, struct loop *loop, int fd, struct tls *tls,
                        const struct socket_handler *handler)
{
    *socket = (struct socket){.handler = handler, .tls = tls, .fd = fd, .opening = true};
    struct lws_vhost *vhost = loop_socket_vhost(loop);
    if (!vhost) {
        close(fd);
        forget(socket);
        return STATUS_IO;
    }
    lws_adopt_desc_t adopt = {.vh = vhost,
                              .type = LWS_ADOPT_SOCKET,
                              .fd.sockfd = fd,
                              .vh_prot_name = "socket",
                              .opaque = socket};
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&adopt);
    socket->opening = false;
    if (!wsi) {
        socket->wsi = NULL;
        forget(socket);
        return STATUS_IO;
    }
    socket->wsi = wsi;
    if (tls)
        write_records(socket); /* a client's hello */
    return STATUS_OK;
}
