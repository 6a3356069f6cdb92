/*
 * A subscription: one client in one session.
 *
 * It owns a position only while that differs from the session's: until the client has its WELCOME,
 * and while the client gets what it has missed (a resume, or the last publications of a replay).
 * Live publications are held here meanwhile, so that the client's other subscriptions go on. Once
 * it is LIVE, its position is that of the session, and it costs no more than its place in the list.
 *
 *   WAITING    the session has no position yet; a second at most
 *   WELCOMED   that second is over: the client has its WELCOME, the session still has no position
 *   REPLAYING  the history is read before the WELCOME, which names the position where it begins
 *   READING    the client has its WELCOME; the history is read for what it missed
 *   LIVE       gets what the session gets
 *
 *   NONE -> WAITING -> WELCOMED -> READING -> LIVE -> NONE
 *     |         |`---------------------^^        ^
 *     |         `---> REPLAYING --------'        |
 *     `-----------------------------------------'  and from each to NONE
 */
#ifndef VINHUB_CORE_CLIENT_SUBSCRIPTION_H
#define VINHUB_CORE_CLIENT_SUBSCRIPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"
#include "common/status.h"

struct catch_up;
struct client;
struct hub;
struct pubs;
struct rate;
struct session;
struct subscribe_answer;
struct target;

enum subscription_state {
    SUBSCRIPTION_NONE,      /* in no session */
    SUBSCRIPTION_WAITING,   /* for the session's position; a second at most (contract section 6) */
    SUBSCRIPTION_WELCOMED,  /* at its token's position, before the session's is known; looks again
                               every 2 s */
    SUBSCRIPTION_REPLAYING, /* reads what is kept, before its WELCOME says where that begins; as
                               READING, two times, then until its answer's turn */
    SUBSCRIPTION_READING,   /* of the history; asked again every 500 ms, ten times */
    SUBSCRIPTION_LIVE,      /* until it leaves */
    SUBSCRIPTION_STATES
};

/* What a delivery looks at comes first. */
struct subscription {
    struct subscription *next; /* in the session's list */
    struct client *client;
    struct session *session;
    uint8_t state;             /* enum subscription_state: one setter, in subscription.c */
    bool paused;               /* the session wants its client not to be read from */
    uint16_t request;          /* handle of its URL in the session's link */
    int32_t ahead;             /* how far from here another of the list stood, in units of 8 bytes,
                                  to ask memory for it: it may be gone; fanout.c */
    struct subscription *prev; /* in the session's list */
    struct catch_up *catch_up; /* NULL: it is LIVE, or NONE */
    struct rate *rate;         /* NULL: it gets all; rate.h */
};

/*
 * The client of subscription joins the session, in which it is already listed. What the target asks
 * for (resume, replay) counts from here on: it is welcomed when the session's position is known, or
 * after a second. has_token: at is where it was.
 */
void subscription_open(struct subscription *subscription, const struct target *target,
                       bool has_token, struct position at);
/* Of a further session, right after subscription_open: what its WELCOME answers, which waits for
 * the answers before it. */
void subscription_expect(struct subscription *subscription, struct subscribe_answer *answer);
/* It leaves; what it was waiting for is forgotten. */
void subscription_close(struct subscription *subscription);
/* The answer that its WELCOME would be goes on without it; the caller's from here on. NULL: there
 * is none. */
struct subscribe_answer *subscription_take_answer(struct subscription *subscription);

/* A publication comes while it is not LIVE. */
void subscription_hold(struct subscription *subscription, struct publication *publication);
/* The session has a position, or has moved on: those that wait for that look again. */
void subscription_session_moved(struct session *session);
/* Returns false where the tag is not of a reading. */
bool subscription_on_history(struct hub *hub, uint64_t tag, enum status status,
                             struct position oldest, struct publication *const *publications,
                             size_t len, bool more);

/* It has its WELCOME, so further messages may be sent. */
static inline bool subscription_has_welcome(const struct subscription *subscription)
{
    return subscription->state == SUBSCRIPTION_READING || subscription->state == SUBSCRIPTION_LIVE;
}
/* A history is read for it; what it holds meanwhile. */
bool subscription_is_reading(const struct subscription *subscription);
size_t subscription_held_bytes(const struct subscription *subscription);
const char *subscription_state_name(enum subscription_state state);
/* Asserts what must hold. */
void subscription_check(const struct subscription *subscription);

#endif
