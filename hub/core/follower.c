#include "core/follower.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "common/v1.h"
#include "core/client_ids.h"
#include "core/commands.h"
#include "core/fanout.h"
#include "core/history.h"
#include "core/link.h"
#include "core/pubs.h"
#include "core/queue.h"

#define POSITION_WAIT_MS 1000 /* contract section 6: not known within 1 s */
/* A token ahead of this node's position waits so long for it to catch up */
#define TOKEN_AHEAD_MS    2000
#define TOKEN_AHEAD_TIMES 10 /* and that often where the client was already welcomed there */
#define READ_AGAIN_MS     500
#define READ_TRIES        10
#define READ_LIMIT        500
#define EPOCH_SKEW_MS     (60 * 60 * 1000u) /* how far other machines' clocks may be ahead */
/* Epochs are at least Unix ms: a smaller one was never given out */
#define EPOCH_FLOOR 1000000000000u

enum follower_wait { WAIT_POSITION, WAIT_HISTORY, WAIT_NOTHING };

struct follower {
    struct client *client;
    enum follower_wait wait;
    struct position at; /* where it stands while it catches up */
    uint32_t replay;    /* raw clients: how many past publications */
    unsigned tries, waits;
    bool has_token;
    bool welcomed; /* at the token's position, before the session's was known */
    struct client_id id;
    uint64_t tag;        /* of the history read */
    uint64_t read_epoch; /* of the session when it was asked for */
    struct pubs missed;
    struct timer timer;
    UT_hash_handle hh;
};

/* client.h keeps the pointer type small for the front */
static struct follower *of(const struct client *client)
{
    return (struct follower *)(void *)client->protocol_part;
}

static uint64_t unix_ms(const struct hub *hub)
{
    return hub->setup.unix_ms(hub->setup.clock_ctx);
}

static void set_client_live(struct client *client)
{
    struct follower *follower = of(client);
    follower->wait = WAIT_NOTHING;
    client->state = CLIENT_LIVE;
    if (client->queue && !client->blocked)
        queue_drain(client);
    if (client->protocol == CLIENT_RAW) { /* a raw client follows like any other from here on */
        follower_gone(client);
    }
}

static void missed_publication(void *ctx, struct publication *publication)
{
    pubs_add(&((struct follower *)ctx)->missed, publication);
}

static void missed_gap(void *ctx, uint64_t epoch, uint64_t from, uint64_t to)
{
    struct publication *note = gap_note_new(epoch, from, to);
    pubs_add(&((struct follower *)ctx)->missed, note);
    publication_unref(note);
}

/* The position after which the client's live publications come: those that already wait in its
 * queue count. */
static struct position live_after(const struct client *client)
{
    struct position first = queue_first(client);
    return first.epoch ? (struct position){first.epoch, first.offset - 1} : client->session->at;
}

/* All that can be had is there: the rest up to where live begins is a gap, and the client goes
 * live. */
static void caught_up(struct client *client, struct position oldest)
{
    struct follower *follower = of(client);
    struct stream_sink sink = {missed_publication, missed_gap, follower};
    struct position live = live_after(client);
    if (client->protocol != CLIENT_RAW)
        stream_close(&follower->at, oldest, live, &sink);
    size_t len = follower->missed.len;
    if (follower->replay && len > follower->replay)
        pubs_shift(&follower->missed, len - follower->replay);
    metric_add(METRIC_REPLAYED, follower->missed.len);
    client->sent += follower->missed.len;
    queue_put_first(client, &follower->missed);
    pubs_fini(&follower->missed);
    set_client_live(client);
}

static void on_follower_timer(struct timer *timer, uint64_t now_ms);

static void read_history(struct client *client)
{
    struct follower *follower = of(client);
    struct hub *hub = client->hub;
    follower->wait = WAIT_HISTORY;
    follower->tag = hub_tag(hub);
    follower->read_epoch = client->session->at.epoch;
    HASH_ADD(hh, hub->readers, tag, sizeof follower->tag, follower);
    hub->bus->ops->history(hub->bus, client->session->id, follower->tag, follower->at, READ_LIMIT);
}

/* Takes one publication of the past where it is before what waits live. */
static void take_past(struct client *client, struct position oldest,
                      struct publication *publication)
{
    struct follower *follower = of(client);
    struct position live = queue_first(client);
    struct stream_sink sink = {missed_publication, missed_gap, follower};
    if (live.epoch ? position_compare(publication->at, live) >= 0
                   : position_compare(publication->at, client->session->at) > 0)
        return;
    if (client->protocol != CLIENT_RAW) {
        stream_step(&follower->at, oldest, publication, &sink);
    } else if (position_compare(publication->at, follower->at) > 0) {
        follower->at = publication->at;
        pubs_add(&follower->missed, publication);
    }
}

