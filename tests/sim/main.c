/*
 * Runs seeded histories of a cluster: sim [--seed N] [--count N] [--failures N] [-v]
 *
 * Prints TAP. A failing seed is printed and replays exactly: sim --seed N --count 1 -v
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
    struct conf_overrides overrides = {.services = services, .services_len = 1, .redis_url = "redis://127.0.0.1:1/0"};
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

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t seed = 1, count = 2000, failures = 5;
    bool verbose = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--count") && i + 1 < argc)
            count = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--failures") && i + 1 < argc)
            failures = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "-v"))
            verbose = true;
        else {
            fprintf(stderr, "usage: sim [--seed N] [--count N] [--failures N] [-v]\n");
            return 2;
        }
    }
    log_configure(verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "sim");
    struct world *world = calloc(1, sizeof *world);
    world->conf = conf_new();
    uint64_t steps = 0, deliveries = 0, gaps = 0, takeovers = 0, commands = 0, failed = 0;
    for (uint64_t i = 0; i < count; i++) {
        world_run(world, seed + i, verbose);
        steps += world->steps;
        deliveries += world->deliveries;
        gaps += world->gaps;
        takeovers += world->takeovers;
        commands += world->commands;
        if (world->failure) {
            printf("not ok - history of seed %" PRIu64 ": %s\n", seed + i, world->failure);
            if (++failed == failures)
                break;
        }
    }
    printf("# %" PRIu64 " histories, %" PRIu64 " steps, %" PRIu64 " deliveries, %" PRIu64 " gaps announced, %" PRIu64 " take-overs, %" PRIu64
           " commands\n",
           count, steps, deliveries, gaps, takeovers, commands);
    if (!failed)
        printf("ok - %" PRIu64 " seeded histories from %" PRIu64 " keep the promises\n", count, seed);
    conf_unref(world->conf);
    free(world);
    return failed ? 1 : 0;
}
