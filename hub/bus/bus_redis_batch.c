/*
 * The publications of a turn, of many sessions, in one call; in a cluster one for each slot. Where
 * much is published (call_pace.h), or calls are under way, what comes waits for an answer, for a
 * moment, or for anything else that is asked: the more there is to do, the more goes into one call.
 *
 * Each session's part is an op of its own, with its own place among the answers on its session. It
 * is never sent itself: a call carries it and answers it. Where a right to the keys of one is
 * missing, the server refuses the call as a whole: its sessions go apart from then on, each in a
 * call of its own, until that has been answered. So it costs the others that one call.
 *
 * A call of several sessions goes without the script if each of them only has publications to be
 * kept and announced.
 */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"
#include "bus/redis_slot_map.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"

/* Of one call: it holds the server up for a millisecond or two. */
#define CALL_SESSIONS 256
#define CALL_KEPT     512
#define CALL_BYTES    ((size_t)512 * 1024)
/* Fewer are no load, and the script is the stricter way. */
#define PLAIN_SESSIONS 4
#define PLAIN_KEPT     64 /* publications of a session; more go to the script, at no loss */

struct redis_batch {
    int slot; /* of a cluster; else 0 */
    struct redis_op *parts[CALL_SESSIONS];
    size_t len, kept, bytes;
    UT_hash_handle hh;
};

struct redis_apart {
    UT_hash_handle hh;
    char session[];
};

/* --- sessions that go apart --- */

static struct redis_apart *find_apart(const struct bus_redis *b, const char *session)
{
    struct redis_apart *apart;
    HASH_FIND_STR(b->apart, session, apart);
    return apart;
}

static void go_apart(struct bus_redis *b, const char *session)
{
    if (find_apart(b, session))
        return;
    size_t len = strlen(session);
    struct redis_apart *apart = redis_claim_memory(1, sizeof(*apart) + len + 1);
    memcpy(apart->session, session, len);
    HASH_ADD_STR(b->apart, session, apart);
}

void bus_redis_forget_apart(struct bus_redis *b, const char *session)
{
    struct redis_apart *apart = find_apart(b, session);
    if (!apart)
        return;
    HASH_DEL(b->apart, apart);
    free(apart);
}

/* --- a call without the script --- */

/*
 * A call without the script: XADD and PUBLISH. They cost Redis little more than half of what
 * the script publish.lua costs: its interpreter takes more time than the commands that it calls.
 *
 * The script compares owner and epoch before it does anything, and announces nothing twice. Plain
 * commands do neither. Other rules take care of both:
 *  - A history refuses entries of earlier epochs. Each script that gives a session a new epoch sets
 *    the last id of the history to that epoch (XSETID), so Redis itself refuses the XADD of an
 *    earlier owner. A history that is not there refuses nobody, so an XADD does not begin one
 *    (NOMKSTREAM): the script does. Members ignore pushes of an earlier epoch than they know, and
 *    they learn the new epoch first: the grant is announced on the same channel.
 *  - What may have been published before goes to the script (BUS_AGAIN). A new connection first
 *    ends the one before at the server (redis_pipeline_is_sole), so nothing is carried out late.
 *  - An owner that lost its record otherwise learns it within a second of publications: together
 *    with the time to live of the history it asks for owner and epoch.
 * If an answer is not the expected one, the script gets the same publications of this session, and
 * decides: is an entry in the history already, does another node own the session, is the history to
 * be begun, or is there another error? What PUBLISH has announced it does not announce again.
 *
 * The simulation publishes this way in half of its histories (tests/sim/store.c).
 */

struct arguments {
    const char *at;
};

/* The next of those that a request has, which come as "$LEN CR LF BYTES CR LF". */
static struct slice next_argument(struct arguments *arguments)
{
    char *digits_end;
    size_t len = strtoull(arguments->at + 1, &digits_end, 10);
    struct slice argument = {digits_end + 2, len};
    arguments->at = argument.at + len + 2;
    return argument;
}

