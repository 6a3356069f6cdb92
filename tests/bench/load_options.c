#include "load_options.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ws_wire.h"

enum option_kind { NUMBER, REAL, TEXT, FLAG, ADDRESS, TARGETS, WATCHED };

struct row {
    const char *name;
    enum option_kind kind;
    size_t offset;
    const char *help;
};

#define ROW(name, kind, field, help)                           \
    {                                                          \
        name, kind, offsetof(struct load_options, field), help \
    }

static const struct row rows[] = {
    ROW("connect", TARGETS, targets,
        "ADDRESS:PORT,... brokers; client I goes to I modulo their number"),
    ROW("path", TEXT, path, "path of a client, * stands for the vehicle (/u/*?remoteWs)"),
    ROW("clients", NUMBER, clients, "how many (1)"),
    ROW("vins", NUMBER, vins, "how many vehicles they watch (1)"),
    ROW("client-processes", NUMBER, client_processes, "(one for each 15,000 clients)"),
    ROW("connecting", NUMBER, connecting, "clients a process opens at once (256)"),
    ROW("in-stages", FLAG, in_stages, "the first broker's clients first"),
    ROW("group", NUMBER, group, "clients in a row that watch the same vehicle (one a broker)"),
    ROW("subscriptions", NUMBER, subscriptions,
        "of each client, which speaks vinhub.v1 then: of the vehicles in turn (0: raw clients)"),
    ROW("rated", REAL, rated, "rate= of each subscription (0: none)"),
    ROW("slow", NUMBER, slow, "how many of the clients never read (0)"),
    ROW("heartbeat-ms", NUMBER, heartbeat_ms, "each client sends `ping` this often (0: never)"),
    ROW("quiet-start", FLAG, quiet_start, "heartbeats begin when all have opened and seen a push"),
    ROW("send-rate", REAL, send_rate, "messages a second from clients to the backend (0)"),
    ROW("client-nice", NUMBER, client_nice, "clients stand back behind all else, 0 to 19 (0)"),
    ROW("spin", FLAG, spin, "clients never sleep: a delivery wakes nobody"),
    ROW("deflate", FLAG, deflate, "clients ask for permessage-deflate"),
    ROW("listen", ADDRESS, listen, "ADDRESS:PORT of the backend"),
    ROW("own-addresses", FLAG, own_addresses, "each backend process listens on the next address"),
    ROW("publish", ADDRESS, publish, "ADDRESS:PORT to publish to, instead"),
    ROW("publish-path", TEXT, publish_path, "path to publish at, * stands for the vehicle"),
    ROW("backend-processes", NUMBER, backend_processes, "(one for each 15,000 upstreams)"),
    ROW("upstreams", NUMBER, upstreams, "wait for this many (one a vehicle)"),
    ROW("many-upstreams", FLAG, many_upstreams, "an upstream a client is what is expected"),
    ROW("size", NUMBER, size, "bytes of a message (200)"),
    ROW("rate", REAL, rate, "pushes a second, all vehicles together (0)"),
    ROW("burst", NUMBER, burst, "pushes of one vehicle at a time (1)"),
    ROW("warm-rate", REAL, warm_rate, "pushes a second before the window (0: the same)"),
    ROW("warm-burst", NUMBER, warm_burst, "and how many at a time (1)"),
    ROW("in-flight", NUMBER, in_flight,
        "closed loop on one vehicle: pushes that some client lacks (0)"),
    ROW("rounds", NUMBER, rounds, "push this many times to each vehicle, then no more (0)"),
    ROW("prime", FLAG, prime, "push until each client has seen one before anything is measured"),
    ROW("prime-ms", NUMBER, prime_ms, "time for one push a vehicle meanwhile (100)"),
    ROW("warm-ms", NUMBER, warm_ms, "load before the window (200)"),
    ROW("measure-ms", NUMBER, measure_ms, "the window (1000)"),
    ROW("after-ms", NUMBER, after_ms, "quiet time before memory is looked at once more (0)"),
    ROW("connect-s", REAL, connect_s, "longest time to connect (30)"),
    ROW("settle-s", REAL, settle_s, "longest time for what was pushed to arrive (10)"),
    ROW("kill", NUMBER, kill_pid,
        "kill this process in the middle and wait for its vehicles' pushes"),
    ROW("kill-target", NUMBER, kill_target, "which of the brokers that is (0)"),
    ROW("progress", FLAG, progress, "a line on stderr every few seconds"),
    ROW("watch", WATCHED, watched, "NAME=PID,... whose processor time and memory is taken"),
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static _Noreturn void usage(int status)
{
    FILE *out = status == 0 ? stdout : stderr;
    fprintf(out, "load --connect ADDRESS:PORT [option...]\n");
    for (size_t i = 0; i < ROWS; i++)
        fprintf(out, "  --%-18s %s\n", rows[i].name, rows[i].help);
    exit(status);
}

static _Noreturn void refuse(const char *why, const char *what)
{
    fprintf(stderr, "load: %s: %s\n", why, what);
    exit(2);
}

static double number(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || value < 0 || value > 4e9)
        refuse("not a number", text);
    return value;
}

