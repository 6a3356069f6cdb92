/*
 * A process of browsers. Each is one socket and forty bytes. The process has one read buffer; a
 * partial frame at its end is kept until the rest comes.
 *
 * Each push is checked: it names the vehicle the client watches, and its number is the one after
 * the last. The first push a client sees sets where its numbers begin. One with subscriptions
 * (vinhub.v1) is open once all of them are welcomed, and checks each of them in the same way.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fleet.h"
#include "inflate.h"
#include "shared.h"
#include "ws_wire.h"

#define BUFFER_BYTES (256u << 10)
#define EVENTS       512
#define TRIES        20 /* to connect, for each client */
#define SOURCE_PORTS 20000
/* The least time between two counts of clients that are behind: counting must cost little, but must
 * not stop if the process got no processor for a while. */
#define SCAN_MIN_NS  20000000u
#define SCAN_MAX_NS  300000000u
#define SCAN_SHARE   1000 /* at most 1/SCAN_SHARE of the time is spent on counting */
#define SLOW_RECEIVE 4096
#define MESSAGE_MAX  65536

enum load_client_state {
    CLIENT_IDLE,
    CLIENT_CONNECTING,
    CLIENT_ASKED,
    CLIENT_SUBSCRIBING,
    CLIENT_OPEN,
    CLIENT_CLOSED
};

struct load_client {
    int fd;
    uint32_t vin;    /* that it watches, or the first of its subscriptions */
    uint32_t last;   /* number of the last push, 0: none yet */
    uint32_t *lasts; /* the same for each subscription; NULL: it has none */
    uint32_t subscribed;
    uint32_t sent;
    uint8_t *partial;
    uint32_t partial_len;
    uint8_t state, target, tries;
    bool slow, resumed;
};

static struct {
    struct shared *shared;
    const struct load_options *options;
    struct client_counts *counts;
    struct load_client *clients;
    unsigned len, process;
    unsigned next, connecting, stage; /* the next to connect; how many are on their way */
    unsigned beat_cursor, send_cursor;
    uint64_t beats_from_ns, beats_due, sends_from_ns, sends_due;
    uint64_t scan_at_ns;
    int epoll;
    uint8_t *buffer;
    uint8_t message[WIRE_HEAD_MAX + MESSAGE_MAX];
} self;

static unsigned number_of(const struct load_client *client)
{
    return (unsigned)(client - self.clients) * self.options->client_processes + self.process;
}

static void watch(struct load_client *client, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(self.epoll, how, client->fd, &event) != 0)
        perror("epoll_ctl");
}

/* --- connecting --- */

static void path_of(const struct load_client *client, char *out, size_t size)
{
    const char *path = self.options->path, *star = strchr(path, '*');
    if (!star)
        snprintf(out, size, "%s", path);
    else
        snprintf(out, size, "%.*sV%08x%s", (int)(star - path), path, client->vin, star + 1);
}

static void drop(struct load_client *client)
{
    close_hard(client->fd);
    client->fd = -1;
    free(client->partial);
    client->partial = NULL;
    client->partial_len = 0;
}

/* It failed before it was open: tries again later, at most TRIES times. */
static void failed(struct load_client *client)
{
    if (client->fd >= 0)
        drop(client);
    if (client->state == CLIENT_CONNECTING || client->state == CLIENT_ASKED ||
        client->state == CLIENT_SUBSCRIBING)
        self.connecting--;
    client->subscribed = 0;
    client->state = CLIENT_IDLE;
    if (client->tries < TRIES) {
        COUNT(self.counts->retried, 1);
        if ((unsigned)(client - self.clients) < self.next)
            self.next = (unsigned)(client - self.clients);
        return;
    }
    client->state = CLIENT_CLOSED;
    COUNT(self.counts->failed, 1);
}

static void connect_one(struct load_client *client)
{
    const struct load_options *options = self.options;
    unsigned i = (unsigned)(client - self.clients);
    in_addr_t source = htonl(0x7f400001u + (self.process << 8) + i / SOURCE_PORTS);
    client->tries++;
    client->fd = connect_to(&options->targets[client->target], source,
                            client->slow ? SLOW_RECEIVE : 0);
    if (client->fd < 0) {
        failed(client);
        return;
    }
    client->state = CLIENT_CONNECTING;
    self.connecting++;
    watch(client, EPOLL_CTL_ADD, EPOLLOUT);
}

