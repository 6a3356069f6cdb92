#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crowd.h"
#include "ws_wire.h"

#define SOURCE_PORTS \
    5000 /* clients from one source address: the tests' own network has 11,000 ports */
#define COME_BACK_MS   200 /* a closed client comes back within this time, evenly spread */
#define ID_MAX         48
#define TRIES_MAX      200
#define CLOSE_CODE_MAX 4096

enum state { IDLE, CONNECTING, SECURING, ASKED, OPEN, CLOSED };

struct crowd_client {
    enum crowd_kind kind;
    int fd;
    uint32_t vin;
    uint8_t state, target, group, tries;
    bool heard, asked;
    SSL *ssl;
    uint8_t *partial;
    uint32_t partial_len;
    uint64_t again_at_ns; /* not before */
    struct crowd_position position;
    char id[ID_MAX];
};

static struct {
    struct crowd_client *clients[CROWD_GROUPS];
    unsigned on_their_way[CROWD_GROUPS], idle[CROWD_GROUPS], cursor[CROWD_GROUPS];
    unsigned begun; /* for source addresses */
    SSL_CTX *tls;
} flock;

static struct crowd_group *group_of(const struct crowd_client *client)
{
    return &crowd.groups[client->group];
}

static void watch(int how, struct crowd_client *client, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(crowd.epoll, how, client->fd, &event) != 0)
        perror("epoll_ctl");
}

/* --- states --- */

static bool under_way(const struct crowd_client *client)
{
    return client->state == CONNECTING || client->state == SECURING || client->state == ASKED;
}

static void enter(struct crowd_client *client, enum state state)
{
    struct crowd_group *group = group_of(client);
    flock.on_their_way[client->group] -= under_way(client);
    flock.idle[client->group] -= client->state == IDLE;
    group->open -= client->state == OPEN;
    client->state = (uint8_t)state;
    flock.on_their_way[client->group] += under_way(client);
    flock.idle[client->group] += state == IDLE;
    group->open += state == OPEN;
}

static void drop(struct crowd_client *client, bool reset)
{
    SSL_free(client->ssl);
    client->ssl = NULL;
    if (client->fd >= 0 && reset)
        close_hard(client->fd);
    else if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    free(client->partial);
    client->partial = NULL;
    client->partial_len = 0;
}

static void again(struct crowd_client *client)
{
    uint64_t spread = ((uint64_t)random() % COME_BACK_MS) * 1000000u;
    client->again_at_ns = now_ns() + spread;
    client->target = (uint8_t)((client->target + 1u) % crowd.targets_len);
    enter(client, IDLE);
}

/* As browsers do. Of thousands that shake hands over TLS at once some take longer than the node
 * allows where the machine is busy otherwise. */
static bool tries_again(const struct crowd_group *group)
{
    return group->resume || group->tls;
}

static void failed(struct crowd_client *client)
{
    drop(client, true);
    if (client->tries++ < TRIES_MAX && tries_again(group_of(client))) {
        again(client);
        return;
    }
    group_of(client)->failed++;
    enter(client, CLOSED);
}

static void closed(struct crowd_client *client, unsigned code)
{
    struct crowd_group *group = group_of(client);
    group->closed++;
    group->closes[code < CLOSE_CODE_MAX ? code : 0]++;
    drop(client, true);
    if (group->resume && client->id[0] != '\0')
        again(client);
    else
        enter(client, CLOSED);
}

static void lost(struct crowd_client *client)
{
    if (client->state == OPEN)
        closed(client, 0);
    else
        failed(client);
}

/* --- connecting --- */

static SSL_CTX *tls(void)
{
    if (!flock.tls)
        flock.tls = SSL_CTX_new(TLS_client_method());
    if (!flock.tls)
        abort();
    SSL_CTX_set_session_cache_mode(flock.tls, SSL_SESS_CACHE_OFF);
    return flock.tls;
}

void crowd_clients_add(unsigned number)
{
    struct crowd_group *group = &crowd.groups[number];
    struct crowd_client *clients = calloc(group->count, sizeof(*clients));
    if (!clients)
        abort();
    for (unsigned i = 0; i < group->count; i++)
        clients[i] = (struct crowd_client){.kind = CROWD_CLIENT,
                                           .fd = -1,
                                           .vin = group->first + i % group->vins,
                                           .target = (uint8_t)group->target,
                                           .group = (uint8_t)number};
    flock.clients[number] = clients;
    flock.idle[number] = group->count;
}

static void connect_one(struct crowd_client *client)
{
    struct sockaddr_in address = address_of(crowd.targets[client->target]);
    in_addr_t source = htonl(0x7f400001u + flock.begun++ / SOURCE_PORTS % 200u);
    client->fd = connect_to(&address, source, 0);
    enter(client, CONNECTING);
    if (client->fd < 0)
        failed(client);
    else
        watch(EPOLL_CTL_ADD, client, EPOLLOUT);
}

