/*
 * The simulated store, which behaves as Redis may: scripts run as a whole, restarts with and
 * without data, fail-overs that lose the latest writes. Its rules for a session are those of the
 * bus in memory (bus/bus_memory_record.h).
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "store.h"

static void note_grant(struct world *world, int session, const char *owner, uint64_t epoch)
{
    if (session >= SESSIONS)
        return;
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
    if (session >= SESSIONS)
        return NULL;
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

/* The last owner ended without a release and wrote late: publications may be missing. */
static void note_torn(struct world *world, int session, uint64_t epoch)
{
    struct truth *truth = truth_of(world, session, epoch);
    world_say(world, "%s: the end of %llu may be missing", session_name(session),
              (unsigned long long)epoch);
    if (truth)
        truth->torn = true;
}

static struct record *record_of(struct world *world, const struct sim_request *request)
{
    return &world->store.records[session_index(request->session)];
}

static void tell_owner(const struct record *record, struct sim_request *request)
{
    memcpy(request->owner, record->own.owner, sizeof(request->owner));
    request->answer_epoch = record->own.epoch;
}

static void apply_claim(struct world *world, struct sim_request *request)
{
    int session = session_index(request->session);
    struct record *record = record_of(world, request);
    bool young = world->now_us - world->store.started_us < (uint64_t)LEASE(world) * 1000;
    const struct bus_claim claim = {.dead_owner = request->other[0] ? request->other : NULL,
                                    .dead_epoch = request->dead_epoch,
                                    .seen_epoch = request->seen_epoch,
                                    .holds = request->holds};
    bool dead = claim.dead_owner &&
                memory_record_owned(&record->own, claim.dead_owner, claim.dead_epoch);
    bool torn = memory_record_is_torn(&record->own, &claim);
    uint64_t before = record->own.epoch;
    request->status = memory_record_claim(&record->own, &record->history, request->node->id, &claim,
                                          store_ms(world), young);
    if (request->status == STATUS_AGAIN)
        return;
    tell_owner(record, request);
    if (request->status != STATUS_OK)
        return;
    if (dead)
        world->takeovers++;
    if (torn)
        note_torn(world, session, before);
    memory_history_fence(&record->history, record->own.epoch);
    note_grant(world, session, record->own.owner, record->own.epoch);
    announce(world, session, record->own.owner, record->own.epoch, 0);
}

static void apply_release(struct world *world, struct sim_request *request)
{
    request->status = memory_record_release(&record_of(world, request)->own, request->node->id,
                                            request->epoch);
    if (request->status == STATUS_OK)
        world_say(world, "%s released by %s at %llu", request->session, request->node->id,
                  (unsigned long long)request->epoch);
}

static void apply_transfer(struct world *world, struct sim_request *request)
{
    int session = session_index(request->session);
    struct memory_record *own = &record_of(world, request)->own;
    request->status = memory_record_transfer(own, request->node->id, request->epoch, request->other,
                                             store_ms(world));
    if (request->status != STATUS_OK)
        return;
    request->answer_epoch = own->epoch;
    memory_history_fence(&record_of(world, request)->history, own->epoch);
    note_grant(world, session, own->owner, own->epoch);
    announce(world, session, own->owner, own->epoch, request->epoch);
}

static void apply_assert(struct world *world, struct sim_request *request)
{
    int session = session_index(request->session);
    struct record *record = record_of(world, request);
    bool displaced, missing = !record->own.there || record->own.epoch < request->epoch;
    request->status = memory_record_assert(&record->own, request->node->id, request->epoch,
                                           &displaced);
    if (request->status != STATUS_OK)
        tell_owner(record, request);
    if (missing && request->status == STATUS_OK)
        memory_history_fence(&record->history, record->own.epoch);
    if (displaced)
        announce(world, session, record->own.owner, record->own.epoch, 0);
    if (missing)
        world_say(world, "%s asserted by %s at %llu", request->session, request->node->id,
                  (unsigned long long)request->epoch);
}

/* Much load goes to Redis as plain commands (bus_redis_batch.c): by chance of the offset, so that
 * both ways meet in one history. */
static bool goes_plainly(const struct world *world, const struct sim_request *request)
{
    return world->publishes_plainly && request->how == BUS_ANNOUNCE && request->history_size > 0 &&
           request->publications_len > 0 && request->publications[0]->at.offset / 4 % 4 != 0;
}

