/*
 * The listening socket: binding, and accepting in batches.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "front/front_private.h"
#include "front/front_refuse.h"

#define BACKLOG 4096
/* How many are accepted in one turn: a storm of connects must not keep the others waiting. */
#define ACCEPT_MAX 256
/* The same where each is a TLS handshake, of half a millisecond: what its peer sends is served
 * before the next are accepted. The rest waits in the listen queue, where no deadline runs yet, and
 * clients that are open wait for these few only. */
#define ACCEPT_TLS_MAX 32
/* How long nothing is accepted after the descriptors ran out. */
#define ACCEPT_PAUSE_MS 10
/* How many half-open handshakes are dropped then. */
#define EVICT_MANY 512
/* Without PINGs, after how long a peer that answers nothing is given up. */
#define KEEPALIVE_S 120

/* "host:port" into its parts; the host without brackets. */
static bool split_address(const char *address, char host[256], const char **port)
{
    const char *colon = strrchr(address, ':');
    if (!colon)
        return false;
    size_t len = (size_t)(colon - address);
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (len >= 256)
        return false;
    memcpy(host, address, len);
    host[len] = '\0';
    *port = colon + 1;
    return **port != '\0';
}

static int bind_socket(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* what is accepted inherits it */
    if (info->ai_family == AF_INET6)                           /* "::" takes IPv4 too */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Accepted sockets inherit all of it (Linux copies the listening socket), so that it costs no call
 * for each. */
void listen_set_keepalive(struct front *front)
{
    if (front->listen_fd < 0)
        return;
    int on = front->conf->clients.ping_every_ms == 0, idle_s = KEEPALIVE_S / 2,
        interval_s = KEEPALIVE_S / 8, probes = 4, unread_ms = on ? KEEPALIVE_S * 1000 : 0;
    setsockopt(front->listen_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(front->listen_fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(front->listen_fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    setsockopt(front->listen_fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    /* Of data that nobody acknowledges; a keepalive does not run while there are some. */
    setsockopt(front->listen_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unread_ms, sizeof(unread_ms));
}

static void print_bound(int fd, char *out, size_t len)
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    char host[INET6_ADDRSTRLEN], port[8];
    if (getsockname(fd, (struct sockaddr *)&bound, &size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, size, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    snprintf(out, len, bound.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

union peer_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static void take(struct front *front, int fd, const union peer_address *from)
{
    if (from->any.sa_family == AF_INET6) {
        conn_new(front, fd, &from->v6.sin6_addr);
        return;
    }
    struct in6_addr mapped = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(mapped.s6_addr + 12, &from->v4.sin_addr, sizeof(from->v4.sin_addr));
    conn_new(front, fd, &mapped);
}

/* The oldest half-open handshakes make room: an honest client completes its own within a round
 * trip. */
static void evict(struct front *front, size_t count)
{
    struct conn *oldest;
    for (size_t i = 0; i < count && (oldest = front->queues[QUEUE_HANDSHAKE].first) != NULL; i++) {
        if (oldest->handshake->heard)
            refuse_unanswered(oldest, REFUSE_FULL,
                              "no descriptor is left for half-open handshakes");
        conn_enqueue(oldest, QUEUE_CLOSING);
        socket_kill(&oldest->socket, true);
    }
}

static void on_connection(void *ctx)
{
    struct front *front = ctx;
    int most = front->tls ? ACCEPT_TLS_MAX : ACCEPT_MAX;
    for (int i = 0; i < most; i++) {
        union peer_address from = {.v6 = {0}};
        socklen_t size = sizeof(from);
        int fd = accept4(front->listen_fd, &from.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            /* Descriptors are given lowest first: this number says how many are in use. */
            if (fd >= front->descriptors_max)
                evict(front, 1);
            take(front, fd, &from);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno != EAGAIN) {
            log_warn_cause("accept_failed", LOG_STR("error", strerror(errno)));
            evict(front, EVICT_MANY);
            loop_watch_free(front->listen_watch);
            front->listen_watch = NULL;
            loop_timer_start(front->listen_timer, ACCEPT_PAUSE_MS);
        }
        return;
    }
}

void listen_resume(void *ctx)
{
    struct front *front = ctx;
    if (front->listen_fd < 0 || front->listen_watch)
        return;
    front->listen_watch = loop_watch_new(front->loop, "accept", front->listen_fd, LOOP_READABLE,
                                         on_connection, front);
    if (!front->listen_watch)
        loop_timer_start(front->listen_timer, ACCEPT_PAUSE_MS);
}

enum status front_listen(struct front *front, const char *address, char *why, size_t why_len)
{
    char host[256];
    const char *port;
    if (!split_address(address, host, &port)) {
        snprintf(why, why_len, "%s: not of the form host:port", address);
        return STATUS_INVALID;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
    bool any = host[0] == '\0' || strcmp(host, "*") == 0;
    int result = getaddrinfo(any ? NULL : host, port, &hints, &list);
    if (result != 0) {
        snprintf(why, why_len, "%s: %s", address, gai_strerror(result));
        return STATUS_IO;
    }
    int fd = -1;
    for (struct addrinfo *info = list; info && fd < 0; info = info->ai_next)
        fd = bind_socket(info);
    int error = errno;
    freeaddrinfo(list);
    if (fd < 0) {
        snprintf(why, why_len, "%s: %s", address, strerror(error));
        return STATUS_IO;
    }
    front->listen_fd = fd;
    listen_set_keepalive(front);
    print_bound(fd, front->address, sizeof(front->address));
    listen_resume(front);
    if (!front->listen_watch)
        return STATUS_NO_MEMORY;
    return STATUS_OK;
}

void listen_stop(struct front *front)
{
    loop_watch_free(front->listen_watch);
    front->listen_watch = NULL;
    loop_timer_stop(front->listen_timer);
    if (front->listen_fd >= 0)
        close(front->listen_fd);
    front->listen_fd = -1;
}
