#include "core/command_queue.h"

#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"

/* What it counts for in the queue: without content as much as one byte, so that those have a bound,
 * too. */
static size_t weight(size_t len)
{
    return len ? len : 1;
}

void command_queue_drop(struct session *session, struct command *command)
{
    struct commands *out = &session->out;
    if (out->unsent == command)
        out->unsent = command->next;
    DL_DELETE(out->list, command);
    out->bytes -= weight(command->len);
    out->len--;
    if (command->from)
        command->from->pending--;
    free(command->payload);
    free(command);
}

struct command *command_new(const void *payload, size_t len)
{
    struct command *command = calloc(1, sizeof *command);
    uint8_t *copy = malloc(len ? len : 1);
    if (!command || !copy) {
        free(command);
        free(copy);
        return NULL;
    }
    if (len)
        memcpy(copy, payload, len);
    command->payload = copy;
    command->len = len;
    return command;
}

bool command_queue_has_room(const struct session *session, size_t len)
{
    return !session->out.list ||
           session->out.bytes + weight(len) <= session->service->to_upstream.queue_bytes;
}

void command_queue_add(struct session *session, struct command *command)
{
    struct commands *out = &session->out;
    DL_APPEND(out->list, command);
    out->bytes += weight(command->len);
    out->len++;
    metric_observe(HISTOGRAM_UPSTREAM_QUEUE, out->bytes);
    if (!out->unsent)
        out->unsent = command;
}

uint64_t command_queue_drop_of(struct session *session, const struct member *member)
{
    struct command *command, *next;
    uint64_t first = 0;
    DL_FOREACH_SAFE (session->out.list, command, next) {
        if (command->member != member)
            continue;
        if (!first)
            first = command->number;
        command_queue_drop(session, command);
    }
    return first;
}