/* Returns whether any client waits for its time to connect. */
static bool connect_more(unsigned number)
{
    struct crowd_group *group = &crowd.groups[number];
    uint64_t now = now_ns();
    for (unsigned tried = 0; tried < group->count && flock.idle[number] > 0; tried++) {
        if (flock.on_their_way[number] >= group->connecting)
            break;
        struct crowd_client *client = &flock.clients[number][flock.cursor[number]];
        flock.cursor[number] = (flock.cursor[number] + 1) % group->count;
        if (client->state == IDLE && client->again_at_ns <= now)
            connect_one(client);
    }
    return flock.idle[number] > 0;
}

int crowd_clients_work(void)
{
    bool waiting = false;
    for (unsigned i = 0; i < crowd.groups_len; i++)
        waiting = connect_more(i) || waiting;
    return waiting ? 2 : 20;
}

static size_t request_of(const struct crowd_client *client, char *out)
{
    const struct crowd_group *group = group_of(client);
    char path[640];
    const char *star = strchr(group->path, '*');
    int n = snprintf(path, sizeof(path), "%.*sV%08x%s", (int)(star - group->path), group->path,
                     client->vin, star + 1);
    if (client->asked)
        snprintf(path + n, sizeof(path) - (size_t)n, "&resume=%llu.%llu.%s",
                 (unsigned long long)client->position.epoch,
                 (unsigned long long)client->position.offset, client->id);
    return request_write(out, crowd.targets[client->target], path, group->v1 ? WIRE_V1 : "");
}

static void ask(struct crowd_client *client)
{
    char request[WIRE_REQUEST_MAX];
    client->asked = client->id[0] != '\0';
    size_t len = request_of(client, request);
    ssize_t n = client->ssl ? SSL_write(client->ssl, request, (int)len)
                            : send(client->fd, request, len, MSG_NOSIGNAL);
    enter(client, ASKED);
    watch(EPOLL_CTL_MOD, client, EPOLLIN);
    if (n != (ssize_t)len)
        failed(client);
}

static void secure(struct crowd_client *client)
{
    int got = SSL_connect(client->ssl);
    if (got == 1) {
        ask(client);
        return;
    }
    int error = SSL_get_error(client->ssl, got);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        watch(EPOLL_CTL_MOD, client, error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
    else
        failed(client);
}

static void connected(struct crowd_client *client)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        failed(client);
        return;
    }
    if (!group_of(client)->tls) {
        ask(client);
        return;
    }
    client->ssl = SSL_new(tls());
    if (!client->ssl || SSL_set_fd(client->ssl, client->fd) != 1)
        abort();
    enter(client, SECURING);
    secure(client);
}

/* --- what comes in --- */

static uint64_t field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void heard(struct crowd_client *client, const struct sent_stamp *stamp)
{
    struct crowd_group *group = group_of(client);
    uint64_t now = now_ns();
    group->delivered++;
    group->wrong += stamp->id != client->vin;
    if (stamp->at_ns < crowd.mark_ns)
        return;
    hist_add(&group->latency, now - stamp->at_ns);
    if (!client->heard)
        hist_add(&group->heard, now - crowd.mark_ns);
    client->heard = true;
}

static void on_welcome(struct crowd_client *client, const char *text)
{
    const char *id = strstr(text, "\"client\":\"");
    crowd_check_welcome(&client->position, group_of(client), field(text, "\"epoch\":"),
                        field(text, "\"offset\":"), strstr(text, "\"resumed\":true") != NULL,
                        client->asked);
    if (id)
        snprintf(client->id, sizeof(client->id), "%.*s", (int)strcspn(id + 10, "\""), id + 10);
    hist_add(&group_of(client)->welcomed, now_ns() - crowd.mark_ns);
    client->tries = 0;
}

static void on_v1(struct crowd_client *client, const char *text)
{
    struct sent_stamp stamp;
    const char *payload = strstr(text, "\"payload\":\"");
    if (strstr(text, "\"type\":\"MESSAGE\"")) {
        if (!payload || !stamp_read((const uint8_t *)payload + 11, strlen(payload + 11), &stamp)) {
            group_of(client)->wrong++;
            return;
        }
        heard(client, &stamp);
        crowd_check_message(&client->position, group_of(client), field(text, "\"epoch\":"),
                            field(text, "\"offset\":"), stamp.number);
    } else if (strstr(text, "\"type\":\"WELCOME\"")) {
        on_welcome(client, text);
    } else if (strstr(text, "\"type\":\"GAP\"")) {
        struct crowd_gap gap = {field(text, "\"epoch\":"), field(text, "\"from\":"),
                                field(text, "\"to\":")};
        crowd_check_gap(&client->position, group_of(client), &gap);
    }
}

static void on_push(struct crowd_client *client, const struct frame *frame)
{
    struct sent_stamp stamp;
    if (group_of(client)->v1) {
        uint8_t *end = frame->payload + frame->len,
                kept = *end; /* the buffer has a byte more than it is filled with */
        *end = '\0';
        on_v1(client, (const char *)frame->payload);
        *end = kept;
    } else if (stamp_read(frame->payload, frame->len, &stamp)) {
        heard(client, &stamp);
        crowd_check_number(&client->position, group_of(client), stamp.number);
    } else {
        group_of(client)->wrong++;
    }
}

