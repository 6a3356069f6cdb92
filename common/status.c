#include "common/status.h"

const char *status_name(enum status status)
{
    switch (status) {
    case STATUS_OK: return "ok";
    case STATUS_INVALID: return "invalid";
    case STATUS_LIMIT: return "limit";
    case STATUS_NO_MEMORY: return "no_memory";
    case STATUS_IO: return "io";
    case STATUS_AGAIN: return "again";
    case STATUS_NOT_FOUND: return "not_found";
    case STATUS_REFUSED: return "refused";
    case STATUS_TIMEOUT: return "timeout";
    }
    return "unknown";
}
