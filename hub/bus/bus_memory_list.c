#include "bus/bus_memory_list.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_memory_store.h"

#define FIELDS_MAX  20
#define NUMBER_TEXT 24

/* A row under construction; its texts are its own or the store's. */
struct memory_listed {
    struct bus_field fields[FIELDS_MAX];
    char numbers[FIELDS_MAX][NUMBER_TEXT];
    size_t len;
};

static void *claim_memory(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    if (!memory)
        abort();
    return memory;
}

static void add_text(struct memory_listed *row, const char *name, const char *value)
{
    row->fields[row->len++] = (struct bus_field){name, value ? value : ""};
}

static void add_number(struct memory_listed *row, const char *name, uint64_t value)
{
    snprintf(row->numbers[row->len], NUMBER_TEXT, "%" PRIu64, value);
    add_text(row, name, row->numbers[row->len]);
}

static void fill_session(struct memory_listed *row, const struct memory_session *session)
{
    add_text(row, "owner", session->own.owner);
    add_number(row, "epoch", session->own.epoch);
    add_text(row, "state", session->record.state);
    add_text(row, "reason", session->record.reason);
    add_text(row, "upstream", session->record.upstream);
    add_number(row, "since", session->record.since_ms);
    add_number(row, "clients", session->record.clients);
    add_number(row, "members", session->record.members);
    add_number(row, "offset", session->record.offset);
}

static void fill_node(struct memory_listed *row, const struct memory_node *node, uint64_t now_ms)
{
    add_number(row, "renewed", node->score);
    if (node->record_until_ms <= now_ms)
        return;
    const struct bus_node_record *r = &node->record;
    add_text(row, "host", r->host);
    add_number(row, "pid", r->pid);
    add_text(row, "version", r->version);
    add_number(row, "started", r->started_ms);
    add_number(row, "lease", r->lease_ms);
    add_text(row, "listen", r->listen);
    add_text(row, "admin", r->admin);
    add_text(row, "state", r->state);
    add_number(row, "clients", r->clients);
    add_number(row, "sessions", r->sessions);
    add_number(row, "upstreams", r->upstreams);
    add_number(row, "msgs_in", r->msgs_in);
    add_number(row, "msgs_out", r->msgs_out);
    add_number(row, "rss", r->rss_bytes);
    add_number(row, "loop_lag_ms", r->loop_lag_ms);
}

/* The page is a heap with the greatest id on top, so that choosing the least `limit` of n ids costs
 * n log limit. */
static void sift_down(const struct memory_session **heap, size_t len, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= len)
            return;
        if (child + 1 < len && strcmp(heap[child + 1]->id, heap[child]->id) > 0)
            child++;
        if (strcmp(heap[at]->id, heap[child]->id) >= 0)
            return;
        const struct memory_session *swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

static int compare_ids(const void *a, const void *b)
{
    const struct memory_session *const *left = a, *const *right = b;
    return strcmp((*left)->id, (*right)->id);
}

struct page {
    const struct memory_session **sessions;
    size_t len, limit;
    bool more;
};

static void page_offer(struct page *page, const struct memory_session *session)
{
    if (page->len < page->limit) {
        page->sessions[page->len++] = session;
        if (page->len == page->limit) {
            for (size_t i = page->limit / 2 + 1; i-- > 0;)
                sift_down(page->sessions, page->len, i);
        }
        return;
    }
    page->more = true;
    if (page->limit > 0 && strcmp(session->id, page->sessions[0]->id) < 0) {
        page->sessions[0] = session;
        sift_down(page->sessions, page->len, 0);
    }
}

static void answer_sessions(const struct page *page, bus_rows_fn *fn, void *ctx)
{
    struct memory_listed *listed = claim_memory(page->len, sizeof(*listed));
    struct bus_row *rows = claim_memory(page->len, sizeof(*rows));
    for (size_t i = 0; i < page->len; i++) {
        fill_session(&listed[i], page->sessions[i]);
        rows[i] = (struct bus_row){page->sessions[i]->id, listed[i].fields, listed[i].len};
    }
    fn(ctx, STATUS_OK, rows, page->len,
       page->more && page->len > 0 ? rows[page->len - 1].id : NULL);
    free(rows);
    free(listed);
}

