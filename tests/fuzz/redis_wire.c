#include "redis_wire.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bus/redis_op.h"
#include "ends.h"
#include "resp.h"

/* --- the loop's timers --- */

struct loop_timer {
    loop_fn *fn;
    void *ctx;
    uint64_t at_ms; /* UINT64_MAX: not armed */
    struct loop_timer *next;
};

static struct loop_timer *timers;

struct loop_timer *loop_timer_new(struct loop *loop, const char *name, loop_fn *fn, void *ctx)
{
    struct loop_timer *timer = malloc(sizeof(*timer));
    (void)loop;
    (void)name;
    *timer = (struct loop_timer){fn, ctx, UINT64_MAX, timers};
    timers = timer;
    return timer;
}

void loop_timer_free(struct loop_timer *timer)
{
    struct loop_timer **at = &timers;
    while (*at != timer)
        at = &(*at)->next;
    *at = timer->next;
    free(timer);
}

void loop_timer_start(struct loop_timer *timer, uint64_t after_ms)
{
    timer->at_ms = fuzz_now_ms + after_ms;
}

void loop_timer_stop(struct loop_timer *timer)
{
    timer->at_ms = UINT64_MAX;
}

uint64_t wire_next_ms(void)
{
    uint64_t next_ms = UINT64_MAX;
    for (const struct loop_timer *timer = timers; timer; timer = timer->next) {
        if (timer->at_ms < next_ms)
            next_ms = timer->at_ms;
    }
    return next_ms;
}

void wire_time(void)
{
    /* A callback may free any timer, so each search starts again; runs are bounded, since a timer
     * may be always due. */
    for (unsigned runs = 0; runs < 100; runs++) {
        struct loop_timer *timer = timers;
        while (timer && timer->at_ms > fuzz_now_ms)
            timer = timer->next;
        if (!timer)
            return;
        timer->at_ms = UINT64_MAX;
        timer->fn(timer->ctx);
    }
}

/* --- links --- */

#define BACKOFF_MS 25 /* the least that redis_link.c waits */

/* A request of the bus. */
struct wire_request {
    redisReply *request;
    struct wire_request *next;
};

/* The request that the bus takes the next reply for; with extra replies it is ahead of the real
 * one.
 */
struct awaited {
    int type; /* of hiredis */
    bool or_nil;
    bool any; /* the reply may be of any type */
    bool is_mark;
    uint64_t mark; /* that a PING carries */
    struct awaited *next;
};

struct redis_link {
    struct redis_link_options options;
    const struct redis_link_events *events;
    void *ctx;
    char *host;
    uint16_t port;
    bool started, up;
    uint64_t up_ms, retry_ms; /* retry_ms: as long the back-off takes */
    unsigned connections;
    struct redis_output output;
    redisReader *replies, *requests;
    struct wire_request *first, **last;
    struct awaited *awaited, **awaited_last;
    struct redis_link *next;
};

static struct redis_link *links;
static const char *node;
static uint64_t renewed_ms;

static void awaited_take(struct redis_link *link)
{
    struct awaited *awaited = link->awaited;
    link->awaited = awaited->next;
    if (!link->awaited)
        link->awaited_last = &link->awaited;
    free(awaited);
}

static void link_clear(struct redis_link *link)
{
    redisReaderFree(link->replies);
    redisReaderFree(link->requests);
    link->replies = link->requests = NULL;
    while (link->first) {
        struct wire_request *asked = link->first;
        link->first = asked->next;
        freeReplyObject(asked->request);
        free(asked);
    }
    link->last = &link->first;
    while (link->awaited)
        awaited_take(link);
    redis_output_clear(&link->output);
    link->connections++;
}

static void link_connect(struct redis_link *link)
{
    link->replies = redisReaderCreate();
    link->requests = redisReaderCreate();
    link->up = true;
    link->up_ms = fuzz_now_ms;
    fuzz_say("link %s is up", link->options.name);
    link->events->on_up(link->ctx);
}

