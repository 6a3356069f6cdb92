#include "core/node/peers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include <utlist.h>

#include "common/log.h"
#include "common/text.h"

#define NOTIFIED_A_TURN 250 /* watches that learn in one turn that their node is dead */

struct peers {
    struct hub *hub;
    struct peer *by_id;
    struct timer more; /* armed while watches of dead nodes wait for their turn */
};

void peers_new(struct hub *hub)
{
    hub->peers = calloc(1, sizeof(*hub->peers));
    if (!hub->peers)
        abort();
    hub->peers->hub = hub;
}

bool peer_is_name(struct slice name)
{
    return text_is_name(name.at, name.len);
}

static struct peer *find(const struct hub *hub, struct slice id)
{
    struct peer *peer = NULL;
    HASH_FIND(hh, hub->peers->by_id, id.at, id.len, peer);
    return peer;
}

struct peer *peer_get(struct hub *hub, const char *id, size_t len)
{
    assert(len > 0 && len <= CONF_NAME_MAX);
    struct peer *peer = find(hub, (struct slice){id, len});
    if (peer)
        return peer;
    peer = calloc(1, sizeof(*peer));
    if (!peer)
        abort();
    memcpy(peer->id, id, len);
    peer->since_ms = hub->now_ms;
    HASH_ADD(hh, hub->peers->by_id, id, len, peer);
    return peer;
}

void peer_unwatch(struct watch *watch)
{
    struct peer *peer = watch->peer;
    if (!peer)
        return;
    if (peer->next_dead == watch)
        peer->next_dead = watch->next;
    if (peer->next_reborn == watch)
        peer->next_reborn = watch->next;
    DL_DELETE(peer->watches, watch);
    watch->peer = NULL;
}

void peer_watch(struct hub *hub, struct watch *watch, struct peer *peer,
                const struct watch_events *events)
{
    peer_unwatch(watch);
    watch->peer = peer;
    watch->events = events;
    watch->since_ms = hub->now_ms;
    DL_APPEND(peer->watches, watch);
}

static uint32_t lease_ms_of(const struct hub *hub, const struct peer *peer)
{
    uint32_t own = hub->conf->node.lease_ms;
    return peer->lease_ms > own ? peer->lease_ms : own;
}

static uint64_t peer_deadline(const struct hub *hub, const struct peer *peer)
{
    return peer->since_ms + lease_ms_of(hub, peer);
}

static void is_alive(struct peer *peer)
{
    peer->dead = false;
    peer->dead_reading_ms = 0;
    peer->next_dead = NULL;
}

static void peer_saw(struct hub *hub, struct peer *peer, uint64_t score)
{
    if (peer->score == score)
        return;
    peer->score = score;
    peer->since_ms = hub->now_ms;
    is_alive(peer);
}

/*
 * What it was found dead by was read at sent_ms. Only what was known before that is concerned: it
 * may have come back since, with a new lease, and own or join something anew.
 */
static void is_dead(struct peer *peer, uint64_t sent_ms)
{
    if (!peer->dead && peer->watches)
        log_warn("node_dead", LOG_STR("peer", peer->id), LOG_U64("score", peer->score));
    peer->dead = true;
    peer->dead_reading_ms = sent_ms;
    peer->next_dead = peer->watches;
}

/* Returns how many of the budget are left. */
static size_t notify_dead(struct peer *peer, size_t budget)
{
    while (peer->next_dead && budget) {
        struct watch *watch = peer->next_dead;
        peer->next_dead = watch->next;
        if (watch->since_ms >= peer->dead_reading_ms)
            continue;
        budget--;
        watch->events->dead(watch);
    }
    return budget;
}

/* Within a lease of a HELLO a reading has it, or it is gone. */
static bool has_just_started(const struct hub *hub, const struct peer *peer)
{
    return peer->hello_ms && hub->now_ms - peer->hello_ms < lease_ms_of(hub, peer);
}

/* Frees those nobody refers to. */
static void trim(struct peers *peers)
{
    struct peer *peer, *next;
    HASH_ITER (hh, peers->by_id, peer, next) {
        if (peer->score || peer->watches || !peer->dead || has_just_started(peers->hub, peer))
            continue;
        HASH_DEL(peers->by_id, peer);
        free(peer);
    }
}

static void notify_all_dead(struct peers *peers);

static void on_more(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    notify_all_dead(CONTAINER_OF(timer, struct peers, more));
}

static void notify_all_dead(struct peers *peers)
{
    size_t budget = NOTIFIED_A_TURN;
    struct peer *peer;
    for (peer = peers->by_id; peer; peer = peer->hh.next)
        budget = notify_dead(peer, budget);
    if (!budget)
        timer_start(&peers->hub->timers, &peers->more, peers->hub->now_ms, on_more);
    trim(peers);
}

