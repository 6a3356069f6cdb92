/*
 * A process of the backend: takes any path that names a vehicle, answers the text `ping`, pushes,
 * and checks what clients send. For some brokers it connects itself and publishes instead.
 *
 * A push goes to every connection of its vehicle. A connection that does not take all of it keeps
 * the rest, and its vehicle gets no further push until that is out: a push is never dropped, and
 * numbers have no holes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared.h"
#include "ws_wire.h"

#define BUFFER_BYTES (256u << 10)
#define EVENTS       256
#define BATCH_BYTES  (64u << 10)
#define LATE_NS      100000000u /* a rate that is missed by more than this is not caught up */

struct backend_upstream {
    int fd;
    uint32_t vin; /* 0: the handshake is not over */
    struct backend_upstream *prev, *next;
    uint8_t *partial, *rest;
    uint32_t partial_len, rest_len;
};

static struct {
    struct shared *shared;
    const struct load_options *options;
    struct backend_counts *counts;
    struct backend_upstream **of_vin;
    unsigned process;
    int epoll, listener;
    uint8_t *buffer, *batch;
    uint8_t *frame; /* a push, ready except for its stamp */
    size_t frame_len, frame_head;
    uint32_t cursor;
    uint64_t from_ns, made; /* pushes since the rate began */
    uint64_t passed;        /* vehicles passed in rounds */
    uint32_t flown;         /* pushes of the closed loop */
    enum run_phase paced;   /* the phase the rate began in */
} self;

static void watch(struct backend_upstream *upstream, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = upstream};
    if (epoll_ctl(self.epoll, how, upstream->fd, &event) != 0)
        perror("epoll_ctl");
}

/* --- connections --- */

static void link_vin(struct backend_upstream *upstream, uint32_t vin)
{
    struct bench_vehicle *vehicle = &self.shared->vehicles[vin];
    upstream->vin = vin;
    upstream->next = self.of_vin[vin];
    if (upstream->next)
        upstream->next->prev = upstream;
    self.of_vin[vin] = upstream;
    atomic_store(&vehicle->opened_ns, now_ns());
    if (atomic_fetch_add(&vehicle->upstreams, 1) > 0 && !self.options->many_upstreams)
        COUNT(self.counts->two_at_once, 1);
    COUNT(self.counts->open, 1);
}

static void close_upstream(struct backend_upstream *upstream)
{
    if (upstream->vin != 0) {
        struct bench_vehicle *vehicle = &self.shared->vehicles[upstream->vin];
        *(upstream->prev ? &upstream->prev->next : &self.of_vin[upstream->vin]) = upstream->next;
        if (upstream->next)
            upstream->next->prev = upstream->prev;
        atomic_store(&vehicle->lost_ns, now_ns());
        atomic_fetch_sub(&vehicle->upstreams, 1);
        COUNT(self.counts->open, (uint64_t)-1);
    }
    close_hard(upstream->fd);
    free(upstream->partial);
    free(upstream->rest);
    free(upstream);
}

static struct backend_upstream *upstream_new(int fd, uint32_t events)
{
    struct backend_upstream *upstream = calloc(1, sizeof(*upstream));
    int on = 1;
    if (!upstream) {
        close(fd);
        return NULL;
    }
    upstream->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    watch(upstream, EPOLL_CTL_ADD, events);
    return upstream;
}

