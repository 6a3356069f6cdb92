#include "bus/redis_pipeline.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/redis_op.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"

#define UNANSWERED_BYTES_MAX ((size_t)64 * 1024 * 1024)
#define TRIES_MAX            3 /* how often an op is sent if the server keeps losing its script */
/* Ops under way. All nodes' stand between a renewal and its answer: 512 scripts of 50 us take a
 * server 26 ms, those of forty nodes a second. At a round trip of 20 ms they are 25,600 a second. */
#define FLIGHT_MAX 512

/* A connection as the server knows it. */
struct redis_peer {
    uint64_t id; /* 0: not known */
    char address[80];
};

struct redis_pipeline {
    struct redis_pipeline_options options;
    const struct redis_pipeline_events *events;
    void *ctx;
    struct redis_link *link;
    struct loop_timer *deadline;
    bool open;
    bool closing;         /* ops are being finished because the connection is gone */
    bool ticking;         /* the deadline's timer is armed */
    uint64_t progress_ms; /* time of the latest reply, or of the first op after an empty flight */
    struct redis_op_list flight; /* sent, in order */
    size_t flight_len;
    struct redis_op_list lost; /* answered NOSCRIPT, in order */
    struct redis_op_list held; /* taken while reloading, or while many are under way: they wait
                                  behind the lost ones */
    struct redis_op_list
        unacknowledged; /* replied to, but WAIT has not confirmed the replicas yet */
    bool reloading;     /* the lost ops are sent again once flight is empty */
    bool overtaken;     /* an op got through after one that was lost: order can't be kept */
    bool wants_wait;    /* WAIT is sent at the next flush */
    bool overflowed;    /* an op was refused because too many bytes wait: all later ones are refused
                           until nothing waits */
    bool out_of_credit; /* the last caller that asked for credit got none */
    size_t unanswered_bytes;
    uint64_t marks;             /* how many were sent; the number of the latest */
    struct redis_peer peer;     /* the last connection that was open, if ends_previous is set, */
    struct redis_peer new_peer; /* and the present one */
    bool previous_ended;
};

static void pipeline_push(struct redis_pipeline *pipeline, struct redis_op *op);

/* Marks are numbered, so that a missing or extra reply is found even if all kinds match. */
static void on_mark(struct redis_op *op)
{
    struct redis_pipeline *pipeline = op->owner;
    if (op->status == STATUS_OK && strtoull(op->reply->str, NULL, 10) != op->tag)
        redis_link_cut(pipeline->link,
                       "replies out of order: expected the echo of the latest mark, got another");
}

static void push_mark(struct redis_pipeline *pipeline)
{
    struct redis_op *op = redis_op_new(REPLY_TEXT, on_mark, pipeline);
    op->tag = ++pipeline->marks;
    redis_request_begin(&op->request, 2);
    redis_request_text(&op->request, "PING");
    redis_request_number(&op->request, op->tag);
    pipeline_push(pipeline, op);
}

/*
 * In each round Redis (up to 8) writes to its clients in reverse: the client that got its first
 * output last is written to first (clients_pending_write, a list with new entries at its head). A
 * mark before a publishing script makes this connection the first with output. So the messages that
 * the script publishes go out before the script's own answer: the members, whose clients wait, are
 * served before this node, where nobody waits.
 */
static void pipeline_push(struct redis_pipeline *pipeline, struct redis_op *op)
{
    if (op->announces && redis_link_backlog(pipeline->link) == 0)
        push_mark(pipeline);
    if (op->asking) {
        struct redis_op *asking = redis_op_new(REPLY_STATUS, NULL, pipeline);
        redis_request_begin(&asking->request, 1);
        redis_request_text(&asking->request, "ASKING");
        op->asking = false;
        pipeline_push(pipeline, asking);
    }
    op->tries++;
    if (!pipeline->flight.first)
        pipeline->progress_ms = clock_boot_ms();
    pipeline->wants_wait = pipeline->wants_wait || op->replicated;
    pipeline->unanswered_bytes += op->request.len;
    metric_add(METRIC_BUS_COMMANDS, op->commands > 0 ? op->commands : 1);
    if (!pipeline->ticking)
        loop_timer_start(pipeline->deadline, pipeline->options.link.deadline_ms);
    pipeline->ticking = true;
    redis_output_append(redis_link_output(pipeline->link), &op->request);
    redis_op_list_add(&pipeline->flight, op);
    pipeline->flight_len++;
}

