#include "bus/redis_scripts.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua_scripts.h"

static const char *const texts[REDIS_SCRIPTS] = {
    [SCRIPT_RENEW] = lua_renew,       [SCRIPT_RECORD_NODE] = lua_record_node,
    [SCRIPT_CLAIM] = lua_claim,       [SCRIPT_RELEASE] = lua_release,
    [SCRIPT_TRANSFER] = lua_transfer, [SCRIPT_ASSERT] = lua_assert,
    [SCRIPT_PUBLISH] = lua_publish,   [SCRIPT_RECORD_SESSION] = lua_record_session,
    [SCRIPT_HISTORY] = lua_history,
};

void redis_scripts_hash(struct redis_shas *shas)
{
    for (size_t i = 0; i < REDIS_SCRIPTS; i++) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned len = 0;
        if (EVP_Digest(texts[i], strlen(texts[i]), digest, &len, EVP_sha1(), NULL) != 1 ||
            len * 2 + 1 != REDIS_SHA_BYTES)
            abort();
        for (unsigned at = 0; at < len; at++)
            snprintf(shas->text[i] + 2 * (size_t)at, 3, "%02x", digest[at]);
    }
}

void redis_script_load(struct redis_request *request, enum redis_script script)
{
    redis_request_begin(request, 3);
    redis_request_text(request, "SCRIPT");
    redis_request_text(request, "LOAD");
    redis_request_text(request, texts[script]);
}

void redis_script_begin(struct redis_request *request, const struct redis_shas *shas,
                        enum redis_script script, size_t keys, size_t arguments)
{
    redis_request_begin(request, 3 + keys + arguments);
    redis_request_text(request, "EVALSHA");
    redis_request_text(request, shas->text[script]);
    redis_request_number(request, keys);
}
