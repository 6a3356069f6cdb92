#include "core/peers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"
#include "core/membership.h"
#include "core/ownership.h"

bool peer_is_name(struct slice name)
{
    return text_is_name(name.at, name.len);
}

struct peer *peer_find(struct hub *hub, const char *id, size_t len)
{
    struct peer *peer = NULL;
    HASH_FIND(hh, hub->peers, id, len, peer);
    return peer;
}

struct peer *peer_get(struct hub *hub, const char *id, size_t len)
{
    assert(len > 0 && len <= CONF_NAME_MAX);
    struct peer *peer = peer_find(hub, id, len);
    if (peer)
        return peer;
    peer = calloc(1, sizeof *peer);
    if (!peer)
        abort();
    memcpy(peer->id, id, len);
    peer->since_ms = hub->now_ms;
    HASH_ADD(hh, hub->peers, id, len, peer);
    return peer;
}

void peer_set_owner(struct session *session, struct peer *peer)
{
    session->owner_since_ms = session->hub->now_ms;
    session->owner_died = false;
    if (session->owner == peer)
        return;
    if (session->owner)
        DL_DELETE2(session->owner->sessions, session, owner_prev, owner_next);
    session->owner = peer;
    if (peer)
        DL_APPEND2(peer->sessions, session, owner_prev, owner_next);
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

static void peer_saw(struct hub *hub, struct peer *peer, uint64_t score)
{
    if (peer->score == score)
        return;
    peer->score = score;
    peer->since_ms = hub->now_ms;
    peer->dead = false;
}

/*
 * What it was found dead by was read at sent_ms. Only what was known before that is concerned: it
 * may have come back since, with a new lease, and own or join something anew. The list changes
 * under the walk: a session that takes over leaves it.
 */
static void peer_is_dead(struct peer *peer, uint64_t sent_ms)
{
    struct member *member, *next_member;
    struct session *session, *next;
    if (!peer->dead && (peer->sessions || peer->members))
        log_warn("node_dead", LOG_STR("peer", peer->id), LOG_U64("score", peer->score));
    peer->dead = true;
    DL_FOREACH_SAFE2(peer->members, member, next_member, peer_next)
    if (member->heard_ms < sent_ms)
        membership_remove(member);
    DL_FOREACH_SAFE2(peer->sessions, session, next, owner_next)
    if (session->owner_since_ms < sent_ms)
        ownership_owner_died(session);
}

void peers_read(struct hub *hub, uint64_t sent_ms, const struct bus_node *nodes, size_t len)
{
    struct peer *peer, *next;
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
    HASH_ITER (hh, hub->peers, peer, next) {
        if (!peer->listed)
            peer_saw(hub, peer, 0);
        peer->listed = false;
        if (sent_ms >= peer_deadline(hub, peer))
            peer_is_dead(peer, sent_ms);
    }
    peers_trim(hub, false);
}

/*
 * Lives are ordered by the clock of the peer's machine, so that what an old life still had on its
 * way does not count. An earlier one that is heard for a lease, and no later one meanwhile, is no
 * echo: the clock was set back, and the node started again.
 */
static bool is_late(const struct hub *hub, struct peer *peer, uint64_t life)
{
    if (life >= peer->life)
        peer->echo_ms = 0;
    else if (!peer->echo_ms)
        peer->echo_ms = hub->now_ms;
    return life < peer->life && hub->now_ms - peer->echo_ms < lease_ms_of(hub, peer);
}

void peers_heard(struct hub *hub, const struct envelope *envelope)
{
    struct peer *peer = peer_find(hub, envelope->node.at, envelope->node.len);
    struct member *member, *next;
    if (!peer || is_late(hub, peer, envelope->life) || envelope->life == peer->life)
        return;
    peer->life = envelope->life;
    peer->echo_ms = 0;
    DL_FOREACH_SAFE2(peer->members, member, next, peer_next)
    if (member->life != peer->life)
        membership_remove(member);
}

bool peers_outlived(struct hub *hub, struct slice node, uint64_t life)
{
    const struct peer *peer = peer_find(hub, node.at, node.len);
    return peer && life < peer->life;
}

void peers_restart(struct hub *hub)
{
    struct peer *peer, *next;
    HASH_ITER (hh, hub->peers, peer, next) {
        peer->since_ms = hub->now_ms;
        peer->dead = false;
    }
}

uint64_t peers_next_deadline(const struct hub *hub)
{
    uint64_t deadline = UINT64_MAX;
    for (const struct peer *peer = hub->peers; peer; peer = peer->hh.next)
        if (!peer->dead && (peer->sessions || peer->members) && peer_deadline(hub, peer) < deadline)
            deadline = peer_deadline(hub, peer);
    return deadline;
}

void peers_trim(struct hub *hub, bool all)
{
    struct peer *peer, *next;
    HASH_ITER (hh, hub->peers, peer, next) {
        if (!all && (peer->score || peer->sessions || peer->members || !peer->dead))
            continue;
        HASH_DEL(hub->peers, peer);
        free(peer);
    }
}