struct redis_link *redis_link_new(const struct redis_link_options *options,
                                  const struct redis_link_events *events, void *ctx)
{
    struct redis_link *link = calloc(1, sizeof(*link));
    link->options = *options;
    link->events = events;
    link->ctx = ctx;
    link->host = strdup("");
    link->last = &link->first;
    link->awaited_last = &link->awaited;
    link->next = links;
    links = link;
    return link;
}

void redis_link_free(struct redis_link *link)
{
    struct redis_link **at = &links;
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    link_clear(link);
    free(link->host);
    free(link);
}

void redis_link_target(struct redis_link *link, const char *host, uint16_t port)
{
    char *copy = strdup(host);
    free(link->host);
    link->host = copy;
    link->port = port;
}

const char *redis_link_host(const struct redis_link *link)
{
    return link->host;
}

uint16_t redis_link_port(const struct redis_link *link)
{
    return link->port;
}

void redis_link_start(struct redis_link *link)
{
    link->started = true;
}

void redis_link_cut(struct redis_link *link, const char *why)
{
    fuzz_say("link %s is cut: %s", link->options.name, why);
    if (!link->started)
        return;
    bool was_up = link->up;
    link->up = false;
    link->retry_ms = fuzz_now_ms + BACKOFF_MS;
    link_clear(link);
    if (was_up)
        link->events->on_down(link->ctx);
    if (was_up && link->events->on_failed)
        link->events->on_failed(link->ctx);
}

/* One address alone. */
void redis_link_unfit(struct redis_link *link, const char *why)
{
    redis_link_cut(link, why);
}

void redis_link_fit(struct redis_link *link)
{
    (void)link;
}

const char *redis_link_why(const struct redis_link *link)
{
    return link->up ? "" : "down";
}

void redis_link_follow(struct redis_link *link, const struct redis_link *other)
{
    assert(link != other);
}

void redis_link_stop(struct redis_link *link)
{
    redis_link_cut(link, "stopped");
    link->started = false;
}

bool redis_link_up(const struct redis_link *link)
{
    return link->up;
}

struct redis_output *redis_link_output(struct redis_link *link)
{
    assert(link->up);
    return &link->output;
}

static struct slice argument(const redisReply *request, size_t index)
{
    if (index >= request->elements)
        return (struct slice){"", 0};
    return (struct slice){request->element[index]->str, request->element[index]->len};
}

static bool is_word(const redisReply *request, size_t index, const char *word)
{
    struct slice text = argument(request, index);
    return text.len == strlen(word) && strncasecmp(text.at, word, text.len) == 0;
}

static enum redis_script script_of(const redisReply *request)
{
    static struct redis_shas shas;
    if (shas.text[0][0] == '\0')
        redis_scripts_hash(&shas);
    unsigned script = 0;
    while (script < REDIS_SCRIPTS && !is_word(request, 1, shas.text[script]))
        script++;
    return (enum redis_script)script;
}

/* Of which type the reply to a command is. */
static int type_of(const redisReply *request)
{
    static const char *const texts[] = {"info", "script", "hget"};
    static const char *const lists[] = {"hgetall", "zrange", "zscan", "hscan"};
    enum redis_script script = script_of(request);
    if (is_word(request, 0, "ping"))
        return request->elements > 1 ? REDIS_REPLY_STRING : REDIS_REPLY_STATUS;
    if (is_word(request, 0, "asking"))
        return REDIS_REPLY_STATUS;
    if (script == SCRIPT_RENEW || script == SCRIPT_CLAIM || script == SCRIPT_ASSERT ||
        script == SCRIPT_HISTORY)
        return REDIS_REPLY_ARRAY;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (is_word(request, 0, texts[i]))
            return REDIS_REPLY_STRING;
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
        if (is_word(request, 0, lists[i]))
            return REDIS_REPLY_ARRAY;
    return script == SCRIPT_TRANSFER ? REDIS_REPLY_STRING : REDIS_REPLY_INTEGER;
}

