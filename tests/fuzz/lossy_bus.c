#include "lossy_bus.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum answer_kind {
    RENEWED,
    CLAIMED,
    RELEASED,
    TRANSFERRED,
    ASSERTED,
    PUBLISHED,
    HISTORY,
    TOLD,
    LISTED
};

/* A call that a broken connection still has to answer. */
struct owed {
    struct owed *next;
    enum answer_kind kind;
    char *session;
    uint64_t tag;
    bus_rows_fn *rows;
    void *ctx;
};

struct lossy_subscription {
    struct lossy_subscription *next;
    char session[];
};

struct lossy {
    struct bus bus; /* first */
    struct bus *inner;
    bool up, told_up;
    bool losing; /* events of the inner bus are dropped */
    bool deaf;   /* messages are dropped */
    uint64_t heard_ms;
    struct owed *first, **last;
    struct lossy_subscription *wanted;
};

static struct lossy *of(const struct bus *bus)
{
    return (struct lossy *)(uintptr_t)bus;
}

/* --- answers --- */

static void answer_io(struct lossy *l, const struct owed *owed)
{
    const struct bus_events *events = l->bus.events;
    void *ctx = l->bus.events_ctx;
    const char *session = owed->session;
    const struct position nowhere = {0, 0};
    switch (owed->kind) {
    case RENEWED: events->on_renewed(ctx, owed->tag, STATUS_IO, false, NULL, 0); break;
    case CLAIMED: events->on_claimed(ctx, session, owed->tag, STATUS_IO, "", 0); break;
    case RELEASED: events->on_released(ctx, session, owed->tag, STATUS_IO); break;
    case TRANSFERRED: events->on_transferred(ctx, session, owed->tag, STATUS_IO, 0); break;
    case ASSERTED: events->on_asserted(ctx, session, owed->tag, STATUS_IO, "", 0); break;
    case PUBLISHED: events->on_published(ctx, session, owed->tag, STATUS_IO); break;
    case HISTORY:
        events->on_history(ctx, session, owed->tag, STATUS_IO, nowhere, NULL, 0, false);
        break;
    case TOLD: events->on_sent(ctx, owed->tag, STATUS_IO); break;
    case LISTED: owed->rows(owed->ctx, STATUS_IO, NULL, 0, NULL); break;
    }
}

static void owe(struct lossy *l, const struct owed *what)
{
    struct owed *owed = malloc(sizeof(*owed));
    *owed = *what;
    owed->session = what->session ? strdup(what->session) : NULL;
    owed->next = NULL;
    *l->last = owed;
    l->last = &owed->next;
}

/* True if there is a connection; otherwise the answer is owed. */
static bool may_ask(struct lossy *l, enum answer_kind kind, const char *session, uint64_t tag)
{
    if (!l->up)
        owe(l, &(struct owed){.kind = kind, .session = (char *)(uintptr_t)session, .tag = tag});
    return l->up;
}

static struct owed *owed_take(struct lossy *l)
{
    struct owed *owed = l->first;
    l->first = owed->next;
    if (!l->first)
        l->last = &l->first;
    return owed;
}

static void owed_free(struct owed *owed)
{
    free(owed->session);
    free(owed);
}

/* --- events of the inner bus --- */

#define LOST(answer)                                                                            \
    if (l->losing) {                                                                            \
        answer_io(l, &(struct owed){                                                            \
                         .session = (char *)(uintptr_t)session, .tag = tag, .kind = (answer)}); \
        return;                                                                                 \
    }

static void on_connected(void *ctx)
{
    struct lossy *l = ctx;
    if (!l->up)
        return;
    l->told_up = true;
    l->bus.events->on_connected(l->bus.events_ctx);
}

static void on_disconnected(void *ctx)
{
    (void)ctx;
    assert(!"the bus in memory never is");
}

static void on_renewed(void *ctx, uint64_t tag, enum status status, bool present,
                       const struct bus_node *nodes, size_t len)
{
    struct lossy *l = ctx;
    const char *session = NULL;
    LOST(RENEWED)
    l->bus.events->on_renewed(l->bus.events_ctx, tag, status, present, nodes, len);
}

static void on_subscribed(void *ctx, const char *session)
{
    struct lossy *l = ctx;
    if (!l->losing)
        l->bus.events->on_subscribed(l->bus.events_ctx, session);
}

static void on_claimed(void *ctx, const char *session, uint64_t tag, enum status status,
                       const char *owner, uint64_t epoch)
{
    struct lossy *l = ctx;
    LOST(CLAIMED)
    l->bus.events->on_claimed(l->bus.events_ctx, session, tag, status, owner, epoch);
}

static void on_released(void *ctx, const char *session, uint64_t tag, enum status status)
{
    struct lossy *l = ctx;
    LOST(RELEASED)
    l->bus.events->on_released(l->bus.events_ctx, session, tag, status);
}

