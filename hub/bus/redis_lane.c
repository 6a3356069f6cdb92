#include "bus/redis_lane.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/redis_scripts.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"

#define UNANSWERED_BYTES_MAX ((size_t)64 * 1024 * 1024)
#define TRIES_MAX            3 /* of an op whose script is not there, however often it is loaded */

struct redis_lane {
    struct redis_lane_options options;
    const struct redis_lane_events *events;
    void *ctx;
    struct redis_link *link;
    struct loop_timer *deadline;
    bool open;
    bool closing;         /* ops are being finished because the connection is gone */
    bool ticking;         /* the deadline's timer is armed */
    uint64_t progress_ms; /* the latest reply, or when there was first something to reply to */
    struct redis_op_list flight;   /* sent, in order */
    struct redis_op_list lost;     /* refused for a lost script, in order */
    struct redis_op_list held;     /* came after the first of those */
    struct redis_op_list unproven; /* written, but not known to be with the replicas */
    bool reloading;                /* lost is to be sent again once flight is empty */
    bool overtaken; /* an op got through after one that was lost: order can't be kept */
    bool wants_wait;
    bool overflowed;    /* an op was refused because too much waits: all others are, until nothing
                           does */
    bool out_of_credit; /* credit was asked for, and there was none */
    size_t unanswered_bytes;
    uint64_t marks; /* so far */
};

static void lane_push(struct redis_lane *lane, struct redis_op *op);

/* A reply too many or too few that was of the right kind shows here. */
static void on_mark(struct redis_op *op)
{
    struct redis_lane *lane = op->owner;
    if (op->status == STATUS_OK && strtoull(op->reply->str, NULL, 10) != op->tag)
        redis_link_cut(lane->link, "replies are out of step: a mark is another one's");
}

static void push_mark(struct redis_lane *lane)
{
    struct redis_op *op = redis_op_new(REPLY_TEXT, on_mark, lane);
    op->tag = ++lane->marks;
    redis_request_begin(&op->request, 2);
    redis_request_text(&op->request, "PING");
    redis_request_number(&op->request, op->tag);
    lane_push(lane, op);
}

/*
 * Redis writes to its clients in the opposite order to that in which they first had something to
 * get (clients_pending_write, a list with new ones at its head, up to Redis 8). With something
 * cheap ahead of it in the same write, a script's answer goes out after what the script published,
 * not before: the members, whose clients wait, are served before this node, for which nobody waits.
 */
static void lane_push(struct redis_lane *lane, struct redis_op *op)
{
    if (op->announces && redis_link_backlog(lane->link) == 0)
        push_mark(lane);
    if (op->asking) {
        struct redis_op *asking = redis_op_new(REPLY_STATUS, NULL, lane);
        redis_request_begin(&asking->request, 1);
        redis_request_text(&asking->request, "ASKING");
        op->asking = false;
        lane_push(lane, asking);
    }
    op->tries++;
    if (lane->flight.first == NULL)
        lane->progress_ms = clock_boot_ms();
    lane->wants_wait = lane->wants_wait || op->replicated;
    lane->unanswered_bytes += op->request.len;
    metric_add(METRIC_BUS_COMMANDS, 1);
    if (!lane->ticking)
        loop_timer_start(lane->deadline, lane->options.link.deadline_ms);
    lane->ticking = true;
    redis_output_append(redis_link_output(lane->link), &op->request);
    redis_op_list_add(&lane->flight, op);
}

static void on_deadline(void *ctx)
{
    struct redis_lane *lane = ctx;
    lane->ticking = lane->flight.first != NULL;
    if (!lane->ticking)
        return;
    /* A server with much to do is late, but answers: a new connection would only give it more. */
    uint64_t waited_ms = clock_boot_ms() - lane->progress_ms;
    uint32_t limit_ms = lane->options.link.deadline_ms;
    if (waited_ms < limit_ms)
        loop_timer_start(lane->deadline, limit_ms - waited_ms);
    else
        redis_link_cut(lane->link, "no answer in time");
}

/* --- scripts that the server lost --- */

static void push_scripts(struct redis_lane *lane, redis_answer_fn *answer)
{
    for (unsigned script = 0; script < REDIS_SCRIPTS; script++) {
        struct redis_op *op = redis_op_new(REPLY_TEXT, answer, lane);
        redis_script_load(&op->request, (enum redis_script)script);
        lane_push(lane, op);
    }
}

