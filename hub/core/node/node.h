/*
 * A node as every room of the core sees it: its time, its timers, its name, its bus, what it
 * counts, and whether it may act. Each room keeps its own state behind its pointer here.
 *
 * Owns the node's state machine. Decides nothing: the lease says until when the node may act.
 *
 *   STARTING -> UP -> DRAINING -> STOPPED
 *               ^|      ^
 *               |v      |
 *             FENCED ---'
 */
#ifndef VINHUB_CORE_NODE_NODE_H
#define VINHUB_CORE_NODE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"
#include "common/conf.h"
#include "common/container_of.h"
#include "common/envelope.h"
#include "common/rng.h"
#include "common/timer.h"
#include "core/client/directory.h"
#include "core/client/queue.h"
#include "core/client/tokens.h"
#include "core/forms.h"
#include "core/node/setup.h"

/* Who waits for an answer asks again, from the second time on after twice as long */
#define ASK_AGAIN_MS 1000
#define ASK_TIMES    4 /* and then as often: where all is late, what is asked again makes it later */

struct node_counts {
    uint64_t clients, subscriptions, sessions, owned, upstreams, messages_in, messages_out;
};

struct hub {
    struct hub_setup setup;
    struct conf *conf;
    char id[CONF_NAME_MAX + 1];
    struct bus *bus;
    struct rng rng;
    struct rng spread; /* of when closed clients come back, so that nothing else depends on it */
    struct timers timers;
    uint64_t now_ms; /* of this turn */
    uint64_t started_unix_ms;
    uint64_t unix_apart_ms; /* node_unix_of */
    enum node_state state;  /* node_set_state */
    bool bus_connected;
    uint64_t links;        /* how often it was connected so far */
    uint64_t act_until_ms; /* the lease's word: until then this node may act; 0: no lease yet */
    uint64_t lease_runs;   /* how often the lease began: differs where it has lapsed meanwhile */
    uint64_t tags;         /* last one given out */
    uint64_t presence_numbers; /* of rosters and sums that were sent */
    uint64_t numbers;          /* of the last JOIN, LEAVE or COMMANDS */
    struct node_counts counts;
    uint8_t *scratch; /* SCRATCH_BYTES; frames gathered for one write */
    /* What the rooms own */
    struct lease *lease;
    struct peers *peers;
    struct drain *drain;
    struct record_budget *records;
    struct sessions *sessions;
    struct kept_sends *kept_sends;
    struct publish_request *requests; /* operators */
    struct closing *closings;         /* operators */
    struct hub_tail *tails;
    struct poll *polls;
    struct revocations *revocations;
    struct tokens tokens;
    struct directory directory;
    struct sweep *sweeps;
    struct clients_query *client_queries;
    struct client_id_table *client_ids;
    struct rates *rates;        /* subscriptions with a rate that wait for their time; NULL: none */
    struct catch_up *readings;  /* subscriptions, by the tag of their history read */
    struct subscription *lobby; /* own ones of clients without a session of their own */
    struct leaving *leaving;    /* subscriptions of clients that are gone */
    struct subscribings *subscribings;
    struct forms forms;
    struct client **due; /* those that are written to at the end of the turn; NULL: one that left */
    size_t due_len, due_cap;
    struct queue_spares spare_queues;
};

#define SCRATCH_BYTES (64u * 1024)

/* Asserts that the step is legal; reports it to the wiring. */
void node_set_state(struct hub *hub, enum node_state state);
const char *node_state_name(enum node_state state);

/* A tag that no other operation of this node has. */
uint64_t hub_tag(struct hub *hub);
/* By the time of this turn: may it claim sessions and open upstreams? */
bool node_has_lease(const struct hub *hub);
/* By the clock, at this very moment: asked before each write that only a holder of the lease may
 * make. No effects: that the lease has run out is acted upon at the seams of a turn (hub.h). */
bool node_may_write(const struct hub *hub);
uint64_t node_unix_ms(const struct hub *hub);
/* Numbers of what this node sends are above it, and so above those of any earlier life under its
 * id: an answer to one of those, which comes late, fits nothing that this life has sent. */
uint64_t node_first_number(const struct hub *hub);
/* What the calendar said at a moment of now_ms: each time the same, unless the clock was set by
 * more than a second since. */
uint64_t node_unix_of(struct hub *hub, uint64_t moment_ms);

/* Asserts what must hold. */
void node_check(const struct hub *hub);
/* Sends to a node's inbox; sender and life are filled in. */
void node_send(struct hub *hub, struct slice to, struct envelope *envelope);
bool node_is_self(const struct hub *hub, struct slice name);
static inline bool slice_equals(struct slice a, struct slice b)
{
    return a.len == b.len && (!a.len || !__builtin_memcmp(a.at, b.at, a.len));
}

#endif
