/*
 * Backends and browsers of a node, whose steps the input decides, and checks on the core: it writes
 * whole frames, writes nothing to a client that it closed, positions grow, queues keep their
 * bounds.
 */
#ifndef VINHUB_TESTS_FUZZ_ENDS_H
#define VINHUB_TESTS_FUZZ_ENDS_H

#include "core/hub.h"
#include "fuzz.h"

#define END_CLIENTS  8
#define END_SESSIONS 2

/* A node as its ends know it; embedded in the target's own struct. */
struct end_node {
    struct hub *hub; /* NULL: not running */
};

enum end_state { END_OPENING, END_OPEN, END_CLOSING };

/* The core's opaque upstream. */
struct upstream {
    struct end_node *node;
    struct session *session;
    unsigned backend; /* index of the session, by its URL */
    enum end_state state;
    bool busy; /* takes nothing for now */
    uint64_t since_ms;
    struct upstream *next;
};

extern const struct upstream_ops end_upstream_ops; /* ctx: the struct end_node */
extern const struct client_ops end_client_ops;

/* Starts with nothing. lies: messages may be forged, so only promises that hold even then are
 * checked. */
void ends_start(struct conf *conf, bool lies);
/* Frees what is left; the hubs are gone. */
void ends_stop(void);

/* Starts the hub of a node whose ends these are; the caller frees it. */
void ends_hub_start(struct end_node *node, struct conf *conf, const char *id, uint64_t life,
                    struct bus *bus);

/* One step of a client, chosen by the input, in a turn of the node. */
void ends_client_step(struct fuzz_input *input, struct end_node *node);
void ends_upstream_step(struct fuzz_input *input, struct end_node *node);
/* Events of time: pending closes are carried out, attempts time out. */
void ends_time(struct end_node *node);
/* The node's process is gone, its hub freed: no upstream of it is left. */
void ends_node_died(const struct end_node *node);
/* From now on backends and sockets of browsers work without faults. */
void ends_calm(struct end_node *node);
void ends_all_leave(struct end_node *node);

/* Open or half open connections to the backend of that session. */
const struct upstream *ends_upstreams(void);
/* Asserts the bounds of the queues of the node's clients. */
void ends_check_bounds(const struct end_node *node);

extern const char *const end_session_ids[END_SESSIONS];

#endif
