#include "loop/http_head.h"

#include <libwebsockets.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

size_t http_head_end(const char *bytes, size_t len, size_t from)
{
    size_t at = from > 3 ? from - 3 : 0;
    if (len < 4 || at > len - 4)
        return 0;
    const char *end = memmem(bytes + at, len - at, "\r\n\r\n", 4);
    return end ? (size_t)(end - bytes) + 4 : 0;
}

bool http_text_is(struct http_text text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.at, word, text.len) == 0;
}

bool http_text_is_word(struct http_text text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.at, word, text.len) == 0;
}

static bool is_token_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

bool http_text_is_token(struct http_text text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_token_byte(text.at[i]))
            return false;
    }
    return text.len > 0;
}

static struct http_text trim(struct http_text text)
{
    while (text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.len--;
    }
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
        text.len--;
    return text;
}

static bool has_controls(struct http_text line)
{
    for (size_t i = 0; i < line.len; i++) {
        unsigned char c = (unsigned char)line.at[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

/* The line up to CRLF; *rest moves past that. */
static struct http_text next_line(struct http_text *rest)
{
    const char *end = memmem(rest->at, rest->len, "\r\n", 2);
    struct http_text line = {rest->at, end ? (size_t)(end - rest->at) : rest->len};
    size_t taken = end ? line.len + 2 : rest->len;
    rest->at += taken;
    rest->len -= taken;
    return line;
}

/* Splits the line at its first two spaces; the third part may contain spaces, or be missing. */
static bool parse_start(struct http_text line, struct http_text out[3])
{
    for (size_t i = 0; i < 2; i++) {
        const char *space = memchr(line.at, ' ', line.len);
        if (!space && i == 0)
            return false;
        size_t len = space ? (size_t)(space - line.at) : line.len;
        out[i] = (struct http_text){line.at, len};
        size_t taken = space ? len + 1 : len;
        line.at += taken;
        line.len -= taken;
    }
    out[2] = line;
    return out[0].len > 0 && out[1].len > 0;
}

enum status http_head_parse(const char *bytes, size_t len, struct http_head *out)
{
    struct http_text rest = {bytes, len};
    out->len = 0;
    struct http_text line = next_line(&rest);
    if (has_controls(line) || !parse_start(line, out->start))
        return STATUS_INVALID;

    for (line = next_line(&rest); line.len > 0; line = next_line(&rest)) {
        const char *colon = memchr(line.at, ':', line.len);
        if (!colon || has_controls(line))
            return STATUS_INVALID;
        if (out->len == HTTP_FIELDS_MAX)
            return STATUS_LIMIT;
        struct http_text name = {line.at, (size_t)(colon - line.at)};
        if (!http_text_is_token(name))
            return STATUS_INVALID;
        out->names[out->len] = name;
        out->values[out->len++] = trim((struct http_text){colon + 1, line.len - name.len - 1});
    }
    return STATUS_OK;
}

bool http_head_next(const struct http_head *head, const char *name, size_t *index,
                    struct http_text *value)
{
    for (size_t i = *index; i < head->len; i++) {
        if (http_text_is_word(head->names[i], name)) {
            *value = head->values[i];
            *index = i + 1;
            return true;
        }
    }
    *index = head->len;
    return false;
}

bool http_head_one(const struct http_head *head, const char *name, struct http_text *value)
{
    size_t index = 0;
    struct http_text first, another;
    if (!http_head_next(head, name, &index, &first) || http_head_next(head, name, &index, &another))
        return false;
    *value = first;
    return true;
}

bool http_list_next(struct http_text *rest, struct http_text *item)
{
    while (rest->len > 0) {
        const char *comma = memchr(rest->at, ',', rest->len);
        size_t len = comma ? (size_t)(comma - rest->at) : rest->len;
        *item = trim((struct http_text){rest->at, len});
        size_t taken = comma ? len + 1 : len;
        rest->at += taken;
        rest->len -= taken;
        if (item->len > 0)
            return true;
    }
    return false;
}

bool http_head_lists(const struct http_head *head, const char *name, const char *word)
{
    size_t index = 0;
    struct http_text value, item;
    while (http_head_next(head, name, &index, &value)) {
        while (http_list_next(&value, &item)) {
            if (http_text_is_word(item, word))
                return true;
        }
    }
    return false;
}

/* SHA-1 by lws: libcrypto's would have a node without TLS and Redis load its providers, which are 2
 * MiB of memory, and looks its algorithm up each time. */
void ws_accept_key(struct http_text key, char out[WS_ACCEPT_SIZE])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char joined[128], hash[20];
    size_t len = key.len < 64 ? key.len : 64;
    memcpy(joined, key.at, len);
    memcpy(joined + len, magic, sizeof(magic) - 1);
    lws_SHA1(joined, len + sizeof(magic) - 1, hash);
    EVP_EncodeBlock((unsigned char *)out, hash, sizeof(hash));
}
