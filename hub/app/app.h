/*
 * The wiring of a node: makes the parts in their order, connects them, and takes them down again.
 *
 * Decides nothing about sessions. Signals end here, and so does the choice of the exit code.
 */
#ifndef VINHUB_APP_APP_H
#define VINHUB_APP_APP_H

#include "common/conf.h"

enum exit_code {
    EXIT_CLEAN = 0,
    EXIT_RUNTIME = 1, /* e.g. a port that is taken */
    EXIT_USAGE = 2,   /* configuration or command line */
};

/* What a reload reads again. Strings outlive the run. */
struct app_inputs {
    const char *file; /* NULL: none */
    struct conf_overrides overrides;
};

/* Runs a node until it is told to stop; conf is borrowed. Says on stderr why it ends with another
 * code than EXIT_CLEAN. */
enum exit_code app_run(const struct app_inputs *inputs, struct conf *conf);

/* Tries what the configuration alone can't tell: certificates, keys, the Redis URL. Opens no port.
 * Says on stderr what is wrong. */
enum exit_code app_check(struct conf *conf);

#endif
