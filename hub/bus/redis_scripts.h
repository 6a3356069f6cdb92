/*
 * The scripts of lua/ and the names under which a server knows them.
 *
 * A script that a server has lost is loaded again by the lane that got its NOSCRIPT.
 */
#ifndef VINHUB_BUS_REDIS_SCRIPTS_H
#define VINHUB_BUS_REDIS_SCRIPTS_H

#include "bus/redis_output.h"

enum redis_script {
    SCRIPT_RENEW,
    SCRIPT_RECORD_NODE,
    SCRIPT_CLAIM,
    SCRIPT_RELEASE,
    SCRIPT_TRANSFER,
    SCRIPT_ASSERT,
    SCRIPT_RECORD_SESSION,
    SCRIPT_PUBLISH,
    SCRIPT_HISTORY,
    REDIS_SCRIPTS
};

#define REDIS_SHA_BYTES 41 /* 40 hexadecimal digits and a terminator */

/* SHA-1 of each text, as SCRIPT LOAD answers it. */
struct redis_shas {
    char text[REDIS_SCRIPTS][REDIS_SHA_BYTES];
};

void redis_scripts_hash(struct redis_shas *shas);
/* SCRIPT LOAD. */
void redis_script_load(struct redis_request *request, enum redis_script script);
/* EVALSHA of a script with that many keys and further arguments, all of which must follow. */
void redis_script_begin(struct redis_request *request, const struct redis_shas *shas,
                        enum redis_script script, size_t keys, size_t arguments);

#endif
