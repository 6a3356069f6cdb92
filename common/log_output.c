#include "common/log_output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file that standard error was at the last write, and how it is written. */
static struct {
    bool known;
    dev_t dev;
    ino_t ino;
    mode_t kind;
    int own; /* opened by this process alone, does not block; -1: it could not be opened */
} output = {.own = -1};

static void look_at(const struct stat *file)
{
    if (output.own >= 0)
        close(output.own);
    output.known = true;
    output.dev = file->st_dev;
    output.ino = file->st_ino;
    output.kind = file->st_mode & S_IFMT;
    output.own = -1;
    if (output.kind == S_IFIFO || output.kind == S_IFCHR)
        output.own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/*
 * For a pipe or a terminal that can't be opened anew, because it belongs to another user or nobody
 * reads it. When poll reports a pipe writable, a page fits into it, so a write of a page does not
 * block, unless another process fills the pipe in between. No call closes that gap.
 */
static ssize_t write_where_it_fits(const char *bytes, size_t len)
{
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0)
        return 0;
    return write(STDERR_FILENO, bytes, len < PIPE_BUF ? len : PIPE_BUF);
}

static ssize_t write_once(const char *bytes, size_t len)
{
    if (output.kind == S_IFSOCK)
        return send(STDERR_FILENO, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (output.own >= 0)
        return write(output.own, bytes, len);
    if (output.kind == S_IFIFO || output.kind == S_IFCHR)
        return write_where_it_fits(bytes, len);
    return write(STDERR_FILENO, bytes, len); /* a file on a disk */
}

ssize_t log_output_write(const char *bytes, size_t len)
{
    struct stat file;
    if (fstat(STDERR_FILENO, &file) != 0)
        return -1;
    bool same = output.known && output.dev == file.st_dev && output.ino == file.st_ino;
    if (!same)
        look_at(&file);
    ssize_t written;
    do {
        written = write_once(bytes, len);
    } while (written < 0 && errno == EINTR);
    return written;
}

void log_output_await(int at_most_ms)
{
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    (void)poll(&ready, 1, at_most_ms);
}
