#include "core/session/last_sends.h"

#include <stdlib.h>
#include <string.h>

#define LAST_SENDS 10000 /* clients of a session whose last SEND id is remembered */

static struct last_send *find(const struct last_sends *sends, const char *client)
{
    struct last_send *send;
    HASH_FIND_STR(sends->by_client, client, send);
    return send;
}

bool last_sends_covers(const struct last_sends *sends, const char *client, uint64_t id)
{
    const struct last_send *send = find(sends, client);
    return send && id <= send->id;
}

static void forget_old(struct last_sends *sends, uint64_t now_ms)
{
    struct last_send *send, *next;
    HASH_ITER (hh, sends->by_client, send, next) { /* in the order of last use */
        if (HASH_COUNT(sends->by_client) <= LAST_SENDS && now_ms - send->at_ms < SEND_MEMORY_MS)
            break;
        HASH_DEL(sends->by_client, send);
        free(send);
    }
}

void last_sends_note(struct last_sends *sends, uint64_t now_ms, const char *client, uint64_t id)
{
    forget_old(sends, now_ms);
    struct last_send *send = find(sends, client);
    if (send) {
        HASH_DEL(sends->by_client, send);
    } else {
        send = calloc(1, sizeof *send);
        if (!send)
            abort();
        memcpy(send->client, client, strlen(client) + 1);
    }
    send->id = id > send->id ? id : send->id;
    send->at_ms = now_ms;
    HASH_ADD_STR(sends->by_client, client, send);
}

size_t last_sends_len(const struct last_sends *sends)
{
    return HASH_COUNT(sends->by_client);
}

void last_sends_fini(struct last_sends *sends)
{
    struct last_send *send, *next;
    HASH_ITER (hh, sends->by_client, send, next) {
        HASH_DEL(sends->by_client, send);
        free(send);
    }
}
