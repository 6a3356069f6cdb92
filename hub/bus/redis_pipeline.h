/*
 * The command connection to one server: a pipeline of ops, answered first in, first out.
 *
 * Each reply has a deadline, counted from the reply before it. A connection on which replies are
 * due and none comes within the deadline is closed. A connection whose replies do not match its
 * requests is closed at once. Signs of this: a reply that no op waits for, a reply of the wrong
 * kind, or a mark that does not come back.
 *
 * A pipeline is open when the server has the scripts. If the server loses a script, it gets all of
 * them again, and the ops that it refused are sent again in their order. When a connection ends,
 * the ops under way are answered with STATUS_IO: no op is sent again on another connection.
 *
 *   link up -> INFO (on_info), or ROLE if INFO is forbidden; SCRIPT LOAD of each script;
 *              CLIENT KILL of the connection before, CLIENT INFO (if ends_previous)
 *     -> on_open -> ops, a few hundred at a time, and WAIT at each flush if some are replicated
 *     -> link down: ops are answered, on_closed
 *   overflow (64 MiB unanswered) -> ops are refused -> all are answered -> on_closed, on_open
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
    uint32_t replicas;  /* how many replicas must have what a replicated op wrote; 0: none */
    uint32_t wait_ms;   /* how long WAIT waits for them */
    bool ends_previous; /* see redis_pipeline_is_sole */
};

struct redis_pipeline_events {
    void (*on_open)(void *ctx);
    /* The ops that were under way are finished already. After an overflow (see
     * redis_pipeline_send) on_open follows at once. */
    void (*on_closed)(void *ctx);
    /* Some ops have been finished. */
    void (*on_progress)(void *ctx);
    /* The INFO text of a new connection, before on_open. Returns NULL, or the reason why this
     * server can't be used: the pipeline then goes on with its next address. */
    const char *(*on_info)(void *ctx, const char *info);
    /* An error reply; another server may be able to answer the op. Returns true if the receiver has
     * taken the op over. May be NULL if there is only one server. */
    bool (*on_redirect)(void *ctx, struct redis_op *op, const char *error);
    /* An attempt to connect failed, or the connection ended. */
    void (*on_failed)(void *ctx);
};

struct redis_pipeline *redis_pipeline_new(const struct redis_pipeline_options *options,
                                          const struct redis_pipeline_events *events, void *ctx);
/* Ops that are under way are finished with STATUS_IO; no event. Not from within an event of this
 * pipeline. */
void redis_pipeline_free(struct redis_pipeline *pipeline);
struct redis_link *redis_pipeline_link(struct redis_pipeline *pipeline);

bool redis_pipeline_open(const struct redis_pipeline *pipeline);
/* Open, and the connection before has been ended at the server, as this one can be: nothing that
 * was sent over an earlier connection is carried out any more. Needs the option ends_previous, and
 * the right to CLIENT KILL and CLIENT INFO (Redis 6.2). */
bool redis_pipeline_is_sole(const struct redis_pipeline *pipeline);
/* Takes the op over. It is sent when few enough are under way, so that a vital one, which is sent
 * at once, is answered soon. If the pipeline is not open, the op is finished with STATUS_IO. If too
 * many bytes wait already (overflow), each op that is not vital is finished with STATUS_IO, until
 * all ops that were taken are answered; then on_closed and on_open are called. */
void redis_pipeline_send(struct redis_pipeline *pipeline, struct redis_op *op);
/* How many bytes of requests should still be sent; 0: none for now. */
size_t redis_pipeline_credit(struct redis_pipeline *pipeline);
/* True once after redis_pipeline_credit has returned 0, as soon as half of the credit is free. */
bool redis_pipeline_has_credit_again(struct redis_pipeline *pipeline);
void redis_pipeline_flush(struct redis_pipeline *pipeline);
/* Sends a mark: a numbered PING. Its reply shows that no reply before it is missing or extra. */
void redis_pipeline_mark(struct redis_pipeline *pipeline);

#endif
