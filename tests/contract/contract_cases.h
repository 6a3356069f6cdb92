/*
 * The promises of bus.h as cases, for any kind of bus. A case's state is a struct contract_rig
 * without peers.
 */
#ifndef VINHUB_TESTS_CONTRACT_CASES_H
#define VINHUB_TESTS_CONTRACT_CASES_H

#include <stddef.h>

#include "rig.h"

/* Runs all cases and returns how many failed. before and after get the rig: they make and free
 * rig->store. */
int cases_run(const char *name, struct contract_rig *rig, int (*before)(void **state),
              int (*after)(void **state));

struct contract_case {
    const char *name;
    void (*run)(struct contract_rig *rig);
};

extern const struct contract_case cases_nodes[];
extern const size_t cases_nodes_len;
extern const struct contract_case cases_ownership[];
extern const size_t cases_ownership_len;
extern const struct contract_case cases_messages[];
extern const size_t cases_messages_len;

#define CASE(function)      \
    {                       \
#function, function \
    }
#define CASES_LEN(array) (sizeof(array) / sizeof((array)[0]))

#endif