/* In stages each goes over all clients again, for those of its target. */
static void connect_more(void)
{
    unsigned stage = READ(self.shared->stage);
    if (stage != self.stage)
        self.next = 0;
    self.stage = stage;
    while (self.next < self.len && self.connecting < self.options->connecting) {
        struct load_client *client = &self.clients[self.next];
        if (client->state == CLIENT_IDLE && client->target <= stage) {
            connect_one(client);
            if (client->state == CLIENT_IDLE)
                break; /* failed at once: goes on in the next turn */
        }
        self.next++;
    }
}

static void ask(struct load_client *client)
{
    char path[512], request[WIRE_REQUEST_MAX];
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        failed(client);
        return;
    }
    path_of(client, path, sizeof(path));
    const char *lines = self.options->subscriptions > 0 ? WIRE_V1
                        : self.options->deflate         ? WIRE_DEFLATE
                                                        : "";
    size_t n = request_write(request, self.options->target_names[client->target], path, lines);
    if (send(client->fd, request, n, MSG_NOSIGNAL) != (ssize_t)n) {
        failed(client);
        return;
    }
    client->state = CLIENT_ASKED;
    watch(client, EPOLL_CTL_MOD, EPOLLIN);
}

/* The k-th of its subscriptions is of this vehicle. */
static uint32_t vin_at(const struct load_client *client, uint32_t k)
{
    return (client->vin - 1 + k) % self.options->vins + 1;
}

