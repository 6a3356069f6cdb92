/*
 * The simulated store, with what Redis really may do: answers in order per connection, pub/sub
 * without memory, outcomes unknown when a link breaks, restarts with and without data. And each
 * node's links to it.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "sim.h"

#define LEASE(world) ((world)->conf->node.lease_ms)

static struct store *store_of(const struct sim_node *node)
{
    return &node->world->store;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t delay_us(struct world *world)
{
    return chance(world, 5) && !world->calm ? between(world, 1000, 80000)
                                            : between(world, 50, 1500);
}

static void request_free(struct request *request)
{
    if (--request->refs)
        return;
    DL_DELETE2(request->node->world->requests, request, all_prev, all_next);
    for (size_t i = 0; i < request->publications_len; i++)
        publication_unref(request->publications[i]);
    free(request->publications);
    free(request->bytes);
    free(request);
}

/* Channels. */

struct delivery {
    struct sim_node *node;
    unsigned life, generation;
    int session; /* -1: inbox */
    size_t len;
    uint8_t bytes[];
};

static void on_delivery_turn(void *ctx)
{
    struct delivery *delivery = ctx;
    struct sim_node *node = delivery->node;
    struct sim_bus *bus = node->bus;
    struct envelope envelope;
    struct envelope_item *items;
    if (bus->sub_up && !bus->deaf && bus->sub_generation == delivery->generation) {
        if (envelope_decode(delivery->bytes, delivery->len, &envelope, &items) != STATUS_OK)
            abort();
        if (envelope.type == ENVELOPE_PROBE)
            bus->heard_ms = envelope.number;
        else
            bus->bus.events->on_message(bus->bus.events_ctx, &envelope, delivery->session >= 0);
        free(items);
    }
    free(delivery);
}

static void on_delivery(void *ctx)
{
    struct delivery *delivery = ctx;
    node_event(delivery->node, delivery->life, on_delivery_turn, delivery);
}

static void deliver(struct sim_node *node, int session, const uint8_t *bytes, size_t len)
{
    struct world *world = node->world;
    struct sim_bus *bus = node->bus;
    if (bus->deaf || node->cut)
        return;
    struct delivery *delivery = malloc(sizeof *delivery + len);
    *delivery = (struct delivery){node, node->life, bus->sub_generation, session, len};
    memcpy(delivery->bytes, bytes, len);
    uint64_t at = world->now_us + delay_us(world);
    if (at <= bus->sub_us)
        at = bus->sub_us + 1;
    bus->sub_us = at;
    at_us(world, at, on_delivery, delivery);
}

static int publish_channel(struct world *world, int session, const struct envelope *envelope)
{
    uint8_t *bytes;
    size_t len;
    int receivers = 0;
    if (envelope_encode(envelope, &bytes, &len) != STATUS_OK)
        abort();
    for (int i = 0; i < NODES; i++) {
        if (!world->nodes[i].alive || !world->store.subscribed[i][session])
            continue;
        receivers++;
        deliver(&world->nodes[i], session, bytes, len);
    }
    free(bytes);
    return receivers;
}

static bool publish_inbox(struct world *world, const char *id, const uint8_t *bytes, size_t len)
{
    for (int i = 0; i < NODES; i++) {
        if (!world->nodes[i].alive || strcmp(world->nodes[i].id, id) != 0 || !world->store.inbox[i])
            continue;
        deliver(&world->nodes[i], -1, bytes, len);
        return true;
    }
    return false;
}

/* Scripts. */

static void note_grant(struct world *world, int session, const char *owner, uint64_t epoch)
{
    for (size_t i = 0; i < world->granted_len[session]; i++)
        if (world->granted[session][i].epoch == epoch && !world->loses_data && !world->rolls_back)
            world_fail(world, "%s: epoch %llu granted twice, to %s and %s", session_name(session),
                       (unsigned long long)epoch, world->granted[session][i].owner, owner);
    if (world->granted_len[session] < EPOCHS) {
        world->granted[session][world->granted_len[session]].epoch = epoch;
        snprintf(world->granted[session][world->granted_len[session]++].owner, 16, "%s", owner);
    }
    world_say(world, "%s granted to %s at %llu", session_name(session), owner,
              (unsigned long long)epoch);
}

static void announce(struct world *world, int session, const char *owner, uint64_t epoch,
                     uint64_t from)
{
    struct envelope grant = {.type = ENVELOPE_GRANT,
                             .session = slice_of(session_name(session)),
                             .node = slice_of(owner),
                             .epoch = epoch,
                             .number = from};
    publish_channel(world, session, &grant);
}

static uint64_t store_ms(const struct world *world)
{
    return 1700000000000u + world->now_us / 1000;
}

