/*
 * A connected socket in lws's hands: bytes in, bytes out, with TLS over it where asked for.
 *
 * lws waits for the socket, reads it into its one buffer and keeps what the socket did not take at
 * once (its raw role). While it keeps something it does not read, and readable data would wake the
 * loop again and again: so reading stops then, and when all is out it goes first for one turn,
 * before the owner writes on.
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

/* The owner's side. Each is called with the loop entered, never from within a call of the owner
 * into this module. */
struct socket_handler {
    const char *name; /* of its callbacks, as in loop.h */
    /* Input, all of which has to be consumed; it may be changed. False: drop the connection
     * (written output goes out first). */
    bool (*on_bytes)(void *owner, uint8_t *bytes, size_t len);
    /* All that was written is out, after socket_write left some, or after socket_wake. False: drop.
     */
    bool (*on_writable)(void *owner);
    /* The socket is closed. Once; not after socket_detach. */
    void (*on_gone)(void *owner);
    /* The TLS handshake is done, or TLS has failed, in the handshake or later (why is not NULL,
     * on_gone follows). NULL where nobody wants to know. */
    void (*on_secured)(void *owner, const char *why);
};

/* Embedded in its owner. Zeroed before socket_open. */
struct socket {
    const struct socket_handler *handler;
    void *owner;
    struct loop *loop;
    struct lws *wsi; /* NULL: closed, or not open yet */
    struct tls *tls; /* NULL: plain */
    int fd;
    bool opening;
    bool stalled;  /* lws keeps bytes */
    bool drained;  /* within on_writable: the socket has taken what lws kept */
    bool shut_due; /* our direction ends once lws has written what it keeps */
    bool paused;   /* by the owner */
    bool killed;
};

/* Takes over a connected, non-blocking socket; closes it on failure. tls (may be NULL) is taken
 * over too, and a client's begins its handshake. */
MUST_USE enum status socket_open(struct socket *socket, struct loop *loop, int fd, struct tls *tls,
                                 const struct socket_handler *handler, void *owner);
/*
 * Goes on with TLS (a server's) on a plain socket, from within on_bytes: rest is what that has left
 * over. Takes tls over, which may be NULL where memory ran out. The result is for on_bytes to
 * return.
 */
bool socket_secure(struct socket *socket, struct tls *tls, const uint8_t *rest, size_t len);
/* Writes; what the socket does not take is kept, without a bound: ask socket_blocked before. A
 * failure shows as on_gone. */
void socket_write(struct socket *socket, const void *bytes, size_t len);
/* True while bytes wait for the socket: on_writable will come. */
bool socket_blocked(const struct socket *socket);
/* Asks for on_writable. */
void socket_wake(struct socket *socket);
/* Stops or goes on reading. */
void socket_pause(struct socket *socket, bool paused);
/* Ends our direction after what was written: close_notify where there is TLS, then FIN. The peer
 * may go on sending and ends the connection itself; its bytes still come by on_bytes, since a
 * socket that is closed with bytes unread answers with a reset, and a reset can overtake what we
 * sent last (RFC 6455 section 7.1.1). */
void socket_shut(struct socket *socket);
/* Drops the connection at the end of the turn: with a reset where the peer did not take what was
 * sent, or where asked for. on_gone follows. */
void socket_kill(struct socket *socket, bool reset);
/* Forgets the owner: no callback comes any more. reset: the peer gets a reset; otherwise written
 * output may still go out. The owner may free the socket. */
void socket_detach(struct socket *socket, bool reset);
int socket_fd(const struct socket *socket);
/* Makes the socket urgent (loop.h): what comes on it is served before what clients send. Call it
 * once, on an open socket. */
void socket_set_urgent(struct socket *socket);

#endif
