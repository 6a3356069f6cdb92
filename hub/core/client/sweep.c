#include "core/client/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/address.h"
#include "core/client/client.h"
#include "core/client/client_ids.h"
#include "core/client/directory.h"
#include "core/clients.h"
#include "core/node/node.h"
#include "core/session/state.h"

/* Slots, and subscriptions of those who are in them: a tenth of a microsecond each. */
#define LOOKS_A_TURN  4000u
#define CLOSES_A_TURN 500u /* some microseconds each */
/* A user with more clients than that is looked for slot by slot. */
#define OF_A_USER 1000u
#define ID_BYTES  (CONF_NAME_MAX + 32)

/* A row and the texts that it points to. */
struct kept_row {
    struct client_row row;
    char address[INET6_ADDRSTRLEN];
    char id[ID_BYTES];
    char protocol[24];
    char *user, *session;
};

struct sweep {
    struct hub *hub;
    struct client_match match;
    uint32_t at;
    size_t limit, len, cap;
    bool closes, more;
    uint64_t closed;
    char reason[CLIENTS_REASON_MAX + 1];
    struct kept_row *rows;
    sweep_done_fn *done;
    void *ctx;
    struct timer timer;
    struct sweep *prev, *next;
};

/* --- one client --- */

/* A form's name up to what only its wire differs in: "vinhub.v1, deflated". */
static void name_protocol(const struct client *client, char *out, size_t size)
{
    const char *name = form_get(client->hub, client->form)->name;
    snprintf(out, size, "%.*s", (int)strcspn(name, ","), name);
}

/* A client that has no id of its own is named by its slot and the time it came. */
static void name_client(const struct client *client, char *out, size_t size)
{
    if (client->id)
        snprintf(out, size, "%s", client->id->text);
    else
        snprintf(out, size, "%s-%x-%llx", client->hub->id, client->entry->slot,
                 (unsigned long long)client->opened_ms);
}

static char *copy(const char *text)
{
    char *copied = strdup(text ? text : "");
    if (!copied)
        abort(); /* of what a URL may hold */
    return copied;
}

static void keep_row(struct sweep *sweep, const struct client *client)
{
    struct hub *hub = sweep->hub;
    if (sweep->len == sweep->cap) {
        sweep->cap = sweep->cap ? sweep->cap * 2 : 16;
        sweep->rows = realloc(sweep->rows, sweep->cap * sizeof(*sweep->rows));
        if (!sweep->rows)
            abort(); /* of a page */
    }
    struct kept_row *kept = &sweep->rows[sweep->len++];
    *kept = (struct kept_row){.user = copy(client_user(client)),
                              .session = copy(client_session(client))};
    address_print(&client->address, kept->address);
    name_client(client, kept->id, sizeof(kept->id));
    name_protocol(client, kept->protocol, sizeof(kept->protocol));
    kept->row = (struct client_row){
        .since_ms = node_unix_of(hub, client->opened_ms),
        .subscriptions = client_subscriptions(client),
        .received = client->received,
        .sent = client->sent,
        .queued_bytes = client_queue_bytes(client),
        .slot = client->entry->slot,
    };
}

/* Sets the pointers into the texts; the rows are not moved after this. */
static struct client_row *point_rows(const struct sweep *sweep)
{
    struct client_row *rows = calloc(sweep->len + 1, sizeof(*rows));
    if (!rows)
        abort();
    for (size_t i = 0; i < sweep->len; i++) {
        const struct kept_row *kept = &sweep->rows[i];
        rows[i] = kept->row;
        rows[i].id = kept->id;
        rows[i].user = kept->user;
        rows[i].session = kept->session;
        rows[i].node = sweep->hub->id;
        rows[i].address = kept->address;
        rows[i].protocol = kept->protocol;
    }
    return rows;
}

/* --- the walk --- */

