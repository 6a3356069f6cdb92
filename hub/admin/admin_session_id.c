#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "common/text.h"
#include "common/url.h"

static bool is_key_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._~-/;?=&", c));
}

static bool is_escape(const char *text, const char *end)
{
    static const char hex[] = "0123456789ABCDEFabcdef";
    return end - text >= 3 && text[0] == '%' && text[1] && text[2] && strchr(hex, text[1]) &&
           strchr(hex, text[2]);
}

/* service:key, as in contract section 1. */
bool admin_is_session_id(const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);
    if (!colon || len >= SESSION_ID_MAX || !text_is_name(text, (size_t)(colon - text)))
        return false;
    const char *end = text + len;
    for (const char *at = colon + 1; at < end;) {
        if (is_escape(at, end))
            at += 3;
        else if (is_key_char(*at))
            at++;
        else
            return false;
    }
    return true;
}

char *admin_session_id(const char *part, size_t len)
{
    char *id = malloc(len + 1);
    size_t id_len = 0;
    if (!id)
        return NULL;
    if (text_percent_decode(part, len, id, &id_len) == STATUS_OK &&
        admin_is_session_id(id, id_len)) {
        id[id_len] = '\0';
        return id;
    }
    memcpy(id, part, len);
    id[len] = '\0';
    if (admin_is_session_id(id, len))
        return id;
    free(id);
    return NULL;
}