void peers_read(struct hub *hub, uint64_t sent_ms, const struct bus_node *nodes, size_t len)
{
    struct peer *peer;
    for (size_t i = 0; i < len; i++) {
        size_t id_len = strlen(nodes[i].id);
        if (!strcmp(nodes[i].id, hub->id) || !id_len || id_len > CONF_NAME_MAX)
            continue;
        peer = peer_get(hub, nodes[i].id, id_len);
        if (nodes[i].lease_ms)
            peer->lease_ms = nodes[i].lease_ms;
        peer_saw(hub, peer, nodes[i].score);
        peer->listed = true;
    }
    for (peer = hub->peers->by_id; peer; peer = peer->hh.next) {
        if (!peer->listed)
            peer_saw(hub, peer, 0);
        peer->listed = false;
        if (sent_ms >= peer_deadline(hub, peer))
            is_dead(peer, sent_ms);
    }
    notify_all_dead(hub->peers);
}

/*
 * Lives are ordered by the clock of the peer's machine, so that what an old life still had on its
 * way does not count. An earlier one that is heard for a lease, and no later one meanwhile, is not
 * late: the clock was set back, and the node started again.
 */
static bool is_late(const struct hub *hub, struct peer *peer, uint64_t life)
{
    if (life >= peer->life)
        peer->stale_life_since_ms = 0;
    else if (!peer->stale_life_since_ms)
        peer->stale_life_since_ms = hub->now_ms;
    return life < peer->life && hub->now_ms - peer->stale_life_since_ms < lease_ms_of(hub, peer);
}

void peers_heard(struct hub *hub, const struct envelope *envelope)
{
    struct peer *peer = find(hub, envelope->node);
    if (!peer || is_late(hub, peer, envelope->life) || envelope->life == peer->life)
        return;
    peer->life = envelope->life;
    peer->stale_life_since_ms = 0;
    peer->next_reborn = peer->watches;
    while (peer->next_reborn) {
        struct watch *watch = peer->next_reborn;
        peer->next_reborn = watch->next;
        if (watch->events->reborn && watch->life != peer->life)
            watch->events->reborn(watch);
    }
}

void peers_said_hello(struct hub *hub, const struct envelope *envelope)
{
    if (!peer_is_name(envelope->node) || node_is_self(hub, envelope->node))
        return;
    peer_get(hub, envelope->node.at, envelope->node.len)->hello_ms = hub->now_ms;
}

bool peers_outlived(struct hub *hub, struct slice node, uint64_t life)
{
    const struct peer *peer = find(hub, node);
    return peer && life < peer->life;
}

void peers_restart(struct hub *hub)
{
    struct peer *peer;
    for (peer = hub->peers->by_id; peer; peer = peer->hh.next) {
        peer->since_ms = hub->now_ms;
        is_alive(peer);
    }
}

uint64_t peers_next_deadline(const struct hub *hub)
{
    uint64_t deadline = UINT64_MAX;
    const struct peer *peer;
    for (peer = hub->peers->by_id; peer; peer = peer->hh.next)
        if (!peer->dead && peer->watches && peer_deadline(hub, peer) < deadline)
            deadline = peer_deadline(hub, peer);
    return deadline;
}

size_t peers_alive(const struct hub *hub, const char **ids, size_t most)
{
    size_t len = 0;
    for (const struct peer *peer = hub->peers->by_id; peer; peer = peer->hh.next) {
        if (!peer->score || peer->dead)
            continue;
        if (len < most)
            ids[len] = peer->id;
        len++;
    }
    return len;
}

void peers_broadcast(struct hub *hub, struct envelope *envelope)
{
    const struct peer *peer;
    for (peer = hub->peers->by_id; peer; peer = peer->hh.next)
        if (!peer->dead || has_just_started(hub, peer))
            node_send(hub, slice_of(peer->id), envelope);
}

static bool watches(const struct peer *peer, const struct watch *watch)
{
    const struct watch *at = peer->watches;
    while (at && at != watch)
        at = at->next;
    return at;
}

void peers_check(const struct hub *hub)
{
    const struct peer *peer;
    bool waiting = false;
    for (peer = hub->peers->by_id; peer; peer = peer->hh.next) {
        assert(!peer->listed); /* between readings */
        assert(peer->dead == (peer->dead_reading_ms != 0));
        assert(!peer->next_dead || (peer->dead && watches(peer, peer->next_dead)));
        assert(!peer->next_reborn);
        waiting = waiting || peer->next_dead;
    }
    assert(!waiting || timer_armed(&hub->peers->more));
}

void peers_free(struct hub *hub)
{
    struct peers *peers = hub->peers;
    struct peer *peer, *next;
    timer_stop(&hub->timers, &peers->more);
    HASH_ITER (hh, peers->by_id, peer, next) {
        assert(!peer->watches);
        HASH_DEL(peers->by_id, peer);
        free(peer);
    }
    free(peers);
    hub->peers = NULL;
}