static void apply_claim(struct world *world, struct request *request)
{
    int session = session_index(request->session);
    struct record *record = &world->store.records[session];
    bool young = world->now_us - world->store.started_us < (uint64_t)LEASE(world) * 1000;
    bool free_now = !record->there || !record->owner[0];
    bool own = record->there && !strcmp(record->owner, request->node->id);
    bool dead = record->there && request->other[0] && !strcmp(record->owner, request->other) &&
                record->epoch == request->dead_epoch;
    if (!record->there && young && !request->holds) {
        request->status = STATUS_AGAIN;
        return;
    }
    if (!free_now && !own && !dead) {
        request->status = STATUS_REFUSED;
        memcpy(request->owner, record->owner, sizeof request->owner);
        request->answer_epoch = record->epoch;
        return;
    }
    if (dead)
        world->takeovers++;
    uint64_t epoch = larger(larger(record->there ? record->epoch + 1 : 1, request->seen_epoch + 1),
                            store_ms(world));
    record->there = true;
    record->epoch = epoch;
    snprintf(record->owner, sizeof record->owner, "%s", request->node->id);
    memcpy(request->owner, record->owner, sizeof request->owner);
    request->answer_epoch = epoch;
    note_grant(world, session, record->owner, epoch);
    announce(world, session, record->owner, epoch, 0);
}

static bool holds(const struct record *record, const struct request *request)
{
    return record->there && !strcmp(record->owner, request->node->id) &&
           record->epoch == request->epoch;
}

static void apply_release(struct world *world, struct request *request)
{
    struct record *record = &world->store.records[session_index(request->session)];
    if (!holds(record, request)) {
        request->status = STATUS_REFUSED;
        return;
    }
    record->owner[0] = '\0';
    world_say(world, "%s released by %s at %llu", request->session, request->node->id,
              (unsigned long long)request->epoch);
}

static void apply_transfer(struct world *world, struct request *request)
{
    int session = session_index(request->session);
    struct record *record = &world->store.records[session];
    if (!holds(record, request)) {
        request->status = STATUS_REFUSED;
        return;
    }
    record->epoch = larger(record->epoch + 1, store_ms(world));
    snprintf(record->owner, sizeof record->owner, "%s", request->other);
    request->answer_epoch = record->epoch;
    note_grant(world, session, record->owner, record->epoch);
    announce(world, session, record->owner, record->epoch, request->epoch);
}

static void apply_assert(struct world *world, struct request *request)
{
    struct record *record = &world->store.records[session_index(request->session)];
    if (!record->there || record->epoch < request->epoch) {
        record->there = true;
        record->epoch = request->epoch;
        snprintf(record->owner, sizeof record->owner, "%s", request->node->id);
        world_say(world, "%s asserted by %s at %llu", request->session, request->node->id,
                  (unsigned long long)request->epoch);
    } else if (!holds(record, request)) {
        request->status = STATUS_REFUSED;
        memcpy(request->owner, record->owner, sizeof request->owner);
        request->answer_epoch = record->epoch;
    }
}

static void note_truth(struct world *world, int session, struct position at)
{
    size_t n = world->truth_len[session];
    for (size_t i = n; i-- > 0;)
        if (world->truth[session][i].epoch == at.epoch) {
            world->truth[session][i].offset = larger(world->truth[session][i].offset, at.offset);
            return;
        }
    if (n < EPOCHS) {
        world->truth[session][n].epoch = at.epoch;
        world->truth[session][n].offset = at.offset;
        world->truth_len[session]++;
    }
}

/* Returns false where it is there already, or newer ones are. */
static bool keep(struct record *record, struct publication *publication, uint32_t size)
{
    if (!size)
        return true;
    if (record->history_len &&
        position_compare(record->history[record->history_len - 1]->at, publication->at) >= 0)
        return false;
    if (record->history_len == size) {
        publication_unref(record->history[0]);
        record->history_len--;
        memmove(record->history, record->history + 1,
                record->history_len * sizeof *record->history);
    }
    record->history[record->history_len++] = publication_ref(publication);
    return true;
}

static void apply_publish(struct world *world, struct request *request)
{
    int session = session_index(request->session);
    struct record *record = &world->store.records[session];
    if (!holds(record, request)) {
        request->status = STATUS_REFUSED;
        return;
    }
    if (strcmp(record->owner, request->node->id) != 0 || record->epoch != request->epoch)
        world_fail(world, "%s: the store took a publication of %s at %llu", request->session,
                   request->node->id, (unsigned long long)request->epoch);
    struct envelope_item items[512];
    bool news = false;
    assert(request->publications_len <= 512);
    for (size_t i = 0; i < request->publications_len; i++) {
        struct publication *publication = request->publications[i];
        news = keep(record, publication, request->history_size) || news;
        items[i] = (struct envelope_item){
            .kind = ITEM_PUBLICATION,
            .number = publication->at.offset,
            .time_ms = publication->time_ms,
            .opcode = (unsigned)publication->opcode,
            .bytes = {(const char *)publication->payload, publication->len},
        };
        note_truth(world, session, publication->at);
    }
    struct envelope push = {
        .type = ENVELOPE_PUSH,
        .session = slice_of(request->session),
        .node = slice_of(request->node->id),
        .epoch = request->epoch,
        .items = items,
        .items_len = request->publications_len,
    };
    if (request->announce && news)
        publish_channel(world, session, &push);
}

