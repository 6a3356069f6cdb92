/* What is written with a script of its own: leases and records of nodes, owners and records of
 * sessions. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"
#include "common/clock.h"
#include "common/hash.h"

/* --- nodes --- */

#define FORGET_LEASES    10
#define LEASE_REFRESH_MS 30000 /* a later life of a node may have another lease */

/* What this node keeps of another (and of itself): its lease, and since when it has not moved on
 * this node's own clock. */
struct known_node {
    char *id;
    uint64_t score;
    uint64_t moved_ms; /* monotonic: when this score was first seen */
    uint32_t lease_ms; /* 0: not known */
    uint64_t asked_ms; /* when its lease was asked for; 0: never */
    bool is_old;       /* of version 0.1 */
    bool listed;       /* in the renewal that is being read */
    UT_hash_handle hh;
};

static void forget_node(struct bus_redis *b, struct known_node *node)
{
    /* The analyzer does not follow uthash. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    HASH_DEL(b->known_nodes, node);
    free(node->id);
    free(node);
}

void bus_redis_forget_nodes(struct bus_redis *b)
{
    struct known_node *node, *next;
    HASH_ITER (hh, b->known_nodes, node, next) {
        forget_node(b, node);
    }
}

static struct known_node *know_node(struct bus_redis *b, const char *id)
{
    struct known_node *node;
    HASH_FIND_STR(b->known_nodes, id, node);
    if (!node) {
        node = redis_claim_memory(1, sizeof(*node));
        node->id = redis_copy_text(id);
        HASH_ADD_KEYPTR(hh, b->known_nodes, node->id, strlen(node->id), node);
    }
    return node;
}

static void on_lease(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    struct known_node *node;
    HASH_FIND_STR(b->known_nodes, op->session, node);
    if (!node)
        return;
    uint64_t lease_ms = redis_reply_number(op->reply);
    if (lease_ms > 0 && lease_ms <= UINT32_MAX)
        node->lease_ms = (uint32_t)lease_ms;
}

static void on_version(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    struct known_node *node;
    HASH_FIND_STR(b->known_nodes, op->session, node);
    if (node && op->status == STATUS_OK)
        node->is_old = strncmp(redis_reply_text(op->reply), "0.1.", 4) == 0;
}

static void ask_field(struct bus_redis *b, struct known_node *node, const char *field,
                      redis_answer_fn *answer)
{
    struct redis_key key = redis_key_of(b, "node", node->id);
    struct redis_op *op = redis_op_new(REPLY_TEXT_OR_NIL, answer, b);
    op->session = redis_copy_text(node->id);
    redis_request_begin(&op->request, 3);
    redis_request_text(&op->request, "HGET");
    redis_request_text(&op->request, key.text);
    redis_request_text(&op->request, field);
    bus_redis_send(b, op, &key);
}

static void ask_record(struct bus_redis *b, struct known_node *node, uint64_t now_ms)
{
    if (node->asked_ms != 0 && node->lease_ms != 0 && now_ms - node->asked_ms < LEASE_REFRESH_MS)
        return;
    node->asked_ms = now_ms;
    ask_field(b, node, "lease", on_lease);
    ask_field(b, node, "version", on_version);
}

/* Brings what is known up to date with a renewal's list. */
static void read_nodes(struct bus_redis *b, const struct redisReply *list, struct bus_node *nodes,
                       size_t len)
{
    uint64_t now_ms = clock_boot_ms();
    struct known_node *node, *next;
    b->old_nodes = false;
    for (size_t i = 0; i < len; i++) {
        node = know_node(b, redis_reply_text(redis_reply_at(list, 2 * i)));
        uint64_t score = redis_reply_number(redis_reply_at(list, 2 * i + 1));
        if (node->moved_ms == 0 || node->score != score)
            node->moved_ms = now_ms;
        node->score = score;
        node->listed = true;
        ask_record(b, node, now_ms);
        b->old_nodes = b->old_nodes || node->is_old;
        nodes[i] = (struct bus_node){node->id, score, node->lease_ms};
    }
    HASH_ITER (hh, b->known_nodes, node, next) {
        if (!node->listed)
            forget_node(b, node);
        else
            node->listed = false;
    }
}

/* The script has just written this node's entry, so a list without it is none of its answers. */
static bool is_renewal(const struct bus_redis *b, const struct redisReply *list)
{
    size_t len = list && list->type == REDIS_REPLY_ARRAY ? list->elements / 2 : 0;
    for (size_t i = 0; i < len; i++) {
        if (strcmp(redis_reply_text(list->element[2 * i]), b->node) == 0)
            return true;
    }
    return false;
}

static void on_renewed(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    const struct redisReply *list = redis_reply_at(op->reply, 1);
    if (op->status == STATUS_OK)
        redis_fault_clear(&b->trouble, &b->trouble.renewal);
    if (op->error) {
        char text[REDIS_WHY_BYTES];
        snprintf(text, sizeof(text), "Redis: the lease can't be renewed: %.260s", op->error);
        redis_fault_set(&b->trouble, &b->trouble.renewal, text);
    }
    if (op->status != STATUS_OK || !is_renewal(b, list)) {
        b->bus.events->on_renewed(b->bus.events_ctx, op->tag, STATUS_IO, false, NULL, 0);
        return;
    }
    size_t len = list->elements / 2;
    struct bus_node *nodes = redis_claim_memory(len, sizeof(*nodes));
    read_nodes(b, list, nodes, len);
    bool present = redis_reply_number(redis_reply_at(op->reply, 0)) == 1;
    b->bus.events->on_renewed(b->bus.events_ctx, op->tag, STATUS_OK, present, nodes, len);
    free(nodes);
}

/* Judged on this node's own clock alone: wall clocks of two machines, or of Redis, are not
 * compared. */
static bool is_forgotten(const struct bus_redis *b, const struct known_node *node, uint64_t now_ms)
{
    uint64_t lease_ms = b->conf->node.lease_ms;
    if (node->lease_ms > lease_ms)
        lease_ms = node->lease_ms;
    return node->moved_ms != 0 && now_ms - node->moved_ms > FORGET_LEASES * lease_ms &&
           strcmp(node->id, b->node) != 0;
}

void bus_redis_renew(struct bus *bus, uint64_t tag)
{
    struct bus_redis *b = bus_redis_of(bus);
    uint64_t now_ms = clock_boot_ms();
    size_t forgotten = 0;
    struct known_node *node, *next;
    HASH_ITER (hh, b->known_nodes, node, next) {
        forgotten += is_forgotten(b, node, now_ms);
    }
    struct redis_key key = redis_key_plain(b, "nodes");
    struct redis_op *op = bus_redis_script(b, on_renewed, SCRIPT_RENEW, &key, 1, 2 + 2 * forgotten);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, clock_unix_ms());
    HASH_ITER (hh, b->known_nodes, node, next) {
        if (is_forgotten(b, node, now_ms)) {
            redis_request_text(&op->request, node->id);
            redis_request_number(&op->request, node->score);
        }
    }
    op->replicated = true;
    op->vital = true;
    bus_redis_ask(b, op, &key, NULL, tag);
}

