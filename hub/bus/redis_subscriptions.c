#include "bus/redis_subscriptions.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"

#define BATCH_CHANNELS 1000
#define RETRY_MIN_MS   1000 /* for channels without a right: an operator has to grant it */
#define RETRY_MAX_MS   30000
/* How many channels may wait for an answer. Also bounds the work of a turn to a few milliseconds.
 */
#define UNANSWERED_MAX ((size_t)5 * BATCH_CHANNELS)

struct redis_channel {
    char *name;
    bool wanted;
    bool live;           /* SUBSCRIBE was sent on this connection, and no UNSUBSCRIBE after it */
    bool dirty;          /* in the queue: SUBSCRIBE or UNSUBSCRIBE is to be sent */
    bool refused;        /* by the server; until the next attempt */
    bool alone;          /* goes in a request of its own: one missing right fails a whole request */
    unsigned unanswered; /* requests on this connection without an answer */
    struct redis_channel *next_dirty;
    UT_hash_handle hh;
};

struct subscription_request {
    struct redis_channel *channel; /* lives as long as it has unanswered requests */
    bool subscribe;
    bool last; /* the last channel of its request; one error answers the whole request */
};

struct redis_subscriptions {
    const struct redis_subscriptions_events *events;
    void *ctx;
    bool sharded;
    uint32_t deadline_ms;
    const struct redis_url *url; /* for quoting */
    struct redis_link *link;
    struct redis_channel *channels;
    struct redis_channel *dirty_first, *dirty_last;
    struct subscription_request
        unanswered[UNANSWERED_MAX]; /* a ring, in the order of the answers */
    size_t start, len;
    uint64_t progress_ms; /* time of the latest answer or message, or of the first request after
                             all others were answered */
    struct loop_timer *deadline;
    bool ticking;             /* the deadline's timer is armed */
    struct loop_timer *retry; /* for refused channels */
    uint64_t retry_ms;        /* the latest delay of the retry timer */
    bool retrying;            /* the retry timer is armed */
};

static void channel_free(struct redis_subscriptions *s, struct redis_channel *channel)
{
    HASH_DEL(s->channels, channel);
    free(channel->name);
    free(channel);
}

static void mark_dirty(struct redis_subscriptions *s, struct redis_channel *channel)
{
    if (channel->dirty || !redis_link_up(s->link))
        return;
    channel->dirty = true;
    channel->next_dirty = NULL;
    if (!s->dirty_first)
        s->dirty_first = channel;
    else
        s->dirty_last->next_dirty = channel;
    s->dirty_last = channel;
}

/* --- sending --- */

static void on_deadline(void *ctx)
{
    struct redis_subscriptions *s = ctx;
    s->ticking = s->len > 0;
    if (!s->ticking)
        return;
    uint64_t waited_ms = clock_boot_ms() - s->progress_ms;
    if (waited_ms < s->deadline_ms)
        loop_timer_start(s->deadline, s->deadline_ms - waited_ms);
    else
        redis_link_cut(s->link, "no confirmation in time");
}

static void expect_answer(struct redis_subscriptions *s, struct redis_channel *channel,
                          bool subscribe, bool last)
{
    if (s->len == 0)
        s->progress_ms = clock_boot_ms();
    s->unanswered[(s->start + s->len++) % UNANSWERED_MAX] = (struct subscription_request){
        channel, subscribe, last};
    channel->unanswered++;
    if (!s->ticking)
        loop_timer_start(s->deadline, s->deadline_ms);
    s->ticking = true;
}

static const char *word(const struct redis_subscriptions *s, bool subscribe)
{
    if (s->sharded)
        return subscribe ? "SSUBSCRIBE" : "SUNSUBSCRIBE";
    return subscribe ? "SUBSCRIBE" : "UNSUBSCRIBE";
}

/* Sends one request for all channels to (un)subscribe. In a cluster each channel has its own
 * request, since a request must stay within one slot. */
static void send_batch(struct redis_subscriptions *s, struct redis_channel *const *batch,
                       size_t len, bool subscribe)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++)
        count += batch[i]->live == subscribe;
    if (count == 0)
        return;

    struct redis_request request = {0};
    for (size_t i = 0, added = 0; i < len; i++) {
        if (batch[i]->live != subscribe)
            continue;
        if (added++ == 0 || s->sharded) {
            redis_request_begin(&request, 1 + (s->sharded ? 1 : count));
            redis_request_text(&request, word(s, subscribe));
        }
        redis_request_text(&request, batch[i]->name);
        expect_answer(s, batch[i], subscribe, s->sharded || added == count);
    }
    redis_output_append(redis_link_output(s->link), &request);
    redis_request_fini(&request);
}

/* Takes the next channels whose state on the server must change out of the queue, and sets live to
 * the new state. */