static void apply_history(struct world *world, struct request *request)
{
    struct record *record = &world->store.records[session_index(request->session)];
    request->publications = calloc(record->history_len + 1, sizeof *request->publications);
    if (record->history_len)
        request->oldest = record->history[0]->at;
    for (size_t i = 0; i < record->history_len; i++) {
        if (position_compare(record->history[i]->at, request->after) <= 0)
            continue;
        if (request->publications_len == request->limit) {
            request->more = true;
            break;
        }
        request->publications[request->publications_len++] = publication_ref(record->history[i]);
    }
}

static void apply_renew(struct world *world, struct request *request)
{
    struct store *store = &world->store;
    int mine = request->node->index;
    request->present = store->nodes[mine].id[0] != '\0';
    snprintf(store->nodes[mine].id, sizeof store->nodes[mine].id, "%s", request->node->id);
    store->nodes[mine].score = request->score;
    for (int i = 0; i < NODES; i++) {
        if (!store->nodes[i].id[0])
            continue;
        snprintf(request->node_ids[request->nodes_len], CONF_NAME_MAX + 1, "%s",
                 store->nodes[i].id);
        request->nodes[request->nodes_len] = (struct bus_node){NULL, store->nodes[i].score,
                                                               LEASE(world)};
        request->nodes_len++;
    }
}

static void apply(struct world *world, struct request *request)
{
    struct envelope envelope;
    struct envelope_item *items;
    int index = request->node->index;
    switch (request->kind) {
    case REQUEST_RENEW: apply_renew(world, request); break;
    case REQUEST_SIGN_OFF: world->store.nodes[index].id[0] = '\0'; break;
    case REQUEST_SUBSCRIBE:
    case REQUEST_UNSUBSCRIBE: break; /* go over the other link */
    case REQUEST_CLAIM: apply_claim(world, request); break;
    case REQUEST_RELEASE: apply_release(world, request); break;
    case REQUEST_TRANSFER: apply_transfer(world, request); break;
    case REQUEST_ASSERT: apply_assert(world, request); break;
    case REQUEST_PUBLISH: apply_publish(world, request); break;
    case REQUEST_HISTORY: apply_history(world, request); break;
    case REQUEST_TELL:
    case REQUEST_PROBE:
        if (!publish_inbox(world, request->other, request->bytes, request->bytes_len))
            request->status = STATUS_NOT_FOUND;
        break;
    case REQUEST_SHOUT:
        if (envelope_decode(request->bytes, request->bytes_len, &envelope, &items) != STATUS_OK)
            abort();
        publish_channel(world, session_index(request->session), &envelope);
        free(items);
        break;
    case REQUEST_LIST:
        request->nodes_len = 0;
        if (request->listing == BUS_LIST_NODES && world->store.nodes[index].id[0])
            request->score = world->store.nodes[index].score;
        break;
    }
}

/* Answers. */

static void answer_list(struct sim_bus *bus, const struct request *request)
{
    char renewed[32];
    snprintf(renewed, sizeof renewed, "%llu", (unsigned long long)request->score);
    struct bus_field field = {"renewed", renewed};
    struct bus_row row = {bus->node->id, &field, 1};
    bool there = request->status == STATUS_OK && request->listing == BUS_LIST_NODES &&
                 request->score;
    request->rows(request->rows_ctx, request->status, &row, there ? 1 : 0, NULL);
}