static void add_text(struct redis_op *op, const char *field, const char *value)
{
    redis_request_text(&op->request, field);
    redis_request_text(&op->request, value ? value : "");
}

static void add_number(struct redis_op *op, const char *field, uint64_t value)
{
    redis_request_text(&op->request, field);
    redis_request_number(&op->request, value);
}

void bus_redis_record_node(struct bus *bus, const struct bus_node_record *record)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_of(b, "node", b->node);
    struct redis_op *op = bus_redis_script(b, NULL, SCRIPT_RECORD_NODE, &key, 1, 1 + 2 * 15);
    redis_request_number(&op->request, record->lease_ms);
    add_text(op, "host", record->host);
    add_number(op, "pid", record->pid);
    add_text(op, "version", record->version);
    add_number(op, "started", record->started_ms);
    add_number(op, "lease", record->lease_ms);
    add_text(op, "listen", record->listen);
    add_text(op, "admin", record->admin);
    add_text(op, "state", record->state);
    add_number(op, "clients", record->clients);
    add_number(op, "sessions", record->sessions);
    add_number(op, "upstreams", record->upstreams);
    add_number(op, "msgs_in", record->msgs_in);
    add_number(op, "msgs_out", record->msgs_out);
    add_number(op, "rss", record->rss_bytes);
    add_number(op, "loop_lag_ms", record->loop_lag_ms);
    bus_redis_send(b, op, &key);
}

