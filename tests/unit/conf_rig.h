/*
 * What tests of the configuration share: a folder for files, and loading with an expected result.
 */
#ifndef VINHUB_TESTS_CONF_RIG_H
#define VINHUB_TESTS_CONF_RIG_H

#include <stdbool.h>
#include <stddef.h>

#include "common/conf.h"

#define LEN(array)  (sizeof(array) / sizeof((array)[0]))
#define ONE_SERVICE "services: [{name: a, upstream: \"h:1/x\"}]\n"

extern char folder[64];
extern struct conf_findings findings; /* of the last load */

/* Set-up and tear-down of the group; before each test, VINHUB_ variables are removed. */
int make_folder(void **state);
int remove_folder(void **state);
int clear_environment(void **state);

/* Writes the text to a file of the folder; the path is valid until the eighth call after. */
const char *write_file(const char *name, const char *text);

/* conf_load with the text as its file (NULL: none). */
enum status load(const char *text, const struct conf_overrides *overrides, struct conf **out);
/* Loads a configuration without a mistake. */
struct conf *load_good(const char *text, const struct conf_overrides *overrides);
/* Loads a configuration with exactly that many mistakes. */
void load_bad(const char *text, const struct conf_overrides *overrides, size_t errors);
bool has_finding(const char *wanted);
void assert_finding(const char *wanted);
/* The text has one mistake, whose message contains wanted. */
void assert_mistake(const char *text, const char *wanted);

#endif
