/*
 * SENDs of pages, some with a ttl. A SEND that did not go upstream within its ttl never does, each
 * SEND is answered once, and none is acknowledged that did not go.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/client/door.h"
#include "sim.h"

#define TTL_MAX_MS 2500u
/* Two clocks go up to 0.1 % apart between two JOINs, which are up to 25 s apart, and a node's time
 * is that of its turn, in whole milliseconds */
#define INEXACT_US 30000u

static struct sim_send *find(struct sim_client *page, uint64_t id)
{
    for (size_t i = 0; i < SENDS; i++)
        if (page->sends[i].id == id)
            return &page->sends[i];
    return NULL;
}

static bool is_answered(const struct sim_send *send)
{
    return send->acked || send->expired;
}

/* --- the page sends it --- */

static void say(struct sim_client *page, struct sim_send *send)
{
    const struct sim_client *part = page_part(page, send->session);
    char text[256], session[64] = "", ttl[32] = "";
    if (part != page)
        snprintf(session, sizeof(session), "\"session\":\"%s\",", session_name(send->session));
    if (send->ttl_ms)
        snprintf(ttl, sizeof(ttl), "\"ttl\":%u,", send->ttl_ms);
    int len = snprintf(text, sizeof(text),
                       "{\"type\":\"SEND\",\"id\":%" PRIu64 ",%s%s\"payload\":\"send %d %" PRIu64
                       "\"}",
                       send->id, session, ttl, page->page, send->id);
    send->asked = true;
    send->said_us = page->world->now_us;
    world_say(page->world, "page %d on %s: %s", page->page, page->node->id, text);
    door_message(&page->client, OPCODE_TEXT, text, (size_t)len);
}

/* Repeats the SENDs that were lost with a connection first, in their order. */
static bool say_again(struct sim_client *page, int session)
{
    struct sim_send *first = NULL;
    for (size_t i = 0; i < SENDS; i++) {
        struct sim_send *send = &page->sends[i];
        if (send->id && send->session == session && !send->asked && !is_answered(send) &&
            (!first || send->id < first->id))
            first = send;
    }
    if (first)
        say(page, first);
    return first;
}

/* Repeats an answered SEND, which gets the same answer. A SEND sent on several connections may not:
 * a node that was cut off may know that it expired on the first, and the owner may not. */
static void say_once_more(struct sim_client *page)
{
    struct sim_send *send = &page->sends[between(page->world, 0, SENDS - 1)];
    const struct sim_client *part = page_part(page, send->session);
    if (send->id && !send->lost && !send->asked && is_answered(send) &&
        send->connection == page->connection && part->open && !part->leaving)
        say(page, send);
}

static void say_new(struct sim_client *page, int session)
{
    struct world *world = page->world;
    struct sim_send *send = &page->sends[page->sends_len % SENDS];
    if (send->id && send->asked)
        return; /* the last SENDs have no answer yet: enough are on their way */
    *send = (struct sim_send){
        .id = ++page->sends_len,
        .session = session,
        .ttl_ms = chance(world, 30) ? 0 : (uint32_t)between(world, 1, TTL_MAX_MS)};
    say(page, send);
}

void page_sends(struct sim_client *page)
{
    struct world *world = page->world;
    int session = (int)between(world, 0, SESSIONS - 1);
    const struct sim_client *part = page_part(page, session);
    if (!part->open || part->leaving || !part->welcomed || !page->welcomed)
        return; /* it may not have its id yet */
    if (say_again(page, session))
        return;
    if (world->quiet)
        return;
    if (chance(world, 20))
        say_once_more(page);
    else
        say_new(page, session);
}

void page_says_all_again(struct sim_client *page)
{
    for (int i = 0; i < SESSIONS; i++)
        while (page_part(page, i)->open && say_again(page, i)) {}
}

/* --- its answer can't come any more --- */

void sends_lost(struct sim_client *page, int session)
{
    for (size_t i = 0; i < SENDS; i++)
        if (session < 0 || page->sends[i].session == session) {
            page->sends[i].lost = page->sends[i].lost || page->sends[i].asked;
            page->sends[i].asked = false;
        }
}

/* --- it goes upstream --- */

void send_arrives(struct world *world, const struct upstream *upstream, int page, uint64_t id)
{
    struct sim_client *client = NULL;
    for (int i = 0; i < CLIENTS; i++)
        if (world->clients[i].page == page)
            client = &world->clients[i];
    struct sim_send *send = client ? find(client, id) : NULL;
    if (!send)
        return; /* too many SENDs have followed: its slot is used again */
    uint64_t ttl_us = send->ttl_ms * 1000ull, age_us = world->now_us - send->said_us;
    if (send->session != upstream->backend)
        world_fail(world, "SEND %" PRIu64 " of page %d went to backend %d", id, page,
                   upstream->backend);
    if (send->went == upstream)
        world_fail(world, "SEND %" PRIu64 " of page %d went twice over one upstream", id, page);
    if (send->expired)
        world_fail(world, "SEND %" PRIu64 " of page %d goes upstream after it was answered expired",
                   id, page);
    if (ttl_us && age_us > ttl_us + INEXACT_US)
        world_fail(world,
                   "SEND %" PRIu64 " of page %d with a ttl of %u ms goes upstream after %" PRIu64
                   " us",
                   id, page, send->ttl_ms, age_us);
    send->went = upstream;
}

/* --- it is answered --- */

static void answered(struct sim_client *page, struct sim_send *send, bool expired)
{
    struct world *world = page->world;
    if (!send->asked)
        world_fail(world, "SEND %" PRIu64 " of page %d was answered twice", send->id, page->page);
    if (expired ? send->acked : send->expired)
        world_fail(world, "SEND %" PRIu64 " of page %d was answered %s after the contrary",
                   send->id, page->page, expired ? "expired" : "ACK");
    if (!expired && !send->went)
        world_fail(world, "SEND %" PRIu64 " of page %d was acknowledged and did not go", send->id,
                   page->page);
    if (expired && !send->ttl_ms)
        world_fail(world, "SEND %" PRIu64 " of page %d has no ttl, and expired", send->id,
                   page->page);
    send->asked = false;
    send->connection = page->connection;
    send->acked = !expired;
    send->expired = expired;
    world->expired += expired;
}

bool send_answered(struct sim_client *page, const char *text)
{
    bool expired = strstr(text, "\"code\":\"expired\"");
    if (!expired && !strstr(text, "\"type\":\"ACK\""))
        return false;
    const char *id = strstr(text, "\"id\":");
    struct sim_send *send = id ? find(page, strtoull(id + strlen("\"id\":"), NULL, 10)) : NULL;
    if (send)
        answered(page, send, expired);
    return true;
}

void sends_check(struct world *world)
{
    for (int i = 0; i < CLIENTS; i++) {
        const struct sim_client *page = &world->clients[i];
        for (size_t k = 0; page->page && page->open && k < SENDS; k++) {
            const struct sim_send *send = &page->sends[k];
            if (send->id && (send->asked || !is_answered(send)))
                world_fail(world,
                           "SEND %" PRIu64 " of page %d on %s to %s: no answer after all is mended",
                           send->id, page->page, page->node->id, session_name(send->session));
        }
    }
}