/*
 * Nothing is in flight any more: the lost ops go again, in their order, before those that came
 * meanwhile. Where one got through in between, for another node loaded the scripts at that moment,
 * sending the earlier ones now would turn their order round: their outcome is STATUS_IO then.
 */
static void lane_resend(struct redis_lane *lane)
{
    struct redis_op_list lost = lane->lost, held = lane->held;
    struct redis_op *op;
    bool overtaken = lane->overtaken;
    lane->lost = lane->held = (struct redis_op_list){0};
    lane->reloading = lane->overtaken = false;
    push_scripts(lane, NULL);
    while ((op = redis_op_list_take(&lost)) != NULL) {
        if (overtaken || op->tries >= TRIES_MAX)
            redis_op_finish(op, STATUS_IO, NULL);
        else
            lane_push(lane, op);
    }
    while ((op = redis_op_list_take(&held)) != NULL) {
        lane->unanswered_bytes -= op->request.len;
        lane_push(lane, op);
    }
}

/* --- replies --- */

/* why: where they are not proven; or NULL */
static void finish_unproven(struct redis_lane *lane, bool proven, const char *why)
{
    struct redis_op *op;
    while ((op = redis_op_list_take(&lane->unproven)) != NULL) {
        struct redisReply *reply = op->reply;
        op->reply = NULL;
        if (proven) {
            redis_op_finish(op, STATUS_OK, reply);
        } else {
            freeReplyObject(reply);
            op->error = why != NULL ? redis_copy_text(why) : NULL;
            redis_op_finish(op, STATUS_IO, NULL);
        }
    }
}

static void on_wait(struct redis_op *op)
{
    struct redis_lane *lane = op->owner;
    bool proven = op->status == STATUS_OK && op->reply->integer >= lane->options.replicas;
    char missing[80] = "";
    if (op->status == STATUS_OK && !proven) {
        log_warn_cause("redis_replicas_missing", LOG_U64("wanted", lane->options.replicas),
                       LOG_I64("reached", op->reply->integer));
        snprintf(missing, sizeof(missing), "WAIT: %lld of %" PRIu32 " replicas have the write",
                 op->reply->integer, lane->options.replicas);
    }
    finish_unproven(lane, proven, missing[0] != '\0' ? missing : op->error);
}

