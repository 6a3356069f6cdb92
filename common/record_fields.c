#include "common/record_fields.h"

#include <string.h>

/* A number of so many digits always fits into 64 bits. */
#define DIGITS_MAX 18

static bool is_word(const char *field)
{
    static const char *const words[] = {"host",  "version", "listen", "admin",
                                        "state", "owner",   "reason", "upstream"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i], field) == 0)
            return true;
    return false;
}

bool record_is_number(const char *field, const char *value, size_t len)
{
    if (len == 0 || len > DIGITS_MAX || is_word(field))
        return false;
    for (size_t i = 0; i < len; i++)
        if (value[i] < '0' || value[i] > '9')
            return false;
    return true;
}
