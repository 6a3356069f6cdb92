#include "core/client/subscribing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "core/client/emit.h"
#include "core/client/further.h"
#include "core/client/joining.h"
#include "core/session/session.h"

#define WORKED_A_TURN   250   /* urls and sessions, of all clients; some 20 us each */
#define WORKED_IN_ROW   50    /* of one client, before the next is looked at */
#define TEXT_BYTES      512   /* of a url or session: a longer one counts as several */
#define ECHOED_MAX      65536 /* bytes of a url that an ERROR repeats */
#define ANSWERED_A_TURN 1000
#define ANSWERS_BYTES   (1u << 20) /* bound of the answers of one client that wait for their turn */
#define LOOK_MS         50         /* after which one that has no room is looked at again */
#define STALLED_MS      10000      /* a client that takes no answer for so long is closed */

/* One SUBSCRIBE, UNSUBSCRIBE or REFRESH of a client, done in portions. */
struct subscribe_job {
    struct subscribe_job *prev, *next;
    enum v1_request_type type; /* V1_REFRESH: its subscriptions are compared with its token */
    uint64_t id;
    uint8_t *payload; /* texts; of V1_REFRESH the session id up to which was looked, or NULL */
    size_t len, at;
};

struct subscribing {
    struct subscribing *prev, *next; /* in the row of those that are worked off */
    struct client *client;
    struct subscribe_job *jobs;
    struct subscribe_answer *answers;
    size_t answers_bytes;
    uint64_t stalled_ms; /* since when its socket takes nothing; 0: it does */
    bool listed;
};

/* Those of a node. */
struct subscribings {
    struct hub *hub;
    struct subscribing *row;
    size_t len;
    size_t answered; /* in this turn */
    size_t read;     /* steps that the requests which came in this turn count as */
    struct timer timer;
};

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    (void)timer, (void)now_ms; /* hub_flush follows each turn's timers, and it is done there */
}

static struct subscribings *all_of(struct hub *hub)
{
    if (hub->subscribings)
        return hub->subscribings;
    struct subscribings *all = calloc(1, sizeof(*all));
    if (!all)
        abort();
    all->hub = hub;
    hub->subscribings = all;
    return all;
}

static void look_within(struct subscribings *all, uint64_t after_ms)
{
    uint64_t at_ms = all->hub->now_ms + after_ms;
    if (!timer_armed(&all->timer) || all->timer.at_ms > at_ms)
        timer_start(&all->hub->timers, &all->timer, at_ms, on_timer);
}

static void enlist(struct subscribing *one)
{
    struct subscribings *all = all_of(one->client->hub);
    if (one->listed)
        return;
    one->listed = true;
    DL_APPEND(all->row, one);
    all->len++;
    look_within(all, 0);
}

