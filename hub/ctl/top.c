#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "common/clock.h"
#include "ctl.h"

#define REFRESH_MS 1000

/* Sums over all nodes, and the time when they were read. */
struct totals {
    json_int_t clients, upstreams, in, out;
    uint64_t at_ms;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static json_int_t sum(const json_t *nodes, const char *field)
{
    json_int_t all = 0;
    for (size_t i = 0; i < json_array_size(nodes); i++)
        all += json_integer_value(json_object_get(json_array_get(nodes, i), field));
    return all;
}

static struct totals totals_of(const json_t *nodes)
{
    return (struct totals){sum(nodes, "clients"), sum(nodes, "upstreams"), sum(nodes, "msgs_in"),
                           sum(nodes, "msgs_out"), clock_boot_ms()};
}

/* The rate is 0 if the sum has fallen: when a node leaves, its counts are gone. */
static double rate(json_int_t before, json_int_t now, uint64_t ms)
{
    return before > now || ms == 0 ? 0 : (double)(now - before) * 1000.0 / (double)ms;
}

static void print_screen(const json_t *nodes, struct totals *before, bool clear)
{
    struct totals now = totals_of(nodes);
    uint64_t ms = before->at_ms ? now.at_ms - before->at_ms : 0;
    if (clear)
        (void)printf("\033[H\033[2J");
    (void)printf("%zu nodes   %lld clients   %lld upstreams   %.0f pushes/s in   %.0f/s out\n\n",
                 json_array_size(nodes), (long long)now.clients, (long long)now.upstreams,
                 rate(before->in, now.in, ms), rate(before->out, now.out, ms));
    table_nodes(nodes);
    (void)printf(clear ? "\nq ends\n" : "\n");
    (void)fflush(stdout);
    *before = now;
}

/* Waits for the next refresh. Returns true if the operator ends the display. */
static bool wait_for_end(bool keys)
{
    struct pollfd input = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
    if (poll(&input, 1, REFRESH_MS) <= 0)
        return interrupted != 0;
    char key = 0;
    return interrupted || read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q';
}

static enum ctl_exit refresh(struct ctl_source *source, bool as_json, bool screen, bool keys)
{
    struct totals before = {0};
    do {
        json_t *nodes = NULL;
        if (source->ops->nodes(source, &nodes) != STATUS_OK)
            return CTL_FAILED;
        if (as_json) {
            (void)json_dumpf(nodes, stdout, JSON_COMPACT);
            (void)printf("\n");
            (void)fflush(stdout);
        } else
            print_screen(nodes, &before, screen);
        json_decref(nodes);
        if (ferror(stdout))
            return CTL_DONE; /* the reader of our output has closed it */
    } while (!wait_for_end(keys));
    return CTL_DONE;
}

enum ctl_exit top_run(struct ctl_source *source, bool as_json)
{
    bool screen = isatty(STDOUT_FILENO) && !as_json;
    bool keys = screen && isatty(STDIN_FILENO);
    struct termios before;
    struct sigaction action = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    if (keys && tcgetattr(STDIN_FILENO, &before) == 0) {
        struct termios raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    } else
        keys = false;
    enum ctl_exit code = refresh(source, as_json, screen, keys);
    if (keys)
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return code;
}
