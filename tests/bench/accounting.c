#include "accounting.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The number at this place in the first line of a file; 0 if there is none. */
static uint64_t number_in(const char *path, unsigned place)
{
    char line[256];
    uint64_t number = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    char *at = fgets(line, sizeof(line), file);
    for (unsigned i = 0; at && i <= place; i++)
        number = strtoull(at, &at, 10);
    fclose(file);
    return number;
}

/* The first number of schedstat is time on a processor in ns, where utime and stime of stat are the
 * same in units of 10 ms. */
static uint64_t of_thread(pid_t pid, const char *thread)
{
    char path[320];
    snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, thread);
    return number_in(path, 0);
}

uint64_t cpu_ns_of(pid_t pid)
{
    char path[64];
    uint64_t sum = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    if (!threads)
        return 0;
    for (struct dirent *entry; (entry = readdir(threads)) != NULL;)
        if (entry->d_name[0] != '.')
            sum += of_thread(pid, entry->d_name);
    closedir(threads);
    return sum;
}

uint64_t rss_of(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    return number_in(path, 1) * (uint64_t)sysconf(_SC_PAGESIZE);
}
