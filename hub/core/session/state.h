/*
 * What each part of a session sees of it: its name, its service, its epoch and its state.
 *
 * A part keeps its own state behind its pointer here, and never includes another part: it reports
 * to the session by its events, or by what a call returns, and session/course.c says what follows.
 * Here are the states themselves, their one checked setter, their timer, and the row of the
 * sessions that are flushed at the end of the turn.
 *
 *   SUBSCRIBING -> CLAIMING -> OWNER -> RELEASING -> ENDED            nobody wants it any more
 *                              OWNER -> MOVING -> JOINING             it was handed over
 *                              OWNER -> FENCED -> CLAIMING            the lease ran out and is back
 *                  CLAIMING -> JOINING -> MEMBER -> LEAVING -> ENDED  another node owns it
 *                                         MEMBER -> CLAIMING          the owner has died
 *
 * All legal steps stand in state.c. An ENDED session is freed at the end of the turn.
 */
#ifndef VINHUB_CORE_SESSION_STATE_H
#define VINHUB_CORE_SESSION_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/hash.h"
#include <utlist.h>

#include "common/url.h"
#include "core/node/node.h"

struct subscription;

/* What a node is to a session. Each state says what ends it. */
enum session_state {
    SESSION_SUBSCRIBING, /* until the push channel is heard; the bus resubscribes by itself */
    SESSION_CLAIMING,    /* until the claim is answered; asked again by the step timer */
    SESSION_JOINING, /* until JOINED; JOIN again after 1, 1, 2, 4, 4 ... s, or the owner is dead */
    SESSION_MEMBER,  /* until the last client leaves, the owner changes or dies */
    SESSION_OWNER,   /* until it is released, handed over, fenced or lost */
    SESSION_MOVING,  /* upstream closing for a hand-over, then the transfer; until that is answered
                      */
    SESSION_RELEASING, /* upstream closing, then the release; until that is answered */
    SESSION_LEAVING,   /* LEAVE as often until LEFT or the owner is dead */
    SESSION_FENCED,    /* was owner when the lease ran out; until the lease is back */
    SESSION_ENDED,     /* unsubscribed; freed at the end of the turn */
    SESSION_STATES
};

/* For logs, records and metrics. */
struct session_facts {
    unsigned metrics; /* slot of the service in what is counted */
    uint32_t clients;
    uint64_t since_unix_ms; /* of the state for people */
    uint64_t opened_ms;
    uint64_t messages_in, messages_out;
    struct timer record;
};

struct session_step {
    struct timer timer; /* what the state does when its time has come */
    uint8_t asked;      /* how often, in this state and without an answer */
};

struct session_turn {
    bool dirty; /* in the row of those that are flushed */
    struct session *dirty_next;
    struct session *dead_next;
};

/* Subscriptions that are not there yet. */
struct session_newcomers {
    struct catch_up *waiting;   /* for its position */
    struct id_claim *id_claims; /* came with an id, and the owner has not said so yet */
};

/* Its subscriptions with a rate; rate.c. */
struct session_rates {
    struct subscription *first; /* of the session's list: with it begin those that are live */
    struct rate *idle;          /* those for which nothing waits */
    size_t pending;             /* those that wait for newest, or for what is theirs alone */
    struct publication *newest; /* NULL: nobody waits for it */
};

struct session {
    struct hub *hub;
    struct service *service;
    char *id;
    enum session_state state;
    uint64_t epoch;                     /* highest seen */
    struct subscription *subscriptions; /* rates.first and those behind it have a rate */
    struct session_newcomers newcomers;
    struct session_rates rates;
    struct session_facts facts;
    struct session_step step;
    struct session_turn turn;
    struct ownership *ownership;
    struct handover *handover;
    struct membership *membership; /* membership.h and roster.h: one of its two sides each */
    struct stream *stream;
    struct backlog *backlog;
    struct link *link;
    struct outbox *outbox;
    struct presence *presence; /* core/presence.h; NULL: no client gets who watches */
    UT_hash_handle hh;
};

