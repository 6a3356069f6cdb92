/*
 * The records for people (contract section 11), where they become JSON: which of their fields are
 * words and which are numbers.
 */
#ifndef VINHUB_COMMON_RECORD_FIELDS_H
#define VINHUB_COMMON_RECORD_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the value of that field is a number in JSON: it looks like one, and the field is not one
 * that always holds a word (a node may be called 7). */
bool record_is_number(const char *field, const char *value, size_t len);

#endif
