#include "core/clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/node_messages.h"
#include "core/client/sweep.h"
#include "core/node/node.h"
#include "core/node/peers.h"
#include "core/polls.h"

#define PAGE_MS  1000u
#define CLOSE_MS 2000u

/* Rows of one node, with all that they point to. */
struct node_rows {
    struct node_rows *next; /* in the order of the ids */
    char node[CONF_NAME_MAX + 1];
    bool more;
    uint64_t next_slot;
    size_t len;
    struct client_row rows[]; /* their texts follow */
};

/* A query that an operator made on this node: it waits for this node's sweep and for the other
 * nodes. */
struct clients_query {
    struct hub *hub;
    struct client_match match;
    size_t limit; /* 0: closes */
    uint64_t closed;
    char from_node[CONF_NAME_MAX + 1];
    struct node_rows *nodes;
    bool swept, polled;
    char **missing;
    size_t missing_len;
    hub_clients_fn *done_page;
    hub_closed_fn *done_closed;
    void *ctx;
    struct clients_query *prev, *next;
};

/* --- rows --- */

static char *put_text(char **at, const char *text, size_t len)
{
    char *put = *at;
    if (len)
        memcpy(put, text, len);
    put[len] = '\0';
    *at += len + 1;
    return put;
}

/* Allocates room for len rows, and for the given number of bytes of their texts. */
static struct node_rows *rows_new(struct slice node, size_t len, size_t texts, char **text_at)
{
    size_t rows = len * sizeof(struct client_row);
    struct node_rows *made = calloc(1, sizeof(*made) + rows + texts);
    if (!made)
        abort(); /* of a page */
    memcpy(made->node, node.at, node.len);
    *text_at = (char *)made->rows + rows;
    return made;
}

static void take_rows(struct clients_query *query, struct node_rows *rows)
{
    struct node_rows **at = &query->nodes;
    while (*at && strcmp((*at)->node, rows->node) < 0)
        at = &(*at)->next;
    rows->next = *at;
    *at = rows;
}

static size_t texts_of_row(const struct client_row *row)
{
    return strlen(row->id) + strlen(row->user) + strlen(row->session) + strlen(row->address) +
           strlen(row->protocol) + 5;
}

static struct node_rows *keep_result(struct hub *hub, const struct sweep_result *result)
{
    size_t texts = 0;
    char *at;
    for (size_t i = 0; i < result->len; i++)
        texts += texts_of_row(&result->rows[i]);
    struct node_rows *rows = rows_new(slice_of(hub->id), result->len, texts, &at);
    for (; rows->len < result->len; rows->len++) {
        const struct client_row *from = &result->rows[rows->len];
        struct client_row *row = &rows->rows[rows->len];
        *row = *from;
        row->node = rows->node;
        row->id = put_text(&at, from->id, strlen(from->id));
        row->user = put_text(&at, from->user, strlen(from->user));
        row->session = put_text(&at, from->session, strlen(from->session));
        row->address = put_text(&at, from->address, strlen(from->address));
        row->protocol = put_text(&at, from->protocol, strlen(from->protocol));
    }
    rows->more = result->more;
    rows->next_slot = result->next;
    return rows;
}

static struct client_row row_of(const struct client_entry *entry, const char *node, char **at)
{
    const struct slice *place = &entry->place;
    const char *space = place->len ? memchr(place->at, ' ', place->len) : NULL;
    size_t address_len = space ? (size_t)(space - place->at) : place->len;
    size_t protocol_len = space ? place->len - address_len - 1 : 0;
    return (struct client_row){
        .id = put_text(at, entry->id.at, entry->id.len),
        .user = put_text(at, entry->user.at, entry->user.len),
        .session = put_text(at, entry->session.at, entry->session.len),
        .node = node,
        .address = put_text(at, place->at, address_len),
        .protocol = put_text(at, space ? space + 1 : "", protocol_len),
        .since_ms = entry->since_ms,
        .subscriptions = entry->subscriptions,
        .received = entry->received,
        .sent = entry->sent,
        .queued_bytes = entry->queued_bytes,
        .slot = (uint32_t)entry->slot,
    };
}

