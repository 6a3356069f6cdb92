/*
 * The tokens of this node's clients: by which of them one is found that is revoked.
 *
 * A door that asks for tokens embeds a struct client_token in what it keeps of one, so that a
 * client without a token costs nothing. Ids and subjects are kept as hashes under a secret key of
 * the node; nobody can choose two that are equal.
 */
#ifndef VINHUB_CORE_CLIENT_TOKENS_H
#define VINHUB_CORE_CLIENT_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/chains.h"

struct client;
struct hub;
struct slice;

/* The claims of a token that revocations look at. */
struct token_facts {
    const char *jti, *sub; /* NULL: it has none, or no text */
    bool has_iat;
    double issued_s; /* claim iat, Unix time */
};

struct client_token {
    struct client *client; /* NULL: it is in no table */
    struct chain_link by_jti, by_sub;
    double issued_s;
    bool has_jti, has_sub, has_iat;
};

/* The tokens of a node. Starts zeroed. */
struct tokens {
    struct chains by_jti, by_sub;
    uint64_t key[2]; /* drawn with the first token */
    bool has_key;
};

/* From now on the client has this token; an earlier one is replaced. token starts zeroed, lives
 * as long as the client, and has to be removed with token_forget before the client is freed. */
void token_take(struct client_token *token, struct client *client, const struct token_facts *facts);
void token_forget(struct client_token *token);

/* Which tokens are meant. */
struct token_choice {
    bool sub; /* name is a subject; else an id */
    const char *name;
    double issued_before_s; /* of a subject; a token without iat is always meant */
};
/* How many open clients have such a token. */
uint64_t tokens_count(struct hub *hub, const struct token_choice *choice);
/* Closes at most `most` of them with 4001; returns how many. */
uint64_t tokens_close(struct hub *hub, const struct token_choice *choice, uint64_t most);
void tokens_free(struct hub *hub);

#endif
