/* The bus's promises, on a real redis-server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "contract_cases.h"
#include "rig_redis.h"

#define LEASE_MS 1000

static struct redis_rig rig;

static int before(void **state)
{
    (void)state;
    redis_server_ask(&rig.server, "FLUSHALL");
    return 0;
}

static int after(void **state)
{
    (void)state;
    return 0;
}

int main(void)
{
    redis_rig_start(&rig, LEASE_MS);
    /* A server younger than a lease grants no missing record. */
    redis_server_await_age(&rig.server, LEASE_MS / 1000 + 1);
    rig.patient = true;
    int failed = cases_run("bus_redis", &rig.rig, before, after);
    redis_rig_stop(&rig);
    return failed;
}
