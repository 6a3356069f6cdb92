#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FD_MAX       20000
#define VINS_MAX     (1u << 17)
#define WAITING_MAX  (1u << 20) /* bytes for one socket in one turn */
#define EPOCH        "1764500000000"
#define TIME_MS      "1764500000000"
#define AFTER_PREFIX 64 /* of a MESSAGE: where its type can be found at the latest */

static bool begins(const uint8_t *at, size_t len, const char *text)
{
    size_t n = strlen(text);
    return len >= n && memcmp(at, text, n) == 0;
}

/* Behind the first place of a text; NULL where it is not there. */
static const uint8_t *behind(const uint8_t *bytes, size_t len, const char *text)
{
    const uint8_t *at = memmem(bytes, len, text, strlen(text));
    return at ? at + strlen(text) : NULL;
}

/* --- the load's side --- */

size_t fleet_subscribe(uint8_t out[FLEET_REQUEST_MAX], const uint32_t *vins, unsigned len,
                       double rate)
{
    char text[FLEET_REQUEST_MAX], parameter[32] = "";
    size_t at = (size_t)sprintf(text, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[");
    if (rate > 0)
        snprintf(parameter, sizeof(parameter), "&rate=%g", rate);
    for (unsigned i = 0; i < len; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s\"/u/V%08x?remoteWs%s\"",
                               i == 0 ? "" : ",", vins[i], parameter);
    at += (size_t)snprintf(text + at, sizeof(text) - at, "]}");
    size_t head = frame_head(out, OP_TEXT, true, at);
    memcpy(out + head, text, at);
    return head + at;
}

enum fleet_kind fleet_read(const uint8_t *message, size_t len, struct sent_stamp *stamp)
{
    size_t first = len < AFTER_PREFIX ? len : AFTER_PREFIX;
    const uint8_t *type = behind(message, first, "\"type\":\""), *at;
    if (!type)
        return FLEET_WRONG;
    size_t rest = len - (size_t)(type - message);
    if (begins(type, rest, "MESSAGE\"")) {
        at = behind(type, rest, "\"payload\":\"");
        return at && stamp_read(at, len - (size_t)(at - message), stamp) ? FLEET_PUSH : FLEET_WRONG;
    }
    if (begins(type, rest, "WELCOME\""))
        return behind(type, rest, "\"url\":") ? FLEET_SUBSCRIBED : FLEET_OTHER;
    return begins(type, rest, "STATUS\"") ? FLEET_OTHER : FLEET_WRONG;
}

/* --- the floor's side: what it writes --- */

unsigned fleet_asked(const uint8_t *message, size_t len, void (*add)(void *ctx, uint32_t vin),
                     void *ctx)
{
    unsigned count = 0;
    char path[16];
    const uint8_t *end = message + len, *at = message;
    while ((at = behind(at, (size_t)(end - at), "/u/"))) {
        snprintf(path, sizeof(path), "%.*s ", (int)(end - at < 9 ? end - at : 9), (char *)at);
        uint32_t vin = vin_of_path(path) % VINS_MAX;
        if (vin == 0)
            continue;
        add(ctx, vin);
        count++;
    }
    return count;
}

size_t fleet_welcome(uint8_t out[FLEET_WELCOME_MAX], uint32_t vin)
{
    char text[FLEET_WELCOME_MAX];
    int n = snprintf(text, sizeof(text), "{\"type\":\"WELCOME\",\"url\":\"/u/V%08x\"}", vin);
    size_t head = frame_head(out, OP_TEXT, false, (size_t)n);
    memcpy(out + head, text, (size_t)n);
    return head + (size_t)n;
}

/* The pushes of the bench hold quotes, but nothing else that JSON escapes. */
static size_t add_escaped(uint8_t *out, const uint8_t *text, size_t len)
{
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"')
            out[at++] = '\\';
        out[at++] = text[i];
    }
    return at;
}

size_t fleet_message(uint8_t *out, size_t size, uint32_t vin, uint64_t offset,
                     const uint8_t *payload, size_t len)
{
    static uint8_t text[1u << 18];
    if (2 * len + 512 > sizeof(text) || 2 * len + 512 > size)
        return 0;
    size_t n = (size_t)sprintf(
        (char *)text,
        "{\"timestamp\":" TIME_MS ",\"version\":\"1.0\",\"type\":\"MESSAGE\","
        "\"session\":\"remoteWs:V%08x\",\"epoch\":" EPOCH ",\"offset\":%llu,\"encoding\":"
        "\"text\",\"payload\":\"",
        vin, (unsigned long long)offset);
    n += add_escaped(text + n, payload, len);
    n += (size_t)sprintf((char *)text + n, "\"}");
    size_t head = frame_head(out, OP_TEXT, false, n);
    memcpy(out + head, text, n);
    return head + n;
}

/* --- the floor's side: who gets it --- */

struct followers {
    int *fds;
    unsigned len, cap;
};

struct waiting {
    uint8_t *bytes;
    size_t len;
};

static struct followers followers[VINS_MAX];
static struct waiting waiting[FD_MAX];
static int due[FD_MAX];
static unsigned due_len;

void fleet_follow(int fd, uint32_t vin)
{
    struct followers *of = &followers[vin % VINS_MAX];
    if (of->len == of->cap) {
        of->cap = of->cap == 0 ? 8 : of->cap * 2;
        of->fds = realloc(of->fds, of->cap * sizeof(*of->fds));
        if (!of->fds)
            abort();
    }
    of->fds[of->len++] = fd;
}

void fleet_leave(int fd)
{
    for (unsigned vin = 0; vin < VINS_MAX; vin++) {
        struct followers *of = &followers[vin];
        unsigned kept = 0;
        for (unsigned i = 0; i < of->len; i++)
            if (of->fds[i] != fd)
                of->fds[kept++] = of->fds[i];
        of->len = kept;
    }
    waiting[fd % FD_MAX].len = 0;
}

static void write_now(int fd, const uint8_t *bytes, size_t len)
{
    if (send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
        shutdown(fd, SHUT_RDWR); /* its end comes as an event */
}

static void write_later(int fd, const uint8_t *bytes, size_t len)
{
    struct waiting *at = &waiting[fd % FD_MAX];
    if (!at->bytes && !(at->bytes = malloc(WAITING_MAX)))
        abort();
    if (at->len + len > WAITING_MAX) {
        shutdown(fd, SHUT_RDWR);
        return;
    }
    if (at->len == 0)
        due[due_len++] = fd;
    memcpy(at->bytes + at->len, bytes, len);
    at->len += len;
}

void fleet_deliver(uint32_t vin, const uint8_t *frame, size_t len, bool a_turn)
{
    const struct followers *to = &followers[vin % VINS_MAX];
    for (unsigned i = 0; i < to->len; i++) {
        if (a_turn)
            write_later(to->fds[i], frame, len);
        else
            write_now(to->fds[i], frame, len);
    }
}

void fleet_flush(void)
{
    for (unsigned i = 0; i < due_len; i++) {
        struct waiting *at = &waiting[due[i] % FD_MAX];
        if (at->len > 0)
            write_now(due[i], at->bytes, at->len);
        at->len = 0;
    }
    due_len = 0;
}
