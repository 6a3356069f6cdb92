/*
 * Questions to name servers, one family of one full name each, and the system's settings for them,
 * by c-ares: resolv.conf, nsswitch.conf, LOCALDOMAIN and RES_OPTIONS, the hosts file. Several
 * servers, TCP after truncation and EDNS are its work.
 *
 * Of c-ares only that is used which 1.18 and 1.34 do alike. Its own search is not: it goes on to
 * the next domain by the answer that comes last of the two families. Nor is its cache.
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
    DNS_NO_ADDRESS, /* of this family */
    DNS_TROUBLE,    /* no answer, or none that says anything of the name */
};

struct dns_answer {
    enum dns_outcome outcome;
    struct resolved found; /* ports are 0 */
    char why[288];         /* where nothing was found; one line */
};

/* Called from the loop, never from within a call into this module. */
typedef void dns_fn(void *ctx, const struct dns_answer *answer);

struct dns_settings {
    char **domains; /* without dots at the end */
    size_t domains_len;
    unsigned ndots;
    const char *order;   /* 'f' the hosts file, 'b' the name servers */
    const char *servers; /* for people: "10.0.0.2, 10.0.0.3" */
};

MUST_USE enum status dns_new(struct loop *loop, struct dns **out);
/* Questions that are under way get no answer. */
void dns_free(struct dns *dns);

/* Whether resolv.conf, nsswitch.conf or the hosts file have changed since they were read. */
bool dns_changed(struct dns *dns);
/* Reads them again. Each question must have been answered or forgotten. */
void dns_reread(struct dns *dns);
const struct dns_settings *dns_settings(const struct dns *dns);

/* The addresses of the hosts file, ports 0; none: false, and out is unchanged. */
MUST_USE bool dns_hosts(struct dns *dns, const char *name, struct resolved *out);

/* name is a full name without a dot at its end. NULL: out of memory. */
struct dns_question *dns_ask(struct dns *dns, const char *name, int family, dns_fn *fn, void *ctx);
const char *dns_question_name(const struct dns_question *question);
/* fn is not called any more. */
void dns_forget(struct dns_question *question);

#endif
