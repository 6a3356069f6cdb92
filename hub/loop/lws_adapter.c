/*
 * lws on our libevent base, by its interface for foreign event loops (event_lib_custom).
 *
 * For each descriptor lws asks for events (on_interest), and gets them through lws_service_fd. All
 * timers of lws depend on one timer of ours, which is armed once a turn.
 */
#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/log.h"
#include "loop/loop.h"
#include "loop/loop_private.h"
#include "loop/urgent.h"

/* lws is called at least this often, so that its timer is always armed. */
#define IDLE_MS 60000
/* The size of the read buffer, which all connections share: how much one connection may read before
 * the next one is served. It holds more than a TLS record (16 KiB), so that a record that has come
 * whole is read at once. */
#define READ_BYTES 32768

/* What only some descriptors need. */
struct watch_more {
    struct event write;
    bool writing;               /* the write event is added */
    struct urgent_entry urgent; /* without an fn: not urgent */
};

/*
 * One for each descriptor of lws. Nearly every descriptor is read, so the read event is part of the
 * object. Writing is awaited only while output is buffered. There are two events because libevent
 * can change the interest of one event only by removing and adding it.
 */
struct lws_watch {
    struct event read;
    struct watch_more *more; /* NULL: writing is not awaited, and it is not urgent */
};

struct lws_adapter {
    struct loop *loop;
    struct lws_context *context;
    struct event *timer;
    struct lws_watch **watches; /* by descriptor */
    size_t watches_len;
    bool context_is_new; /* lws_create_context is running */
    int routes_fd;       /* of lws's netlink socket; -1: none */
};

/* Memory that lws allocates for us next to its own per-thread state. */
struct per_thread {
    struct lws_adapter *adapter;
};

static struct lws_adapter *adapter_of(struct lws *wsi)
{
    struct per_thread *part = lws_evlib_wsi_to_evlib_pt(wsi);
    return part->adapter;
}

static void serve(struct lws_adapter *adapter, evutil_socket_t fd, short ready)
{
    loop_enter(adapter->loop, "socket");
    struct lws_pollfd pollfd = {.fd = fd, .events = ready, .revents = ready};
    lws_service_fd(adapter->context, &pollfd);
}

/* libevent reports a hang-up or an error as readability and writability; lws finds the error by its
 * own read or write. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    serve(arg, fd, LWS_POLLIN);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    serve(arg, fd, LWS_POLLOUT);
}

static struct lws_watch *watch_find(struct lws_adapter *adapter, int fd)
{
    return fd >= 0 && (size_t)fd < adapter->watches_len ? adapter->watches[fd] : NULL;
}

/*
 * lws reads changes of the machine's addresses and routes from a netlink socket. After each change
 * it closes all connections for which it finds no route in its own copy of the routing table. That
 * copy lacks policy routes, IPv4 over IPv6 sockets, and routes after the first 255. So this socket
 * is never read: the kernel ends connections without a route.
 */
static bool is_netlink(int fd)
{
    int domain = 0;
    socklen_t size = sizeof(domain);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_NETLINK;
}

static struct lws_watch *watch_get(struct lws_adapter *adapter, int fd)
{
    if (fd < 0 || (size_t)fd >= adapter->watches_len)
        return NULL;
    struct lws_watch *watch = adapter->watches[fd];
    if (watch)
        return watch;

    if (adapter->context_is_new && is_netlink(fd))
        adapter->routes_fd = fd;
    watch = calloc(1, sizeof(*watch));
    if (!watch)
        return NULL;
    event_assign(&watch->read, loop_base(adapter->loop), fd, EV_READ | EV_PERSIST, on_readable,
                 adapter);
    adapter->watches[fd] = watch;
    return watch;
}

static struct lws_adapter *watch_adapter(const struct lws_watch *watch)
{
    return event_get_callback_arg(&watch->read);
}

static void on_urgent(void *ctx)
{
    struct lws_watch *watch = ctx;
    serve(watch_adapter(watch), event_get_fd(&watch->read), LWS_POLLIN);
}

static bool is_reading(const struct lws_watch *watch)
{
    return event_pending(&watch->read, EV_READ, NULL);
}

static bool is_urgent(const struct lws_watch *watch)
{
    return watch->more && watch->more->urgent.fn;
}

/* Adds the descriptor to the urgent set while it is read, and removes it while reading is paused:
 * otherwise epoll would report it again and again. */
