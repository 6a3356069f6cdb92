/*
 * The command connection to one server: a pipeline of ops, answered first in, first out.
 *
 * Replies have a deadline, counted from the one before: a connection that owes some and gives none
 * for so long is ended, once. One whose replies do not belong to its requests is ended at once: by
 * a reply to nothing, one of another kind than its command has, or a mark that does not come back.
 * A pipeline is open when the server has the scripts. What it has lost of them it gets again, and
 * ops that it refused for it are sent again in their order. What was under way when a connection
 * ended is answered with STATUS_IO: nothing is ever sent a second time on another connection.
 */
#ifndef VINHUB_BUS_REDIS_PIPELINE_H
#define VINHUB_BUS_REDIS_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/redis_link.h"
#include "bus/redis_op.h"

struct redis_pipeline;

struct redis_pipeline_options {
    struct redis_link_options link;
    uint32_t replicas; /* how many replicas must have what a replicated op wrote; 0: none */
    uint32_t wait_ms;  /* how long WAIT waits for them */
};

struct redis_pipeline_events {
    void (*on_open)(void *ctx);
    /* Ops that were under way are finished already. Followed by on_open at once where too much had
     * waited. */
    void (*on_closed)(void *ctx);
    /* Other ops are finished. */
    void (*on_progress)(void *ctx);
    /* INFO of a new connection, before on_open. NULL, or why this is not a server to work with: the
     * pipeline tries its next address. */
    const char *(*on_info)(void *ctx, const char *info);
    /* An error reply that another server may answer; true: the op has been taken over. NULL where
     * there is no other. */
    bool (*on_redirect)(void *ctx, struct redis_op *op, const char *error);
    /* A try to connect failed, or the connection ended. */
    void (*on_failed)(void *ctx);
};

struct redis_pipeline *redis_pipeline_new(const struct redis_pipeline_options *options,
                                          const struct redis_pipeline_events *events, void *ctx);
/* Ops that are under way are finished with STATUS_IO; no event. Not from within an event of this
 * pipeline. */
void redis_pipeline_free(struct redis_pipeline *pipeline);
struct redis_link *redis_pipeline_link(struct redis_pipeline *pipeline);

bool redis_pipeline_open(const struct redis_pipeline *pipeline);
/* Takes the op. Where the pipeline is not open, or too much waits already, it is finished with
 * STATUS_IO; of those that are not vital so are the next ones, until all that was taken is
 * answered: on_closed and on_open say so. */
void redis_pipeline_send(struct redis_pipeline *pipeline, struct redis_op *op);
/* How many bytes of requests should still be sent; 0: none for now. */
size_t redis_pipeline_credit(struct redis_pipeline *pipeline);
/* Once after that said 0, where there is some again. */
bool redis_pipeline_has_credit_again(struct redis_pipeline *pipeline);
void redis_pipeline_flush(struct redis_pipeline *pipeline);
/* Asks for a reply that no other request can have: nothing is missing or too many before it. */
void redis_pipeline_mark(struct redis_pipeline *pipeline);

#endif
