/*
 * The floor: a relay that does what every broker must, and nothing else.
 * `floor [--a-turn] LISTEN [BACKEND|- [REDIS [SCRIPT]]]`, each ADDRESS:PORT, SCRIPT the SHA-1 of
 * the hub's script that saves and publishes, as Redis has it loaded: without, it is a bare PUBLISH.
 *
 * It accepts clients, opens one upstream for each vehicle, and does one send() of the ready frame
 * for each push and client: frames of a server are not masked, so those of the upstream go on as
 * they came, and a client's go to the upstream as they came, too. No queues: a client that does not
 * take a frame is dropped. Without BACKEND it accepts and answers, which is the floor of a connect
 * storm.
 *
 * A client whose URL has `?subscribe` gets the MESSAGEs of vinhub.v1 that the hub would write, made
 * once a push: one send() of it a client, or with --a-turn one send() a client for all pushes that
 * one epoll_wait brought.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fleet.h"
#include "ws_wire.h"

#define BUFFER_BYTES (256u << 10)
#define EVENTS       512
#define VINS_MAX     (1u << 17)

enum floor_kind { LISTENER, NEW, CLIENT, FLEET, UPSTREAM_ASKING, UPSTREAM, REDIS };

struct floor_peer {
    int fd;
    enum floor_kind kind;
    uint32_t vin;
    uint32_t partial_len;
    uint8_t *partial;
    struct floor_peer *prev, *next; /* clients of a vehicle */
};

static struct {
    int epoll;
    struct sockaddr_in backend;
    bool has_backend;
    struct floor_peer *redis; /* NULL: one node */
    const char *script;       /* NULL: PUBLISH */
    bool a_turn; /* one send() for each client and turn, for clients with subscriptions */
    bool has_fleet;
    uint64_t published[VINS_MAX];
    struct floor_peer *clients[VINS_MAX], *upstreams[VINS_MAX];
    uint8_t buffer[BUFFER_BYTES];
    char path[512];
} self;

static struct floor_peer *peer_new(int fd, enum floor_kind kind, uint32_t events)
{
    struct floor_peer *peer = calloc(1, sizeof(*peer));
    struct epoll_event event = {.events = events, .data.ptr = peer};
    int on = 1;
    if (!peer || epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        free(peer);
        close(fd);
        return NULL;
    }
    if (kind != LISTENER)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    peer->fd = fd;
    peer->kind = kind;
    return peer;
}

/* Its descriptor is closed at once; a loop over a list has already taken the next element. */
static void peer_end(struct floor_peer *peer)
{
    if (peer->kind == CLIENT) {
        *(peer->prev ? &peer->prev->next : &self.clients[peer->vin]) = peer->next;
        if (peer->next)
            peer->next->prev = peer->prev;
    }
    if (peer->kind == FLEET)
        fleet_leave(peer->fd);
    if (peer->kind == UPSTREAM || peer->kind == UPSTREAM_ASKING)
        self.upstreams[peer->vin] = NULL;
    close_hard(peer->fd);
    free(peer->partial);
    free(peer);
}

/* --- to Redis --- */

