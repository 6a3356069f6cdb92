/*
 * The owner's roster: the nodes that have clients of the session (hub/README.md, Join).
 *
 * Owns the members, and the roll call that ends a membership which only one side believes in. It is
 * made and freed with the member's side: membership_new.
 */
#ifndef VINHUB_CORE_SESSION_ROSTER_H
#define VINHUB_CORE_SESSION_ROSTER_H

#include "common/node_messages.h"
#include "core/node/peers.h"
#include "core/session/state.h"

#define ROLL_CALL_LEASES 20 /* a membership that only one side believes in ends after that */

/* A node with clients of a session owned here. */
struct member {
    struct session *session;
    struct watch watch; /* of its node: in the life that it joined in, since its last JOIN */
    uint64_t since;     /* number of the JOIN it began with; 0: the last owner named it */
    uint64_t number;    /* of its last JOIN, LEAVE or COMMANDS */
    uint64_t count;     /* its clients */
    uint16_t requests;  /* bits of its clients' URLs in the link's attempt */
    /* Its last JOINs that were answered, and when: by them it says how old its messages are */
    struct {
        uint64_t number, at_ms;
    } answered[2];
    struct member *prev, *next;
};

struct roster_events {
    /* A member is there, or begins anew in another life: nothing of the old one counts. */
    void (*came)(struct session *session, struct member *member);
    /* It is taken off; its memory goes after this. */
    void (*leaves)(struct session *session, struct member *member);
    /* One has left by itself, or its node has died. */
    void (*left)(struct session *session);
    /* Fills in what the session's STATUS says. */
    void (*fill_status)(const struct session *session, struct status_message *status);
};

struct member *roster_find(struct session *session, struct slice node);
/* That of another life under the name gives way. since: number of the JOIN; 0: a TAKE names it */
struct member *roster_add(struct session *session, struct slice node, uint64_t life,
                          uint64_t since);
void roster_remove(struct member *member);
/* Removes all members; announce: sends them NOT_OWNER. */
void roster_clear(struct session *session, bool announce);
uint32_t roster_len(const struct session *session);
/* The first, oldest; next goes on. */
struct member *roster_first(const struct session *session);
uint64_t roster_clients(const struct session *session); /* of all members */
uint16_t roster_requests(const struct session *session);
static inline struct slice member_node(const struct member *member)
{
    return slice_of(member->watch.peer->id);
}

/* Sends every member the status. */
void roster_send_status(const struct session *session);
/* The members that the last owner named have two leases to come. */
void roster_expect(struct session *session);
/* After how long the roll is called again. */
uint64_t roll_call_ms(const struct hub *hub);
/* Asserts what must hold. */
void roster_check(const struct session *session);

#endif
