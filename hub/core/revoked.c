#include "core/revoked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/hash.h"
#include "common/log.h"
#include "common/node_messages.h"
#include "core/node/node.h"
#include "core/node/peers.h"
#include "core/polls.h"

#define LOOK_EVERY_MS  500   /* how often the store is read; the contract promises a second */
#define SWEEP_EVERY_MS 60000 /* where no other node is */
#define PORTION        2000u /* revocations that are read or looked at in a turn */
#define CLOSES_A_TURN  1000u /* some microseconds each */
#define NODES_MS       1000u /* for the answers of other nodes */
#define STORE_MS       2000u /* for that of the store */
#define PREFIX_LEN     4u    /* "jti:", "sub:" */

struct revocation {
    uint64_t until_s, issued_before_s; /* as in the store */
    uint64_t seen; /* the pass in which it was last found in the store, or was added */
    bool closing;  /* is in the row of those whose clients are being closed */
    struct revocation *prev, *next; /* of all, the next to be looked at first */
    struct revocation *closing_prev, *closing_next;
    UT_hash_handle hh;
    char name[];
};

/* A revocation that an operator made on this node. It waits for the store and for the other
 * nodes. */
struct revoke_request {
    struct hub *hub;
    struct revocation *revocation; /* lives for days */
    uint64_t tag;
    uint64_t closed;
    enum status status;
    bool stored, polled;
    char **missing;
    size_t missing_len;
    hub_revoked_fn *done;
    void *ctx;
    struct timer timer;
    struct revoke_request *prev, *next;
};

struct revocations {
    struct hub *hub;
    struct revocation *by_name; /* uthash */
    struct revocation *all, *closing;
    struct revoke_request *requests;
    struct timer look, close;
    bool reading;          /* a portion was asked for */
    bool whole;            /* the pass under way does not wait between its portions */
    uint64_t pass, passed; /* under way; the last that came to its end */
    char cursor[32];
};

static uint64_t unix_s(const struct hub *hub)
{
    return node_unix_ms(hub) / 1000;
}

/* --- what is revoked --- */

static bool is_name(struct slice name)
{
    return name.len > PREFIX_LEN && name.len <= PREFIX_LEN + REVOKED_NAME_MAX &&
           (!memcmp(name.at, "jti:", PREFIX_LEN) || !memcmp(name.at, "sub:", PREFIX_LEN)) &&
           !memchr(name.at, '\0', name.len);
}

static bool is_of_subject(const struct revocation *revocation)
{
    return revocation->name[0] == 's';
}

static struct revocation *find(const struct hub *hub, const char *prefix, const char *text)
{
    char name[PREFIX_LEN + REVOKED_NAME_MAX + 1];
    struct revocation *revocation = NULL;
    int len = snprintf(name, sizeof(name), "%s%s", prefix, text);
    if ((size_t)len < sizeof(name))
        HASH_FIND(hh, hub->revocations->by_name, name, (size_t)len, revocation);
    return revocation;
}

static bool matters(const struct hub *hub, const struct revocation *revocation)
{
    return revocation && revocation->until_s > unix_s(hub);
}

bool hub_token_revoked(const struct hub *hub, const struct token_facts *facts)
{
    if (!hub->revocations || !hub->revocations->by_name)
        return false;
    if (facts->jti && matters(hub, find(hub, "jti:", facts->jti)))
        return true;
    const struct revocation *of = facts->sub ? find(hub, "sub:", facts->sub) : NULL;
    return matters(hub, of) && (!facts->has_iat || facts->issued_s < (double)of->issued_before_s);
}

static struct token_choice choice_of(const struct revocation *revocation)
{
    return (struct token_choice){.sub = is_of_subject(revocation),
                                 .name = revocation->name + PREFIX_LEN,
                                 .issued_before_s = (double)revocation->issued_before_s};
}

static void stop_closing(struct revocations *revocations, struct revocation *revocation)
{
    if (revocation->closing)
        DL_DELETE2(revocations->closing, revocation, closing_prev, closing_next);
    revocation->closing = false;
}

static void forget(struct revocations *revocations, struct revocation *revocation)
{
    stop_closing(revocations, revocation);
    DL_DELETE(revocations->all, revocation);
    HASH_DEL(revocations->by_name, revocation);
    free(revocation);
}

