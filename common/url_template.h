/*
 * Templates of session keys and upstream URLs: literal text with {path} {user} {vin} {query}
 * {service} {key}.
 *
 * What url.c needs of them beyond url.h.
 */
#ifndef VINHUB_COMMON_URL_TEMPLATE_H
#define VINHUB_COMMON_URL_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"
#include "common/url.h"

/* The session key of a target whose session_id is not yet made, and its length; it is not
 * terminated. STATUS_LIMIT where it has more than SESSION_KEY_MAX bytes. */
MUST_USE enum status template_session_key(const struct target *target, char out[SESSION_KEY_MAX],
                                          size_t *out_len);
/* Writes target->session_id from a key of at most SESSION_KEY_MAX bytes. */
void template_session_id(struct target *target, const char *key, size_t len);
/* Whether the template holds that placeholder, given by its name: "vin". */
bool template_names(const char *text, const char *placeholder);

#endif