static void subscribe_more(struct load_client *client)
{
    uint8_t request[FLEET_REQUEST_MAX];
    uint32_t vins[FLEET_ASKED_AT_ONCE];
    unsigned len = 0;
    while (len < FLEET_ASKED_AT_ONCE && client->subscribed + len < self.options->subscriptions) {
        vins[len] = vin_at(client, client->subscribed + len);
        len++;
    }
    size_t n = fleet_subscribe(request, vins, len, self.options->rated);
    if (send(client->fd, request, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
        shutdown(client->fd, SHUT_RDWR); /* it fails when its end is read */
}

static void opened(struct load_client *client)
{
    if (client->lasts && client->subscribed < self.options->subscriptions) {
        client->state = CLIENT_SUBSCRIBING;
        subscribe_more(client);
        return;
    }
    client->state = CLIENT_OPEN;
    self.connecting--;
    COUNT(self.counts->opened, 1);
    if (client->slow)
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, client->fd, NULL);
}

/* --- what comes in --- */

static bool is_heard(const struct load_client *client)
{
    return client->state == CLIENT_OPEN || client->state == CLIENT_SUBSCRIBING;
}

static void closed(struct load_client *client, unsigned code)
{
    self.connecting -= client->state == CLIENT_SUBSCRIBING;
    COUNT(self.counts->closed, 1);
    unsigned kind = code >= 4000 && code < 4007 ? code - 4000 : 7;
    if (code != 0)
        COUNT(self.counts->closes_by_code[kind], 1);
    client->state = CLIENT_CLOSED;
    drop(client);
}

static void check_number(uint32_t *last, uint32_t vin, uint64_t number)
{
    if (*last == 0)
        COUNT(self.counts->primed, 1);
    else if (number <= *last)
        COUNT(self.counts->doubles, 1);
    else if (number != *last + 1u && self.options->rated > 0)
        COUNT(self.counts->skipped, number - *last - 1u);
    else if (number != *last + 1u)
        COUNT(self.counts->gaps, number - *last - 1u);
    *last = (uint32_t)number;
    uint32_t base = READ(self.shared->vehicles[vin].flight_base);
    uint64_t flown = (number - base - 1) * self.options->vins + vin - 1;
    if (base != 0 && number > base)
        COUNT(self.counts->arrived[flown % FLIGHT_SLOTS], 1);
}

static void check_resumed(struct load_client *client, uint64_t now)
{
    uint64_t killed_ns = READ(self.shared->killed_ns);
    struct bench_vehicle *vehicle = &self.shared->vehicles[client->vin];
    if (killed_ns == 0 || client->resumed || READ(vehicle->lost_ns) < killed_ns ||
        READ(vehicle->opened_ns) < killed_ns)
        return;
    client->resumed = true;
    COUNT(self.counts->after_kill, 1);
    hist_add(&self.counts->resumed, now - killed_ns);
}

static void on_stamp(struct load_client *client, const struct sent_stamp *stamp, uint64_t now,
                     bool measure)
{
    const struct load_options *options = self.options;
    uint32_t *last = &client->last;
    bool right = stamp->id == client->vin;
    if (client->lasts) {
        uint32_t k = (stamp->id + options->vins - client->vin) % options->vins;
        right = stamp->id > 0 && stamp->id <= options->vins && k < options->subscriptions;
        last = right ? &client->lasts[k] : NULL;
    }
    if (!right) {
        COUNT(self.counts->wrong, 1);
        return;
    }
    COUNT(self.counts->delivered, 1);
    check_number(last, stamp->id, stamp->number);
    if (measure)
        hist_add(&self.counts->latency[client->target > 0], now - stamp->at_ns);
}

/* Of vinhub.v1. */
static void on_message(struct load_client *client, const struct frame *frame, uint64_t now,
                       bool measure)
{
    struct sent_stamp stamp;
    switch (fleet_read(frame->payload, frame->len, &stamp)) {
    case FLEET_PUSH: on_stamp(client, &stamp, now, measure); break;
    case FLEET_SUBSCRIBED:
        client->subscribed++;
        if (client->subscribed % FLEET_ASKED_AT_ONCE == 0 ||
            client->subscribed == self.options->subscriptions)
            opened(client);
        break;
    case FLEET_OTHER: break;
    case FLEET_WRONG: COUNT(self.counts->malformed, 1); break;
    }
}

static void on_push(struct load_client *client, struct frame *frame, uint64_t now, bool measure)
{
    struct sent_stamp stamp;
    if (client->lasts) {
        on_message(client, frame, now, measure);
        return;
    }
    if (frame->rsv1 && !inflate_message(&frame->payload, &frame->len)) {
        COUNT(self.counts->malformed, 1);
        return;
    }
    if (!stamp_read(frame->payload, frame->len, &stamp)) {
        bool pong = frame->len == 4 && memcmp(frame->payload, "pong", 4) == 0;
        if (pong)
            COUNT(self.counts->beats_answered, 1);
        else
            COUNT(self.counts->malformed, 1);
        return;
    }
    on_stamp(client, &stamp, now, measure);
    if (READ(self.shared->killed_ns) != 0)
        check_resumed(client, now);
}

static void answer_ping(struct load_client *client, const struct frame *frame)
{
    uint8_t pong[WIRE_HEAD_MAX + 125];
    size_t head = frame_head(pong, OP_PONG, true, frame->len);
    memcpy(pong + head, frame->payload, frame->len);
    COUNT(self.counts->pings, 1);
    send(client->fd, pong, head + frame->len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Returns how many bytes are used up; the client may be closed after it. */
static size_t on_frames(struct load_client *client, uint8_t *bytes, size_t len)
{
    uint64_t now = now_ns();
    enum run_phase phase = phase_of(self.shared);
    /* The last pushes of a round are still on their way when the phase ends. */
    bool measure = phase == PHASE_MEASURE || (phase == PHASE_END && self.options->rounds > 0);
    size_t at = 0;
    struct frame frame;
    int got = 0;
    while (is_heard(client) && (got = frame_parse(bytes + at, len - at, &frame)) == 1) {
        at += frame.total;
        if (frame.opcode == OP_TEXT || frame.opcode == OP_BINARY)
            on_push(client, &frame, now, measure);
        else if (frame.opcode == OP_PING)
            answer_ping(client, &frame);
        else if (frame.opcode == OP_CLOSE)
            closed(client,
                   frame.len < 2 ? 1005u : (unsigned)frame.payload[0] << 8 | frame.payload[1]);
    }
    if (got < 0) {
        COUNT(self.counts->malformed, 1);
        closed(client, 0);
    }
    return at;
}

static bool keep_rest(struct load_client *client, const uint8_t *bytes, size_t len)
{
    if (client->partial_len < len) {
        uint8_t *grown = realloc(client->partial, len);
        if (!grown)
            return false;
        client->partial = grown;
    }
    memcpy(client->partial, bytes, len);
    client->partial_len = (uint32_t)len;
    return true;
}

static void on_bytes(struct load_client *client, size_t len)
{
    size_t used = 0;
    if (client->state == CLIENT_ASKED) {
        int head = answer_check((char *)self.buffer, len);
        if (head < 0) {
            failed(client);
            return;
        }
        used = (size_t)head;
        if (head > 0)
            opened(client);
    }
    if (is_heard(client))
        used += on_frames(client, self.buffer + used, len - used);
    if (client->state == CLIENT_CLOSED)
        return;
    if (used < len) {
        if (!keep_rest(client, self.buffer + used, len - used))
            closed(client, 0);
    } else if (client->partial) {
        free(client->partial);
        client->partial = NULL;
        client->partial_len = 0;
    }
}

static void on_readable(struct load_client *client)
{
    size_t held = client->partial_len;
    if (held > 0)
        memcpy(self.buffer, client->partial, held);
    ssize_t n = recv(client->fd, self.buffer + held, BUFFER_BYTES - held, MSG_DONTWAIT);
    if (n > 0)
        on_bytes(client, held + (size_t)n);
    else if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    else if (client->state == CLIENT_OPEN)
        closed(client, 0);
    else
        failed(client);
}

static void on_event(struct load_client *client, uint32_t events)
{
    if (client->fd < 0)
        return;
    if (client->state == CLIENT_CONNECTING)
        ask(client);
    else if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        on_readable(client);
}

/* --- what goes out --- */

/* Messages due by now at `per_second`, counted from *from_ns, which is set on the first call. */
static uint64_t due(uint64_t *from_ns, double per_second)
{
    uint64_t now = now_ns();
    if (*from_ns == 0)
        *from_ns = now;
    return (uint64_t)((double)(now - *from_ns) * per_second / 1e9);
}

static struct load_client *next_open(unsigned *cursor)
{
    for (unsigned tried = 0; tried < self.len; tried++) {
        struct load_client *client = &self.clients[*cursor];
        *cursor = (*cursor + 1) % self.len;
        if (client->state == CLIENT_OPEN && !client->slow)
            return client;
    }
    return NULL;
}

static void beat(void)
{
    static const uint8_t frame[] = {0x81, 0x84, 0, 0, 0, 0, 'p', 'i', 'n', 'g'};
    uint64_t opened = READ(self.counts->opened);
    double rate = (double)opened * 1000 / self.options->heartbeat_ms;
    if (opened == 0)
        return;
    for (uint64_t until = due(&self.beats_from_ns, rate); self.beats_due < until;
         self.beats_due++) {
        struct load_client *client = next_open(&self.beat_cursor);
        if (!client)
            return;
        if (send(client->fd, frame, sizeof(frame), MSG_NOSIGNAL | MSG_DONTWAIT) ==
            (ssize_t)sizeof(frame))
            COUNT(self.counts->beats_sent, 1);
    }
}

static void send_messages(void)
{
    double rate = self.options->send_rate / self.options->client_processes;
    size_t size = self.options->size, head = frame_head(self.message, OP_TEXT, true, size);
    for (uint64_t until = due(&self.sends_from_ns, rate); self.sends_due < until;
         self.sends_due++) {
        struct load_client *client = next_open(&self.send_cursor);
        if (!client)
            return;
        struct sent_stamp stamp = {number_of(client) + 1, client->sent + 1u, now_ns()};
        stamp_write(self.message + head, &stamp);
        if (send(client->fd, self.message, head + size, MSG_NOSIGNAL | MSG_DONTWAIT) !=
            (ssize_t)(head + size))
            continue;
        client->sent++;
        COUNT(self.counts->sent, 1);
    }
}

/* --- the loop --- */

static uint64_t behind_of(const struct load_client *client)
{
    const struct bench_vehicle *vehicles = self.shared->vehicles;
    uint64_t behind = 0;
    if (!client->lasts)
        return client->last != READ(vehicles[client->vin].number);
    for (uint32_t k = 0; k < self.options->subscriptions; k++)
        behind += client->lasts[k] != READ(vehicles[vin_at(client, k)].number);
    return behind;
}

static void count_behind(void)
{
    uint64_t behind = 0, now = now_ns();
    if (now < self.scan_at_ns)
        return;
    for (unsigned i = 0; i < self.len; i++) {
        const struct load_client *client = &self.clients[i];
        if (client->state == CLIENT_OPEN && !client->slow)
            behind += behind_of(client);
    }
    atomic_store(&self.counts->behind, behind);
    uint64_t end = now_ns(), rest = (end - now) * SCAN_SHARE;
    if (rest < SCAN_MIN_NS)
        rest = SCAN_MIN_NS;
    self.scan_at_ns = end + (rest < SCAN_MAX_NS ? rest : SCAN_MAX_NS);
}

/* Returns how long the loop may sleep. */
static int work(enum run_phase phase)
{
    if (phase == PHASE_CONNECT)
        connect_more();
    if (self.options->heartbeat_ms > 0 && (!self.options->quiet_start || phase >= PHASE_WARM))
        beat();
    bool sending = (phase == PHASE_WARM || phase == PHASE_MEASURE) && self.options->send_rate > 0;
    if (sending)
        send_messages();
    if (phase == PHASE_SETTLE || phase == PHASE_END)
        count_behind();
    if (self.options->spin)
        return 0;
    return sending ? 1 : phase == PHASE_CONNECT ? 2 : 5;
}

static void wake_backend(void)
{
    if (!atomic_load(&self.shared->asleep) || !flight_landed(self.shared))
        return;
    uint64_t one = 1;
    if (write(self.shared->wake_fd, &one, sizeof(one)) != sizeof(one))
        perror("eventfd");
}

/* Each client's vehicles follow those of the client before. */
static void prepare_subscriptions(struct load_client *client, unsigned number)
{
    const struct load_options *options = self.options;
    client->vin = (uint32_t)((uint64_t)number * options->subscriptions % options->vins) + 1;
    client->lasts = calloc(options->subscriptions, sizeof(*client->lasts));
    if (!client->lasts)
        abort();
}

static void prepare(struct shared *shared, unsigned process)
{
    const struct load_options *options = &shared->options;
    self.shared = shared;
    self.options = options;
    self.process = process;
    self.counts = &shared->clients[process];
    self.len = (options->clients - process + options->client_processes - 1) /
               options->client_processes;
    self.clients = calloc(self.len, sizeof(*self.clients));
    self.buffer = malloc(BUFFER_BYTES);
    self.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!self.clients || !self.buffer || self.epoll < 0) {
        perror("client process");
        exit(1);
    }
    for (unsigned i = 0; i < self.len; i++) {
        unsigned number = i * options->client_processes + process;
        self.clients[i] = (struct load_client){.fd = -1,
                                               .vin = vin_of(options, number),
                                               .target = (uint8_t)target_of(options, number),
                                               .slow = is_slow(options, number)};
        if (options->subscriptions > 0)
            prepare_subscriptions(&self.clients[i], number);
    }
    padding_write(self.message + frame_head(self.message, OP_TEXT, true, options->size),
                  options->size, process);
}

void client_process(struct shared *shared, unsigned process)
{
    static struct epoll_event events[EVENTS];
    prepare(shared, process);
    errno = 0;
    if (nice((int)shared->options.client_nice) == -1 && errno != 0)
        perror("nice"); /* as it is, then */
    for (enum run_phase phase; (phase = phase_of(shared)) != PHASE_EXIT;) {
        int n = epoll_wait(self.epoll, events, EVENTS, work(phase));
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr, events[i].events);
        if (n > 0 && shared->options.in_flight > 0)
            wake_backend();
        if (n == 0 && shared->options.spin)
            sched_yield(); /* the backend has the same core */
    }
    /* Leaving resets all connections at once instead of closing them one after the other. */
    for (unsigned i = 0; i < self.len; i++)
        if (self.clients[i].fd >= 0)
            close_hard(self.clients[i].fd);
}
