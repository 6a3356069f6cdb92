#include "bus/redis_subscriptions.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "common/clock.h"
#include "common/log.h"

#define BATCH_CHANNELS 1000
#define UNCONFIRMED_MAX \
    2000 /* channels asked for and not confirmed: one batch on its way, one behind it */

struct channel {
    char *session;
    bool wanted;
    bool live;            /* a subscription was sent on this connection, and no end of it */
    bool dirty;           /* in the queue: what is wanted is to be sent */
    unsigned unconfirmed; /* requests on this connection that are not confirmed */
    struct channel *next_dirty;
    UT_hash_handle hh;
};

struct redis_subscriptions {
    struct redis_subscriptions_options options;
    const struct redis_subscriptions_events *events;
    void *ctx;
    char *inbox, *push_prefix;
    struct redis_link *link;
    struct channel *channels;
    struct channel *dirty_first, *dirty_last;
    size_t unconfirmed;   /* over all channels, the inbox too */
    uint64_t progress_ms; /* the latest confirmation, or the request after which there was something
                             to confirm */
    struct loop_timer *deadline;
    bool ticking;
    uint64_t listening_ms;
};

static void channel_free(struct redis_subscriptions *s, struct channel *channel)
{
    HASH_DEL(s->channels, channel);
    free(channel->session);
    free(channel);
}

static void mark_dirty(struct redis_subscriptions *s, struct channel *channel)
{
    if (channel->dirty)
        return;
    channel->dirty = true;
    channel->next_dirty = NULL;
    if (s->dirty_first == NULL)
        s->dirty_first = channel;
    else
        s->dirty_last->next_dirty = channel;
    s->dirty_last = channel;
}

static struct channel *find_channel(const struct redis_subscriptions *s, const char *session,
                                    size_t len)
{
    struct channel *channel;
    HASH_FIND(hh, s->channels, session, len, channel);
    return channel;
}

/* --- sending --- */

static void on_deadline(void *ctx)
{
    struct redis_subscriptions *s = ctx;
    s->ticking = s->unconfirmed > 0;
    if (!s->ticking)
        return;
    uint64_t waited_ms = clock_boot_ms() - s->progress_ms;
    uint32_t limit_ms = s->options.link.deadline_ms;
    if (waited_ms < limit_ms)
        loop_timer_start(s->deadline, limit_ms - waited_ms);
    else
        redis_link_cut(s->link, "no confirmation in time");
}

static void expect_confirmations(struct redis_subscriptions *s, size_t count)
{
    if (s->unconfirmed == 0)
        s->progress_ms = clock_boot_ms();
    s->unconfirmed += count;
    if (!s->ticking)
        loop_timer_start(s->deadline, s->options.link.deadline_ms);
    s->ticking = true;
}

static const char *word(const struct redis_subscriptions *s, bool subscribe)
{
    if (s->options.sharded)
        return subscribe ? "SSUBSCRIBE" : "SUNSUBSCRIBE";
    return subscribe ? "SUBSCRIBE" : "UNSUBSCRIBE";
}

static void add_channel(const struct redis_subscriptions *s, struct redis_request *request,
                        const struct channel *channel)
{
    char name[1024];
    int len = snprintf(name, sizeof(name), "%s{%s}", s->push_prefix, channel->session);
    redis_request_add(request, (struct slice){name, (size_t)len});
}

/* One request for all of a kind; in a cluster one each, since a request must stay within a slot. */
static void send_batch(struct redis_subscriptions *s, struct channel *const *batch, size_t len,
                       bool subscribe)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++)
        count += batch[i]->live == subscribe;
    if (count == 0)
        return;

    struct redis_request request = {0};
    bool sharded = s->options.sharded;
    for (size_t i = 0, added = 0; i < len; i++) {
        if (batch[i]->live != subscribe)
            continue;
        if (added++ == 0 || sharded) {
            redis_request_begin(&request, 1 + (sharded ? 1 : count));
            redis_request_text(&request, word(s, subscribe));
        }
        add_channel(s, &request, batch[i]);
        batch[i]->unconfirmed++;
    }
    redis_output_append(redis_link_output(s->link), &request);
    redis_request_fini(&request);
    expect_confirmations(s, count);
}

