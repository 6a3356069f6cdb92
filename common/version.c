#include "common/version.h"

#include "commit.h" /* commit.cmake writes it; no other file may include it */

const char *version_number(void)
{
    return VINHUB_VERSION;
}

const char *version_full(void)
{
    return sizeof(VINHUB_COMMIT) > 1 ? VINHUB_VERSION " (commit " VINHUB_COMMIT ")"
                                     : VINHUB_VERSION;
}