static struct awaited *awaited_new(const redisReply *request)
{
    struct awaited *awaited = calloc(1, sizeof(*awaited));
    awaited->type = type_of(request);
    awaited->or_nil = is_word(request, 0, "hget");
    awaited->any = is_word(request, 0, "client");
    awaited->is_mark = is_word(request, 0, "ping") && request->elements > 1;
    if (awaited->is_mark)
        awaited->mark = strtoull(request->element[1]->str, NULL, 10);
    return awaited;
}

/* The bus sends well-formed RESP, too. */
void redis_link_flush(struct redis_link *link)
{
    struct redis_chunk *chunk;
    while (link->up && (chunk = redis_output_take(&link->output)) != NULL) {
        redisReaderFeed(link->requests, chunk->bytes, chunk->len);
        free(chunk);
        void *request = NULL;
        int good = redisReaderGetReply(link->requests, &request);
        for (; good == REDIS_OK && request; good = redisReaderGetReply(link->requests, &request)) {
            struct wire_request *asked = malloc(sizeof(*asked));
            *asked = (struct wire_request){.request = request};
            *link->last = asked;
            link->last = &asked->next;
            *link->awaited_last = awaited_new(request);
            link->awaited_last = &(*link->awaited_last)->next;
            request = NULL;
        }
        assert(good == REDIS_OK);
    }
}

size_t redis_link_backlog(const struct redis_link *link)
{
    return link->output.bytes;
}

uint64_t redis_link_up_ms(const struct redis_link *link)
{
    return link->up_ms;
}

static bool is_renewal(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 ||
        reply->element[1]->type != REDIS_REPLY_ARRAY)
        return false;
    const redisReply *list = reply->element[1];
    for (size_t i = 0; i < list->elements; i++) {
        const redisReply *id = list->element[i];
        if (id->type == REDIS_REPLY_STRING && strcmp(id->str, node) == 0)
            return true;
    }
    return false;
}

uint64_t wire_renewed_ms(void)
{
    return renewed_ms;
}

/* A reply that shows that replies and requests are out of step; awaited: NULL where none is. */
static bool is_out_of_step(const struct awaited *awaited, const redisReply *reply)
{
    if (!awaited)
        return true;
    if (awaited->any || reply->type == REDIS_REPLY_ERROR ||
        (reply->type == REDIS_REPLY_NIL && awaited->or_nil))
        return false;
    if (reply->type != awaited->type)
        return true;
    return awaited->is_mark && strtoull(reply->str, NULL, 10) != awaited->mark;
}

/* Whether the next reply must end the connection. */
static bool must_end(struct redis_link *link, const redisReply *reply)
{
    if (strcmp(link->options.name, "commands") != 0)
        return false;
    if (!link->awaited)
        redis_link_flush(link); /* an op counts once it is written, sent or not */
    bool must = is_out_of_step(link->awaited, reply);
    if (link->awaited)
        awaited_take(link);
    return must;
}

/* As redis_link.c does it. */
static void link_feed(struct redis_link *link, const struct resp *bytes)
{
    unsigned connection = link->connections;
    if (!link->up || bytes->len == 0)
        return;
    redisReaderFeed(link->replies, bytes->bytes, bytes->len);
    while (connection == link->connections) {
        void *reply = NULL;
        if (redisReaderGetReply(link->replies, &reply) != REDIS_OK) {
            redis_link_cut(link, link->replies->errstr);
            return;
        }
        if (!reply)
            return;
        if (is_renewal(reply))
            renewed_ms = fuzz_now_ms;
        bool ends = must_end(link, reply);
        fuzz_say("a reply%s", ends ? " that ends the connection" : "");
        link->events->on_reply(link->ctx, reply);
        assert(!ends || connection != link->connections);
    }
}

static struct redis_link *link_of(struct fuzz_input *input)
{
    unsigned skip = fuzz_below(input, 6);
    struct redis_link *link = links;
    for (; link && skip > 0; skip--)
        link = link->next ? link->next : links;
    return link;
}

