/*
 * The owner's link to the backend: open, retry with back-off, close; and the status of the
 * upstream, which members get from the owner.
 *
 *   NONE -> CONNECTING -> OPEN -> CLOSING -> NONE        from each to NONE by a reset
 *     ^         |           |
 *     `--- WAITING <--------'
 *
 * The socket side (upstream_ops) makes one attempt each; when the next one is made, and with which
 * client's URL (attempt.h), is decided here.
 */
#ifndef VINHUB_CORE_SESSION_LINK_H
#define VINHUB_CORE_SESSION_LINK_H

#include "core/session/attempt.h"
#include "core/session/state.h"

enum link_state {
    LINK_NONE,
    LINK_WAITING,    /* until the back-off timer */
    LINK_CONNECTING, /* until link_on_opened or link_on_closed (reconnect.timeout) */
    LINK_OPEN,
    LINK_CLOSING, /* until link_on_closed (1 s) */
    LINK_STATES
};

struct link_events {
    /* Status or reason has changed: followers of the session get it. changed false: the same
     * again, for the record alone. */
    void (*status)(struct session *session, bool changed);
    void (*opened)(struct session *session);
    /* It takes nothing any more. */
    void (*down)(struct session *session);
    /* The close that was asked for is done. */
    void (*closed)(struct session *session);
    /* The backend can't be reached from here for long. */
    void (*unreachable)(struct session *session);
    /* Which requests clients of other nodes have: attempt_set_far. */
    uint16_t (*far_requests)(const struct session *session);
};

/* False: no memory. */
MUST_USE bool link_new(struct session *session, const struct target *target,
                       const struct link_events *events);
void link_free(struct session *session);

/* Opens where it is not open or under way, and this node owns the session. */
void link_start(struct session *session);
/* Starts to close politely. Returns false where nothing is open: it is closed already. */
bool link_close(struct session *session);
/* Cuts at once, also a back-off. */
void link_reset(struct session *session);
/* A client has come: a wait after a refusal gets shorter. */
void link_client_came(struct session *session);
/* STATUS_AGAIN: not taken, link_on_writable follows. Only while it is OPEN. */
MUST_USE enum status link_send(struct session *session, enum opcode opcode, const void *payload,
                               size_t len);
/* Notes the status, the owner's own or one that it sent. */
void link_set_status(struct session *session, enum upstream_status status, const char *reason);

enum link_state link_state(const struct session *session);
bool link_is_retrying(const struct session *session);
enum upstream_status link_status(const struct session *session);
const char *link_reason(const struct session *session);
const char *link_url(const struct session *session); /* of the last attempt, or of who opened it */
const char *link_redacted(const struct session *session); /* the same without query values */
struct attempt *link_attempt(const struct session *session);
/* As STATUS and WELCOME name it. */
const char *upstream_status_name(enum upstream_status status);

/* Events of the socket; see hub.h. */
void link_on_opened(struct session *session, struct upstream *upstream);
void link_on_message(struct session *session, struct upstream *upstream);
void link_on_writable(const struct session *session, const struct upstream *upstream);
void link_on_closed(struct session *session, struct upstream *upstream,
                    const struct upstream_end *end);
/* Asserts what must hold. */
void link_check(const struct session *session);

#endif
