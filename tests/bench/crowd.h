/*
 * A crowd: browsers and a backend in one process, for tests with many of both. It takes commands on
 * stdin.
 *
 * Clients are raw, or speak vinhub.v1 and then check messages as lib/checker.mjs does: order,
 * doubles, and that a GAP names each missing offset. The backend numbers its pushes
 * for each vehicle. `crowd --help` lists the commands; each is answered by one line of JSON.
 */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include <stdbool.h>
#include <stdint.h>

#include "hist.h"

#define CROWD_GROUPS  16
#define CROWD_TARGETS 8
#define CROWD_BUFFER  (256u << 10)

/* The first field of each object that epoll returns. */
enum crowd_kind { CROWD_STDIN, CROWD_LISTENER, CROWD_UPSTREAM, CROWD_CLIENT };

/* The arguments of `open`; one for each group. */
struct crowd_group {
    unsigned count, vins, first, target, connecting;
    bool v1, tls, resume; /* resume: a client that is closed comes back on the next target */
    char path[512];       /* * stands for the vehicle */
    /* what happened to its clients */
    uint64_t opened, open, failed, closed, resumed, unresumed;
    uint64_t delivered, missing, torn, gaps, unannounced, doubles, wrong, behind, primed, sent;
    uint64_t closes[4096]; /* by code; 0: without one */
    struct hist latency;   /* from the backend's send to the client's read, since `mark` */
    struct hist heard;     /* for each client, from `mark` to its first push sent after that */
    struct hist welcomed;  /* from `mark` to a WELCOME */
};

struct crowd {
    int epoll;
    uint64_t mark_ns;
    uint32_t vins; /* how many vehicles the backend knows */
    unsigned targets_len;
    char targets[CROWD_TARGETS][32];
    struct crowd_group groups[CROWD_GROUPS];
    unsigned groups_len;
    uint8_t buffer[CROWD_BUFFER];
};

extern struct crowd crowd;

/* --- clients --- */

/* Begins to open the clients of the newest group, `connecting` of them at once. */
void crowd_clients_add(unsigned group);
void crowd_clients_on_event(void *client, uint32_t events);
/* Work that is due without an event: the next connections. Returns how many ms the loop may sleep.
 */
int crowd_clients_work(void);
/* Each open client of the group sends so many texts of so many bytes; returns how many were taken
 * by sockets. */
uint64_t crowd_clients_send(unsigned group, unsigned count, unsigned bytes);
/* Closes all clients of the group at once: with a reset, or by the end of the stream. */
void crowd_clients_leave(unsigned group, bool reset);
/* Sets the mark: no client has yet got a push that was sent after it. */
void crowd_clients_mark(void);
/* Counts the clients without the last push of their vehicle (`behind`), and those with any push
 * (`primed`). */
void crowd_clients_count(unsigned group);

/* --- positions of a vinhub.v1 client --- */

#define CROWD_PENDING_GAPS 8

struct crowd_position {
    uint64_t epoch, offset, number; /* number: of the backend's last push, 0: none yet */
    struct crowd_gap {
        uint64_t epoch, from, to;
    } gaps[CROWD_PENDING_GAPS]; /* announced since the last MESSAGE */
    unsigned gaps_len;
};

void crowd_check_welcome(struct crowd_position *at, struct crowd_group *group, uint64_t epoch,
                         uint64_t offset, bool resumed, bool asked);
void crowd_check_gap(struct crowd_position *at, struct crowd_group *group,
                     const struct crowd_gap *gap);
void crowd_check_message(struct crowd_position *at, struct crowd_group *group, uint64_t epoch,
                         uint64_t offset, uint64_t number);
/* For a raw client, which gets no positions. */
void crowd_check_number(struct crowd_position *at, struct crowd_group *group, uint64_t number);

/* --- the backend --- */

struct crowd_backend_counts {
    uint64_t open, accepted, pushes, stalled, received, received_bytes, two_at_once, after_mark;
    struct hist reopened; /* from `mark` to the opening of an upstream */
};

extern struct crowd_backend_counts crowd_backend;

void crowd_backend_init(unsigned port, uint32_t vins);
/* Begins to listen, or stops and resets all upstreams. */
void crowd_backend_switch(bool on);
void crowd_backend_accept(void);
void crowd_backend_on_event(void *upstream, uint32_t events);
/* Pushes so many a second over these vehicles, in turn, if they have an upstream; 0: none. */
void crowd_backend_rate(double per_second, unsigned bytes, uint32_t first, uint32_t vins);
/* One push on each upstream. */
void crowd_backend_push_each(unsigned bytes);
/* Sends the pushes that are due. */
void crowd_backend_work(void);
uint64_t crowd_backend_number(uint32_t vin);

#endif
