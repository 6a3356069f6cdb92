/*
 * The rig's kind for buses over Redis, and what tests of faults need besides.
 */
#ifndef VINHUB_TESTS_CONTRACT_RIG_REDIS_H
#define VINHUB_TESTS_CONTRACT_RIG_REDIS_H

#include "common/conf.h"
#include "redis_server.h"
#include "rig.h"

struct redis_rig {
    struct contract_rig rig; /* first */
    struct redis_server server;
    struct loop *loop;
    struct loop_timer *timer;
    struct conf conf; /* of the peers that are opened next */
    bool patient;     /* their buses keep connections that are silent for long: see open_bus */
    char url[128];
};

extern const struct rig_kind redis_kind;

/* Starts the server and the loop; lease of the peers in ms. */
void redis_rig_start(struct redis_rig *r, uint32_t lease_ms);
/* The same without a server: the test sets the URL. */
void redis_rig_start_elsewhere(struct redis_rig *r, uint32_t lease_ms);
void redis_rig_stop(struct redis_rig *r);
/* Runs turns for that long, to check that something does not happen. */
void redis_rig_pass(struct redis_rig *r, uint64_t ms);

#endif