/* What those who follow a session hear of it, and what is asked of them. */
struct audience_events {
    /* Writes the batch to all. */
    void (*deliver)(struct session *session);
    /* The session has a position, or has moved on. */
    void (*moved)(struct session *session);
    /* The members have changed. */
    void (*members)(struct session *session);
    /* The owner has answered a JOIN. */
    void (*joined)(struct session *session);
    /* The status of the upstream has changed. */
    void (*status)(struct session *session);
    /* A message of it can't go upstream: it is closed with 4004. */
    void (*refused)(struct subscription *subscription);
    /* Its SEND went upstream. */
    void (*acked)(struct subscription *subscription, uint64_t send_id);
    /* Its SEND never goes upstream. */
    void (*expired)(struct subscription *subscription, uint64_t send_id);
    /* Its client is not to be read from for now. */
    void (*paused)(struct subscription *subscription);
    /* All that are paused are read from again. */
    void (*resumed)(struct session *session);
    /* Ends at most n of its subscriptions that have not been ended yet; returns how many. */
    uint64_t (*end_some)(struct session *session, uint64_t n, unsigned code, const char *reason);
    /* Closes at most n of the clients that came with it (NULL: without a session); returns how
     * many. */
    uint64_t (*close_some)(struct hub *hub, struct session *session, uint64_t n, unsigned code,
                           const char *reason);
};

/* What happens to a session; what follows stands in the table of course.c. */
enum course_event {
    COURSE_STEP,        /* the time of the state has come */
    COURSE_SUBSCRIBED,  /* the push channel is heard */
    COURSE_CLIENTS,     /* the number of clients here has changed, and some are left */
    COURSE_WANTED,      /* clients or members are there (again) */
    COURSE_UNWANTED,    /* perhaps nobody wants it any more */
    COURSE_ANNOUNCED,   /* somebody else is the owner at a higher epoch: struct owner_news */
    COURSE_OWNER_DEAD,  /* the named owner is dead */
    COURSE_LINK_CLOSED, /* the upstream is closed to the end, as was asked for */
    COURSE_UNREACHABLE, /* the backend can't be reached from here for long */
    COURSE_MAY_MOVE,    /* a draining owner may offer it */
    COURSE_CONNECTED,   /* the bus is connected (again) */
    COURSE_LAPSED,      /* the lease ran out: others may have forgotten this node */
    COURSE_FENCED,      /* and nothing of an owner may go on */
    COURSE_LEASE_BACK,
    COURSE_DRAIN_OVER, /* the time of a drain is over: what clients that left sent waits no more */
    COURSE_EVENTS
};

/* Of an owner. */
struct owner_news {
    struct slice owner;
    uint64_t epoch;
    uint64_t from; /* the epoch it was handed over from; 0: not by a hand-over, or not known */
};

/* What is done at an event; news: of COURSE_ANNOUNCED, else NULL. */
typedef void course_fn(struct session *session, const struct owner_news *news);

/* What happens to the node and concerns all sessions, a portion of them a turn. */
enum walk_kind {
    WALK_CONNECTED,  /* the bus is connected (again) */
    WALK_LEASE_BACK, /* there is a lease (again) */
    WALK_EMPTIED,    /* the store has lost data */
    WALK_SERVICES,   /* a service may have been removed */
    WALK_FENCE,      /* the lease runs out: upstreams are reset */
    WALK_FENCED,     /* they are: clients get STATUS */
    WALK_DRAIN,      /* the node takes no clients any more */
    WALKS
};

/* The sessions of a node. */
struct sessions {
    const struct audience_events *audience;
    void (*on_event)(struct session *session, enum course_event event); /* course.c */
    void (*on_state)(struct session *session);                          /* its state has changed */
    void (*on_ended)(struct session *session); /* its push channel may be left */
    struct session *by_id;
    struct session *dirty; /* those that are flushed at the end of the turn */
    struct session *dead;  /* freed then */
    /* Highest number of a command in a session that is gone: a later one goes on from there. The
     * first is node_first_number(). */
    uint64_t commands;
    struct walks *walks;
    struct session *walk_next[WALKS];   /* where each walk goes on; NULL: it is over */
    struct pending_take *pending_takes; /* handover.c */
    struct backlogs *backlogs;          /* backlog.c */
};

/* The one setter; asserts that the step is legal. Stops the step timer. */
void session_set_state(struct session *session, enum session_state state);
const char *session_state_name(enum session_state state);
/* True where an upstream may be open: the session counts as owned. */
static inline bool session_is_owned(const struct session *session)
{
    return session->state == SESSION_OWNER || session->state == SESSION_MOVING ||
           session->state == SESSION_RELEASING;
}
/* It watches a session of another owner, or asks to. */
static inline bool session_is_member(const struct session *session)
{
    return session->state == SESSION_JOINING || session->state == SESSION_MEMBER;
}
/* Runs what the state asks for after_ms from now. */
void session_step_after(struct session *session, uint64_t after_ms);
/* The same, unless it is due before. */
void session_step_within(struct session *session, uint64_t after_ms);
/* The same, later each time until the state changes. */
void session_ask_again(struct session *session);
/* Something has happened: what follows is done before this returns. */
void session_event(struct session *session, enum course_event event);
/* Puts it in the row of those that are flushed at the end of the turn. */
void session_mark_dirty(struct session *session);

#endif