static void redis_send(const uint8_t *bytes, size_t len)
{
    if (send(self.redis->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len) {
        perror("floor: redis");
        exit(1);
    }
}

static size_t add_bytes(uint8_t *out, size_t at, const void *bytes, size_t len)
{
    at += (size_t)snprintf((char *)out + at, 32, "$%zu\r\n", len);
    memcpy(out + at, bytes, len);
    out[at + len] = '\r';
    out[at + len + 1] = '\n';
    return at + len + 2;
}

static size_t add_text(uint8_t *out, size_t at, const char *text)
{
    return add_bytes(out, at, text, strlen(text));
}

static void redis_subscribe(uint32_t vin)
{
    char out[128];
    int n = snprintf(out, sizeof(out), "*2\r\n$9\r\nSUBSCRIBE\r\n$9\r\nV%08x\r\n", vin);
    redis_send((uint8_t *)out, (size_t)n);
}

/* Writes the record that the script looks at. */
static void redis_own(uint32_t vin)
{
    char out[192];
    int n = snprintf(out, sizeof(out),
                     "*6\r\n$4\r\nHSET\r\n$11\r\ns{%08x}\r\n$5\r\nowner\r\n$5\r\n"
                     "floor\r\n$5\r\nepoch\r\n$1\r\n1\r\n",
                     vin);
    redis_send((uint8_t *)out, (size_t)n);
}

/* The hub's script with a history of 100, for five minutes, trimmed as seldom as the hub does. */
static size_t add_script(uint8_t *out, uint32_t vin, const uint8_t *frame, size_t len)
{
    char record[24], history[24], channel[24], id[32];
    unsigned long long offset = ++self.published[vin];
    snprintf(record, sizeof(record), "s{%08x}", vin);
    snprintf(history, sizeof(history), "h{%08x}", vin);
    snprintf(channel, sizeof(channel), "V%08x", vin);
    snprintf(id, sizeof(id), "1-%llu", offset);
    const char *options = offset % 13 == 1 ? "1,,100,300000," : "";
    const char *const before[] = {"EVALSHA", self.script, "2",     record,  history, "floor",
                                  "PUBLISH", "1",         channel, options, "1",     ""};
    const char *const behind[] = {"", id, "1700000000000"};
    size_t at = (size_t)sprintf((char *)out, "*16\r\n");
    for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++)
        at = add_text(out, at, before[i]);
    at = add_bytes(out, at, frame, len);
    for (size_t i = 0; i < sizeof(behind) / sizeof(*behind); i++)
        at = add_text(out, at, behind[i]);
    return at;
}

static void redis_publish(uint32_t vin, const uint8_t *frame, size_t len)
{
    static uint8_t out[BUFFER_BYTES];
    char channel[24];
    size_t at;
    if (len > BUFFER_BYTES / 4)
        return;
    if (self.script) {
        at = add_script(out, vin, frame, len);
    } else {
        snprintf(channel, sizeof(channel), "V%08x", vin);
        at = (size_t)sprintf((char *)out, "*3\r\n$7\r\nPUBLISH\r\n");
        at = add_text(out, at, channel);
        at = add_bytes(out, at, frame, len);
    }
    redis_send(out, at);
}

/* --- clients and upstreams --- */

static void accept_all(const struct floor_peer *listener)
{
    int fd;
    /* epoll keeps it. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        peer_new(fd, NEW, EPOLLIN);
}

static void open_upstream(uint32_t vin)
{
    int fd = connect_to(&self.backend, 0, 0);
    struct floor_peer *peer = fd < 0 ? NULL : peer_new(fd, UPSTREAM_ASKING, EPOLLOUT);
    if (!peer)
        return;
    peer->vin = vin;
    self.upstreams[vin] = peer;
    if (self.script)
        redis_own(vin);
}

static void ask_upstream(struct floor_peer *peer)
{
    char path[64], request[WIRE_REQUEST_MAX];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    snprintf(path, sizeof(path), "/base/u/V%08x", peer->vin);
    size_t len = request_write(request, "bench", path, "");
    if (send(peer->fd, request, len, MSG_NOSIGNAL) != (ssize_t)len ||
        epoll_ctl(self.epoll, EPOLL_CTL_MOD, peer->fd, &event) != 0)
        peer_end(peer);
}

static void deliver(uint32_t vin, const uint8_t *frame, size_t len)
{
    struct floor_peer *next;
    for (struct floor_peer *peer = self.clients[vin]; peer; peer = next) {
        next = peer->next;
        if (send(peer->fd, frame, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
            shutdown(peer->fd, SHUT_RDWR); /* its end comes as an event */
    }
}

/* --- from Redis --- */

/* One line of an answer, e.g. `$204`; its number goes to *value. Returns its length with the end of
 * the line, 0 where more is needed. */
static size_t redis_line(const uint8_t *bytes, size_t len, size_t *value)
{
    const uint8_t *end = memchr(bytes, '\n', len);
    if (!end)
        return 0;
    *value = (size_t)strtoul((const char *)bytes + 1, NULL, 10);
    return (size_t)(end - bytes) + 1;
}

/* A number, or an array of three of which the last may be a frame: `message`, channel, frame.
 * Returns its length, 0 where more is needed. */
