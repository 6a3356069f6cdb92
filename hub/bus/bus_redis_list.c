/*
 * Listings.
 *
 * The index of sessions is scored by time, so that old entries can be trimmed; Redis can't page it
 * by id. A page is therefore one scan over it (ZSCAN, a thousand at a time, other commands run in
 * between) that keeps the least `limit` ids after `after`, then their records in one pipeline.
 * Memory is bounded by the page, and a page neither repeats nor skips a session that is there
 * throughout.
 */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"

#define PAGE_MAX   10000
#define SCAN_COUNT "1000"

struct redis_listed {
    char *id;
    struct redisReply *record; /* of HGETALL, or NULL */
    char *renewed;             /* of a node */
};

/* One listing under way. Ops that refer to it are counted. */
struct redis_listing {
    struct bus_redis *b;
    enum bus_listing what;
    char *after;
    size_t limit;
    bus_rows_fn *fn;
    void *ctx;
    struct redis_listed *page; /* sorted by id */
    size_t len;
    bool more;
    size_t waiting; /* records still to come */
    enum status status;
};

static void listing_scan(struct redis_listing *listing, const char *cursor);

static void listed_fini(struct redis_listed *listed)
{
    free(listed->id);
    /* Of the ops of a page only the last one's answer comes here.
     * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    free(listed->renewed);
    if (listed->record)
        freeReplyObject(listed->record);
}

static void listing_free(struct redis_listing *listing)
{
    for (size_t i = 0; i < listing->len; i++)
        listed_fini(&listing->page[i]);
    free(listing->page);
    free(listing->after);
    free(listing);
}

/* Of one that has not started. */
static void listing_drop(struct redis_op *op)
{
    listing_free(op->ctx);
}

/* --- the answer --- */

/* The fields of a row, allocated; *len receives how many. */
static struct bus_field *row_fields(const struct redis_listed *listed, size_t *len)
{
    size_t pairs = listed->record ? listed->record->elements / 2 : 0;
    struct bus_field *fields = redis_claim_memory(pairs + 1, sizeof(*fields));
    *len = 0;
    if (listed->renewed)
        fields[(*len)++] = (struct bus_field){"renewed", listed->renewed};
    for (size_t i = 0; i < pairs; i++)
        fields[(*len)++] = (struct bus_field){redis_reply_text(listed->record->element[2 * i]),
                                              redis_reply_text(listed->record->element[2 * i + 1])};
    return fields;
}

/* A session whose record is gone is in the index for a while yet, and no row. */
static bool has_row(const struct redis_listed *listed)
{
    return listed->renewed || (listed->record && listed->record->elements > 0);
}

static void listing_finish(struct redis_listing *listing)
{
    struct bus_row *rows = redis_claim_memory(listing->len, sizeof(*rows));
    size_t len = 0;
    for (size_t i = 0; i < listing->len && listing->status == STATUS_OK; i++) {
        if (!has_row(&listing->page[i]))
            continue;
        rows[len].id = listing->page[i].id;
        rows[len].fields = row_fields(&listing->page[i], &rows[len].fields_len);
        len++;
    }
    const char *next = listing->more && listing->len > 0 && listing->status == STATUS_OK
                           ? listing->page[listing->len - 1].id
                           : NULL;
    if (!listing->b->freeing)
        listing->fn(listing->ctx, listing->status, rows, len, next);
    for (size_t i = 0; i < len; i++)
        free((void *)rows[i].fields);
    free(rows);
    listing_free(listing);
}

static void listing_fail(struct redis_listing *listing)
{
    listing->status = STATUS_IO;
    listing_finish(listing);
}

/* --- the records of a page --- */

static void on_record(struct redis_op *op)
{
    struct redis_listing *listing = op->ctx;
    if (op->status != STATUS_OK) {
        listing->status = STATUS_IO;
    } else {
        listing->page[op->tag].record = op->reply;
        op->reply = NULL;
    }
    if (--listing->waiting == 0)
        listing_finish(listing);
}

static void listing_fetch(struct redis_listing *listing)
{
    struct bus_redis *b = listing->b;
    size_t len = listing->len;
    if (len == 0) {
        listing_finish(listing);
        return;
    }
    listing->waiting = len;
    /* A refused op is answered before send returns, and the last answer frees the listing. */
    for (size_t i = 0; i < len; i++) {
        const char *id = listing->page[i].id;
        struct redis_key key = listing->what == BUS_LIST_NODES
                                   ? redis_key_of(b, "node", id)
                                   : redis_key_session(b, "session", id);
        struct redis_op *op = redis_op_new(REPLY_LIST, on_record, b);
        op->ctx = listing;
        op->tag = i;
        redis_request_begin(&op->request, 2);
        redis_request_text(&op->request, "HGETALL");
        redis_request_text(&op->request, key.text);
        bus_redis_send(b, op, &key);
    }
}

/* --- nodes --- */

static void on_nodes(struct redis_op *op)
{
    struct redis_listing *listing = op->ctx;
    if (op->status != STATUS_OK) {
        listing_fail(listing);
        return;
    }
    size_t pairs = op->reply->elements / 2;
    listing->page = redis_claim_memory(pairs, sizeof(*listing->page));
    for (; listing->len < pairs; listing->len++) {
        listing->page[listing->len].id = redis_copy_text(
            redis_reply_text(redis_reply_at(op->reply, 2 * listing->len)));
        listing->page[listing->len].renewed = redis_copy_text(
            redis_reply_text(redis_reply_at(op->reply, 2 * listing->len + 1)));
    }
    listing_fetch(listing);
}

static void list_nodes(struct redis_listing *listing)
{
    struct redis_key key = redis_key_plain(listing->b, "nodes");
    struct redis_op *op = redis_op_new(REPLY_LIST, on_nodes, listing->b);
    op->ctx = listing;
    const char *const words[] = {"ZRANGE", key.text, "0", "-1", "WITHSCORES"};
    redis_request_begin(&op->request, 5);
    for (size_t i = 0; i < 5; i++)
        redis_request_text(&op->request, words[i]);
    bus_redis_send(listing->b, op, &key);
}

/* --- sessions --- */

/* Where the id is or belongs in the page. */
static size_t page_slot(const struct redis_listing *listing, const char *id)
{
    size_t low = 0, high = listing->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(listing->page[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Keeps the id where it is among the least; a scan may name one twice. */
static void page_offer(struct redis_listing *listing, const char *id)
{
    if (strcmp(id, listing->after) <= 0)
        return;
    size_t slot = page_slot(listing, id);
    if (slot < listing->len && strcmp(listing->page[slot].id, id) == 0)
        return;
    if (listing->len == listing->limit) {
        listing->more = true;
        if (slot == listing->len)
            return;
        listed_fini(&listing->page[--listing->len]);
    }
    memmove(&listing->page[slot + 1], &listing->page[slot],
            (listing->len - slot) * sizeof(*listing->page));
    listing->page[slot] = (struct redis_listed){.id = redis_copy_text(id)};
    listing->len++;
}

static void on_scanned(struct redis_op *op)
{
    struct redis_listing *listing = op->ctx;
    const struct redisReply *cursor = redis_reply_at(op->reply, 0),
                            *members = redis_reply_at(op->reply, 1);
    if (!cursor || !members || members->type != REDIS_REPLY_ARRAY) {
        listing_fail(listing);
        return;
    }
    for (size_t i = 0; i + 1 < members->elements; i += 2)
        page_offer(listing, redis_reply_text(members->element[i]));
    if (strcmp(redis_reply_text(cursor), "0") == 0)
        listing_fetch(listing);
    else
        listing_scan(listing, redis_reply_text(cursor));
}

static void listing_scan(struct redis_listing *listing, const char *cursor)
{
    struct redis_key key = redis_key_plain(listing->b, "sessions");
    struct redis_op *op = redis_op_new(REPLY_LIST, on_scanned, listing->b);
    op->ctx = listing;
    const char *const words[] = {"ZSCAN", key.text, cursor, "COUNT", SCAN_COUNT};
    redis_request_begin(&op->request, 5);
    for (size_t i = 0; i < 5; i++)
        redis_request_text(&op->request, words[i]);
    bus_redis_send(listing->b, op, &key);
}

static void list_session(struct redis_listing *listing)
{
    listing->page = redis_claim_memory(1, sizeof(*listing->page));
    listing->page[0].id = redis_copy_text(listing->after);
    listing->len = 1;
    listing_fetch(listing);
}

static void list_revoked(struct redis_listing *listing)
{
    bus_redis_list_revoked(listing->b, listing->after, listing->limit, listing->fn, listing->ctx);
    listing_free(listing);
}

/* --- start --- */

static void listing_start(struct redis_op *op)
{
    struct redis_listing *listing = op->ctx;
    op->ctx_free = NULL;
    switch (listing->what) {
    case BUS_LIST_NODES: list_nodes(listing); break;
    case BUS_LIST_SESSIONS:
        listing->page = redis_claim_memory(listing->limit + 1, sizeof(*listing->page));
        listing_scan(listing, "0");
        break;
    case BUS_LIST_SESSION: list_session(listing); break;
    case BUS_LIST_REVOKED: list_revoked(listing); break;
    }
}

/*
 * The listing starts as an op that is done at once: so a
 * refusal of its requests can't be told before list has returned.
 */
void bus_redis_list(struct bus *bus, enum bus_listing what, const char *after, size_t limit,
                    bus_rows_fn *fn, void *ctx)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_listing *listing = redis_claim_memory(1, sizeof(*listing));
    listing->b = b;
    listing->what = what;
    listing->after = redis_copy_text(after);
    listing->limit = limit < PAGE_MAX ? limit : PAGE_MAX;
    listing->fn = fn;
    listing->ctx = ctx;
    struct redis_op *op = redis_op_new(REPLY_STATUS, listing_start, b);
    op->ctx = listing;
    op->ctx_free = listing_drop;
    redis_order_add(&b->order, op, "");
    redis_op_finish(op, STATUS_IO, NULL);
}

/* --- revoking --- */

#define KEY_REVOKED "revoked"

static void on_revoked(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    if (b->bus.events->on_revoked)
        b->bus.events->on_revoked(b->bus.events_ctx, op->tag, op->status);
}

void bus_redis_revoke(struct bus *bus, uint64_t tag, const struct bus_revocation *revocation)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_plain(b, KEY_REVOKED);
    struct redis_op *op = bus_redis_script(b, on_revoked, SCRIPT_REVOKE, &key, 1, 3);
    redis_request_text(&op->request, revocation->name);
    redis_request_number(&op->request, revocation->until_s);
    if (strncmp(revocation->name, "sub:", 4) == 0)
        redis_request_number(&op->request, revocation->issued_before_s);
    else
        redis_request_text(&op->request, "");
    bus_redis_ask(b, op, &key, NULL, tag);
}

/* --- what is revoked --- */

/* Who asked for a portion. */
struct revoked_portion {
    bus_rows_fn *fn;
    void *ctx;
};

static void portion_free(struct redis_op *op)
{
    free(op->ctx);
}

static void answer_portion(const struct revoked_portion *portion, const struct redisReply *items,
                           const char *next)
{
    size_t len = items->elements / 2;
    struct bus_row *rows = redis_claim_memory(len + 1, sizeof(*rows));
    struct bus_field *values = redis_claim_memory(len + 1, sizeof(*values));
    for (size_t i = 0; i < len; i++) {
        values[i] = (struct bus_field){"value", redis_reply_text(items->element[2 * i + 1])};
        rows[i] = (struct bus_row){redis_reply_text(items->element[2 * i]), &values[i], 1};
    }
    portion->fn(portion->ctx, STATUS_OK, rows, len, next);
    free(values);
    free(rows);
}

static void on_portion(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    const struct revoked_portion *portion = op->ctx;
    const struct redisReply *cursor = redis_reply_at(op->reply, 0),
                            *items = redis_reply_at(op->reply, 1);
    if (b->freeing)
        return;
    if (op->status != STATUS_OK || !items || items->type != REDIS_REPLY_ARRAY) {
        portion->fn(portion->ctx, STATUS_IO, NULL, 0, NULL);
        return;
    }
    const char *next = redis_reply_text(cursor);
    answer_portion(portion, items, *next && strcmp(next, "0") != 0 ? next : NULL);
}

void bus_redis_list_revoked(struct bus_redis *b, const char *cursor, size_t limit, bus_rows_fn *fn,
                            void *ctx)
{
    struct revoked_portion *portion = redis_claim_memory(1, sizeof(*portion));
    *portion = (struct revoked_portion){fn, ctx};
    struct redis_key key = redis_key_plain(b, KEY_REVOKED);
    struct redis_op *op = redis_op_new(REPLY_LIST, on_portion, b);
    op->ctx = portion;
    op->ctx_free = portion_free;
    redis_request_begin(&op->request, 5);
    redis_request_text(&op->request, "HSCAN");
    redis_request_text(&op->request, key.text);
    redis_request_text(&op->request, *cursor ? cursor : "0");
    redis_request_text(&op->request, "COUNT");
    redis_request_number(&op->request, limit);
    bus_redis_send(b, op, &key);
}
