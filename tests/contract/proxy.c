#include "proxy.h"

#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAIRS_MAX 32
#define CRAWL_MS  50
#define SWAP_MAX  128

enum swap { SWAP_NOTHING, SWAP_FOR_SUBSCRIBER, SWAP_FOR_OTHER };

struct proxy_shared {
    atomic_uint deafened; /* subscribers up to this number get nothing */
    atomic_uint subscribers;
    atomic_uint crawl_bytes;
    atomic_bool hides_ends;
    atomic_uint swap; /* enum swap; what stands below is set before */
    char swap_text[SWAP_MAX];
};

struct proxy_pair {
    int client, server;  /* -1: free */
    unsigned subscriber; /* its number, 0: not a subscriber */
};

static int open_socket(uint16_t *port, bool to_connect)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (to_connect)
        return connect(fd, (struct sockaddr *)&address, len) == 0 ? fd : (close(fd), -1);
    bind(fd, (struct sockaddr *)&address, len);
    listen(fd, PAIRS_MAX);
    getsockname(fd, (struct sockaddr *)&address, &len);
    *port = ntohs(address.sin_port);
    return fd;
}

static void close_pair(struct proxy_pair *pair)
{
    close(pair->client);
    close(pair->server);
    *pair = (struct proxy_pair){-1, -1, 0};
}

/* Replaces what came from the server by another text. */
static ssize_t swap(struct proxy_shared *shared, const struct proxy_pair *pair, char *bytes,
                    ssize_t len)
{
    unsigned wanted = pair->subscriber != 0 ? SWAP_FOR_SUBSCRIBER : SWAP_FOR_OTHER;
    if (atomic_load(&shared->swap) != wanted)
        return len;
    len = (ssize_t)strlen(shared->swap_text);
    memcpy(bytes, shared->swap_text, (size_t)len);
    atomic_store(&shared->swap, SWAP_NOTHING);
    return len;
}

/* Passes on what one side sent. */
static void pass(struct proxy_shared *shared, struct proxy_pair *pair, bool from_client)
{
    char bytes[65536];
    size_t most = from_client ? 0 : atomic_load(&shared->crawl_bytes);
    ssize_t len = recv(from_client ? pair->client : pair->server, bytes,
                       most > 0 ? most : sizeof(bytes), 0);
    if (most > 0)
        poll(NULL, 0, CRAWL_MS);
    if (len <= 0 && from_client && atomic_load(&shared->hides_ends)) {
        close(pair->client); /* the other socket stays open as long as this process */
        *pair = (struct proxy_pair){-1, -1, 0};
        return;
    }
    if (len <= 0) {
        close_pair(pair);
        return;
    }
    if (from_client && pair->subscriber == 0 && memmem(bytes, (size_t)len, "SUBSCRIBE", 9))
        pair->subscriber = atomic_fetch_add(&shared->subscribers, 1) + 1;
    if (!from_client && pair->subscriber != 0 && pair->subscriber <= atomic_load(&shared->deafened))
        return;
    if (!from_client)
        len = swap(shared, pair, bytes, len);
    if (send(from_client ? pair->server : pair->client, bytes, (size_t)len, MSG_NOSIGNAL) != len)
        close_pair(pair);
}

static void accept_pair(struct proxy_pair *pairs, int listener, uint16_t to_port)
{
    struct proxy_pair new = {accept(listener, NULL, NULL), open_socket(&to_port, true), 0};
    for (size_t i = 0; i < PAIRS_MAX && new.client >= 0 && new.server >= 0; i++) {
        if (pairs[i].client < 0) {
            pairs[i] = new;
            return;
        }
    }
    close(new.client);
    close(new.server);
}

static void serve(struct proxy_shared *shared, int listener, uint16_t to_port)
{
    struct proxy_pair pairs[PAIRS_MAX];
    for (size_t i = 0; i < PAIRS_MAX; i++)
        pairs[i] = (struct proxy_pair){-1, -1, 0};
    for (;;) {
        struct pollfd fds[1 + 2 * PAIRS_MAX] = {{.fd = listener, .events = POLLIN}};
        for (size_t i = 0; i < PAIRS_MAX; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = pairs[i].client, .events = POLLIN};
            fds[2 + 2 * i] = (struct pollfd){.fd = pairs[i].server, .events = POLLIN};
        }
        poll(fds, 1 + 2 * PAIRS_MAX, -1);
        for (size_t i = 0; i < PAIRS_MAX; i++) {
            if (fds[1 + 2 * i].revents != 0)
                pass(shared, &pairs[i], true);
            if (fds[2 + 2 * i].revents != 0 && pairs[i].server >= 0)
                pass(shared, &pairs[i], false);
        }
        if (fds[0].revents != 0)
            accept_pair(pairs, listener, to_port);
    }
}

void proxy_start(struct proxy *proxy, uint16_t to_port)
{
    proxy->port = 0;
    int listener = open_socket(&proxy->port, false);
    proxy->shared = mmap(NULL, sizeof(*proxy->shared), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(proxy->shared != MAP_FAILED);
    proxy->pid = fork();
    assert_true(proxy->pid >= 0);
    if (proxy->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(proxy->shared, listener, to_port);
    }
    close(listener);
}

void proxy_stop(struct proxy *proxy)
{
    kill(proxy->pid, SIGKILL);
    waitpid(proxy->pid, NULL, 0);
    munmap(proxy->shared, sizeof(*proxy->shared));
}

void proxy_deafen(struct proxy *proxy)
{
    atomic_store(&proxy->shared->deafened, atomic_load(&proxy->shared->subscribers));
}

void proxy_crawl(struct proxy *proxy, unsigned bytes)
{
    atomic_store(&proxy->shared->crawl_bytes, bytes);
}

void proxy_hide_ends(struct proxy *proxy)
{
    atomic_store(&proxy->shared->hides_ends, true);
}

void proxy_swap(struct proxy *proxy, bool subscriber, const char *text)
{
    assert_true(!text || strlen(text) < SWAP_MAX);
    strcpy(proxy->shared->swap_text, text ? text : "");
    atomic_store(&proxy->shared->swap, subscriber ? SWAP_FOR_SUBSCRIBER : SWAP_FOR_OTHER);
}

bool proxy_swapped(const struct proxy *proxy)
{
    return atomic_load(&proxy->shared->swap) == SWAP_NOTHING;
}

unsigned proxy_subscribers(const struct proxy *proxy)
{
    return atomic_load(&proxy->shared->subscribers);
}