/* --- what a server would answer --- */

static uint64_t epoch; /* last one given out */

static void push_on(struct resp *out, const char *kind, struct slice channel, struct slice payload)
{
    resp_line(out, '*', 3);
    resp_text(out, kind);
    resp_bulk(out, channel);
    resp_bulk(out, payload);
}

/* To those links that hear channels. */
static void publish(struct slice channel, struct slice payload, bool sharded)
{
    struct redis_link *link = links;
    while (link && (!link->up || strcmp(link->options.name, "subscriptions") != 0))
        link = link->next;
    if (!link)
        return;
    struct resp *out = calloc(1, sizeof(*out));
    push_on(out, sharded ? "smessage" : "message", channel, payload);
    link_feed(link, out);
    free(out);
}

static bool subscribes(const redisReply *request)
{
    static const char *const words[] = {"subscribe", "unsubscribe", "ssubscribe", "sunsubscribe"};
    size_t i = 0;
    while (i < 4 && !is_word(request, 0, words[i]))
        i++;
    return i < 4;
}

/* Each channel is confirmed by itself. */
static void confirm(const redisReply *request, struct resp *out)
{
    char kind[16] = "";
    struct slice word = argument(request, 0);
    for (size_t i = 0; i < word.len && i + 1 < sizeof(kind); i++)
        kind[i] = (char)(word.at[i] | 0x20);
    for (size_t i = 1; i < request->elements; i++) {
        resp_line(out, '*', 3);
        resp_text(out, kind);
        resp_bulk(out, argument(request, i));
        resp_line(out, ':', i);
    }
}

/* Scripts that announce an owner: their arguments, behind the keys, are the publishing word, the
 * channel, the session, and who owns it at that place. */
static void announce(const redisReply *request, size_t keys, size_t owner_at)
{
    size_t first = 3 + keys;
    const struct envelope grant = {.type = ENVELOPE_GRANT,
                                   .session = argument(request, first + 2),
                                   .node = argument(request, first + owner_at),
                                   .epoch = epoch};
    uint8_t *bytes;
    size_t len;
    if (envelope_encode(&grant, &bytes, &len) != STATUS_OK)
        abort();
    publish(argument(request, first + 1), (struct slice){(char *)bytes, len},
            is_word(request, first, "spublish"));
    free(bytes);
}

static void owner_answer(struct resp *out, uint64_t granted, struct slice owner)
{
    resp_line(out, '*', 3);
    resp_line(out, ':', granted);
    resp_bulk(out, owner);
    resp_number_text(out, epoch);
}

static void renewed(struct resp *out)
{
    resp_line(out, '*', 2);
    resp_line(out, ':', 1);
    resp_line(out, '*', 4);
    resp_text(out, node);
    resp_number_text(out, FUZZ_UNIX_MS + fuzz_now_ms);
    resp_text(out, "other");
    resp_number_text(out, FUZZ_UNIX_MS + fuzz_now_ms);
}

static void history(struct resp *out)
{
    char id[48];
    snprintf(id, sizeof(id), "%" PRIu64 "-1", epoch);
    resp_line(out, '*', 3);
    resp_text(out, id);
    resp_line(out, ':', 0);
    resp_line(out, '*', 2);
    resp_text(out, id);
    resp_line(out, '*', 6);
    for (const char *const *at = (const char *const[]){"o", "1", "t", "5", "d", "push 0", NULL};
         *at; at++)
        resp_text(out, *at);
}

/* Of each session, which has two keys. */
static void published(struct resp *out, const redisReply *request)
{
    size_t sessions = strtoul(argument(request, 2).at, NULL, 10) / 2;
    resp_line(out, '*', sessions);
    for (size_t i = 0; i < sessions; i++)
        resp_line(out, ':', 1);
}