/* A part has: epoch, channel, options, number kept, the pieces of the message, id and time of each.
 */
struct part_arguments {
    struct slice epoch, channel;
    const char *opcodes; /* a digit for each; NULL where all are text */
    struct slice pieces[2 * PLAIN_KEPT + 1];
    struct arguments entries;
};

static void read_part(const struct redis_op *part, struct part_arguments *out)
{
    struct arguments arguments = {part->request.bytes};
    out->epoch = next_argument(&arguments);
    out->channel = next_argument(&arguments);
    struct slice options = next_argument(&arguments);
    const char *comma = memrchr(options.at, ',', options.len);
    out->opcodes = comma && comma + 1 < options.at + options.len ? comma + 1 : NULL;
    next_argument(&arguments);
    for (size_t i = 0; i < 2 * part->part.kept + 1; i++)
        out->pieces[i] = next_argument(&arguments);
    out->entries = arguments;
}

static void add_entry(struct redis_request *request, const char *history, uint32_t trim_to,
                      struct part_arguments *arguments, size_t k)
{
    const char *opcode = arguments->opcodes ? arguments->opcodes + k : "1";
    redis_request_begin(request, trim_to > 0 ? 12 : 10);
    redis_request_text(request, "XADD");
    redis_request_text(request, history);
    redis_request_text(request, "NOMKSTREAM");
    if (trim_to > 0) {
        redis_request_text(request, "MAXLEN");
        redis_request_number(request, trim_to);
    }
    redis_request_add(request, next_argument(&arguments->entries));
    redis_request_text(request, "o");
    redis_request_add(request, (struct slice){opcode, 1});
    redis_request_text(request, "t");
    redis_request_add(request, next_argument(&arguments->entries));
    redis_request_text(request, "d");
    redis_request_add(request, arguments->pieces[2 * k + 1]);
}

static unsigned commands_of(const struct redis_op *part)
{
    return (unsigned)part->part.kept + 1 + (part->part.ttl_ms > 0 ? 2 : 0);
}

static void add_part(const struct bus_redis *b, struct redis_op *op, const struct redis_op *part)
{
    struct redis_request *request = &op->request;
    const struct redis_key session = redis_key_session(b, "session", part->session);
    const struct redis_key history = redis_key_session(b, "history", part->session);
    struct part_arguments arguments;
    read_part(part, &arguments);
    if (part->part.ttl_ms > 0) {
        redis_request_begin(request, 4);
        redis_request_text(request, "HMGET");
        redis_request_text(request, session.text);
        redis_request_text(request, "owner");
        redis_request_text(request, "epoch");
    }
    redis_request_begin(request, 3);
    redis_request_text(request, bus_redis_publish_word(b));
    redis_request_add(request, arguments.channel);
    redis_request_joined(request, arguments.pieces, 2 * part->part.kept + 1);
    for (size_t k = 0; k < part->part.kept; k++)
        add_entry(request, history.text, k + 1 < part->part.kept ? 0 : part->part.history_size,
                  &arguments, k);
    if (part->part.ttl_ms > 0) {
        redis_request_begin(request, 3);
        redis_request_text(request, "PEXPIRE");
        redis_request_text(request, history.text);
        redis_request_number(request, part->part.ttl_ms);
    }
    op->commands += commands_of(part);
}

/* An op with the commands of all parts, which it refers to until it is answered. */
static struct redis_op *plain_call_of(struct bus_redis *b, struct redis_op *const *parts,
                                      size_t len, redis_answer_fn *answer)
{
    struct redis_op *op = redis_op_new(REPLY_LIST, answer, b);
    for (size_t i = 0; i < len; i++)
        add_part(b, op, parts[i]);
    return op;
}

static bool may_go_plainly(const struct redis_op *part)
{
    return part->part.plain && part->part.kept <= PLAIN_KEPT;
}

