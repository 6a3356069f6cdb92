/*
 * Input from the traffic port of a whole node, over a socket: requests for event streams (Accept,
 * Last-Event-ID, Origin, OPTIONS), and requests of a client of vinhub.v1. The first byte chooses.
 *
 * Every answer is whole and of its form: a head names the origin that asked and no other, an event
 * stream has only lines that the standard knows, each text of a WebSocket is a JSON object of a
 * known type, and each url of a SUBSCRIBE that can be read has one answer, in order.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bus/bus_memory.h"
#include "common/clock.h"
#include "common/text.h"
#include "common/v1.h"
#include "ends.h"
#include "front/front_private.h"
#include "loop/loop.h"

#define REPLY_MAX (1u << 20)
#define ROUNDS    12 /* turns within which everything is sent and answered */

static const char yaml[] = "clients: {max_message: 4KiB, max_subscriptions: 8}\n"
                           "origins: ['https://app.example', '*.below.example']\n"
                           "services:\n"
                           "  - name: svc\n"
                           "    upstream: 'ws://backend:80/s{path}'\n"
                           "    linger: 0s\n"
                           "    presence: true\n";

static struct {
    struct loop *loop;
    struct front *front;
    struct end_node end;
    struct bus *bus;
    struct loop_timer *timer;
    unsigned rounds;
} node;

/* What came back, terminated. */
static struct {
    char text[REPLY_MAX + 1];
    size_t len;
    bool over;
} reply;

/* --- the node --- */

static void on_start(void *ctx)
{
    (void)ctx;
    hub_enter(node.end.hub, fuzz_now_ms);
}

static void on_end(void *ctx)
{
    (void)ctx;
    hub_flush(node.end.hub);
}

static void on_round(void *ctx)
{
    (void)ctx;
    fuzz_now_ms += 20;
    if (--node.rounds)
        loop_timer_start(node.timer, 0);
    else
        loop_stop(node.loop);
}

static void run(unsigned rounds)
{
    node.rounds = rounds;
    loop_timer_start(node.timer, 0);
    loop_run(node.loop);
}

static uint64_t now_ms(void *ctx)
{
    (void)ctx;
    return fuzz_now_ms;
}

static uint64_t unix_ms(void *ctx)
{
    (void)ctx;
    return clock_unix_ms();
}

static void start(void)
{
    char why[256];
    struct conf *conf = fuzz_conf(yaml);
    fuzz_now_ms = 100000;
    node.bus = bus_memory_new(NULL, "n1", clock_boot_ms, clock_unix_ms);
    enum status status = loop_new(&node.loop);
    assert(status == STATUS_OK);
    status = front_new(node.loop, conf, &node.front, why, sizeof(why));
    assert(status == STATUS_OK);
    const struct hub_setup setup = {.conf = conf,
                                    .node_id = "n1",
                                    .life = 1,
                                    .seed = 1,
                                    .host = "host",
                                    .version = "1",
                                    .bus = node.bus,
                                    .upstream_ops = &end_upstream_ops,
                                    .upstream_ctx = &node.end,
                                    .client_ops = &front_client_ops,
                                    .client_ctx = node.front,
                                    .now_ms = now_ms,
                                    .unix_ms = unix_ms};
    ends_start(conf, false);
    node.end.hub = hub_new(&setup);
    front_attach(node.front, node.end.hub);
    hub_start(node.end.hub);
    loop_at_turn_start(node.loop, "core_start", on_start, NULL);
    loop_at_turn_end(node.loop, "core_end", on_end, NULL);
    node.timer = loop_timer_new(node.loop, "fuzz", on_round, NULL);
    run(ROUNDS);
    assert(hub_ready(node.end.hub));
}

/* --- a peer --- */

static void hear(int peer)
{
    ssize_t n;
    while ((n = read(peer, reply.text + reply.len, REPLY_MAX - reply.len)) > 0)
        reply.len += (size_t)n;
    reply.over = reply.over || n == 0 || (n < 0 && errno == ECONNRESET);
    reply.text[reply.len] = '\0';
}

static int come(void)
{
    int pair[2];
    const struct in6_addr address = in6addr_loopback;
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);
    assert(!failed);
    reply.len = 0;
    reply.over = false;
    conn_new(node.front, pair[0], &address);
    return pair[1];
}

/* Bytes that the peer's socket does not take are lost: the node has stopped reading. */
static void say(int peer, const void *bytes, size_t len)
{
    ssize_t ignored = send(peer, bytes, len, MSG_NOSIGNAL);
    (void)ignored;
    run(2);
    hear(peer);
}

