#include "core/client/client_ids.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/node_messages.h"
#include "core/client/client.h"
#include "core/client/further.h"
#include "core/session/course_member.h"
#include "core/session/membership.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"

#define TABLE_MIN     64u /* lists; grows with the clients, so that each list stays short */
#define TAKE_ID_TRIES 5
#define ITEMS_MAX     1000u /* ids in one message */

/* A client came with an id that it had before, and the owner has not confirmed that yet. */
struct id_claim {
    struct id_claim *prev, *next;
    uint64_t number; /* of hub->numbers; 0: not sent yet */
    unsigned tries;
    char id[V1_CLIENT_MAX + 1];
};

/* The table of all clients of this node by id: lists, doubled as it fills. */
struct client_id_table {
    struct client_id **lists; /* lists_len of them, a power of two */
    size_t lists_len, len;
    uint64_t seed; /* so that nobody can choose ids that fall into one list */
};

static size_t list_of(const struct hub *hub, const char *id)
{
    uint64_t hash = hub->client_ids->seed;
    for (; *id; id++)
        hash = (hash ^ (uint8_t)*id) * 0x100000001b3u;
    hash ^= hash >> 32;
    return (size_t)hash & (hub->client_ids->lists_len - 1);
}

/* Finds another client than `but` with that id that follows the session (NULL: one without a
 * session of its own). */
static struct client_id *find(const struct hub *hub, const struct session *session, const char *id,
                              const struct client *but)
{
    if (!hub->client_ids)
        return NULL;
    struct client_id *at = hub->client_ids->lists[list_of(hub, id)];
    while (at &&
           (at->client == but || strcmp(at->text, id) != 0 || !further_find(at->client, session)))
        at = at->next;
    return at;
}

static void put(struct hub *hub, struct client_id *id)
{
    struct client_id **list = &hub->client_ids->lists[list_of(hub, id->text)];
    id->next = *list;
    *list = id;
}

static void grow(struct hub *hub)
{
    if (!hub->client_ids)
        hub->client_ids = calloc(1, sizeof(*hub->client_ids));
    struct client_id_table *table = hub->client_ids;
    if (!table)
        abort();
    struct client_id_table before = *table;
    if (!table->seed)
        table->seed = rng_next(&hub->rng) | 1;
    table->lists_len = before.lists_len ? before.lists_len * 2 : TABLE_MIN;
    table->lists = calloc(table->lists_len, sizeof(*table->lists));
    if (!table->lists)
        abort(); /* eight bytes a client */
    for (size_t i = 0; i < before.lists_len; i++) {
        for (struct client_id *id = before.lists[i], *next; id; id = next) {
            next = id->next;
            put(hub, id);
        }
    }
    free(before.lists);
}

static void take_out(struct hub *hub, struct client_id *id)
{
    struct client_id **at = &hub->client_ids->lists[list_of(hub, id->text)];
    while (*at != id)
        at = &(*at)->next;
    *at = id->next;
    hub->client_ids->len--;
    id->client = NULL;
}

/* Closes the older connection. Its messages that no owner has yet are dropped: the later
 * connection goes on after what was sent upstream. */
static void supersede(struct client_id *id)
{
    struct client *client = id->client;
    take_out(client->hub, id);
    log_info("client_superseded", LOG_STR("session", client_session(client)));
    if (client->own.session)
        outbox_drop_unsent(client->own.session, &client->own);
    for (size_t i = 0; i < client_subscriptions(client); i++)
        outbox_drop_unsent(client->further->items[i]->session, client->further->items[i]);
    client_close(client, CLOSE_TAKEN_OVER, "another connection has taken over this client id");
}

/* It came with its id, and follows that session from now on (NULL: it came without one). */
static void take_over(struct client_id *id, struct session *session)
{
    struct hub *hub = id->client->hub;
    struct client_id *older = find(hub, session, id->text, id->client);
    if (older)
        supersede(older);
    if (!session || !hub->bus->shared)
        return;
    struct id_claim *claim = calloc(1, sizeof(*claim));
    if (!claim)
        abort();
    memcpy(claim->id, id->text, sizeof(claim->id));
    DL_APPEND(session->newcomers.id_claims, claim);
    session_mark_dirty(session);
}

void client_ids_add(struct client *client, struct client_id *id)
{
    struct hub *hub = client->hub;
    if (!hub->client_ids || hub->client_ids->len >= hub->client_ids->lists_len)
        grow(hub);
    id->client = client;
    hub->client_ids->len++;
    put(hub, id);
    if (id->resumed)
        take_over(id, client->own.session);
}

void client_ids_follow(struct subscription *subscription)
{
    struct client_id *id = subscription->client->id;
    if (id->resumed && id->client)
        take_over(id, subscription->session);
}

void client_ids_remove(struct client *client, struct client_id *id)
{
    if (id->client)
        take_out(client->hub, id);
}