static void answer(struct sim_bus *bus, struct request *request)
{
    const struct bus_events *events = bus->bus.events;
    void *ctx = bus->bus.events_ctx;
    switch (request->kind) {
    case REQUEST_RENEW:
        for (size_t i = 0; i < request->nodes_len; i++)
            request->nodes[i].id = request->node_ids[i];
        events->on_renewed(ctx, request->tag, request->status, request->present, request->nodes,
                           request->nodes_len);
        break;
    case REQUEST_CLAIM:
        events->on_claimed(ctx, request->session, request->tag, request->status, request->owner,
                           request->answer_epoch);
        break;
    case REQUEST_RELEASE:
        events->on_released(ctx, request->session, request->tag, request->status);
        break;
    case REQUEST_TRANSFER:
        events->on_transferred(ctx, request->session, request->tag, request->status,
                               request->answer_epoch);
        break;
    case REQUEST_ASSERT:
        events->on_asserted(ctx, request->session, request->tag, request->status, request->owner,
                            request->answer_epoch);
        break;
    case REQUEST_PUBLISH:
        events->on_published(ctx, request->session, request->tag, request->status);
        break;
    case REQUEST_HISTORY:
        events->on_history(ctx, request->session, request->tag, request->status, request->oldest,
                           request->publications, request->publications_len, request->more);
        break;
    case REQUEST_TELL:
        if (request->tag)
            events->on_told(ctx, request->tag, request->status);
        break;
    case REQUEST_LIST: answer_list(bus, request); break;
    case REQUEST_SIGN_OFF:
    case REQUEST_SUBSCRIBE:
    case REQUEST_UNSUBSCRIBE:
    case REQUEST_SHOUT:
    case REQUEST_PROBE: break;
    }
}

static struct request *take_first(struct sim_bus *bus)
{
    struct request *request = bus->unanswered;
    bus->unanswered = request->next;
    if (!bus->unanswered)
        bus->unanswered_end = &bus->unanswered;
    return request;
}

/* The way of a request: to the store, applied, and back. A flag on each leg says whether its link
 * is still the same one. */

struct leg {
    struct world *world;
    struct sim_node *node;
    unsigned life, generation;
    struct request *request;
    bool late; /* its connection is gone, its answer will reach nobody */
};

static void leg_free(struct leg *leg)
{
    request_free(leg->request);
    free(leg);
}

static void on_answer_turn(void *ctx)
{
    struct leg *leg = ctx;
    struct sim_bus *bus = leg->node->bus;
    if (bus->generation == leg->generation && bus->unanswered == leg->request) {
        struct request *request = take_first(bus);
        answer(bus, request);
        request_free(request);
    }
    leg_free(leg);
}

static void on_answer(void *ctx)
{
    struct leg *leg = ctx;
    if (leg->node->life != leg->life || !leg->node->alive)
        leg_free(leg);
    else
        node_event(leg->node, leg->life, on_answer_turn, leg);
}

static bool same_link(const struct leg *leg)
{
    const struct sim_node *node = leg->node;
    return node->alive && node->life == leg->life && node->bus->generation == leg->generation &&
           node->bus->link_up;
}

static void on_arrival(void *ctx)
{
    struct leg *leg = ctx;
    struct world *world = leg->world;
    if (!same_link(leg) || !world->store.up || leg->node->cut) {
        /* Mostly lost; now and then what an old connection carried is read by the store later, when
         * a new one is in use already. */
        struct late *late = &world->late[leg->node->index];
        bool lost = late->life == leg->life && late->generation == leg->generation && late->lost;
        bool arrives = world->calm ? world->arrives_late : leg->node->alive && chance(world, 60);
        if (world->store.up && !leg->late && !lost && arrives) {
            bool same = late->life == leg->life && late->generation == leg->generation;
            uint64_t at = world->now_us + between(world, 100, 100000);
            if (same && at <= late->at_us)
                at = late->at_us + 1;
            *late = (struct late){leg->life, leg->generation, at, false};
            leg->late = true;
            at_us(world, at, on_arrival, leg);
            return;
        }
        if (!leg->late)
            *late = (struct late){leg->life, leg->generation, late->at_us, true};
        else if (world->store.up &&
                 (leg->request->kind != REQUEST_PUBLISH || leg->request->history_size))
            /* Without a history nothing tells a late double from news: not promised then */
            apply(world, leg->request);
        leg_free(leg);
        return;
    }
    struct sim_bus *bus = leg->node->bus;
    apply(world, leg->request);
    uint64_t at = world->now_us + delay_us(world);
    if (at <= bus->from_store_us)
        at = bus->from_store_us + 1;
    bus->from_store_us = at;
    at_us(world, at, on_answer, leg);
}

/* The network holds back what the node sends from now on; TCP delivers it in the end. */
void link_stall(struct sim_node *node, uint64_t for_us)
{
    world_say(node->world, "the link of %s stalls", node->id);
    node->bus->to_store_us = larger(node->bus->to_store_us, node->world->now_us + for_us);
}

static void bus_flush(struct bus *base)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    struct sim_node *node = bus->node;
    struct world *world = node->world;
    while (bus->outgoing) {
        struct request *request = bus->outgoing;
        bus->outgoing = request->next;
        request->next = NULL;
        *bus->unanswered_end = request;
        bus->unanswered_end = &request->next;
        struct leg *leg = malloc(sizeof *leg);
        *leg = (struct leg){world, node, node->life, bus->generation, request, false};
        request->refs++;
        if (world->spy)
            world->spy(world, request);
        uint64_t at = world->now_us + delay_us(world);
        if (at <= bus->to_store_us)
            at = bus->to_store_us + 1;
        bus->to_store_us = at;
        at_us(world, at, on_arrival, leg);
    }
    bus->outgoing_end = &bus->outgoing;
}

