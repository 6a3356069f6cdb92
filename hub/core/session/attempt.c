#include "core/session/attempt.h"

#include <stdlib.h>
#include <string.h>

#define SLOT_BITS 4 /* of a handle; the rest is the life of the slot, from 1 on */
#define LIFE_MAX  (UINT16_MAX >> SLOT_BITS)

static uint16_t bit_of(size_t slot)
{
    return (uint16_t)(1u << (unsigned)slot);
}

static bool is_attended(const struct attempt *attempt, size_t slot)
{
    return attempt->requests[slot].text &&
           (attempt->requests[slot].clients || (attempt->far & bit_of(slot)));
}

static bool is_fresh(const struct attempt *attempt, size_t slot)
{
    return is_attended(attempt, slot) && !(attempt->refused & bit_of(slot));
}

static bool is_text(const struct attempt_request *request, const char *path, size_t path_len,
                    const char *query, size_t query_len)
{
    return request->text && strlen(request->text) == path_len + query_len &&
           !memcmp(request->text, path, path_len) &&
           !memcmp(request->text + path_len, query, query_len);
}

/* A slot that nobody misses: a free one, one whose clients have left, a new one, at last one of
 * this node that was refused. ATTEMPT_REQUESTS: none. */
static size_t find_place(struct attempt *attempt)
{
    for (size_t i = 0; i < attempt->len; i++)
        if (!attempt->requests[i].text || (!is_attended(attempt, i) && i != attempt->current))
            return i;
    if (attempt->len < ATTEMPT_REQUESTS) {
        struct attempt_request *grown = realloc(attempt->requests,
                                                (attempt->len + 1u) * sizeof(*grown));
        if (!grown)
            return ATTEMPT_REQUESTS;
        attempt->requests = grown;
        grown[attempt->len] = (struct attempt_request){0};
        return attempt->len++;
    }
    for (size_t i = 0; i < attempt->len; i++)
        if (i != attempt->current && (attempt->refused & bit_of(i)) && !(attempt->far & bit_of(i)))
            return i;
    return ATTEMPT_REQUESTS;
}

/* Returns the slot of that URL and takes a free slot for a new one; ATTEMPT_REQUESTS if all are
 * taken. */
static size_t slot_of(struct attempt *attempt, const char *path, size_t path_len, const char *query,
                      size_t query_len)
{
    for (size_t i = 0; i < attempt->len; i++)
        if (is_text(&attempt->requests[i], path, path_len, query, query_len))
            return i;
    char *text = malloc(path_len + query_len + 1);
    size_t slot = text ? find_place(attempt) : ATTEMPT_REQUESTS;
    if (slot == ATTEMPT_REQUESTS) {
        free(text);
        return slot;
    }
    memcpy(text, path, path_len);
    memcpy(text + path_len, query, query_len);
    text[path_len + query_len] = '\0';
    struct attempt_request *request = &attempt->requests[slot];
    free(request->text);
    *request = (struct attempt_request){
        .text = text, .life = (uint16_t)(request->life < LIFE_MAX ? request->life + 1 : 1)};
    attempt->refused &= (uint16_t)~bit_of(slot);
    attempt->far &= (uint16_t)~bit_of(slot);
    return slot;
}

uint16_t attempt_come(struct attempt *attempt, const char *path, const char *query)
{
    size_t slot = slot_of(attempt, path, strlen(path), query, strlen(query));
    if (slot == ATTEMPT_REQUESTS)
        return ATTEMPT_NONE;
    attempt->requests[slot].clients++;
    return (uint16_t)((unsigned)attempt->requests[slot].life << SLOT_BITS | (unsigned)slot);
}

void attempt_leave(struct attempt *attempt, uint16_t handle)
{
    size_t slot = handle & (ATTEMPT_REQUESTS - 1);
    if (handle != ATTEMPT_NONE && slot < attempt->len &&
        attempt->requests[slot].life == (unsigned)handle >> SLOT_BITS &&
        attempt->requests[slot].clients)
        attempt->requests[slot].clients--;
}

uint16_t attempt_note(struct attempt *attempt, const char *text, size_t len)
{
    size_t slot = slot_of(attempt, text, len, "", 0);
    if (slot == ATTEMPT_REQUESTS)
        return 0;
    attempt->far |= bit_of(
        slot); /* until attempt_set_far: the next one noted must not replace it */
    return bit_of(slot);
}

void attempt_set_far(struct attempt *attempt, uint16_t mask)
{
    attempt->far = mask;
}

void attempt_adopt(struct attempt *attempt, const char *text, size_t len)
{
    size_t slot = slot_of(attempt, text, len, "", 0);
    if (slot == ATTEMPT_REQUESTS)
        return;
    attempt->current = (uint8_t)slot;
    attempt->adopted = true;
}

/* The next slot after the current one for which that holds; ATTEMPT_REQUESTS: none. */
static size_t next_slot(const struct attempt *attempt,
                        bool (*holds)(const struct attempt *attempt, size_t slot))
{
    for (size_t i = 1; i <= attempt->len; i++) {
        size_t slot = (attempt->current + i) % attempt->len;
        if (holds(attempt, slot))
            return slot;
    }
    return ATTEMPT_REQUESTS;
}

const char *attempt_choose(struct attempt *attempt)
{
    if (!attempt->len)
        return NULL;
    bool again = attempt->adopted || is_fresh(attempt, attempt->current);
    size_t slot = again ? attempt->current : next_slot(attempt, is_fresh);
    if (slot == ATTEMPT_REQUESTS)
        slot = next_slot(attempt, is_attended);
    if (slot != ATTEMPT_REQUESTS)
        attempt->current = (uint8_t)slot;
    attempt->adopted = false;
    attempt->heard = false;
    return attempt_current(attempt);
}

const char *attempt_current(const struct attempt *attempt)
{
    return attempt->len ? attempt->requests[attempt->current].text : NULL;
}

void attempt_end(struct attempt *attempt, enum attempt_verdict verdict)
{
    attempt->last_refused = verdict == ATTEMPT_REFUSED;
    if (verdict == ATTEMPT_REFUSED)
        attempt->refused |= bit_of(attempt->current);
    else if (verdict == ATTEMPT_TAKEN)
        attempt->refused &= (uint16_t)~bit_of(attempt->current);
}

bool attempt_has_fresh(const struct attempt *attempt)
{
    return attempt->len && next_slot(attempt, is_fresh) != ATTEMPT_REQUESTS;
}

bool attempt_is_attended(const struct attempt *attempt)
{
    return attempt->len && is_attended(attempt, attempt->current);
}

const char *attempt_own(const struct attempt *attempt, size_t i)
{
    return i < attempt->len && attempt->requests[i].clients ? attempt->requests[i].text : NULL;
}

void attempt_fini(struct attempt *attempt)
{
    for (size_t i = 0; i < attempt->len; i++)
        free(attempt->requests[i].text);
    free(attempt->requests);
    *attempt = (struct attempt){0};
}