static void list_sessions(struct bus_memory_store *store, const char *after, size_t limit,
                          uint64_t now_ms, uint64_t unix_ms, bus_rows_fn *fn, void *ctx)
{
    size_t count = HASH_COUNT(store->sessions);
    struct page page = {.limit = limit < count ? limit : count};
    page.sessions = claim_memory(page.limit, sizeof(struct memory_session *));
    struct memory_session *session, *next;
    HASH_ITER (hh, store->sessions, session, next) {
        bool listed = session->own.there && session->record_until_ms > now_ms &&
                      session->listed_ms + MEMORY_LISTED_MS > unix_ms;
        if (listed && strcmp(session->id, after) > 0)
            page_offer(&page, session);
    }
    if (page.len > 0)
        qsort(page.sessions, page.len, sizeof(struct memory_session *), compare_ids);
    answer_sessions(&page, fn, ctx);
    free(page.sessions);
}

static void list_session(struct bus_memory_store *store, const char *id, uint64_t now_ms,
                         bus_rows_fn *fn, void *ctx)
{
    const struct memory_session *session = memory_session_find(store, id, now_ms);
    const struct memory_session *sessions[] = {session};
    struct page page = {.sessions = sessions, .len = session && session->own.there ? 1 : 0};
    answer_sessions(&page, fn, ctx);
}

static void list_nodes(struct bus_memory_store *store, uint64_t now_ms, bus_rows_fn *fn, void *ctx)
{
    size_t count = HASH_COUNT(store->nodes), len = 0;
    struct memory_listed *listed = claim_memory(count, sizeof(*listed));
    struct bus_row *rows = claim_memory(count, sizeof(*rows));
    struct memory_node *node, *next;
    HASH_ITER (hh, store->nodes, node, next) {
        if (!node->present)
            continue;
        fill_node(&listed[len], node, now_ms);
        rows[len] = (struct bus_row){node->id, listed[len].fields, listed[len].len};
        len++;
    }
    fn(ctx, STATUS_OK, rows, len, NULL);
    free(rows);
    free(listed);
}

static void list_revoked(struct bus_memory_store *store, bus_rows_fn *fn, void *ctx)
{
    size_t count = HASH_COUNT(store->revoked), len = 0;
    struct bus_row *rows = claim_memory(count, sizeof(*rows));
    struct bus_field *values = claim_memory(count, sizeof(*values));
    char(*texts)[2 * NUMBER_TEXT] = claim_memory(count, sizeof(*texts));
    struct memory_revocation *item, *next;
    HASH_ITER (hh, store->revoked, item, next) {
        int used = snprintf(texts[len], sizeof(*texts), "%" PRIu64, item->until_s);
        if (strncmp(item->name, "sub:", 4) == 0)
            snprintf(texts[len] + used, sizeof(*texts) - (size_t)used, " %" PRIu64,
                     item->issued_before_s);
        values[len] = (struct bus_field){"value", texts[len]};
        rows[len] = (struct bus_row){item->name, &values[len], 1};
        len++;
    }
    fn(ctx, STATUS_OK, rows, len, NULL);
    free(texts);
    free(values);
    free(rows);
}

void memory_list(struct bus_memory_store *store, enum bus_listing listing, const char *after,
                 size_t limit, uint64_t now_ms, uint64_t unix_ms, bus_rows_fn *fn, void *ctx)
{
    switch (listing) {
    case BUS_LIST_NODES: list_nodes(store, now_ms, fn, ctx); break;
    case BUS_LIST_SESSIONS: list_sessions(store, after, limit, now_ms, unix_ms, fn, ctx); break;
    case BUS_LIST_SESSION: list_session(store, after, now_ms, fn, ctx); break;
    case BUS_LIST_REVOKED: list_revoked(store, fn, ctx); break;
    }
}
