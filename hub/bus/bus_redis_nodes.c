#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"
#include "common/clock.h"
#include "common/hash.h"

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
    if (node == NULL) {
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
    if (node == NULL)
        return;
    uint64_t lease_ms = redis_reply_number(op->reply);
    if (lease_ms > 0 && lease_ms <= UINT32_MAX)
        node->lease_ms = (uint32_t)lease_ms;
}

static void ask_lease(struct bus_redis *b, struct known_node *node, uint64_t now_ms)
{
    if (node->asked_ms != 0 && node->lease_ms != 0 && now_ms - node->asked_ms < LEASE_REFRESH_MS)
        return;
    node->asked_ms = now_ms;
    struct redis_key key = redis_key_of(b, "node", node->id);
    struct redis_op *op = redis_op_new(REPLY_TEXT_OR_NIL, on_lease, b);
    op->session = redis_copy_text(node->id);
    redis_request_begin(&op->request, 3);
    redis_request_text(&op->request, "HGET");
    redis_request_text(&op->request, key.text);
    redis_request_text(&op->request, "lease");
    bus_redis_send(b, op, &key);
}

/* Brings what is known up to date with a renewal's list. */
static void read_nodes(struct bus_redis *b, const struct redisReply *list, struct bus_node *nodes,
                       size_t len)
{
    uint64_t now_ms = clock_boot_ms();
    struct known_node *node, *next;
    for (size_t i = 0; i < len; i++) {
        node = know_node(b, redis_reply_text(redis_reply_at(list, 2 * i)));
        uint64_t score = redis_reply_number(redis_reply_at(list, 2 * i + 1));
        if (node->moved_ms == 0 || node->score != score)
            node->moved_ms = now_ms;
        node->score = score;
        node->listed = true;
        ask_lease(b, node, now_ms);
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
    size_t len = list != NULL && list->type == REDIS_REPLY_ARRAY ? list->elements / 2 : 0;
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
    if (op->error != NULL) {
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
    redis_request_text(&op->request, value != NULL ? value : "");
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
