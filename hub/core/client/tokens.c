#include "core/client/tokens.h"

#include <assert.h>
#include <string.h>

#include "common/hash.h"
#include "core/client/client.h"
#include "core/node/node.h"

static uint64_t hash_of(struct hub *hub, const char *text)
{
    struct tokens *tokens = &hub->tokens;
    if (!tokens->has_key) {
        tokens->key[0] = rng_next(&hub->rng);
        tokens->key[1] = rng_next(&hub->rng);
        tokens->has_key = true;
    }
    assert(text);
    return hash_keyed(tokens->key, 2, 4, text, strlen(text));
}

void token_take(struct client_token *token, struct client *client, const struct token_facts *facts)
{
    struct hub *hub = client->hub;
    token_forget(token);
    *token = (struct client_token){.client = client,
                                   .issued_s = facts->issued_s,
                                   .has_jti = facts->jti != NULL,
                                   .has_sub = facts->sub != NULL,
                                   .has_iat = facts->has_iat};
    if (token->has_jti)
        chains_add(&hub->tokens.by_jti, &token->by_jti, hash_of(hub, facts->jti));
    if (token->has_sub)
        chains_add(&hub->tokens.by_sub, &token->by_sub, hash_of(hub, facts->sub));
}

void token_forget(struct client_token *token)
{
    if (!token->client)
        return;
    struct tokens *tokens = &token->client->hub->tokens;
    if (token->has_jti)
        chains_remove(&tokens->by_jti, &token->by_jti);
    if (token->has_sub)
        chains_remove(&tokens->by_sub, &token->by_sub);
    token->client = NULL;
}

static struct client_token *token_of(const struct token_choice *choice, struct chain_link *link)
{
    if (!link)
        return NULL;
    return choice->sub ? CONTAINER_OF(link, struct client_token, by_sub)
                       : CONTAINER_OF(link, struct client_token, by_jti);
}

static struct client_token *first(struct hub *hub, const struct token_choice *choice)
{
    const struct chains *chains = choice->sub ? &hub->tokens.by_sub : &hub->tokens.by_jti;
    return token_of(choice, chains_find(chains, hash_of(hub, choice->name)));
}

static struct client_token *next(const struct token_choice *choice, struct client_token *token)
{
    return token_of(choice, chains_next(choice->sub ? &token->by_sub : &token->by_jti));
}

static bool is_meant(const struct token_choice *choice, const struct client_token *token)
{
    return client_takes(token->client) &&
           (!choice->sub || !token->has_iat || token->issued_s < choice->issued_before_s);
}

uint64_t tokens_count(struct hub *hub, const struct token_choice *choice)
{
    uint64_t n = 0;
    for (struct client_token *token = first(hub, choice); token; token = next(choice, token))
        n += is_meant(choice, token);
    return n;
}

uint64_t tokens_close(struct hub *hub, const struct token_choice *choice, uint64_t most)
{
    uint64_t n = 0;
    struct client_token *token = first(hub, choice), *after;
    for (; token && n < most; token = after) {
        after = next(choice, token);
        if (!is_meant(choice, token))
            continue;
        struct client *client = token->client;
        token_forget(token); /* so that the next portion does not meet it again */
        client_close(client, CLOSE_UNAUTHORIZED, "token revoked");
        n++;
    }
    return n;
}

void tokens_free(struct hub *hub)
{
    chains_fini(&hub->tokens.by_jti);
    chains_fini(&hub->tokens.by_sub);
}
