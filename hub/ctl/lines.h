/*
 * Bytes that grow, and what comes in lines.
 */
#ifndef VINHUB_CTL_LINES_H
#define VINHUB_CTL_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct ctl_text {
    char *at; /* malloc'd, not terminated; NULL: nothing was added */
    size_t len, cap;
};

/* False: it would be more than 64 MiB. Aborts where memory runs out. */
bool text_add(struct ctl_text *text, const char *data, size_t len);

/* A line of len bytes, terminated, without its end: LF or CRLF. False ends the reading. */
typedef bool line_fn(void *ctx, const char *line, size_t len);

/* Gives each line that is whole now; *rest keeps what is not. False: fn has ended it, or a line is
 * too long. */
bool lines_add(struct ctl_text *rest, const char *data, size_t len, line_fn *fn, void *ctx);

#endif
