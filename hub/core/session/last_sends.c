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

static void forget(struct last_sends *sends, struct last_send *send)
{
    HASH_DEL(sends->by_client, send);
    sends->expired -= send->expired_len;
    for (size_t i = 0; i < send->expired_len; i++)
        sends->unreported -= !send->expired[i].reported;
    free(send->expired);
    free(send);
}

static void forget_old(struct last_sends *sends, uint64_t now_ms)
{
    struct last_send *send, *next;
    HASH_ITER (hh, sends->by_client, send, next) { /* in the order of last use */
        if (HASH_COUNT(sends->by_client) <= LAST_SENDS && now_ms - send->at_ms < SEND_MEMORY_MS)
            break;
        forget(sends, send);
    }
}

/* Returns the client's entry, made if it has none, and moves it to the end as the last one used. */
static struct last_send *use(struct last_sends *sends, uint64_t now_ms, const char *client)
{
    forget_old(sends, now_ms);
    struct last_send *send = find(sends, client);
    if (send) {
        HASH_DEL(sends->by_client, send);
    } else {
        send = calloc(1, sizeof(*send));
        if (!send)
            abort();
        memcpy(send->client, client, strlen(client) + 1);
    }
    send->at_ms = now_ms;
    HASH_ADD_STR(sends->by_client, client, send);
    return send;
}

void last_sends_note(struct last_sends *sends, uint64_t now_ms, const char *client, uint64_t id)
{
    struct last_send *send = use(sends, now_ms, client);
    send->id = id > send->id ? id : send->id;
}

/* --- those that expired --- */

/* Where the id stands, or would stand. */
static size_t place_of(const struct last_send *send, uint64_t id)
{
    size_t k = 0;
    while (k < send->expired_len && send->expired[k].id < id)
        k++;
    return k;
}

bool last_sends_expired(const struct last_sends *sends, const char *client, uint64_t id)
{
    const struct last_send *send = sends->expired ? find(sends, client) : NULL;
    if (!send)
        return false;
    size_t k = place_of(send, id);
    return k < send->expired_len && send->expired[k].id == id;
}

bool last_sends_may_have_expired(const struct last_sends *sends, const char *client, uint64_t id)
{
    const struct last_send *send = sends->expired ? find(sends, client) : NULL;
    bool unlisted = send && send->expired_from <= id && id <= send->expired_upto;
    return unlisted || last_sends_expired(sends, client, id);
}

static void make_room(struct last_sends *sends, struct last_send *send)
{
    if (send->expired_len == EXPIRED_MAX) {
        uint64_t id = send->expired[0].id;
        if (!send->expired_upto || id < send->expired_from)
            send->expired_from = id;
        send->expired_upto = id > send->expired_upto ? id : send->expired_upto;
        sends->unreported -= !send->expired[0].reported;
        sends->expired--;
        send->expired_len--;
        memmove(&send->expired[0], &send->expired[1],
                send->expired_len * sizeof(struct expired_send));
    }
    if (send->expired_len < send->expired_cap)
        return;
    send->expired_cap = send->expired_cap ? send->expired_cap * 2 : 2;
    send->expired = realloc(send->expired, send->expired_cap * sizeof(struct expired_send));
    if (!send->expired)
        abort(); /* at most a kilobyte */
}

void last_sends_expire(struct last_sends *sends, uint64_t now_ms, const char *client, uint64_t id,
                       bool reported)
{
    if (last_sends_expired(sends, client, id))
        return;
    struct last_send *send = use(sends, now_ms, client);
    make_room(sends, send);
    size_t k = place_of(send, id);
    memmove(&send->expired[k + 1], &send->expired[k],
            (send->expired_len - k) * sizeof(struct expired_send));
    send->expired[k] = (struct expired_send){id, reported};
    send->expired_len++;
    sends->expired++;
    sends->unreported += !reported;
}

void last_sends_report_again(struct last_sends *sends)
{
    for (struct last_send *send = sends->expired ? sends->by_client : NULL; send;
         send = send->hh.next)
        for (size_t i = 0; i < send->expired_len; i++)
            send->expired[i].reported = false;
    sends->unreported = sends->expired;
}

size_t last_sends_len(const struct last_sends *sends)
{
    return HASH_COUNT(sends->by_client) + sends->expired;
}

void last_sends_fini(struct last_sends *sends)
{
    struct last_send *send, *next;
    HASH_ITER (hh, sends->by_client, send, next)
        forget(sends, send);
}
