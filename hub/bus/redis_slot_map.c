#include "bus/redis_slot_map.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- slots --- */

static uint16_t crc16(const char *bytes, size_t len)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc = (uint16_t)(crc ^ (uint16_t)((uint8_t)bytes[i] << 8));
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc & 0x8000U) != 0 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

uint16_t redis_slot_of(const char *key)
{
    const char *open = strchr(key, '{');
    const char *close = open ? strchr(open + 1, '}') : NULL;
    if (close && close > open + 1)
        return crc16(open + 1, (size_t)(close - open - 1)) % REDIS_SLOTS;
    return crc16(key, strlen(key)) % REDIS_SLOTS;
}

static bool read_integer(const struct redisReply *reply, long long max, uint16_t *out)
{
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 0 || reply->integer > max)
        return false;
    *out = (uint16_t)reply->integer;
    return true;
}

/* A range: [first, last, [host, port, ...] of the primary, then one list for each replica]. */
static bool read_range(const struct redisReply *range, const char *fallback,
                       redis_slot_range_fn *fn, void *ctx)
{
    uint16_t first, last, port;
    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3)
        return false;
    const struct redisReply *primary = range->element[2];
    if (!read_integer(range->element[0], REDIS_SLOTS - 1, &first) ||
        !read_integer(range->element[1], REDIS_SLOTS - 1, &last) ||
        primary->type != REDIS_REPLY_ARRAY || primary->elements < 2 ||
        !read_integer(primary->element[1], UINT16_MAX, &port))
        return false;
    const struct redisReply *host = primary->element[0];
    bool known = host->type == REDIS_REPLY_STRING && host->len > 0 && strcmp(host->str, "?") != 0;
    fn(ctx, first, last, known ? host->str : fallback, port);
    return true;
}

bool redis_slots_read(const struct redisReply *reply, const char *fallback, redis_slot_range_fn *fn,
                      void *ctx)
{
    if (reply->type != REDIS_REPLY_ARRAY)
        return false;
    for (size_t i = 0; i < reply->elements; i++) {
        if (!read_range(reply->element[i], fallback, fn, ctx))
            return false;
    }
    return true;
}

bool redis_redirect_read(const char *error, char *host, size_t size, uint16_t *port)
{
    const char *place = strrchr(error, ' '), *colon = strrchr(error, ':');
    if (!place || !colon || colon < place || (size_t)(colon - place) > size)
        return false;
    unsigned long number = strtoul(colon + 1, NULL, 10);
    if (number == 0 || number > UINT16_MAX)
        return false;
    size_t len = (size_t)(colon - place - 1);
    memcpy(host, place + 1, len);
    host[len] = '\0';
    *port = (uint16_t)number;
    return true;
}

/* --- refresh --- */

#define ASK_EVERY_MS 1000
#define LEARNED_MAX  16

struct redis_slot_map_refresh {
    const struct redis_url *url;
    redis_slot_map_fn *on_slots;
    void *ctx;
    struct redis_link *link;
    struct loop_timer *timer;
    uint32_t deadline_ms;
    struct redis_host learned[LEARNED_MAX]; /* a ring of the latest */
    size_t learned_len, learned_next;
    size_t candidate; /* index of the server that is asked: hosts of the URL, then learned ones */
    bool asked;       /* an answer is awaited */
};

static void aim(struct redis_slot_map_refresh *a)
{
    size_t hosts = a->url->hosts_len;
    const struct redis_host *host = a->candidate < hosts ? &a->url->hosts[a->candidate]
                                                         : &a->learned[a->candidate - hosts];
    redis_link_target(a->link, host->name, host->port);
}

void redis_slot_map_ask(struct redis_slot_map_refresh *a)
{
    if (a->asked || !redis_link_up(a->link))
        return;
    struct redis_request request = {0};
    redis_request_begin(&request, 2);
    redis_request_text(&request, "CLUSTER");
    redis_request_text(&request, "SLOTS");
    redis_output_append(redis_link_output(a->link), &request);
    redis_request_fini(&request);
    a->asked = true;
    loop_timer_start(a->timer, a->deadline_ms);
    redis_link_flush(a->link);
}

static void on_timer(void *ctx)
{
    struct redis_slot_map_refresh *a = ctx;
    if (a->asked)
        redis_link_cut(a->link, "no answer in time");
    else
        redis_slot_map_ask(a);
}

static void on_up(void *ctx)
{
    struct redis_slot_map_refresh *a = ctx;
    redis_slot_map_ask(a);
}

static void on_down(void *ctx)
{
    struct redis_slot_map_refresh *a = ctx;
    a->asked = false;
    loop_timer_stop(a->timer);
}

static void on_failed(void *ctx)
{
    struct redis_slot_map_refresh *a = ctx;
    a->candidate = (a->candidate + 1) % (a->url->hosts_len + a->learned_len);
    aim(a);
}

static void on_reply(void *ctx, struct redisReply *reply)
{
    struct redis_slot_map_refresh *a = ctx;
    if (!a->asked) {
        freeReplyObject(reply);
        redis_link_cut(a->link, "unexpected reply: no command waits for one");
        return;
    }
    a->asked = false;
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_link_cut(a->link, reply->str);
    } else {
        redis_link_fit(a->link);
        loop_timer_start(a->timer, ASK_EVERY_MS);
        a->on_slots(a->ctx, reply, redis_link_host(a->link));
    }
    freeReplyObject(reply);
}

static const struct redis_link_events events = {
    .on_up = on_up, .on_down = on_down, .on_reply = on_reply, .on_failed = on_failed};

struct redis_slot_map_refresh *redis_slot_map_refresh_new(const struct redis_link_options *link,
                                                          redis_slot_map_fn *on_slots, void *ctx)
{
    struct redis_slot_map_refresh *a = redis_claim_memory(1, sizeof(*a));
    a->url = link->url;
    a->on_slots = on_slots;
    a->ctx = ctx;
    a->deadline_ms = link->deadline_ms;
    struct redis_link_options options = *link;
    options.name = "cluster";
    a->link = redis_link_new(&options, &events, a);
    a->timer = loop_timer_new(link->loop, "redis_slots", on_timer, a);
    aim(a);
    redis_link_start(a->link);
    return a;
}

void redis_slot_map_refresh_free(struct redis_slot_map_refresh *a)
{
    redis_link_free(a->link);
    loop_timer_free(a->timer);
    free(a);
}

void redis_slot_map_ask_another(struct redis_slot_map_refresh *a)
{
    redis_link_cut(a->link, "another server is asked instead");
}

void redis_slot_map_learn(struct redis_slot_map_refresh *a, const char *host, uint16_t port)
{
    struct redis_host learned = {.port = port};
    size_t len = strlen(host);
    if (len >= sizeof(learned.name))
        return;
    memcpy(learned.name, host, len + 1);
    a->learned[a->learned_next] = learned;
    a->learned_next = (a->learned_next + 1) % LEARNED_MAX;
    if (a->learned_len < LEARNED_MAX)
        a->learned_len++;
}
