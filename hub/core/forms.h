/*
 * Forms: how what the core has for a client looks on its wire.
 *
 * The core knows publications, gaps and what is said about them. How these look is a form: a front
 * door registers each of its own with the functions that make it, and opens each client with one of
 * them. A form of a publication is made at most once, by the first client that needs it. Another
 * door is another set of forms: nothing in the core changes for it.
 */
#ifndef VINHUB_CORE_FORMS_H
#define VINHUB_CORE_FORMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"
#include "common/status.h"
#include "common/v1.h"

struct hub;

#define FORMS_MAX 63
/* With this bit a form of what concerns one session of several that its client has. */
#define FORM_NAMED    64u
#define FORM_KEYS_MAX 128

/*
 * The functions of a form; ctx is what was registered with it. None calls the core but for
 * publication_encode* and form_of. Of a form without `follows`, which has no positions, only
 * publication and text are called.
 */
struct form {
    const char *name; /* for people */
    /* Its clients get positions, gaps, the upstream's status and answers to their messages. */
    bool follows;
    /* Makes `key` (the form's id, maybe with FORM_NAMED) of a publication, with one of the
     * publication_encode functions. session: NULL but for FORM_NAMED. NULL: out of memory. */
    const struct encoding *(*publication)(void *ctx, unsigned key, struct publication *publication,
                                          const char *session);
    /* The answer to a heartbeat. */
    struct wire *(*text)(void *ctx, const char *text, size_t len);
    /* Each makes one message; NULL: out of memory. to 0: the rest of that epoch. */
    struct wire *(*gap)(void *ctx, const struct v1_head *head, uint64_t epoch, uint64_t from,
                        uint64_t to);
    struct wire *(*welcome)(void *ctx, const struct v1_head *head,
                            const struct v1_welcome *welcome);
    struct wire *(*status)(void *ctx, const struct v1_head *head, const char *upstream,
                           const char *reason);
    /* Who watches; more: users beside those. NULL: its clients do not get it. */
    struct wire *(*presence)(void *ctx, const struct v1_head *head, const struct v1_watcher *users,
                             size_t len, uint64_t more);
    /* Of doors whose clients speak; the others have none of these. */
    struct wire *(*ack)(void *ctx, const struct v1_head *head, uint64_t id);
    struct wire *(*error)(void *ctx, const struct v1_head *head, const struct v1_error *error);
    struct wire *(*closed)(void *ctx, const struct v1_head *head, const struct v1_closed *closed);
    struct wire *(*pong)(void *ctx, const struct v1_head *head);
    /* Reads what a client says. As v1_decode. */
    enum status (*request)(void *ctx, enum opcode opcode, const void *bytes, size_t len,
                           struct v1_request *out, struct v1_mistake *mistake);
};

/* What a hub knows of them. */
struct forms {
    struct {
        const struct form *form;
        void *ctx;
    } items[FORMS_MAX + 1]; /* by id; 0 is none */
    unsigned len;
};

/* Registers a form and returns its id, from 1 on. form lives as long as the hub. At most FORMS_MAX
 * of a hub. */
unsigned form_add(struct hub *hub, const struct form *form, void *ctx);
const struct form *form_get(const struct hub *hub, unsigned id);

/* A publication, or a gap note, in a form; made where it is not there yet. session is the id of the
 * session it belongs to. NULL when out of memory; without bytes where the form has no word for it.
 * Lives as long as the publication. */
const struct encoding *form_of(struct hub *hub, unsigned key, struct publication *publication,
                               const char *session);

#endif
