/*
 * A node without a program, on which parts of the core are tested one at a time. Its bus records
 * each call and answers nothing by itself.
 */
#ifndef VINHUB_TESTS_CORE_RIG_H
#define VINHUB_TESTS_CORE_RIG_H

#include "core/node/node.h"
#include "core/session/state.h"

#define RIG_CALLS 4096

/* The last call of the bus of its kind. */
struct rig_call {
    uint64_t tag, epoch;
    size_t len;    /* publications */
    size_t bytes;  /* their payload */
    unsigned how;  /* of enum bus_publish */
    unsigned type; /* of an envelope */
    uint64_t number, offset;
    char to[CONF_NAME_MAX + 1];
    uint64_t ttl_ms; /* of the history */
};

struct core_rig {
    struct bus bus;
    struct hub hub;
    struct service service;
    struct session session;
    struct sessions sessions;
    struct rig_call published[RIG_CALLS], told[RIG_CALLS];
    size_t published_len, told_len;
    size_t claims, assertions, releases, transfers, histories, renewals, lists;
    uint64_t heard_ms;      /* when the inbox last worked */
    bus_rows_fn *list_done; /* of the last listing */
    void *list_ctx;
    uint64_t tag; /* of the last of these */
    bool lease;   /* the node may write */
};

/* A hub with a lease, connected, and a session of it in that state; the part under test is the
 * caller's. */
void rig_init(struct core_rig *rig, enum session_state state);
/* The caller has freed the parts. */
void rig_fini(struct core_rig *rig);
/* Time passes, timers run: as many turns as it takes until nothing is due. */
void rig_pass(struct core_rig *rig, uint64_t ms);
struct publication *rig_publication(size_t len);

#endif