static void end(struct sweep *sweep)
{
    struct hub *hub = sweep->hub;
    timer_stop(&hub->timers, &sweep->timer);
    DL_DELETE(hub->sweeps, sweep);
    struct client_row *rows = point_rows(sweep);
    const struct sweep_result result = {.rows = rows,
                                        .len = sweep->len,
                                        .closed = sweep->closed,
                                        .next = sweep->at,
                                        .more = sweep->more};
    sweep->done(sweep->ctx, &result);
    for (size_t i = 0; i < sweep->len; i++) {
        free(sweep->rows[i].user);
        free(sweep->rows[i].session);
    }
    client_match_fini(&sweep->match);
    free(rows);
    free(sweep->rows);
    free(sweep);
}

/* Returns false where the page is full. */
static bool take(struct sweep *sweep, struct client *client)
{
    if (sweep->closes) {
        sweep->closed++;
        client_close(client, CLOSE_BY_OPERATOR, sweep->reason);
        return true;
    }
    if (sweep->len == sweep->limit) {
        sweep->more = true;
        return false;
    }
    keep_row(sweep, client);
    return true;
}

/* A portion. Returns false where it is over; at is where it goes on. */
static bool walk(struct sweep *sweep)
{
    const struct hub *hub = sweep->hub;
    uint64_t closed = sweep->closed;
    for (size_t n = 0; n < LOOKS_A_TURN; n++, sweep->at++) {
        if (sweep->at >= hub->directory.len)
            return false;
        struct client *client = directory_at(hub, sweep->at);
        n += client ? client_subscriptions(client) : 0;
        if (client && client_match_fits(&sweep->match, client) && !take(sweep, client))
            return false;
        if (sweep->closed - closed == CLOSES_A_TURN)
            break;
    }
    return true;
}

static int by_slot(const void *a, const void *b)
{
    const struct client *const *left = a, *const *right = b;
    return (*left)->entry->slot < (*right)->entry->slot ? -1 : 1;
}

/* All that a user has, where that is little. Returns false where it is not, and nothing was done.
 */
static bool walk_user(struct sweep *sweep)
{
    const char *user = sweep->match.filter.values[CLIENT_FILTER_USER];
    struct client *found[OF_A_USER];
    size_t n = 0, looks = 0;
    for (struct client *client = directory_first(sweep->hub, user); client;
         client = directory_next(client)) {
        looks += 1 + client_subscriptions(client);
        if (n == OF_A_USER || looks > LOOKS_A_TURN)
            return false;
        if (client->entry->slot >= sweep->at && client_match_fits(&sweep->match, client))
            found[n++] = client;
    }
    if (n)
        qsort(found, n, sizeof(found[0]), by_slot);
    for (size_t i = 0; i < n; i++) {
        sweep->at = found[i]->entry->slot;
        if (!take(sweep, found[i]))
            break;
    }
    return true;
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct sweep *sweep = CONTAINER_OF(timer, struct sweep, timer);
    bool of_user = sweep->match.filter.values[CLIENT_FILTER_USER] != NULL;
    if ((of_user && walk_user(sweep)) || !walk(sweep))
        end(sweep);
    else
        timer_start(&sweep->hub->timers, timer, now_ms, on_timer);
}

struct sweep *sweep_start(struct hub *hub, const struct sweep_task *task, sweep_done_fn *done,
                          void *ctx)
{
    struct sweep *at;
    size_t len;
    DL_COUNT(hub->sweeps, at, len);
    struct sweep *sweep = len < SWEEPS_MAX ? calloc(1, sizeof(*sweep)) : NULL;
    if (!sweep)
        return NULL;
    sweep->hub = hub;
    client_match_init(&sweep->match, task->filter);
    sweep->at = task->from;
    sweep->limit = task->limit;
    sweep->closes = !task->limit;
    sweep->done = done;
    sweep->ctx = ctx;
    if (task->reason)
        snprintf(sweep->reason, sizeof(sweep->reason), "%s", task->reason);
    DL_APPEND(hub->sweeps, sweep);
    timer_start(&hub->timers, &sweep->timer, hub->now_ms, on_timer);
    return sweep;
}

void sweeps_free_all(struct hub *hub)
{
    while (hub->sweeps)
        end(hub->sweeps);
}