static bool is_text(const struct redisReply *reply, struct slice text)
{
    return reply && reply->type == REDIS_REPLY_STRING && reply->len == text.len &&
           memcmp(reply->str, text.at, text.len) == 0;
}

/* What the script answers: 1, or -1 where it was announced but for lack of memory not kept. 0: it
 * must be asked. */
static int judge(const struct bus_redis *b, const struct redis_op *part,
                 struct redisReply *const *replies)
{
    int verdict = 1;
    if (part->part.ttl_ms > 0) {
        struct arguments arguments = {part->request.bytes};
        const struct redisReply *record = *replies++;
        if (!is_text(redis_reply_at(record, 0), slice_of(b->node)) ||
            !is_text(redis_reply_at(record, 1), next_argument(&arguments)))
            return 0;
    }
    replies++; /* of PUBLISH */
    for (size_t k = 0; k < part->part.kept; k++, replies++) {
        if ((*replies)->type == REDIS_REPLY_ERROR && strncmp((*replies)->str, "OOM ", 4) == 0)
            verdict = -1;
        else if ((*replies)->type != REDIS_REPLY_STRING)
            return 0;
    }
    return verdict;
}

/* The first of its options says whether the script announces it. A part that is kept has options:
 * the size of the history. */
static void announce_no_more(struct redis_op *part)
{
    struct arguments arguments = {part->request.bytes};
    next_argument(&arguments);
    next_argument(&arguments);
    part->request.bytes[next_argument(&arguments).at - part->request.bytes] = '0';
}

/* Reads the replies of a part, and returns how many there are. *answer: what the script would have
 * answered, taken out of the replies; NULL: only the script can say. */
static size_t answer_of_plain(const struct bus_redis *b, struct redis_op *part,
                              struct redisReply **replies, struct redisReply **answer)
{
    size_t commands = commands_of(part), at = part->part.ttl_ms > 0 ? 1 : 0;
    struct redisReply *announced = replies[at];
    int verdict = judge(b, part, replies);
    bool forbidden = announced->type == REDIS_REPLY_ERROR && redis_is_no_right(announced->str);
    bool done = announced->type == REDIS_REPLY_INTEGER && verdict != 0;
    *answer = forbidden || done ? announced : NULL;
    if (done)
        announced->integer = verdict;
    else if (announced->type == REDIS_REPLY_INTEGER)
        announce_no_more(part);
    if (*answer)
        replies[at] = NULL;
    return commands;
}

/* --- answers --- */

struct call {
    size_t len;
    struct redis_op *parts[];
};

static void free_call(struct redis_op *op)
{
    free(op->ctx);
}

/* An error that concerns this session alone. */
static void refuse_part(struct bus_redis *b, struct redis_op *part, const char *error)
{
    char words[REDIS_WHY_BYTES];
    redis_quote(&b->url, error, words);
    if (redis_is_no_right(error))
        log_warn_cause("redis_error", LOG_STR("error", words), LOG_STR("session", part->session));
    else
        log_warn_cause("redis_error", LOG_STR("error", words),
                       LOG_DETAIL("session", part->session));
    part->error = redis_copy_text(words);
    redis_op_finish(part, STATUS_IO, NULL);
}

static void answer_part(struct bus_redis *b, struct redis_op *part, struct redisReply **reply)
{
    if (*reply && (*reply)->type == REDIS_REPLY_ERROR) {
        refuse_part(b, part, (*reply)->str);
    } else if (*reply && (*reply)->type == REDIS_REPLY_INTEGER) {
        redis_op_finish(part, STATUS_OK, *reply);
        *reply = NULL;
    } else {
        redis_op_finish(part, STATUS_IO, NULL);
    }
}