static bool write_frame(struct crowd_client *client, unsigned opcode, const uint8_t *bytes,
                        size_t len)
{
    uint8_t out[WIRE_HEAD_MAX + 4096];
    size_t head = frame_head(out, opcode, true, len);
    memcpy(out + head, bytes, len);
    ssize_t n = client->ssl ? SSL_write(client->ssl, out, (int)(head + len))
                            : send(client->fd, out, head + len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n == (ssize_t)(head + len);
}

static size_t on_frames(struct crowd_client *client, uint8_t *bytes, size_t len)
{
    struct frame frame;
    size_t at = 0;
    int got = 0;
    while (client->state == OPEN && (got = frame_parse(bytes + at, len - at, &frame)) == 1) {
        at += frame.total;
        if (frame.opcode == OP_TEXT || frame.opcode == OP_BINARY)
            on_push(client, &frame);
        else if (frame.opcode == OP_PING)
            write_frame(client, OP_PONG, frame.payload, frame.len);
        else if (frame.opcode == OP_CLOSE)
            closed(client,
                   frame.len < 2 ? 1005u : (unsigned)frame.payload[0] << 8 | frame.payload[1]);
    }
    if (got < 0) {
        group_of(client)->wrong++;
        closed(client, 0);
    }
    return at;
}

static void keep_rest(struct crowd_client *client, const uint8_t *bytes, size_t len)
{
    uint8_t *kept = len == 0 ? NULL : malloc(len);
    if (kept)
        memcpy(kept, bytes, len);
    free(client->partial);
    client->partial = kept;
    client->partial_len = kept ? (uint32_t)len : 0;
}

static void on_bytes(struct crowd_client *client, size_t len)
{
    size_t used = 0;
    if (client->state == ASKED) {
        int head = answer_check((char *)crowd.buffer, len);
        if (head < 0) {
            failed(client);
            return;
        }
        used = (size_t)head;
        if (head > 0) {
            enter(client, OPEN);
            group_of(client)->opened++;
        }
    }
    if (client->state == OPEN)
        used += on_frames(client, crowd.buffer + used, len - used);
    if (client->state == OPEN || client->state == ASKED)
        keep_rest(client, crowd.buffer + used, len - used);
}

/* Returns whether there may be more to read. */
static bool on_readable(struct crowd_client *client)
{
    size_t held = client->partial_len, room = CROWD_BUFFER - 1 - held;
    ssize_t n = client->ssl ? SSL_read(client->ssl, crowd.buffer + held, (int)room)
                            : recv(client->fd, crowd.buffer + held, room, MSG_DONTWAIT);
    if (held > 0)
        memcpy(crowd.buffer, client->partial, held);
    if (n > 0) {
        on_bytes(client, held + (size_t)n);
        return client->ssl != NULL;
    }
    bool waits = client->ssl ? SSL_get_error(client->ssl, (int)n) == SSL_ERROR_WANT_READ
                             : n < 0 && (errno == EAGAIN || errno == EINTR);
    if (!waits)
        lost(client);
    return false;
}

void crowd_clients_on_event(void *who, uint32_t events)
{
    struct crowd_client *client = who;
    (void)events;
    if (client->fd < 0)
        return;
    if (client->state == CONNECTING)
        connected(client);
    else if (client->state == SECURING)
        secure(client);
    else
        while (on_readable(client))
            ;
}

/* --- what goes out --- */

uint64_t crowd_clients_send(unsigned number, unsigned count, unsigned bytes)
{
    uint8_t payload[4096];
    uint64_t taken = 0;
    memset(payload, 'm', sizeof(payload));
    for (unsigned round = 0; round < count; round++)
        for (unsigned i = 0; i < crowd.groups[number].count; i++)
            taken += flock.clients[number][i].state == OPEN &&
                     write_frame(&flock.clients[number][i], OP_TEXT, payload, bytes);
    crowd.groups[number].sent += taken;
    return taken;
}

void crowd_clients_leave(unsigned number, bool reset)
{
    for (unsigned i = 0; i < crowd.groups[number].count; i++) {
        struct crowd_client *client = &flock.clients[number][i];
        if (client->state != CLOSED) {
            drop(client, reset);
            enter(client, CLOSED);
        }
    }
}

void crowd_clients_count(unsigned number)
{
    struct crowd_group *group = &crowd.groups[number];
    group->behind = group->primed = 0;
    for (unsigned i = 0; i < group->count; i++) {
        struct crowd_client *client = &flock.clients[number][i];
        group->primed += client->heard;
        group->behind += client->state == OPEN &&
                         client->position.number != crowd_backend_number(client->vin);
    }
}

void crowd_clients_mark(void)
{
    for (unsigned number = 0; number < crowd.groups_len; number++)
        for (unsigned i = 0; i < crowd.groups[number].count; i++)
            flock.clients[number][i].heard = false;
}
