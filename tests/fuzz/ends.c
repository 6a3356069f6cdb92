#include "ends.h"
#include "ends_requests.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "common/clock.h"
#include "common/text.h"
#include "core/client/door.h"
#include "core/session/outbox.h"

#define CLOSE_MS   1000 /* closed comes within it (ports.h) */
#define TRY_MS     2000
#define PUSH_BYTES 600
#define NOTES      1024 /* beyond its bound a queue holds a gap note for each epoch */

/* What a client of vinhub.v1 knows of a session. */
struct follow {
    bool welcomed, rated;
    struct position at; /* of the last MESSAGE or GAP */
};

struct end_client {
    struct client client;  /* first: the core's pointer is ours */
    struct end_node *node; /* NULL: not there */
    unsigned session;      /* its own */
    enum box_form form;
    bool closing, busy, paused;
    bool subscribes; /* it has none of its own */
    bool narrow;     /* its token covers its own session only */
    struct follow follows[END_SESSIONS];
    uint64_t last_push; /* raw clients: number of the last push of a backend */
    uint64_t sends, closing_ms;
};

static struct end_client clients[END_CLIENTS];
static struct upstream *upstreams;
static struct conf *conf;
static bool lies;
static uint64_t pushes; /* of all backends so far */

const char *const end_session_ids[END_SESSIONS] = {"svc:v0", "svc:v1"};

/* --- backends --- */

static struct upstream *upstream_open(void *ctx, struct session *session, struct service *service,
                                      const char *url)
{
    struct upstream *upstream = calloc(1, sizeof(*upstream));
    assert(session->epoch > 0); /* no upstream is opened without a grant */
    assert(service && strncmp(url, "ws://backend:80/", 16) == 0);
    *upstream = (struct upstream){.node = ctx,
                                  .session = session,
                                  .backend = url[strlen(url) - 1] == '0' ? 0 : 1,
                                  .since_ms = fuzz_now_ms,
                                  .next = upstreams};
    upstreams = upstream;
    return upstream;
}

static void upstream_free(struct upstream *upstream)
{
    struct upstream **at = &upstreams;
    while (*at != upstream)
        at = &(*at)->next;
    *at = upstream->next;
    free(upstream);
}

static enum status upstream_send(void *ctx, struct upstream *upstream, enum opcode opcode,
                                 const void *payload, size_t len)
{
    assert(upstream->node == ctx && upstream->state == END_OPEN);
    /* The client's node checks the size; another node may allow more. */
    assert(lies || len <= conf->clients.max_message_bytes);
    assert(lies || opcode == OPCODE_BINARY || text_is_utf8(payload, len));
    return upstream->busy ? STATUS_AGAIN : STATUS_OK;
}

static void upstream_close(void *ctx, struct upstream *upstream, unsigned code, const char *reason)
{
    assert(upstream->node == ctx && upstream->state != END_CLOSING && code >= 1000);
    assert(reason && strlen(reason) <= 123);
    upstream->state = END_CLOSING;
    upstream->since_ms = fuzz_now_ms;
}

static void upstream_reset(void *ctx, struct upstream *upstream)
{
    assert(upstream->node == ctx);
    upstream_free(upstream);
}

const struct upstream_ops end_upstream_ops = {
    .open = upstream_open, .send = upstream_send, .close = upstream_close, .reset = upstream_reset};

static void upstream_end(struct upstream *upstream, unsigned kind, unsigned status, unsigned code)
{
    struct session *session = upstream->session;
    const struct upstream_end end = {.kind = (enum upstream_end_kind)kind,
                                     .http_status = status,
                                     .close_code = code,
                                     .reason = "the input wants it"};
    fuzz_say("upstream %p ends: %u", (void *)upstream, kind);
    hub_upstream_closed(session, upstream, &end);
    upstream_free(upstream);
}