static void leave(int peer)
{
    run(ROUNDS);
    hear(peer);
    close(peer);
    for (unsigned i = 0; front_connections(node.front) && i < 100; i++)
        run(4);
    assert(front_connections(node.front) == 0);
    fuzz_say("answered, %zu bytes%s: %s", reply.len, reply.over ? " and the end" : "", reply.text);
}

/* --- requests for event streams --- */

/* The value of a field of the head that came, which ends at `end`; false: there is none. */
static bool field(const char *name, const char *end, struct slice *out)
{
    char key[64];
    int len = snprintf(key, sizeof(key), "\r\n%s: ", name);
    const char *at = strstr(reply.text, key);
    if (!at || at > end)
        return false;
    at += len;
    *out = (struct slice){at, (size_t)(strstr(at, "\r\n") - at)};
    return true;
}

static void check_stream(const char *at)
{
    while (*at) {
        const char *end = strchr(at, '\n');
        if (!end)
            break; /* its rest is still to come */
        bool known = at == end || *at == ':' || !strncmp(at, "id: ", 4) ||
                     !strncmp(at, "data:", 5) || !strncmp(at, "event: ", 7) ||
                     !strncmp(at, "retry: ", 7);
        assert(known && !memchr(at, '\r', (size_t)(end - at)));
        at = end + 1;
    }
}

static void check_answer(struct slice origin)
{
    static const char *const starts[] = {"HTTP/1.1 200 ", "HTTP/1.1 204 ", "HTTP/1.1 400 ",
                                         "HTTP/1.1 403 ", "HTTP/1.1 404 ", "HTTP/1.1 405 ",
                                         "HTTP/1.1 413 ", "HTTP/1.1 414 ", "HTTP/1.1 426 ",
                                         "HTTP/1.1 431 ", "HTTP/1.1 503 ", "HTTP/1.1 101 "};
    bool known = false;
    if (!reply.len)
        return; /* no answer is possible, or not yet */
    for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++)
        known = known || !strncmp(reply.text, starts[i], strlen(starts[i]));
    const char *end = strstr(reply.text, "\r\n\r\n");
    struct slice value;
    assert(known && end);
    if (field("Access-Control-Allow-Origin", end, &value))
        assert(memmem(origin.at, origin.len, value.at, value.len) && value.len);
    if (!strncmp(reply.text, starts[0], strlen(starts[0]))) {
        if (!field("Content-Type", end, &value) || strncmp(value.at, "text/event-stream", 17) != 0)
            return; /* the health of the node */
        check_stream(end + 4);
    }
}

static void bytes_as_they_are(struct fuzz_input *input)
{
    struct slice all = fuzz_rest(input);
    int peer = come();
    say(peer, all.at, all.len);
    leave(peer);
    check_answer(all);
}

static void stream_request(struct fuzz_input *input)
{
    static const char *const methods[] = {"GET", "OPTIONS", "HEAD", "GET"};
    static const char *const paths[] = {"/u/v0?svc", "/ws?svc&vin=v1", "/u?subscribe",
                                        "/u/v0?svc&rate=1&replay=3"};
    static char text[16384];
    unsigned how = fuzz_byte(input);
    struct slice path = fuzz_slice(input), accept = fuzz_slice(input), last = fuzz_slice(input),
                 origin = fuzz_slice(input), more = fuzz_slice(input);
    int len = snprintf(text, sizeof(text),
                       "%s %s%.*s HTTP/1.%u\r\nHost: a\r\nAccept: %s%.*s\r\n"
                       "Last-Event-ID: %.*s\r\nOrigin: %.*s\r\n%.*s\r\n\r\n",
                       methods[how & 3], paths[how >> 2 & 3], (int)path.len, path.at, how >> 4 & 1,
                       how & 0x20 ? "" : "text/event-stream", (int)accept.len, accept.at,
                       (int)last.len, last.at, (int)origin.len, origin.at, (int)more.len, more.at);
    if (len < 0 || (size_t)len >= sizeof(text))
        return;
    int peer = come();
    say(peer, text, (size_t)len);
    leave(peer);
    check_answer((struct slice){text, (size_t)len});
}

/* --- a client of vinhub.v1 --- */

#define HANDSHAKE                                                                  \
    " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"        \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" \
    "Sec-WebSocket-Protocol: vinhub.v1\r\n\r\n"