/* Takes the next channels out of the queue whose state on the server must change, and sets live to
 * what it will be. */
static size_t take_batch(struct redis_subscriptions *s, struct channel **batch)
{
    size_t len = 0;
    while (len < BATCH_CHANNELS && s->dirty_first != NULL) {
        struct channel *channel = s->dirty_first;
        s->dirty_first = channel->next_dirty;
        channel->dirty = false;
        if (!channel->wanted && !channel->live) {
            if (channel->unconfirmed == 0)
                channel_free(s, channel);
            continue;
        }
        channel->live = channel->wanted;
        batch[len++] = channel;
    }
    return len;
}

void redis_subscriptions_flush(struct redis_subscriptions *s)
{
    if (!redis_link_up(s->link))
        return;
    while (s->dirty_first != NULL && s->unconfirmed < UNCONFIRMED_MAX) {
        struct channel *batch[BATCH_CHANNELS];
        size_t len = take_batch(s, batch);
        send_batch(s, batch, len, true);
        send_batch(s, batch, len, false);
    }
    redis_link_flush(s->link);
}

/* --- receiving --- */

/* The session of a push channel, within its name; len 0: it is another channel. */
static struct slice channel_session(const struct redis_subscriptions *s, const redisReply *name)
{
    size_t prefix_len = strlen(s->push_prefix);
    if (name->len < prefix_len + 3 || strncmp(name->str, s->push_prefix, prefix_len) != 0 ||
        name->str[prefix_len] != '{' || name->str[name->len - 1] != '}')
        return (struct slice){NULL, 0};
    return (struct slice){name->str + prefix_len + 1, name->len - prefix_len - 2};
}

static void on_inbox_change(struct redis_subscriptions *s, bool subscribed)
{
    if (!subscribed) {
        redis_link_cut(s->link, "the inbox was unsubscribed");
        return;
    }
    s->unconfirmed--;
    s->listening_ms = clock_boot_ms();
    s->events->on_listening(s->ctx);
}

static void on_channel_change(struct redis_subscriptions *s, struct channel *channel,
                              bool subscribed)
{
    if (channel->unconfirmed > 0) {
        channel->unconfirmed--;
        s->unconfirmed--;
    } else if (!subscribed) {
        /* Nobody asked for it: the slot has moved to another server of the cluster. */
        channel->live = false;
        if (channel->wanted)
            mark_dirty(s, channel);
    }
    if (channel->unconfirmed > 0 || channel->dirty)
        return;
    if (!channel->wanted)
        channel_free(s, channel);
    else if (subscribed)
        s->events->on_subscribed(s->ctx, channel->session);
}

static void on_change(struct redis_subscriptions *s, const redisReply *name, bool subscribed)
{
    s->progress_ms = clock_boot_ms();
    struct slice session = channel_session(s, name);
    if (s->inbox != NULL && strcmp(name->str, s->inbox) == 0) {
        on_inbox_change(s, subscribed);
    } else if (session.len > 0) {
        struct channel *channel = find_channel(s, session.at, session.len);
        if (channel != NULL)
            on_channel_change(s, channel, subscribed);
    }
}

static void on_published(struct redis_subscriptions *s, const redisReply *name,
                         const redisReply *message)
{
    struct slice bytes = {message->str, message->len};
    struct slice session = channel_session(s, name);
    if (s->inbox != NULL && strcmp(name->str, s->inbox) == 0) {
        s->events->on_message(s->ctx, NULL, bytes);
    } else if (session.len > 0) {
        const struct channel *channel = find_channel(s, session.at, session.len);
        if (channel != NULL && channel->wanted)
            s->events->on_message(s->ctx, channel->session, bytes);
    }
}

static bool is_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING;
}

