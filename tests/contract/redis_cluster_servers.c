#include "redis_cluster_servers.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"

#define WAIT_MS 120000 /* only against a hang; the servers agree in the end */
#define SLOTS   16384

static const char *ask(const struct cluster_process *server, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static const char *ask(const struct cluster_process *server, const char *format, ...)
{
    char command[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    return redis_server_ask(&server->server, command);
}

static void await(const struct cluster_process *server, const char *command, const char *wanted)
{
    uint64_t deadline_ms = clock_boot_ms() + WAIT_MS;
    while (!strstr(ask(server, "%s", command), wanted)) {
        if (clock_boot_ms() > deadline_ms)
            fail_msg("%s: no %s: %s", command, wanted, ask(server, "%s", command));
        poll(NULL, 0, 20);
    }
}

static void start_server(struct cluster_process *server)
{
    snprintf(server->bus_port, sizeof(server->bus_port), "%u", redis_server_free_port());
    const char *const extra[] = {"--cluster-enabled",
                                 "yes",
                                 "--cluster-node-timeout",
                                 "1000",
                                 "--cluster-port",
                                 server->bus_port,
                                 "--repl-diskless-sync-delay",
                                 "0",
                                 "--cluster-allow-replica-migration",
                                 "no"};
    memcpy(server->server.extra, extra, sizeof(extra));
    redis_server_start(&server->server);
    snprintf(server->id, sizeof(server->id), "%s", ask(server, "CLUSTER MYID"));
}

static unsigned first_slot(size_t primary)
{
    return (unsigned)(primary * SLOTS / PRIMARIES);
}

size_t cluster_servers_of_slot(unsigned slot)
{
    size_t primary = PRIMARIES - 1;
    while (first_slot(primary) > slot)
        primary--;
    return primary;
}

static void meet(const struct cluster_process *server, const struct cluster_process *other)
{
    assert_string_equal(
        ask(server, "CLUSTER MEET 127.0.0.1 %u %s", other->server.port, other->bus_port), "OK");
}

static void add_replica(struct cluster_servers *cluster, size_t i)
{
    start_server(&cluster->replicas[i]);
    meet(&cluster->replicas[i], &cluster->primaries[0]);
    await(&cluster->replicas[i], "CLUSTER NODES", cluster->primaries[i].id);
    uint64_t deadline_ms = clock_boot_ms() + WAIT_MS;
    while (strcmp(ask(&cluster->replicas[i], "CLUSTER REPLICATE %s", cluster->primaries[i].id),
                  "OK") != 0)
        assert_true(clock_boot_ms() < deadline_ms);
    await(&cluster->replicas[i], "INFO replication", "master_link_status:up");
}

void cluster_servers_start(struct cluster_servers *cluster, bool replicated)
{
    cluster->replicated = replicated;
    for (size_t i = 0; i < PRIMARIES; i++) {
        start_server(&cluster->primaries[i]);
        assert_string_equal(ask(&cluster->primaries[i], "CLUSTER ADDSLOTSRANGE %u %u",
                                first_slot(i), first_slot(i + 1) - 1),
                            "OK");
        assert_string_equal(ask(&cluster->primaries[i], "CLUSTER SET-CONFIG-EPOCH %zu", i + 1),
                            "OK");
        if (i > 0)
            meet(&cluster->primaries[0], &cluster->primaries[i]);
    }
    for (size_t i = 0; i < PRIMARIES; i++)
        await(&cluster->primaries[i], "CLUSTER INFO", "cluster_state:ok");
    for (size_t i = 0; i < PRIMARIES && replicated; i++)
        add_replica(cluster, i);
}

void cluster_servers_stop(struct cluster_servers *cluster)
{
    for (size_t i = 0; i < PRIMARIES; i++) {
        redis_server_discard(&cluster->primaries[i].server);
        if (cluster->replicated)
            redis_server_discard(&cluster->replicas[i].server);
    }
}

void cluster_servers_begin_move(struct cluster_servers *cluster, unsigned slot, size_t from,
                                size_t to)
{
    const struct cluster_process *source = &cluster->primaries[from],
                                 *target = &cluster->primaries[to];
    assert_string_equal(ask(target, "CLUSTER SETSLOT %u IMPORTING %s", slot, source->id), "OK");
    assert_string_equal(ask(source, "CLUSTER SETSLOT %u MIGRATING %s", slot, target->id), "OK");
}

bool cluster_servers_move_key(struct cluster_servers *cluster, unsigned slot, size_t from,
                              size_t to)
{
    char key[256];
    snprintf(key, sizeof(key), "%s",
             ask(&cluster->primaries[from], "CLUSTER GETKEYSINSLOT %u 1", slot));
    key[strcspn(key, "\n")] = '\0';
    if (key[0] == '\0')
        return false;
    assert_string_equal(ask(&cluster->primaries[from], "MIGRATE 127.0.0.1 %u %s 0 5000",
                            cluster->primaries[to].server.port, key),
                        "OK");
    return true;
}

void cluster_servers_end_move(struct cluster_servers *cluster, unsigned slot, size_t from,
                              size_t to)
{
    const char *id = cluster->primaries[to].id;
    assert_string_equal(ask(&cluster->primaries[to], "CLUSTER SETSLOT %u NODE %s", slot, id), "OK");
    assert_string_equal(ask(&cluster->primaries[from], "CLUSTER SETSLOT %u NODE %s", slot, id),
                        "OK");
}