static void on_close_due(struct timer *timer, uint64_t now_ms)
{
    struct revocations *revocations = CONTAINER_OF(timer, struct revocations, close);
    struct hub *hub = revocations->hub;
    uint64_t left = CLOSES_A_TURN;
    while (revocations->closing && left) {
        struct revocation *revocation = revocations->closing;
        const struct token_choice choice = choice_of(revocation);
        uint64_t closed = tokens_close(hub, &choice, left);
        if (closed < left)
            stop_closing(revocations, revocation);
        left -= closed;
    }
    if (revocations->closing)
        timer_start(&hub->timers, timer, now_ms, on_close_due);
}

/* Returns how many clients are about to be closed. */
static uint64_t start_closing(struct hub *hub, struct revocation *revocation)
{
    struct revocations *revocations = hub->revocations;
    const struct token_choice choice = choice_of(revocation);
    uint64_t clients = tokens_count(hub, &choice);
    if (!clients)
        return 0;
    log_info("clients_revoked", LOG_STR("token", revocation->name), LOG_U64("clients", clients));
    if (!revocation->closing)
        DL_APPEND2(revocations->closing, revocation, closing_prev, closing_next);
    revocation->closing = true;
    timer_start(&hub->timers, &revocations->close, hub->now_ms, on_close_due);
    return clients;
}

static struct revocation *add(struct hub *hub, struct slice name)
{
    struct revocations *revocations = hub->revocations;
    if (HASH_COUNT(revocations->by_name) >= REVOKED_MAX) {
        LOG_EVENT(log_write_cause, LOG_LEVEL_ERROR, "revoked_full", LOG_U64("limit", REVOKED_MAX),
                  LOG_STR("advice", "remove fields of the hash `revoked` in Redis"));
        return NULL;
    }
    struct revocation *revocation = calloc(1, sizeof(*revocation) + name.len + 1);
    if (!revocation)
        return NULL;
    memcpy(revocation->name, name.at, name.len);
    DL_APPEND(revocations->all, revocation);
    HASH_ADD_KEYPTR(hh, revocations->by_name, revocation->name, name.len, revocation);
    return revocation;
}

/* Adds a revocation that came from an operator, a node or the store. *clients gets the number of
 * clients that are closed for it. NULL: it is not a revocation, it has expired, or there is no
 * room. */
static struct revocation *learn(struct hub *hub, const struct revoke_message *said,
                                uint64_t *clients)
{
    struct revocations *revocations = hub->revocations;
    struct revocation *revocation = NULL;
    uint64_t now_s = unix_s(hub), until_s = said->until_s;
    if (until_s > now_s + REVOKED_FOR_S)
        until_s = now_s + REVOKED_FOR_S;
    *clients = 0;
    if (!is_name(said->name) || until_s <= now_s)
        return NULL;
    HASH_FIND(hh, revocations->by_name, said->name.at, said->name.len, revocation);
    bool more = !revocation || said->issued_before_s > revocation->issued_before_s;
    if (!revocation && !(revocation = add(hub, said->name)))
        return NULL;
    if (until_s > revocation->until_s)
        revocation->until_s = until_s;
    if (is_of_subject(revocation) && said->issued_before_s > revocation->issued_before_s)
        revocation->issued_before_s = said->issued_before_s;
    /* If the store says less than this node knows, the entry has to be written again. */
    if (until_s == revocation->until_s && said->issued_before_s == revocation->issued_before_s)
        revocation->seen = revocations->pass;
    if (more)
        *clients = start_closing(hub, revocation);
    return revocation;
}

/* --- the store --- */

static void on_look_due(struct timer *timer, uint64_t now_ms);

static void look_soon(struct hub *hub)
{
    uint64_t after_ms = hub->bus->shared ? LOOK_EVERY_MS : SWEEP_EVERY_MS;
    timer_start(&hub->timers, &hub->revocations->look, hub->now_ms + after_ms, on_look_due);
}

static void write_out(struct hub *hub, uint64_t tag, const char *name, uint64_t until_s,
                      uint64_t issued_before_s)
{
    const struct bus_revocation row = {name, until_s, issued_before_s};
    hub->bus->ops->revoke(hub->bus, tag, &row);
}

