#include "crowd.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ws_wire.h"

#define EVENTS 512

static const char usage[] =
    "usage: crowd BACKEND-PORT VEHICLES ADDRESS:PORT...    (port 0: clients alone)\n"
    "Commands on stdin, one a line, each answered by one line of JSON:\n"
    "  backend on|off\n"
    "  open TARGET COUNT FIRST VINS CONNECTING FORM PATH   a group of clients; FORM: letters of 1 "
    "(vinhub.v1), t (TLS),\n"
    "                                                      r (comes back and resumes), or - for a "
    "raw client\n"
    "  rate PUSHES-A-SECOND BYTES FIRST VINS\n"
    "  push BYTES                                          one on each upstream\n"
    "  send GROUP COUNT BYTES\n"
    "  leave GROUP reset|end\n"
    "  mark                                                times are counted from here\n"
    "  stat\n";

struct crowd crowd;
static const enum crowd_kind standard_input = CROWD_STDIN;

/* --- the answer --- */

static void print_hist(const char *name, const struct hist *hist)
{
    printf(",\"%s\":", name);
    hist_print(hist);
}

static void print_group(unsigned number)
{
    const struct crowd_group *group = &crowd.groups[number];
    crowd_clients_count(number);
    printf("%s{\"count\":%u", number == 0 ? "" : ",", group->count);
#define COUNT(name) printf(",\"" #name "\":%" PRIu64, group->name)
    COUNT(opened), COUNT(open), COUNT(failed), COUNT(closed), COUNT(resumed), COUNT(unresumed),
        COUNT(delivered);
    COUNT(missing), COUNT(torn), COUNT(gaps), COUNT(unannounced), COUNT(doubles), COUNT(wrong),
        COUNT(behind);
    COUNT(primed), COUNT(sent);
#undef COUNT
    printf(",\"closes\":{");
    const char *comma = "";
    for (unsigned code = 0; code < sizeof(group->closes) / sizeof(group->closes[0]); code++) {
        if (group->closes[code] == 0)
            continue;
        printf("%s\"%u\":%" PRIu64, comma, code, group->closes[code]);
        comma = ",";
    }
    printf("}");
    print_hist("latency", &group->latency);
    print_hist("heard", &group->heard);
    print_hist("welcomed", &group->welcomed);
    printf("}");
}

static void print_stat(void)
{
    printf("{\"backend\":{\"vins\":%" PRIu32, crowd.vins);
#define COUNT(name) printf(",\"" #name "\":%" PRIu64, crowd_backend.name)
    COUNT(open), COUNT(accepted), COUNT(pushes), COUNT(stalled), COUNT(received),
        COUNT(received_bytes);
    COUNT(two_at_once), COUNT(after_mark);
#undef COUNT
    print_hist("reopened", &crowd_backend.reopened);
    printf("},\"groups\":[");
    for (unsigned i = 0; i < crowd.groups_len; i++)
        print_group(i);
    printf("]}\n");
}

/* --- commands --- */

static void refuse(const char *line)
{
    fprintf(stderr, "crowd: not a command: %s\n%s", line, usage);
    exit(2);
}

static void mark(void)
{
    crowd.mark_ns = now_ns();
    crowd_clients_mark();
    memset(&crowd_backend.reopened, 0, sizeof(crowd_backend.reopened));
    crowd_backend.after_mark = 0;
    for (unsigned i = 0; i < crowd.groups_len; i++) {
        struct crowd_group *group = &crowd.groups[i];
        memset(&group->latency, 0, sizeof(group->latency));
        memset(&group->heard, 0, sizeof(group->heard));
        memset(&group->welcomed, 0, sizeof(group->welcomed));
    }
}

