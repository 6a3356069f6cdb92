#include "loop/loop.h"

#include <assert.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/timer.h"
#include "loop/loop_private.h"
#include "loop/turn.h"
#include "loop/urgent.h"

#define HOOKS_MAX   8
#define SIGNALS_MAX 8
/* lws and the end hooks may wake each other. After this many rounds the rest waits for the next
 * turn. */
#define ROUNDS_MAX 4
/* After this time the remaining events of an epoll_wait wait for the next turn: thousands of
 * connections that end at once must not delay the writes at the end of the turn (contract section
 * 9: no turn over 50 ms). */
#define TURN_US 10000
/* The same for one set of timers, of which thousands may be due at once. */
#define TIMERS_US 5000
/* lws treats a descriptor limit above 10 million as a mistake and falls back to 2,560. Its tables
 * and ours are indexed by descriptor, so a lower limit also saves memory. */
#define DESCRIPTORS_MAX 1048576U

struct hook {
    const char *name;
    loop_fn *fn;
    void *ctx;
};

struct signal_watch {
    struct loop *loop;
    struct event *event;
    loop_fn *fn;
    void *ctx;
};

struct lag {
    uint64_t second; /* the second that current_ms belongs to */
    uint64_t current_ms, before_ms;
};

struct loop {
    struct event_base *base;
    struct lws_adapter *lws;
    struct lws_vhost *socket_vhost; /* of the lws context, for sockets */
    struct resolver *resolver;
    struct hook starts[HOOKS_MAX], ends[HOOKS_MAX];
    size_t starts_len, ends_len;
    struct signal_watch signals[SIGNALS_MAX];
    size_t signals_len;
    struct lag lag;
    struct turn turn;     /* what the present turn has done so far */
    uint64_t turn_us;     /* when the turn began */
    uint64_t cpu_us;      /* processor time at the end of the last turn */
    const void *entering; /* the timer or watch whose callback comes after the start hooks */
    int urgent;           /* the set of sockets that are served first (urgent.h) */
    bool in_turn;
    bool left_behind; /* the last turn ended before all was served */
    bool stopping;
};

struct loop_timer {
    struct loop *loop;
    const char *name;
    struct event *event;
    loop_fn *fn;
    void *ctx;
    uint64_t due_ms;
};

/*
 * The changelist joins the changes of one turn into one epoll_ctl for each descriptor. It requires
 * that no watched descriptor has a duplicate when it is closed; there are none here. Without cached
 * time a timer counts from the moment when it is started, also late in a long callback.
 */
static struct event_base *base_new(void)
{
    struct event_config *config = event_config_new();
    if (!config)
        return NULL;

