/*
 * vinhubctl: what an operator asks of the cluster, through a node's admin port or through Redis
 * alone.
 *
 * A short-lived synchronous client. Where it asks is a source: one table of operations, two
 * implementations, the same JSON from both (the fields of contract section 11).
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

/* One message of a session that is followed. False ends the tail. json: {"epoch", "offset", "time",
 * "encoding", "payload"}, or {"dropped": N} where the node had to leave some out. Borrowed. */
typedef bool source_message_fn(void *ctx, const json_t *json);

/*
 * Each returns STATUS_OK and a result with one reference, STATUS_NOT_FOUND, or another failure;
 * source_why says what failed in one line then.
 */
struct source_ops {
    enum status (*nodes)(struct ctl_source *source, json_t **out);    /* array */
    enum status (*sessions)(struct ctl_source *source, json_t **out); /* array, in id order */
    enum status (*session)(struct ctl_source *source, const char *id, json_t **out);
    enum status (*tail)(struct ctl_source *source, const char *id, source_message_fn *fn,
                        void *ctx);
    enum status (*publish)(struct ctl_source *source, const char *id, const void *data, size_t len,
                           json_t **out);
    enum status (*drain)(struct ctl_source *source,
                         const char *node); /* NULL: the node that is asked */
    enum status (*close)(struct ctl_source *source, const char *id);
    /* filter: an object of texts. {"clients", "missing"}: all pages, and nodes that did not answer.
     */
    enum status (*clients)(struct ctl_source *source, const json_t *filter, json_t **out);
    /* {"closed", "missing"}. filter may hold a reason as well. */
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

/* url: "http://127.0.0.1:9600"; token may be NULL. STATUS_INVALID: not a URL of that form; nothing
 * is connected yet. */
MUST_USE enum status source_admin_new(const char *url, const char *token, struct ctl_source **out);
/* client: for rediss; its texts outlive the source. STATUS_INVALID: not a URL of Redis. */
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
/* "1.2 GiB", "3 s", "2 h": short forms for people. out has 32 bytes. */
void table_bytes(json_int_t bytes, char out[32]);
void table_age(json_int_t since_ms, char out[32]);

/* --- top.c: refreshes each second until q or Ctrl-C */
enum ctl_exit top_run(struct ctl_source *source, bool as_json);

#endif