static void set_urgent(struct lws_watch *watch)
{
    int set = loop_urgent(watch_adapter(watch)->loop), fd = event_get_fd(&watch->read);
    if (is_reading(watch))
        urgent_add(set, fd, &watch->more->urgent);
    else
        urgent_remove(set, fd);
}

static struct watch_more *more_of(struct lws_watch *watch)
{
    if (!watch->more)
        watch->more = calloc(1, sizeof(*watch->more));
    return watch->more;
}

void lws_adapter_set_urgent(struct lws_adapter *adapter, int fd)
{
    struct lws_watch *watch = watch_find(adapter, fd);
    if (!watch || is_urgent(watch) || !more_of(watch))
        return; /* out of memory: the descriptor is served like all others */
    watch->more->urgent = (struct urgent_entry){on_urgent, watch};
    if (is_reading(watch))
        set_urgent(watch);
}

static void watch_reading(struct lws_watch *watch, bool wanted)
{
    if (is_reading(watch) == wanted)
        return;
    if (wanted)
        event_add(&watch->read, NULL);
    else
        event_del(&watch->read);
    if (is_urgent(watch))
        set_urgent(watch);
}

static void watch_writing(struct lws_adapter *adapter, int fd, struct lws_watch *watch, bool wanted)
{
    if ((watch->more && watch->more->writing) == wanted)
        return;
    if (!more_of(watch))
        abort(); /* two hundred bytes */
    watch->more->writing = wanted;
    if (wanted) {
        event_assign(&watch->more->write, loop_base(adapter->loop), fd, EV_WRITE | EV_PERSIST,
                     on_writable, adapter);
        event_add(&watch->more->write, NULL);
        return;
    }
    event_del(&watch->more->write);
    if (is_urgent(watch))
        return;
    free(watch->more);
    watch->more = NULL;
}

static void watch_drop(struct lws_adapter *adapter, int fd)
{
    struct lws_watch *watch = watch_find(adapter, fd);
    if (!watch)
        return;
    watch_writing(adapter, fd, watch, false);
    watch_reading(watch, false);
    free(watch->more);
    free(watch);
    adapter->watches[fd] = NULL;
}

/* --- what lws calls --- */

static int on_init_pt(struct lws_context *context, void *foreign_loop, int thread)
{
    struct per_thread *part = lws_evlib_tsi_to_evlib_pt(context, thread);
    part->adapter = foreign_loop;
    part->adapter->context =
        context; /* descriptors may be watched before lws_create_context returns */
    return 0;
}

static int on_new_descriptor(struct lws *wsi)
{
    return !watch_get(adapter_of(wsi), lws_get_socket_fd(wsi));
}

static void on_interest(struct lws *wsi, unsigned int flags)
{
    struct lws_adapter *adapter = adapter_of(wsi);
    int fd = lws_get_socket_fd(wsi);
    if (fd < 0)
        return;
    /* lws stops both directions in one call only when it removes the descriptor. */
    if ((flags & LWS_EV_STOP) && (flags & LWS_EV_READ) && (flags & LWS_EV_WRITE)) {
        watch_drop(adapter, fd);
        return;
    }

    bool wanted = (flags & LWS_EV_START) != 0;
    struct lws_watch *watch = wanted ? watch_get(adapter, fd) : watch_find(adapter, fd);
    if (!watch || fd == adapter->routes_fd)
        return;
    if (flags & LWS_EV_READ)
        watch_reading(watch, wanted);
    if (flags & LWS_EV_WRITE)
        watch_writing(adapter, fd, watch, wanted);
}

static int on_closing(struct lws *wsi)
{
    watch_drop(adapter_of(wsi), lws_get_socket_fd(wsi));
    return 0;
}

static const struct lws_event_loop_ops adapter_ops = {
    .name = "libevent, foreign",
    .init_pt = on_init_pt,
    .init_vhost_listen_wsi = on_new_descriptor,
    .sock_accept = on_new_descriptor,
    .io = on_interest,
    .wsi_logical_close = on_closing,
    .evlib_size_pt = sizeof(struct per_thread),
};

static const lws_plugin_evlib_t adapter_plugin = {
    .hdr = {"libevent, foreign", "lws_evlib_plugin", LWS_BUILD_HASH, LWS_PLUGIN_API_MAGIC},
    .ops = &adapter_ops,
};

/* --- once a turn --- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg; /* the timer only begins a turn: lws_adapter_end_turn runs what is due */
}

