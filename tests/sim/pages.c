/*
 * Pages: browsers that follow several sessions on one connection. Each further session of a page is
 * kept as a client of its own, behind the world's clients, so that every check of a client also
 * covers it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/client/door.h"
#include "sim.h"

struct sim_client *page_part(struct sim_client *client, int session)
{
    bool own = session == client->session && !client->alone;
    return own ? client
               : &client->world->clients[CLIENTS + (client->page - 1) * SESSIONS + session];
}

void pages_begin(struct world *world)
{
    /* Of three sessions; the last two have no session of their own. */
    static const int pages[PAGES] = {0, 4, 8};
    for (int p = 0; p < PAGES; p++) {
        struct sim_client *client = &world->clients[pages[p]];
        client->page = p + 1;
        client->alone = p > 0;
        for (int i = 0; i < SESSIONS; i++) {
            struct sim_client *part = &world->clients[CLIENTS + p * SESSIONS + i];
            *part = (struct sim_client){.world = world, .session = i, .protocol = true};
        }
    }
}

void page_started(struct sim_client *client)
{
    sends_lost(client, -1);
    for (int i = 0; i < SESSIONS; i++) {
        struct sim_client *part = page_part(client, i);
        if (part == client)
            continue;
        if (part->at.epoch && part->at.offset < UINT64_MAX / 2) {
            part->has_token = true;
            part->token = part->at;
        }
        part->node = client->node;
        part->open = part->welcomed = part->asked = part->leaving = false;
        part->at = (struct position){0, 0};
        part->last_marker[0] = '\0';
        roster_forget(part);
    }
}

static void say(struct sim_client *client, const char *text)
{
    door_message(&client->client, OPCODE_TEXT, text, strlen(text));
}

/* Subscribes to each session that it does not follow, from its last position. */
void page_subscribe(struct sim_client *client)
{
    char text[512], resume[64], user[ROSTER_NAME];
    size_t len = (size_t)snprintf(text, sizeof(text),
                                  "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[");
    const char *before = "";
    roster_user(client, user);
    for (int i = 0; i < SESSIONS; i++) {
        struct sim_client *part = page_part(client, i);
        if (part == client || part->asked)
            continue;
        part->asked = true;
        resume[0] = '\0';
        if (part->has_token)
            snprintf(resume, sizeof(resume), "&resume=%" PRIu64 ".%" PRIu64, part->token.epoch,
                     part->token.offset);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\"/%s/v%d?svc%s\"", before, user,
                                i, resume);
        before = ",";
    }
    snprintf(text + len, sizeof(text) - len, "]}");
    if (*before)
        say(client, text);
}

void page_unsubscribe(struct sim_client *client)
{
    char text[128];
    struct sim_client *part = page_part(client, (int)between(client->world, 0, SESSIONS - 1));
    if (part == client || !part->open)
        return;
    snprintf(text, sizeof(text), "{\"type\":\"UNSUBSCRIBE\",\"id\":2,\"sessions\":[\"%s\"]}",
             session_name(part->session));
    part->leaving = true;
    note_deserted(client->world, part->session);
    say(client, text);
}

/* The number of a session that is named after that part of the text; -1: it is not there. */
static int session_after(const char *text, const char *before)
{
    const char *at = strstr(text, before);
    return at ? at[strlen(before)] - '0' : -1;
}

/* The number of the session in the text's URL. */
static int session_of_url(const char *text)
{
    const char *url = strstr(text, "\"url\":\"/");
    return url ? session_after(url + strlen("\"url\":\"/"), "/v") : -1;
}

static void closed(struct sim_client *client, const char *text)
{
    struct world *world = client->world;
    struct sim_client *part = page_part(client, session_after(text, "\"session\":\"svc:v"));
    if (!part->open)
        world_fail(world, "page %d: CLOSED of what it does not follow", client->page);
    sends_lost(client, part->session);
    if (part->at.epoch && part->at.offset < UINT64_MAX / 2) {
        part->has_token = true;
        part->token = part->at;
    }
    part->open = part->asked = part->welcomed = part->leaving = false;
    roster_forget(part);
    part->at = (struct position){0, 0};
}

struct sim_client *page_reads(struct sim_client *client, const char *text)
{
    int session = -1;
    if (send_answered(client, text))
        return NULL;
    if (strstr(text, "\"type\":\"CLOSED\"")) {
        closed(client, text);
        return NULL;
    }
    if (strstr(text, "\"code\":\"full\"") && strstr(text, "draining")) {
        page_part(client, session_of_url(text))->asked = false;
        return NULL;
    }
    if (strstr(text, "\"type\":\"ERROR\"") && !strstr(text, "not_subscribed")) {
        world_fail(client->world, "page %d was told %s", client->page, text);
        return NULL;
    }
    if (strstr(text, "\"type\":\"WELCOME\""))
        session = session_of_url(text);
    else
        session = session_after(text, "\"session\":\"svc:v");
    if (session < 0)
        return client;
    struct sim_client *part = page_part(client, session);
    if (strstr(text, "\"type\":\"WELCOME\"")) {
        if (part->open)
            world_fail(client->world, "page %d was welcomed twice to %d", client->page, session);
        part->open = true;
    } else if (!part->open) {
        world_fail(client->world, "page %d was told of %d, which it does not follow: %s",
                   client->page, session, text);
    }
    return part;
}

void page_check_marker(struct sim_client *client, const char *marker)
{
    for (int i = 0; i < SESSIONS; i++) {
        const struct sim_client *part = page_part(client, i);
        if (part != client && strcmp(part->last_marker, marker) != 0)
            world_fail(client->world,
                       "page %d on %s does not get pushes of %s after all is mended (last \"%s\")",
                       client->page, client->node->id, session_name(i), part->last_marker);
    }
}
