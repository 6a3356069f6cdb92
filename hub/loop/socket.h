/*
 * A connected TCP socket that lws serves: bytes in, bytes out, with TLS over it if asked for.
 *
 * lws waits for events of the socket, reads into its one buffer, and keeps output that the kernel
 * did not take (its raw role). lws does not read while it keeps output, and readable data would
 * wake the loop again and again. So reading is paused then. When all output is written, the socket
 * is read for one turn before on_writable is called.
 *
 *   socket_open -> [TLS handshake -> on_secured] -> on_bytes, on_writable ...
 *     -> on_gone          closed by the peer, by an error, by socket_kill, or by a handler that
 *                         returned false
 *     -> socket_detach    the owner leaves: no callback any more, on_gone included
 *
 *   output:  written by the kernel at once, or  stalled (lws keeps the rest, reading is paused)
 *     -> drained (all written; one turn of reading) -> on_writable
 *
 * The struct is part of its owner, who may free it after on_gone or socket_detach. lws frees its
 * own object later and closes the descriptor then.
 */
#ifndef VINHUB_LOOP_SOCKET_H
#define VINHUB_LOOP_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct loop;
struct lws;
struct socket;
struct tls;

/* The callbacks of the owner, which finds itself by the socket embedded in it. Each is called with
 * the loop entered. None is called during a call of the owner into this module, except by
 * socket_secure. */
struct socket_handler {
    const char *name; /* of the callbacks, as in loop.h */
    /* Input; the owner must consume all of it, and may change the bytes. Returns false to close the
     * connection (output that was written goes out first). */
    bool (*on_bytes)(struct socket *socket, uint8_t *bytes, size_t len);
    /* All output is written, after socket_write had left some; or socket_wake was called. Returns
     * false to close the connection. */
    bool (*on_writable)(struct socket *socket);
    /* The socket is closed. Called once, and not after socket_detach. */
    void (*on_gone)(struct socket *socket);
    /* The TLS handshake is done (why is NULL), or TLS has failed, in the handshake or later (why is
     * the cause, on_gone follows). May be NULL. */
    void (*on_secured)(struct socket *socket, const char *why);
};

/* Embedded in its owner. Zeroed before socket_open. */
struct socket {
    const struct socket_handler *handler;
    struct lws *wsi; /* NULL: closed, or not open yet */
    struct tls *tls; /* NULL: plain */
    int fd;
    bool opening : 1;  /* within socket_open */
    bool stalled : 1;  /* lws keeps output */
    bool drained : 1;  /* lws has written the output that it kept; false again after on_writable */
    bool shut_due : 1; /* our direction ends once lws has written the output that it keeps */
    bool paused : 1;   /* the owner has paused reading */
    bool killed : 1;   /* closed at the end of this turn */
};

/* Takes over a connected, non-blocking descriptor, and closes it on failure. Takes tls over, too
 * (it may be NULL); that of a client begins its handshake. */
MUST_USE enum status socket_open(struct socket *socket, struct loop *loop, int fd, struct tls *tls,
                                 const struct socket_handler *handler);
/*
 * Begins TLS as a server on a socket that was plain so far. To be called in on_bytes only; rest:
 * the bytes that on_bytes has not used. May call on_secured and on_bytes before it returns. Takes
 * tls over; NULL (out of memory) closes the connection. on_bytes must return the result.
 */
bool socket_secure(struct socket *socket, struct tls *tls, const uint8_t *rest, size_t len);
/* Writes bytes. Output that the kernel does not take is kept, without a bound: the caller checks
 * socket_blocked before. After a failure on_gone is called. */
void socket_write(struct socket *socket, const void *bytes, size_t len);
/* True while bytes wait for the socket: on_writable will come. */
bool socket_blocked(const struct socket *socket);
/* Asks for on_writable. */
void socket_wake(struct socket *socket);
/* Pauses reading, or goes on with it. */
void socket_pause(struct socket *socket, bool paused);
/* Ends our direction after the output that was written: close_notify with TLS, then FIN. The peer
 * may go on sending until it ends the connection; its bytes still come by on_bytes. (A socket that
 * is closed with unread bytes sends a reset, which may make the peer lose our last output: RFC 6455
 * section 7.1.1.) */
void socket_shut(struct socket *socket);
/* Closes the connection at the end of the turn: with a reset if reset is set or the peer has not
 * taken all output. on_gone follows. */
void socket_kill(struct socket *socket, bool reset);
/* Takes the owner off the socket: no callback comes any more, and the owner may free the struct.
 * reset: the peer gets a reset; otherwise output that was written may still go out. */
void socket_detach(struct socket *socket, bool reset);
int socket_fd(const struct socket *socket);
/* Makes the socket urgent (urgent.h): its input is served before that of clients. To be called
 * once, on an open socket. */
void socket_set_urgent(struct socket *socket);

#endif
