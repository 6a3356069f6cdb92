#include "fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"

uint8_t fuzz_byte(struct fuzz_input *input)
{
    if (input->len == 0)
        return 0;
    input->len--;
    return *input->at++;
}

unsigned fuzz_below(struct fuzz_input *input, unsigned bound)
{
    return fuzz_byte(input) % bound;
}

uint64_t fuzz_number(struct fuzz_input *input)
{
    static const uint64_t edges[] = {INT8_MAX,  UINT8_MAX,  INT16_MAX,         UINT16_MAX,
                                     INT32_MAX, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(1) << 53,
                                     INT64_MAX, UINT64_MAX};
    uint8_t first = fuzz_byte(input);
    if (first < 200)
        return first;
    if (first < 240)
        return edges[(first - 200) / 4] + (uint64_t)(first % 4) - 1;
    uint64_t number = 0;
    for (unsigned bytes = 1 + first % 8; bytes > 0; bytes--)
        number = number << 8 | fuzz_byte(input);
    return number;
}

struct slice fuzz_slice(struct fuzz_input *input)
{
    size_t len = fuzz_byte(input);
    if (len >= 240)
        len = (len - 240) << 8 | fuzz_byte(input);
    if (len > input->len)
        len = input->len;
    struct slice slice = {(const char *)input->at, len};
    input->at += len;
    input->len -= len;
    return slice;
}

struct slice fuzz_rest(struct fuzz_input *input)
{
    struct slice slice = {(const char *)input->at, input->len};
    input->at += input->len;
    input->len = 0;
    return slice;
}

void *fuzz_copy(struct slice bytes)
{
    void *copy = malloc(bytes.len);
    if (bytes.len > 0)
        memcpy(copy, bytes.at, bytes.len);
    return copy;
}

char *fuzz_text(struct slice bytes)
{
    return bytes.at ? strndup(bytes.at, bytes.len) : strdup("");
}

const char *fuzz_file(const void *content, size_t len)
{
    static char name[64];
    static int fd = -1;
    if (fd >= 0)
        close(fd);
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, content, len) != (ssize_t)len)
        abort();
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    return name;
}

struct conf *fuzz_conf(const char *yaml)
{
    struct conf_findings findings = {0};
    struct conf *conf = NULL;
    if (conf_load(fuzz_file(yaml, strlen(yaml)), NULL, &findings, &conf) != STATUS_OK) {
        for (size_t i = 0; i < findings.len; i++)
            fprintf(stderr, "%s\n", findings.lines[i]);
        abort();
    }
    conf_findings_fini(&findings);
    return conf;
}

static bool talks;

__attribute__((constructor)) static void set_log(void)
{
    talks = getenv("FUZZ_LOG") != NULL;
    log_configure(talks ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "");
}

void fuzz_say(const char *format, ...)
{
    if (!talks)
        return;
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}
