#include "bus/redis_cluster_asker.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_EVERY_MS 1000
#define LEARNED_MAX  16

struct redis_cluster_asker {
    const struct redis_url *url;
    redis_cluster_asker_fn *on_slots;
    void *ctx;
    struct redis_link *link;
    struct loop_timer *timer;
    uint32_t deadline_ms;
    struct redis_host learned[LEARNED_MAX]; /* a ring of the latest */
    size_t learned_len, learned_next;
    size_t candidate; /* of the URL's hosts, then of the learned ones */
    bool asked;
};

static void aim(struct redis_cluster_asker *a)
{
    size_t hosts = a->url->hosts_len;
    const struct redis_host *host = a->candidate < hosts ? &a->url->hosts[a->candidate]
                                                         : &a->learned[a->candidate - hosts];
    redis_link_target(a->link, host->name, host->port);
}

void redis_cluster_ask(struct redis_cluster_asker *a)
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
    struct redis_cluster_asker *a = ctx;
    if (a->asked)
        redis_link_cut(a->link, "no answer in time");
    else
        redis_cluster_ask(a);
}

static void on_up(void *ctx)
{
    struct redis_cluster_asker *a = ctx;
    redis_cluster_ask(a);
}

static void on_down(void *ctx)
{
    struct redis_cluster_asker *a = ctx;
    a->asked = false;
    loop_timer_stop(a->timer);
}

static void on_failed(void *ctx)
{
    struct redis_cluster_asker *a = ctx;
    a->candidate = (a->candidate + 1) % (a->url->hosts_len + a->learned_len);
    aim(a);
}

static void on_reply(void *ctx, struct redisReply *reply)
{
    struct redis_cluster_asker *a = ctx;
    if (!a->asked) {
        freeReplyObject(reply);
        redis_link_cut(a->link, "a reply to nothing");
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

struct redis_cluster_asker *redis_cluster_asker_new(const struct redis_link_options *link,
                                                    redis_cluster_asker_fn *on_slots, void *ctx)
{
    struct redis_cluster_asker *a = redis_claim_memory(1, sizeof(*a));
    a->url = link->url;
    a->on_slots = on_slots;
    a->ctx = ctx;
    a->deadline_ms = link->deadline_ms;
    struct redis_link_options options = *link;
    options.name = "cluster";
    a->link = redis_link_new(&options, &events, a);
    a->timer = loop_timer_new(link->loop, on_timer, a);
    aim(a);
    redis_link_start(a->link);
    return a;
}

void redis_cluster_asker_free(struct redis_cluster_asker *a)
{
    redis_link_free(a->link);
    loop_timer_free(a->timer);
    free(a);
}

void redis_cluster_ask_another(struct redis_cluster_asker *a)
{
    redis_link_cut(a->link, "another one is asked");
}

void redis_cluster_asker_learn(struct redis_cluster_asker *a, const char *host, uint16_t port)
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