static void on_reply(void *ctx, struct redisReply *reply)
{
    struct redis_subscriptions *s = ctx;
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_link_cut(s->link, reply->str);
    } else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
               is_text(reply->element[0]) && is_text(reply->element[1])) {
        /* ssubscribe, sunsubscribe, smessage */
        const char *kind = reply->element[0]->str +
                           (s->options.sharded && reply->element[0]->len > 0);
        if (strcmp(kind, "message") == 0 && is_text(reply->element[2]))
            on_published(s, reply->element[1], reply->element[2]);
        else if (strcmp(kind, "subscribe") == 0)
            on_change(s, reply->element[1], true);
        else if (strcmp(kind, "unsubscribe") == 0)
            on_change(s, reply->element[1], false);
    }
    freeReplyObject(reply);
}

/* --- the connection --- */

static void on_up(void *ctx)
{
    struct redis_subscriptions *s = ctx;
    if (s->inbox != NULL) {
        struct redis_request request = {0};
        redis_request_begin(&request, 2);
        redis_request_text(&request, word(s, true));
        redis_request_text(&request, s->inbox);
        redis_output_append(redis_link_output(s->link), &request);
        redis_request_fini(&request);
        expect_confirmations(s, 1);
    }
    struct channel *channel, *next;
    HASH_ITER (hh, s->channels, channel, next) {
        mark_dirty(s, channel);
    }
    redis_subscriptions_flush(s);
}

static void on_down(void *ctx)
{
    struct redis_subscriptions *s = ctx;
    s->listening_ms = 0;
    s->unconfirmed = 0;
    s->dirty_first = NULL;
    struct channel *channel, *next;
    HASH_ITER (hh, s->channels, channel, next) {
        channel->live = channel->dirty = false;
        channel->unconfirmed = 0;
        if (!channel->wanted)
            channel_free(s, channel);
    }
}

static const struct redis_link_events link_events = {
    .on_up = on_up, .on_down = on_down, .on_reply = on_reply};

struct redis_subscriptions *redis_subscriptions_new(
    const struct redis_subscriptions_options *options,
    const struct redis_subscriptions_events *events, void *ctx)
{
    struct redis_subscriptions *s = redis_claim_memory(1, sizeof(*s));
    s->options = *options;
    s->events = events;
    s->ctx = ctx;
    s->inbox = options->inbox != NULL ? redis_copy_text(options->inbox) : NULL;
    s->push_prefix = redis_copy_text(options->push_prefix);
    s->link = redis_link_new(&options->link, &link_events, s);
    s->deadline = loop_timer_new(options->link.loop, on_deadline, s);
    return s;
}

void redis_subscriptions_free(struct redis_subscriptions *s)
{
    redis_link_free(s->link);
    loop_timer_free(s->deadline);
    struct channel *channel, *next;
    HASH_ITER (hh, s->channels, channel, next) {
        channel_free(s, channel);
    }
    free(s->inbox);
    free(s->push_prefix);
    free(s);
}

struct redis_link *redis_subscriptions_link(struct redis_subscriptions *s)
{
    return s->link;
}

void redis_subscriptions_add(struct redis_subscriptions *s, const char *session)
{
    struct channel *channel = find_channel(s, session, strlen(session));
    if (channel == NULL) {
        channel = redis_claim_memory(1, sizeof(*channel));
        channel->session = redis_copy_text(session);
        HASH_ADD_KEYPTR(hh, s->channels, channel->session, strlen(channel->session), channel);
    }
    channel->wanted = true;
    if (redis_link_up(s->link))
        mark_dirty(s, channel);
}

void redis_subscriptions_remove(struct redis_subscriptions *s, const char *session)
{
    struct channel *channel = find_channel(s, session, strlen(session));
    if (channel == NULL)
        return;
    channel->wanted = false;
    if (redis_link_up(s->link))
        mark_dirty(s, channel);
    else
        channel_free(s, channel);
}

uint64_t redis_subscriptions_listening_ms(const struct redis_subscriptions *s)
{
    return s->listening_ms;
}
