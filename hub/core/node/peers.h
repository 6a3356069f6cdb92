/*
 * The other nodes: who is alive, judged by this node's own clock alone.
 *
 * A node is dead to this one when its score in `nodes` has stayed unchanged for the longer of both
 * leases, on this node's clock, while this node could read it all the time and once more at the
 * deadline. What depends on a node has a watch on it, which is called at its death. Many are called
 * in portions, a budget a turn, so that the death of a node with 10,000 sessions stops no turn. A
 * watch may be removed at any time, also while others are called.
 */
#ifndef VINHUB_CORE_NODE_PEERS_H
#define VINHUB_CORE_NODE_PEERS_H

#include "common/hash.h"

#include "core/node/node.h"

struct peers;
struct watch;

/* Another node, or the name of one. Only peers.c writes to it. */
struct peer {
    char id[CONF_NAME_MAX + 1];
    uint64_t score;               /* its last renewal as seen; 0: not listed */
    uint64_t since_ms;            /* from when on the score has been seen unchanged, own clock */
    uint32_t lease_ms;            /* 0: not known */
    uint64_t life;                /* the one it speaks in; 0: not heard */
    uint64_t stale_life_since_ms; /* since when an earlier one is heard, and this is not; 0: not */
    uint64_t hello_ms;            /* when it last said HELLO; 0: it did not */
    bool dead;
    bool listed; /* in the reading at hand */
    /* The reading that found it dead: watches older than that are being called; 0: none are */
    uint64_t dead_reading_ms;
    struct watch *watches;
    struct watch *next_dead, *next_reborn; /* the next ones to call */
    UT_hash_handle hh;
};

struct watch_events {
    /* The node is dead; nothing that was learned after the reading by which it was found so is
     * concerned: see since_ms. Comes again with each reading until the watch is gone or newer. */
    void (*dead)(struct watch *watch);
    /* It speaks in another life than the watch has. NULL where that is no matter. */
    void (*reborn)(struct watch *watch);
};

/* Embedded in what depends on a node. */
struct watch {
    struct peer *peer; /* NULL: watches nobody */
    const struct watch_events *events;
    uint64_t since_ms; /* when what depends on it was learned; 0: only from another node */
    uint64_t life;     /* of the node, where reborn is heard */
    struct watch *prev, *next;
};

void peers_new(struct hub *hub);
void peers_free(struct hub *hub); /* every watch must be gone */

/* What a message calls a node may be anything. */
bool peer_is_name(struct slice name);
/* The peer of that id, made when it is not known yet; then it is watched from now on. Never NULL,
 * this node only where another process speaks under its id. It lives while it is watched or listed.
 */
struct peer *peer_get(struct hub *hub, const char *id, size_t len);

/* Begins to watch the peer, or begins anew; since_ms is now. */
void peer_watch(struct hub *hub, struct watch *watch, struct peer *peer,
                const struct watch_events *events);
void peer_unwatch(struct watch *watch); /* no effect where it watches nobody */

/* Takes a reading of `nodes` that was asked for at sent_ms. */
void peers_read(struct hub *hub, uint64_t sent_ms, const struct bus_node *nodes, size_t len);
/* A message of that node came: what another life under its id was a member of is left. A node that
 * starts again under its id within a lease may never be seen dead. */
void peers_heard(struct hub *hub, const struct envelope *envelope);
/* A HELLO of that node came: it has started, and listens to what is sent to all, though no reading
 * has it yet. */
void peers_said_hello(struct hub *hub, const struct envelope *envelope);
/* The message is late: another life under that id has spoken since. */
bool peers_outlived(struct hub *hub, struct slice node, uint64_t life);
/* Readings were interrupted: all watching starts anew. */
void peers_restart(struct hub *hub);
/* When the next node can be found dead by a reading; UINT64_MAX: none. */
uint64_t peers_next_deadline(const struct hub *hub);
/* How many are listed and not dead; the ids of the first `most` of them, which live during the
 * turn.
 */
size_t peers_alive(const struct hub *hub, const char **ids, size_t most);
/* Sends to all that are not dead, and to those that have just started. One that has left does not
 * hear it. */
void peers_broadcast(struct hub *hub, struct envelope *envelope);
/* Asserts what must hold. */
void peers_check(const struct hub *hub);

#endif