static void push_wait(struct redis_lane *lane)
{
    lane->wants_wait = false;
    struct redis_op *op = redis_op_new(REPLY_NUMBER, on_wait, lane);
    redis_request_begin(&op->request, 3);
    redis_request_text(&op->request, "WAIT");
    redis_request_number(&op->request, lane->options.replicas);
    redis_request_number(&op->request, lane->options.wait_ms);
    lane_push(lane, op);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Up to Redis 6.2 an error within a script stands behind a dash in the script's own. */
static bool is_error(const char *error, const char *name)
{
    const char *at = strstr(error, name);
    return at != NULL && (at == error || at[-1] == '-');
}

/* Errors after which this server is of no use for now. */
static bool ends_connection(const char *error)
{
    return is_error(error, "READONLY ") || is_error(error, "LOADING ") ||
           is_error(error, "MASTERDOWN ") || is_error(error, "NOAUTH ");
}

/* The missing right to one session's channel is a cause of its own; all other errors are the
 * server's. */
static void on_refusal(struct redis_lane *lane, struct redis_op *op, const char *error)
{
    char words[REDIS_WHY_BYTES];
    redis_quote(lane->options.link.url, error, words);
    if (redis_is_no_right(error))
        log_warn_cause("redis_error", LOG_STR("error", words), LOG_STR("session", op->session));
    else
        log_warn_cause("redis_error", LOG_STR("error", words), LOG_DETAIL("session", op->session));
    op->error = redis_copy_text(words);
    redis_op_finish(op, STATUS_IO, NULL);
    if (ends_connection(error))
        redis_link_unfit(lane->link, words);
}

static void on_error(struct redis_lane *lane, struct redis_op *op, redisReply *reply)
{
    if (starts_with(reply->str, "NOSCRIPT")) {
        lane->reloading = true;
        redis_op_list_add(&lane->lost, op);
    } else if (lane->events->on_redirect == NULL ||
               !lane->events->on_redirect(lane->ctx, op, reply->str)) {
        on_refusal(lane, op, reply->str);
    }
    freeReplyObject(reply);
}

/* The replies are out of step with the requests. */
static void on_misfit(struct redis_lane *lane, struct redis_op *op, redisReply *reply)
{
    char why[80];
    snprintf(why, sizeof(why), "replies are out of step: %s was expected",
             redis_reply_kind_name(op->kind));
    freeReplyObject(reply);
    redis_op_finish(op, STATUS_IO, NULL);
    redis_link_cut(lane->link, why);
}

/*
 * All that was taken is written and answered, and nothing may follow that was refused before it:
 * as after a new connection, the owner begins anew. So each round gets on by what was taken.
 */
static void lane_drained(struct redis_lane *lane)
{
    lane->overflowed = lane->out_of_credit = false;
    lane->open = false;
    lane->events->on_progress(lane->ctx);
    lane->events->on_closed(lane->ctx);
    lane->open = true;
    lane->events->on_open(lane->ctx);
}

static void on_reply(void *ctx, struct redisReply *reply)
{
    struct redis_lane *lane = ctx;
    struct redis_op *op = redis_op_list_take(&lane->flight);
    if (op == NULL) {
        freeReplyObject(reply);
        redis_link_cut(lane->link, "a reply to nothing");
        return;
    }
    lane->unanswered_bytes -= op->request.len;
    lane->progress_ms = clock_boot_ms();
    if (reply->type == REDIS_REPLY_ERROR) {
        on_error(lane, op, reply);
    } else if (!redis_op_fits(op, reply)) {
        on_misfit(lane, op, reply);
        return;
    } else {
        lane->overtaken = lane->overtaken || (lane->reloading && op->scripted);
        if (op->replicated) {
            op->reply = reply;
            redis_op_list_add(&lane->unproven, op);
        } else {
            redis_op_finish(op, STATUS_OK, reply);
        }
    }
    if (lane->reloading && lane->flight.first == NULL)
        lane_resend(lane);
    if (lane->overflowed && lane->unanswered_bytes == 0)
        lane_drained(lane);
    else
        lane->events->on_progress(lane->ctx);
}

/* --- opening and closing --- */

/* After the last answer of what a new connection is asked. */
static void lane_advance_opening(struct redis_lane *lane)
{
    if (lane->open || lane->flight.first != NULL || !redis_link_up(lane->link))
        return;
    lane->open = true;
    redis_link_fit(lane->link);
    lane->events->on_open(lane->ctx);
}

static void on_loaded(struct redis_op *op)
{
    struct redis_lane *lane = op->owner;
    if (lane->closing)
        return;
    if (op->status != STATUS_OK)
        redis_link_unfit(lane->link, op->error != NULL ? op->error : "scripts can't be loaded");
    else
        lane_advance_opening(lane);
}

/* Only where INFO is forbidden. Where ROLE is, too, a replica shows by its READONLY. */
static void on_role(struct redis_op *op)
{
    struct redis_lane *lane = op->owner;
    if (lane->closing)
        return;
    const struct redisReply *role = op->status == STATUS_OK && op->reply->elements > 0
                                        ? op->reply->element[0]
                                        : NULL;
    if (role != NULL && role->type == REDIS_REPLY_STRING && strcmp(role->str, "slave") == 0)
        redis_link_unfit(lane->link, "it is a replica");
    else
        lane_advance_opening(lane);
}

static void on_info_refused(struct redis_lane *lane, const char *error)
{
    if (!redis_is_no_right(error) && strstr(error, "unknown command") == NULL) {
        redis_link_unfit(lane->link, error);
        return;
    }
    log_warn_cause("redis_info_refused", LOG_STR("error", error),
                   LOG_STR("advice", "the right to INFO: without it neither a replica nor a "
                                     "maxmemory-policy that evicts is seen at once"));
    struct redis_op *op = redis_op_new(REPLY_LIST, on_role, lane);
    redis_request_begin(&op->request, 1);
    redis_request_text(&op->request, "ROLE");
    lane_push(lane, op);
    redis_link_flush(lane->link);
}

static void on_info(struct redis_op *op)
{
    struct redis_lane *lane = op->owner;
    if (lane->closing)
        return;
    if (op->status != STATUS_OK) {
        on_info_refused(lane, op->error != NULL ? op->error : "no INFO");
        return;
    }
    const char *why = lane->events->on_info(lane->ctx, op->reply->str);
    if (why != NULL)
        redis_link_unfit(lane->link, why);
}

static void on_up(void *ctx)
{
    struct redis_lane *lane = ctx;
    struct redis_op *op = redis_op_new(REPLY_TEXT, on_info, lane);
    redis_request_begin(&op->request, 1);
    redis_request_text(&op->request, "INFO");
    lane_push(lane, op);
    push_scripts(lane, on_loaded);
    redis_link_flush(lane->link);
}

static void finish_all(struct redis_op_list *list)
{
    struct redis_op *op;
    while ((op = redis_op_list_take(list)) != NULL)
        redis_op_finish(op, STATUS_IO, NULL);
}

static void lane_abandon(struct redis_lane *lane)
{
    lane->closing = true;
    finish_unproven(lane, false, NULL);
    finish_all(&lane->lost);
    finish_all(&lane->flight);
    finish_all(&lane->held);
    lane->reloading = lane->overtaken = lane->wants_wait = false;
    lane->overflowed = lane->out_of_credit = false;
    lane->unanswered_bytes = 0;
    lane->closing = false;
    loop_timer_stop(lane->deadline);
    lane->ticking = false;
}

static void on_down(void *ctx)
{
    struct redis_lane *lane = ctx;
    bool was_open = lane->open;
    lane->open = false;
    lane_abandon(lane);
    lane->events->on_progress(lane->ctx);
    if (was_open)
        lane->events->on_closed(lane->ctx);
}

static void on_failed(void *ctx)
{
    struct redis_lane *lane = ctx;
    lane->events->on_failed(lane->ctx);
}

static const struct redis_link_events link_events = {
    .on_up = on_up, .on_down = on_down, .on_reply = on_reply, .on_failed = on_failed};

struct redis_lane *redis_lane_new(const struct redis_lane_options *options,
                                  const struct redis_lane_events *events, void *ctx)
{
    struct redis_lane *lane = redis_claim_memory(1, sizeof(*lane));
    lane->options = *options;
    lane->events = events;
    lane->ctx = ctx;
    lane->link = redis_link_new(&options->link, &link_events, lane);
    lane->deadline = loop_timer_new(options->link.loop, on_deadline, lane);
    return lane;
}

void redis_lane_free(struct redis_lane *lane)
{
    lane->open = false;
    lane_abandon(lane);
    redis_link_free(lane->link);
    loop_timer_free(lane->deadline);
    free(lane);
}

struct redis_link *redis_lane_link(struct redis_lane *lane)
{
    return lane->link;
}

bool redis_lane_open(const struct redis_lane *lane)
{
    return lane->open;
}

static void lane_hold(struct redis_lane *lane, struct redis_op *op)
{
    lane->unanswered_bytes += op->request.len;
    redis_op_list_add(&lane->held, op);
}

size_t redis_lane_credit(struct redis_lane *lane)
{
    bool some = lane->open && !lane->overflowed && lane->unanswered_bytes < BUS_CREDIT_BYTES;
    lane->out_of_credit = lane->out_of_credit || !some;
    return some ? BUS_CREDIT_BYTES - lane->unanswered_bytes : 0;
}

bool redis_lane_has_credit_again(struct redis_lane *lane)
{
    if (!lane->out_of_credit || !lane->open || lane->overflowed ||
        lane->unanswered_bytes > BUS_CREDIT_BYTES / 2)
        return false;
    lane->out_of_credit = false;
    return true;
}

/* What was refused must not be overtaken by what comes later; but for what the lease hangs on,
 * which has no order to keep. */
void redis_lane_send(struct redis_lane *lane, struct redis_op *op)
{
    bool fits = lane->unanswered_bytes + op->request.len <= UNANSWERED_BYTES_MAX;
    op->replicated = op->replicated && lane->options.replicas > 0;
    lane->overflowed = lane->overflowed || (lane->open && !fits);
    if (!lane->open || (lane->overflowed && !op->vital))
        redis_op_finish(op, STATUS_IO, NULL);
    else if (lane->reloading)
        lane_hold(lane, op);
    else
        lane_push(lane, op);
}

void redis_lane_flush(struct redis_lane *lane)
{
    if (lane->wants_wait && lane->open)
        push_wait(lane);
    redis_link_flush(lane->link);
}

void redis_lane_mark(struct redis_lane *lane)
{
    if (lane->open && !lane->reloading)
        push_mark(lane);
}