/* Each is kept if nothing newer is, all are announced whoever owns the session; now and then the
 * record is read, as it is where one was not kept. Returns whether a call by the script follows. */
static bool publish_plainly(struct record *record, struct sim_request *request)
{
    bool asks = request->publications[0]->at.offset % 8 == 0;
    for (size_t i = 0; i < request->publications_len; i++)
        asks = !memory_history_append(&record->history, request->publications[i],
                                      request->history_size) ||
               asks;
    return asks && !memory_record_owned(&record->own, request->node->id, request->epoch);
}

static void announce_publications(struct world *world, int session,
                                  const struct sim_request *request)
{
    struct envelope_item items[512];
    assert(request->publications_len <= 512);
    for (size_t i = 0; i < request->publications_len; i++)
        items[i] = publication_as_item(request->publications[i]);
    const struct push_message message = {request->epoch, {items, request->publications_len}};
    struct envelope push = push_encode(&message);
    push.session = slice_of(request->session);
    push.node = slice_of(request->node->id);
    channel_publish(world, session, &push);
}

static void apply_plain_publish(struct world *world, struct sim_request *request)
{
    int session = session_index(request->session);
    struct record *record = record_of(world, request);
    bool lost = publish_plainly(record, request);
    request->status = lost ? STATUS_REFUSED : STATUS_OK;
    if (!request->announced)
        announce_publications(world, session, request);
    if (!memory_record_owned(&record->own, request->node->id, request->epoch)) {
        world_say(world, "%s: plain publications of %s at %llu, of which it is not the owner",
                  request->session, request->node->id, (unsigned long long)request->epoch);
        return;
    }
    for (size_t i = 0; i < request->publications_len; i++)
        note_truth(world, session, request->publications[i]->at);
}

bool store_announces_first(struct world *world, struct sim_request *request)
{
    if (!world->keeps_after_us || request->announced || request->kind != REQUEST_PUBLISH ||
        !goes_plainly(world, request))
        return false;
    request->announced = true;
    announce_publications(world, session_index(request->session), request);
    return true;
}

void store_cut(struct world *world, const struct sim_request *request)
{
    if (request->kind == REQUEST_PUBLISH && goes_plainly(world, request) &&
        request->publications[0]->at.offset % 2 == 0)
        announce_publications(world, session_index(request->session), request);
}

static void apply_publish(struct world *world, struct sim_request *request)
{
    int session = session_index(request->session);
    struct record *record = record_of(world, request);
    bool news = false;
    request->status = memory_record_publish(
        &record->own, &record->history, request->node->id, request->epoch, request->publications,
        request->publications_len, request->history_size, request->how, &news);
    if (request->status != STATUS_OK)
        return;
    /* The rules above ensure this; checked once more */
    if (strcmp(record->own.owner, request->node->id) != 0 || record->own.epoch != request->epoch)
        world_fail(world, "%s: the store took a publication of %s at %llu", request->session,
                   request->node->id, (unsigned long long)request->epoch);
    if (request->how & (BUS_LATE | BUS_PROMPT))
        world_say(world, "%s of %s is written %s", request->session, request->node->id,
                  record->own.late ? "late" : "with each push");
    for (size_t i = 0; i < request->publications_len; i++)
        note_truth(world, session, request->publications[i]->at);
    if ((request->how & BUS_ANNOUNCE) && news)
        announce_publications(world, session, request);
}

static void apply_history(struct world *world, struct sim_request *request)
{
    request->publications = memory_history_read(&record_of(world, request)->history, request->after,
                                                request->limit, &request->publications_len,
                                                &request->more, &request->oldest);
}

static void apply_renew(struct world *world, struct sim_request *request)
{
    struct store *store = &world->store;
    int mine = request->node->index;
    request->present = store->nodes[mine].id[0] != '\0';
    snprintf(store->nodes[mine].id, sizeof(store->nodes[mine].id), "%s", request->node->id);
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

void store_apply(struct world *world, struct sim_request *request)
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
    case REQUEST_PUBLISH:
        if (goes_plainly(world, request))
            apply_plain_publish(world, request);
        else
            apply_publish(world, request);
        break;
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
    for (int i = 0; i < SESSIONS_MAX; i++) {
        memory_history_clear(&store->records[i].history);
        store->records[i].own = (struct memory_record){0};
    }
    memset(store->nodes, 0, sizeof(store->nodes));
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
    to->own = from->own;
    memory_history_copy(&to->history, &from->history);
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