static void arm(struct lws_adapter *adapter, int after_ms)
{
    struct timeval after = {.tv_sec = after_ms / 1000,
                            .tv_usec = (suseconds_t)(after_ms % 1000) * 1000};
    evtimer_add(adapter->timer, &after);
}

/*
 * lws_service_adjust_timeout runs the timers that are due and returns the time until the next one.
 * 0 means that input waits in a buffer (of a connection whose reading was resumed), or that a timer
 * is due within a millisecond; the forced service handles both. loop_enter is not called here but
 * in the callbacks of the protocol, so that a new turn begins only if there is such a callback.
 */
void lws_adapter_end_turn(struct lws_adapter *adapter)
{
    int wait_ms = lws_service_adjust_timeout(adapter->context, IDLE_MS, 0);
    if (wait_ms == 0) {
        bool served = _lws_plat_service_forced_tsi(adapter->context, 0) > 0;
        wait_ms = lws_service_adjust_timeout(adapter->context, IDLE_MS, 0);
        if (wait_ms == 0 && !served)
            wait_ms = 1; /* a timer is due in less than a millisecond */
    }
    arm(adapter, wait_ms);
}

void lws_adapter_wake(struct lws_adapter *adapter)
{
    arm(adapter, 0);
}

static void adapter_free(struct lws_adapter *adapter)
{
    for (size_t fd = 0; fd < adapter->watches_len; fd++)
        watch_drop(adapter, (int)fd);
    if (adapter->timer)
        event_free(adapter->timer);
    free(adapter->watches);
    free(adapter);
}

static struct lws_adapter *adapter_new(struct loop *loop)
{
    struct lws_adapter *adapter = calloc(1, sizeof(*adapter));
    struct rlimit limit;
    if (!adapter || getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        free(adapter);
        return NULL;
    }
    adapter->loop = loop;
    adapter->routes_fd = -1;
    adapter->watches_len = (size_t)limit.rlim_cur;
    /* Pages of a large calloc take memory only once they are written, so only for descriptors that
     * have been in use. */
    adapter->watches = calloc(adapter->watches_len, sizeof(struct lws_watch *));
    adapter->timer = evtimer_new(loop_base(loop), on_timer, adapter);
    if (!adapter->watches || !adapter->timer) {
        adapter_free(adapter);
        return NULL;
    }
    return adapter;
}

struct lws_context *loop_lws_create(struct loop *loop, struct lws_context_creation_info *info)
{
    assert(!loop_lws_adapter(loop));
    struct lws_adapter *adapter = adapter_new(loop);
    if (!adapter)
        return NULL;

    void *foreign_loops[1] = {adapter};
    info->event_lib_custom = &adapter_plugin;
    info->foreign_loops = foreign_loops;
    info->user = loop; /* socket.c finds it by its connection */
    adapter->context_is_new = true;
    struct lws_context *context = lws_create_context(info);
    adapter->context_is_new = false;
    info->foreign_loops = NULL;
    if (!context) {
        adapter_free(adapter);
        return NULL;
    }
    loop_set_lws(loop, adapter);
    return context;
}

/* Errors of lws are logged as warnings, all other levels as debug. */
static void on_log(int level, const char *line)
{
    static const char *const event = "lws";
    char text[256];
    snprintf(text, sizeof(text), "%.*s", (int)strcspn(line, "\n"), line);
    if (level & LLL_ERR)
        log_warn_cause(event, LOG_STR("text", text));
    else
        log_debug(event, LOG_STR("text", text));
}

struct lws_context *loop_lws(struct loop *loop)
{
    struct lws_adapter *adapter = loop_lws_adapter(loop);
    if (adapter)
        return adapter->context;

    /* All zero: lws starts no validity timers. Each would be in one sorted list of all connections,
     * which gets slow with many of them. */
    static const lws_retry_bo_t no_policy = {0};
    lws_set_log_level(log_enabled(LOG_LEVEL_DEBUG) ? LLL_ERR | LLL_WARN | LLL_NOTICE : LLL_ERR,
                      on_log);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .pt_serv_buf_size = READ_BYTES,
        .retry_and_idle_policy = &no_policy,
    };
    return loop_lws_create(loop, &info);
}

void loop_lws_destroy(struct loop *loop, struct lws_context *context)
{
    struct lws_adapter *adapter = loop_lws_adapter(loop);
    assert(adapter && adapter->context == context);
    lws_context_destroy(context);
    loop_set_lws(loop, NULL);
    adapter_free(adapter);
}