/* A push carries its number, so that raw clients' order can be seen. */
static void upstream_push(struct upstream *upstream, struct slice more, bool binary)
{
    char text[PUSH_BYTES];
    int len = snprintf(text, sizeof(text), "push %" PRIu64 " ", ++pushes);
    size_t room = sizeof(text) - (size_t)len, n = more.len < room ? more.len : room;
    binary = binary || !text_is_utf8(more.at, n);
    if (n > 0)
        memcpy(text + len, more.at, n);
    fuzz_say("upstream %p sends push %" PRIu64, (void *)upstream, pushes);
    hub_upstream_message(
        upstream->session, upstream,
        publication_copy(binary ? OPCODE_BINARY : OPCODE_TEXT, text, (size_t)len + n));
}

static struct upstream *upstream_of(const struct end_node *node, unsigned skip)
{
    struct upstream *found = NULL;
    for (struct upstream *up = upstreams; up; up = up->next) {
        if (up->node == node && (!found || skip-- > 0))
            found = up;
    }
    return found;
}

void ends_upstream_step(struct fuzz_input *input, struct end_node *node)
{
    unsigned what = fuzz_byte(input);
    struct upstream *upstream = upstream_of(node, what >> 6);
    if (!upstream)
        return;
    switch (what % 6) {
    case 0:
        if (upstream->state == END_OPENING) {
            upstream->state = END_OPEN;
            fuzz_say("upstream %p of backend %u is open", (void *)upstream, upstream->backend);
            hub_upstream_opened(upstream->session, upstream);
        }
        break;
    case 1:
    case 2:
        if (upstream->state != END_OPENING)
            upstream_push(upstream, fuzz_slice(input), what % 6 == 2);
        break;
    case 3:
        upstream->busy = !upstream->busy;
        if (!upstream->busy && upstream->state == END_OPEN)
            hub_upstream_writable(upstream->session, upstream);
        break;
    case 4:
        upstream_end(upstream, fuzz_below(input, UPSTREAM_END_INVALID + 1), 400 + fuzz_byte(input),
                     0);
        break;
    case 5:
        upstream_end(upstream, UPSTREAM_END_CLOSED, 0, 1000 + (unsigned)fuzz_number(input) % 4000);
        break;
    }
}

const struct upstream *ends_upstreams(void)
{
    return upstreams;
}

/* --- what a browser sees --- */

static uint64_t field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static bool is_of(const char *text, const char *type)
{
    char key[32];
    snprintf(key, sizeof(key), "\"type\":\"%s\"", type);
    return strstr(text, key);
}

/* The session that the message names, or the client's own. NULL: none. */
static struct follow *follow_of(struct end_client *client, const char *text)
{
    static const char key[] = "\"session\":\"";
    const char *at = strstr(text, key);
    if (!at)
        return client->subscribes ? NULL : &client->follows[client->session];
    at += strlen(key);
    for (size_t i = 0; i < END_SESSIONS; i++) {
        size_t len = strlen(end_session_ids[i]);
        if (!strncmp(at, end_session_ids[i], len) && at[len] == '"')
            return &client->follows[i];
    }
    return NULL;
}

static void read_gap(struct follow *follow, const char *text, struct position at)
{
    uint64_t from = field(text, "\"from\":"), to = field(text, "\"to\":");
    assert(follow->welcomed && (!to || to >= from));
    at.offset = from;
    assert(position_compare(at, follow->at) > 0);
    /* to 0: the end of that epoch, wherever it was */
    follow->at.epoch = at.epoch;
    follow->at.offset = to ? to : UINT64_MAX;
}

static void read_message(struct follow *follow, struct position at)
{
    assert(follow->welcomed && position_compare(at, follow->at) > 0);
    assert(lies || follow->rated || !follow->at.epoch ||
           at.offset == (at.epoch == follow->at.epoch ? follow->at.offset + 1 : 1));
    follow->at = at;
}

