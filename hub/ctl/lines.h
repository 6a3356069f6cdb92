/*
 * A growing text, and splitting of input into lines.
 */
#ifndef VINHUB_CTL_LINES_H
#define VINHUB_CTL_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct ctl_text {
    char *at; /* malloc'd, not terminated; NULL: nothing was added */
    size_t len, cap;
};

/* Returns false if the text would be longer than 64 MiB. Aborts if memory runs out. */
bool text_add(struct ctl_text *text, const char *data, size_t len);

/* Called with a line of len bytes, without LF or CRLF, and terminated. Returns false to end. */
typedef bool line_fn(void *ctx, const char *line, size_t len);

/* Calls fn for each line that is complete now; *rest keeps the incomplete one. Returns false if fn
 * did, or if a line is too long. */
bool lines_add(struct ctl_text *rest, const char *data, size_t len, line_fn *fn, void *ctx);

#endif