static void on_called(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    struct call *call = op->ctx;
    b->script_calls--;
    bool answered = op->status == STATUS_OK && op->reply->elements == call->len;
    b->calls--;
    for (size_t i = 0; i < call->len; i++) {
        struct redis_op *part = call->parts[i];
        if (answered && call->len == 1)
            bus_redis_forget_apart(b, part->session);
        if (op->error && redis_is_no_right(op->error) && call->len > 1)
            go_apart(b, part->session);
        if (answered) {
            answer_part(b, part, &op->reply->element[i]);
            continue;
        }
        part->error = op->error ? redis_copy_text(op->error) : NULL;
        redis_op_finish(part, STATUS_IO, NULL);
    }
}

static void send_with_script(struct bus_redis *b, struct redis_op *const *parts, size_t len);

static void on_called_plainly(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    struct call *call = op->ctx;
    struct redisReply **replies = op->reply ? op->reply->element : NULL;
    size_t left = 0;
    b->calls--;
    for (size_t i = 0; i < call->len; i++) {
        struct redis_op *part = call->parts[i];
        struct redisReply *answer = NULL;
        if (!replies) {
            redis_op_finish(part, STATUS_IO, NULL);
            continue;
        }
        replies += answer_of_plain(b, part, replies, &answer);
        if (answer)
            answer_part(b, part, &answer);
        else
            call->parts[left++] = part;
        if (answer)
            freeReplyObject(answer);
    }
    if (left > 0)
        send_with_script(b, call->parts, left);
}

/* --- calls --- */

static struct redis_op *script_call_of(struct bus_redis *b, struct redis_op *const *parts,
                                       size_t len)
{
    size_t arguments = 2;
    for (size_t i = 0; i < len; i++)
        arguments += parts[i]->part.arguments;
    struct redis_op *op = redis_op_new(REPLY_LIST, on_called, b);
    op->scripted = true;
    redis_script_begin(&op->request, &b->shas, SCRIPT_PUBLISH, 2 * len, arguments);
    for (size_t i = 0; i < len; i++) {
        const struct redis_op *part = parts[i];
        redis_request_text(&op->request, redis_key_session(b, "session", part->session).text);
        const char *kept = part->part.kept > 0 ? "history" : "session";
        redis_request_text(&op->request, redis_key_session(b, kept, part->session).text);
    }
    redis_request_text(&op->request, b->node);
    redis_request_text(&op->request, bus_redis_publish_word(b));
    for (size_t i = 0; i < len; i++) {
        redis_request_append(&op->request, &parts[i]->request);
        op->announces = op->announces || parts[i]->announces;
    }
    return op;
}

static bool goes_plainly(const struct bus_redis *b, const struct redis_batch *batch)
{
    /* A script that the server has lost is called again, later: nothing must overtake it. */
    if (batch->len < PLAIN_SESSIONS || !b->fences || b->old_nodes || b->script_calls > 0 ||
        !redis_topology_keeps_order(b->topology))
        return false;
    for (size_t i = 0; i < batch->len; i++)
        if (!may_go_plainly(batch->parts[i]))
            return false;
    return true;
}

static void send_parts(struct bus_redis *b, struct redis_op *op, struct redis_op *const *parts,
                       size_t len)
{
    struct call *call = redis_claim_memory(1, sizeof(*call) + len * sizeof(call->parts[0]));
    call->len = len;
    memcpy(call->parts, parts, len * sizeof(call->parts[0]));
    op->ctx = call;
    op->ctx_free = free_call;
    if (len == 1) /* an error names this session */
        op->session = redis_copy_text(parts[0]->session);
    const struct redis_key key = redis_key_session(b, "session", parts[0]->session);
    b->calls++;
    redis_topology_send(b->topology, op, key.text);
}

static void send_with_script(struct bus_redis *b, struct redis_op *const *parts, size_t len)
{
    b->script_calls++;
    send_parts(b, script_call_of(b, parts, len), parts, len);
}