static void on_transferred(void *ctx, const char *session, uint64_t tag, enum status status,
                           uint64_t epoch)
{
    struct lossy *l = ctx;
    LOST(TRANSFERRED)
    l->bus.events->on_transferred(l->bus.events_ctx, session, tag, status, epoch);
}

static void on_asserted(void *ctx, const char *session, uint64_t tag, enum status status,
                        const char *owner, uint64_t epoch)
{
    struct lossy *l = ctx;
    LOST(ASSERTED)
    l->bus.events->on_asserted(l->bus.events_ctx, session, tag, status, owner, epoch);
}

static void on_published(void *ctx, const char *session, uint64_t tag, enum status status)
{
    struct lossy *l = ctx;
    LOST(PUBLISHED)
    l->bus.events->on_published(l->bus.events_ctx, session, tag, status);
}

static void on_history(void *ctx, const char *session, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *publications, size_t len,
                       bool more)
{
    struct lossy *l = ctx;
    LOST(HISTORY)
    l->bus.events->on_history(l->bus.events_ctx, session, tag, status, oldest, publications, len,
                              more);
}

static void on_sent(void *ctx, uint64_t tag, enum status status)
{
    struct lossy *l = ctx;
    const char *session = NULL;
    LOST(TOLD)
    l->bus.events->on_sent(l->bus.events_ctx, tag, status);
}

static void on_message(void *ctx, const struct envelope *envelope, bool push)
{
    struct lossy *l = ctx;
    if (!l->losing && !l->deaf)
        l->bus.events->on_message(l->bus.events_ctx, envelope, push);
}

static const struct bus_events inner_events = {
    .on_connected = on_connected,
    .on_disconnected = on_disconnected,
    .on_renewed = on_renewed,
    .on_subscribed = on_subscribed,
    .on_claimed = on_claimed,
    .on_released = on_released,
    .on_transferred = on_transferred,
    .on_asserted = on_asserted,
    .on_published = on_published,
    .on_history = on_history,
    .on_sent = on_sent,
    .on_message = on_message,
};

/* --- calls of the core --- */

static void renew(struct bus *bus, uint64_t tag)
{
    struct lossy *l = of(bus);
    if (may_ask(l, RENEWED, NULL, tag))
        l->inner->ops->renew(l->inner, tag);
}

static uint64_t heard_ms(const struct bus *bus)
{
    struct lossy *l = of(bus);
    if (l->up)
        l->heard_ms = fuzz_now_ms;
    return l->heard_ms;
}

static void record_node(struct bus *bus, const struct bus_node_record *record)
{
    struct lossy *l = of(bus);
    if (l->up)
        l->inner->ops->record_node(l->inner, record);
}

static void sign_off(struct bus *bus)
{
    struct lossy *l = of(bus);
    if (l->up)
        l->inner->ops->sign_off(l->inner);
}

static struct lossy_subscription **wanted_at(struct lossy *l, const char *session)
{
    struct lossy_subscription **at = &l->wanted;
    while (*at && strcmp((*at)->session, session) != 0)
        at = &(*at)->next;
    return at;
}

static void subscribe(struct bus *bus, const char *session)
{
    struct lossy *l = of(bus);
    struct lossy_subscription **at = wanted_at(l, session);
    if (!*at) {
        *at = calloc(1, sizeof(**at) + strlen(session) + 1);
        strcpy((*at)->session, session);
    }
    if (l->up)
        l->inner->ops->subscribe(l->inner, session);
}

static void unsubscribe(struct bus *bus, const char *session)
{
    struct lossy *l = of(bus);
    struct lossy_subscription **at = wanted_at(l, session), *gone = *at;
    if (gone) {
        *at = gone->next;
        free(gone);
    }
    l->inner->ops->unsubscribe(l->inner, session);
}

static void claim(struct bus *bus, const char *session, uint64_t tag, const struct bus_claim *claim)
{
    struct lossy *l = of(bus);
    if (may_ask(l, CLAIMED, session, tag))
        l->inner->ops->claim(l->inner, session, tag, claim);
}

static void release(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                    uint64_t keep_ms)
{
    struct lossy *l = of(bus);
    if (may_ask(l, RELEASED, session, tag))
        l->inner->ops->release(l->inner, session, tag, epoch, keep_ms);
}

static void transfer(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                     const char *to)
{
    struct lossy *l = of(bus);
    if (may_ask(l, TRANSFERRED, session, tag))
        l->inner->ops->transfer(l->inner, session, tag, epoch, to);
}

static void assert_owner(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                         const char *upstream)
{
    struct lossy *l = of(bus);
    if (may_ask(l, ASSERTED, session, tag))
        l->inner->ops->assert_owner(l->inner, session, tag, epoch, upstream);
}

static void record_session(struct bus *bus, const char *session, uint64_t epoch,
                           const struct bus_session_record *record)
{
    struct lossy *l = of(bus);
    if (l->up)
        l->inner->ops->record_session(l->inner, session, epoch, record);
}