/* Sends what was held, as far as it may be under way. */
static void pipeline_push_held(struct redis_pipeline *pipeline)
{
    struct redis_op *op;
    while (!pipeline->reloading && pipeline->flight_len < FLIGHT_MAX &&
           (op = redis_op_list_take(&pipeline->held)) != NULL) {
        pipeline->unanswered_bytes -= op->request.len;
        pipeline_push(pipeline, op);
    }
}

static void on_deadline(void *ctx)
{
    struct redis_pipeline *pipeline = ctx;
    pipeline->ticking = pipeline->flight.first != NULL;
    if (!pipeline->ticking)
        return;
    /* A busy server answers late. A new connection would only add to its load. */
    uint64_t waited_ms = clock_boot_ms() - pipeline->progress_ms;
    uint32_t limit_ms = pipeline->options.link.deadline_ms;
    if (waited_ms < limit_ms)
        loop_timer_start(pipeline->deadline, limit_ms - waited_ms);
    else
        redis_link_cut(pipeline->link, "no answer in time");
}

/* --- scripts that the server lost --- */

static void push_scripts(struct redis_pipeline *pipeline, redis_answer_fn *answer)
{
    for (unsigned script = 0; script < REDIS_SCRIPTS; script++) {
        struct redis_op *op = redis_op_new(REPLY_TEXT, answer, pipeline);
        redis_script_load(&op->request, (enum redis_script)script);
        pipeline_push(pipeline, op);
    }
}

/*
 * No op is in flight any more: sends the lost ops again in their order, then the held ones. If an
 * op got through after a lost one, because another node loaded the scripts in between, the lost
 * ones can't be sent without changing the order: they are finished with STATUS_IO.
 */
static void pipeline_resend(struct redis_pipeline *pipeline)
{
    struct redis_op_list lost = pipeline->lost;
    struct redis_op *op;
    bool overtaken = pipeline->overtaken;
    pipeline->lost = (struct redis_op_list){0};
    pipeline->reloading = pipeline->overtaken = false;
    push_scripts(pipeline, NULL);
    while ((op = redis_op_list_take(&lost)) != NULL) {
        if (overtaken || op->tries >= TRIES_MAX)
            redis_op_finish(op, STATUS_IO, NULL);
        else
            pipeline_push(pipeline, op);
    }
}

/* --- replies --- */

/* Finishes the ops that wait for WAIT. why: the reason if it is known and they are not proven. */
static void finish_unacknowledged(struct redis_pipeline *pipeline, bool proven, const char *why)
{
    struct redis_op *op;
    while ((op = redis_op_list_take(&pipeline->unacknowledged)) != NULL) {
        struct redisReply *reply = op->reply;
        op->reply = NULL;
        if (proven) {
            redis_op_finish(op, STATUS_OK, reply);
        } else {
            freeReplyObject(reply);
            op->error = why ? redis_copy_text(why) : NULL;
            redis_op_finish(op, STATUS_IO, NULL);
        }
    }
}

static void on_wait(struct redis_op *op)
{
    struct redis_pipeline *pipeline = op->owner;
    bool proven = op->status == STATUS_OK && op->reply->integer >= pipeline->options.replicas;
    char missing[80] = "";
    if (op->status == STATUS_OK && !proven) {
        log_warn_cause("redis_replicas_missing", LOG_U64("wanted", pipeline->options.replicas),
                       LOG_I64("reached", op->reply->integer));
        snprintf(missing, sizeof(missing), "WAIT: %lld of %" PRIu32 " replicas have the write",
                 op->reply->integer, pipeline->options.replicas);
    }
    finish_unacknowledged(pipeline, proven, missing[0] != '\0' ? missing : op->error);
}

