/*
 * The course of a session: what follows from what. One table says for each state what is done when
 * something happens (course.c); the parts do it, and tell here what came of it.
 */
#ifndef VINHUB_CORE_SESSION_COURSE_H
#define VINHUB_CORE_SESSION_COURSE_H

#include "core/session/state.h"

enum course_event {
    COURSE_STEP,        /* the time of the state has come */
    COURSE_SUBSCRIBED,  /* the push channel is heard */
    COURSE_WANTED,      /* clients or members are there (again) */
    COURSE_UNWANTED,    /* perhaps nobody wants it any more */
    COURSE_ANNOUNCED,   /* somebody else is the owner at a higher epoch: struct news */
    COURSE_OWNER_DEAD,  /* the named owner is dead */
    COURSE_LINK_CLOSED, /* the upstream is closed to the end, as was asked for */
    COURSE_CONNECTED,   /* the bus is connected (again) */
    COURSE_LAPSED,      /* the lease ran out: others may have forgotten this node */
    COURSE_FENCED,      /* and nothing of an owner may go on */
    COURSE_LEASE_BACK,
    COURSE_EVENTS
};

/* Of an owner. */
struct news {
    struct slice owner;
    uint64_t epoch;
    uint64_t from; /* the epoch it was handed over from; 0: not by a hand-over, or not known */
};

void course(struct session *session, enum course_event event);
/* Another node says so, or the announcement. Older ones are ignored. */
void course_announced(struct session *session, const struct news *news);

/* Somebody on this node still wants the session: a client, or a message of one that has left. */
bool session_is_wanted(const struct session *session);
/* It is this node's, at that epoch. */
void course_take(struct session *session, uint64_t epoch);
/* It is another's (empty: nobody is named): the upstream is cut, the session joins or claims, or
 * ends. */
void course_lose(struct session *session, struct slice owner, uint64_t epoch);
/* JOINING, or CLAIMING, anew. */
void course_join(struct session *session);
void course_claim(struct session *session);
/* The named owner says that it is not. */
void course_not_owner(struct session *session);
/* The owner answered a JOIN. */
void course_member(struct session *session, bool ask_soon);
/* JOIN says soon what has changed. */
void course_join_soon(struct session *session);
/* An owner takes an epoch above seen. */
void course_outbid(struct session *session, uint64_t seen_epoch);
/* What was set aside meanwhile gets its place. */
void course_place_aside(struct session *session);
/* Everything that only an owner has goes; what was to be published and is not certain to be, is
 * counted. */
void course_drop_owner_part(struct session *session);
/* Offers the session to the next of its members. */
void course_offer(struct session *session);
/* A draining owner with members offers the session. */
void course_consider_handover(struct session *session);
/* The member that was asked takes it. */
void course_move(struct session *session);
/* Its push channel is forbidden: it is given up until the channel is heard again (deaf), or its
 * clients are told why nothing goes on. */
void course_refused(struct session *session, const char *why, bool deaf);
/* The store has lost data. */
void course_emptied(struct session *session);

#endif
