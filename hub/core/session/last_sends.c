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

bool last_sends_went_from_here(const struct last_sends *sends, const char *client, uint64_t id)
{
    const struct last_send *send = find(sends, client);
    return send && send->here_from && send->here_from <= id && id <= send->id;
}

void last_sends_begin_here(struct last_sends *sends, const char *client, uint64_t id)
{
    struct last_send *send = find(sends, client);
    if (send && (!id || !send->here_from)) /* of those between two an owner may know more */
        send->here_from = id;
}

/* change: 1, or -1 */
static void count(struct last_sends *sends, const struct expired_row *row, int change)
{
    if (!row->upto)
        return;
    sends->expired += (size_t)change;
    if (!row->reported)
        sends->unreported += (size_t)change;
}

static void forget(struct last_sends *sends, struct last_send *send)
{
    HASH_DEL(sends->by_client, send);
    count(sends, &send->unlisted, -1);
    for (size_t i = 0; i < send->expired_len; i++)
        count(sends, &send->expired[i], -1);
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

/* --- those that expired --- */

/* The first row that ends at the id or behind it. */
static size_t place_of(const struct last_send *send, uint64_t id)
{
    size_t k = 0;
    while (k < send->expired_len && send->expired[k].upto < id)
        k++;
    return k;
}

static bool holds(const struct expired_row *row, uint64_t id)
{
    return row->upto && row->from <= id && id <= row->upto;
}

bool last_sends_expired(const struct last_sends *sends, const char *client, uint64_t id)
{
    const struct last_send *send = sends->expired ? find(sends, client) : NULL;
    size_t k = send ? place_of(send, id) : 0;
    return send && k < send->expired_len && holds(&send->expired[k], id);
}

bool last_sends_may_have_expired(const struct last_sends *sends, const char *client, uint64_t id)
{
    const struct last_send *send = sends->expired ? find(sends, client) : NULL;
    return send && (holds(&send->unlisted, id) || last_sends_expired(sends, client, id));
}

/* The row becomes one that holds both. */
static void join(struct expired_row *row, const struct expired_row *other)
{
    row->from = other->from < row->from ? other->from : row->from;
    row->upto = other->upto > row->upto ? other->upto : row->upto;
    row->reported = row->reported && other->reported;
}

static void unlist(struct last_sends *sends, struct last_send *send, struct expired_row row)
{
    count(sends, &send->unlisted, -1);
    if (send->unlisted.upto)
        join(&send->unlisted, &row);
    else
        send->unlisted = row;
    count(sends, &send->unlisted, 1);
}

static void remove_at(struct last_sends *sends, struct last_send *send, size_t k)
{
    count(sends, &send->expired[k], -1);
    send->expired_len--;
    memmove(&send->expired[k], &send->expired[k + 1],
            (send->expired_len - k) * sizeof(*send->expired));
}

/* Takes in what it overlaps, and what it begins or ends next to. */
static void absorb(struct last_sends *sends, struct last_send *send, struct expired_row *row)
{
    size_t k = place_of(send, row->from ? row->from - 1 : 0);
    while (k < send->expired_len && send->expired[k].from - 1 <= row->upto) {
        join(row, &send->expired[k]);
        remove_at(sends, send, k);
    }
}

static void make_room(struct last_sends *sends, struct last_send *send)
{
    if (send->expired_len == EXPIRED_MAX) {
        unlist(sends, send, send->expired[0]);
        remove_at(sends, send, 0);
    }
    if (send->expired_len < send->expired_cap)
        return;
    send->expired_cap = send->expired_cap ? send->expired_cap * 2 : 2;
    send->expired = realloc(send->expired, send->expired_cap * sizeof(*send->expired));
    if (!send->expired)
        abort(); /* at most two kilobytes */
}

static void insert(struct last_sends *sends, struct last_send *send, const struct expired_row *row)
{
    make_room(sends, send);
    size_t k = place_of(send, row->from);
    memmove(&send->expired[k + 1], &send->expired[k],
            (send->expired_len - k) * sizeof(*send->expired));
    send->expired[k] = *row;
    send->expired_len++;
    count(sends, row, 1);
}

/* That very one went, though the node that said otherwise could not know it. */
static void take_out(struct last_sends *sends, struct last_send *send, uint64_t id)
{
    size_t k = place_of(send, id);
    if (k == send->expired_len || !holds(&send->expired[k], id))
        return;
    struct expired_row before = send->expired[k], after = before;
    before.upto = id - 1;
    after.from = id + 1;
    remove_at(sends, send, k);
    if (before.from < id)
        insert(sends, send, &before);
    if (after.upto > id)
        insert(sends, send, &after);
}

void last_sends_note(struct last_sends *sends, uint64_t now_ms, const char *client, uint64_t id)
{
    struct last_send *send = use(sends, now_ms, client);
    take_out(sends, send, id);
    send->id = id > send->id ? id : send->id;
}

void last_sends_expire(struct last_sends *sends, uint64_t now_ms, const char *client,
                       struct expired_row row)
{
    struct last_send *send = find(sends, client);
    size_t at = send ? place_of(send, row.from) : 0;
    if (send && at < send->expired_len && holds(&send->expired[at], row.from) &&
        holds(&send->expired[at], row.upto))
        return; /* it is known */
    send = use(sends, now_ms, client);
    absorb(sends, send, &row);
    insert(sends, send, &row);
    take_out(sends, send, send->id);
}

void last_sends_doubt(struct last_sends *sends, uint64_t now_ms, const char *client,
                      struct expired_row row)
{
    unlist(sends, use(sends, now_ms, client), row);
}

void last_sends_report_again(struct last_sends *sends)
{
    for (struct last_send *send = sends->expired ? sends->by_client : NULL; send;
         send = send->hh.next) {
        send->unlisted.reported = false;
        for (size_t i = 0; i < send->expired_len; i++)
            send->expired[i].reported = false;
    }
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