static void catch_up(struct client *client)
{
    struct session *session = client->session;
    struct follower *follower = of(client);
    if (follower->replay ? session->ring.len >= follower->replay
                         : ring_covers(session, follower->at)) {
        struct position oldest = session->ring.len ? ring_at(&session->ring, 0)->at
                                                   : (struct position){0, 0};
        for (uint32_t i = 0; i < session->ring.len; i++)
            take_past(client, oldest, ring_at(&session->ring, i));
        caught_up(client, oldest);
    } else if (!session->service->history.size) {
        caught_up(client, (struct position){0, 0});
    } else {
        read_history(client);
    }
}

bool follower_on_history(struct hub *hub, uint64_t tag, enum status status, struct position oldest,
                         struct publication *const *publications, size_t len, bool more)
{
    struct follower *follower = NULL;
    HASH_FIND(hh, hub->readers, &tag, sizeof tag, follower);
    if (!follower)
        return false;
    HASH_DEL(hub->readers, follower);
    follower->tag = 0;
    struct client *client = follower->client;
    if (status != STATUS_OK && ++follower->tries < READ_TRIES) {
        timer_start(&hub->timers, &follower->timer, hub->now_ms + READ_AGAIN_MS, on_follower_timer);
        return true;
    }
    fanout_flush(client->session);
    if (client->state != CLIENT_CATCHING)
        return true;
    struct position before = follower->at;
    for (size_t i = 0; status == STATUS_OK && i < len; i++)
        take_past(client, oldest, publications[i]);
    bool on = more && position_compare(before, follower->at) < 0,
         ended = client->session->at.epoch != follower->read_epoch;
    if (status == STATUS_OK &&
        (on || ended)) /* of an epoch that has ended since it may not have the end */
        read_history(client);
    else
        caught_up(client, status == STATUS_OK ? oldest : (struct position){0, 0});
    return true;
}

static void welcome(struct client *client, struct position at, bool resumed)
{
    struct hub *hub = client->hub;
    struct session *session = client->session;
    struct v1_welcome message = {
        .node = hub->id,
        .session = session->id,
        .client = of(client)->id.text,
        .at = at,
        .resumed = resumed,
        .upstream = upstream_status_name(session->status),
    };
    queue_wire(client, v1_welcome(client_form(client), unix_ms(hub), &message));
}

/* May the token be of this session's stream? One from before what is kept may; one that was never
 * given out may not. */
static bool token_known(const struct session *session, struct position token)
{
    return session->positioned && token.epoch >= EPOCH_FLOOR &&
           position_compare(token, session->at) <= 0;
}

/* The position is known (or final: will not be): WELCOME, then what was missed, then live. */
static void begin(struct client *client)
{
    struct session *session = client->session;
    struct follower *follower = of(client);
    session->waiting--;
    timer_stop(&session->hub->timers, &follower->timer);
    bool resumed = follower->has_token &&
                   (follower->welcomed || token_known(session, follower->at));
    if (resumed)
        queue_skip(client, follower->at);
    struct position at = resumed               ? follower->at
                         : session->positioned ? live_after(client)
                                               : (struct position){0, 0};
    follower->wait = WAIT_NOTHING;
    if (client->protocol != CLIENT_RAW && !follower->welcomed)
        welcome(client, at, resumed);
    if (client->state != CLIENT_CATCHING)
        return;
    if (resumed) {
        metric_add(METRIC_RESUMES, 1);
        catch_up(client);
    } else if (follower->replay && session->positioned) {
        catch_up(client);
    } else {
        set_client_live(client);
    }
}

/*
 * The owner has died, and nobody knows yet where the stream stands. What the client has is known:
 * it is welcomed there, and what comes after that waits for the take-over. Returns false where the
 * token was never given out.
 */
static bool welcome_at_token(struct client *client)
{
    struct follower *follower = of(client);
    if (follower->welcomed || !follower->has_token || client->session->positioned ||
        follower->at.epoch < EPOCH_FLOOR ||
        follower->at.epoch > unix_ms(client->hub) + EPOCH_SKEW_MS)
        return false;
    follower->welcomed = true;
    welcome(client, follower->at, true);
    return true;
}

static bool ready(const struct session *session, const struct follower *follower)
{
    return session->positioned && !session->recovering &&
           (!follower->has_token || position_compare(follower->at, session->at) <= 0);
}

void follower_session_moved(struct session *session)
{
    struct client *client, *next;
    if (session->batch.len)
        return;
    DL_FOREACH_SAFE (session->clients, client, next) {
        struct follower *follower = of(client);
        if (follower && follower->wait == WAIT_POSITION && client->state == CLIENT_CATCHING &&
            ready(session, follower))
            begin(client);
    }
}

/* The session stands before where the client was welcomed: after a fail-over that lost writes,
 * until the next owner begins. */
static bool still_behind(const struct session *session, struct follower *follower)
{
    return !session->positioned || (position_compare(session->at, follower->at) < 0 &&
                                    ++follower->waits < TOKEN_AHEAD_TIMES);
}