static void open_group(const char *line)
{
    unsigned number = crowd.groups_len;
    char form[8];
    if (number == CROWD_GROUPS)
        refuse(line);
    struct crowd_group *group = &crowd.groups[number];
    if (sscanf(line, "open %u %u %u %u %u %7s %511s", &group->target, &group->count, &group->first,
               &group->vins, &group->connecting, form, group->path) != 7 ||
        group->target >= crowd.targets_len || group->vins == 0 || group->first == 0 ||
        group->first + group->vins - 1 > crowd.vins || !strchr(group->path, '*'))
        refuse(line);
    group->v1 = strchr(form, '1') != NULL;
    group->tls = strchr(form, 't') != NULL;
    group->resume = strchr(form, 'r') != NULL;
    crowd.groups_len++;
    crowd_clients_add(number);
    printf("{\"group\":%u}\n", number);
}

static void command(const char *line)
{
    unsigned a, b, c;
    double rate;
    char word[8];
    if (strncmp(line, "open ", 5) == 0) {
        open_group(line);
    } else if (strcmp(line, "stat") == 0) {
        print_stat();
    } else if (sscanf(line, "send %u %u %u", &a, &b, &c) == 3 && a < crowd.groups_len &&
               c <= 4096) {
        printf("{\"taken\":%" PRIu64 "}\n", crowd_clients_send(a, b, c));
    } else {
        if (strcmp(line, "mark") == 0)
            mark();
        else if (sscanf(line, "rate %lf %u %u %u", &rate, &b, &a, &c) == 4 && b >= STAMP_BYTES &&
                 a > 0 && c > 0 && a + c - 1 <= crowd.vins)
            crowd_backend_rate(rate, b, a, c);
        else if (sscanf(line, "push %u", &b) == 1 && b >= STAMP_BYTES)
            crowd_backend_push_each(b);
        else if (sscanf(line, "backend %7s", word) == 1)
            crowd_backend_switch(strcmp(word, "on") == 0);
        else if (sscanf(line, "leave %u %7s", &a, word) == 2 && a < crowd.groups_len)
            crowd_clients_leave(a, strcmp(word, "reset") == 0);
        else
            refuse(line);
        printf("{}\n");
    }
    fflush(stdout);
}

/* Lines are short and come one at a time: the test waits for each answer. */
static void read_commands(void)
{
    static char text[1024];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, text + len, sizeof(text) - 1 - len);
    if (n <= 0)
        exit(0);
    len += (size_t)n;
    text[len] = '\0';
    char *end;
    while ((end = strchr(text, '\n'))) {
        *end = '\0';
        command(text);
        len -= (size_t)(end + 1 - text);
        memmove(text, end + 1, len + 1);
    }
}

/* --- the loop --- */

static void turn(int timeout_ms)
{
    static struct epoll_event events[EVENTS];
    int n = epoll_wait(crowd.epoll, events, EVENTS, timeout_ms);
    bool asked = false;
    for (int i = 0; i < n; i++) {
        switch (*(enum crowd_kind *)events[i].data.ptr) {
        case CROWD_STDIN: asked = true; break;
        case CROWD_LISTENER: crowd_backend_accept(); break;
        case CROWD_UPSTREAM: crowd_backend_on_event(events[i].data.ptr, events[i].events); break;
        case CROWD_CLIENT: crowd_clients_on_event(events[i].data.ptr, events[i].events); break;
        }
    }
    if (asked)
        read_commands(); /* last: it may free what another event of this turn refers to */
}

int main(int argc, char **argv)
{
    struct rlimit files;
    if (argc < 4 || argc - 3 > CROWD_TARGETS) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    crowd.epoll = epoll_create1(EPOLL_CLOEXEC);
    crowd.vins = (uint32_t)strtoul(argv[2], NULL, 10);
    for (int i = 3; i < argc; i++)
        snprintf(crowd.targets[crowd.targets_len++], sizeof(crowd.targets[0]), "%s", argv[i]);
    crowd_backend_init((unsigned)strtoul(argv[1], NULL, 10), crowd.vins);
    crowd_backend_switch(true);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = (void *)&standard_input};
    if (epoll_ctl(crowd.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0) {
        perror("crowd: stdin"); /* it has to be a pipe */
        return 1;
    }
    for (;;) {
        int sleep_ms = crowd_clients_work();
        crowd_backend_work();
        turn(sleep_ms < 5 ? sleep_ms : 5);
    }
}
