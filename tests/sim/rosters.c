/*
 * Presence: the rosters that pages get. Once faults have ended, the last roster of each page is
 * true. A page gets a roster at most once a second, and none of an older epoch after a newer one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/node_messages.h"
#include "sim.h"

#define SHARED_USER "team"
#define SECOND_US   1000000u
#define STEP_US     10000u
/* The node's clock is up to 5 ms in a second too fast, and a turn's time is in whole milliseconds
 */
#define INEXACT_US 12000u
/* A script may have longer turns */
#define TURN_US 20000u
#define TRUE_US 3000000u /* a lease and 2 s: within so much of a change rosters are true again */

/* --- who watches --- */

/* All raw clients share one name; each other connection has its own, so that an outdated roster can
 * be recognized by its names. */
void roster_user(const struct sim_client *client, char name[ROSTER_NAME])
{
    if (!client->world->has_presence)
        snprintf(name, ROSTER_NAME, "u");
    else if (client->protocol && !client->one_way && client_index(client) < CLIENTS)
        snprintf(name, ROSTER_NAME, "p%d.%u", client_index(client), client->connection);
    else
        snprintf(name, ROSTER_NAME, SHARED_USER);
}

static bool watches(struct sim_client *client, int session)
{
    if (!client->open || !client->node->alive)
        return false;
    if (!client->page)
        return client->session == session;
    const struct sim_client *part = page_part(client, session);
    return part->open && !part->leaving;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The true roster, in the form of PRESENCE's payload. */
static void true_roster(struct world *world, int session, char roster[ROSTER_MAX])
{
    char(*names)[ROSTER_NAME] = calloc(CLIENTS + world->crowd_len, ROSTER_NAME);
    size_t n = 0, len = (size_t)snprintf(roster, ROSTER_MAX, "{\"users\":[");
    for (int i = 0; i < CLIENTS; i++)
        if (watches(&world->clients[i], session))
            roster_user(&world->clients[i], names[n++]);
    for (size_t i = 0; i < world->crowd_len; i++)
        if (watches(&world->crowd[i], session))
            roster_user(&world->crowd[i], names[n++]);
    qsort(names, n, sizeof(names[0]), compare_names);
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i; k < n && !strcmp(names[k], names[i]);)
            k++;
        len += (size_t)snprintf(roster + len, ROSTER_MAX - len,
                                "%s{\"user\":\"%s\",\"clients\":%zu}", i ? "," : "", names[i],
                                k - i);
    }
    snprintf(roster + len, ROSTER_MAX - len, "],\"more\":0}");
    free(names);
}

/* --- rosters that nodes get --- */

static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037u;
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 1099511628211u;
    return hash;
}

void roster_heard(struct sim_node *node, int session, const struct envelope *envelope)
{
    if (session >= SESSIONS)
        return;
    const struct presence_message said = presence_decode(envelope);
    char roster[ROSTER_MAX];
    size_t len = (size_t)snprintf(roster, sizeof(roster), "{\"users\":[");
    for (size_t i = 0; i < said.watchers.len && len < sizeof(roster) / 2; i++) {
        struct watcher_entry entry;
        if (!watcher_entry_of(&said.watchers.at[i], &entry))
            continue;
        len += (size_t)snprintf(roster + len, sizeof(roster) - len,
                                "%s{\"user\":\"%.*s\",\"clients\":%" PRIu64 "}", i ? "," : "",
                                (int)entry.user.len, entry.user.at, entry.clients);
    }
    snprintf(roster + len, sizeof(roster) - len, "],\"more\":%" PRIu64 "}", said.more);
    struct heard_roster *heard = &node->rosters[session][node->rosters_len[session]++ % ROSTERS];
    *heard = (struct heard_roster){said.epoch, hash_of(roster)};
    world_say(node->world, "%s hears at epoch %" PRIu64 " who watches %s: %s", node->id, said.epoch,
              session_name(session), roster);
}

/* The newest epoch that the roster may belong to: that in which the node got it, or that of the
 * node's last grant, since it may have made the sum itself. 0: none. */
static uint64_t epoch_of(const struct sim_node *node, int session, const char *roster)
{
    const struct world *world = node->world;
    uint64_t epoch = 0, hash = hash_of(roster);
    if (session >= SESSIONS)
        return 0;
    for (size_t i = 0; i < ROSTERS && i < node->rosters_len[session]; i++)
        if (node->rosters[session][i].hash == hash && node->rosters[session][i].epoch > epoch)
            epoch = node->rosters[session][i].epoch;
    for (size_t i = world->granted_len[session];
         i-- > 0 && world->granted[session][i].epoch > epoch;)
        if (!strcmp(world->granted[session][i].owner, node->id) &&
            world->granted[session][i].life == node->life)
            epoch = world->granted[session][i].epoch;
    return epoch;
}