/* "UNTIL", or of a subject "UNTIL BEFORE". What is over is taken out of the store. */
static void read_row(struct hub *hub, const struct bus_row *row)
{
    const char *value = row->fields_len ? row->fields[0].value : "";
    char *end;
    struct revoke_message said = {.name = slice_of(row->id), .until_s = strtoull(value, &end, 10)};
    said.issued_before_s = *end == ' ' ? strtoull(end + 1, NULL, 10) : 0;
    uint64_t clients;
    if (!learn(hub, &said, &clients) && is_name(said.name) && said.until_s <= unix_s(hub))
        write_out(hub, hub_tag(hub), row->id, said.until_s, said.issued_before_s);
}

static void read_portion(struct hub *hub);

static void on_portion(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                       const char *next)
{
    struct hub *hub = ctx;
    struct revocations *revocations = hub->revocations;
    revocations->reading = false;
    for (size_t i = 0; status == STATUS_OK && i < len; i++)
        read_row(hub, &rows[i]);
    if (status == STATUS_OK && next) {
        snprintf(revocations->cursor, sizeof(revocations->cursor), "%s", next);
        if (revocations->whole)
            read_portion(hub);
        return;
    }
    revocations->cursor[0] = '\0';
    if (status == STATUS_OK) {
        revocations->passed = revocations->pass;
        revocations->whole = false;
    }
    revocations->pass++; /* what an unfinished pass has found may be gone by now */
}

static void read_portion(struct hub *hub)
{
    struct revocations *revocations = hub->revocations;
    if (revocations->reading || !hub->bus_connected)
        return;
    revocations->reading = true;
    hub->bus->ops->list(hub->bus, BUS_LIST_REVOKED, revocations->cursor, PORTION, on_portion, hub);
}

/* Looks at the next of all: one that matters no more is forgotten, one that the store has lost is
 * written back. */
static void look_at_next(struct hub *hub)
{
    struct revocations *revocations = hub->revocations;
    struct revocation *revocation = revocations->all;
    if (!matters(hub, revocation)) {
        forget(revocations, revocation);
        return;
    }
    DL_DELETE(revocations->all, revocation);
    DL_APPEND(revocations->all, revocation);
    if (!hub->bus->shared || !hub->bus_connected || revocation->seen >= revocations->passed)
        return;
    revocation->seen = revocations->pass;
    write_out(hub, hub_tag(hub), revocation->name, revocation->until_s,
              revocation->issued_before_s);
}

static void on_look_due(struct timer *timer, uint64_t now_ms)
{
    struct revocations *revocations = CONTAINER_OF(timer, struct revocations, look);
    struct hub *hub = revocations->hub;
    (void)now_ms;
    size_t n = HASH_COUNT(revocations->by_name);
    for (size_t i = 0; i < n && i < PORTION; i++)
        look_at_next(hub);
    if (hub->bus->shared)
        read_portion(hub);
    look_soon(hub);
}

void revoked_on_connected(struct hub *hub)
{
    struct revocations *revocations = hub->revocations;
    if (!hub->bus->ops->revoke)
        return;
    if (hub->bus->shared) {
        revocations->cursor[0] = '\0';
        revocations->whole = true;
        read_portion(hub);
    }
    look_soon(hub);
}

/* --- other nodes --- */

void revoked_on_revoke(struct hub *hub, const struct envelope *envelope)
{
    const struct revoke_message said = revoke_decode(envelope);
    struct counted_message answer = {.number = said.number};
    const struct revocation *revocation = learn(hub, &said, &answer.closed);
    if (!said.number || !revocation)
        return; /* who asked names this node among those that did not answer */
    struct envelope counted = counted_encode(&answer);
    node_send(hub, envelope->node, &counted);
}

/* --- what is asked for here --- */

static void finish(struct revoke_request *request)
{
    struct hub *hub = request->hub;
    timer_stop(&hub->timers, &request->timer);
    DL_DELETE(hub->revocations->requests, request);
    if (request->status != STATUS_OK)
        request->revocation->seen = 0; /* written once more after the next pass */
    request->done(request->ctx, request->status, request->closed,
                  (const char *const *)request->missing, request->missing_len);
    for (size_t i = 0; i < request->missing_len; i++)
        free(request->missing[i]);
    free(request->missing);
    free(request);
}

