/* What people and systemd hear: why something cannot be done, and how far an unpacking is that takes its time. */

#include "launcher.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define QUIET_S 2  /* an unpacking that is done by then needs no words */
#define EVERY_S 5
#define PATIENCE_S 60 /* what systemd is asked for with each of them */

enum problem problem;
char reason[512];

static struct {
    const char *base;
    uint64_t size, done;
    time_t next;
} unpacking;

int fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    problem = UNFIT;
    return -1;
}

int failed(const char *what) {
    int is_full = errno == ENOSPC || errno == EDQUOT;
    fail(*what ? "%s: %s" : "%s%s", what, strerror(errno));
    if (is_full) problem = FULL;
    return -1;
}

int damaged(void) {
    fail("this file is damaged: copy it again");
    problem = DAMAGED;
    return -1;
}

void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs(PROGRAM ": ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/* sd_notify(3): one datagram; `@` in front means an abstract socket. Who does not listen stops nothing. */
static void notify(const char *state) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *address = getenv("NOTIFY_SOCKET");
    size_t length = address ? strlen(address) : 0;
    if (length == 0 || length >= sizeof to.sun_path) return;
    memcpy(to.sun_path, address, length);
    if (*address == '@') to.sun_path[0] = 0;
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sender < 0) return;
    sendto(sender, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(sender);
}

void waiting(const char *status, int seconds) {
    char state[256];
    snprintf(state, sizeof state, "STATUS=%s\nEXTEND_TIMEOUT_USEC=%d000000", status, seconds);
    notify(state);
}

static time_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

void progress_begins(const char *base, uint64_t size) {
    unpacking.base = base, unpacking.size = size, unpacking.done = 0, unpacking.next = now() + QUIET_S;
}

void progress(uint64_t bytes) {
    unpacking.done += bytes;
    if (!unpacking.size || now() < unpacking.next) return;
    unpacking.next = now() + EVERY_S;
    char status[128];
    snprintf(status, sizeof status, "unpacking, once for this version: %u%% of %llu MB",
             (unsigned)(unpacking.done * 100 / unpacking.size), (unsigned long long)unpacking.size / MEGABYTE);
    say("%s, to %s", status, unpacking.base);
    waiting(status, PATIENCE_S);
}