static void read_json(struct end_client *client, const char *text)
{
    struct position at = {field(text, "\"epoch\":"), field(text, "\"offset\":")};
    struct follow *follow = follow_of(client, text);
    if (is_of(text, "WELCOME")) {
        assert(follow || client->subscribes);
        if (!follow)
            return;
        assert(!follow->welcomed);
        *follow = (struct follow){true, strstr(text, "rate="), at};
    } else if (is_of(text, "STATUS")) {
        assert(follow && follow->welcomed);
    } else if (is_of(text, "MESSAGE")) {
        assert(follow);
        read_message(follow, at);
    } else if (is_of(text, "GAP")) {
        assert(follow);
        read_gap(follow, text, at);
    } else if (is_of(text, "CLOSED")) {
        assert(follow && follow->welcomed);
        assert(client->subscribes || follow != &client->follows[client->session]);
        follow->welcomed = false;
    }
}

static void read_raw(struct end_client *client, const char *text)
{
    uint64_t number = field(text, "push ");
    if (strncmp(text, "push ", 5) != 0)
        return;
    assert(lies || number > client->last_push);
    client->last_push = number;
}

static void read_box(struct end_client *client, const struct box *box)
{
    const char *bytes = (const char *)box->bytes;
    assert(lies || box->opcode == OPCODE_BINARY || text_is_utf8(bytes, box->len));
    char *text = strndup(bytes, box->len);
    fuzz_say("client %td gets %s", client - clients, text);
    if (client->form == BOX_JSON)
        read_json(client, text);
    else if (client->form == BOX_RAW)
        read_raw(client, text);
    free(text);
}

static struct end_client *of(struct client *client)
{
    return (struct end_client *)(void *)client;
}

static enum status client_write(void *ctx, struct client *base, const uint8_t *frames, size_t len)
{
    struct end_client *client = of(base);
    assert(client->node == ctx && !client->closing && len > 0);
    if (client->busy)
        return STATUS_AGAIN;
    struct box box;
    while (box_next(&frames, &len, &box))
        read_box(client, &box);
    return STATUS_OK;
}

static void client_closed(void *ctx, struct client *base, unsigned code, const char *reason)
{
    struct end_client *client = of(base);
    assert(client->node == ctx && !client->closing && code >= 1000 && strlen(reason) <= 123);
    client->closing = true;
    client->closing_ms = fuzz_now_ms;
}

static void client_paused(void *ctx, struct client *base, bool paused)
{
    struct end_client *client = of(base);
    assert(client->node == ctx && client->paused != paused);
    client->paused = paused;
}

/* Any text is a token, except "x". One with a "b" covers only the client's own session, one with a
 * "c" not even that. */
static enum refresh_verdict client_refresh(void *ctx, struct client *base, const char *token,
                                           const char **why)
{
    struct end_client *client = of(base);
    assert(client->node == ctx && !client->closing);
    *why = *token == 'x' ? "token invalid" : *token == 'c' ? "token does not cover this vin" : NULL;
    if (*token == 'x')
        return REFRESH_REFUSED;
    client->narrow = *token == 'b';
    return *token == 'c' ? REFRESH_NOT_COVERED : REFRESH_TAKEN;
}

static const char *client_covers(void *ctx, struct client *base, const struct target *target)
{
    const struct end_client *client = of(base);
    assert(client->node == ctx);
    bool own = !client->subscribes && !strcmp(target->session_id, end_session_ids[client->session]);
    return client->narrow && !own ? "token does not cover this vin" : NULL;
}

const struct client_ops end_client_ops = {.write = client_write,
                                          .close = client_closed,
                                          .pause = client_paused,
                                          .refresh = client_refresh,
                                          .covers = client_covers};

/* --- what it does --- */

