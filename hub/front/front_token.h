/*
 * JSON Web Tokens (RFC 7519): the header's rules and the signature. What the claims must say is
 * front_auth.c's.
 */
#ifndef VINHUB_FRONT_FRONT_TOKEN_H
#define VINHUB_FRONT_FRONT_TOKEN_H

#include <jansson.h>

#include "common/key_set.h"

/*
 * The claims of a token that is signed with the key which it names, by exactly the algorithm which
 * that key is for; the caller owns the reference. NULL: it is refused, *why is a static text.
 * Neither header nor claims are looked at further before the signature is verified, but for kid,
 * alg, typ and crit.
 */
json_t *token_claims(const struct key_set *keys, const char *token, const char **why);

#endif
