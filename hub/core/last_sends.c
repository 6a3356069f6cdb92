#include "core/last_sends.h"

#include <stdlib.h>
#include <string.h>

#define LAST_SENDS 10000 /* clients of a session whose last SEND id is remembered */

static struct last_send *find(const struct session *session, const char *client)
{
    struct last_send *send;
    HASH_FIND_STR(session->last_sends, client, send);
    return send;
}

bool last_sends_covers(const struct session *session, const char *client, uint64_t id)
{
    const struct last_send *send = find(session, client);
    return send && id <= send->id;
}

static void forget_old(struct session *session)
{
    struct last_send *send, *next;
    HASH_ITER (hh, session->last_sends, send, next) { /* in the order of last use */
        if (HASH_COUNT(session->last_sends) <= LAST_SENDS &&
            session->hub->now_ms - send->at_ms < SEND_MEMORY_MS)
            break;
        HASH_DEL(session->last_sends, send);
        free(send);
    }
}

void last_sends_note(struct session *session, const char *client, uint64_t id)
{
    forget_old(session);
    struct last_send *send = find(session, client);
    if (send) {
        HASH_DEL(session->last_sends, send);
    } else {
        send = calloc(1, sizeof *send);
        if (!send)
            abort();
        memcpy(send->client, client, strlen(client) + 1);
    }
    send->id = id > send->id ? id : send->id;
    send->at_ms = session->hub->now_ms;
    HASH_ADD_STR(session->last_sends, client, send);
}

void last_sends_free(struct session *session)
{
    struct last_send *send, *next;
    HASH_ITER (hh, session->last_sends, send, next) {
        HASH_DEL(session->last_sends, send);
        free(send);
    }
}
