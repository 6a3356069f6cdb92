/* The bus's promises, on memory: several buses that share a store stand for several nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "bus/bus_memory.h"
#include "common/clock.h"
#include "contract_cases.h"

static struct bus *open_bus(struct contract_rig *rig, const char *id, unsigned life)
{
    (void)life;
    return bus_memory_new(rig->store, id, clock_boot_ms, clock_unix_ms);
}

static void turn(struct contract_rig *rig, uint64_t at_most_ms)
{
    (void)at_most_ms;
    for (size_t i = 0; i < RIG_PEERS; i++) {
        if (rig->peers[i])
            rig->peers[i]->bus->ops->flush(rig->peers[i]->bus);
    }
}

static int before(void **state)
{
    ((struct contract_rig *)*state)->store = bus_memory_store_new();
    return 0;
}

static int after(void **state)
{
    bus_memory_store_free(((struct contract_rig *)*state)->store);
    return 0;
}

int main(void)
{
    static const struct rig_kind kind = {.name = "memory", .open = open_bus, .turn = turn};
    static struct contract_rig rig = {.kind = &kind};
    return cases_run("bus_memory", &rig, before, after);
}