static size_t take_batch(struct redis_subscriptions *s, struct redis_channel **batch)
{
    size_t len = 0;
    while (len < BATCH_CHANNELS && s->dirty_first) {
        struct redis_channel *channel = s->dirty_first;
        if (channel->alone && len > 0)
            break;
        s->dirty_first = channel->next_dirty;
        channel->dirty = false;
        if (channel->wanted || channel->live) {
            channel->live = channel->wanted;
            channel->refused = false;
            batch[len++] = channel;
            if (channel->alone)
                break;
        } else if (channel->unanswered == 0) {
            channel_free(s, channel);
        }
    }
    return len;
}

void redis_subscriptions_flush(struct redis_subscriptions *s)
{
    if (!redis_link_up(s->link))
        return;
    while (s->dirty_first && s->len + BATCH_CHANNELS <= UNANSWERED_MAX) {
        struct redis_channel *batch[BATCH_CHANNELS];
        size_t len = take_batch(s, batch);
        send_batch(s, batch, len, true);
        send_batch(s, batch, len, false);
    }
    redis_link_flush(s->link);
}

/* --- receiving --- */

static struct redis_channel *take_request(struct redis_subscriptions *s)
{
    struct redis_channel *channel = s->unanswered[s->start].channel;
    s->start = (s->start + 1) % UNANSWERED_MAX;
    s->len--;
    channel->unanswered--;
    return channel;
}

static bool is_answer(const struct redis_subscriptions *s, const struct redis_channel *channel,
                      bool subscribe)
{
    const struct subscription_request *oldest = &s->unanswered[s->start];
    return s->len > 0 && oldest->channel == channel && oldest->subscribe == subscribe;
}

static void on_change(struct redis_subscriptions *s, struct redis_channel *channel, bool subscribed)
{
    if (!channel || !is_answer(s, channel, subscribed)) {
        /* In a cluster, an end that was not asked for: the slot has moved to another server. */
        if (!s->sharded || subscribed) {
            redis_link_cut(s->link, "unexpected confirmation: no SUBSCRIBE waits for it");
            return;
        }
        if (!channel)
            return;
        channel->live = false;
        channel->refused = true;
        s->events->on_misplaced(s->ctx);
        return;
    }
    take_request(s);
    if (channel->unanswered > 0 || channel->dirty)
        return;
    channel->alone = false;
    if (!channel->wanted)
        channel_free(s, channel);
    else if (subscribed)
        s->events->on_subscribed(s->ctx, channel->name);
}

static void on_retry(void *ctx)
{
    struct redis_subscriptions *s = ctx;
    s->retrying = false;
    redis_subscriptions_retry(s);
    redis_subscriptions_flush(s);
}

static void refuse(struct redis_subscriptions *s, struct redis_channel *channel, const char *error)
{
    channel->live = false;
    channel->refused = channel->alone = true;
    if (!channel->wanted) {
        mark_dirty(s, channel);
        return;
    }
    if (!s->retrying) {
        uint64_t longer_ms = s->retry_ms * 2 < RETRY_MAX_MS ? s->retry_ms * 2 : RETRY_MAX_MS;
        s->retry_ms = s->retry_ms == 0 ? RETRY_MIN_MS : longer_ms;
        s->retrying = true;
        loop_timer_start(s->retry, s->retry_ms);
    }
    log_warn_cause("redis_channel_refused", LOG_STR("channel", channel->name),
                   LOG_STR("error", error));
    s->events->on_refused(s->ctx, channel->name, error);
}

/* A right is missing. The error does not say for which channel of the request, so each of them is
 * asked for in a request of its own. */
static void on_no_right(struct redis_subscriptions *s, const char *error)
{
    bool whole_command = strstr(error, "to run the") != NULL, last = false;
    bool single = s->unanswered[s->start].last || whole_command;
    while (s->len > 0 && !last) {
        last = s->unanswered[s->start].last;
        struct redis_channel *channel = take_request(s);
        if (single) {
            refuse(s, channel, error);
        } else {
            channel->live = false;
            channel->alone = true;
            mark_dirty(s, channel);
        }
    }
    redis_subscriptions_flush(s);
}

/* An error answers the oldest request. */
static void on_error(struct redis_subscriptions *s, const char *error)
{
    if (s->len > 0 && s->unanswered[s->start].subscribe && strncmp(error, "NOPERM", 6) == 0) {
        char words[REDIS_WHY_BYTES];
        redis_quote(s->url, error, words);
        on_no_right(s, words);
        return;
    }
    if (!s->sharded || s->len == 0) {
        redis_link_cut(s->link, error);
        return;
    }
    struct redis_channel *channel = take_request(s);
    if (strncmp(error, "MOVED ", 6) != 0)
        log_warn_cause("redis_error", LOG_STR("error", error), LOG_STR("channel", channel->name));
    channel->live = false;
    channel->refused = true;
    if (!channel->wanted)
        mark_dirty(s, channel);
    s->events->on_misplaced(s->ctx);
}