void bus_redis_sign_off(struct bus *bus)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key nodes = redis_key_plain(b, "nodes"), own = redis_key_of(b, "node", b->node);
    struct redis_op *op = redis_op_new(REPLY_NUMBER, NULL, b);
    redis_request_begin(&op->request, 3);
    redis_request_text(&op->request, "ZREM");
    redis_request_text(&op->request, nodes.text);
    redis_request_text(&op->request, b->node);
    bus_redis_send(b, op, &nodes);

    op = redis_op_new(REPLY_NUMBER, NULL, b);
    redis_request_begin(&op->request, 2);
    redis_request_text(&op->request, "DEL");
    redis_request_text(&op->request, own.text);
    bus_redis_send(b, op, &own);
}

/* --- sessions --- */

#define LISTED_MS     (UINT64_C(60) * 60 * 1000)
#define TRIM_EVERY_MS (UINT64_C(60) * 1000)

/* The three arguments that a script needs to announce a change of owner. */
static void add_channel(const struct bus_redis *b, struct redis_op *op, const char *session)
{
    struct redis_key channel = redis_channel_push(b, session);
    redis_request_text(&op->request, bus_redis_publish_word(b));
    redis_request_text(&op->request, channel.text);
    redis_request_text(&op->request, session);
}

/* Notes for the end of the turn that the session's record was written. */
static void touch_session(struct bus_redis *b, const char *session)
{
    redis_request_number(&b->touched, clock_unix_ms());
    redis_request_text(&b->touched, session);
    b->touched_len++;
}

static void trim_index(struct bus_redis *b, const struct redis_key *index)
{
    uint64_t now_ms = clock_boot_ms();
    if (b->trimmed_ms != 0 && now_ms - b->trimmed_ms < TRIM_EVERY_MS)
        return;
    b->trimmed_ms = now_ms;
    struct redis_op *op = redis_op_new(REPLY_NUMBER, NULL, b);
    redis_request_begin(&op->request, 4);
    redis_request_text(&op->request, "ZREMRANGEBYSCORE");
    redis_request_text(&op->request, index->text);
    redis_request_text(&op->request, "-inf");
    redis_request_number(&op->request, clock_unix_ms() - LISTED_MS);
    bus_redis_send(b, op, index);
}

/* The index lies in another slot than the records, so it is written apart from the scripts, once a
 * turn. */
void bus_redis_flush_touched(struct bus_redis *b)
{
    if (b->touched_len == 0)
        return;
    struct redis_key index = redis_key_plain(b, "sessions");
    struct redis_op *op = redis_op_new(REPLY_NUMBER, NULL, b);
    redis_request_begin(&op->request, 2 + 2 * b->touched_len);
    redis_request_text(&op->request, "ZADD");
    redis_request_text(&op->request, index.text);
    redis_request_append(&op->request, &b->touched);
    b->touched.len = 0;
    b->touched_len = 0;
    bus_redis_send(b, op, &index);
    trim_index(b, &index);
}

/* A reply without an epoch, or with another owner, grants nothing. */
static enum status claimed_status(const struct redis_op *op, const char *owner, uint64_t epoch)
{
    const struct bus_redis *b = op->owner;
    const struct redisReply *code = redis_reply_at(op->reply, 0);
    if (op->status != STATUS_OK)
        return op->status;
    if (!code || code->type != REDIS_REPLY_INTEGER)
        return STATUS_IO;
    if (code->integer <= 0)
        return code->integer == 0 ? STATUS_REFUSED : STATUS_AGAIN;
    return strcmp(owner, b->node) == 0 && epoch > 0 ? STATUS_OK : STATUS_IO;
}

static void on_claimed(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    const char *owner = redis_reply_text(redis_reply_at(op->reply, 1));
    uint64_t epoch = redis_reply_epoch(redis_reply_at(op->reply, 2));
    enum status status = claimed_status(op, owner, epoch);
    bus_redis_note_refusal(b, op);
    if (status == STATUS_OK) {
        touch_session(b, op->session);
        b->fences = redis_reply_number(redis_reply_at(op->reply, 3)) == 1;
    }
    b->bus.events->on_claimed(b->bus.events_ctx, op->session, op->tag, status, owner, epoch);
}

void bus_redis_claim(struct bus *bus, const char *session, uint64_t tag,
                     const struct bus_claim *claim)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key keys[] = {redis_key_session(b, "session", session),
                               redis_key_session(b, "history", session)};
    struct redis_op *op = bus_redis_script(b, on_claimed, SCRIPT_CLAIM, keys, 2, 12);
    add_channel(b, op, session);
    redis_request_text(&op->request, b->node);
    redis_request_text(&op->request, claim->dead_owner ? claim->dead_owner : "");
    redis_request_number(&op->request, claim->dead_epoch);
    redis_request_number(&op->request, claim->seen_epoch);
    redis_request_text(&op->request, claim->holds ? "1" : "0");
    redis_request_number(&op->request, b->conf->node.lease_ms);
    redis_request_text(&op->request, claim->upstream ? claim->upstream : "");
    redis_request_number(&op->request, RECORD_TTL_MS);
    redis_request_number(&op->request, clock_boot_ms() - b->opened_ms);
    op->replicated = true;
    bus_redis_ask(b, op, &keys[0], session, tag);
}

