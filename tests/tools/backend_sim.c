/*
 * The vehicle backend of the demo and of tests: a WebSocket server that takes any path for a
 * vehicle.
 *
 * The vin is ?vin=, or the last path segment. Each connection gets a push each interval, `pong` for
 * the text `ping`, and an answer to each command (vehicle.h). Connects and disconnects are one line
 * each on stdout, so that whoever watches sees how many upstreams a vin has.
 */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libwebsockets.h>

#include "common/clock.h"
#include "loop/loop.h"
#include "vehicle.h"

#define QUEUE_MAX_BYTES                                                                          \
    (8u << 20) /* of one connection that does not read; what comes on top is dropped and counted \
                */
#define SLOTS           10  /* connections push in turns within an interval, as vehicles do */
#define SLOTTED_FROM_MS 100 /* below that an interval has one slot */

struct backend_options {
    char address[64];
    int port;
    unsigned long interval_ms, burst, count;
    size_t size;
    bool quiet;
};

struct backend_message {
    struct backend_message *next;
    size_t len;
    enum lws_write_protocol kind;
    uint8_t bytes[]; /* LWS_PRE of headroom, then the payload */
};

struct backend_connection {
    struct backend_connection *prev, *next;
    struct lws *wsi;
    struct vehicle vehicle;
    struct backend_message *head, **tail;
    size_t queued_bytes;
    uint64_t received, sent, opened_ms;
    unsigned slot;
    char command[4096]; /* a text message as it comes in; longer ones are counted, not answered */
    size_t command_len;
};

static struct {
    struct backend_options options;
    struct loop *loop;
    struct loop_timer *tick;
    struct backend_connection *connections;
    unsigned next_slot, slot_now, slots;
    uint64_t open, dropped;
    uint64_t next_tick_at_ms;
} sim;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    if (sim.options.quiet)
        return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* --- connections ------------------------------------------------------------------------------ */

static void enqueue(struct backend_connection *connection, const void *payload, size_t len,
                    enum lws_write_protocol kind)
{
    struct backend_message *message = NULL;
    if (connection->queued_bytes + len <= QUEUE_MAX_BYTES)
        message = malloc(sizeof(*message) + LWS_PRE + len);
    if (!message) {
        sim.dropped++;
        return;
    }
    message->next = NULL;
    message->len = len;
    message->kind = kind;
    memcpy(message->bytes + LWS_PRE, payload, len);
    *connection->tail = message;
    connection->tail = &message->next;
    connection->queued_bytes += len;
    lws_callback_on_writable(connection->wsi);
}

static void enqueue_text(struct backend_connection *connection, char *text)
{
    if (!text)
        return;
    enqueue(connection, text, strlen(text), LWS_WRITE_TEXT);
    free(text);
}

static struct backend_message *take(struct backend_connection *connection)
{
    struct backend_message *message = connection->head;
    connection->head = message->next;
    if (!connection->head)
        connection->tail = &connection->head;
    connection->queued_bytes -= message->len;
    return message;
}

/* Writes until lws had to keep something back; it must be empty before the next write. */
static int write_out(struct backend_connection *connection)
{
    while (connection->head && !lws_partial_buffered(connection->wsi)) {
        struct backend_message *message = take(connection);
        int written = lws_write(connection->wsi, message->bytes + LWS_PRE, message->len,
                                message->kind);
        free(message);
        if (written < 0)
            return -1;
        connection->sent++;
    }
    if (connection->head)
        lws_callback_on_writable(connection->wsi);
    return 0;
}

/* lws has decoded the request; what would break a line of the log becomes '_'. */
static void clean(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text <= ' ')
            *text = '_';
    }
}

/* ?vin=V, else the last segment of the path. */
static void read_vin(struct lws *wsi, const char *path, char *out, size_t size)
{
    char item[256];
    for (int i = 0; lws_hdr_copy_fragment(wsi, item, sizeof(item), WSI_TOKEN_HTTP_URI_ARGS, i) > 0;
         i++) {
        if (strncmp(item, "vin=", 4) == 0) {
            snprintf(out, size, "%.128s", item + 4);
            return;
        }
    }
    const char *slash = strrchr(path, '/');
    snprintf(out, size, "%.128s", slash ? slash + 1 : path);
}

static unsigned connections_of(const char *vin)
{
    unsigned found = 0;
    for (const struct backend_connection *other = sim.connections; other; other = other->next)
        found += strcmp(other->vehicle.vin, vin) == 0;
    return found;
}