static void client_join(struct end_client *client, struct fuzz_input *input, struct end_node *node)
{
    static const enum box_form forms[] = {BOX_RAW, BOX_JSON, BOX_JSON, BOX_MSGPACK};
    unsigned how = fuzz_byte(input);
    struct position token = client->follows[how & 1].at;
    if ((how & 0x30) == 0x30)
        token = (struct position){fuzz_number(input), fuzz_number(input)};
    memset(client, 0, sizeof(*client));
    client->session = how & 1;
    client->form = forms[how >> 1 & 3];
    char request[256];
    client->subscribes = (how & 0xc0) == 0xc0 && client->form == BOX_JSON;
    int len = client->subscribes
                  ? snprintf(request, sizeof(request), "/u?subscribe")
                  : snprintf(request, sizeof(request), "/u/v%u?svc", client->session);
    if (client->form == BOX_RAW && (how & 8) != 0)
        len += snprintf(request + len, sizeof(request) - (size_t)len, "&replay=%u",
                        (unsigned)fuzz_byte(input));
    else if ((how & 0x10) != 0)
        len += snprintf(request + len, sizeof(request) - (size_t)len,
                        "&resume=%" PRIu64 ".%" PRIu64 ".c%u", token.epoch, token.offset,
                        (unsigned)(how & 1));
    struct target target;
    const char *why;
    const struct url_options options = {.protocol_client = client->form != BOX_RAW,
                                        .may_subscribe = client->form != BOX_RAW};
    if (url_parse(conf, request, (size_t)len, &options, &target, &why) != STATUS_OK)
        return; /* its service is not in this configuration */
    client->node = node;
    fuzz_say("client %td joins: %s", client - clients, request);
    if (door_open(node->hub, &client->client, &target, &in6addr_loopback, client->form) !=
        STATUS_OK)
        client->node = NULL;
    target_fini(&target);
}

static void client_speak(struct end_client *client, struct fuzz_input *input)
{
    unsigned how = fuzz_byte(input);
    struct slice bytes = fuzz_slice(input);
    char text[512];
    size_t at_most = conf->clients.max_message_bytes; /* the frame reader ensures this */
    size_t len = bytes.len < at_most ? bytes.len : at_most;
    const void *payload = bytes.at;
    bool as_text = (how & 1) == 0 && text_is_utf8(payload, len);
    if (client->form == BOX_JSON && (how & 0xf0) == 0xf0) {
        struct position at[END_SESSIONS];
        for (size_t i = 0; i < END_SESSIONS; i++)
            at[i] = client->follows[i].at;
        len = ends_request(input, at, &client->sends, text, sizeof(text));
        payload = text;
        as_text = true;
        fuzz_say("client %td asks: %s", client - clients, text);
    } else if (client->form == BOX_JSON && (how & 2) != 0) {
        len = (size_t)snprintf(text, sizeof(text),
                               "{\"type\":\"SEND\",\"id\":%" PRIu64 ",\"payload\":\"x%u\"}",
                               ++client->sends, how);
        payload = text;
        as_text = true;
    }
    if (!client->paused)
        door_message(&client->client, as_text ? OPCODE_TEXT : OPCODE_BINARY, payload, len);
}

static void client_leave(struct end_client *client, unsigned code)
{
    fuzz_say("client %td leaves: %u", client - clients, code);
    door_gone(&client->client, code, "");
    client->node = NULL;
}

void ends_client_step(struct fuzz_input *input, struct end_node *node)
{
    unsigned what = fuzz_byte(input);
    struct end_client *client = &clients[what % END_CLIENTS];
    if (!client->node) {
        if (hub_ready(node->hub))
            client_join(client, input, node);
        return;
    }
    if (client->node != node)
        return;
    if (what < 128) {
        if (!client->closing)
            client_speak(client, input);
    } else if (what < 192) {
        client->busy = !client->busy;
        if (!client->busy && !client->closing)
            door_writable(&client->client);
    } else {
        client_leave(client, 1000 + what);
    }
}

/* --- time --- */