static void drop_claim(struct session *session, struct id_claim *claim)
{
    DL_DELETE(session->newcomers.id_claims, claim);
    free(claim);
}

/* As owner: for an own client, or a TAKE_ID of a member. */
static void send_to_members(struct session *session, struct slice node, struct message_items ids)
{
    struct member *member;
    DL_FOREACH (roster_first(session), member) {
        const struct id_taken_message message = {session->epoch, node, ids};
        struct envelope taken = id_taken_encode(&message);
        taken.session = slice_of(session->id);
        node_send(session->hub, member_node(member), &taken);
    }
}

/* Sends one message with as many as fit. Returns whether there were any. */
static bool send_some(struct session *session)
{
    struct hub *hub = session->hub;
    struct envelope_item items[ITEMS_MAX];
    bool own = session->state == SESSION_OWNER;
    size_t len = 0;
    uint64_t number = hub->numbers + 1;
    struct id_claim *claim;
    DL_FOREACH (session->newcomers.id_claims, claim) {
        if (claim->number || len == ITEMS_MAX)
            continue;
        claim->number = number;
        claim->tries++;
        items[len++] = client_id_item(&(struct client_id_entry){slice_of(claim->id), number});
    }
    if (!len)
        return false;
    hub->numbers = number;
    if (own) {
        send_to_members(session, slice_of(hub->id), (struct message_items){items, len});
        return true;
    }
    const struct take_id_message message = {session->epoch, {items, len}};
    struct envelope take = take_id_encode(&message);
    take.session = slice_of(session->id);
    node_send(hub, slice_of(ownership_owner(session)), &take);
    course_join_soon(session); /* its answer says whether this one was lost */
    return true;
}

void client_ids_flush(struct session *session)
{
    bool member = session->state == SESSION_MEMBER && ownership_owner(session) &&
                  session->hub->bus_connected;
    if (!session->newcomers.id_claims || (!member && session->state != SESSION_OWNER))
        return; /* sent as soon as this node is the owner or a member */
    while (send_some(session))
        continue;
    struct id_claim *claim, *next;
    DL_FOREACH_SAFE (session->newcomers.id_claims, claim, next)
        if (session->state == SESSION_OWNER || claim->tries > TAKE_ID_TRIES)
            drop_claim(session, claim);
}

void client_ids_on_joined(struct session *session)
{
    struct id_claim *claim;
    DL_FOREACH (session->newcomers.id_claims, claim)
        if (claim->number < membership_joined_number(session))
            claim->number = 0;
    if (session->newcomers.id_claims)
        session_mark_dirty(session);
}

static void close_older(struct session *session, struct slice text)
{
    char id[V1_CLIENT_MAX + 1] = {0};
    if (!text.len || text.len > V1_CLIENT_MAX)
        return;
    memcpy(id, text.at, text.len);
    struct client_id *older = find(session->hub, session, id, NULL);
    if (older)
        supersede(older);
}

static struct id_claim *find_claim(struct session *session, struct slice id)
{
    struct id_claim *claim;
    DL_FOREACH (session->newcomers.id_claims, claim)
        if (strlen(claim->id) == id.len && !memcmp(claim->id, id.at, id.len))
            return claim;
    return NULL;
}

void client_ids_on_take(struct session *session, const struct envelope *envelope)
{
    struct member *member = session ? roster_find(session, envelope->node) : NULL;
    if (!member || session->state != SESSION_OWNER || member->watch.life != envelope->life)
        return; /* it asks again, whoever is the owner by then */
    const struct take_id_message take = take_id_decode(envelope);
    struct client_id_entry id;
    for (size_t i = 0; i < take.ids.len; i++)
        if (client_id_entry_of(&take.ids.at[i], &id))
            close_older(session, id.client);
    send_to_members(session, envelope->node, take.ids);
}

void client_ids_on_taken(struct session *session, const struct envelope *envelope)
{
    const struct id_taken_message taken = id_taken_decode(envelope);
    if (!session || !ownership_is_from_owner(session, envelope->node) ||
        taken.epoch != session->epoch)
        return;
    bool mine = node_is_self(session->hub, taken.by);
    for (size_t i = 0; i < taken.ids.len; i++) {
        struct client_id_entry id;
        if (!client_id_entry_of(&taken.ids.at[i], &id) || !id.client.len)
            continue;
        struct id_claim *claim = find_claim(session, id.client);
        if (mine && claim && claim->number == id.number)
            drop_claim(session, claim);
        else if (!mine && !claim)
            close_older(session, id.client);
    }
}

void client_ids_fini(struct session *session)
{
    while (session->newcomers.id_claims)
        drop_claim(session, session->newcomers.id_claims);
}

void client_ids_free_all(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions->by_id, session, next)
        client_ids_fini(session);
    if (hub->client_ids)
        free(hub->client_ids->lists);
    free(hub->client_ids);
    hub->client_ids = NULL;
}
