#include "loop/stream.h"

#include <errno.h>
#include <libwebsockets.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/loop.h"
#include "loop/loop_private.h"
#include "loop/tls.h"

/* lws hands the socket no more at once. Its default, 0, would cut each write into pieces of the
 * read buffer's size. */
#define WRITE_MAX 1048576

/* --- the way out --- */

static void update_reading(struct stream *stream)
{
    if (stream->wsi)
        lws_rx_flow_control(stream->wsi, !stream->stalled && !stream->paused);
}

/* lws keeps what the socket did not take, and tells when it is out. */
static void keep_rest(struct stream *stream, const uint8_t *bytes, size_t len)
{
    /* Only read: the raw role neither frames nor masks. */
    if (lws_write(stream->wsi, (unsigned char *)(uintptr_t)bytes, len, LWS_WRITE_RAW) < 0) {
        stream_kill(stream, true);
        return;
    }
    if (!stream->stalled && lws_partial_buffered(stream->wsi)) {
        stream->stalled = true;
        update_reading(stream);
    }
}

/* The socket takes it whole nearly always. lws is asked only where it does not: its object of a
 * thousand bytes need not come into the processor's cache for each of many thousand clients. */
static void write_socket(struct stream *stream, const uint8_t *bytes, size_t len)
{
    if (!stream->wsi || stream->killed || len == 0)
        return;
    ssize_t n = stream->stalled ? 0 : send(stream->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == (ssize_t)len)
        return;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        stream_kill(stream, true);
    else
        keep_rest(stream, bytes + (n > 0 ? n : 0), len - (size_t)(n > 0 ? n : 0));
}

/* What TLS has to say to the peer. */
static void write_records(struct stream *stream)
{
    const uint8_t *bytes;
    size_t len = tls_pending(stream->tls, &bytes);
    write_socket(stream, bytes, len);
    tls_sent(stream->tls);
}

void stream_write(struct stream *stream, const void *bytes, size_t len)
{
    if (!stream->tls) {
        write_socket(stream, bytes, len);
        return;
    }
    if (!stream->wsi || stream->killed || len == 0)
        return;
    if (tls_write(stream->tls, bytes, len) != STATUS_OK) {
        stream_kill(stream, true);
        return;
    }
    write_records(stream);
}

bool stream_blocked(const struct stream *stream)
{
    return stream->wsi && stream->stalled;
}

void stream_wake(struct stream *stream)
{
    if (stream->wsi)
        lws_callback_on_writable(stream->wsi);
}

void stream_pause(struct stream *stream, bool paused)
{
    stream->paused = paused;
    if (!paused && stream->tls && tls_ended(stream->tls))
        stream_kill(stream, false);
    else
        update_reading(stream);
}

/* --- the end --- */