/* --- rosters that pages get --- */

static void check_pace(const struct sim_client *client, const struct sim_client *part)
{
    struct world *world = client->world;
    if (!part->roster_us || client->late)
        return; /* it is not known when this one or the last was sent */
    uint64_t inexact_us = INEXACT_US + (world->calm ? TURN_US : 0);
    if (world->now_us - part->roster_us < SECOND_US - inexact_us)
        world_fail(world, "client %d on %s: a roster of %s %" PRIu64 " us after the last",
                   client_index(client), client->node->id, session_name(part->session),
                   world->now_us - part->roster_us);
}

void roster_read(struct sim_client *client, struct sim_client *part, const char *text)
{
    struct world *world = client->world;
    const char *payload = strstr(text, "{\"users\":");
    size_t len = payload ? strlen(payload) : 0;
    if (!world->has_presence || !part->welcomed || !len || len > ROSTER_MAX) {
        world_fail(world, "client %d was told %s", client_index(client), text);
        return;
    }
    check_pace(client, part);
    world_say(world, "client %d on %s: %s", client_index(client), client->node->id, text);
    memcpy(part->roster, payload, len - 1);
    part->roster[len - 1] = '\0';
    part->roster_us = client->late ? 0 : world->now_us;
    uint64_t epoch = epoch_of(client->node, part->session, part->roster);
    if (epoch < part->roster_epoch && epoch && !world->rolls_back && !world->loses_data)
        world_fail(world,
                   "client %d on %s: a roster of %s at epoch %" PRIu64 " after one at %" PRIu64,
                   client_index(client), client->node->id, session_name(part->session), epoch,
                   part->roster_epoch);
    /* One that waited for its socket may be older than the newest epoch that had the same users. */
    if (epoch > part->roster_epoch && !client->late)
        part->roster_epoch = epoch;
}

void roster_forget(struct sim_client *part)
{
    part->roster[0] = '\0';
    part->roster_us = part->roster_epoch = 0;
}

/* --- once nothing breaks --- */

/* The first client whose last roster is not true; NULL: none. */
static struct sim_client *who_is_wrong(struct world *world, int *session, char roster[ROSTER_MAX])
{
    for (*session = 0; *session < SESSIONS; ++*session) {
        true_roster(world, *session, roster);
        for (int i = 0; i < CLIENTS; i++) {
            struct sim_client *client = &world->clients[i];
            if (!client->protocol || client->one_way || !watches(client, *session))
                continue;
            if (strcmp((client->page ? page_part(client, *session) : client)->roster, roster) != 0)
                return client;
        }
    }
    return NULL;
}

void rosters_check(struct world *world, uint64_t within_us, const char *when)
{
    char roster[ROSTER_MAX];
    struct sim_client *client;
    uint64_t since_us = world->now_us;
    int session;
    while ((client = who_is_wrong(world, &session, roster)) && !world->failure) {
        if (world->now_us - since_us >= within_us)
            world_fail(world, "client %d on %s: %s the roster of %s is %s, and it was told %s",
                       client_index(client), client->node->id, when, session_name(session), roster,
                       (client->page ? page_part(client, session) : client)->roster);
        world_pass(world, STEP_US);
    }
    world_say(world, "rosters are true %s after %" PRIu64 " ms", when,
              (world->now_us - since_us) / 1000);
}

static int a_node_with_clients(struct world *world)
{
    int first = (int)between(world, 0, CLIENTS - 1);
    for (int i = 0; i < CLIENTS; i++) {
        const struct sim_client *client = &world->clients[(first + i) % CLIENTS];
        if (client->open)
            return client->node->index;
    }
    return 0;
}

void rosters_end(struct world *world)
{
    world->frozen = true;
    rosters_check(world, TRUE_US, "after all is mended");
    for (int i = 0; i < CLIENTS; i += 5) {
        if (!world->clients[i].page)
            client_leave(&world->clients[i], 1001);
    }
    world_pass(world, STEP_US);
    rosters_check(world, TRUE_US, "when some have left");
    world_pass(world, SECOND_US);
    int dead = a_node_with_clients(world);
    node_crash(&world->nodes[dead]);
    rosters_check(world, TRUE_US, "when a node has died");
    node_start(world, dead);
}
