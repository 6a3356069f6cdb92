/*
 * Browsers and a backend for one measurement: `load --help`.
 *
 * Forks the processes, leads them through the phases, takes the processor time and memory of the
 * watched processes (the brokers) around the measured window, and prints one line of JSON. The
 * order is drawn in run().
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "accounting.h"
#include "load_options.h"
#include "shared.h"
#include "ws_wire.h"

#define POLL_NS     1000000
#define PASS_NS     100000000
#define EXIT_S      15
#define PROGRESS_NS 5000000000u
#define PROCESSES   (2 * PROCESSES_MAX)

struct sample {
    uint64_t at_ns, delivered, pushes;
    uint64_t cpu_ns[WATCHED_MAX], rss[WATCHED_MAX];
};

static struct {
    struct shared *shared;
    const struct load_options *options;
    pid_t children[PROCESSES];
    unsigned children_len;
    struct sample begin, opened, quiet, before, after, end;
    uint64_t told_ns;
    uint64_t connect_ns, kill_ns;
    const char *missing; /* what did not happen in time */
} run_state;

static uint64_t sum_clients(size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < run_state.options->client_processes; i++)
        sum += READ(*(_Atomic uint64_t *)((char *)&run_state.shared->clients[i] + offset));
    return sum;
}

static uint64_t sum_backends(size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < run_state.options->backend_processes; i++)
        sum += READ(*(_Atomic uint64_t *)((char *)&run_state.shared->backends[i] + offset));
    return sum;
}

#define CLIENTS(field)  sum_clients(offsetof(struct client_counts, field))
#define BACKENDS(field) sum_backends(offsetof(struct backend_counts, field))

static void nap(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_nsec = (long)(ns % 1000000000u)};
    nanosleep(&time, NULL);
}

static void sample(struct sample *sample)
{
    const struct load_options *options = run_state.options;
    sample->at_ns = now_ns();
    sample->delivered = CLIENTS(delivered);
    sample->pushes = BACKENDS(pushes);
    for (unsigned i = 0; i < options->watched_len; i++) {
        sample->cpu_ns[i] = cpu_ns_of(options->watched[i]);
        sample->rss[i] = rss_of(options->watched[i]);
    }
}

static void enter(enum run_phase phase)
{
    atomic_store(&run_state.shared->phase, phase);
    run_state.told_ns = 0;
}

/* --- processes --- */

static void fork_one(void (*main_of)(struct shared *, unsigned), unsigned number)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        main_of(run_state.shared, number);
        _exit(0);
    }
    run_state.children[run_state.children_len++] = pid;
}

static void check_children(void)
{
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0)
        return;
    fprintf(stderr, "load: a process ended early (status %d)\n", status);
    exit(1);
}

static void end_children(void)
{
    enter(PHASE_EXIT);
    uint64_t limit = now_ns() + EXIT_S * 1000000000ull;
    for (unsigned left = run_state.children_len; left > 0; nap(POLL_NS)) {
        while (left > 0 && waitpid(-1, NULL, WNOHANG) > 0)
            left--;
        if (now_ns() < limit)
            continue;
        for (unsigned i = 0; i < run_state.children_len; i++)
            kill(run_state.children[i], SIGKILL);
    }
}

/* --- waiting --- */

static void tell_progress(void)
{
    static const char *const names[] = {"connect", "prime", "settle", "warm",
                                        "measure", "end",   "exit"};
    uint64_t now = now_ns();
    if (!run_state.options->progress || now - run_state.told_ns < PROGRESS_NS)
        return;
    run_state.told_ns = now;
    fprintf(stderr,
            "%s: %" PRIu64 " clients open (%" PRIu64 " tries failed), %" PRIu64
            " upstreams, %" PRIu64 " pushed, %" PRIu64 " delivered, %" PRIu64 " waiting\n",
            names[phase_of(run_state.shared)], CLIENTS(opened), CLIENTS(retried), BACKENDS(open),
            BACKENDS(pushes), CLIENTS(delivered), CLIENTS(behind));
}

static bool wait_for(bool (*done)(void), double seconds, const char *what)
{
    uint64_t limit = now_ns() + (uint64_t)(seconds * 1e9);
    while (!done()) {
        check_children();
        tell_progress();
        if (now_ns() > limit) {
            if (!run_state.missing)
                run_state.missing = what;
            return false;
        }
        nap(POLL_NS);
    }
    return true;
}