/* What a node asks while it knows of no link is answered in its next turn. */
struct bounce {
    struct sim_node *node;
    struct request *request;
};

static void on_bounce(void *ctx)
{
    struct bounce *bounce = ctx;
    bounce->request->status = STATUS_IO;
    answer(bounce->node->bus, bounce->request);
    request_free(bounce->request);
    free(bounce);
}

struct bounce_later {
    struct sim_node *node;
    unsigned life;
    struct bounce *bounce;
};

static void on_bounce_due(void *ctx)
{
    struct bounce_later *later = ctx;
    if (later->node->life == later->life && later->node->alive && later->node->paused) {
        at_us(later->node->world, later->node->world->now_us + 1000, on_bounce_due, later);
        return;
    }
    if (later->node->life == later->life && later->node->alive) {
        node_event(later->node, later->life, on_bounce, later->bounce);
    } else {
        request_free(later->bounce->request);
        free(later->bounce);
    }
    free(later);
}

static struct request *request_new(struct bus *base, enum request_kind kind, const char *session,
                                   uint64_t tag)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    struct request *request = calloc(1, sizeof *request);
    request->refs = 1;
    DL_APPEND2(bus->node->world->requests, request, all_prev, all_next);
    request->kind = kind;
    request->node = bus->node;
    request->tag = tag;
    if (session)
        snprintf(request->session, sizeof request->session, "%s", session);
    if (bus->connected) {
        *bus->outgoing_end = request;
        bus->outgoing_end = &request->next;
        return request;
    }
    struct bounce *bounce = malloc(sizeof *bounce);
    *bounce = (struct bounce){bus->node, request};
    struct bounce_later *later = malloc(sizeof *later);
    *later = (struct bounce_later){bus->node, bus->node->life, bounce};
    at_us(bus->node->world, bus->node->world->now_us + 1, on_bounce_due, later);
    return request;
}

static void bus_renew(struct bus *base, uint64_t tag)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    struct request *probe = request_new(base, REQUEST_PROBE, NULL, 0);
    struct envelope envelope = {
        .type = ENVELOPE_PROBE, .node = slice_of(bus->node->id), .number = node_now_ms(bus->node)};
    if (envelope_encode(&envelope, &probe->bytes, &probe->bytes_len) != STATUS_OK)
        abort();
    snprintf(probe->other, sizeof probe->other, "%s", bus->node->id);
    struct request *request = request_new(base, REQUEST_RENEW, NULL, tag);
    request->score = store_ms(bus->node->world) * 1000 + bus->node->world->now_us % 1000;
}

static uint64_t bus_heard_ms(const struct bus *base)
{
    return ((const struct sim_bus *)(const void *)base)->heard_ms;
}

static void bus_record_node(struct bus *base, const struct bus_node_record *record)
{
    (void)base;
    (void)record;
}

static void bus_sign_off(struct bus *base)
{
    request_new(base, REQUEST_SIGN_OFF, NULL, 0);
}

/* Subscriptions travel the other link. */

struct confirm {
    struct sim_node *node;
    unsigned life, generation;
    int session;
};

static void on_confirm_turn(void *ctx)
{
    struct confirm *confirm = ctx;
    struct sim_bus *bus = confirm->node->bus;
    if (bus->sub_up && bus->sub_generation == confirm->generation && bus->wants[confirm->session])
        bus->bus.events->on_subscribed(bus->bus.events_ctx, session_name(confirm->session));
    free(confirm);
}

static void on_confirm(void *ctx)
{
    struct confirm *confirm = ctx;
    node_event(confirm->node, confirm->life, on_confirm_turn, confirm);
}

static void on_subscribe_arrival(void *ctx)
{
    struct confirm *confirm = ctx;
    struct sim_node *node = confirm->node;
    struct world *world = node->world;
    if (!node->alive || node->life != confirm->life ||
        node->bus->sub_generation != confirm->generation || !node->bus->sub_up ||
        !world->store.up || node->cut || !node->bus->wants[confirm->session]) {
        free(confirm);
        return;
    }
    world->store.subscribed[node->index][confirm->session] = true;
    uint64_t at = world->now_us + delay_us(world);
    if (at <= node->bus->sub_us)
        at = node->bus->sub_us + 1;
    node->bus->sub_us = at;
    at_us(world, at, on_confirm, confirm);
}

static void send_subscribe(struct sim_bus *bus, int session)
{
    struct confirm *confirm = malloc(sizeof *confirm);
    *confirm = (struct confirm){bus->node, bus->node->life, bus->sub_generation, session};
    at_us(bus->node->world, bus->node->world->now_us + delay_us(bus->node->world),
          on_subscribe_arrival, confirm);
}

