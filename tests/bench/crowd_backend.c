#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crowd.h"
#include "ws_wire.h"

#define BYTES_MAX 65536
#define BURST_MAX 20000 /* pushes in one turn of the crowd's loop; further ones are skipped */
#define INPUT_MAX 2048  /* of one upstream, a request or a frame */

struct crowd_upstream {
    enum crowd_kind kind;
    int fd;
    uint32_t vin;  /* 0: the handshake is not over */
    uint8_t *rest; /* what its socket did not take of the last push */
    size_t rest_len;
    size_t input_len;
    uint8_t input[INPUT_MAX];
};

struct vehicle_line {
    uint64_t number;
    struct crowd_upstream *upstream;
};

struct crowd_backend_counts crowd_backend;

static struct {
    enum crowd_kind kind;
    int fd;
} listener = {CROWD_LISTENER, -1};

static struct {
    struct sockaddr_in address;
    bool absent; /* a crowd of clients alone */
    struct vehicle_line *vehicles;
    uint32_t turn, first, vins; /* of the vehicles that push at the rate */
    double rate;
    unsigned bytes;
    uint64_t from_ns, done;
    uint8_t message[WIRE_HEAD_MAX + BYTES_MAX];
} backend;

void crowd_backend_init(unsigned port, uint32_t vins)
{
    char text[32];
    backend.absent = port == 0;
    snprintf(text, sizeof(text), "0.0.0.0:%u", port);
    backend.address = address_of(text);
    backend.vehicles = calloc(vins + 1u, sizeof(*backend.vehicles));
    memset(backend.message, 'x', sizeof(backend.message));
    if (!backend.vehicles)
        abort();
}

uint64_t crowd_backend_number(uint32_t vin)
{
    return backend.vehicles[vin].number;
}

static void watch(int how, int fd, void *who, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = who};
    if (epoll_ctl(crowd.epoll, how, fd, &event) != 0)
        perror("epoll_ctl");
}

static void drop(struct crowd_upstream *upstream)
{
    close_hard(upstream->fd);
    if (upstream->vin != 0) {
        crowd_backend.open--;
        if (backend.vehicles[upstream->vin].upstream == upstream)
            backend.vehicles[upstream->vin].upstream = NULL;
    }
    free(upstream->rest);
    free(upstream);
}

void crowd_backend_switch(bool on)
{
    if (on && listener.fd < 0 && !backend.absent) {
        listener.fd = listen_on(&backend.address, false);
        if (listener.fd < 0) {
            perror("crowd: listen");
            exit(1);
        }
        watch(EPOLL_CTL_ADD, listener.fd, &listener, EPOLLIN);
    } else if (!on && listener.fd >= 0) {
        close(listener.fd);
        listener.fd = -1;
        for (uint32_t vin = 1; vin <= crowd.vins; vin++)
            if (backend.vehicles[vin].upstream)
                drop(backend.vehicles[vin].upstream);
    }
}