static void on_open(struct backend_connection *connection, struct lws *wsi)
{
    char path[512] = "", vin[129];
    if (lws_hdr_copy(wsi, path, sizeof(path), WSI_TOKEN_GET_URI) < 0)
        snprintf(path, sizeof(path), "?");
    read_vin(wsi, path, vin, sizeof(vin));
    clean(path);
    clean(vin);
    *connection = (struct backend_connection){
        .wsi = wsi, .next = sim.connections, .opened_ms = clock_boot_ms()};
    connection->tail = &connection->head;
    vehicle_init(&connection->vehicle, vin);
    connection->slot = sim.next_slot++ % sim.slots;
    if (sim.connections)
        sim.connections->prev = connection;
    sim.connections = connection;
    sim.open++;
    if (!sim.options.quiet) /* the count walks all connections */
        say("connect vin=%s path=%s of_this_vin=%u open=%llu", vin, path,
            connections_of(connection->vehicle.vin), (unsigned long long)sim.open);
}

static void on_close(struct backend_connection *connection)
{
    if (connection->prev)
        connection->prev->next = connection->next;
    else
        sim.connections = connection->next;
    if (connection->next)
        connection->next->prev = connection->prev;
    sim.open--;
    while (connection->head)
        free(take(connection));
    say("disconnect vin=%s after_ms=%llu received=%llu sent=%llu open=%llu",
        connection->vehicle.vin, (unsigned long long)(clock_boot_ms() - connection->opened_ms),
        (unsigned long long)connection->received, (unsigned long long)connection->sent,
        (unsigned long long)sim.open);
}

static void answer(struct backend_connection *connection)
{
    if (connection->command_len == 4 && memcmp(connection->command, "ping", 4) == 0) {
        enqueue(connection, "pong", 4, LWS_WRITE_TEXT);
        return;
    }
    connection->received++;
    if (connection->command_len <= sizeof(connection->command))
        enqueue_text(connection, vehicle_answer(&connection->vehicle, connection->command,
                                                connection->command_len, clock_unix_ms()));
}

/* Gathers a message from its pieces; command_len counts on past the buffer. */
static void on_piece(struct backend_connection *connection, struct lws *wsi, const void *piece,
                     size_t len)
{
    if (lws_is_first_fragment(wsi))
        connection->command_len = 0;
    if (connection->command_len + len <= sizeof(connection->command))
        memcpy(connection->command + connection->command_len, piece, len);
    connection->command_len += len;
    if (!lws_is_final_fragment(wsi))
        return;
    if (lws_frame_is_binary(wsi))
        connection->received++;
    else
        answer(connection);
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                  size_t len)
{
    loop_enter(sim.loop, "simulator");
    struct backend_connection *connection = user;
    switch ((int)reason) { /* lws has a hundred reasons */
    case LWS_CALLBACK_ESTABLISHED: on_open(connection, wsi); return 0;
    case LWS_CALLBACK_CLOSED: on_close(connection); return 0;
    case LWS_CALLBACK_RECEIVE: on_piece(connection, wsi, in, len); return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE: return write_out(connection);
    default: return lws_callback_http_dummy(wsi, reason, user, in, len);
    }
}

/* --- pushing ---------------------------------------------------------------------------------- */

static void push(struct backend_connection *connection)
{
    const struct backend_options *options = &sim.options;
    for (unsigned long i = 0; i < options->burst; i++) {
        if (options->count == 0)
            enqueue_text(connection, options->size > 0
                                         ? vehicle_numbered_push(&connection->vehicle,
                                                                 clock_unix_ms(), options->size)
                                         : vehicle_push(&connection->vehicle, clock_unix_ms()));
        else if (connection->vehicle.pushes < options->count)
            enqueue_text(connection, vehicle_numbered_push(&connection->vehicle, clock_unix_ms(),
                                                           options->size));
    }
}

static void on_tick(void *ctx)
{
    (void)ctx;
    for (struct backend_connection *connection = sim.connections; connection;
         connection = connection->next) {
        if (connection->slot == sim.slot_now)
            push(connection);
    }
    sim.slot_now = (sim.slot_now + 1) % sim.slots;
    /* Counted from the last tick that was due, not from now, so that the rate holds under load. */
    uint64_t now = clock_boot_ms();
    sim.next_tick_at_ms += sim.options.interval_ms / sim.slots;
    if (sim.next_tick_at_ms < now)
        sim.next_tick_at_ms = now;
    loop_timer_start(sim.tick, sim.next_tick_at_ms - now);
}