static void let_pass(unsigned ms)
{
    uint64_t limit = now_ns() + ms * 1000000ull;
    for (uint64_t now; (now = now_ns()) < limit;
         nap(limit - now < PASS_NS ? limit - now : PASS_NS)) {
        check_children();
        tell_progress();
    }
}

static bool stage_open(void)
{
    const struct load_options *options = run_state.options;
    unsigned stages = READ(run_state.shared->stage) + 1u, wanted = 0;
    if (stages >= options->targets_len)
        return CLIENTS(opened) + CLIENTS(failed) >= options->clients;
    for (unsigned target = 0; target < stages; target++)
        wanted += (options->clients - target + options->targets_len - 1) / options->targets_len;
    return CLIENTS(opened) + CLIENTS(failed) >= wanted;
}

static bool upstreams_open(void)
{
    return BACKENDS(open) >= run_state.options->upstreams;
}

static bool all_primed(void)
{
    const struct load_options *options = run_state.options;
    uint64_t followed = options->subscriptions == 0 ? 1 : options->subscriptions;
    return CLIENTS(primed) + CLIENTS(failed) * followed >=
           (options->clients - options->slow) * followed;
}

static bool none_behind(void)
{
    return CLIENTS(behind) == 0;
}

/* A client that was lost with its node does not count. */
static bool all_resumed(void)
{
    const struct load_options *options = run_state.options;
    unsigned killed = (options->clients - options->kill_target + options->targets_len - 1) /
                      options->targets_len;
    return CLIENTS(after_kill) >= options->clients - killed;
}

/* --- the phases --- */

static void connect_all(void)
{
    const struct load_options *options = run_state.options;
    uint64_t from = now_ns();
    unsigned last = options->targets_len - 1;
    for (unsigned stage = options->in_stages ? 0 : last; stage <= last; stage++) {
        atomic_store(&run_state.shared->stage, stage);
        if (!wait_for(stage_open, options->connect_s, "clients to open"))
            return;
        if (stage == 0 && !wait_for(upstreams_open, options->connect_s, "upstreams to open"))
            return;
    }
    run_state.connect_ns = now_ns() - from;
    sample(&run_state.opened);
    wait_for(upstreams_open, options->connect_s, "upstreams to open");
}

/* Clients report several times a second how many are behind: the count must be from this phase. */
static void settle(enum run_phase phase, double seconds, const char *what)
{
    for (unsigned i = 0; i < run_state.options->client_processes; i++)
        atomic_store(&run_state.shared->clients[i].behind, 1);
    enter(phase);
    wait_for(none_behind, seconds, what);
}

static void prime(void)
{
    struct shared *shared = run_state.shared;
    enter(PHASE_PRIME);
    wait_for(all_primed, run_state.options->settle_s, "each client to see a first push");
    settle(PHASE_SETTLE, run_state.options->settle_s, "the first pushes to arrive everywhere");
    for (unsigned vin = 1; vin <= shared->options.vins; vin++)
        atomic_store(&shared->vehicles[vin].flight_base, READ(shared->vehicles[vin].number));
}

static void kill_target(void)
{
    const struct load_options *options = run_state.options;
    nap(options->measure_ms * 500000ull);
    run_state.kill_ns = now_ns();
    atomic_store(&run_state.shared->killed_ns, run_state.kill_ns);
    kill(options->kill_pid, SIGKILL);
    wait_for(all_resumed, options->settle_s, "pushes after the kill");
}

static bool rounds_pushed(void)
{
    return BACKENDS(pushes) - run_state.before.pushes >=
           (uint64_t)run_state.options->rounds * run_state.options->vins;
}

static void measure(void)
{
    const struct load_options *options = run_state.options;
    enter(PHASE_WARM);
    sample(&run_state.quiet);
    let_pass(options->warm_ms);
    sample(&run_state.before);
    enter(PHASE_MEASURE);
    fputs("measuring\n", stderr); /* for a caller that measures something else meanwhile */
    if (options->kill_pid > 0)
        kill_target();
    if (options->rounds > 0) {
        wait_for(rounds_pushed, options->settle_s, "all rounds to be pushed");
        settle(PHASE_END, options->settle_s, "the pushes to arrive");
        sample(&run_state.after);
        return;
    }
    nap(options->measure_ms * 1000000ull);
    sample(&run_state.after);
    settle(PHASE_END, options->settle_s, "the last pushes to arrive");
}

static void run(void)
{
    const struct load_options *options = run_state.options;
    sample(&run_state.begin);
    for (unsigned i = 0; i < options->backend_processes; i++)
        fork_one(backend_process, i);
    for (unsigned i = 0; i < options->client_processes; i++)
        fork_one(client_process, i);
    connect_all();
    if (!run_state.missing && options->prime)
        prime();
    if (!run_state.missing)
        measure();
    nap(options->after_ms * 1000000ull);
    sample(&run_state.end);
}

