#include "redis_server.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "common/clock.h"

#define START_MS 60000 /* a machine may be busy with other suites */

/* The ports and blocks of tests/lib/ports.mjs. */
enum {
    PORT_FIRST = 10000,
    PORT_LAST = 27999,
    PORT_BLOCK = 200,
    PORT_BLOCKS = (PORT_LAST + 1 - PORT_FIRST) / PORT_BLOCK
};

/* A socket that listens on that port, or -1. */
static int listen_on(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The first port of a free block. Listening on that port claims the block. */
static unsigned claim_block(void)
{
    for (unsigned tried = 0; tried < PORT_BLOCKS; tried++) {
        unsigned first = PORT_FIRST + ((unsigned)getpid() + tried) % PORT_BLOCKS * PORT_BLOCK;
        if (listen_on(first) >= 0) /* the claim lasts until the process ends */
            return first;
    }
    fail_msg("no block of ports from %d to %d is free", PORT_FIRST, PORT_LAST);
    return 0;
}

uint16_t redis_server_free_port(void)
{
    static unsigned first, used;
    if (first == 0)
        first = claim_block();
    for (unsigned tried = 1; tried < PORT_BLOCK; tried++) {
        unsigned port = first + 1 + used++ % (PORT_BLOCK - 1);
        int fd = listen_on(port);
        if (fd < 0)
            continue;
        close(fd);
        return (uint16_t)port;
    }
    fail_msg("no free port from %u on", first);
    return 0;
}

/* The server program: Redis, or another one such as Valkey or an older Redis. */
static const char *program(void)
{
    const char *named = getenv("VINHUB_REDIS_SERVER");
    return named && named[0] != '\0' ? named : "redis-server";
}

/* On a busy machine a subscriber reads late and must not be dropped for its output buffer. */
static size_t server_arguments(const struct redis_server *server, const char *port,
                               const char **out)
{
    const char *const fixed[] = {program(),
                                 "--port",
                                 port,
                                 "--bind",
                                 "127.0.0.1",
                                 "--dir",
                                 server->folder,
                                 "--save",
                                 "",
                                 "--appendonly",
                                 "no",
                                 "--maxmemory-policy",
                                 "noeviction",
                                 "--client-output-buffer-limit",
                                 "pubsub 0 0 0"};
    size_t len = sizeof(fixed) / sizeof(fixed[0]);
    memcpy(out, fixed, sizeof(fixed));
    for (size_t i = 0; i < 16 && server->extra[i]; i++)
        out[len++] = server->extra[i];
    return len;
}

/* A Sentinel keeps its state in its configuration file. */
static void write_sentinel(const struct redis_server *server, char *path, size_t size)
{
    snprintf(path, size, "%s/sentinel.conf", server->folder);
    FILE *file = fopen(path, "w");
    if (!file)
        _exit(126);
    fprintf(file, "port %u\nbind 127.0.0.1\ndir %s\n%s", server->port, server->folder,
            server->sentinel);
    fclose(file);
}

static void run_server(const struct redis_server *server)
{
    char port[8], path[96];
    const char *arguments[33] = {program(), path, "--sentinel"};
    snprintf(port, sizeof(port), "%u", server->port);
    if (server->sentinel)
        write_sentinel(server, path, sizeof(path));
    else
        server_arguments(server, port, arguments);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that aborts leaves no server behind */
    int log = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execvp(arguments[0], (char *const *)arguments);
    _exit(127);
}

static redisContext *connect_to(const struct redis_server *server)
{
    redisContext *context = redisConnectWithTimeout("127.0.0.1", server->port,
                                                    (struct timeval){5, 0});
    if (context && context->err == 0)
        return context;
    if (context)
        redisFree(context);
    return NULL;
}

static int answers(const struct redis_server *server)
{
    redisContext *context = connect_to(server);
    redisReply *reply = context ? redisCommand(context, "PING") : NULL;
    int good = reply && reply->type == REDIS_REPLY_STATUS;
    if (reply)
        freeReplyObject(reply);
    if (context)
        redisFree(context);
    return good;
}

void redis_server_start(struct redis_server *server)
{
    assert_int_equal(server->pid, 0);
    if (server->port == 0)
        server->port = redis_server_free_port();
    if (server->folder[0] == '\0') {
        snprintf(server->folder, sizeof(server->folder), "/tmp/vinhub-contract-XXXXXX");
        assert_non_null(mkdtemp(server->folder));
    }
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0)
        run_server(server);
    uint64_t deadline_ms = clock_boot_ms() + START_MS;
    while (!answers(server)) {
        if (clock_boot_ms() > deadline_ms || waitpid(server->pid, NULL, WNOHANG) != 0)
            fail_msg("%s did not come up on port %u", program(), server->port);
        poll(NULL, 0, 10);
    }
}

void redis_server_kill(struct redis_server *server)
{
    if (server->pid == 0)
        return;
    kill(server->pid, SIGKILL);
    while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    server->pid = 0;
}

void redis_server_discard(struct redis_server *server)
{
    redis_server_kill(server);
    if (server->folder[0] == '\0')
        return;
    static const char *const files[] = {"sentinel.conf", "nodes.conf", "dump.rdb"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[96];
        snprintf(path, sizeof(path), "%s/%s", server->folder, files[i]);
        unlink(path);
    }
    rmdir(server->folder);
}

static void print_reply(const redisReply *reply, char *out, size_t size)
{
    switch (reply->type) {
    case REDIS_REPLY_INTEGER: snprintf(out, size, "%lld", reply->integer); return;
    case REDIS_REPLY_NIL: snprintf(out, size, "nil"); return;
    case REDIS_REPLY_ARRAY: break;
    default: snprintf(out, size, "%s", reply->str); return;
    }
    out[0] = '\0';
    for (size_t i = 0, len = 0; i < reply->elements && len + 1 < size; i++, len = strlen(out)) {
        print_reply(reply->element[i], out + len, size - len - 1);
        strcat(out, "\n");
    }
}

const char *redis_server_ask(const struct redis_server *server, const char *command)
{
    static char answer[65536];
    redisContext *context = connect_to(server);
    assert_non_null(context);
    redisReply *reply = redisCommand(context, command);
    assert_non_null(reply);
    print_reply(reply, answer, sizeof(answer));
    freeReplyObject(reply);
    redisFree(context);
    return answer;
}

void redis_server_await_age(const struct redis_server *server, unsigned seconds)
{
    uint64_t deadline_ms = clock_boot_ms() + START_MS;
    for (;;) {
        const char *line = strstr(redis_server_ask(server, "INFO server"), "uptime_in_seconds:");
        if (line && strtoul(line + strlen("uptime_in_seconds:"), NULL, 10) >= seconds)
            return;
        assert_true(clock_boot_ms() < deadline_ms);
        poll(NULL, 0, 20);
    }
}
