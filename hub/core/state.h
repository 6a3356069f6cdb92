/*
 * The state of the core: the hub, its sessions, the other nodes. Only files of core/ include this.
 *
 * Who owns what
 *   hub ── sessions (by id) ── subscriptions (list) ── client (memory of the front)
 *       │                  ├── members (owner's side: one a node) ── peer
 *       │                  ├── commands (client messages that have not gone upstream)
 *       │                  ├── batch (publications of this turn)
 *       │                  └── ring (last publications, owner's side)
 *       └── peers (other nodes, by id) ── memberships, sessions they own
 * A session is freed by session_reap at the end of a turn only.
 */
#ifndef VINHUB_CORE_STATE_H
#define VINHUB_CORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/hash.h"
#include "common/publication.h"
#include "common/rng.h"
#include "common/timer.h"
#include "common/url.h"
#include "common/v1.h"
#include "core/attempt.h"
#include "core/client/client.h"
#include "core/hub.h"

#include <utlist.h>

#define CONTAINER_OF(pointer, type, field) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, field)))

/* A member that waits for an answer asks again, from the second time on after twice as long */
#define ASK_AGAIN_MS 1000
#define ASK_TIMES    4 /* and then as often: where all is late, what is asked again makes it later */
/* How long a last SEND id is remembered (contract section 6) */
#define SEND_MEMORY_MS (5 * 60 * 1000u)

/* What a node is to a session. Each state says what ends it. */
enum session_state {
    SESSION_SUBSCRIBING, /* until on_subscribed; the bus resubscribes by itself */
    SESSION_CLAIMING,    /* until on_claimed; asked again by the step timer */
    SESSION_JOINING, /* until JOINED; JOIN again after 1, 1, 2, 4, 4 ... s, or the owner is dead */
    SESSION_MEMBER,  /* until the last client leaves, the owner changes or dies */
    SESSION_OWNER,   /* until it is released, handed over, fenced or lost */
    SESSION_MOVING,  /* upstream closing for a hand-over, then the transfer; until on_transferred */
    SESSION_RELEASING, /* upstream closing, then the release; until on_released */
    SESSION_LEAVING,   /* LEAVE as often until LEFT or the owner is dead */
    SESSION_FENCED,    /* was owner when the lease ran out; until the lease is back */
    SESSION_ENDED,     /* unsubscribed; freed at the end of the turn */
    SESSION_STATES
};

enum link_state {
    LINK_NONE,
    LINK_WAITING,    /* until the back-off timer */
    LINK_CONNECTING, /* until opened or closed is told (reconnect.timeout) */
    LINK_OPEN,
    LINK_CLOSING, /* until closed is told (1 s) */
    LINK_STATES
};

/* Another node, or the name of one. Referenced by pointer from sessions and members: kept while any
 * is left. */
struct peer {
    char id[CONF_NAME_MAX + 1];
    uint64_t score;    /* its last renewal as seen; 0: not listed */
    uint64_t since_ms; /* from when on the score has been seen unchanged, own clock */
    uint32_t lease_ms; /* 0: not known */
    uint64_t life;     /* the one it speaks in; 0: not heard */
    uint64_t echo_ms;  /* since when an earlier one is heard, and this is not; 0: it is not */
    bool dead;
    bool listed;              /* in the reading at hand */
    struct member *members;   /* memberships of that node in sessions owned here */
    struct session *sessions; /* sessions that it owns and this node has part in */
    UT_hash_handle hh;
};

/* A node with clients of a session owned here. */
struct member {
    struct session *session;
    struct peer *peer;
    uint64_t life;
    uint64_t since;    /* number of the JOIN it began with; 0: the last owner named it */
    uint64_t number;   /* of its last JOIN, LEAVE or COMMANDS */
    uint64_t count;    /* its clients */
    uint64_t taken;    /* last command taken from it */
    uint64_t sent;     /* last command of it that went upstream */
    uint64_t heard_ms; /* when its last JOIN came; 0: it has not come, the last owner named it */
    uint16_t requests; /* bits of its clients' URLs in the session's attempt */
    bool confirm_due;
    struct member *prev, *next;           /* in the session */
    struct member *peer_prev, *peer_next; /* of the peer */
};

/* A client message on its way upstream. */
struct command {
    uint64_t number; /* grows per session and node; of the member's counting where member is set */
    struct subscription *from; /* NULL: gone, or of another node */
    struct member *member;     /* of another node */
    uint64_t send_id;          /* 0: raw */
    char sender[33];           /* client id of a SEND, "" for raw */
    enum opcode opcode;
    bool told; /* an owner may have it: whether it went upstream is known to that owner alone */
    uint64_t expires_ms;
    uint8_t *payload;
    size_t len;
    struct command *prev, *next;
};