static bool is_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING;
}

/* In a cluster the kinds are ssubscribe, sunsubscribe and smessage. */
static bool is_kind(const struct redis_subscriptions *s, const redisReply *reply, const char *kind)
{
    const char *name = reply->element[0]->str;
    return (!s->sharded || *name++ == 's') && strcmp(name, kind) == 0;
}

static void on_push(struct redis_subscriptions *s, const redisReply *reply)
{
    const redisReply *name = reply->element[1], *payload = reply->element[2];
    struct redis_channel *channel;
    HASH_FIND(hh, s->channels, name->str, name->len, channel);
    if (is_kind(s, reply, "subscribe"))
        on_change(s, channel, true);
    else if (is_kind(s, reply, "unsubscribe"))
        on_change(s, channel, false);
    else if (!is_kind(s, reply, "message") || !is_text(payload))
        redis_link_cut(s->link, "unexpected reply, expected a message or a confirmation");
    else if (channel && channel->wanted)
        s->events->on_message(s->ctx, channel->name, (struct slice){payload->str, payload->len});
}

static void on_reply(void *ctx, struct redisReply *reply)
{
    struct redis_subscriptions *s = ctx;
    s->progress_ms = clock_boot_ms();
    if (reply->type == REDIS_REPLY_ERROR)
        on_error(s, reply->str);
    else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
             is_text(reply->element[0]) && is_text(reply->element[1]))
        on_push(s, reply);
    else
        redis_link_cut(s->link, "unexpected reply, expected a message or a confirmation");
    freeReplyObject(reply);
}

/* --- the connection --- */

static void on_up(void *ctx)
{
    struct redis_subscriptions *s = ctx;
    struct redis_channel *channel, *next;
    redis_link_fit(s->link);
    HASH_ITER (hh, s->channels, channel, next) {
        mark_dirty(s, channel);
    }
    redis_subscriptions_flush(s);
}

static void on_down(void *ctx)
{
    struct redis_subscriptions *s = ctx;
    s->len = 0;
    s->dirty_first = NULL;
    s->retry_ms = 0;
    s->retrying = false;
    loop_timer_stop(s->retry);
    struct redis_channel *channel, *next;
    HASH_ITER (hh, s->channels, channel, next) {
        channel->live = channel->dirty = channel->refused = false;
        channel->unanswered = 0;
        if (!channel->wanted)
            channel_free(s, channel);
    }
    s->events->on_silence(s->ctx);
}

static const struct redis_link_events link_events = {
    .on_up = on_up, .on_down = on_down, .on_reply = on_reply};

struct redis_subscriptions *redis_subscriptions_new(const struct redis_link_options *link,
                                                    bool sharded,
                                                    const struct redis_subscriptions_events *events,
                                                    void *ctx)
{
    struct redis_subscriptions *s = redis_claim_memory(1, sizeof(*s));
    s->events = events;
    s->ctx = ctx;
    s->sharded = sharded;
    s->deadline_ms = link->deadline_ms;
    s->url = link->url;
    s->retry = loop_timer_new(link->loop, "redis_subscribe", on_retry, s);
    s->link = redis_link_new(link, &link_events, s);
    s->deadline = loop_timer_new(link->loop, "redis_deadline", on_deadline, s);
    return s;
}

void redis_subscriptions_free(struct redis_subscriptions *s)
{
    redis_link_free(s->link);
    loop_timer_free(s->deadline);
    loop_timer_free(s->retry);
    struct redis_channel *channel, *next;
    HASH_ITER (hh, s->channels, channel, next) {
        channel_free(s, channel);
    }
    free(s);
}

struct redis_link *redis_subscriptions_link(struct redis_subscriptions *s)
{
    return s->link;
}

void redis_subscriptions_add(struct redis_subscriptions *s, const char *name)
{
    struct redis_channel *channel;
    HASH_FIND_STR(s->channels, name, channel);
    if (!channel) {
        channel = redis_claim_memory(1, sizeof(*channel));
        channel->name = redis_copy_text(name);
        HASH_ADD_KEYPTR(hh, s->channels, channel->name, strlen(channel->name), channel);
    }
    channel->wanted = true;
    mark_dirty(s, channel);
}

void redis_subscriptions_remove(struct redis_subscriptions *s, const char *name)
{
    struct redis_channel *channel;
    HASH_FIND_STR(s->channels, name, channel);
    if (!channel)
        return;
    channel->wanted = false;
    if (redis_link_up(s->link))
        mark_dirty(s, channel);
    else
        channel_free(s, channel);
}

void redis_subscriptions_retry(struct redis_subscriptions *s)
{
    struct redis_channel *channel, *next;
    HASH_ITER (hh, s->channels, channel, next) {
        if (channel->refused)
            mark_dirty(s, channel);
    }
}
