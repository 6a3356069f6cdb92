/*
 * vinhubctl: commands of an operator to the cluster, through the admin port of a node or through
 * Redis alone.
 *
 * It is a short-lived, blocking client. A source is where it gets its answers: one table of
 * operations with two implementations, which return the same JSON (the fields of contract section
 * 11).
 */
#ifndef VINHUB_CTL_CTL_H
#define VINHUB_CTL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "loop/tls_context.h"

enum ctl_exit { CTL_DONE = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

struct ctl_source;

/* Called for each message of a session that is followed; returns false to end. json (valid during
 * the call): {"epoch", "offset", "time", "encoding", "payload"}, or {"dropped": N} if the node left
 * out messages. */
typedef bool source_message_fn(void *ctx, const json_t *json);

/*
 * Each operation returns STATUS_OK and a result with one reference, or a failure (STATUS_NOT_FOUND
 * and others); then the source's why has the cause in one line.
 */
struct source_ops {
    enum status (*nodes)(struct ctl_source *source, json_t **out);    /* array */
    enum status (*sessions)(struct ctl_source *source, json_t **out); /* array, in id order */
    enum status (*session)(struct ctl_source *source, const char *id, json_t **out);
    enum status (*tail)(struct ctl_source *source, const char *id, source_message_fn *fn,
                        void *ctx);
    enum status (*publish)(struct ctl_source *source, const char *id, const void *data, size_t len,
                           json_t **out);
    /* node: its id; NULL: the node with the admin port. */
    enum status (*drain)(struct ctl_source *source, const char *node);
    enum status (*close)(struct ctl_source *source, const char *id);
    /* filter: an object of texts. Result: {"clients", "missing"}, the clients of all pages, and the
     * nodes that did not answer. */
    enum status (*clients)(struct ctl_source *source, const json_t *filter, json_t **out);
    /* Result: {"closed", "missing"}. filter may have a reason, too. */
    enum status (*kick)(struct ctl_source *source, const json_t *filter, json_t **out);
    /* token: {"jti"} or {"sub", "before"}. */
    enum status (*revoke)(struct ctl_source *source, const json_t *token, json_t **out);
    void (*free)(struct ctl_source *source);
};

/* Embedded first in each implementation. */
struct ctl_source {
    const struct source_ops *ops;
    char why[512];
};

/* url: for example "http://127.0.0.1:9600"; token may be NULL. Does not connect yet.
 * STATUS_INVALID: the URL has another form, or the token has more than one line. */
MUST_USE enum status source_admin_new(const char *url, const char *token, struct ctl_source **out);
/* client: for rediss; its texts must live as long as the source. STATUS_INVALID: not a Redis URL.
 */
MUST_USE enum status source_redis_new(const char *url, const char *prefix,
                                      const struct tls_client *client, struct ctl_source **out);

/* Sets source->why; returns status. */
PRINTF_LIKE(3, 4)
enum status source_fail(struct ctl_source *source, enum status status, const char *format, ...);

/* --- table.c: aligned columns on stdout */
void table_nodes(const json_t *nodes);
void table_sessions(const json_t *sessions);
void table_session(const json_t *session);
void table_clients(const json_t *clients);
/* Print short forms such as "1.2 GiB", "3 s", "2 h". out has 32 bytes. */
void table_bytes(json_int_t bytes, char out[32]);
void table_age(json_int_t since_ms, char out[32]);

/* --- top.c: refreshes each second until q or Ctrl-C */
enum ctl_exit top_run(struct ctl_source *source, bool as_json);

#endif
