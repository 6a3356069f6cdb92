/*
 * Runs histories of a cluster: sim [--case WORDS] [--seed N] [--count N] [--failures N]
 * [--one-pace] [-v]
 *
 * Without --case or --seed all kept cases come first, then the seeded histories from 1 on. Prints
 * TAP. A failing seed is printed and replays exactly: sim --seed N --count 1 -v; a case: sim --case
 * "its name" -v, with other delays by --seed N
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "sim.h"

static struct conf *conf_new(void)
{
    const char *services[] = {"svc=backend:80/s{path}"};
    struct conf_overrides overrides = {
        .services = services, .services_len = 1, .redis_url = "redis://127.0.0.1:1/0"};
    struct conf_findings findings = {0};
    struct conf *conf = NULL;
    if (conf_load(NULL, &overrides, &findings, &conf) != STATUS_OK) {
        for (size_t i = 0; i < findings.len; i++)
            fprintf(stderr, "%s\n", findings.lines[i]);
        exit(2);
    }
    conf_findings_fini(&findings);
    conf->node.lease_ms = 1000;
    conf->node.drain_ms = 1000;
    conf->services[0]->linger_ms = 500;
    conf->services[0]->reconnect.min_ms = 100;
    conf->services[0]->reconnect.max_ms = 2000;
    return conf;
}

struct sim_options {
    uint64_t seed, count, failures;
    const char *words; /* of a case's name */
    bool seeds_alone, verbose;
};

static bool read_options(int argc, char **argv, struct sim_options *options)
{
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (!strcmp(argv[i], "--one-pace")) {
            sim_own_pace = false;
        } else if (!strcmp(argv[i], "--seed") && more) {
            options->seed = strtoull(argv[++i], NULL, 10);
            options->seeds_alone = true;
        } else if (!strcmp(argv[i], "--count") && more) {
            options->count = strtoull(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--failures") && more) {
            options->failures = strtoull(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--case") && more) {
            options->words = argv[++i];
        } else if (!strcmp(argv[i], "-v")) {
            options->verbose = true;
        } else {
            return false;
        }
    }
    return true;
}

/* Replays a kept seed with the settings of its time: histories written with each push, and all
 * answers in one order. */
static void run_as_then(struct world *world, const struct sim_case *one, bool verbose)
{
    bool own_pace = sim_own_pace;
    sim_own_pace = false;
    world_run(world, one->seed, false, verbose);
    sim_own_pace = own_pace;
}

/* Returns the number that failed. */
static uint64_t run_cases(struct world *world, const struct sim_options *options,
                          const struct sim_cases *cases)
{
    uint64_t failed = 0;
    for (size_t i = 0; i < cases->len && failed < options->failures; i++) {
        const struct sim_case *one = &cases->list[i];
        if (options->words && !strstr(one->name, options->words))
            continue;
        if (one->script)
            world_script(world, one->script, one->history, options->seed, options->verbose);
        else
            run_as_then(world, one, options->verbose);
        if (options->verbose)
            printf("# at most %u units of work in a turn\n", world->most_work / 10);
        printf("%s - %s%s%s\n", world->failure ? "not ok" : "ok", one->name,
               world->failure ? ": " : "", world->failure ? world->failure : "");
        failed += world->failure != NULL;
    }
    return failed;
}

static uint64_t run_seeds(struct world *world, const struct sim_options *options)
{
    uint64_t steps = 0, deliveries = 0, gaps = 0, takeovers = 0, commands = 0, failed = 0;
    for (uint64_t i = 0; i < options->count && failed < options->failures; i++) {
        uint64_t seed = options->seed + i;
        sim_pages = seed % 3 == 2;
        sim_presence = seed % 4 == 2;
        sim_sends = sim_pages && seed % 2;
        world_run(world, seed, seed % 7 < 4, options->verbose);
        sim_pages = sim_presence = sim_sends = false;
        steps += world->steps;
        deliveries += world->deliveries;
        gaps += world->gaps;
        takeovers += world->takeovers;
        commands += world->commands;
        if (world->failure) {
            printf("not ok - history of seed %" PRIu64 ": %s\n", seed, world->failure);
            failed++;
        }
    }
    printf("# %" PRIu64 " histories, %" PRIu64 " steps, %" PRIu64 " deliveries, %" PRIu64
           " gaps announced, %" PRIu64 " take-overs, %" PRIu64 " commands\n",
           options->count, steps, deliveries, gaps, takeovers, commands);
    if (!failed)
        printf("ok - %" PRIu64 " seeded histories from %" PRIu64 " keep the promises\n",
               options->count, options->seed);
    return failed;
}

static const struct sim_cases *const all_cases[] = {&volume_cases, &owner_cases, &member_cases,
                                                    &client_cases, &late_cases,  &presence_cases,
                                                    &send_cases,   &seed_cases};

int main(int argc, char **argv)
{
    struct sim_options options = {.seed = 1, .count = 2000, .failures = 5};
    uint64_t failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!read_options(argc, argv, &options)) {
        fprintf(
            stderr,
            "usage: sim [--case WORDS] [--seed N] [--count N] [--failures N] [--one-pace] [-v]\n");
        return 2;
    }
    log_configure(options.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "sim");
    struct world *world = calloc(1, sizeof(*world));
    if (!world)
        abort();
    world->conf = conf_new();
    if (options.words || !options.seeds_alone) {
        for (size_t i = 0; i < sizeof(all_cases) / sizeof(all_cases[0]); i++)
            failed += run_cases(world, &options, all_cases[i]);
    }
    if (!options.words && failed < options.failures)
        failed += run_seeds(world, &options);
    conf_unref(world->conf);
    free(world);
    return failed ? 1 : 0;
}