/* Takes the rows of another node's answer, at most as many as were asked for. */
static struct node_rows *keep_answer(struct slice node, const struct client_rows_message *said,
                                     size_t limit)
{
    size_t len = said->rows.len / 2 < limit ? said->rows.len / 2 : limit, texts = 0;
    struct client_entry entry;
    char *at;
    for (size_t i = 0; i < len; i++)
        if (client_entry_of(&said->rows.at[2 * i], &entry))
            texts += entry.id.len + entry.user.len + entry.session.len + entry.place.len + 6;
    struct node_rows *rows = rows_new(node, len, texts, &at);
    for (size_t i = 0; i < len; i++)
        if (client_entry_of(&said->rows.at[2 * i], &entry))
            rows->rows[rows->len++] = row_of(&entry, rows->node, &at);
    rows->more = said->more;
    rows->next_slot = said->next_slot;
    return rows;
}

/* --- for another node --- */

/* A sweep for another node, and where its answer goes. */
struct remote_sweep {
    struct hub *hub;
    uint64_t number;
    bool closes;
    char node[CONF_NAME_MAX + 1];
};

static void send_rows(const struct remote_sweep *remote, const struct sweep_result *result)
{
    struct envelope_item *items = calloc(2 * result->len + 1, sizeof(*items));
    char(*places)[96] = calloc(result->len + 1, sizeof(*places));
    if (!items || !places)
        abort(); /* of a page */
    for (size_t i = 0; i < result->len; i++) {
        const struct client_row *row = &result->rows[i];
        snprintf(places[i], sizeof(places[i]), "%s %s", row->address, row->protocol);
        const struct client_entry entry = {.id = slice_of(row->id),
                                           .user = slice_of(row->user),
                                           .session = slice_of(row->session),
                                           .place = slice_of(places[i]),
                                           .since_ms = row->since_ms,
                                           .subscriptions = row->subscriptions,
                                           .received = row->received,
                                           .sent = row->sent,
                                           .queued_bytes = row->queued_bytes,
                                           .slot = row->slot};
        client_items(&entry, &items[2 * i]);
    }
    const struct client_rows_message message = {
        remote->number, result->more, result->next, {items, 2 * result->len}};
    struct envelope answer = client_rows_encode(&message);
    node_send(remote->hub, slice_of(remote->node), &answer);
    free(places);
    free(items);
}

static void on_swept_for_other(void *ctx, const struct sweep_result *result)
{
    struct remote_sweep *remote = ctx;
    if (remote->closes) {
        const struct counted_message message = {remote->number, result->closed};
        struct envelope answer = counted_encode(&message);
        node_send(remote->hub, slice_of(remote->node), &answer);
    } else {
        send_rows(remote, result);
    }
    free(remote);
}

/* Copies the filters of a message into texts. False: there is no filter, or one that this version
 * does not know: without it, more clients would match than the operator meant. */
static bool read_filters(const struct message_items *items, char texts[][CLIENT_FILTER_MAX + 1],
                         struct client_filter *out)
{
    *out = (struct client_filter){{NULL}};
    for (size_t i = 0; i < items->len; i++) {
        struct filter_entry entry;
        if (!filter_entry_of(&items->at[i], &entry))
            return false;
        enum client_filter_key key = client_filter_key_of(entry.name.at, entry.name.len);
        if (key == CLIENT_FILTERS || entry.value.len > CLIENT_FILTER_MAX || out->values[key])
            return false;
        if (entry.value.len)
            memcpy(texts[key], entry.value.at, entry.value.len);
        texts[key][entry.value.len] = '\0';
        if (strlen(texts[key]) != entry.value.len)
            return false;
        out->values[key] = texts[key];
    }
    return !client_filter_wrong(out);
}

/* Whether the node comes before the one where the page begins: earlier pages have listed it. */
static bool is_before(const char *id, struct slice from)
{
    size_t len = strlen(id), common = len < from.len ? len : from.len;
    int order = common ? memcmp(id, from.at, common) : 0;
    return order < 0 || (order == 0 && len < from.len);
}

static uint32_t first_slot(const char *id, struct slice from, uint64_t slot)
{
    if (!slice_equals(slice_of(id), from))
        return 0;
    return slot < UINT32_MAX ? (uint32_t)slot : UINT32_MAX;
}

