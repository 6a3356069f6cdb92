/*
 * Questions to name servers by c-ares, each for one address family of one full name, and the
 * system's settings: resolv.conf, nsswitch.conf, LOCALDOMAIN, RES_OPTIONS and the hosts file.
 * c-ares deals with several servers, TCP after truncation, and EDNS.
 *
 * Only what c-ares 1.18 and 1.34 do in the same way is used. Its search is not used: it goes on to
 * the next domain by whichever of both families is answered last. Its cache is not used either.
 */
#ifndef VINHUB_LOOP_DNS_H
#define VINHUB_LOOP_DNS_H

#include <stdbool.h>

#include "loop/resolve.h"

struct dns;
struct dns_question;

enum dns_outcome {
    DNS_FOUND,
    DNS_NO_NAME,    /* NXDOMAIN */
    DNS_NO_ADDRESS, /* the name has none of this family */
    DNS_TROUBLE,    /* no answer, or an error of the server: nothing is known about the name */
};

struct dns_answer {
    enum dns_outcome outcome;
    struct resolved found; /* ports are 0 */
    char why[288];         /* the reason in one line, unless outcome is DNS_FOUND */
};

/* Called from the loop, never from within a call into this module. */
typedef void dns_fn(void *ctx, const struct dns_answer *answer);

struct dns_settings {
    char **domains; /* without dots at the end */
    size_t domains_len;
    unsigned ndots;
    const char *order;   /* 'f': the hosts file is used; 'b': the name servers are used */
    const char *servers; /* for messages: "10.0.0.2, 10.0.0.3" */
};

MUST_USE enum status dns_new(struct loop *loop, struct dns **out);
/* Questions that are under way get no answer. */
void dns_free(struct dns *dns);

/* Whether resolv.conf, nsswitch.conf or the hosts file have changed since they were read. */
bool dns_changed(struct dns *dns);
/* Reads them again. Each question must have been answered or forgotten. */
void dns_reread(struct dns *dns);
const struct dns_settings *dns_settings(const struct dns *dns);

/* The addresses in the hosts file, with port 0. Returns false if there is none; out is unchanged.
 */
MUST_USE bool dns_hosts(struct dns *dns, const char *name, struct resolved *out);

/* name is a full name without a dot at its end. NULL: out of memory. */
struct dns_question *dns_ask(struct dns *dns, const char *name, int family, dns_fn *fn, void *ctx);
/* The full name, with a dot at its end. */
const char *dns_question_name(const struct dns_question *question);
/* Forgets the question: its fn is not called any more. */
void dns_forget(struct dns_question *question);

#endif
