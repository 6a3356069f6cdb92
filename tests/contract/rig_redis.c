#include "rig_redis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bus/bus_redis.h"
#include "common/clock.h"
#include "common/log.h"
#include "loop/loop.h"

#define TURN_MS    20
#define PATIENT_MS 10000

/*
 * A bus gives up connections that are silent for a lease or half of it, and what was under way on
 * them is lost. A case that publishes megabytes in one turn, with sanitizers on a busy machine,
 * may take that long. So a patient rig opens its buses with a long lease. Claims still name the
 * short one, since a server younger than the lease grants no missing record.
 */
static struct bus *open_bus(struct contract_rig *rig, const char *id, unsigned life)
{
    struct redis_rig *r = (struct redis_rig *)rig;
    struct bus *bus = NULL;
    char why[512] = "";
    uint32_t lease_ms = r->conf.node.lease_ms;
    if (r->patient)
        r->conf.node.lease_ms = PATIENT_MS;
    if (bus_redis_new(r->loop, &r->conf, id, life, &bus, why, sizeof(why)) != STATUS_OK)
        fail_msg("%s", why);
    r->conf.node.lease_ms = lease_ms;
    return bus;
}

static void flush_all(void *ctx)
{
    struct redis_rig *r = ctx;
    for (size_t i = 0; i < RIG_PEERS; i++) {
        if (r->rig.peers[i])
            r->rig.peers[i]->bus->ops->flush(r->rig.peers[i]->bus);
    }
}

static void on_turn_end(void *ctx)
{
    struct redis_rig *r = ctx;
    flush_all(r);
    loop_stop(r->loop);
}

static void on_timer(void *ctx)
{
    (void)ctx;
}

static void turn(struct contract_rig *rig, uint64_t at_most_ms)
{
    struct redis_rig *r = (struct redis_rig *)rig;
    flush_all(r);
    loop_timer_start(r->timer, at_most_ms < TURN_MS ? at_most_ms : TURN_MS);
    loop_run(r->loop);
}

const struct rig_kind redis_kind = {
    .name = "redis", .open = open_bus, .turn = turn, .shared = true};

void redis_rig_start(struct redis_rig *r, uint32_t lease_ms)
{
    redis_server_start(&r->server);
    snprintf(r->url, sizeof(r->url), "redis://127.0.0.1:%u/0", r->server.port);
    redis_rig_start_elsewhere(r, lease_ms);
}

void redis_rig_start_elsewhere(struct redis_rig *r, uint32_t lease_ms)
{
    r->rig.kind = &redis_kind;
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT,
                  "contract"); /* faults made on purpose are not logged */
    r->conf = (struct conf){.refs = 1};
    r->conf.node.lease_ms = lease_ms;
    r->conf.redis.url = r->url;
    r->conf.redis.prefix = (char *)"test";
    r->conf.redis.tls_ca = (char *)"";
    r->conf.redis.tls_cert = (char *)"";
    r->conf.redis.tls_key = (char *)"";
    r->conf.redis.tls_name = (char *)"";
    assert_int_equal(loop_new(&r->loop), STATUS_OK);
    loop_at_turn_end(r->loop, "rig", on_turn_end, r);
    r->timer = loop_timer_new(r->loop, "rig", on_timer, r);
}

void redis_rig_stop(struct redis_rig *r)
{
    rig_clear(&r->rig);
    loop_timer_free(r->timer);
    loop_free(r->loop);
    redis_server_discard(&r->server);
}

void redis_rig_pass(struct redis_rig *r, uint64_t ms)
{
    uint64_t until_ms = clock_boot_ms() + ms;
    for (uint64_t now_ms = clock_boot_ms(); now_ms < until_ms; now_ms = clock_boot_ms())
        turn(&r->rig, until_ms - now_ms);
}