static void finish_where_all_is_there(struct revoke_request *request)
{
    if (request->stored && request->polled)
        finish(request);
}

static void on_store_late(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct revoke_request *request = CONTAINER_OF(timer, struct revoke_request, timer);
    request->status = STATUS_IO;
    request->stored = true;
    finish_where_all_is_there(request);
}

void revoked_on_stored(struct hub *hub, uint64_t tag, enum status status)
{
    struct revoke_request *request;
    DL_SEARCH_SCALAR(hub->revocations->requests, request, tag, tag);
    if (!request || request->stored)
        return;
    timer_stop(&hub->timers, &request->timer);
    request->status = status;
    request->stored = true;
    finish_where_all_is_there(request);
}

static void on_answer(void *ctx, struct slice node, const struct envelope *answer)
{
    struct revoke_request *request = ctx;
    (void)node;
    request->closed += counted_decode(answer).closed;
}

static void on_over(void *ctx, const char *const *missing, size_t len)
{
    struct revoke_request *request = ctx;
    request->missing = calloc(len + 1, sizeof(*request->missing));
    for (size_t i = 0; request->missing && i < len; i++) {
        request->missing[i] = strdup(missing[i]);
        request->missing_len += request->missing[i] != NULL;
    }
    request->polled = true;
    finish_where_all_is_there(request);
}

static const struct poll_events poll_events = {.on_answer = on_answer, .on_over = on_over};

/* The store has whole seconds: rounds up. */
static uint64_t whole_s(double s)
{
    uint64_t whole = (uint64_t)s;
    return (double)whole < s ? whole + 1 : whole;
}

enum status hub_revoke(struct hub *hub, const struct token_choice *choice, hub_revoked_fn *done,
                       void *ctx)
{
    char name[PREFIX_LEN + REVOKED_NAME_MAX + 1];
    if (!polls_have_room(hub))
        return STATUS_LIMIT;
    snprintf(name, sizeof(name), "%s%s", choice->sub ? "sub:" : "jti:", choice->name);
    struct revoke_message said = {.name = slice_of(name),
                                  .until_s = unix_s(hub) + REVOKED_FOR_S,
                                  .issued_before_s = whole_s(choice->issued_before_s)};
    uint64_t closed;
    struct revocation *revocation = learn(hub, &said, &closed);
    struct revoke_request *request = revocation ? calloc(1, sizeof(*request)) : NULL;
    if (!request)
        return STATUS_LIMIT;
    *request = (struct revoke_request){.hub = hub,
                                       .revocation = revocation,
                                       .tag = hub_tag(hub),
                                       .closed = closed,
                                       .stored = !hub->bus->ops->revoke,
                                       .done = done,
                                       .ctx = ctx};
    DL_APPEND(hub->revocations->requests, request);
    struct envelope envelope = revoke_encode(&said);
    poll_start(hub, &envelope, NODES_MS, &poll_events, request);
    if (request->stored)
        return STATUS_OK;
    timer_start(&hub->timers, &request->timer, hub->now_ms + STORE_MS, on_store_late);
    write_out(hub, request->tag, name, said.until_s, said.issued_before_s);
    return STATUS_OK;
}

/* --- the whole --- */

void revoked_new(struct hub *hub)
{
    hub->revocations = calloc(1, sizeof(*hub->revocations));
    if (!hub->revocations)
        abort();
    hub->revocations->hub = hub;
    hub->revocations->pass = 1;
}

void revoked_free(struct hub *hub)
{
    struct revocations *revocations = hub->revocations;
    struct revoke_request *request, *next;
    DL_FOREACH_SAFE (revocations->requests, request, next) {
        request->status = STATUS_IO;
        finish(request);
    }
    while (revocations->all)
        forget(revocations, revocations->all);
    timer_stop(&hub->timers, &revocations->look);
    timer_stop(&hub->timers, &revocations->close);
    free(revocations);
    hub->revocations = NULL;
}