static void bus_subscribe(struct bus *base, const char *session)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    int index = session_index(session);
    bus->wants[index] = true;
    if (bus->sub_up)
        send_subscribe(bus, index);
}

static void bus_unsubscribe(struct bus *base, const char *session)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    bus->wants[session_index(session)] = false;
    store_of(bus->node)->subscribed[bus->node->index][session_index(session)] = false;
}

static void bus_claim(struct bus *base, const char *session, uint64_t tag,
                      const struct bus_claim *claim)
{
    struct request *request = request_new(base, REQUEST_CLAIM, session, tag);
    if (claim->dead_owner)
        snprintf(request->other, sizeof request->other, "%s", claim->dead_owner);
    request->dead_epoch = claim->dead_epoch;
    request->seen_epoch = claim->seen_epoch;
    request->holds = claim->holds;
}

static void bus_release(struct bus *base, const char *session, uint64_t tag, uint64_t epoch,
                        uint64_t keep_ms)
{
    (void)keep_ms;
    request_new(base, REQUEST_RELEASE, session, tag)->epoch = epoch;
}

static void bus_transfer(struct bus *base, const char *session, uint64_t tag, uint64_t epoch,
                         const char *to)
{
    struct request *request = request_new(base, REQUEST_TRANSFER, session, tag);
    request->epoch = epoch;
    snprintf(request->other, sizeof request->other, "%s", to);
}

static void bus_assert_owner(struct bus *base, const char *session, uint64_t tag, uint64_t epoch,
                             const char *upstream)
{
    (void)upstream;
    request_new(base, REQUEST_ASSERT, session, tag)->epoch = epoch;
}

static void bus_record_session(struct bus *base, const char *session, uint64_t epoch,
                               const struct bus_session_record *record)
{
    (void)base;
    (void)session;
    (void)epoch;
    (void)record;
}

static void bus_publish(struct bus *base, const char *session, uint64_t tag, uint64_t epoch,
                        struct publication *const *publications, size_t len, uint32_t history_size,
                        uint64_t ttl_ms, bool announce_it)
{
    (void)ttl_ms;
    struct request *request = request_new(base, REQUEST_PUBLISH, session, tag);
    request->epoch = epoch;
    request->history_size = history_size;
    request->announce = announce_it;
    request->publications = calloc(len, sizeof *publications);
    request->publications_len = len;
    for (size_t i = 0; i < len; i++)
        request->publications[i] = publication_ref(publications[i]);
}

static void bus_history(struct bus *base, const char *session, uint64_t tag, struct position after,
                        size_t limit)
{
    struct request *request = request_new(base, REQUEST_HISTORY, session, tag);
    request->after = after;
    request->limit = chance(request->node->world, 30) ? 3 : limit; /* pages, too */
}

static void bus_tell(struct bus *base, const char *node, const struct envelope *envelope,
                     uint64_t tag)
{
    struct request *request = request_new(base, REQUEST_TELL, NULL, tag);
    snprintf(request->other, sizeof request->other, "%s", node);
    if (envelope_encode(envelope, &request->bytes, &request->bytes_len) != STATUS_OK)
        abort();
}

static void bus_shout(struct bus *base, const char *session, const struct envelope *envelope)
{
    struct request *request = request_new(base, REQUEST_SHOUT, session, 0);
    if (envelope_encode(envelope, &request->bytes, &request->bytes_len) != STATUS_OK)
        abort();
}

static void bus_list(struct bus *base, enum bus_listing listing, const char *after, size_t limit,
                     bus_rows_fn *fn, void *ctx)
{
    struct request *request = request_new(base, REQUEST_LIST, NULL, 0);
    (void)limit;
    if (after)
        snprintf(request->session, sizeof request->session, "%s", after);
    request->listing = listing;
    request->rows = fn;
    request->rows_ctx = ctx;
}

static void bus_free(struct bus *base)
{
    (void)base;
}

static const struct bus_ops ops = {
    .renew = bus_renew,
    .heard_ms = bus_heard_ms,
    .record_node = bus_record_node,
    .sign_off = bus_sign_off,
    .subscribe = bus_subscribe,
    .unsubscribe = bus_unsubscribe,
    .claim = bus_claim,
    .release = bus_release,
    .transfer = bus_transfer,
    .assert_owner = bus_assert_owner,
    .record_session = bus_record_session,
    .publish = bus_publish,
    .history = bus_history,
    .tell = bus_tell,
    .shout = bus_shout,
    .list = bus_list,
    .flush = bus_flush,
    .free = bus_free,
};