/* --- the process ------------------------------------------------------------------------------ */

static const char usage[] =
    "usage: backend_sim [--listen ADDR:PORT] [--interval-ms N] [--burst N] [--size BYTES] [--count "
    "N] [--quiet]\n"
    "  --listen       where to listen (127.0.0.1:28088)\n"
    "  --interval-ms  how often each vehicle pushes (1000)\n"
    "  --burst        pushes each time (1)\n"
    "  --size         numbered pushes {\"seq\":N,...} padded to BYTES in place of realistic ones\n"
    "  --count        numbered pushes, N a connection and no more\n"
    "  --quiet        no line for each connect and disconnect\n";

static void refuse(const char *option, const char *value)
{
    fprintf(stderr, "backend_sim: %s: cannot use \"%s\"\n%s", option, value, usage);
    exit(2);
}

static unsigned long number(const char *option, const char *text, unsigned long low,
                            unsigned long high)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || text[0] == '-' || value < low || value > high)
        refuse(option, text);
    return value;
}

static void read_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof(sim.options.address))
        refuse("--listen", text);
    sim.options.port = (int)number("--listen", colon + 1, 1, 65535);
    snprintf(sim.options.address, sizeof(sim.options.address), "%.*s", (int)(colon - text), text);
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'}, {"interval-ms", required_argument, NULL, 'i'},
        {"burst", required_argument, NULL, 'b'},  {"size", required_argument, NULL, 's'},
        {"count", required_argument, NULL, 'c'},  {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    sim.options = (struct backend_options){.interval_ms = 1000, .burst = 1};
    read_address("127.0.0.1:28088");
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case 'l': read_address(optarg); break;
        case 'i': sim.options.interval_ms = number("--interval-ms", optarg, 1, 86400000); break;
        case 'b': sim.options.burst = number("--burst", optarg, 1, 1000000); break;
        case 's': sim.options.size = number("--size", optarg, 1, 4u << 20); break;
        case 'c': sim.options.count = number("--count", optarg, 1, 1000000000); break;
        case 'q': sim.options.quiet = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (optind < argc)
        refuse("argument", argv[optind]);
}

static struct lws_context *listen_with_lws(void)
{
    static const struct lws_protocols protocols[] = {
        {.name = "vehicle",
         .callback = on_lws,
         .per_session_data_size = sizeof(struct backend_connection),
         .rx_buffer_size = 4096,
         .tx_packet_size = 1 << 20}, /* 0 would cut each write into pieces of rx_buffer_size */
        {0},
    };
    static const lws_retry_bo_t no_validity_checks = {0};
    struct lws_context_creation_info info = {
        .port = sim.options.port,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND,
        .retry_and_idle_policy = &no_validity_checks,
        .max_http_header_pool = 1024,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
    };
    if (!strchr(sim.options.address, ':'))
        info.options |=
            LWS_SERVER_OPTION_DISABLE_IPV6; /* else lws may bind more than the address */
    if (strcmp(sim.options.address, "0.0.0.0") != 0)
        info.iface = sim.options.address;
    lws_set_log_level(LLL_ERR, NULL);
    return loop_lws_create(sim.loop, &info);
}

static void on_stop(void *ctx)
{
    (void)ctx;
    loop_stop(sim.loop);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    sim.slots = sim.options.interval_ms >= SLOTTED_FROM_MS ? SLOTS : 1;
    if (loop_new(&sim.loop) != STATUS_OK ||
        loop_on_signal(sim.loop, SIGTERM, on_stop, NULL) != STATUS_OK ||
        loop_on_signal(sim.loop, SIGINT, on_stop, NULL) != STATUS_OK)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    struct lws_context *context = listen_with_lws();
    if (!context) {
        fprintf(stderr, "backend_sim: cannot listen on %s:%d\n", sim.options.address,
                sim.options.port);
        return 1;
    }
    say("listening on %s:%d", sim.options.address, sim.options.port);
    sim.tick = loop_timer_new(sim.loop, "simulator", on_tick, NULL);
    sim.next_tick_at_ms = clock_boot_ms();
    loop_timer_start(sim.tick, 0);
    loop_run(sim.loop);
    say("stopped open=%llu dropped=%llu", (unsigned long long)sim.open,
        (unsigned long long)sim.dropped);
    loop_lws_destroy(sim.loop, context);
    loop_timer_free(sim.tick);
    loop_free(sim.loop);
    return 0;
}