static void run_script(const redisReply *request, struct resp *out)
{
    switch (script_of(request)) {
    case SCRIPT_RENEW: renewed(out); break;
    case SCRIPT_CLAIM:
    case SCRIPT_ASSERT:
        epoch = FUZZ_UNIX_MS + fuzz_now_ms > epoch ? FUZZ_UNIX_MS + fuzz_now_ms : epoch + 1;
        owner_answer(out, 1, argument(request, 7));
        break;
    case SCRIPT_TRANSFER: resp_number_text(out, ++epoch); break;
    case SCRIPT_HISTORY: history(out); break;
    case SCRIPT_RECORD_NODE:
    case SCRIPT_RELEASE:
    case SCRIPT_RECORD_SESSION:
    case SCRIPT_REVOKE: resp_line(out, ':', 1); break;
    case SCRIPT_PUBLISH: published(out, request); break;
    case REDIS_SCRIPTS: assert(!"a script that is none of ours");
    }
}

/* Messages on the channels that follow the reply. */
static void run_after(const redisReply *request)
{
    enum redis_script script = script_of(request);
    bool sharded = is_word(request, 0, "spublish");
    if (sharded || is_word(request, 0, "publish"))
        publish(argument(request, 1), argument(request, 2), sharded);
    else if (script == SCRIPT_CLAIM)
        announce(request, 2, 3);
    else if (script == SCRIPT_TRANSFER)
        announce(request, 1, 5);
}

static void slots(struct resp *out)
{
    resp_line(out, '*', 1);
    resp_line(out, '*', 3);
    resp_line(out, ':', 0);
    resp_line(out, ':', 16383);
    resp_line(out, '*', 2);
    resp_text(out, "h");
    resp_line(out, ':', 7000);
}

static void pair(struct resp *out, const char *a, const char *b)
{
    resp_line(out, '*', 2);
    resp_text(out, a);
    resp_text(out, b);
}

static void truth(const redisReply *request, struct resp *out)
{
    if (is_word(request, 0, "evalsha"))
        run_script(request, out);
    else if (subscribes(request))
        confirm(request, out);
    else if (is_word(request, 0, "ping") && request->elements > 1)
        resp_bulk(out, argument(request, 1));
    else if (is_word(request, 0, "ping") || is_word(request, 0, "asking"))
        resp_add(out, "+OK\r\n", 5);
    else if (is_word(request, 0, "script"))
        resp_text(out, "the hash of it");
    else if (is_word(request, 0, "client") && is_word(request, 1, "info"))
        resp_text(out, "id=7 addr=127.0.0.1:40112 laddr=127.0.0.1:6379 fd=8");
    else if (is_word(request, 0, "info"))
        resp_text(out, "role:master\r\nmaxmemory_policy:noeviction\r\n");
    else if (is_word(request, 0, "hget"))
        resp_text(out, "1000");
    else if (is_word(request, 0, "hgetall"))
        pair(out, "state", "connected");
    else if (is_word(request, 0, "hscan")) {
        resp_line(out, '*', 2);
        resp_text(out, "0");
        pair(out, "sub:u", "1800000000 1700000000");
    } else if (is_word(request, 0, "zrange"))
        pair(out, "other", "1700000000000");
    else if (is_word(request, 0, "zscan")) {
        resp_line(out, '*', 2);
        resp_text(out, "0");
        pair(out, end_session_ids[0], "1700000000000");
    } else if (is_word(request, 0, "cluster"))
        slots(out);
    else if (is_word(request, 0, "sentinel"))
        pair(out, "h", "7000");
    else
        resp_line(out, ':', 1);
}

/* --- what the input makes of it --- */

static redisReply *take_request(struct redis_link *link)
{
    struct wire_request *asked = link->first;
    redisReply *request = asked->request;
    link->first = asked->next;
    if (!link->first)
        link->last = &link->first;
    free(asked);
    return request;
}

