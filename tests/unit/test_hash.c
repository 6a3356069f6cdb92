/* The hash of the program's tables: the paper's values, and a key of its own for each process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/hash.h"

static void it_is_the_one_of_the_paper(void **state)
{
    (void)state;
    /* SipHash: a fast short-input PRF, appendix A: SipHash-2-4 of 00 01 .. 0e */
    const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    uint8_t input[15];
    for (size_t i = 0; i < sizeof(input); i++)
        input[i] = (uint8_t)i;
    assert_true(hash_keyed(key, 2, 4, input, sizeof(input)) == UINT64_C(0xa129ca6149be45e5));
}

static void every_byte_and_the_length_count(void **state)
{
    (void)state;
    char text[64] = {0};
    for (size_t len = 1; len < sizeof(text); len++) {
        uint32_t before = hash_bytes(text, len);
        assert_int_equal(hash_bytes(text, len), before);
        assert_true(hash_bytes(text, len - 1) != before);
        for (size_t i = 0; i < len; i++) {
            text[i] = 1;
            assert_true(hash_bytes(text, len) != before);
            text[i] = 0;
        }
    }
}

static uint32_t hash_of_another_process(void)
{
    int ends[2];
    uint32_t hash = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        hash = hash_bytes("svc:v1", 6);
        _exit(write(ends[1], &hash, sizeof(hash)) == sizeof(hash) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(read(ends[0], &hash, sizeof(hash)), sizeof(hash));
    close(ends[0]);
    close(ends[1]);
    return hash;
}

/* Runs first: forked before this process has drawn its key, each child draws its own. */
static void each_process_has_a_key_of_its_own(void **state)
{
    (void)state;
    assert_true(hash_of_another_process() != hash_of_another_process() ||
                hash_of_another_process() != hash_of_another_process());
}

struct entry {
    char name[16];
    UT_hash_handle hh;
};

static void tables_are_walked_in_the_order_of_insertion(void **state)
{
    (void)state;
    static struct entry entries[1000];
    struct entry *table = NULL, *entry, *next;
    for (size_t i = 0; i < 1000; i++) {
        snprintf(entries[i].name, sizeof(entries[i].name), "%zu", i);
        HASH_ADD_STR(table, name, &entries[i]);
    }
    size_t i = 0;
    HASH_ITER (hh, table, entry, next)
        assert_ptr_equal(entry, &entries[i++]);
    HASH_FIND_STR(table, "777", entry);
    assert_ptr_equal(entry, &entries[777]);
    HASH_CLEAR(hh, table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_process_has_a_key_of_its_own),
        cmocka_unit_test(it_is_the_one_of_the_paper),
        cmocka_unit_test(every_byte_and_the_length_count),
        cmocka_unit_test(tables_are_walked_in_the_order_of_insertion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