struct sim_bus *sim_bus_new(struct sim_node *node)
{
    struct sim_bus *bus = calloc(1, sizeof *bus);
    bus->bus.ops = &ops;
    bus->bus.shared = true;
    bus->node = node;
    bus->outgoing_end = &bus->outgoing;
    bus->unanswered_end = &bus->unanswered;
    return bus;
}

void sim_bus_free(struct sim_bus *bus)
{
    struct store *store = store_of(bus->node);
    while (bus->unanswered)
        request_free(take_first(bus));
    while (bus->outgoing) {
        struct request *request = bus->outgoing;
        bus->outgoing = request->next;
        request_free(request);
    }
    store->inbox[bus->node->index] = false;
    memset(store->subscribed[bus->node->index], 0, sizeof store->subscribed[0]);
    free(bus);
}

/* Breaking and mending. */

struct change {
    struct sim_node *node;
    unsigned life, generation;
};

static void at_node(struct sim_node *node, uint64_t after_us, event_fn *fn, unsigned generation)
{
    struct change *change = malloc(sizeof *change);
    *change = (struct change){node, node->life, generation};
    at_us(node->world, node->world->now_us + after_us, fn, change);
}

static void try_connect(void *ctx);

static void on_connected_turn(void *ctx)
{
    struct change *change = ctx;
    struct sim_bus *bus = change->node->bus;
    if (bus->generation == change->generation && bus->link_up && !bus->connected) {
        bus->connected = true;
        bus->bus.events->on_connected(bus->bus.events_ctx);
    } else if (!bus->connected) {
        at_node(change->node, between(change->node->world, 20000, 300000), try_connect, 0);
    }
    free(change);
}

static void on_connected(void *ctx)
{
    struct change *change = ctx;
    node_event(change->node, change->life, on_connected_turn, change);
}

static void try_connect(void *ctx);

static void on_disconnected_turn(void *ctx)
{
    struct change *change = ctx;
    struct sim_bus *bus = change->node->bus;
    if (bus->connected && bus->generation == change->generation) {
        bus->generation++;
        while (bus->unanswered) {
            struct request *request = take_first(bus);
            request->status = STATUS_IO;
            answer(bus, request);
            request_free(request);
        }
        bus->connected = false;
        while (bus->outgoing) { /* asked for in this very turn */
            struct request *request = bus->outgoing;
            bus->outgoing = request->next;
            request->status = STATUS_IO;
            answer(bus, request);
            request_free(request);
        }
        bus->outgoing_end = &bus->outgoing;
        bus->bus.events->on_disconnected(bus->bus.events_ctx);
        at_node(change->node,
                change->node->world->calm || chance(change->node->world, 50)
                    ? 1000
                    : between(change->node->world, 1000, 300000),
                try_connect, 0);
    }
    free(change);
}

static void on_disconnected(void *ctx)
{
    struct change *change = ctx;
    node_event(change->node, change->life, on_disconnected_turn, change);
}

static bool reachable(const struct sim_node *node)
{
    return node->world->store.up && !node->cut;
}

static void try_connect(void *ctx)
{
    struct change *change = ctx;
    struct sim_node *node = change->node;
    if (node->alive && node->life == change->life && !node->bus->connected) {
        if (reachable(node) && !node->paused) {
            node->bus->link_up = true;
            at_node(node, delay_us(node->world), on_connected, node->bus->generation);
        } else {
            at_node(node, between(node->world, 20000, 300000), try_connect, 0);
        }
    }
    free(change);
}

static void try_subscribe(void *ctx);

static void sub_connect(struct sim_node *node)
{
    struct sim_bus *bus = node->bus;
    bus->sub_up = true;
    bus->deaf = false;
    bus->sub_generation++;
    node->world->store.inbox[node->index] = true;
    memset(node->world->store.subscribed[node->index], 0, sizeof node->world->store.subscribed[0]);
    for (int i = 0; i < SESSIONS; i++)
        if (bus->wants[i])
            send_subscribe(bus, i);
}

static void try_subscribe(void *ctx)
{
    struct change *change = ctx;
    struct sim_node *node = change->node;
    if (node->alive && node->life == change->life && !node->bus->sub_up) {
        if (reachable(node) && !node->paused && !node->unheard)
            sub_connect(node);
        else
            at_node(node, between(node->world, 20000, 300000), try_subscribe, 0);
    }
    free(change);
}

static void on_sub_lost(void *ctx)
{
    struct change *change = ctx;
    struct sim_node *node = change->node;
    if (node->alive && node->life == change->life &&
        node->bus->sub_generation == change->generation) {
        node->bus->sub_up = false;
        at_node(node, between(node->world, 1000, 200000), try_subscribe, 0);
    }
    free(change);
}

