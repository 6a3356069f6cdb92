/*
 * The simulated store, with what Redis really may do: scripts that run whole, restarts with and
 * without data, fail-overs that lose the latest writes.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "store.h"

static void note_grant(struct world *world, int session, const char *owner, uint64_t epoch)
{
    for (size_t i = 0; i < world->granted_len[session]; i++)
        if (world->granted[session][i].epoch == epoch && !world->loses_data && !world->rolls_back)
            world_fail(world, "%s: epoch %llu granted twice, to %s and %s", session_name(session),
                       (unsigned long long)epoch, world->granted[session][i].owner, owner);
    if (world->granted_len[session] < EPOCHS) {
        size_t n = world->granted_len[session]++;
        world->granted[session][n].epoch = epoch;
        world->granted[session][n].delivered = 0;
        world->granted[session][n].deserted = false;
        world->granted[session][n].at_us = world->now_us;
        world->granted[session][n].life = world->nodes[owner[1] - '0'].life; /* nodes are n0, n1 */
        snprintf(world->granted[session][n].owner, 16, "%s", owner);
    }
    world_say(world, "%s granted to %s at %llu", session_name(session), owner,
              (unsigned long long)epoch);
}

static void announce(struct world *world, int session, const char *owner, uint64_t epoch,
                     uint64_t from)
{
    const struct grant_message message = {epoch, from};
    struct envelope grant = grant_encode(&message);
    grant.session = slice_of(session_name(session));
    grant.node = slice_of(owner);
    channel_publish(world, session, &grant);
}

uint64_t store_ms(const struct world *world)
{
    return 1700000000000u + world->now_us / 1000;
}

struct truth *truth_of(struct world *world, int session, uint64_t epoch)
{
    size_t n = world->truth_len[session];
    for (size_t i = n; i-- > 0;)
        if (world->truth[session][i].epoch == epoch)
            return &world->truth[session][i];
    if (n == EPOCHS)
        return NULL;
    world->truth[session][n] = (struct truth){.epoch = epoch};
    world->truth_len[session]++;
    return &world->truth[session][n];
}

static void note_truth(struct world *world, int session, struct position at)
{
    struct truth *truth = truth_of(world, session, at.epoch);
    if (truth)
        truth->offset = larger(truth->offset, at.offset);
}

/* Returns false where it is there already, or newer ones are. */
static bool keep(struct record *record, struct publication *publication, uint32_t size)
{
    if (!size)
        return true;
    if (record->history_len &&
        position_compare(record->history[record->history_len - 1]->at, publication->at) >= 0)
        return false;
    while (record->history_len >= size) {
        publication_unref(record->history[0]);
        record->history_len--;
        memmove(record->history, record->history + 1,
                record->history_len * sizeof *record->history);
    }
    record->history[record->history_len++] = publication_ref(publication);
    return true;
}

/* Whoever owned it has ended without releasing it, and wrote late: something may be missing. */
static void tear_end(struct world *world, int session)
{
    struct record *record = &world->store.records[session];
    struct truth *truth = truth_of(world, session, record->epoch);
    world_say(world, "%s: the end of %llu may be missing", session_name(session),
              (unsigned long long)record->epoch);
    if (truth)
        truth->torn = true;
    if (!record->history_len)
        return;
    struct publication *note = publication_lost_end(record->epoch);
    keep(record, note, 256);
    publication_unref(note);
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
    if (record->late && record->owner[0] && !request->holds)
        tear_end(world, session);
    record->late = false;
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
    record->late = false;
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
        record->late = false;
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
    if (request->how & (BUS_LATE | BUS_PROMPT)) {
        record->late = request->how & BUS_LATE;
        world_say(world, "%s of %s is written %s", request->session, request->node->id,
                  record->late ? "late" : "with each push");
    }
    struct envelope_item items[512];
    bool news = false;
    assert(request->publications_len <= 512);
    for (size_t i = 0; i < request->publications_len; i++) {
        struct publication *publication = request->publications[i];
        news = keep(record, publication, request->history_size) || news;
        items[i] = publication_as_item(publication);
        note_truth(world, session, publication->at);
    }
    const struct push_message message = {request->epoch, {items, request->publications_len}};
    struct envelope push = push_encode(&message);
    push.session = slice_of(request->session);
    push.node = slice_of(request->node->id);
    if ((request->how & BUS_ANNOUNCE) && news)
        channel_publish(world, session, &push);
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

void store_apply(struct world *world, struct request *request)
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
        if (!inbox_publish(world, request->other, request->bytes, request->bytes_len))
            request->status = STATUS_NOT_FOUND;
        break;
    case REQUEST_SHOUT:
        if (envelope_decode(request->bytes, request->bytes_len, &envelope, &items) != STATUS_OK)
            abort();
        channel_publish(world, session_index(request->session), &envelope);
        free(items);
        break;
    case REQUEST_LIST:
        request->nodes_len = 0;
        if (request->listing == BUS_LIST_NODES && world->store.nodes[index].id[0])
            request->score = world->store.nodes[index].score;
        break;
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
            links_break(&world->nodes[i]);
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

void store_roll_back(struct world *world)
{
    world_say(world, "the store fails over and has lost its latest writes");
    for (int i = 0; i < SESSIONS; i++)
        copy_record(&world->store.records[i], &world->before[i]);
    for (int i = 0; i < NODES; i++)
        if (world->nodes[i].alive)
            links_break(&world->nodes[i]);
    world->rolled_back_us = world->now_us;
}

void store_start(struct world *world)
{
    world_say(world, "the store is back");
    world->store.up = true;
    world->store.started_us = world->now_us;
}