static void on_follower_timer(struct timer *timer, uint64_t now_ms)
{
    struct follower *follower = CONTAINER_OF(timer, struct follower, timer);
    struct client *client = follower->client;
    (void)now_ms;
    if (client->state != CLIENT_CATCHING || !client->session)
        return;
    if (follower->wait == WAIT_HISTORY) {
        read_history(client);
        return;
    }
    fanout_flush(client->session);
    if (client->state != CLIENT_CATCHING || !client->protocol_part ||
        follower->wait != WAIT_POSITION)
        return; /* the flush has begun it */
    struct session *session = client->session;
    bool waits = welcome_at_token(client) ||
                 (follower->welcomed && still_behind(session, follower));
    if (waits)
        timer_start(&client->hub->timers, &follower->timer, client->hub->now_ms + TOKEN_AHEAD_MS,
                    on_follower_timer);
    else
        begin(client);
}

static void make_id(char id[V1_CLIENT_MAX + 1])
{
    uint8_t random[16];
    rng_secure(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
}

void follower_open(struct client *client, const struct target *target)
{
    struct session *session = client->session;
    bool raw = client->protocol == CLIENT_RAW;
    uint32_t replay = target->has_replay ? target->replay : session->service->replay;
    if (raw && (!replay || !session->service->history.size))
        return;
    struct follower *follower = calloc(1, sizeof *follower);
    if (!follower)
        abort();
    client->protocol_part = (struct protocol_client *)(void *)follower;
    client->state = CLIENT_CATCHING;
    follower->client = client;
    follower->wait = WAIT_POSITION;
    if (raw)
        follower->replay = replay;
    if (!raw && target->resume)
        follower->has_token = v1_resume(target->resume, &follower->at, follower->id.text) ==
                              STATUS_OK;
    bool brought_id = follower->id.text[0];
    if (!brought_id)
        make_id(follower->id.text);
    if (!raw)
        client_ids_add(client, &follower->id, brought_id);
    session->waiting++;
    timer_start(&session->hub->timers, &follower->timer, session->hub->now_ms + POSITION_WAIT_MS,
                on_follower_timer);
    hub_mark_dirty(session); /* looks at the end of the turn */
}

void follower_gone(struct client *client)
{
    struct follower *follower = of(client);
    if (!follower)
        return;
    if (follower->wait == WAIT_POSITION && client->session)
        client->session->waiting--;
    timer_stop(&client->hub->timers, &follower->timer);
    client_ids_remove(client, &follower->id);
    if (follower->tag)
        HASH_DEL(client->hub->readers, follower);
    pubs_fini(&follower->missed);
    free(follower);
    client->protocol_part = NULL;
}

static void send_error(struct client *client, const uint64_t *id, const char *code,
                       const char *message)
{
    queue_wire(client, v1_error(client_form(client), unix_ms(client->hub), id, code, message));
}

void follower_message(struct client *client, enum opcode opcode, const void *payload, size_t len)
{
    struct v1_request request;
    struct v1_mistake mistake;
    if (v1_decode(client_form(client), opcode, payload, len, &request, &mistake) != STATUS_OK) {
        send_error(client, mistake.has_id ? &mistake.id : NULL, mistake.code, mistake.why);
        return;
    }
    switch (request.type) {
    case V1_PING: queue_wire(client, v1_pong(client_form(client), unix_ms(client->hub))); break;
    case V1_SEND:
        if (!client_spend(client))
            break;
        if (!request.id)
            send_error(client, &request.id, "bad_id", "id must be a number from 1 on");
        else
            commands_add(client->session, client, request.id, of(client)->id.text, request.opcode,
                         request.payload, request.len);
        break;
    }
    free(request.payload);
}

void follower_ack(struct client *client, uint64_t send_id)
{
    if (client->state == CLIENT_LIVE || client->state == CLIENT_CATCHING)
        queue_wire(client, v1_ack(client_form(client), unix_ms(client->hub), send_id));
}

void follower_status(struct session *session)
{
    struct client *client, *next;
    struct wire *wires[WIRE_FORMS] = {NULL};
    DL_FOREACH_SAFE (session->clients, client, next) {
        struct follower *follower = of(client);
        if (client->protocol == CLIENT_RAW || !follower || follower->wait == WAIT_POSITION ||
            client->state == CLIENT_CLOSING)
            continue;
        struct wire **wire = &wires[client_form(client)];
        if (!*wire)
            *wire = v1_status(client_form(client), unix_ms(session->hub),
                              upstream_status_name(session->status),
                              session->reason[0] ? session->reason : NULL);
        queue_wire(client, *wire ? wire_ref(*wire) : NULL);
    }
    for (size_t form = 0; form < WIRE_FORMS; form++)
        if (wires[form])
            wire_unref(wires[form]);
}
