/*
 * Which client's URL the next attempt to open an upstream takes (contract section 5).
 *
 * Owns the requests (path and query, as url_reread reads them) of the clients that watch a session:
 * equal ones once, at most ATTEMPT_REQUESTS different ones, so that a client costs two bytes here.
 * An attempt takes the request that was taken last while a client with it is there and it was not
 * refused; else the next one in turn, those that were not refused first. Knows no session, no node
 * and no time.
 */
#ifndef VINHUB_CORE_SESSION_ATTEMPT_H
#define VINHUB_CORE_SESSION_ATTEMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ATTEMPT_REQUESTS 16 /* a bit each in a mask of 16 bits */
#define ATTEMPT_NONE     0  /* a handle of nothing */

/* What the end of an attempt says of its request. */
enum attempt_verdict {
    ATTEMPT_UNTRIED, /* nothing: nobody has read it */
    ATTEMPT_TAKEN,   /* the upstream was open with it */
    ATTEMPT_REFUSED, /* with another one it may succeed */
};

/* A request and who has it. */
struct attempt_request {
    char *text;       /* owned; NULL: the place is free */
    uint32_t clients; /* of this node */
    uint16_t life;    /* grows when the place gets another request: older handles do not count */
};

/* Zeroed, it is empty. */
struct attempt {
    struct attempt_request *requests;
    uint16_t far;     /* mask: clients of other nodes have these */
    uint16_t refused; /* mask: the last attempt with these was refused */
    uint8_t len;
    uint8_t current;   /* taken last */
    bool adopted;      /* current is what the last owner used: the next attempt takes it again */
    bool last_refused; /* the last attempt ended with ATTEMPT_REFUSED */
    bool heard;        /* a message came since the upstream was opened */
};

/* A client of this node has come with path and query. Returns a handle for attempt_leave;
 * ATTEMPT_NONE where there is no place or no memory. */
uint16_t attempt_come(struct attempt *attempt, const char *path, const char *query);
/* It has left. */
void attempt_leave(struct attempt *attempt, uint16_t handle);
/* A client of another node has this request. Returns its bit for attempt_set_far; 0 where there is
 * no place or no memory. */
uint16_t attempt_note(struct attempt *attempt, const char *text, size_t len);
/* Which requests clients of other nodes have: the bits of attempt_note together. */
void attempt_set_far(struct attempt *attempt, uint16_t mask);
/* The owner uses this request, and its client is there: a take-over goes on with it. */
void attempt_adopt(struct attempt *attempt, const char *text, size_t len);

/* Chooses for the next attempt. Returns the request; NULL where none was ever there. It lives until
 * the next call that changes something. */
const char *attempt_choose(struct attempt *attempt);
/* What was chosen last; NULL where nothing was. */
const char *attempt_current(const struct attempt *attempt);
/* The attempt, or the upstream that it opened, has ended. */
void attempt_end(struct attempt *attempt, enum attempt_verdict verdict);
/* There is a client whose request was not refused. */
bool attempt_has_fresh(const struct attempt *attempt);
/* Whether a client with the chosen request is there. */
bool attempt_is_attended(const struct attempt *attempt);
/* The text where clients of this node have that request, else NULL; i below ATTEMPT_REQUESTS. */
const char *attempt_own(const struct attempt *attempt, size_t i);

void attempt_fini(struct attempt *attempt);

#endif