static size_t redis_answer(uint8_t *bytes, size_t len)
{
    size_t value, at = redis_line(bytes, len, &value);
    uint32_t vin = 0;
    if (at == 0 || bytes[0] != '*')
        return at;
    for (int element = 0; element < 3; element++) {
        size_t line = at < len ? redis_line(bytes + at, len - at, &value) : 0;
        bool bulk = line > 0 && bytes[at] == '$';
        if (line == 0 || (bulk && len - at - line < value + 2))
            return 0;
        at += line;
        if (element == 1)
            vin = vin_of_path((const char *)bytes + at) % VINS_MAX;
        if (element == 2 && bulk)
            deliver(vin, bytes + at, value);
        at += bulk ? value + 2 : 0;
    }
    return at;
}

static ssize_t on_redis(uint8_t *bytes, size_t len)
{
    size_t at = 0, used;
    while (at < len && (used = redis_answer(bytes + at, len - at)) > 0)
        at += used;
    return (ssize_t)at;
}

static void open_redis(const char *where)
{
    struct sockaddr_in address = address_of(where);
    int fd = connect_to(&address, 0, 0);
    self.redis = fd < 0 ? NULL : peer_new(fd, REDIS, EPOLLIN);
    if (!self.redis) {
        perror("floor: redis");
        exit(1);
    }
}

/* --- what comes in; each returns how much is used up, -1: end the peer --- */

static ssize_t on_request(struct floor_peer *peer, uint8_t *bytes, size_t len)
{
    char answer[WIRE_REQUEST_MAX], *path;
    uint8_t *end = memmem(bytes, len, "\r\n\r\n", 4);
    if (!end)
        return len < WIRE_REQUEST_MAX ? 0 : -1;
    end[2] = '\0';
    size_t n = answer_write(answer, (char *)bytes, &path);
    if (n == 0 || send(peer->fd, answer, n, MSG_NOSIGNAL) != (ssize_t)n)
        return -1;
    peer->vin = vin_of_path(path) % VINS_MAX;
    peer->kind = strstr(path, "?subscribe") ? FLEET : CLIENT;
    self.has_fleet |= peer->kind == FLEET;
    if (peer->kind == FLEET)
        return end + 4 - bytes;
    peer->next = self.clients[peer->vin];
    if (peer->next)
        peer->next->prev = peer;
    self.clients[peer->vin] = peer;
    if (self.has_backend && !self.upstreams[peer->vin])
        open_upstream(peer->vin);
    if (!self.has_backend && self.redis && !peer->next)
        redis_subscribe(peer->vin);
    return end + 4 - bytes;
}

static ssize_t on_answer(struct floor_peer *peer, uint8_t *bytes, size_t len)
{
    int head = answer_check((char *)bytes, len);
    if (head > 0)
        peer->kind = UPSTREAM;
    return head;
}

/* Encoded once for all. */
static void deliver_to_fleet(uint32_t vin, const struct frame *frame)
{
    static uint8_t message[BUFFER_BYTES];
    size_t len = fleet_message(message, sizeof(message), vin, ++self.published[vin], frame->payload,
                               frame->len);
    fleet_deliver(vin, message, len, self.a_turn);
}

static ssize_t on_upstream(struct floor_peer *peer, uint8_t *bytes, size_t len)
{
    size_t at = 0;
    struct frame frame;
    int got;
    while ((got = frame_parse(bytes + at, len - at, &frame)) == 1) {
        if (self.has_fleet)
            deliver_to_fleet(peer->vin, &frame);
        deliver(peer->vin, bytes + at, frame.total);
        if (self.redis)
            redis_publish(peer->vin, bytes + at, frame.total);
        at += frame.total;
    }
    return got < 0 ? -1 : (ssize_t)at;
}