    struct event_base *base = NULL;
    if (event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

/* Messages of libevent go to our log. */
static void on_event_log(int severity, const char *text)
{
    if (severity >= EVENT_LOG_WARN)
        log_warn_cause("libevent", LOG_STR("text", text));
    else if (severity == EVENT_LOG_MSG)
        log_info("libevent", LOG_STR("text", text));
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
    setrlimit(RLIMIT_NOFILE, &limit);
}

enum status loop_new(struct loop **out)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return STATUS_NO_MEMORY;

    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    event_set_log_callback(on_event_log);
    loop->urgent = urgent_open();
    loop->base = base_new();
    if (!loop->base) {
        close(loop->urgent);
        free(loop);
        return STATUS_IO;
    }
    *out = loop;
    return STATUS_OK;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    if (loop->lws)
        loop_lws_destroy(loop, loop_lws(loop));
    resolver_free(loop->resolver);
    for (size_t i = 0; i < loop->signals_len; i++)
        event_free(loop->signals[i].event);
    /* Run what libevent has deferred, so that its memory is freed. The hooks' owners are gone. */
    loop->starts_len = loop->ends_len = 0;
    event_base_loop(loop->base, EVLOOP_NONBLOCK);
    event_base_free(loop->base);
    if (loop->urgent >= 0)
        close(loop->urgent);
    free(loop);
}

int loop_urgent(const struct loop *loop)
{
    return loop->urgent;
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

void loop_set_lws(struct loop *loop, struct lws_adapter *adapter)
{
    loop->lws = adapter;
}

struct resolver *loop_resolver(struct loop *loop)
{
    return loop->resolver;
}

void loop_set_resolver(struct loop *loop, struct resolver *resolver)
{
    loop->resolver = resolver;
}

struct lws_vhost *loop_socket_vhost(struct loop *loop)
{
    struct lws_context *context = loop_lws(loop);
    if (!loop->socket_vhost && context)
        loop->socket_vhost = socket_vhost_new(context);
    return loop->socket_vhost;
}

struct lws_adapter *loop_lws_adapter(struct loop *loop)
{
    return loop->lws;
}

static void add_hook(struct hook *hooks, size_t *len, struct hook hook)
{
    assert(*len < HOOKS_MAX);
    hooks[(*len)++] = hook;
}

void loop_at_turn_start(struct loop *loop, const char *name, loop_fn *fn, void *ctx)
{
    add_hook(loop->starts, &loop->starts_len, (struct hook){name, fn, ctx});
}

void loop_at_turn_end(struct loop *loop, const char *name, loop_fn *fn, void *ctx)
{
    add_hook(loop->ends, &loop->ends_len, (struct hook){name, fn, ctx});
}

/* Returns the time after the last hook. */
static uint64_t run_hooks(struct loop *loop, const struct hook *hooks, size_t len, uint64_t now_us)
{
    for (size_t i = 0; i < len; i++) {
        turn_run(&loop->turn, hooks[i].name, now_us);
        hooks[i].fn(hooks[i].ctx);
        now_us = clock_boot_us();
    }
    return now_us;
}

void loop_enter(struct loop *loop, const char *name)
{
    uint64_t now_us = clock_boot_us();
    if (loop->in_turn) {
        turn_run(&loop->turn, name, now_us);
        /* libevent keeps the events that it has not called yet, and calls them first in the next
         * round (2.1: event_process_active leaves them on their queue). */
        if (now_us - loop->turn_us > TURN_US) {
            event_base_loopbreak(loop->base);
            loop->left_behind = true;
        }
        return;
    }
    loop->in_turn = true;
    loop->turn_us = now_us;
    now_us = run_hooks(loop, loop->starts, loop->starts_len, now_us);
    turn_run(&loop->turn, name, now_us);
}

/* Returns false if a start hook has freed or stopped the timer or watch whose callback was due. */
static bool enter_for(struct loop *loop, const char *name, const void *what)
{
    loop->entering = what;
    loop_enter(loop, name);
    bool alive = loop->entering == what;
    loop->entering = NULL;
    return alive;
}

static void forget(struct loop *loop, const void *what)
{
    if (loop->entering == what)
        loop->entering = NULL;
}

/*
 * Runs the end hooks, then lets lws run its due timers. Their callbacks may begin a new turn, whose
 * end hooks must run, too: so this is repeated. After ROUNDS_MAX the rest is left to the next pass
 * of the loop, which comes at once.
 */
static void end_turn(struct loop *loop)
{
    for (int round = 0; round < ROUNDS_MAX; round++) {
        uint64_t now_us = clock_boot_us();
        if (loop->in_turn) {
            now_us = run_hooks(loop, loop->ends, loop->ends_len, now_us);
            loop->in_turn = false;
        }
        turn_run(&loop->turn, "socket_times", now_us);
        if (loop->lws)
            lws_adapter_end_turn(loop->lws);
        turn_run(&loop->turn, NULL, clock_boot_us());
        if (!loop->in_turn)
            return;
    }
    if (loop->lws)
        lws_adapter_wake(loop->lws);
}

/* Costs one system call a turn. Time in which other processes ran does not count. */
static void measure_turn(struct loop *loop)
{
    uint64_t now_us = clock_cpu_us();
    turn_end(&loop->turn, now_us - loop->cpu_us);
    loop->cpu_us = now_us;
}

void loop_run(struct loop *loop)
{
    loop->stopping = false;
    end_turn(loop);
    loop->cpu_us = clock_cpu_us(); /* starting up does not count as a turn */
    while (!loop->stopping) {
        if (loop->left_behind)
            urgent_serve(loop->urgent);
        loop->left_behind = false;
        int result = event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
        assert(result >= 0);
        end_turn(loop);
        measure_turn(loop);
    }
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
    event_base_loopbreak(loop->base);
}

/* --- readiness --- */

struct loop_watch {
    struct loop *loop;
    const char *name;
    struct event *event;
    loop_fn *fn;
    void *ctx;
    struct urgent_entry urgent; /* fn is NULL: the watch is not in the urgent set */
};

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct loop_watch *watch = arg;
    if (enter_for(watch->loop, watch->name, watch))
        watch->fn(watch->ctx);
}

struct loop_watch *loop_watch_new(struct loop *loop, const char *name, int fd,
                                  enum loop_ready ready, loop_fn *fn, void *ctx)
{
    struct loop_watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        return NULL;
    *watch = (struct loop_watch){.loop = loop, .name = name, .fn = fn, .ctx = ctx};
    short what = ready == LOOP_READABLE ? EV_READ : EV_WRITE;
    watch->event = event_new(loop->base, fd, (short)(what | EV_PERSIST), on_ready, watch);
    if (!watch->event || event_add(watch->event, NULL) != 0) {
        loop_watch_free(watch);
        return NULL;
    }
    return watch;
}

void loop_watch_free(struct loop_watch *watch)
{
    if (!watch)
        return;
    forget(watch->loop, watch);
    if (watch->urgent.fn)
        urgent_remove(watch->loop->urgent, event_get_fd(watch->event));
    if (watch->event)
        event_free(watch->event);
    free(watch);
}

static void on_urgent(void *ctx)
{
    struct loop_watch *watch = ctx;
    on_ready(event_get_fd(watch->event), EV_READ, watch);
}

void loop_watch_set_urgent(struct loop_watch *watch)
{
    watch->urgent = (struct urgent_entry){on_urgent, watch};
    urgent_add(watch->loop->urgent, event_get_fd(watch->event), &watch->urgent);
}

/* --- timers --- */

static void lag_note(struct lag *lag, uint64_t now_ms, uint64_t late_ms)
{
    uint64_t second = now_ms / 1000;
    if (second != lag->second) {
        lag->before_ms = second == lag->second + 1 ? lag->current_ms : 0;
        lag->current_ms = 0;
        lag->second = second;
    }
    if (late_ms > lag->current_ms)
        lag->current_ms = late_ms;
}

uint64_t loop_lag_ms(const struct loop *loop)
{
    struct lag lag = loop->lag;
    lag_note(&lag, clock_boot_ms(), 0);
    return lag.current_ms > lag.before_ms ? lag.current_ms : lag.before_ms;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct loop_timer *timer = arg;
    uint64_t now_ms = clock_boot_ms();
    lag_note(&timer->loop->lag, now_ms, now_ms > timer->due_ms ? now_ms - timer->due_ms : 0);
    if (enter_for(timer->loop, timer->name, timer))
        timer->fn(timer->ctx);
}

struct loop_timer *loop_timer_new(struct loop *loop, const char *name, loop_fn *fn, void *ctx)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));
    if (!timer)
        return NULL;
    *timer = (struct loop_timer){.loop = loop, .name = name, .fn = fn, .ctx = ctx};
    timer->event = evtimer_new(loop->base, on_timer, timer);
    if (!timer->event) {
        free(timer);
        return NULL;
    }
    return timer;
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    forget(timer->loop, timer);
    event_free(timer->event);
    free(timer);
}