/* Masked with zeros. */
static void say_text(int peer, struct slice text)
{
    static uint8_t frame[8192];
    size_t head = text.len < 126 ? 2 : 4;
    if (text.len > 4096)
        return;
    frame[0] = 0x81;
    frame[1] = (uint8_t)(0x80 | (text.len < 126 ? text.len : 126));
    frame[2] = (uint8_t)(text.len >> 8);
    frame[3] = (uint8_t)text.len;
    memset(frame + head, 0, 4);
    if (text.len)
        memcpy(frame + head + 4, text.at, text.len);
    say(peer, frame, head + 4 + text.len);
}

struct answers {
    size_t urls; /* of SUBSCRIBEs */
    unsigned pongs;
};

static void check_text(const char *at, size_t len, struct answers *answers)
{
    static const char *const types[] = {"WELCOME", "MESSAGE", "STATUS", "GAP",     "ACK",
                                        "ERROR",   "PONG",    "CLOSED", "PRESENCE"};
    bool known = false;
    json_t *json = json_loadb(at, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const char *type = json_string_value(json_object_get(json, "type"));
    assert(type);
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        known = known || !strcmp(type, types[i]);
    assert(known);
    const json_t *payload = json_object_get(json, "payload");
    answers->urls += json_object_get(json, "url") || json_object_get(payload, "url");
    answers->pongs += !strcmp(type, "PONG");
    json_decref(json);
}

/* Its frames, the last of which may be a close frame. */
static struct answers check_frames(void)
{
    struct answers answers = {0};
    const char *head = strstr(reply.text, "\r\n\r\n");
    assert(!strncmp(reply.text, "HTTP/1.1 101 ", 13) && head);
    const uint8_t *at = (const uint8_t *)head + 4, *end = (const uint8_t *)reply.text + reply.len;
    while (end - at >= 2) {
        size_t len = at[1], used = 2;
        assert(at[0] == 0x81 || at[0] == 0x88 || at[0] == 0x89);
        if (len == 126) {
            assert(end - at >= 4);
            len = (size_t)at[2] << 8 | at[3];
            used = 4;
        }
        assert(len < 65536 && (size_t)(end - at) >= used + len);
        if (at[0] == 0x81)
            check_text((const char *)at + used, len, &answers);
        at += used + len;
    }
    assert(at == end);
    return answers;
}

/* As many urls as a reader of JSON finds in a SUBSCRIBE that is in order; 0: it is another message,
 * or not in order. */
static size_t urls_of(struct slice text)
{
    struct v1_request request = {0};
    struct v1_mistake mistake;
    struct v1_text url;
    size_t n = 0, at = 0;
    if (v1_decode(V1_JSON, OPCODE_TEXT, text.at, text.len, &request, &mistake) != STATUS_OK)
        return 0;
    json_t *json = json_loadb(text.at, text.len, JSON_ALLOW_NUL, NULL);
    if (request.type == V1_SUBSCRIBE && json)
        n = json_array_size(json_object_get(json, "urls"));
    /* jansson refuses more than v1_decode in fields that have no meaning */
    while (request.type == V1_SUBSCRIBE && !json &&
           v1_texts_next(request.payload, request.len, &at, &url))
        n++;
    json_decref(json);
    v1_request_fini(&request);
    return n;
}

static void v1_client(struct fuzz_input *input)
{
    static const char *const starts[] = {"GET /u?subscribe" HANDSHAKE, "GET /u/v0?svc" HANDSHAKE,
                                         "GET /u?subscribe&resume=0.0.abc" HANDSHAKE,
                                         "GET /u/v1?svc&rate=10&replay=2" HANDSHAKE};
    size_t urls = 0, texts = 0;
    const char *first = starts[fuzz_below(input, 4)];
    int peer = come();
    say(peer, first, strlen(first));
    for (; input->len && texts < 20; texts++) {
        struct slice text = fuzz_slice(input);
        urls += text_is_utf8(text.at, text.len) ? urls_of(text) : 0;
        say_text(peer, text);
    }
    leave(peer);
    struct answers answers = check_frames();
    if (!reply.over)
        assert(answers.urls == urls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const parts[])(struct fuzz_input *) = {bytes_as_they_are, stream_request,
                                                         v1_client, v1_client};
    struct fuzz_input input = {data, len};
    if (!node.loop)
        start();
    parts[fuzz_below(&input, 4)](&input);
    return 0;
}
