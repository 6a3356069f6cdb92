/*
 * Inside the resolver: queries and known addresses (resolve.c), and the lookup of a name
 * (resolve_lookup.c).
 *
 * A struct name is one host name, a struct resolve is one request for it:
 *
 *   resolve_start --- an IP address ----------------> answered by its timer, freed
 *        |
 *        `-> in name->asking --- name_answer -------> answered, freed
 *                            |-- its timer ---------> answered with what is known, or with an error
 *                            `-- resolve_cancel ----> freed without an answer
 *
 *   name:  IDLE -> WAITING (too many lookups) -> ASKING (both families of one full name) -> IDLE
 *                                                  ^    |
 *                                                  `----'  the next search domain
 *
 * A lookup goes on when all its requests are cancelled: its answer serves the next request. The
 * name keeps the addresses that were found last.
 */
#ifndef VINHUB_LOOP_RESOLVE_PRIVATE_H
#define VINHUB_LOOP_RESOLVE_PRIVATE_H

#include <stdbool.h>

#include "common/hash.h"
#include "common/timer.h"
#include "loop/dns.h"
#include "loop/resolve.h"

#define NAME_BYTES 254 /* of a full name (RFC 1035 section 3.1) */

enum name_state { NAME_IDLE, NAME_WAITING, NAME_ASKING };
enum { V4, V6, FAMILIES };

struct name {
    struct resolver *resolver;
    UT_hash_handle hh;
    struct name *prev, *next; /* in the resolver's waiting list */
    enum name_state state;
    struct resolve *asking;
    struct resolved known;
    uint64_t known_at_ms;    /* when it was found; 0: nothing is known */
    uint64_t answered_at_ms; /* the latest lookup; 0: none yet */
    uint64_t warned_at_ms;   /* when a warning said that known addresses are used without an answer;
                                0: never */
    /* Why the latest lookup found nothing, or why it is not done in time; "": it found addresses.
     */
    char why[416];
    size_t candidate; /* the number of the full name that is asked for */
    struct question {
        struct name *name;
        struct dns_question *asked; /* NULL: answered, or not asked */
        struct dns_answer answer;
        bool answered; /* in this lookup */
    } families[FAMILIES];
    struct timer timer; /* runs while one family is answered and the other is awaited */
    char text[];        /* as the caller wrote it: an absolute name has a dot at its end */
};

struct resolve {
    struct resolve *prev, *next;
    struct resolver *resolver;
    struct name *name; /* NULL: an address */
    resolve_fn *fn;
    void *ctx;
    struct timer timer;
    struct resolved literal;
    uint16_t port;
};

struct resolver {
    struct loop *loop;
    struct dns *dns;
    struct name *names;   /* by text, in the order of the latest query */
    struct name *waiting; /* names that wait until fewer than LOOKUPS_MAX lookups are under way */
    size_t lookups;       /* how many are under way */
    struct timers timers;
    struct timer files; /* checks the files for changes during lookups */
    struct timer start; /* begins waiting lookups */
    struct loop_timer *timer;
};

/* --- resolve.c --- */

/* Arms the loop's timer for the next deadline. To be called after timers were changed outside of
 * its callback. */
void resolver_arm(struct resolver *resolver);
/* A lookup has ended: answers all queries of the name, with the known addresses or the error. */
void name_answer(struct name *name);

/* --- resolve_lookup.c --- */

/* Queues the lookup of an idle name. name_answer follows, in a later turn. */
void lookup_queue(struct name *name);
/* Prints "text.domain", or text alone if domain is NULL, without a dot at the end. Returns false if
 * the result is empty or too long for a name. */
bool lookup_print_name(const char *text, const char *domain, char out[NAME_BYTES]);

#endif