struct commands {
    struct command *list;   /* oldest first */
    struct command *unsent; /* first that is not with the owner yet; NULL: all are */
    size_t bytes, len;
    uint64_t last_number;
    /* Of the last COMMANDS told: a HANDBACK that has not seen it is out of date */
    uint64_t told_number;
    uint64_t told_ms;   /* when the owner was last told or last answered, while some are with it */
    bool handed_back;   /* the owner can't send now: wait for its STATUS, or a while */
    bool congested;     /* the upstream takes nothing for now */
    struct timer timer; /* asks again, and expires */
};

/* The last SEND of a protocol client that went upstream. */
struct last_send {
    char client[33];
    uint64_t id;
    uint64_t at_ms; /* when this node learned of it: clocks of others do not count */
    UT_hash_handle hh;
};

/* A protocol client's id and its place among all of this node; client_ids.c. */
struct client_id {
    struct client_id *next;
    struct client *client; /* NULL: another connection has the id now */
    char text[V1_CLIENT_MAX + 1];
};

struct client_id_table {
    struct client_id **lists; /* lists_len of them, a power of two */
    size_t lists_len, len;
    uint64_t seed; /* so that nobody can choose ids that fall into one list */
};

/* Publications kept by the owner: history.size of them at most. */
struct ring {
    struct publication **items;
    uint32_t head, len, cap;
    size_t bytes;
};

/* A growing array of references. */
struct pubs {
    struct publication **items;
    size_t len, cap;
};

enum move_step { MOVE_NONE, MOVE_OFFERED, MOVE_CLOSING, MOVE_TRANSFERRING };

/* A hand-over seen from the owner. */
struct move {
    enum move_step step;
    char to[CONF_NAME_MAX + 1];
    unsigned tries;
    uint64_t at_ms; /* of the last offer */
    struct timer timer;
};

struct session {
    struct hub *hub;
    struct service *service;
    unsigned metrics; /* slot of the service in what is counted */
    char *id;
    char *url;      /* of the last attempt; at first of the client that opened it */
    char *redacted; /* the same without query values */
    enum session_state state;
    uint64_t since_unix_ms; /* of the state for people */
    struct subscription *subscriptions;
    uint32_t clients_len;
    uint32_t paused_len; /* clients that are not read from for now */

    /* ownership */
    struct peer *owner;   /* NULL: this node, or nobody known */
    uint64_t owner_epoch; /* at which it was named; lower than epoch where the store lost writes */
    uint64_t refused_ms;  /* when the named owner last said that it is not */
    uint64_t owner_since_ms; /* when this node learned of that owner, or of its epoch */
    uint64_t epoch;          /* highest seen */
    uint64_t tag;            /* of the one operation whose answer is awaited */
    bool subscribed;
    bool owner_died; /* the owner at this epoch was found dead: the claim names it */
    bool doubt;    /* the subscription was interrupted: the end of an epoch may have been missed */
    uint8_t asked; /* how often, in this state and without an answer */
    struct timer step; /* of the state */

    /* stream */
    struct position at; /* last publication accepted for the local clients */
    uint64_t placed;    /* owner: last offset given out in this epoch */
    bool positioned;
    struct pubs batch;       /* of this turn, for the local clients */
    struct pubs to_bus;      /* of this turn, for the bus */
    struct pubs unconfirmed; /* published, not answered yet; oldest first */
    bool release_sent;       /* at this epoch: whatever its answer, this epoch is over */
    bool reclaiming;         /* an owner that takes a higher epoch */
    /* Owner: an answer was no answer, though the bus is connected; until the record is asserted */
    bool unproven;
    struct timer prove;
    struct ring ring;
    uint64_t publish_until_ms; /* to the bus in any case until then */

    /* gap filling, member's side */
    bool recovering;
    uint64_t recover_tag;
    struct position recover_to;
    struct pubs held;
    size_t held_bytes;
    struct timer recover;
    struct catch_up *waiting; /* subscriptions that wait for a position; subscription.c */