void clients_on_ask(struct hub *hub, const struct envelope *envelope)
{
    const struct clients_message asked = clients_decode(envelope);
    char texts[CLIENT_FILTERS][CLIENT_FILTER_MAX + 1], reason[CLIENTS_REASON_MAX + 1] = "";
    struct client_filter filter;
    if (!read_filters(&asked.filters, texts, &filter) || asked.reason.len > CLIENTS_REASON_MAX ||
        (!asked.limit && !asked.filters.len))
        return; /* who asked names this node among those that did not answer */
    if (asked.reason.len)
        memcpy(reason, asked.reason.at, asked.reason.len);
    struct remote_sweep *remote = calloc(1, sizeof(*remote));
    if (!remote)
        abort();
    *remote = (struct remote_sweep){.hub = hub, .number = asked.number, .closes = !asked.limit};
    memcpy(remote->node, envelope->node.at, envelope->node.len);
    if (is_before(hub->id, asked.from_node)) {
        on_swept_for_other(remote, &(struct sweep_result){0});
        return;
    }
    const struct sweep_task task = {
        .filter = &filter,
        .from = first_slot(hub->id, asked.from_node, asked.from_slot),
        .limit = asked.limit < CLIENTS_PAGE_MAX ? asked.limit : CLIENTS_PAGE_MAX,
        .reason = *reason ? reason : CLIENTS_REASON_DEFAULT,
    };
    if (!sweep_start(hub, &task, on_swept_for_other, remote))
        free(remote);
}

/* --- what is asked for here --- */

/* The row to go on with, as text; "" at the end. Takes as many rows as are wanted out of nodes. */
static size_t page_of(const struct clients_query *query, struct client_row *out, char *next)
{
    size_t len = 0;
    next[0] = '\0';
    for (const struct node_rows *rows = query->nodes; rows && !next[0]; rows = rows->next) {
        size_t take = query->limit - len < rows->len ? query->limit - len : rows->len;
        if (take)
            memcpy(out + len, rows->rows, take * sizeof(*out));
        len += take;
        uint64_t slot = take < rows->len ? rows->rows[take].slot : rows->next_slot;
        if (take < rows->len || rows->more)
            snprintf(next, CLIENTS_NEXT_BYTES, "%s:%llu", rows->node, (unsigned long long)slot);
    }
    return len;
}

static void answer_page(const struct clients_query *query)
{
    struct client_row *rows = calloc(query->limit + 1, sizeof(*rows));
    char next[CLIENTS_NEXT_BYTES];
    if (!rows)
        abort();
    size_t len = page_of(query, rows, next);
    query->done_page(query->ctx, rows, len, next[0] ? next : NULL,
                     (const char *const *)query->missing, query->missing_len);
    free(rows);
}

static void query_free(struct clients_query *query)
{
    while (query->nodes) {
        struct node_rows *rows = query->nodes;
        query->nodes = rows->next;
        free(rows);
    }
    for (size_t i = 0; i < query->missing_len; i++)
        free(query->missing[i]);
    free(query->missing);
    client_match_fini(&query->match);
    free(query);
}

static void finish_where_all_is_there(struct clients_query *query)
{
    if (!query->swept || !query->polled)
        return;
    DL_DELETE(query->hub->client_queries, query);
    if (query->limit)
        answer_page(query);
    else
        query->done_closed(query->ctx, query->closed, (const char *const *)query->missing,
                           query->missing_len);
    query_free(query);
}

static void on_swept(void *ctx, const struct sweep_result *result)
{
    struct clients_query *query = ctx;
    query->closed += result->closed;
    if (query->limit)
        take_rows(query, keep_result(query->hub, result));
    query->swept = true;
    finish_where_all_is_there(query);
}

static void on_answer(void *ctx, struct slice node, const struct envelope *answer)
{
    struct clients_query *query = ctx;
    if (!query->limit && answer->type == ENVELOPE_COUNTED) {
        query->closed += counted_decode(answer).closed;
    } else if (query->limit && answer->type == ENVELOPE_CLIENT_ROWS) {
        const struct client_rows_message said = client_rows_decode(answer);
        take_rows(query, keep_answer(node, &said, query->limit));
    }
}

