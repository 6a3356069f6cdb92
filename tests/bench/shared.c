#include "shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

static void *map(size_t count, size_t size)
{
    void *memory = mmap(NULL, count * size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

struct shared *shared_new(const struct load_options *options)
{
    struct shared *shared = map(1, sizeof(*shared));
    shared->options = *options;
    shared->clients = map(options->client_processes, sizeof(*shared->clients));
    if (options->backend_processes > 0)
        shared->backends = map(options->backend_processes, sizeof(*shared->backends));
    shared->vehicles = map(options->vins + 1, sizeof(*shared->vehicles));
    shared->sent_numbers = map(options->clients + 1, sizeof(*shared->sent_numbers));
    shared->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return shared;
}

bool flight_landed(const struct shared *shared)
{
    const struct load_options *options = &shared->options;
    uint32_t done = READ(shared->flight_done), sum = 0;
    for (unsigned i = 0; i < options->client_processes; i++)
        sum += READ(shared->clients[i].arrived[done % FLIGHT_SLOTS]);
    /* Each lap of the slots adds one arrival a client; the count may wrap. */
    uint32_t wanted = (done / FLIGHT_SLOTS + 1) * (options->clients - options->slow);
    return (int32_t)(sum - wanted) >= 0;
}