static void unlist(struct subscribing *one)
{
    struct subscribings *all = one->client->hub->subscribings;
    if (!one->listed)
        return;
    one->listed = false;
    /* The analyzer does not follow utlist. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    DL_DELETE(all->row, one);
    all->len--;
}

static struct subscribing *start(struct client *client)
{
    struct further *further = client->further;
    if (further->subscribing)
        return further->subscribing;
    struct subscribing *one = calloc(1, sizeof(*one));
    if (!one)
        abort();
    one->client = client;
    further->subscribing = one;
    return one;
}

static void finish_where_done(struct subscribing *one)
{
    if (one->jobs)
        return;
    unlist(one);
    client_pause_asking(one->client, false);
    if (one->answers)
        return;
    one->client->further->subscribing = NULL;
    free(one);
}

/* --- answers --- */

static void answer_free(struct subscribe_answer *answer)
{
    struct subscribing *one = answer->of;
    DL_DELETE(one->answers, answer);
    one->answers_bytes -= answer->cost;
    for (size_t i = 0; i < 2; i++)
        if (answer->wires[i])
            wire_unref(answer->wires[i]);
    free(answer);
}

static bool has_room(const struct subscribing *one)
{
    return client_has_room(one->client) &&
           one->client->hub->subscribings->answered < ANSWERED_A_TURN;
}

static void send_answer(struct subscribe_answer *answer)
{
    struct client *client = answer->of->client;
    client->hub->subscribings->answered++;
    for (size_t i = 0; i < 2; i++)
        if (answer->wires[i])
            client_send(client, wire_ref(answer->wires[i]));
    answer_free(answer);
}

/* Sends the answers whose turn it is. */
static void release(struct subscribing *one)
{
    while (one->answers && !one->answers->subscription && has_room(one))
        send_answer(one->answers);
    if (!one->answers)
        return;
    if (one->answers->subscription)
        session_mark_dirty(one->answers->subscription->session);
    else
        enlist(one);
}

bool subscribing_is_next(const struct subscribe_answer *answer)
{
    struct subscribing *one = answer->of;
    if (one->answers != answer)
        return false;
    if (has_room(one))
        return true;
    enlist(one);
    return false;
}

/* An answer was sent: the next ones may follow, and a job that waited for room goes on. */
static void settle(struct subscribing *one)
{
    release(one);
    if (one->listed)
        look_within(one->client->hub->subscribings, 0);
    else if (!one->answers)
        finish_where_done(one);
}

void subscribing_answered(struct subscribe_answer *answer)
{
    struct subscribing *one = answer->of;
    one->client->hub->subscribings->answered++;
    answer_free(answer);
    settle(one);
}

void subscribing_forget(struct subscribe_answer *answer)
{
    struct subscribing *one = answer->of;
    answer_free(answer);
    settle(one);
}

static struct subscribe_answer *answer_add(struct subscribing *one, uint64_t id, struct v1_text url)
{
    struct subscribe_answer *answer = malloc(sizeof(*answer) + url.len);
    if (!answer)
        return NULL;
    *answer = (struct subscribe_answer){
        .of = one, .id = id, .cost = sizeof(*answer) + url.len, .url_len = url.len};
    memcpy(answer->url, url.at, url.len);
    DL_APPEND(one->answers, answer);
    one->answers_bytes += answer->cost;
    return answer;
}

void subscribing_ended(struct subscribe_answer *answer, unsigned code, const char *reason)
{
    struct client *client = answer->of->client;
    struct subscription *subscription = answer->subscription;
    answer->wires[0] = emit_make_welcome(subscription, answer, (struct position){0, 0}, false);
    answer->wires[1] = emit_make_closed(client, NULL, subscription->session->id, code, reason);
    answer->subscription = NULL;
    if (!answer->wires[0] || !answer->wires[1])
        client_close(client, CLOSE_TRY_LATER, "out of memory");
    settle(answer->of);
}

/* --- SUBSCRIBE --- */

/* Why a url is refused. */
struct subscribe_refusal {
    const char *code;
    enum refuse_reason counted;
};

static const struct subscribe_refusal malformed = {"malformed_url", REFUSE_MALFORMED_URL},
                                      unknown = {"unknown_service", REFUSE_UNKNOWN_SERVICE},
                                      unauthorized = {"unauthorized", REFUSE_UNAUTHORIZED},
                                      full = {"full", REFUSE_FULL},
                                      subscribed = {"subscribed", REFUSE_SUBSCRIBED};

static const struct subscribe_refusal *parse(struct client *client, struct v1_text url,
                                             struct target *target, const char **why)
{
    /* A token in it is left out of it, and not looked at: the connection's counts */
    static const struct url_options options = {.take_token = true, .protocol_client = true};
    enum status status = url_parse(client->hub->conf, url.at, url.len, &options, target, why);
    if (status == STATUS_OK)
        return NULL;
    return status == STATUS_NOT_FOUND ? &unknown : status == STATUS_NO_MEMORY ? &full : &malformed;
}

/* Checks the limits of subscriptions; NULL: the client may have one more. */
static const struct subscribe_refusal *admit(struct client *client, const struct target *target,
                                             const char **why)
{
    struct hub *hub = client->hub;
    const struct client_ops *ops = hub->setup.client_ops;
    const struct session *session = session_find(hub, target->session_id,
                                                 strlen(target->session_id));
    *why = ops->covers ? ops->covers(hub->setup.client_ctx, client, target) : NULL;
    if (*why)
        return &unauthorized;
    *why = "this connection follows that session already";
    if (session && further_find(client, session))
        return &subscribed;
    *why = "this connection has as many subscriptions as it may have";
    if (client_subscriptions(client) >= hub->conf->clients.max_subscriptions)
        return &full;
    *why = "this node is draining: connect again";
    if (hub->state == NODE_DRAINING || hub->state == NODE_STOPPED)
        return &full;
    *why = "this node is full";
    return ops->has_room && !ops->has_room(hub->setup.client_ctx) ? &full : NULL;
}

static void refuse(struct subscribing *one, uint64_t id, struct v1_text url,
                   const struct subscribe_refusal *refusal, const char *why)
{
    /* A very long url is not repeated: writing it would take as long as reading it */
    const struct v1_text echo = url.len > ECHOED_MAX ? (struct v1_text){0} : url;
    const struct v1_error error = {.id = &id, .url = echo, .code = refusal->code, .message = why};
    struct wire *wire = emit_make_error(one->client, &error);
    struct subscribe_answer *answer = NULL;
    metric_refuse(refusal->counted);
    if (!wire || !one->answers || !(answer = answer_add(one, id, (struct v1_text){"", 0}))) {
        client_send(one->client, wire);
        return;
    }
    answer->wires[0] = wire;
    answer->cost += wire->len;
    one->answers_bytes += wire->len;
}

static void subscribe(struct subscribing *one, uint64_t id, struct v1_text url)
{
    struct target target;
    const char *why;
    struct client *client = one->client;
    const struct subscribe_refusal *refusal = parse(client, url, &target, &why);
    if (refusal) {
        refuse(one, id, url, refusal, why);
        return;
    }
    struct subscribe_answer *answer = NULL;
    struct subscription *subscription = NULL;
    refusal = admit(client, &target, &why);
    if (!refusal) {
        subscription = joining_subscribe(client, &target);
        answer = subscription ? answer_add(one, id, url) : NULL;
        why = "out of memory";
    }
    if (answer) {
        answer->subscription = subscription;
        subscription_expect(subscription, answer);
    } else {
        if (subscription)
            joining_unsubscribe(subscription);
        refuse(one, id, url, refusal ? refusal : &full, why);
    }
    target_fini(&target);
}

/* --- UNSUBSCRIBE, and a new token --- */

static void unsubscribe(struct client *client, uint64_t id, struct v1_text name)
{
    const struct session *session = session_find(client->hub, name.at, name.len);
    struct subscription *subscription = session ? further_find(client, session) : NULL;
    if (!subscription || subscription == &client->own) {
        emit_not_subscribed(client, id);
        return;
    }
    emit_closed(subscription, &id, CLOSE_NORMAL, "unsubscribed");
    joining_unsubscribe(subscription);
}

static void check_token(struct client *client, struct subscription *subscription)
{
    const struct client_ops *ops = client->hub->setup.client_ops;
    const struct target target = {.service = subscription->session->service,
                                  .vin = (char *)(uintptr_t)further_vin(subscription)};
    const char *why = ops->covers ? ops->covers(client->hub->setup.client_ctx, client, &target)
                                  : NULL;
    if (why)
        joining_end(subscription, CLOSE_UNAUTHORIZED, why);
}

/* --- in portions --- */

/* How many steps that was. */
static size_t step_token(struct subscribing *one, struct subscribe_job *job)
{
    struct subscription *subscription = further_after(one->client, (const char *)job->payload);
    if (!subscription)
        return 0;
    free(job->payload);
    job->payload = (uint8_t *)strdup(subscription->session->id);
    if (!job->payload)
        abort();
    check_token(one->client, subscription);
    return 1;
}

/* Does one url or session of a job. How many steps it counts as; 0: the job is done. */
static size_t step(struct subscribing *one, struct subscribe_job *job)
{
    struct v1_text text;
    if (job->type == V1_REFRESH)
        return step_token(one, job);
    if (!v1_texts_next(job->payload, job->len, &job->at, &text))
        return 0;
    if (job->type == V1_SUBSCRIBE)
        subscribe(one, job->id, text);
    else
        unsubscribe(one->client, job->id, text);
    return 1 + text.len / TEXT_BYTES;
}

static void job_free(struct subscribing *one, struct subscribe_job *job)
{
    DL_DELETE(one->jobs, job);
    free(job->payload);
    free(job);
}

/* UNSUBSCRIBE and REFRESH wait until the SUBSCRIBEs before them are answered. */
static bool may_go_on(const struct subscribing *one)
{
    if (one->jobs->type != V1_SUBSCRIBE && one->answers)
        return false;
    return one->answers_bytes < ANSWERS_BYTES && client_has_room(one->client);
}

static void look_whether_stalled(struct subscribing *one)
{
    struct client *client = one->client;
    if (!client->blocked || client_has_room(client))
        one->stalled_ms = 0;
    else if (!one->stalled_ms)
        one->stalled_ms = client->hub->now_ms;
    else if (client->hub->now_ms - one->stalled_ms >= STALLED_MS)
        client_close(client, CLOSE_SLOW, "slow client");
}

/* Returns how many steps it was. */
static size_t work(struct subscribing *one)
{
    size_t steps = 0;
    release(one);
    while (one->jobs && client_takes(one->client) && steps < WORKED_IN_ROW && may_go_on(one)) {
        size_t made = step(one, one->jobs);
        if (!made)
            job_free(one, one->jobs);
        steps += made ? made : 1;
    }
    look_whether_stalled(one);
    if (!client_takes(one->client))
        while (one->jobs)
            job_free(one, one->jobs);
    return steps;
}

/* The next turn changes nothing: an answer is to come, or its socket is to take something. */
static bool waits(const struct subscribing *one)
{
    return one->client->blocked ||
           (one->answers && one->answers->subscription && (!one->jobs || !may_go_on(one)));
}

void subscribing_run(struct hub *hub)
{
    struct subscribings *all = hub->subscribings;
    if (!all)
        return;
    size_t steps = all->read, idle = 0;
    bool soon = false;
    all->read = 0;
    all->answered = 0;
    while (all->row && steps < WORKED_A_TURN && idle < all->len) {
        struct subscribing *one = all->row;
        DL_DELETE(all->row, one);
        DL_APPEND(all->row, one);
        size_t made = work(one);
        steps += made;
        idle = made ? 0 : idle + 1;
        soon = soon || !waits(one);
        if (!one->jobs && (!one->answers || one->answers->subscription))
            finish_where_done(one);
    }
    if (all->row)
        look_within(all, soon || steps >= WORKED_A_TURN ? 0 : LOOK_MS);
}

void subscribing_ask(struct client *client, struct v1_request *request)
{
    struct subscribe_job *job = calloc(1, sizeof(*job));
    if (!job || !further_start(client)) {
        free(job);
        client_close(client, CLOSE_TRY_LATER, "out of memory");
        return;
    }
    *job = (struct subscribe_job){
        .type = request->type, .id = request->id, .payload = request->payload, .len = request->len};
    request->payload = NULL;
    struct subscribing *one = start(client);
    all_of(client->hub)->read += job->len / TEXT_BYTES;
    DL_APPEND(one->jobs, job);
    enlist(one);
    client_pause_asking(client, true);
}

void subscribing_check_token(struct client *client)
{
    struct v1_request request = {.type = V1_REFRESH};
    if (client_subscriptions(client))
        subscribing_ask(client, &request);
}

/* --- its end --- */

void subscribing_free(struct client *client)
{
    struct subscribing *one = client->further ? client->further->subscribing : NULL;
    if (!one)
        return;
    while (one->jobs)
        job_free(one, one->jobs);
    while (one->answers) {
        if (one->answers->subscription)
            subscription_expect(one->answers->subscription, NULL);
        answer_free(one->answers);
    }
    unlist(one);
    free(one);
    client->further->subscribing = NULL;
}

void subscribing_free_all(struct hub *hub)
{
    struct subscribings *all = hub->subscribings;
    if (!all)
        return;
    assert(!all->row);
    timer_stop(&hub->timers, &all->timer);
    free(all);
    hub->subscribings = NULL;
}

void subscribing_check(const struct client *client)
{
    const struct further *further = client->further;
    const struct subscribing *one = further ? further->subscribing : NULL;
    if (!one) {
        assert(!further || !further->asking);
        return;
    }
    const struct subscribe_answer *answer;
    size_t bytes = 0;
    DL_FOREACH (one->answers, answer)
        bytes += answer->cost;
    assert(one->client == client && bytes == one->answers_bytes);
    assert(!one->jobs || one->listed || !client_takes(client));
    assert(one->jobs || one->answers || one->listed);
}
