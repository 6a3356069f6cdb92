#include "bus/redis_output.h"

#include <stdlib.h>
#include <string.h>

#define REQUEST_BYTES 1024
/* A turn mostly has one request or a few; where it has many, each chunk is as large as what waits
 * already. */
#define CHUNK_BYTES_MIN ((size_t)4 * 1024)
#define CHUNK_BYTES_MAX ((size_t)64 * 1024)
#define DIGITS_MAX      20

void *redis_claim_memory(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL)
        abort();
    return memory;
}

char *redis_copy_text(const char *text)
{
    char *copy = strdup(text != NULL ? text : "");
    if (copy == NULL)
        abort();
    return copy;
}

static char *request_reserve(struct redis_request *request, size_t len)
{
    if (request->cap - request->len < len) {
        size_t cap = request->cap > 0 ? request->cap : REQUEST_BYTES;
        while (cap - request->len < len)
            cap *= 2;
        char *bytes = realloc(request->bytes, cap);
        if (bytes == NULL)
            abort();
        request->bytes = bytes;
        request->cap = cap;
    }
    char *at = request->bytes + request->len;
    request->len += len;
    return at;
}

/* Writes the digits so that they end before `end`; returns where they begin. printf would take more
 * time than all the rest of a request, which has dozens of numbers. */
static char *write_number(char *end, uint64_t number)
{
    do {
        *--end = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return end;
}

static void request_head(struct redis_request *request, char mark, size_t number)
{
    char head[1 + DIGITS_MAX + 2], *end = head + sizeof(head);
    memcpy(end - 2, "\r\n", 2);
    char *at = write_number(end - 2, number);
    *--at = mark;
    memcpy(request_reserve(request, (size_t)(end - at)), at, (size_t)(end - at));
}

void redis_request_begin(struct redis_request *request, size_t argc)
{
    request_head(request, '*', argc);
}

void redis_request_add(struct redis_request *request, struct slice argument)
{
    request_head(request, '$', argument.len);
    char *at = request_reserve(request, argument.len + 2);
    if (argument.len > 0)
        memcpy(at, argument.at, argument.len);
    /* A request has no terminator. NOLINTNEXTLINE(bugprone-not-null-terminated-result) */
    memcpy(at + argument.len, "\r\n", 2);
}

void redis_request_text(struct redis_request *request, const char *argument)
{
    redis_request_add(request, slice_of(argument));
}

void redis_request_number(struct redis_request *request, uint64_t argument)
{
    char text[DIGITS_MAX], *end = text + sizeof(text), *at = write_number(end, argument);
    redis_request_add(request, (struct slice){at, (size_t)(end - at)});
}

void redis_request_append(struct redis_request *request, const struct redis_request *arguments)
{
    if (arguments->len > 0)
        memcpy(request_reserve(request, arguments->len), arguments->bytes, arguments->len);
}

void redis_request_fini(struct redis_request *request)
{
    free(request->bytes);
    *request = (struct redis_request){0};
}

void redis_output_append(struct redis_output *output, const struct redis_request *request)
{
    struct redis_chunk *last = output->last;
    if (last == NULL || last->cap - last->len < request->len) {
        size_t cap = output->bytes < CHUNK_BYTES_MAX ? output->bytes : CHUNK_BYTES_MAX;
        if (cap < CHUNK_BYTES_MIN)
            cap = CHUNK_BYTES_MIN;
        if (cap < request->len)
            cap = request->len;
        struct redis_chunk *chunk = malloc(sizeof(*chunk) + cap);
        if (chunk == NULL)
            abort();
        *chunk = (struct redis_chunk){.cap = cap};
        if (last == NULL)
            output->first = chunk;
        else
            last->next = chunk;
        output->last = last = chunk;
    }
    memcpy(last->bytes + last->len, request->bytes, request->len);
    last->len += request->len;
    output->bytes += request->len;
}

struct redis_chunk *redis_output_take(struct redis_output *output)
{
    struct redis_chunk *chunk = output->first;
    if (chunk == NULL)
        return NULL;
    output->first = chunk->next;
    if (output->first == NULL)
        output->last = NULL;
    output->bytes -= chunk->len;
    return chunk;
}

void redis_output_clear(struct redis_output *output)
{
    struct redis_chunk *chunk;
    while ((chunk = redis_output_take(output)) != NULL)
        free(chunk);
}
