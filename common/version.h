/*
 * Which vinhub this is.
 */
#ifndef VINHUB_COMMON_VERSION_H
#define VINHUB_COMMON_VERSION_H

/* "0.2.0": what nodes tell each other and operators. */
const char *version_number(void);
/* "0.2.0 (commit 0123456789ab)": the commit it was built from, "-modified" behind it where files
 * differed from that commit; "0.2.0" alone where the commit was not known (a copy without git). */
const char *version_full(void);

#endif