static void publish(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                    struct publication *const *publications, size_t len, uint32_t history_size,
                    uint64_t ttl_ms, unsigned how)
{
    struct lossy *l = of(bus);
    if (may_ask(l, PUBLISHED, session, tag))
        l->inner->ops->publish(l->inner, session, tag, epoch, publications, len, history_size,
                               ttl_ms, how);
}

static void history(struct bus *bus, const char *session, uint64_t tag, struct position after,
                    size_t limit)
{
    struct lossy *l = of(bus);
    if (may_ask(l, HISTORY, session, tag))
        l->inner->ops->history(l->inner, session, tag, after, limit);
}

static void tell(struct bus *bus, const char *node, const struct envelope *envelope, uint64_t tag)
{
    struct lossy *l = of(bus);
    if (tag == 0 ? l->up : may_ask(l, TOLD, NULL, tag))
        l->inner->ops->send(l->inner, node, envelope, tag);
}

static void shout(struct bus *bus, const char *session, const struct envelope *envelope)
{
    struct lossy *l = of(bus);
    if (l->up)
        l->inner->ops->broadcast(l->inner, session, envelope);
}

/* Listings are never lost: their answers go straight to the caller. */
static void list(struct bus *bus, enum bus_listing listing, const char *after, size_t limit,
                 bus_rows_fn *fn, void *ctx)
{
    struct lossy *l = of(bus);
    if (l->up)
        l->inner->ops->list(l->inner, listing, after, limit, fn, ctx);
    else
        owe(l, &(struct owed){.kind = LISTED, .rows = fn, .ctx = ctx});
}

static void pay(struct lossy *l)
{
    const struct owed *end = NULL;
    for (struct owed *owed = l->first; owed; owed = owed->next)
        end = owed;
    for (bool last = !end; !last;) { /* calls made meanwhile are answered next time */
        struct owed *owed = owed_take(l);
        last = owed == end;
        answer_io(l, owed);
        owed_free(owed);
    }
}

static void flush(struct bus *bus)
{
    struct lossy *l = of(bus);
    l->losing = !l->up;
    l->inner->ops->flush(l->inner);
    l->losing = false;
    pay(l);
}

static void lossy_free(struct bus *bus)
{
    struct lossy *l = of(bus);
    l->inner->ops->free(l->inner);
    while (l->first)
        owed_free(owed_take(l));
    while (l->wanted) {
        struct lossy_subscription *gone = l->wanted;
        l->wanted = gone->next;
        free(gone);
    }
    free(l);
}

static const struct bus_ops lossy_ops = {
    .renew = renew,
    .heard_ms = heard_ms,
    .record_node = record_node,
    .sign_off = sign_off,
    .subscribe = subscribe,
    .unsubscribe = unsubscribe,
    .claim = claim,
    .release = release,
    .transfer = transfer,
    .assert_owner = assert_owner,
    .record_session = record_session,
    .publish = publish,
    .history = history,
    .send = tell,
    .broadcast = shout,
    .list = list,
    .flush = flush,
    .free = lossy_free,
};

struct bus *lossy_bus_new(struct bus *inner)
{
    struct lossy *l = calloc(1, sizeof(*l));
    l->bus.ops = &lossy_ops;
    l->bus.shared = true;
    l->inner = inner;
    l->up = true;
    l->last = &l->first;
    bus_listen(inner, &inner_events, l);
    return &l->bus;
}

/* --- what the target does to it --- */

void lossy_bus_break(struct bus *bus)
{
    struct lossy *l = of(bus);
    if (!l->up)
        return;
    heard_ms(bus);
    l->up = false;
    flush(bus); /* calls are carried out, but their answers are lost */
    if (l->told_up)
        l->bus.events->on_disconnected(l->bus.events_ctx);
    l->told_up = false;
}

void lossy_bus_restore(struct bus *bus)
{
    struct lossy *l = of(bus);
    if (l->up)
        return;
    flush(bus); /* what came meanwhile */
    l->up = true;
    l->told_up = true;
    l->bus.events->on_connected(l->bus.events_ctx);
    for (const struct lossy_subscription *wanted = l->wanted; wanted; wanted = wanted->next)
        l->inner->ops->subscribe(l->inner, wanted->session);
}

void lossy_bus_resubscribe(struct bus *bus)
{
    struct lossy *l = of(bus);
    if (!l->up)
        return;
    l->deaf = true;
    l->inner->ops->flush(l->inner);
    l->deaf = false;
    for (const struct lossy_subscription *wanted = l->wanted; wanted; wanted = wanted->next)
        l->inner->ops->subscribe(l->inner, wanted->session);
}

void lossy_bus_forge(struct bus *bus, const struct envelope *envelope, bool push)
{
    bus->events->on_message(bus->events_ctx, envelope, push);
}
