/*
 * What the processes of one load run share: the options, the phase they are in, and what each of
 * them counts.
 *
 * The parent maps it before it forks. Each part has one writer: a process writes its own counts,
 * the parent the phase, backends the vehicles. Everything is read while it is written, so no
 * decision may need two fields to agree.
 */
#ifndef BENCH_SHARED_H
#define BENCH_SHARED_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hist.h"

#define PROCESSES_MAX 96
#define TARGETS_MAX   128
#define WATCHED_MAX   96
#define FLIGHT_SLOTS  1024 /* more than may be in flight in closed loop */

/* In this order, each once. */
enum run_phase {
    PHASE_CONNECT, /* clients open */
    PHASE_PRIME,   /* pushes at a gentle pace until each client has seen one */
    PHASE_SETTLE,  /* no pushes; clients say how many of them are behind */
    PHASE_WARM,    /* the load runs */
    PHASE_MEASURE, /* the load runs and latency counts */
    PHASE_END,     /* as settle */
    PHASE_EXIT,
};

struct load_options {
    /* clients */
    unsigned clients, vins, client_processes, connecting, slow, targets_len;
    struct sockaddr_in targets[TARGETS_MAX];
    char target_names[TARGETS_MAX][32];
    const char *path; /* of a client; * stands for V and eight hexadecimal digits */
    unsigned heartbeat_ms;
    bool quiet_start;     /* heartbeats begin with the warm phase */
    unsigned client_nice; /* the nice value of clients */
    unsigned group;       /* clients in a row that watch the same vehicle */
    bool deflate, in_stages;
    unsigned subscriptions; /* of each client, which then speaks vinhub.v1; 0: raw clients */
    double rated;           /* MESSAGEs a second of each subscription; 0: all */
    bool spin;              /* clients never sleep, so that a delivery wakes nobody */
    /* backend */
    unsigned backend_processes, upstreams, burst, in_flight, prime_ms;
    struct sockaddr_in listen, publish;
    const char *publish_path; /* set: push as a client of this path instead of listening */
    double rate, send_rate;   /* messages a second, of all vehicles or clients together */
    double warm_rate; /* pushes a second before the window, in bursts of warm_burst; 0: as in it */
    unsigned warm_burst;
    unsigned size;
    bool many_upstreams; /* an upstream for each client is expected */
    bool own_addresses;  /* each backend process listens on the next address, not all on one */
    /* the run */
    unsigned warm_ms, measure_ms, after_ms, rounds;
    double connect_s, settle_s;
    bool prime, progress;
    pid_t kill_pid;
    unsigned kill_target;
    char watched_names[WATCHED_MAX][32];
    pid_t watched[WATCHED_MAX];
    unsigned watched_len;
};

/* What one client process counts. */
struct client_counts {
    _Alignas(64) _Atomic uint64_t delivered;
    _Atomic uint64_t opened, failed, retried, closed, primed, behind, after_kill;
    _Atomic uint64_t gaps, doubles, wrong, malformed, closes_by_code[8];
    _Atomic uint64_t skipped; /* pushes that a subscription with a rate never gets */
    _Atomic uint64_t beats_sent, beats_answered, sent, pings;
    _Atomic uint32_t arrived[FLIGHT_SLOTS];
    struct hist latency[2]; /* of clients of the first target, and of all others */
    struct hist resumed;    /* from the kill to the first push of a vehicle that was lost */
};

struct backend_counts {
    _Alignas(64) _Atomic uint64_t pushes;
    _Atomic uint64_t accepted, open, pings, stalled, late, two_at_once, malformed;
    _Atomic uint64_t received, out_of_order;
    struct hist latency; /* of messages from clients */
};

struct bench_vehicle {
    _Atomic uint32_t number, upstreams; /* of the last push; open connections */
    _Atomic uint32_t flight_base;       /* number of the last push before the closed loop */
    _Atomic uint64_t opened_ns, lost_ns;
};

struct shared {
    struct load_options options;
    _Atomic int phase;
    _Atomic unsigned stage;       /* clients of this and earlier targets may connect */
    _Atomic uint32_t flight_done; /* pushes since then that each client has */
    _Atomic bool asleep;          /* the backend waits to be woken */
    _Atomic uint64_t killed_ns;
    int wake_fd;
    struct client_counts *clients;   /* one a client process */
    struct backend_counts *backends; /* one a backend process */
    struct bench_vehicle *vehicles;  /* from 1 */
    _Atomic uint32_t *sent_numbers;  /* a client's last message that a backend has seen, from 1 */
};

struct shared *shared_new(const struct load_options *options);

static inline enum run_phase phase_of(const struct shared *shared)
{
    return (enum run_phase)atomic_load_explicit(&shared->phase, memory_order_acquire);
}

/* For counters with one writer: an addition without a locked instruction. */
#define COUNT(counter, n)                                                               \
    atomic_store_explicit(&(counter),                                                   \
                          atomic_load_explicit(&(counter), memory_order_relaxed) + (n), \
                          memory_order_relaxed)
#define READ(counter) atomic_load_explicit(&(counter), memory_order_relaxed)

/* Which vehicle, target and process a client belongs to. */
static inline uint32_t vin_of(const struct load_options *options, unsigned client)
{
    return client / options->group % options->vins + 1;
}

static inline unsigned target_of(const struct load_options *options, unsigned client)
{
    return client % options->targets_len;
}

/* Slow clients are spread over all; they are part of `clients`. */
static inline bool is_slow(const struct load_options *options, unsigned client)
{
    return (uint64_t)(client + 1) * options->slow / options->clients >
           (uint64_t)client * options->slow / options->clients;
}

/* True where the push that the closed loop waits for has reached every client. */
bool flight_landed(const struct shared *shared);

void client_process(struct shared *shared, unsigned process);
void backend_process(struct shared *shared, unsigned process);

#endif