static void push_wait(struct redis_pipeline *pipeline)
{
    pipeline->wants_wait = false;
    struct redis_op *op = redis_op_new(REPLY_NUMBER, on_wait, pipeline);
    redis_request_begin(&op->request, 3);
    redis_request_text(&op->request, "WAIT");
    redis_request_number(&op->request, pipeline->options.replicas);
    redis_request_number(&op->request, pipeline->options.wait_ms);
    pipeline_push(pipeline, op);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Up to Redis 6.2 the error of a command in a script is part of the script's error, after a dash.
 */
static bool is_error(const char *error, const char *name)
{
    const char *at = strstr(error, name);
    return at && (at == error || at[-1] == '-');
}

/* Errors that mean that this server can't be used for now. */
static bool ends_connection(const char *error)
{
    return is_error(error, "READONLY ") || is_error(error, "LOADING ") ||
           is_error(error, "MASTERDOWN ") || is_error(error, "NOAUTH ");
}

/* A missing right may concern one session only, so the session is part of the logged cause. All
 * other errors concern the whole server. */
static void on_refusal(struct redis_pipeline *pipeline, struct redis_op *op, const char *error)
{
    char words[REDIS_WHY_BYTES];
    redis_quote(pipeline->options.link.url, error, words);
    if (redis_is_no_right(error))
        log_warn_cause("redis_error", LOG_STR("error", words), LOG_STR("session", op->session));
    else
        log_warn_cause("redis_error", LOG_STR("error", words), LOG_DETAIL("session", op->session));
    op->error = redis_copy_text(words);
    redis_op_finish(op, STATUS_IO, NULL);
    if (ends_connection(error))
        redis_link_unfit(pipeline->link, words);
}

static void on_error(struct redis_pipeline *pipeline, struct redis_op *op, redisReply *reply)
{
    if (starts_with(reply->str, "NOSCRIPT")) {
        pipeline->reloading = true;
        redis_op_list_add(&pipeline->lost, op);
    } else if (!pipeline->events->on_redirect ||
               !pipeline->events->on_redirect(pipeline->ctx, op, reply->str)) {
        on_refusal(pipeline, op, reply->str);
    }
    freeReplyObject(reply);
}

/* A reply does not fit its command, so the order of replies is lost: ends the connection. */
static void on_misfit(struct redis_pipeline *pipeline, struct redis_op *op, redisReply *reply)
{
    char why[80];
    snprintf(why, sizeof(why), "replies out of order: expected %s",
             redis_reply_kind_name(op->kind));
    freeReplyObject(reply);
    redis_op_finish(op, STATUS_IO, NULL);
    redis_link_cut(pipeline->link, why);
}

/*
 * After an overflow, all ops that were taken are answered now. Later ones were refused, so the
 * owner begins anew, as after a new connection: on_closed and on_open. Each such round makes
 * progress by the ops that were taken.
 */
static void pipeline_drained(struct redis_pipeline *pipeline)
{
    pipeline->overflowed = pipeline->out_of_credit = false;
    pipeline->open = false;
    pipeline->events->on_progress(pipeline->ctx);
    pipeline->events->on_closed(pipeline->ctx);
    pipeline->open = true;
    pipeline->events->on_open(pipeline->ctx);
}

static void on_reply(void *ctx, struct redisReply *reply)
{
    struct redis_pipeline *pipeline = ctx;
    struct redis_op *op = pipeline->flight.first;
    if (!op) {
        freeReplyObject(reply);
        redis_link_cut(pipeline->link, "unexpected reply: no command waits for one");
        return;
    }
    pipeline->progress_ms = clock_boot_ms();
    if (op->commands > 0 && !(reply = redis_op_gather(op, reply)))
        return;
    redis_op_list_take(&pipeline->flight);
    pipeline->flight_len--;
    pipeline->unanswered_bytes -= op->request.len;
    if (reply->type == REDIS_REPLY_ERROR) {
        on_error(pipeline, op, reply);
    } else if (!redis_op_fits(op, reply)) {
        on_misfit(pipeline, op, reply);
        return;
    } else {
        pipeline->overtaken = pipeline->overtaken || (pipeline->reloading && op->scripted);
        if (op->replicated) {
            op->reply = reply;
            redis_op_list_add(&pipeline->unacknowledged, op);
        } else {
            redis_op_finish(op, STATUS_OK, reply);
        }
    }
    if (pipeline->reloading && !pipeline->flight.first)
        pipeline_resend(pipeline);
    pipeline_push_held(pipeline);
    if (pipeline->overflowed && pipeline->unanswered_bytes == 0)
        pipeline_drained(pipeline);
    else
        pipeline->events->on_progress(pipeline->ctx);
}

/* --- opening and closing --- */

/* Called after each answer to the first commands of a connection; opens after the last of them. */
static void pipeline_advance_opening(struct redis_pipeline *pipeline)
{
    if (pipeline->open || pipeline->flight.first || !redis_link_up(pipeline->link))
        return;
    pipeline->open = true;
    if (pipeline->previous_ended)
        pipeline->peer = pipeline->new_peer;
    redis_link_fit(pipeline->link);
    pipeline->events->on_open(pipeline->ctx);
}

static void on_loaded(struct redis_op *op)
{
    struct redis_pipeline *pipeline = op->owner;
    if (pipeline->closing)
        return;
    if (op->status != STATUS_OK)
        redis_link_unfit(pipeline->link, op->error ? op->error : "scripts can't be loaded");
    else
        pipeline_advance_opening(pipeline);
}

/* Asked only if INFO is forbidden. If ROLE is forbidden too, a replica is found by its READONLY
 * error. */
static void on_role(struct redis_op *op)
{
    struct redis_pipeline *pipeline = op->owner;
    if (pipeline->closing)
        return;
    const struct redisReply *role = op->status == STATUS_OK && op->reply->elements > 0
                                        ? op->reply->element[0]
                                        : NULL;
    if (role && role->type == REDIS_REPLY_STRING && strcmp(role->str, "slave") == 0)
        redis_link_unfit(pipeline->link, "this server is a replica, expected the primary");
    else
        pipeline_advance_opening(pipeline);
}

static void on_info_refused(struct redis_pipeline *pipeline, const char *error)
{
    if (!redis_is_no_right(error) && !strstr(error, "unknown command")) {
        redis_link_unfit(pipeline->link, error);
        return;
    }
    log_warn_cause("redis_info_refused", LOG_STR("error", error),
                   LOG_STR("advice", "give this user the right to INFO: without it the hub can't "
                                     "see that a server is a replica or evicts keys"));
    struct redis_op *op = redis_op_new(REPLY_LIST, on_role, pipeline);
    redis_request_begin(&op->request, 1);
    redis_request_text(&op->request, "ROLE");
    pipeline_push(pipeline, op);
    redis_link_flush(pipeline->link);
}

static void on_info(struct redis_op *op)
{
    struct redis_pipeline *pipeline = op->owner;
    if (pipeline->closing)
        return;
    if (op->status != STATUS_OK) {
        on_info_refused(pipeline, op->error ? op->error : "no INFO");
        return;
    }
    const char *why = pipeline->events->on_info(pipeline->ctx, op->reply->str);
    if (why)
        redis_link_unfit(pipeline->link, why);
}

/* --- the connection before --- */

static void on_previous_ended(struct redis_op *op)
{
    struct redis_pipeline *pipeline = op->owner;
    if (pipeline->closing)
        return;
    pipeline->previous_ended = op->status == STATUS_OK &&
                               op->reply->element[0]->type == REDIS_REPLY_INTEGER;
    pipeline_advance_opening(pipeline);
}

/* "id=7 addr=127.0.0.1:40112 laddr=..."; id 0 where it is none, or the address is too long. */
static struct redis_peer peer_of(const char *info)
{
    struct redis_peer peer = {0};
    const char *address = strstr(info, " addr=");
    size_t len = address ? strcspn(address + 6, " \r\n") : 0;
    if (strncmp(info, "id=", 3) != 0 || len == 0 || len >= sizeof(peer.address))
        return peer;
    memcpy(peer.address, address + 6, len);
    peer.id = strtoull(info + 3, NULL, 10);
    return peer;
}

static void on_client_info(struct redis_op *op)
{
    struct redis_pipeline *pipeline = op->owner;
    if (pipeline->closing)
        return;
    const struct redisReply *info = op->status == STATUS_OK ? op->reply->element[0] : NULL;
    if (info && info->type == REDIS_REPLY_STRING)
        pipeline->new_peer = peer_of(info->str);
    pipeline_advance_opening(pipeline);
}

/* Errors are left to the answer: that a right is missing is no reason for a line in the log. */
static struct redis_op *client_op(struct redis_pipeline *pipeline, redis_answer_fn *answer,
                                  size_t arguments, const char *command)
{
    struct redis_op *op = redis_op_new(REPLY_LIST, answer, pipeline);
    op->commands = 1;
    redis_request_begin(&op->request, 2 + arguments);
    redis_request_text(&op->request, "CLIENT");
    redis_request_text(&op->request, command);
    return op;
}

/*
 * Redis may have received requests over the connection before that it has not carried out yet. They
 * must not be carried out behind those of this connection. Without a connection before, nothing is
 * ended: the reply says whether it could be.
 */
static void push_end_of_previous(struct redis_pipeline *pipeline)
{
    const struct redis_peer *peer = &pipeline->peer;
    struct redis_op *op = client_op(pipeline, on_previous_ended, 4, "KILL");
    redis_request_text(&op->request, "ID");
    redis_request_number(&op->request, peer->id > 0 ? peer->id : 1);
    redis_request_text(&op->request, "ADDR");
    redis_request_text(&op->request, peer->id > 0 ? peer->address : "0.0.0.0:0");
    pipeline->previous_ended = false;
    pipeline->new_peer.id = 0;
    pipeline_push(pipeline, op);
    pipeline_push(pipeline, client_op(pipeline, on_client_info, 0, "INFO"));
}

bool redis_pipeline_is_sole(const struct redis_pipeline *pipeline)
{
    return pipeline->open && pipeline->previous_ended && pipeline->new_peer.id > 0;
}

static void on_up(void *ctx)
{
    struct redis_pipeline *pipeline = ctx;
    struct redis_op *op = redis_op_new(REPLY_TEXT, on_info, pipeline);
    redis_request_begin(&op->request, 1);
    redis_request_text(&op->request, "INFO");
    pipeline_push(pipeline, op);
    push_scripts(pipeline, on_loaded);
    if (pipeline->options.ends_previous)
        push_end_of_previous(pipeline);
    redis_link_flush(pipeline->link);
}

static void pipeline_abandon(struct redis_pipeline *pipeline)
{
    pipeline->closing = true;
    finish_unacknowledged(pipeline, false, NULL);
    redis_op_list_finish(&pipeline->lost);
    redis_op_list_finish(&pipeline->flight);
    pipeline->flight_len = 0;
    redis_op_list_finish(&pipeline->held);
    pipeline->reloading = pipeline->overtaken = pipeline->wants_wait = false;
    pipeline->overflowed = pipeline->out_of_credit = false;
    pipeline->unanswered_bytes = 0;
    pipeline->closing = false;
    loop_timer_stop(pipeline->deadline);
    pipeline->ticking = false;
}

static void on_down(void *ctx)
{
    struct redis_pipeline *pipeline = ctx;
    bool was_open = pipeline->open;
    pipeline->open = false;
    pipeline_abandon(pipeline);
    pipeline->events->on_progress(pipeline->ctx);
    if (was_open)
        pipeline->events->on_closed(pipeline->ctx);
}

static void on_failed(void *ctx)
{
    struct redis_pipeline *pipeline = ctx;
    pipeline->events->on_failed(pipeline->ctx);
}

static const struct redis_link_events link_events = {
    .on_up = on_up, .on_down = on_down, .on_reply = on_reply, .on_failed = on_failed};

struct redis_pipeline *redis_pipeline_new(const struct redis_pipeline_options *options,
                                          const struct redis_pipeline_events *events, void *ctx)
{
    struct redis_pipeline *pipeline = redis_claim_memory(1, sizeof(*pipeline));
    pipeline->options = *options;
    pipeline->events = events;
    pipeline->ctx = ctx;
    pipeline->link = redis_link_new(&options->link, &link_events, pipeline);
    pipeline->deadline = loop_timer_new(options->link.loop, "redis_deadline", on_deadline,
                                        pipeline);
    return pipeline;
}

void redis_pipeline_free(struct redis_pipeline *pipeline)
{
    pipeline->open = false;
    pipeline_abandon(pipeline);
    redis_link_free(pipeline->link);
    loop_timer_free(pipeline->deadline);
    free(pipeline);
}

struct redis_link *redis_pipeline_link(struct redis_pipeline *pipeline)
{
    return pipeline->link;
}

bool redis_pipeline_open(const struct redis_pipeline *pipeline)
{
    return pipeline->open;
}

static void pipeline_hold(struct redis_pipeline *pipeline, struct redis_op *op)
{
    pipeline->unanswered_bytes += op->request.len;
    if (op->vital)
        redis_op_list_prepend(&pipeline->held, op);
    else
        redis_op_list_add(&pipeline->held, op);
}

size_t redis_pipeline_credit(struct redis_pipeline *pipeline)
{
    bool some = pipeline->open && !pipeline->overflowed &&
                pipeline->unanswered_bytes < BUS_CREDIT_BYTES;
    pipeline->out_of_credit = pipeline->out_of_credit || !some;
    return some ? BUS_CREDIT_BYTES - pipeline->unanswered_bytes : 0;
}

bool redis_pipeline_has_credit_again(struct redis_pipeline *pipeline)
{
    if (!pipeline->out_of_credit || !pipeline->open || pipeline->overflowed ||
        pipeline->unanswered_bytes > BUS_CREDIT_BYTES / 2)
        return false;
    pipeline->out_of_credit = false;
    return true;
}

static bool must_wait(const struct redis_pipeline *pipeline, const struct redis_op *op)
{
    bool many = pipeline->held.first || pipeline->flight_len >= FLIGHT_MAX;
    return pipeline->reloading || (many && !op->vital);
}

/* After a refused op no later one may get through, since that would change the order. Vital ops, on
 * which the lease depends, have no order to keep. */
void redis_pipeline_send(struct redis_pipeline *pipeline, struct redis_op *op)
{
    bool fits = pipeline->unanswered_bytes + op->request.len <= UNANSWERED_BYTES_MAX;
    pipeline->overflowed = pipeline->overflowed || (pipeline->open && !fits);
    if (!pipeline->open || (pipeline->overflowed && !op->vital))
        redis_op_finish(op, STATUS_IO, NULL);
    else if (must_wait(pipeline, op))
        pipeline_hold(pipeline, op);
    else
        pipeline_push(pipeline, op);
}

void redis_pipeline_flush(struct redis_pipeline *pipeline)
{
    if (pipeline->wants_wait && pipeline->open)
        push_wait(pipeline);
    redis_link_flush(pipeline->link);
}

void redis_pipeline_mark(struct redis_pipeline *pipeline)
{
    if (pipeline->open && !pipeline->reloading)
        push_mark(pipeline);
}