void sub_cut(struct sim_node *node, bool deaf)
{
    struct world *world = node->world;
    world_say(world, "subscriptions of %s %s", node->id, deaf ? "go deaf" : "are cut");
    if (deaf) {
        node->bus->deaf = true; /* TCP is healthy; the probe finds out within a lease */
        at_node(node, between(world, 100000, (uint64_t)LEASE(world) * 1000), on_sub_lost,
                node->bus->sub_generation);
        return;
    }
    world->store.inbox[node->index] = false;
    memset(world->store.subscribed[node->index], 0, sizeof world->store.subscribed[0]);
    at_node(node, 1, on_sub_lost, node->bus->sub_generation);
}

static void break_links(struct sim_node *node)
{
    struct world *world = node->world;
    struct sim_bus *bus = node->bus;
    world->store.inbox[node->index] = false;
    memset(world->store.subscribed[node->index], 0, sizeof world->store.subscribed[0]);
    bus->link_up = false;
    at_node(node, between(world, 1, 1500000), on_disconnected, bus->generation);
    at_node(node, between(world, 1, 1500000), on_sub_lost, bus->sub_generation);
}

void link_cut(struct sim_node *node)
{
    world_say(node->world, "node %s is cut off from the store", node->id);
    node->cut = true;
    break_links(node);
}

void link_blink(struct sim_node *node)
{
    struct sim_bus *bus = node->bus;
    if (!bus->connected || !bus->link_up)
        return;
    world_say(node->world, "the command link of %s breaks", node->id);
    bus->link_up = false;
    bus->to_store_us = node->world->now_us; /* a new connection waits for nothing of the old one */
    at_node(node, between(node->world, 100, 2000), on_disconnected, bus->generation);
}

void link_heal(struct sim_node *node)
{
    node->cut = false;
    if (!node->bus->connected)
        at_node(node, between(node->world, 100, 5000), try_connect, 0);
    if (!node->bus->sub_up)
        at_node(node, between(node->world, 100, 5000), try_subscribe, 0);
}

void requests_free(struct world *world)
{
    while (world->requests) {
        world->requests->refs = 1;
        request_free(world->requests);
    }
}

void store_clear(struct store *store)
{
    for (int i = 0; i < SESSIONS; i++) {
        for (size_t k = 0; k < store->records[i].history_len; k++)
            publication_unref(store->records[i].history[k]);
        memset(&store->records[i], 0, sizeof store->records[i]);
    }
    memset(store->nodes, 0, sizeof store->nodes);
}

void store_stop(struct world *world, bool lose_data)
{
    world_say(world, "the store stops%s", lose_data ? " and loses its data" : "");
    world->store.up = false;
    for (int i = 0; i < NODES; i++)
        if (world->nodes[i].alive)
            break_links(&world->nodes[i]);
    if (lose_data)
        store_clear(&world->store);
}

static void copy_record(struct record *to, const struct record *from)
{
    for (size_t k = 0; k < to->history_len; k++)
        publication_unref(to->history[k]);
    *to = *from;
    for (size_t k = 0; k < to->history_len; k++)
        publication_ref(to->history[k]);
}

void store_remember(struct world *world)
{
    for (int i = 0; i < SESSIONS; i++)
        copy_record(&world->before[i], &world->store.records[i]);
}

void store_repeat_stale(struct world *world, int session)
{
    size_t n = world->granted_len[session];
    if (n < 2)
        return;
    const char text[] = "stale";
    struct envelope_item item = {.kind = ITEM_PUBLICATION,
                                 .number = between(world, 1, 60),
                                 .opcode = OPCODE_TEXT,
                                 .bytes = {text, sizeof text - 1}};
    struct envelope push = {
        .type = ENVELOPE_PUSH,
        .session = slice_of(session_name(session)),
        .node = slice_of(world->granted[session][n - 2].owner),
        .epoch = world->granted[session][n - 2].epoch,
        .items = &item,
        .items_len = 1,
    };
    publish_channel(world, session, &push);
}

void store_lie(struct world *world, int node, const struct envelope *envelope)
{
    uint8_t *bytes;
    size_t len;
    if (envelope_encode(envelope, &bytes, &len) != STATUS_OK)
        abort();
    publish_inbox(world, world->nodes[node].id, bytes, len);
    free(bytes);
    for (int i = 0; i < SESSIONS; i++)
        if (envelope->session.at == session_name(i) && chance(world, 30))
            publish_channel(world, i, envelope);
}

void store_roll_back(struct world *world)
{
    world_say(world, "the store fails over and has lost its latest writes");
    for (int i = 0; i < SESSIONS; i++)
        copy_record(&world->store.records[i], &world->before[i]);
    for (int i = 0; i < NODES; i++)
        if (world->nodes[i].alive)
            break_links(&world->nodes[i]);
    world->rolled_back_us = world->now_us;
}

void store_start(struct world *world)
{
    world_say(world, "the store is back");
    world->store.up = true;
    world->store.started_us = world->now_us;
}