static void send_plainly(struct bus_redis *b, struct redis_op *const *parts, size_t len)
{
    for (size_t i = 0; i < len; i++)
        parts[i]->part.plainly = true;
    send_parts(b, plain_call_of(b, parts, len, on_called_plainly), parts, len);
}

/* What was sent plainly may have to be kept by the script yet: the next of that session must not be
 * kept before it. */
static size_t hold_behind_plain(struct redis_op **parts, size_t len)
{
    size_t left = 0;
    for (size_t i = 0; i < len; i++)
        if (!redis_order_hold(parts[i]))
            parts[left++] = parts[i];
    return left;
}

static void send_call(struct bus_redis *b, struct redis_batch *batch)
{
    if (batch->len == 0)
        return;
    if (goes_plainly(b, batch))
        send_plainly(b, batch->parts, batch->len);
    else if ((batch->len = hold_behind_plain(batch->parts, batch->len)) > 0)
        send_with_script(b, batch->parts, batch->len);
    batch->len = batch->kept = batch->bytes = 0;
}

static struct redis_batch *batch_of(struct bus_redis *b, const char *session)
{
    int slot = 0;
    if (b->url.shape == REDIS_CLUSTER)
        slot = redis_slot_of(redis_key_session(b, "session", session).text);
    struct redis_batch *batch;
    HASH_FIND_INT(b->batches, &slot, batch);
    if (!batch) {
        batch = redis_claim_memory(1, sizeof(*batch));
        batch->slot = slot;
        HASH_ADD_INT(b->batches, slot, batch);
    }
    return batch;
}

static bool has_room(const struct redis_batch *batch, const struct redis_op *op)
{
    return batch->len == 0 ||
           (batch->len < CALL_SESSIONS && batch->kept + op->part.kept <= CALL_KEPT &&
            batch->bytes + op->request.len <= CALL_BYTES);
}

void bus_redis_gather_held(struct bus_redis *b, struct redis_op *op)
{
    struct redis_batch *batch = batch_of(b, op->session);
    bool apart = find_apart(b, op->session) != NULL;
    b->gathered = true;
    if (apart || !has_room(batch, op))
        send_call(b, batch);
    batch->parts[batch->len++] = op;
    batch->kept += op->part.kept;
    batch->bytes += op->request.len;
    if (apart)
        send_call(b, batch);
}

void bus_redis_gather(struct bus_redis *b, struct redis_op *op, const char *session, uint64_t tag)
{
    op->session = redis_copy_text(session);
    op->tag = tag;
    if (redis_order_add(&b->order, op, session))
        bus_redis_gather_held(b, op);
}

void bus_redis_end_turn(struct bus_redis *b)
{
    if (!b->batches)
        return;
    if (b->url.shape == REDIS_CLUSTER) { /* most sessions have a slot, so a call, of their own */
        bus_redis_flush_batches(b);
        return;
    }
    uint64_t now_us = clock_boot_us();
    call_pace_turn(&b->pace, now_us, b->gathered);
    b->gathered = false;
    if (call_pace_may_call(&b->pace, now_us, b->calls))
        bus_redis_flush_batches(b);
    else if (b->calls == 0) /* else the turn of an answer looks again */
        loop_timer_start(b->wake, 1);
}

void bus_redis_flush_batches(struct bus_redis *b)
{
    struct redis_batch *batch, *next;
    HASH_ITER (hh, b->batches, batch, next) {
        send_call(b, batch);
        HASH_DEL(b->batches, batch);
        free(batch);
    }
}

void bus_redis_forget_batches(struct bus_redis *b)
{
    struct redis_batch *batch, *next;
    HASH_ITER (hh, b->batches, batch, next) {
        HASH_DEL(b->batches, batch);
        free(batch);
    }
    struct redis_apart *apart, *next_apart;
    HASH_ITER (hh, b->apart, apart, next_apart) {
        HASH_DEL(b->apart, apart);
        free(apart);
    }
}