void ends_time(struct end_node *node)
{
    for (size_t i = 0; i < END_CLIENTS; i++) {
        struct end_client *client = &clients[i];
        if (client->node == node && client->closing && fuzz_now_ms >= client->closing_ms + CLOSE_MS)
            client_leave(client, 1006);
    }
    struct upstream *next;
    for (struct upstream *up = upstreams; up; up = next) {
        next = up->next;
        if (up->node != node)
            continue;
        uint64_t waited_ms = fuzz_now_ms - up->since_ms;
        bool tried = up->state == END_OPENING && waited_ms >= TRY_MS;
        bool closed = up->state == END_CLOSING && waited_ms >= CLOSE_MS;
        if (tried || closed) {
            upstream_end(up, tried ? UPSTREAM_END_TIMEOUT : UPSTREAM_END_ASKED, 0, 0);
            next = upstreams; /* the callback may have changed the list */
        }
    }
}

void ends_calm(struct end_node *node)
{
    for (size_t i = 0; i < END_CLIENTS; i++) {
        struct end_client *client = &clients[i];
        if (client->node != node || !client->busy)
            continue;
        client->busy = false;
        if (!client->closing)
            door_writable(&client->client);
    }
    for (struct upstream *up = upstreams; up; up = up->next) {
        if (up->node != node || !up->busy)
            continue;
        up->busy = false;
        if (up->state == END_OPEN)
            hub_upstream_writable(up->session, up);
    }
}

void ends_all_leave(struct end_node *node)
{
    for (size_t i = 0; i < END_CLIENTS; i++) {
        if (clients[i].node == node)
            client_leave(&clients[i], 1001);
    }
}

void ends_node_died(const struct end_node *node)
{
    for (size_t i = 0; i < END_CLIENTS; i++) {
        if (clients[i].node == node)
            clients[i].node = NULL;
    }
    for (const struct upstream *up = upstreams; up; up = up->next)
        assert(up->node != node);
}

/* --- bounds --- */

void ends_check_bounds(const struct end_node *node)
{
    const struct service *service = conf->services[0];
    /* An empty queue takes one message of any size; publications of a resume or replay are added,
     * for each session. */
    size_t at_most = service->slow_client.queue_bytes +
                     END_SESSIONS * ((service->history.size + 1) * queue_cost(PUSH_BYTES) + NOTES);
    for (size_t i = 0; i < END_CLIENTS; i++) {
        const struct end_client *client = &clients[i];
        if (client->node != node || client->client.state != CLIENT_OPEN)
            continue;
        assert(client_queue_bytes(&client->client) <= at_most);
        const struct session *session = client->client.own.session;
        if (!session)
            continue;
        /* Each client that is still read may exceed the bound by one message and its object */
        assert(outbox_bytes(session) <= session->service->to_upstream.queue_bytes +
                                            END_CLIENTS * (conf->clients.max_message_bytes + 512));
    }
}

/* --- start and end --- */

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

void ends_hub_start(struct end_node *node, struct conf *of_hub, const char *id, uint64_t life,
                    struct bus *bus)
{
    const struct hub_setup setup = {.conf = of_hub,
                                    .node_id = id,
                                    .life = life,
                                    .seed = 1,
                                    .host = "host",
                                    .version = "1",
                                    .bus = bus,
                                    .upstream_ops = &end_upstream_ops,
                                    .upstream_ctx = node,
                                    .client_ops = &end_client_ops,
                                    .client_ctx = node,
                                    .now_ms = now_ms,
                                    .unix_ms = unix_ms};
    node->hub = hub_new(&setup);
    box_register(node->hub);
    hub_start(node->hub);
}

void ends_start(struct conf *with, bool may_lie)
{
    assert(!upstreams);
    memset(clients, 0, sizeof(clients));
    conf = with;
    lies = may_lie;
    pushes = 0;
}

void ends_stop(void)
{
    for (size_t i = 0; i < END_CLIENTS; i++)
        assert(!clients[i].node);
    assert(!upstreams);
}
