/*
 * The command line of `load`.
 */
#ifndef BENCH_LOAD_OPTIONS_H
#define BENCH_LOAD_OPTIONS_H

#include "shared.h"

/* Fills in defaults and what the line says; ends the program where it makes no sense. */
void load_options(struct load_options *options, int argc, char **argv);

#endif
