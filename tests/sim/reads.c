/* The messages that browsers of the simulated cluster get, and the checks on them. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "sim.h"

static uint64_t field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* The highest offset of that epoch that the store took, or that any client got if the owner ended
 * while it wrote late; 0: none. */
static uint64_t known_end(struct world *world, int session, uint64_t epoch)
{
    const struct truth *truth = truth_of(world, session, epoch);
    if (!truth)
        return 0;
    return truth->torn && truth->seen > truth->offset ? truth->seen : truth->offset;
}

static void note_seen(struct world *world, int session, struct position at)
{
    struct truth *truth = truth_of(world, session, at.epoch);
    if (truth && truth->seen < at.offset)
        truth->seen = at.offset;
}

/* With a node that is paused within a turn waits what is due for its clients: it leaves when the
 * node goes on, together with what is due by then. So it counts from when the node stopped. The
 * interval may be shorter by the sum of these: the node's clock is up to 5 ms in a second too fast,
 * a turn's time is in whole milliseconds, and up to 5 ms late counts as on time (rate.c). */
static void check_rate(struct sim_client *client)
{
    struct world *world = client->world;
    uint64_t least_us = 1000000 / client->rate - 12000, before_us = client->got_us;
    uint64_t held_up_us = client->node->held_up_us;
    client->got_us = before_us < held_up_us ? held_up_us : world->now_us;
    if (before_us && world->now_us - before_us < least_us)
        world_fail(world, "client %d on %s: %u a second, but %" PRIu64 " us after the last",
                   client_index(client), client->node->id, client->rate, world->now_us - before_us);
}

/* With a rate offsets jump, but a gap still lies after the client's position. */
static bool gap_follows(const struct sim_client *client, uint64_t epoch, uint64_t from)
{
    struct position at = client->at;
    if (client->rate)
        return position_compare((struct position){epoch, from}, at) > 0;
    return epoch == at.epoch ? from == at.offset + 1 : from == 1;
}

static size_t grant_of(const struct world *world, int session, uint64_t epoch)
{
    size_t i = 0;
    while (i < world->granted_len[session] && world->granted[session][i].epoch != epoch)
        i++;
    return i;
}

/* Notes what a client of the owner itself got. */
static void note_delivered(struct world *world, const struct sim_client *client, struct position at)
{
    size_t i = client->session < SESSIONS ? grant_of(world, client->session, at.epoch) : 0;
    if (client->session >= SESSIONS || i == world->granted_len[client->session])
        return;
    if (!strcmp(world->granted[client->session][i].owner, client->node->id) &&
        world->granted[client->session][i].delivered < at.offset)
        world->granted[client->session][i].delivered = at.offset;
}

/* The last offset of that epoch, if its owner lives and began the next epoch too: then it knows its
 * end, whatever the store took. 0: another owner, a third epoch has begun, or the client came later
 * or read the history. */
static uint64_t told_end(const struct sim_client *client, uint64_t epoch, uint64_t next)
{
    const struct world *world = client->world;
    int session = client->session;
    if (session >= SESSIONS)
        return 0;
    size_t i = grant_of(world, session, epoch);
    if (i + 2 != world->granted_len[session] || world->granted[session][i + 1].epoch != next ||
        world->granted[session][i].life != world->granted[session][i + 1].life ||
        strcmp(world->granted[session][i].owner, world->granted[session][i + 1].owner) != 0)
        return 0;
    return !client->resumed && !client->replay && !client->rate &&
                   !world->granted[session][i].deserted &&
                   client->welcomed_us < world->granted[session][i + 1].at_us
               ? world->granted[session][i].delivered
               : 0;
}