static void accept_all(void)
{
    int fd;
    /* epoll keeps it. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    while ((fd = accept4(self.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        COUNT(self.counts->accepted, 1);
        upstream_new(fd, EPOLLIN);
    }
}

/* --- what goes out --- */

static bool keep_rest(struct backend_upstream *upstream, const uint8_t *bytes, size_t len)
{
    uint8_t *rest = realloc(upstream->rest, upstream->rest_len + len);
    if (!rest)
        return false;
    memcpy(rest + upstream->rest_len, bytes, len);
    upstream->rest = rest;
    upstream->rest_len += (uint32_t)len;
    watch(upstream, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    return true;
}

static bool send_all(struct backend_upstream *upstream, const uint8_t *bytes, size_t len)
{
    if (upstream->rest)
        return keep_rest(upstream, bytes, len);
    ssize_t n = send(upstream->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    size_t sent = n > 0 ? (size_t)n : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return false; /* the end of the connection is read soon */
    return sent == len || keep_rest(upstream, bytes + sent, len - sent);
}

static void send_rest(struct backend_upstream *upstream)
{
    uint8_t *rest = upstream->rest;
    size_t len = upstream->rest_len;
    upstream->rest = NULL;
    upstream->rest_len = 0;
    watch(upstream, EPOLL_CTL_MOD, EPOLLIN);
    send_all(upstream, rest, len);
    free(rest);
}

static bool is_ready(uint32_t vin)
{
    for (const struct backend_upstream *upstream = self.of_vin[vin]; upstream;
         upstream = upstream->next)
        if (upstream->rest)
            return false;
    return self.of_vin[vin] != NULL;
}

/* `count` pushes of one vehicle, in one piece. */
static void push(uint32_t vin, unsigned count)
{
    struct bench_vehicle *vehicle = &self.shared->vehicles[vin];
    struct backend_upstream *next;
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) {
        struct sent_stamp stamp = {vin, READ(vehicle->number) + 1u, now_ns()};
        atomic_store(&vehicle->number, (uint32_t)stamp.number);
        memcpy(self.batch + len, self.frame, self.frame_len);
        stamp_write(self.batch + len + self.frame_head, &stamp);
        len += self.frame_len;
        if (len + self.frame_len > BATCH_BYTES || i + 1 == count) {
            for (struct backend_upstream *upstream = self.of_vin[vin]; upstream; upstream = next) {
                next = upstream->next;
                send_all(upstream, self.batch, len);
            }
            len = 0;
        }
    }
    COUNT(self.counts->pushes, count);
}

/* The next vehicle with a connection here, 0 where there is none. */
static uint32_t next_vin(void)
{
    for (unsigned tried = 0; tried < self.options->vins; tried++) {
        self.cursor = self.cursor % self.options->vins + 1;
        self.passed++;
        if (is_ready(self.cursor))
            return self.cursor;
        if (self.of_vin[self.cursor])
            COUNT(self.counts->stalled, 1);
    }
    return 0;
}

/* Pushes what is due by now at `rate` in bursts; returns when the next burst is due. */
static uint64_t push_at_rate(double rate, unsigned burst)
{
    for (;;) {
        uint64_t now = now_ns();
        uint64_t due_ns = self.from_ns + (uint64_t)((double)self.made * 1e9 / rate);
        if (due_ns > now)
            return due_ns;
        if (now - due_ns > LATE_NS) {
            self.from_ns += now - due_ns;
            COUNT(self.counts->late, 1);
        }
        uint32_t vin = next_vin();
        if (vin == 0)
            return now + 1000000;
        push(vin, burst);
        self.made += burst;
    }
}

/* The given number of rounds over the vehicles. */
static uint64_t push_rounds(double rate)
{
    if (self.passed >= (uint64_t)self.options->rounds * self.options->vins)
        return now_ns() + 5000000;
    uint64_t due_ns = self.from_ns + (uint64_t)((double)self.made * 1e9 / rate);
    for (uint64_t now = now_ns();
         due_ns <= now && self.passed < (uint64_t)self.options->rounds * self.options->vins;) {
        uint32_t vin = next_vin();
        if (vin != 0)
            push(vin, 1);
        self.made++;
        due_ns = self.from_ns + (uint64_t)((double)self.made * 1e9 / rate);
    }
    return due_ns;
}

/* Closed loop over all vehicles in turn; for a single vehicle all due pushes leave in one write. */
static uint64_t push_in_flight(void)
{
    struct shared *shared = self.shared;
    for (bool again = true; again;) {
        while (flight_landed(shared))
            COUNT(shared->flight_done, 1);
        uint32_t out = self.flown - READ(shared->flight_done), vin;
        while (out < self.options->in_flight &&
               is_ready(vin = self.flown % self.options->vins + 1)) {
            unsigned n = self.options->vins == 1 ? self.options->in_flight - out : 1;
            push(vin, n);
            self.flown += n;
            out += n;
        }
        atomic_store(&shared->asleep, true);
        again = flight_landed(shared);
    }
    return now_ns() + 100000000;
}

/* Does what is due; returns when to come back. */
static uint64_t work(enum run_phase phase)
{
    const struct load_options *options = self.options;
    uint64_t now = now_ns();
    double share = 1.0 / options->backend_processes;
    if (phase != PHASE_PRIME && phase != PHASE_WARM && phase != PHASE_MEASURE)
        return now + 5000000;
    bool warming = phase == PHASE_WARM && options->warm_rate > 0;
    bool goes_on = self.paced == PHASE_WARM && options->warm_rate <= 0 && options->rounds == 0;
    if (self.paced != phase && !(goes_on && phase == PHASE_MEASURE)) {
        self.from_ns = now;
        self.made = self.passed = 0;
    }
    self.paced = phase;
    if (phase == PHASE_PRIME)
        return push_at_rate(1000.0 * options->vins / options->prime_ms * share, 1);
    if (warming)
        return push_at_rate(options->warm_rate * share, options->warm_burst);
    if (options->in_flight > 0)
        return push_in_flight();
    if (options->rounds > 0)
        return phase == PHASE_MEASURE ? push_rounds(options->rate * share) : now + 5000000;
    return options->rate > 0 ? push_at_rate(options->rate * share, options->burst) : now + 5000000;
}

/* --- what comes in --- */

static void on_message(struct backend_upstream *upstream, const struct frame *frame)
{
    struct sent_stamp stamp;
    if (self.options->publish_path)
        return; /* the broker's receipt */
    if (frame->len == 4 && memcmp(frame->payload, "ping", 4) == 0) {
        static const uint8_t pong[] = {0x81, 4, 'p', 'o', 'n', 'g'};
        COUNT(self.counts->pings, 1);
        send_all(upstream, pong, sizeof(pong));
        return;
    }
    if (!stamp_read(frame->payload, frame->len, &stamp) || stamp.id == 0 ||
        stamp.id > self.options->clients) {
        COUNT(self.counts->malformed, 1);
        return;
    }
    uint32_t last = READ(self.shared->sent_numbers[stamp.id]);
    if (stamp.number != last + 1u)
        COUNT(self.counts->out_of_order, 1);
    atomic_store(&self.shared->sent_numbers[stamp.id], (uint32_t)stamp.number);
    COUNT(self.counts->received, 1);
    if (self.paced == PHASE_MEASURE)
        hist_add(&self.counts->latency, now_ns() - stamp.at_ns);
}

/* False: close it. */
static bool on_frames(struct backend_upstream *upstream, uint8_t *bytes, size_t len, size_t *used)
{
    struct frame frame;
    int got;
    while ((got = frame_parse(bytes + *used, len - *used, &frame)) == 1) {
        *used += frame.total;
        if (frame.opcode == OP_TEXT || frame.opcode == OP_BINARY) {
            on_message(upstream, &frame);
        } else if (frame.opcode == OP_PING && frame.len <= 125) {
            uint8_t pong[WIRE_HEAD_MAX + 125];
            size_t head = frame_head(pong, OP_PONG, self.options->publish_path != NULL, frame.len);
            memcpy(pong + head, frame.payload, frame.len);
            send_all(upstream, pong, head + frame.len);
        } else if (frame.opcode == OP_CLOSE) {
            uint8_t close_frame[] = {0x88, 2, 0x03, 0xe8};
            send_all(upstream, close_frame, sizeof(close_frame));
            return false;
        }
    }
    return got == 0;
}

/* The request of a broker that connects to us. */
static bool on_request(struct backend_upstream *upstream, uint8_t *bytes, size_t len, size_t *used)
{
    char answer[WIRE_REQUEST_MAX], *path;
    uint8_t *end = memmem(bytes, len, "\r\n\r\n", 4);
    if (!end)
        return len < WIRE_REQUEST_MAX;
    *used = (size_t)(end - bytes) + 4;
    end[2] = '\0';
    size_t n = answer_write(answer, (char *)bytes, &path);
    uint32_t vin = n > 0 ? vin_of_path(path) : 0;
    if (vin == 0 || vin > self.options->vins)
        return false;
    if (!send_all(upstream, (uint8_t *)answer, n))
        return false;
    link_vin(upstream, vin);
    return true;
}

static bool on_bytes(struct backend_upstream *upstream, uint8_t *bytes, size_t len)
{
    size_t used = 0;
    bool ok = true;
    if (upstream->vin == 0)
        ok = on_request(upstream, bytes, len, &used);
    if (ok && upstream->vin != 0)
        ok = on_frames(upstream, bytes, len, &used);
    if (!ok)
        return false;
    if (used == len) {
        upstream->partial_len = 0;
        return true;
    }
    uint8_t *kept = realloc(upstream->partial, len - used);
    if (!kept)
        return false;
    memcpy(kept, bytes + used, len - used);
    upstream->partial = kept;
    upstream->partial_len = (uint32_t)(len - used);
    return true;
}

static void on_readable(struct backend_upstream *upstream)
{
    size_t held = upstream->partial_len;
    if (held > 0)
        memcpy(self.buffer, upstream->partial, held);
    ssize_t n = recv(upstream->fd, self.buffer + held, BUFFER_BYTES - held, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || !on_bytes(upstream, self.buffer, held + (size_t)n))
        close_upstream(upstream);
}

/* --- publishing to a broker --- */

/* Connects one after the other and waits for each: this happens once, before the measurement. */
static void publish_to(uint32_t vin)
{
    char path[512], bytes[WIRE_REQUEST_MAX];
    const char *star = strchr(self.options->publish_path, '*');
    struct timeval limit = {.tv_sec = 5};
    size_t len = 0;
    snprintf(path, sizeof(path), "%.*sV%08x%s", (int)(star - self.options->publish_path),
             self.options->publish_path, vin, star + 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    size_t n = request_write(bytes, "bench", path, "");
    if (fd < 0 ||
        connect(fd, (const struct sockaddr *)&self.options->publish, sizeof(struct sockaddr_in)) !=
            0 ||
        send(fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n) {
        perror("publish");
        exit(1);
    }
    for (int head = 0; head == 0;) {
        ssize_t got = recv(fd, bytes + len, sizeof(bytes) - len, 0);
        len += got > 0 ? (size_t)got : 0;
        head = answer_check(bytes, len);
        if (got <= 0 || head < 0) {
            fprintf(stderr, "publish: the broker refuses: %.*s\n", (int)len, bytes);
            exit(1);
        }
    }
    struct backend_upstream *upstream = upstream_new(fd, EPOLLIN);
    if (upstream)
        link_vin(upstream, vin);
}

/* --- the loop --- */

static void prepare(struct shared *shared, unsigned process)
{
    const struct load_options *options = &shared->options;
    self.shared = shared;
    self.options = options;
    self.process = process;
    self.counts = &shared->backends[process];
    self.listener = -1;
    self.epoll = epoll_create1(EPOLL_CLOEXEC);
    self.of_vin = calloc(options->vins + 1, sizeof(struct backend_upstream *));
    self.buffer = malloc(BUFFER_BYTES);
    self.batch = malloc(BATCH_BYTES + WIRE_HEAD_MAX + options->size);
    self.frame = malloc(WIRE_HEAD_MAX + options->size);
    if (self.epoll < 0 || !self.of_vin || !self.buffer || !self.batch || !self.frame) {
        perror("backend process");
        exit(1);
    }
    self.frame_head = frame_head(self.frame, OP_TEXT, options->publish_path != NULL, options->size);
    self.frame_len = self.frame_head + options->size;
    padding_write(self.frame + self.frame_head, options->size, 1);
    if (options->publish_path) {
        for (uint32_t vin = process + 1; vin <= options->vins; vin += options->backend_processes)
            publish_to(vin);
        return;
    }
    struct sockaddr_in address = options->listen;
    if (options->own_addresses)
        address.sin_addr.s_addr = htonl(ntohl(address.sin_addr.s_addr) + process);
    self.listener = listen_on(&address, options->backend_processes > 1);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (self.listener < 0 || epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.listener, &event) != 0) {
        perror("backend: listen");
        exit(1);
    }
}

static void on_event(struct backend_upstream *upstream, uint32_t events)
{
    if (!upstream)
        accept_all();
    if (!upstream || upstream == (void *)self.shared)
        return;
    if ((events & EPOLLOUT) != 0 && upstream->rest)
        send_rest(upstream);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        on_readable(upstream);
}

static void sleep_until(uint64_t at_ns, struct epoll_event events[EVENTS], int *n)
{
    uint64_t now = now_ns(), wait = at_ns > now ? at_ns - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000000u),
                               .tv_nsec = (long)(wait % 1000000000u)};
    *n = epoll_pwait2(self.epoll, events, EVENTS, &timeout, NULL);
    atomic_store(&self.shared->asleep, false);
}

void backend_process(struct shared *shared, unsigned process)
{
    static struct epoll_event events[EVENTS];
    prepare(shared, process);
    struct epoll_event wake = {.events = EPOLLIN | EPOLLET, .data.ptr = shared};
    epoll_ctl(self.epoll, EPOLL_CTL_ADD, shared->wake_fd, &wake);
    for (enum run_phase phase; (phase = phase_of(shared)) != PHASE_EXIT;) {
        uint64_t next_ns = work(phase), limit_ns = now_ns() + 20000000;
        int n;
        sleep_until(next_ns < limit_ns ? next_ns : limit_ns, events, &n);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr, events[i].events);
    }
}
