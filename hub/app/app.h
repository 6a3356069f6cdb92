/*
 * The wiring of a node: makes its parts in order, connects them, and frees them again. It handles
 * signals and decides the exit code, but nothing about sessions.
 */
#ifndef VINHUB_APP_APP_H
#define VINHUB_APP_APP_H

#include "common/conf.h"

enum exit_code {
    EXIT_CLEAN = 0,
    EXIT_RUNTIME = 1, /* for example, the port is in use */
    EXIT_USAGE = 2,   /* a mistake in the configuration or on the command line */
};

/* The sources of the configuration, which a reload reads again. The strings live as long as the
 * process. */
struct app_inputs {
    const char *file; /* NULL: none */
    struct conf_overrides overrides;
};

/* Runs a node until it is stopped by a signal, a drain or an error; takes a reference to conf. If
 * it returns another code than EXIT_CLEAN, the cause is in the log. */
enum exit_code app_run(const struct app_inputs *inputs, struct conf *conf);

/* Checks what conf_load can't check: certificates, keys, the Redis URL. Opens no port. Logs what is
 * wrong. */
enum exit_code app_check(struct conf *conf);

#endif