/* A node that the filter excludes is not reported as missing. */
static bool is_missed(const struct clients_query *query, const char *node)
{
    const char *only = query->match.filter.values[CLIENT_FILTER_NODE];
    return (!only || !strcmp(only, node)) && strcmp(node, query->from_node) >= 0;
}

static void on_over(void *ctx, const char *const *missing, size_t len)
{
    struct clients_query *query = ctx;
    query->missing = calloc(len + 1, sizeof(*query->missing));
    for (size_t i = 0; query->missing && i < len; i++) {
        if (!is_missed(query, missing[i]))
            continue;
        query->missing[query->missing_len] = strdup(missing[i]);
        query->missing_len += query->missing[query->missing_len] != NULL;
    }
    query->polled = true;
    finish_where_all_is_there(query);
}

static const struct poll_events poll_events = {.on_answer = on_answer, .on_over = on_over};

/* "NODE:SLOT", of an earlier page. */
static bool read_next(const char *after, struct clients_query *query, uint64_t *slot)
{
    const char *colon = after ? strchr(after, ':') : NULL;
    *slot = 0;
    if (!after)
        return true;
    if (!colon || !peer_is_name((struct slice){after, (size_t)(colon - after)}) || !colon[1] ||
        strlen(colon + 1) > 10 || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    memcpy(query->from_node, after, (size_t)(colon - after));
    *slot = strtoull(colon + 1, NULL, 10);
    return true;
}

static void ask_others(struct clients_query *query, const struct sweep_task *task)
{
    struct envelope_item items[CLIENT_FILTERS];
    size_t len = 0;
    for (enum client_filter_key key = 0; key < CLIENT_FILTERS; key++)
        if (task->filter->values[key])
            items[len++] = filter_item(&(struct filter_entry){slice_of(client_filter_name(key)),
                                                              slice_of(task->filter->values[key])});
    const struct clients_message message = {.limit = task->limit,
                                            .from_node = slice_of(query->from_node),
                                            .from_slot = task->from,
                                            .reason = slice_of(task->reason),
                                            .filters = {items, len}};
    struct envelope question = clients_encode(&message);
    poll_start(query->hub, &question, task->limit ? PAGE_MS : CLOSE_MS, &poll_events, query);
}

/* Sweeps here, and asks the others. STATUS_LIMIT: the query is gone. */
static enum status start(struct clients_query *query, struct sweep_task *task)
{
    struct hub *hub = query->hub;
    struct slice from = slice_of(query->from_node);
    uint32_t slot = task->from;
    task->from = first_slot(hub->id, from, slot);
    if (!polls_have_room(hub) ||
        (!is_before(hub->id, from) && !sweep_start(hub, task, on_swept, query))) {
        query_free(query);
        return STATUS_LIMIT;
    }
    query->swept = is_before(hub->id, from);
    task->from = slot;
    client_match_init(&query->match, task->filter);
    DL_APPEND(hub->client_queries, query);
    ask_others(query, task);
    return STATUS_OK;
}

static struct clients_query *query_new(struct hub *hub, void *ctx)
{
    struct clients_query *query = calloc(1, sizeof(*query));
    if (!query)
        abort();
    query->hub = hub;
    query->ctx = ctx;
    return query;
}

enum status hub_clients(struct hub *hub, const struct client_filter *filter, const char *after,
                        size_t limit, hub_clients_fn *done, void *ctx)
{
    struct clients_query *query = query_new(hub, ctx);
    uint64_t slot;
    if (!read_next(after, query, &slot)) {
        query_free(query);
        return STATUS_INVALID;
    }
    query->limit = limit;
    query->done_page = done;
    struct sweep_task task = {
        .filter = filter,
        .from = slot < UINT32_MAX ? (uint32_t)slot : UINT32_MAX,
        .limit = limit,
    };
    return start(query, &task);
}

enum status hub_close_clients(struct hub *hub, const struct client_filter *filter,
                              const char *reason, hub_closed_fn *done, void *ctx)
{
    struct clients_query *query = query_new(hub, ctx);
    query->done_closed = done;
    struct sweep_task task = {.filter = filter, .reason = reason};
    return start(query, &task);
}

/* Their sweeps and polls end them. */
void clients_free_all(struct hub *hub)
{
    sweeps_free_all(hub);
}