static void add_target(struct load_options *options, const char *item)
{
    if (options->targets_len == TARGETS_MAX || strlen(item) >= sizeof(options->target_names[0]))
        refuse("too many or too long", item);
    snprintf(options->target_names[options->targets_len], sizeof(options->target_names[0]), "%s",
             item);
    options->targets[options->targets_len++] = address_of(item);
}

static void add_watched(struct load_options *options, const char *item)
{
    const char *equals = strchr(item, '=');
    if (!equals || options->watched_len == WATCHED_MAX)
        refuse("not NAME=PID, or too many", item);
    snprintf(options->watched_names[options->watched_len], sizeof(options->watched_names[0]),
             "%.*s", (int)(equals - item), item);
    options->watched[options->watched_len++] = (pid_t)number(equals + 1);
}

static void set(struct load_options *options, const struct row *row, char *value)
{
    void *field = (char *)options + row->offset;
    switch (row->kind) {
    case NUMBER: *(unsigned *)field = (unsigned)number(value); break;
    case REAL: *(double *)field = number(value); break;
    case TEXT: *(char **)field = value; break;
    case FLAG: *(bool *)field = true; break;
    case ADDRESS: *(struct sockaddr_in *)field = address_of(value); break;
    case TARGETS:
        for (char *item = strtok(value, ","); item; item = strtok(NULL, ","))
            add_target(options, item);
        break;
    case WATCHED:
        for (char *item = strtok(value, ","); item; item = strtok(NULL, ","))
            add_watched(options, item);
        break;
    }
}

static void complete(struct load_options *options, bool upstreams_named)
{
    bool backend = options->listen.sin_port != 0 || options->publish_path;
    unsigned wanted = options->many_upstreams ? options->clients : options->vins;
    if (!upstreams_named && backend)
        options->upstreams = wanted;
    if (options->client_processes == 0)
        options->client_processes = (options->clients + 14999) / 15000;
    if (options->backend_processes == 0 && backend)
        options->backend_processes = (wanted + 14999) / 15000;
    if (options->targets_len == 0)
        refuse("missing", "--connect");
    if (options->group == 0)
        options->group = options->targets_len;
    if (options->clients == 0 || options->vins == 0 || options->slow > options->clients)
        refuse("need at least one, and not more slow ones than all", "--clients, --vins, --slow");
    if (options->client_processes > PROCESSES_MAX || options->backend_processes > PROCESSES_MAX)
        refuse("too many processes", "--client-processes, --backend-processes");
    if (options->size < STAMP_BYTES || options->size > 65536)
        refuse("from 40 to 65536", "--size");
    bool all_follow_all = options->vins == 1 || options->subscriptions == options->vins;
    if (options->in_flight >= FLIGHT_SLOTS / 2 || (options->in_flight > 0 && !all_follow_all))
        refuse("less than 512, and vehicles that each client follows", "--in-flight");
    if (options->subscriptions > options->vins || (options->subscriptions > 0 && options->slow > 0))
        refuse("at most --vins, and no slow clients", "--subscriptions");
    if (options->burst == 0 || options->warm_burst == 0 || options->prime_ms == 0)
        refuse("at least 1", "--burst, --warm-burst, --prime-ms");
}

void load_options(struct load_options *options, int argc, char **argv)
{
    struct option table[ROWS + 2] = {{0}};
    bool upstreams_named = false;
    *options = (struct load_options){.clients = 1,
                                     .vins = 1,
                                     .connecting = 256,
                                     .path = "/u/*?remoteWs",
                                     .size = 200,
                                     .burst = 1,
                                     .warm_burst = 1,
                                     .prime_ms = 100,
                                     .warm_ms = 200,
                                     .measure_ms = 1000,
                                     .connect_s = 30,
                                     .settle_s = 10};
    for (size_t i = 0; i < ROWS; i++)
        table[i] = (struct option){rows[i].name,
                                   rows[i].kind == FLAG ? no_argument : required_argument, NULL,
                                   (int)i + 256};
    table[ROWS] = (struct option){"help", no_argument, NULL, 'h'};
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (c < 256)
            usage(c == 'h' ? 0 : 2);
        set(options, &rows[c - 256], optarg);
        upstreams_named = upstreams_named || strcmp(rows[c - 256].name, "upstreams") == 0;
    }
    complete(options, upstreams_named);
}