    /* upstream, owner's side */
    enum link_state link;
    struct attempt attempt; /* which client's URL is taken */
    struct upstream *upstream;
    enum upstream_status status; /* as told to protocol clients and members */
    char reason[96];
    uint32_t backoff_ms;
    uint64_t opened_ms;
    uint64_t no_tcp_since_ms;
    struct timer link_timer; /* back-off, or linger */
    struct member *members;
    uint32_t members_len;
    struct timer roll; /* asks members now and then whether they are */
    struct last_send *last_sends;
    struct id_claim *id_claims; /* clients that came with an id; client_ids.c */
    struct move move;
    uint64_t accepted_epoch; /* successor: of the offer this node has accepted; 0: none */
    uint64_t accepted_run;   /* lease.runs then: a TAKE counts only within the same run */
    struct commands out;
    uint64_t join_number;     /* lowest number of a JOIN (or LEAVE) whose answer counts */
    uint64_t joined_number;   /* of the JOIN that was answered last; 0: none */
    uint64_t asked_number;    /* of the JOIN that was sent last */
    struct position asked_at; /* where this node took the stream to be then */
    uint64_t owner_heard_ms;  /* when the owner last said something, as a member */
    bool join_due;            /* the number of clients has changed, or the position is doubtful */
    bool confirm_due;
    /* Commands of a member were handed back though the upstream is open: the queue was full */
    bool turned_away;

    struct timer record;
    bool dirty; /* on hub->dirty */
    struct session *dirty_next;
    struct session *owner_prev, *owner_next; /* of peer->sessions */
    struct session *dead_next;
    uint64_t opened_at_ms;
    uint64_t messages_in, messages_out;
    UT_hash_handle hh;
};

struct lease {
    uint64_t until_ms;       /* 0: none yet */
    uint64_t sent_ms;        /* of the renewal under way */
    uint64_t tag;            /* 0: none under way */
    uint64_t read_ms;        /* when the last answer came */
    uint64_t watch_start_ms; /* of the own id at start */
    uint64_t watch_score, watch_changed_ms;
    bool listing;
    bool lapsed;             /* it ran out, and that has been acted upon */
    uint64_t runs;           /* how often the lease began: differs where it has lapsed meanwhile */
    bool registered;         /* a renewal was sent: the own entry is ours */
    uint64_t twin;           /* another process that said HELLO under this id: its random number */
    uint64_t hello_until_ms; /* other nodes are told of this life until then */
    struct timer timer;
};

struct publish_request; /* operators.c */
struct parting;         /* handover.c: a TAKE that is not answered yet */
struct catch_up;        /* subscription.c */
struct kept_sends;      /* kept_sends.c: of a session that was released */

struct hub {
    struct hub_setup setup;
    struct conf *conf;
    char id[CONF_NAME_MAX + 1];
    struct bus *bus;
    struct rng rng;
    struct timers timers;
    uint64_t now_ms;
    enum node_state state;
    bool bus_connected;
    struct lease lease;
    struct peer *peers;
    struct session *sessions;
    struct session *dirty;
    struct session *dead;
    uint64_t tags;    /* last one given out */
    uint64_t numbers; /* of the last JOIN, LEAVE or COMMANDS */
    /* Highest number of a command in a session that is gone: a later one goes on from there */
    uint64_t commands;
    uint64_t clients, owned, upstreams;
    uint64_t started_unix_ms;
    uint32_t records_left; /* records that may be written within this lease */
    uint64_t records_at_ms;
    struct publish_request *requests;
    struct hub_tail *tails;
    struct parting *partings;
    struct catch_up *readings; /* by the tag of their history read */
    struct client_id_table client_ids;
    struct kept_sends *kept_sends; /* by session, oldest first */
    size_t kept_len;               /* SENDs in them */
    struct timer kept_timer;
    uint8_t *scratch; /* frames gathered for one write */
    struct forms forms;
    struct client **due; /* those that are written to at the end of the turn; NULL: one that left */
    size_t due_len, due_cap;
    struct queue_spares spare_queues;
    struct timer removal; /* of services: their clients are closed in portions */
    /* drain */
    struct timer drain;
    uint64_t drain_started_ms;
    uint64_t drain_closing_ms; /* when the closing of clients began; 0: not yet */
    uint64_t drain_clients;    /* how many there were then */
    uint64_t drain_closed;
    bool drained;
};

/* The time of a drain is over: what messages of clients that have left still wait for is not waited
 * for. */
static inline bool drain_is_late(const struct hub *hub)
{
    return hub->drain_closing_ms && hub->now_ms - hub->drain_closing_ms >= hub->conf->node.drain_ms;
}

/* Somebody on this node still wants the session: a client, or a message of one that has left. */
static inline bool session_wanted(const struct session *session)
{
    return session->clients_len || (session->out.list && !drain_is_late(session->hub));
}

#define SCRATCH_BYTES (64u * 1024)

/* Puts a session on the list of those that are flushed at the end of the turn. */
void hub_mark_dirty(struct session *session);
uint64_t hub_tag(struct hub *hub);

#endif