static void set_reset(const struct lws *wsi, int fd)
{
    (void)wsi;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

int stream_fd(const struct stream *stream)
{
    return stream->wsi ? stream->fd : -1;
}

void stream_set_urgent(struct stream *stream)
{
    if (stream->wsi)
        lws_adapter_set_urgent(loop_lws_adapter(stream->loop), stream->fd);
}

/* An end in order is said within TLS, too, or the peer can't tell it from bytes that were lost. */
static void end_records(struct stream *stream)
{
    if (!stream->wsi || !stream->tls)
        return;
    tls_shut(stream->tls);
    write_records(stream);
}

void stream_shut(struct stream *stream)
{
    if (!stream->wsi || stream->killed)
        return;
    end_records(stream);
    stream->shut_due = stream_blocked(stream);
    if (!stream->shut_due && !stream->killed)
        shutdown(stream_fd(stream), SHUT_WR);
}

void stream_kill(struct stream *stream, bool reset)
{
    if (!stream->wsi || stream->killed)
        return;
    /* What the peer has not taken by now it will not take: a reset frees the kernel's memory at
     * once. */
    int unsent = 0;
    if (reset || stream_blocked(stream) ||
        (ioctl(stream_fd(stream), SIOCOUTQ, &unsent) == 0 && unsent > 0))
        set_reset(stream->wsi, stream_fd(stream));
    else
        end_records(stream);
    stream->killed = true;
    lws_set_timeout(stream->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
}

static void forget(struct stream *stream)
{
    if (stream->wsi)
        lws_set_opaque_user_data(stream->wsi, NULL);
    stream->wsi = NULL;
    tls_free(stream->tls);
    stream->tls = NULL;
}

void stream_detach(struct stream *stream, bool reset)
{
    struct lws *wsi = stream->wsi;
    if (wsi) {
        if (reset)
            set_reset(wsi, lws_get_socket_fd(wsi));
        else if (!stream->killed)
            end_records(stream);
        /* Where the socket took nothing for so long that bytes are left, lws gives it five seconds
         * more. */
        lws_set_timeout(
            wsi, reset ? PENDING_TIMEOUT_KILLED_BY_PARENT : PENDING_TIMEOUT_HTTP_KEEPALIVE_IDLE,
            LWS_TO_KILL_ASYNC);
    }
    forget(stream);
}

/* --- the way in --- */

static void tell_secured(struct stream *stream, const char *why)
{
    if (stream->handler->on_secured)
        stream->handler->on_secured(stream->owner, why);
}

/* The handshake and the plain bytes out of records. The owner may detach the stream in any call. */
static bool on_records(struct stream *stream, const uint8_t *bytes, size_t len)
{
    bool was_ready = tls_ready(stream->tls);
    enum status status = tls_feed(stream->tls, bytes, len);
    write_records(stream); /* an alert, too, that says why */
    if (status != STATUS_OK) {
        if (!was_ready)
            tell_secured(stream, tls_why(stream->tls));
        return false;
    }
    if (!was_ready && tls_ready(stream->tls))
        tell_secured(stream, NULL);

    uint8_t plain[16384];
    size_t n;
    while (stream->tls && (n = tls_read(stream->tls, plain, sizeof(plain))) > 0) {
        if (!stream->handler->on_bytes(stream->owner, plain, n))
            return false;
    }
    if (!stream->tls)
        return true;
    write_records(stream);
    /* TLS 1.3: a server that misses our certificate says so after the handshake. */
    if (tls_why(stream->tls)[0] != '\0')
        tell_secured(stream, tls_why(stream->tls));
    if (!stream->tls)
        return true;
    /* An owner that has paused has not taken all that came before the end: stream_pause goes on. */
    return stream->paused || !tls_ended(stream->tls);
}

bool stream_secure(struct stream *stream, struct tls *tls, const uint8_t *rest, size_t len)
{
    stream->tls = tls;
    return tls && (len == 0 || on_records(stream, rest, len));
}

static bool on_readable(struct stream *stream, struct lws *wsi, uint8_t *bytes, size_t len)
{
    bool goes_on = stream->tls ? on_records(stream, bytes, len)
                               : stream->handler->on_bytes(stream->owner, bytes, len);
    if (!goes_on && lws_get_opaque_user_data(wsi))
        end_records(stream);
    return goes_on;
}

static bool on_writable(struct stream *stream)
{
    if (stream->stalled) {
        stream->stalled = false;
        stream->drained = true;
        update_reading(stream);
        if (stream->shut_due)
            stream_shut(stream);
        lws_callback_on_writable(stream->wsi);
        return true;
    }
    bool alive = stream->handler->on_writable(stream->owner);
    stream->drained = false;
    return alive;
}

static void on_closed(struct stream *stream)
{
    forget(stream);
    if (stream->opening)
        return; /* stream_open says it */
    stream->handler->on_gone(stream->owner);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    (void)user;
    struct stream *stream = lws_get_opaque_user_data(wsi);
    if (!stream)
        return 0;
    loop_enter(stream->loop, stream->handler->name);
    if (!lws_get_opaque_user_data(wsi))
        return 0; /* what the start of the turn brought has detached it */

    /* The rest of lws's reasons does not concern a raw connection. */
    if (reason == LWS_CALLBACK_RAW_ADOPT)
        stream->wsi = wsi;
    else if (reason == LWS_CALLBACK_RAW_RX)
        return on_readable(stream, wsi, in, len) ? 0 : -1;
    else if (reason == LWS_CALLBACK_RAW_WRITEABLE)
        return on_writable(stream) ? 0 : -1;
    else if (reason == LWS_CALLBACK_RAW_CLOSE || reason == LWS_CALLBACK_WSI_DESTROY)
        on_closed(stream);
    return 0;
}

static const struct lws_protocols protocols[] = {
    {.name = "stream",
     .callback = callback,
     .rx_buffer_size = 0, /* reads go through lws's own buffer, none is kept a connection */
     .tx_packet_size = WRITE_MAX},
    LWS_PROTOCOL_LIST_TERM,
};

struct lws_vhost *stream_vhost_new(struct lws_context *context)
{
    struct lws_context_creation_info info = {
        .vhost_name = "streams", .port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols};
    return lws_create_vhost(context, &info);
}

enum status stream_open(struct stream *stream, struct loop *loop, int fd, struct tls *tls,
                        const struct stream_handler *handler, void *owner)
{
    *stream = (struct stream){
        .handler = handler, .owner = owner, .loop = loop, .tls = tls, .fd = fd, .opening = true};
    struct lws_vhost *vhost = loop_stream_vhost(loop);
    if (!vhost) {
        close(fd);
        forget(stream);
        return STATUS_IO;
    }
    lws_adopt_desc_t adopt = {.vh = vhost,
                              .type = LWS_ADOPT_SOCKET,
                              .fd.sockfd = fd,
                              .vh_prot_name = "stream",
                              .opaque = stream};
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&adopt);
    stream->opening = false;
    if (!wsi) {
        stream->wsi = NULL;
        forget(stream);
        return STATUS_IO;
    }
    stream->wsi = wsi;
    if (tls)
        write_records(stream); /* a client's hello */
    return STATUS_OK;
}
