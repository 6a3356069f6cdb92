#include "front/front.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "front/front_private.h"

static void on_turn(void *ctx)
{
    struct front *front = ctx;
    front->now_ms = (uint32_t)clock_boot_ms();
    front->share_spent = 0;
}

/* A share of the descriptors is for Redis, upstreams and the admin port. */
static int descriptors_for_clients(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    rlim_t whole = limit.rlim_cur < INT32_MAX ? limit.rlim_cur : INT32_MAX;
    return (int)(whole - whole / 32 - (whole > 256 ? 64 : 0));
}

static void take_conf(struct front *front, struct conf *conf)
{
    conf_ref(conf);
    if (front->conf)
        conf_unref(front->conf);
    front->conf = conf;
    keys_take(front, conf);
    front->queues[QUEUE_HANDSHAKE].wait_ms = HANDSHAKE_MS;
    uint32_t every_ms = conf->clients.ping_every_ms, timeout_ms = conf->clients.ping_timeout_ms;
    front->queues[QUEUE_QUIET].wait_ms = every_ms;
    front->queues[QUEUE_PINGED].wait_ms = timeout_ms < every_ms ? timeout_ms : every_ms;
    front->queues[QUEUE_ANSWERED].wait_ms = timeout_ms < every_ms ? every_ms - timeout_ms : 0;
    front->queues[QUEUE_CLOSING].wait_ms = CLOSING_MS;
}

/* *out is NULL where no certificate is configured. */
static enum status tls_from(const struct conf *conf, struct tls_context **out, char *why,
                            size_t why_len)
{
    *out = NULL;
    if (conf->listen.tls_cert[0] == '\0')
        return STATUS_OK;
    return tls_context_server(conf->listen.tls_cert, conf->listen.tls_key, out, why, why_len);
}

enum status front_new(struct loop *loop, struct conf *conf, struct front **out, char *why,
                      size_t why_len)
{
    struct front *front = calloc(1, sizeof(*front));
    if (!front)
        return STATUS_NO_MEMORY;
    front->loop = loop;
    front->listen_fd = -1;
    front->descriptors_max = descriptors_for_clients();
    front->now_ms = (uint32_t)clock_boot_ms();
    front->keys_timer = loop_timer_new(loop, "key_set", keys_look, front);
    if (!front->keys_timer) {
        free(front);
        return STATUS_NO_MEMORY;
    }
    take_conf(front, conf);

    timers_init(&front->expiries);
    front->deflater = deflater_new();
    front->admit = admit_new(conf, why, why_len);
    front->sweep_timer = loop_timer_new(loop, "client_sweep", sweep_run, front);
    front->listen_timer = loop_timer_new(loop, "accept", listen_resume, front);
    front->share_timer = loop_timer_new(loop, "client_share", share_grant, front);
    enum status status = STATUS_OK;
    if (!front->deflater || !front->sweep_timer || !front->listen_timer || !front->share_timer)
        status = STATUS_NO_MEMORY;
    else if (!front->admit)
        status = STATUS_INVALID;
    else
        status = tls_from(conf, &front->tls, why, why_len);
    if (status != STATUS_OK) {
        front_free(front);
        return status;
    }
    loop_at_turn_start(loop, "client_start", on_turn, front);
    *out = front;
    return STATUS_OK;
}

void front_attach(struct front *front, struct hub *hub)
{
    assert(!front->hub);
    front->hub = hub;
    forms_register(front);
    events_register(front);
}

const char *front_address(const struct front *front)
{
    return front->address;
}

enum status front_reload(struct front *front, struct conf *conf, char *why, size_t why_len)
{
    struct admit *admit = admit_new(conf, why, why_len);
    if (!admit)
        return STATUS_INVALID;
    struct tls_context *tls;
    enum status status = tls_from(conf, &tls, why, why_len);
    if (status != STATUS_OK) {
        admit_free(admit);
        return status;
    }
    tls_context_free(front->tls); /* connections keep what they have of it */
    front->tls = tls;
    admit_free(front->admit);
    front->admit = admit;
    bool other_pings = front->conf->clients.ping_every_ms != conf->clients.ping_every_ms ||
                       front->conf->clients.ping_timeout_ms != conf->clients.ping_timeout_ms;
    take_conf(front, conf);
    listen_set_keepalive(front);
    if (other_pings)
        sweep_restart_pings(front);
    return STATUS_OK;
}

void front_stop_accepting(struct front *front)
{
    listen_stop(front);
}

size_t front_connections(const struct front *front)
{
    return front->connections;
}

static void close_all(struct front *front)
{
    for (enum queue_name name = QUEUE_HANDSHAKE; name < QUEUES; name++) {
        while (front->queues[name].first) {
            struct conn *conn = front->queues[name].first;
            conn_report_gone(conn, CLOSE_GOING_AWAY, "node stops");
            socket_detach(&conn->socket, false);
            conn_free(conn);
        }
    }
}

void front_free(struct front *front)
{
    if (!front)
        return;
    listen_stop(front);
    close_all(front);
    loop_timer_free(front->sweep_timer);
    loop_timer_free(front->listen_timer);
    loop_timer_free(front->share_timer);
    keys_forget(front);
    loop_timer_free(front->keys_timer);
    timers_fini(&front->expiries);
    deflater_free(front->deflater);
    tls_context_free(front->tls);
    admit_free(front->admit);
    conf_unref(front->conf);
    free(front);
}
