/*
 * Backends and browsers of a node whose every step the input decides, and what must hold of what
 * the core does to them: it writes whole frames, nothing to one that it closed, positions that
 * grow, nothing beyond the bounds of the queues.
 */
#ifndef VINHUB_TESTS_FUZZ_ENDS_H
#define VINHUB_TESTS_FUZZ_ENDS_H

#include "core/hub.h"
#include "fuzz.h"

#define END_CLIENTS  8
#define END_SESSIONS 2

/* A node as its ends know it; embedded in what the target has of it. */
struct end_node {
    struct hub *hub; /* NULL: not running */
};

enum end_state { END_OPENING, END_OPEN, END_CLOSING };

/* What the core's upstream is here. */
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

/* All is empty. lies: what the nodes hear may be forged, so only what no forgery may bring about is
 * checked. */
void ends_start(struct conf *conf, bool lies);
/* Frees what is left; the hubs are gone. */
void ends_stop(void);

/* Starts the hub of a node whose ends these are; the caller frees it. */
void ends_hub_start(struct end_node *node, struct conf *conf, const char *id, uint64_t life,
                    struct bus *bus);

/* Each takes what it does from the input. For a node whose turn has begun. */
void ends_client_step(struct fuzz_input *input, struct end_node *node);
void ends_upstream_step(struct fuzz_input *input, struct end_node *node);
/* What happens without anybody's doing: closes that wait are done, tries time out. */
void ends_time(struct end_node *node);
/* The node's process is gone, its hub freed: no upstream of it is left. */
void ends_node_died(const struct end_node *node);
/* Backends answer and take everything again, and so do the sockets of browsers. */
void ends_calm(struct end_node *node);
void ends_all_leave(struct end_node *node);

/* Open or half open connections to the backend of that session. */
const struct upstream *ends_upstreams(void);
/* Asserts the bounds of the queues of the node's clients. */
void ends_check_bounds(const struct end_node *node);

extern const char *const end_session_ids[END_SESSIONS];

#endif