static ssize_t on_client(struct floor_peer *peer, uint8_t *bytes, size_t len)
{
    static const uint8_t pong[] = {0x81, 4, 'p', 'o', 'n', 'g'};
    const struct floor_peer *upstream = self.upstreams[peer->vin];
    size_t at = 0;
    struct frame frame;
    int got;
    while ((got = frame_parse(bytes + at, len - at, &frame)) == 1) {
        if (frame.len == 4 && memcmp(frame.payload, "ping", 4) == 0)
            send(peer->fd, pong, sizeof(pong), MSG_NOSIGNAL | MSG_DONTWAIT);
        else if (upstream && upstream->kind == UPSTREAM)
            send(upstream->fd, bytes + at, frame.total, MSG_NOSIGNAL | MSG_DONTWAIT);
        at += frame.total;
    }
    return got < 0 ? -1 : (ssize_t)at;
}

static void follow(void *ctx, uint32_t vin)
{
    const struct floor_peer *peer = ctx;
    uint8_t welcome[FLEET_WELCOME_MAX];
    size_t len = fleet_welcome(welcome, vin);
    fleet_follow(peer->fd, vin);
    if (!self.upstreams[vin])
        open_upstream(vin);
    send(peer->fd, welcome, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A client of vinhub.v1, which subscribes. */
static ssize_t on_fleet(struct floor_peer *peer, uint8_t *bytes, size_t len)
{
    size_t at = 0;
    struct frame frame;
    int got;
    while ((got = frame_parse(bytes + at, len - at, &frame)) == 1) {
        if (frame.opcode == OP_TEXT)
            fleet_asked(frame.payload, frame.len, follow, peer);
        at += frame.total;
    }
    return got < 0 ? -1 : (ssize_t)at;
}

static ssize_t on_bytes(struct floor_peer *peer, uint8_t *bytes, size_t len)
{
    switch (peer->kind) {
    case NEW: return on_request(peer, bytes, len);
    case CLIENT: return on_client(peer, bytes, len);
    case FLEET: return on_fleet(peer, bytes, len);
    case UPSTREAM_ASKING: return on_answer(peer, bytes, len);
    case UPSTREAM: return on_upstream(peer, bytes, len);
    case REDIS: return on_redis(bytes, len);
    case LISTENER: break;
    }
    return -1;
}

static void on_readable(struct floor_peer *peer)
{
    size_t held = peer->partial_len;
    if (held > 0)
        memcpy(self.buffer, peer->partial, held);
    ssize_t n = recv(peer->fd, self.buffer + held, BUFFER_BYTES - held, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    size_t len = held + (size_t)(n > 0 ? n : 0);
    ssize_t used = n <= 0 ? -1 : on_bytes(peer, self.buffer, len);
    if (used < 0) {
        peer_end(peer);
        return;
    }
    size_t rest = len - (size_t)used;
    uint8_t *kept = rest == 0 ? NULL : realloc(peer->partial, rest);
    if (rest == 0)
        free(peer->partial);
    else if (kept)
        memcpy(kept, self.buffer + used, rest);
    peer->partial = kept;
    peer->partial_len = kept ? (uint32_t)rest : 0;
}

int main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS];
    if (argc > 1 && strcmp(argv[1], "--a-turn") == 0) {
        self.a_turn = true;
        argv++;
        argc--;
    }
    if (argc < 2 || argc > 5) {
        fprintf(stderr, "usage: floor [--a-turn] LISTEN [BACKEND|- [REDIS [SCRIPT]]]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = address_of(argv[1]);
    self.has_backend = argc >= 3 && strcmp(argv[2], "-") != 0;
    if (self.has_backend)
        self.backend = address_of(argv[2]);
    self.epoll = epoll_create1(EPOLL_CLOEXEC);
    int fd = listen_on(&address, false);
    if (self.epoll < 0 || fd < 0 || !peer_new(fd, LISTENER, EPOLLIN)) {
        perror("floor: listen");
        return 1;
    }
    if (argc >= 4)
        open_redis(argv[3]);
    if (argc == 5)
        self.script = argv[4];
    for (;;) {
        int n = epoll_wait(self.epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct floor_peer *peer = events[i].data.ptr;
            if (peer->kind == LISTENER)
                accept_all(peer);
            else if (peer->kind == UPSTREAM_ASKING && (events[i].events & EPOLLOUT) != 0)
                ask_upstream(peer);
            else
                on_readable(peer);
        }
        fleet_flush();
    }
}
