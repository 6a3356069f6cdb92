/*
 * The events of a bus in memory, between the call that causes them and the flush that delivers
 * them.
 *
 * An event holds copies or references of all it needs; its deliver function hands it to the
 * listener, and whatever it holds is freed after.
 */
#ifndef VINHUB_BUS_BUS_MEMORY_QUEUE_H
#define VINHUB_BUS_BUS_MEMORY_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"

struct memory_bus;

/* One message on its way to one or more buses: encoded, or publications that stay references. */
struct memory_message {
    unsigned refs;
    bool push;
    uint8_t *encoded; /* NULL: a PUSH of the publications below */
    size_t encoded_len;
    char *session;
    char *node;
    uint64_t epoch;
    struct publication **publications;
    size_t len;
};

struct memory_message *memory_message_encode(const struct envelope *envelope, bool push);
struct memory_message *memory_message_push(const char *session, const char *node, uint64_t epoch,
                                           struct publication *const *publications, size_t len);
void memory_message_unref(struct memory_message *message);

struct memory_event;
typedef void memory_deliver_fn(struct memory_bus *bus, const struct memory_event *event);

struct memory_event {
    struct memory_event *next;
    memory_deliver_fn *deliver;
    uint64_t tag;
    enum status status;
    bool flag; /* of a renewal: present; of a history: more */
    uint64_t epoch;
    size_t bytes; /* of a publish: taken from the credit */
    struct position oldest;
    char *session;
    char *owner;
    struct memory_message *message;
    struct publication **publications;
    struct bus_node *nodes;
    size_t len; /* of publications or nodes */
    struct {
        enum bus_listing what;
        char *after;
        size_t limit;
        bus_rows_fn *fn;
        void *ctx;
    } list;
};

struct memory_queue {
    struct memory_event *first;
    struct memory_event **last;
};

void memory_queue_init(struct memory_queue *queue);
struct memory_event *memory_queue_add(struct memory_queue *queue, memory_deliver_fn *deliver);
struct memory_event *memory_queue_take(struct memory_queue *queue); /* NULL where it is empty */
void memory_event_free(struct memory_event *event);

/* Hands the message to the listener of the bus. */
void memory_message_deliver(struct bus *bus, const struct memory_message *message);

#endif
