/*
 * SUBSCRIBE, UNSUBSCRIBE and what a new token still covers: what a client asks for in one message
 * and takes more than one turn.
 *
 * It is worked off in portions, all clients in turn, so that no turn has more than WORKED_A_TURN of
 * it; meanwhile the client is not read from. Each url is answered once and in the order in which
 * they came, though their sessions are known at different times: an answer waits in the client's
 * row for those before it (a second at most, which is what a WELCOME may take). What waits is
 * bounded: the next url is looked at when there is room in the row and in the client's queue.
 */
#ifndef VINHUB_CORE_CLIENT_SUBSCRIBING_H
#define VINHUB_CORE_CLIENT_SUBSCRIBING_H

#include "common/v1.h"
#include "core/client/client.h"

/* An answer that is due: the WELCOME of a subscription that waits for its session's position, or
 * frames that are ready. */
struct subscribe_answer {
    struct subscribe_answer *prev, *next;
    struct subscribing *of;
    struct subscription *subscription; /* NULL: the wires are the answer */
    struct wire *wires[2];
    uint64_t id; /* of the SUBSCRIBE */
    size_t cost;
    size_t url_len;
    char url[]; /* as it came */
};

/* A SUBSCRIBE or UNSUBSCRIBE; takes over its payload. */
void subscribing_ask(struct client *client, struct v1_request *request);
/* The client has a new token: of its further sessions those stay that this covers. */
void subscribing_check_token(struct client *client);
/* Does a portion of the jobs; called in each turn before sessions are flushed. */
void subscribing_run(struct hub *hub);

/* All answers before it were sent, and the client's queue has room for it. */
bool subscribing_is_next(const struct subscribe_answer *answer);
/* The answer was sent: frees it. */
void subscribing_answered(struct subscribe_answer *answer);
/* Its subscription ends before it was welcomed: WELCOME and CLOSED are the answer then. */
void subscribing_ended(struct subscribe_answer *answer, unsigned code, const char *reason);
/* Its subscription is gone: frees it without an answer. */
void subscribing_forget(struct subscribe_answer *answer);

/* The client is gone. */
void subscribing_free(struct client *client);
void subscribing_free_all(struct hub *hub);
/* Asserts what must hold. */
void subscribing_check(const struct client *client);

#endif
