/* Runs a fuzz target over the files of its corpus, without libFuzzer, so that each past finding
 * is tried again. Prints TAP. */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static int replay_file(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return -1;
    static uint8_t bytes[1 << 20];
    size_t len = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    uint8_t *exact = malloc(len); /* so that a read past the end is seen */
    memcpy(exact, bytes, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (!folder) {
        printf("not ok - corpus %s can't be read\n", argc == 2 ? argv[1] : "(none named)");
        return 1;
    }
    size_t files = 0;
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.' && replay_file(argv[1], entry->d_name) == 0)
            files++;
    }
    closedir(folder);
    printf("%s - %zu inputs of %s\n", files > 0 ? "ok" : "not ok", files, argv[1]);
    return files > 0 ? 0 : 1;
}
