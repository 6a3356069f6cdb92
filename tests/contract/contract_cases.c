#include "contract_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct contract_rig *current_rig;
static int (*before_each)(void **state);
static int (*after_each)(void **state);

static int set_up(void **state)
{
    (void)state;
    void *rig = current_rig;
    return before_each(&rig);
}

static int tear_down(void **state)
{
    (void)state;
    void *rig = current_rig;
    rig_clear(current_rig);
    return after_each(&rig);
}

static void run_case(void **state)
{
    const struct contract_case *contract_case = *state;
    contract_case->run(current_rig);
}

static size_t add_cases(struct CMUnitTest *tests, size_t len, const struct contract_case *cases,
                        size_t cases_len)
{
    for (size_t i = 0; i < cases_len; i++)
        tests[len + i] = (struct CMUnitTest){cases[i].name, run_case, set_up, tear_down,
                                             (void *)&cases[i]};
    return len + cases_len;
}

int cases_run(const char *name, struct contract_rig *rig, int (*before)(void **state),
              int (*after)(void **state))
{
    size_t total = cases_nodes_len + cases_ownership_len + cases_messages_len, len = 0;
    struct CMUnitTest *tests = calloc(total, sizeof(*tests));
    if (!tests)
        abort();
    current_rig = rig;
    before_each = before;
    after_each = after;
    len = add_cases(tests, len, cases_nodes, cases_nodes_len);
    len = add_cases(tests, len, cases_ownership, cases_ownership_len);
    len = add_cases(tests, len, cases_messages, cases_messages_len);
    int failed = _cmocka_run_group_tests(name, tests, len, NULL, NULL);
    free(tests);
    return failed;
}
