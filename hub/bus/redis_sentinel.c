#include "bus/redis_sentinel.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ASK_EVERY_MS 1000

struct redis_sentinel {
    struct redis_url own; /* without the server's password and database */
    const struct redis_url *url;
    redis_sentinel_fn *on_primary;
    void *ctx;
    struct redis_link *link;
    struct loop_timer *timer;
    uint32_t deadline_ms;
    size_t host; /* of the URL's, that is asked */
    bool asked;
};

static void aim(struct redis_sentinel *s)
{
    redis_link_target(s->link, s->url->hosts[s->host].name, s->url->hosts[s->host].port);
}

void redis_sentinel_ask(struct redis_sentinel *s)
{
    if (s->asked || !redis_link_up(s->link))
        return;
    struct redis_request request = {0};
    redis_request_begin(&request, 3);
    redis_request_text(&request, "SENTINEL");
    redis_request_text(&request, "GET-MASTER-ADDR-BY-NAME");
    redis_request_text(&request, s->url->master);
    redis_output_append(redis_link_output(s->link), &request);
    redis_request_fini(&request);
    s->asked = true;
    loop_timer_start(s->timer, s->deadline_ms);
    redis_link_flush(s->link);
}

static void on_timer(void *ctx)
{
    struct redis_sentinel *s = ctx;
    if (s->asked)
        redis_link_cut(s->link, "no answer in time");
    else
        redis_sentinel_ask(s);
}

static void on_up(void *ctx)
{
    redis_sentinel_ask(ctx);
}

static void on_down(void *ctx)
{
    struct redis_sentinel *s = ctx;
    s->asked = false;
    loop_timer_stop(s->timer);
}

/* Whatever made this one useless: the next one is asked. */
static void on_failed(void *ctx)
{
    struct redis_sentinel *s = ctx;
    s->host = (s->host + 1) % s->url->hosts_len;
    aim(s);
}

static void on_reply(void *ctx, struct redisReply *reply)
{
    struct redis_sentinel *s = ctx;
    if (!s->asked) {
        freeReplyObject(reply);
        redis_link_cut(s->link, "a reply to nothing");
        return;
    }
    s->asked = false;
    bool knows = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                 reply->element[0]->type == REDIS_REPLY_STRING &&
                 reply->element[1]->type == REDIS_REPLY_STRING;
    unsigned long port = knows ? strtoul(reply->element[1]->str, NULL, 10) : 0;
    if (port > 0 && port <= UINT16_MAX) {
        loop_timer_start(s->timer, ASK_EVERY_MS);
        s->on_primary(s->ctx, reply->element[0]->str, (uint16_t)port);
    } else {
        redis_link_cut(s->link, "this Sentinel does not know the primary");
    }
    freeReplyObject(reply);
}

static const struct redis_link_events events = {
    .on_up = on_up, .on_down = on_down, .on_reply = on_reply, .on_failed = on_failed};

struct redis_sentinel *redis_sentinel_new(const struct redis_link_options *link,
                                          redis_sentinel_fn *on_primary, void *ctx)
{
    struct redis_sentinel *s = redis_claim_memory(1, sizeof(*s));
    s->url = link->url;
    s->own = *link->url;
    s->own.user[0] = s->own.password[0] = '\0';
    s->own.db = 0;
    s->on_primary = on_primary;
    s->ctx = ctx;
    s->deadline_ms = link->deadline_ms;
    struct redis_link_options options = *link;
    options.url = &s->own;
    options.name = "sentinel";
    s->link = redis_link_new(&options, &events, s);
    s->timer = loop_timer_new(link->loop, on_timer, s);
    aim(s);
    redis_link_start(s->link);
    return s;
}

void redis_sentinel_free(struct redis_sentinel *s)
{
    if (s == NULL)
        return;
    redis_link_free(s->link);
    loop_timer_free(s->timer);
    free(s);
}