static void check_order(struct sim_client *client, struct position at)
{
    struct world *world = client->world;
    struct position last = client->at;
    int index = client_index(client);
    if (position_compare(at, last) <= 0) {
        world_fail(world, "client %d on %s got %" PRIu64 ".%" PRIu64 " after %" PRIu64 ".%" PRIu64,
                   index, client->node->id, at.epoch, at.offset, last.epoch, last.offset);
    } else if (client->rate) {
        check_rate(client);
    } else if (at.epoch == last.epoch ? at.offset != last.offset + 1 : at.offset != 1) {
        world_fail(world,
                   "client %d on %s: silent gap between %" PRIu64 ".%" PRIu64 " and %" PRIu64
                   ".%" PRIu64,
                   index, client->node->id, last.epoch, last.offset, at.epoch, at.offset);
    } else if (at.epoch != last.epoch && !world->rolls_back && !world->loses_data &&
               known_end(world, client->session, last.epoch) > last.offset) {
        world_fail(world,
                   "client %d on %s: end of epoch %" PRIu64 " lost silently: %" PRIu64
                   " of %" PRIu64,
                   index, client->node->id, last.epoch, last.offset,
                   known_end(world, client->session, last.epoch));
    }
    if (at.epoch != last.epoch && !world->rolls_back && !world->loses_data &&
        told_end(client, last.epoch, at.epoch) > last.offset)
        world_fail(world,
                   "client %d on %s: %" PRIu64 " of epoch %" PRIu64
                   " is the last, though its owner "
                   "gave its own clients %" PRIu64 " and began %" PRIu64 " itself",
                   index, client->node->id, last.offset, last.epoch,
                   told_end(client, last.epoch, at.epoch), at.epoch);
    client->at = at;
}

static void read_message(struct sim_client *client, const char *text)
{
    struct world *world = client->world;
    world_say(world, "client %d on %s: %s", client_index(client), client->node->id, text);
    if (strstr(text, "\"type\":\"WELCOME\"")) {
        client->welcomed = true;
        client->welcomed_us = world->now_us;
        const char *id = strstr(text, "\"client\":\"");
        if (id)
            snprintf(client->id, sizeof(client->id), "%.32s", id + strlen("\"client\":\""));
        client->at = (struct position){field(text, "\"epoch\":"), field(text, "\"offset\":")};
        client->begun = client->at;
        client->resumed = strstr(text, "\"resumed\":true") != NULL;
        if (client->resumed && position_compare(client->at, client->token) != 0)
            world_fail(world, "resumed at another position than asked for");
    } else if (strstr(text, "\"type\":\"MESSAGE\"")) {
        struct position at = {field(text, "\"epoch\":"), field(text, "\"offset\":")};
        if (!client->welcomed)
            world_fail(world, "MESSAGE before WELCOME");
        if (client->at.epoch)
            check_order(client, at);
        client->at = at;
        client->got++;
        note_delivered(world, client, at);
        note_seen(world, client->session, at);
        world->deliveries++;
        const char *marker = strstr(text, "marker-");
        if (marker)
            snprintf(client->last_marker, sizeof(client->last_marker), "%.*s",
                     (int)strcspn(marker, " \""), marker);
    } else if (strstr(text, "\"type\":\"STATUS\"")) {
        client->down = strstr(text, "\"upstream\":\"down\"");
    } else if (strstr(text, "\"type\":\"ACK\"")) {
        client->acked = field(text, "\"id\":");
    } else if (strstr(text, "\"code\":\"expired\"")) {
        client->expired = field(text, "\"id\":");
        client->expirations++;
    } else if (strstr(text, "\"type\":\"GAP\"")) {
        uint64_t epoch = field(text, "\"epoch\":"), from = field(text, "\"from\":"),
                 to = field(text, "\"to\":");
        world->gaps++;
        if (client->at.epoch && !gap_follows(client, epoch, from))
            world_fail(world,
                       "client %d: GAP %" PRIu64 " %" PRIu64 "..%" PRIu64 " after %" PRIu64
                       ".%" PRIu64,
                       client_index(client), epoch, from, to, client->at.epoch, client->at.offset);
        /* to 0: the end of that epoch, wherever it was */
        client->at = (struct position){epoch, to ? to : UINT64_MAX / 2};
    }
}

void client_reads(struct sim_client *client, const uint8_t *bytes, size_t len)
{
    char text[4096];
    struct box box;
    while (box_next(&bytes, &len, &box)) {
        assert(box.len < sizeof(text));
        memcpy(text, box.bytes, box.len);
        text[box.len] = '\0';
        struct sim_client *reader = client->page ? page_reads(client, text) : client;
        if (!reader)
            continue;
        if (strstr(text, "\"type\":\"PRESENCE\""))
            roster_read(client, reader, text);
        else if (client->protocol)
            read_message(reader, text);
        else if (strstr(text, "marker-"))
            snprintf(client->last_marker, sizeof(client->last_marker), "%.*s",
                     (int)strcspn(strstr(text, "marker-"), " \""), strstr(text, "marker-"));
    }
}