/* STATUS_OK where a script answered 1. */
static enum status yes_or_refused(const struct redis_op *op)
{
    if (op->status != STATUS_OK)
        return op->status;
    return redis_reply_number(op->reply) == 1 ? STATUS_OK : STATUS_REFUSED;
}

static void on_released(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    b->bus.events->on_released(b->bus.events_ctx, op->session, op->tag, yes_or_refused(op));
}

void bus_redis_release(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                       uint64_t keep_ms)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_session(b, "session", session);
    struct redis_op *op = bus_redis_script(b, on_released, SCRIPT_RELEASE, &key, 1, 3);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, epoch);
    redis_request_number(&op->request, keep_ms);
    bus_redis_ask(b, op, &key, session, tag);
}

static void on_transferred(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    uint64_t epoch = redis_reply_epoch(op->reply);
    enum status status = op->status;
    if (status == STATUS_OK && epoch == 0)
        status = redis_reply_number(op->reply) == 0 ? STATUS_REFUSED : STATUS_IO;
    b->bus.events->on_transferred(b->bus.events_ctx, op->session, op->tag, status, epoch);
}

void bus_redis_transfer(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                        const char *to)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key keys[] = {redis_key_session(b, "session", session),
                               redis_key_session(b, "history", session)};
    struct redis_op *op = bus_redis_script(b, on_transferred, SCRIPT_TRANSFER, keys, 2, 7);
    add_channel(b, op, session);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, epoch);
    redis_request_text(&op->request, to);
    redis_request_number(&op->request, RECORD_TTL_MS);
    bus_redis_ask(b, op, &keys[0], session, tag);
}

static void on_asserted(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    enum status status = op->status;
    if (status == STATUS_OK && redis_reply_number(redis_reply_at(op->reply, 0)) != 1)
        status = STATUS_REFUSED;
    if (status == STATUS_OK)
        touch_session(b, op->session);
    b->bus.events->on_asserted(b->bus.events_ctx, op->session, op->tag, status,
                               redis_reply_text(redis_reply_at(op->reply, 1)),
                               redis_reply_epoch(redis_reply_at(op->reply, 2)));
}

void bus_redis_assert_owner(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                            const char *upstream)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key keys[] = {redis_key_session(b, "session", session),
                               redis_key_session(b, "history", session)};
    struct redis_op *op = bus_redis_script(b, on_asserted, SCRIPT_ASSERT, keys, 2, 7);
    add_channel(b, op, session);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, epoch);
    redis_request_text(&op->request, upstream ? upstream : "");
    redis_request_number(&op->request, RECORD_TTL_MS);
    bus_redis_ask(b, op, &keys[0], session, tag);
}

/* Only a record that was written puts the session into the index. */
static void on_recorded(struct redis_op *op)
{
    if (yes_or_refused(op) == STATUS_OK)
        touch_session(op->owner, op->session);
}

void bus_redis_record_session(struct bus *bus, const char *session, uint64_t epoch,
                              const struct bus_session_record *record)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_session(b, "session", session);
    struct redis_op *op = bus_redis_script(b, on_recorded, SCRIPT_RECORD_SESSION, &key, 1,
                                           3 + 2 * 7);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, epoch);
    redis_request_number(&op->request, RECORD_TTL_MS);
    const char *const texts[][2] = {
        {"state", record->state}, {"reason", record->reason}, {"upstream", record->upstream}};
    for (size_t i = 0; i < 3; i++) {
        redis_request_text(&op->request, texts[i][0]);
        redis_request_text(&op->request, texts[i][1] ? texts[i][1] : "");
    }
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"since", record->since_ms},
                   {"clients", record->clients},
                   {"members", record->members},
                   {"offset", record->offset}};
    for (size_t i = 0; i < 4; i++) {
        redis_request_text(&op->request, numbers[i].name);
        redis_request_number(&op->request, numbers[i].value);
    }
    op->session = redis_copy_text(session);
    bus_redis_send(b, op, &key);
}
