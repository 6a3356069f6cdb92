/*
 * The part of a session that knows which nodes take part in it. It has two sides, each in a file of
 * its own: what a member has asked (membership.c) and, of an owner, its members (roster.c).
 *
 * For those two files alone.
 */
#ifndef VINHUB_CORE_SESSION_MEMBERSHIP_SIDES_H
#define VINHUB_CORE_SESSION_MEMBERSHIP_SIDES_H

#include "core/session/roster.h"

/* The owner's side. */
struct roster {
    struct session *session;
    const struct roster_events *events;
    struct member *members;
    uint32_t len;
    struct timer call; /* armed while there are members */
};

/* The member's side. */
struct joining {
    uint64_t begin_number;    /* lowest number of a JOIN (or LEAVE) whose answer counts */
    uint64_t joined_number;   /* of the JOIN that was answered last; 0: none */
    uint64_t joined_ms;       /* when that answer came */
    uint64_t asked_number;    /* of the JOIN that was sent last */
    struct position asked_at; /* where this node took the stream to be then */
    uint64_t heard_ms;        /* when the owner last said something, as a member */
    uint64_t refused_ms;      /* when the named owner last said that it is not */
    bool join_wanted;
};

struct membership {
    struct joining joining;
    struct roster roster;
};

/* Used by membership.c for the other side. */
void roster_init(struct session *session, const struct roster_events *events);
void roster_fini(struct session *session);

#endif
