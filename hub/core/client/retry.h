/*
 * When closed clients come back: a close that asks for it (1012, 1013) ends its reason with
 * retry=MS, spread by chance, so that a thousand do not come in one moment (contract section 7).
 */
#ifndef VINHUB_CORE_CLIENT_RETRY_H
#define VINHUB_CORE_CLIENT_RETRY_H

#include <stddef.h>

struct hub;

#define RETRY_REASON_BYTES 124 /* what a close frame takes, and the terminator */

/* The reason with the time behind it, in out; of other codes the reason as it is. reason may be
 * NULL. */
const char *retry_reason(struct hub *hub, unsigned code, const char *reason,
                         char out[RETRY_REASON_BYTES]);

#endif