void loop_timer_start(struct loop_timer *timer, uint64_t after_ms)
{
    struct timeval after = {.tv_sec = (time_t)(after_ms / 1000),
                            .tv_usec = (suseconds_t)(after_ms % 1000 * 1000)};
    forget(timer->loop, timer);
    timer->due_ms = clock_boot_ms() + after_ms;
    evtimer_add(timer->event, &after);
}

void loop_timer_stop(struct loop_timer *timer)
{
    forget(timer->loop, timer);
    evtimer_del(timer->event);
}

static bool has_time(void *ctx)
{
    const uint64_t *until_us = ctx;
    return clock_boot_us() < *until_us;
}

void loop_run_timers(struct timers *timers)
{
    uint64_t now_us = clock_boot_us(), until_us = now_us + TIMERS_US;
    timers_run_portion(timers, now_us / 1000, has_time, &until_us);
}

/* --- signals --- */

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    (void)number;
    (void)what;
    struct signal_watch *watch = arg;
    loop_enter(watch->loop, "signal");
    watch->fn(watch->ctx);
}

enum status loop_on_signal(struct loop *loop, int signal_number, loop_fn *fn, void *ctx)
{
    if (loop->signals_len == SIGNALS_MAX)
        return STATUS_LIMIT;

    struct signal_watch *watch = &loop->signals[loop->signals_len];
    *watch = (struct signal_watch){.loop = loop, .fn = fn, .ctx = ctx};
    watch->event = evsignal_new(loop->base, signal_number, on_signal, watch);
    if (!watch->event)
        return STATUS_NO_MEMORY;
    if (event_add(watch->event, NULL) != 0) {
        event_free(watch->event);
        return STATUS_IO;
    }
    loop->signals_len++;
    return STATUS_OK;
}