static void lie(struct fuzz_input *input, const redisReply *request, struct resp *out)
{
    switch (fuzz_below(input, 8)) {
    case 0: truth(request, out); break;
    case 1:
    case 2:
        truth(request, out);
        resp_spoil(out, input);
        break;
    case 3: resp_any_error(out, input); break;
    case 4:
    case 5: resp_any(out, input, 3); break;
    case 6:
        truth(request, out);
        out->len = out->len * fuzz_byte(input) / 256; /* the rest is missing, or other bytes */
        break;
    case 7:
        truth(request, out);
        resp_any(out, input, 2); /* one reply more than was asked for */
        break;
    }
}

void wire_answer_one(struct fuzz_input *input)
{
    struct redis_link *link = link_of(input);
    if (!link || !link->up)
        return;
    redis_link_flush(link);
    if (!link->first)
        return;
    redisReply *request = take_request(link);
    struct resp *out = calloc(1, sizeof(*out));
    lie(input, request, out);
    fuzz_say("%s: %.20s is answered: %.*s", link->options.name, argument(request, 0).at,
             (int)out->len, out->bytes);
    link_feed(link, out);
    free(out);
    freeReplyObject(request);
}

void wire_babble(struct fuzz_input *input)
{
    struct redis_link *link = link_of(input);
    struct resp *out = calloc(1, sizeof(*out));
    if (fuzz_below(input, 2) == 0) {
        resp_any(out, input, 4);
    } else {
        struct slice bytes = fuzz_slice(input);
        resp_add(out, bytes.at, bytes.len);
    }
    if (link)
        link_feed(link, out);
    free(out);
}

void wire_push(struct fuzz_input *input)
{
    static const char *const channels[] = {"vinhub:push:{svc:v0}", "vinhub:push:{svc:v1}",
                                           "vinhub:inbox:n0", "vinhub:push:{"};
    static const char *const kinds[] = {"message",     "message",      "smessage", "subscribe",
                                        "unsubscribe", "sunsubscribe", ""};
    struct redis_link *link = link_of(input);
    struct resp *out = calloc(1, sizeof(*out));
    const char *kind = kinds[fuzz_below(input, 7)];
    struct slice channel = slice_of(channels[fuzz_below(input, 4)]);
    push_on(out, kind, channel, fuzz_slice(input));
    if (fuzz_below(input, 4) == 0)
        resp_spoil(out, input);
    if (link)
        link_feed(link, out);
    free(out);
}

void wire_connect_one(struct fuzz_input *input)
{
    struct redis_link *link = link_of(input);
    if (link && link->started && !link->up)
        link_connect(link);
}

void wire_cut_one(struct fuzz_input *input)
{
    struct redis_link *link = link_of(input);
    if (link)
        redis_link_cut(link, "the input wants it");
}

static struct redis_link *link_with_work(void)
{
    for (struct redis_link *link = links; link; link = link->next) {
        if (link->started && !link->up && fuzz_now_ms >= link->retry_ms)
            return link;
        if (link->up)
            redis_link_flush(link);
        if (link->first)
            return link;
    }
    return NULL;
}

void wire_serve(void)
{
    struct redis_link *link;
    for (unsigned steps = 0; steps < 1000 && (link = link_with_work()) != NULL; steps++) {
        if (!link->up) {
            link_connect(link);
            continue;
        }
        redisReply *request = take_request(link);
        struct resp *out = calloc(1, sizeof(*out));
        truth(request, out);
        fuzz_say("%s: %.20s is answered truly: %.*s", link->options.name, argument(request, 0).at,
                 (int)out->len, out->bytes);
        link_feed(link, out);
        run_after(request);
        free(out);
        freeReplyObject(request);
    }
}

void wire_cut_all(void)
{
    for (struct redis_link *link = links; link;) {
        bool cuts = link->up;
        if (cuts)
            redis_link_cut(link, "all is over");
        link = cuts ? links : link->next; /* the callback may have changed the list */
    }
}

void wire_start(const char *own_node)
{
    node = own_node;
    epoch = 0;
    renewed_ms = 0;
}

void wire_stop(void)
{
    assert(!links && !timers);
}