/* --- the report --- */

static void print_hist(const char *name, const struct hist *hist)
{
    printf(",\"%s\":", name);
    hist_print(hist);
}

static void print_latencies(void)
{
    const struct load_options *options = run_state.options;
    static struct hist first, others, resumed, sent, reopened;
    for (unsigned i = 0; i < options->client_processes; i++) {
        hist_merge(&first, &run_state.shared->clients[i].latency[0]);
        hist_merge(&others, &run_state.shared->clients[i].latency[1]);
        hist_merge(&resumed, &run_state.shared->clients[i].resumed);
    }
    for (unsigned i = 0; i < options->backend_processes; i++)
        hist_merge(&sent, &run_state.shared->backends[i].latency);
    for (uint32_t vin = 1; vin <= options->vins && run_state.kill_ns != 0; vin++) {
        uint64_t opened_ns = READ(run_state.shared->vehicles[vin].opened_ns);
        if (opened_ns > run_state.kill_ns)
            hist_add(&reopened, opened_ns - run_state.kill_ns);
    }
    print_hist("latency", &first);
    print_hist("latency_others", &others);
    print_hist("latency_sent", &sent);
    print_hist("reopened", &reopened);
    print_hist("resumed", &resumed);
}

static void print_watched(void)
{
    const struct load_options *options = run_state.options;
    printf(",\"watched\":[");
    for (unsigned i = 0; i < options->watched_len; i++)
        printf("%s{\"name\":\"%s\",\"cpu_ns\":%" PRIu64 ",\"connect_cpu_ns\":%" PRIu64
               ",\"warm_cpu_ns\":%" PRIu64 ",\"total_cpu_ns\":%" PRIu64 ",\"rss\":[%" PRIu64
               ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]}",
               i == 0 ? "" : ",", options->watched_names[i],
               run_state.after.cpu_ns[i] - run_state.before.cpu_ns[i],
               run_state.opened.cpu_ns[i] - run_state.begin.cpu_ns[i],
               run_state.before.cpu_ns[i] - run_state.quiet.cpu_ns[i],
               run_state.end.cpu_ns[i] - run_state.begin.cpu_ns[i], run_state.begin.rss[i],
               run_state.opened.rss[i], run_state.after.rss[i], run_state.end.rss[i]);
    printf("]");
}

static void print_counts(void)
{
#define CLIENT(field)  printf(",\"" #field "\":%" PRIu64, CLIENTS(field))
#define BACKEND(field) printf(",\"backend_" #field "\":%" PRIu64, BACKENDS(field))
    CLIENT(opened);
    CLIENT(failed);
    CLIENT(retried);
    CLIENT(closed);
    CLIENT(primed);
    CLIENT(behind);
    CLIENT(gaps);
    CLIENT(skipped);
    CLIENT(doubles);
    CLIENT(wrong);
    CLIENT(malformed);
    CLIENT(beats_sent);
    CLIENT(beats_answered);
    CLIENT(sent);
    CLIENT(pings);
    BACKEND(accepted);
    BACKEND(open);
    BACKEND(pings);
    BACKEND(stalled);
    BACKEND(late);
    BACKEND(two_at_once);
    BACKEND(malformed);
    BACKEND(received);
    BACKEND(out_of_order);
#undef CLIENT
#undef BACKEND
}

static void print_report(void)
{
    printf("{\"missing\":");
    if (!run_state.missing)
        printf("null");
    else
        printf("\"%s\"", run_state.missing);
    printf(",\"window_ns\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"pushes\":%" PRIu64
           ",\"connect_ns\":%" PRIu64 ",\"warm_ns\":%" PRIu64,
           run_state.after.at_ns - run_state.before.at_ns,
           run_state.after.delivered - run_state.before.delivered,
           run_state.after.pushes - run_state.before.pushes, run_state.connect_ns,
           run_state.before.at_ns - run_state.quiet.at_ns);
    print_counts();
    print_latencies();
    print_watched();
    printf("}\n");
}

int main(int argc, char **argv)
{
    static struct load_options options;
    load_options(&options, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    run_state.shared = shared_new(&options);
    run_state.options = &run_state.shared->options;
    run();
    print_report(); /* before clients leave, which is not part of the measurement */
    fflush(stdout);
    end_children();
    return run_state.missing ? 3 : 0;
}