void crowd_backend_accept(void)
{
    for (int fd; (fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct crowd_upstream *upstream = calloc(1, sizeof(*upstream));
        if (!upstream)
            abort();
        upstream->kind = CROWD_UPSTREAM;
        upstream->fd = fd;
        watch(EPOLL_CTL_ADD, fd, upstream, EPOLLIN);
    }
}

/* --- pushing --- */

static bool write_rest(struct crowd_upstream *upstream)
{
    ssize_t n = send(upstream->fd, upstream->rest, upstream->rest_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n <= 0)
        return false;
    upstream->rest_len -= (size_t)n;
    memmove(upstream->rest, upstream->rest + n, upstream->rest_len);
    return upstream->rest_len == 0;
}

static void keep_rest(struct crowd_upstream *upstream, const uint8_t *bytes, size_t len)
{
    if (!upstream->rest)
        upstream->rest = malloc(sizeof(backend.message));
    if (!upstream->rest)
        abort();
    memcpy(upstream->rest, bytes, len);
    upstream->rest_len = len;
}

/* A push gets a number only if the socket takes it, at least in part. */
static void push(uint32_t vin, unsigned bytes)
{
    struct vehicle_line *line = &backend.vehicles[vin];
    struct crowd_upstream *upstream = line->upstream;
    if (!upstream || (upstream->rest_len > 0 && !write_rest(upstream))) {
        crowd_backend.stalled += upstream != NULL;
        return;
    }
    size_t head = frame_head(backend.message, OP_TEXT, false, bytes);
    struct sent_stamp stamp = {vin, line->number + 1, now_ns()};
    stamp_write(backend.message + head, &stamp);
    ssize_t n = send(upstream->fd, backend.message, head + bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n <= 0) {
        crowd_backend.stalled++;
        return;
    }
    line->number++;
    crowd_backend.pushes++;
    if ((size_t)n < head + bytes)
        keep_rest(upstream, backend.message + n, head + bytes - (size_t)n);
    memset(backend.message + head, 'x', STAMP_BYTES);
}

void crowd_backend_rate(double per_second, unsigned bytes, uint32_t first, uint32_t vins)
{
    backend.first = first;
    backend.vins = vins;
    backend.rate = per_second;
    backend.bytes = bytes < BYTES_MAX ? bytes : BYTES_MAX;
    backend.from_ns = now_ns();
    backend.done = 0;
}

void crowd_backend_push_each(unsigned bytes)
{
    for (uint32_t vin = 1; vin <= crowd.vins; vin++)
        push(vin, bytes);
}

static bool push_next(void)
{
    for (uint32_t tried = 0; tried < backend.vins; tried++) {
        uint32_t vin = backend.first + backend.turn++ % backend.vins;
        if (backend.vehicles[vin].upstream) {
            push(vin, backend.bytes);
            return true;
        }
    }
    return false;
}

void crowd_backend_work(void)
{
    if (backend.rate <= 0)
        return;
    uint64_t due = (uint64_t)((double)(now_ns() - backend.from_ns) * backend.rate / 1e9);
    if (due - backend.done > BURST_MAX)
        backend.done = due - BURST_MAX;
    while (backend.done < due && push_next())
        backend.done++;
    backend.done = due;
}

/* --- what comes in --- */

static void opened(struct crowd_upstream *upstream, const char *path)
{
    uint32_t vin = vin_of_path(path);
    if (vin == 0 || vin > crowd.vins) {
        fprintf(stderr, "crowd: an upstream of no vehicle: %s\n", path);
        exit(1);
    }
    crowd_backend.two_at_once += backend.vehicles[vin].upstream != NULL;
    backend.vehicles[vin].upstream = upstream;
    upstream->vin = vin;
    crowd_backend.open++;
    crowd_backend.accepted++;
    if (crowd.mark_ns != 0) {
        crowd_backend.after_mark++;
        hist_add(&crowd_backend.reopened, now_ns() - crowd.mark_ns);
    }
}

static bool on_request(struct crowd_upstream *upstream)
{
    char answer[WIRE_REQUEST_MAX], *path;
    upstream->input[upstream->input_len < INPUT_MAX ? upstream->input_len : INPUT_MAX - 1] = '\0';
    if (!strstr((char *)upstream->input, "\r\n\r\n"))
        return upstream->input_len < INPUT_MAX - 1;
    size_t len = answer_write(answer, (char *)upstream->input, &path);
    if (len == 0 || send(upstream->fd, answer, len, MSG_NOSIGNAL) != (ssize_t)len)
        return false;
    upstream->input_len = 0;
    opened(upstream, path);
    return true;
}

static bool on_frame(struct crowd_upstream *upstream, const struct frame *frame)
{
    static const uint8_t pong[] = {0x81, 4, 'p', 'o', 'n', 'g'};
    if (frame->opcode == OP_CLOSE)
        return false;
    if (frame->opcode != OP_TEXT && frame->opcode != OP_BINARY)
        return true;
    if (frame->len == 4 && memcmp(frame->payload, "ping", 4) == 0) {
        if (upstream->rest_len == 0)
            send(upstream->fd, pong, sizeof(pong), MSG_NOSIGNAL | MSG_DONTWAIT);
        return true;
    }
    crowd_backend.received++;
    crowd_backend.received_bytes += frame->len;
    return true;
}

static bool on_frames(struct crowd_upstream *upstream)
{
    struct frame frame;
    size_t at = 0;
    int got;
    while ((got = frame_parse(upstream->input + at, upstream->input_len - at, &frame)) == 1) {
        at += frame.total;
        if (!on_frame(upstream, &frame))
            return false;
    }
    upstream->input_len -= at;
    memmove(upstream->input, upstream->input + at, upstream->input_len);
    return got == 0 && upstream->input_len < INPUT_MAX - 1;
}

void crowd_backend_on_event(void *who, uint32_t events)
{
    struct crowd_upstream *upstream = who;
    (void)events;
    ssize_t n = recv(upstream->fd, upstream->input + upstream->input_len,
                     INPUT_MAX - 1 - upstream->input_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        upstream->input_len += (size_t)n;
    if (n <= 0 || !(upstream->vin == 0 ? on_request(upstream) : on_frames(upstream)))
        drop(upstream);
}
