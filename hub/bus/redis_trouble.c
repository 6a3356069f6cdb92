#include "bus/redis_trouble.h"

#include <stdio.h>
#include <string.h>

void redis_fault_set(struct redis_trouble *trouble, struct redis_fault *fault, const char *text)
{
    snprintf(fault->text, sizeof(fault->text), "%s", text);
    if (!trouble || fault->set)
        return;
    struct redis_fault **at = &trouble->first;
    while (*at)
        at = &(*at)->next;
    *at = fault;
    fault->next = NULL;
    fault->set = true;
}

void redis_fault_clear(struct redis_trouble *trouble, struct redis_fault *fault)
{
    if (!trouble || !fault->set)
        return;
    struct redis_fault **at = &trouble->first;
    while (*at != fault)
        at = &(*at)->next;
    *at = fault->next;
    fault->set = false;
}

const char *redis_trouble_why(const struct redis_trouble *trouble)
{
    return trouble->first ? trouble->first->text : NULL;
}

bool redis_is_no_right(const char *error)
{
    static const char *const words[] = {"NOPERM", "ACL failure in script",
                                        "The user executing the script can't"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strstr(error, words[i]))
            return true;
    }
    return false;
}

static void cut_at(char *text, const char *what)
{
    char *at = strstr(text, what);
    if (at)
        *at = '\0';
}

/* The error within a script's error, which up to Redis 6.2 is "ERR Error running script (call to
 * f_SHA): @user_script:5: @user_script: 5: -NOREPLICAS ...". */
static const char *without_script(const char *error)
{
    const char *at = strstr(error, "@user_script");
    const char *inner = at && at != error ? strstr(at, ": -") : NULL;
    return inner && strncmp(error, "ERR Error ", 10) == 0 ? inner + 3 : error;
}

static void hide(char *text, const char *secret)
{
    size_t len = strlen(secret);
    for (char *at = text; len > 0 && (at = strstr(at, secret)) != NULL; at++) {
        memmove(at + 1, at + len, strlen(at + len) + 1);
        *at = '*';
    }
}

void redis_quote(const struct redis_url *url, const char *error, char *out)
{
    char text[4 * REDIS_WHY_BYTES];
    snprintf(text, sizeof(text), "%s", without_script(error));
    /* A server that does not know a command (AUTH, for example) repeats its arguments. */
    cut_at(text, ", with args beginning with:");
    cut_at(text, " script: ");
    hide(text, url->password);
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    }
    snprintf(out, REDIS_WHY_BYTES, "%.*s", REDIS_WHY_BYTES - 1, text);
}
