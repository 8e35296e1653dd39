/* The start of the one file: finds the unpacked program or unpacks it, then becomes it (exec, so one process and one pid).
 *
 * Nuitka's own onefile start is not used: it stays as a parent process that kills its child five seconds after a signal
 * (a drain takes longer, and systemd would watch the wrong pid), decompresses everything at each start even when it is
 * cached, writes the cached files in place, and knows no cache directory but the user's home.
 *
 * The file is this program, then the payload (payload.c), then a trailer (launcher.h). The program is unpacked to BASE/ID
 * once (cache.c). BASE is the first of these that works:
 *   $CORTEX_UNPACK_DIR (no other is tried then), $CACHE_DIRECTORY (systemd's CacheDirectory=), $XDG_CACHE_HOME/cortex,
 *   $HOME/.cache/cortex, /var/tmp/cortex-UID, /tmp/cortex-UID
 */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHOSEN "CORTEX_UNPACK_DIR"
#define SERVICE "CACHE_DIRECTORY"

/* As the program itself ends (README.md, exit codes): systemd starts again after the first, and not after the others. */
enum { TRY_AGAIN = 1, MISTAKE = 2, BROKEN = 4 };

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && value[0] == '/' ? value : NULL;
}

/* Become the program that lies in `base`, after a word on `instead_of`, if any. Returns only when that is not possible. */
static void run_from(int self, const struct trailer *trailer, char *base, const char *instead_of, char **argv) {
    char program[PATH_MAX];
    if (make_base(base) < 0) return;
    int folder = open_program(self, trailer, base);
    if (folder < 0) return;
    if (snprintf(program, sizeof program, "%s/%.*s/%s", base, ID_LENGTH, trailer->id, PROGRAM) >= (int)sizeof program) {
        fail("the path is too long");
    } else {
        if (instead_of) say("unpacked to %s, as another directory cannot be used: %s", base, instead_of);
        futimens(folder, NULL); /* started today */
        unsetenv(CHOSEN);       /* the program takes CORTEX_… for keys of its configuration */
        execv(program, argv);
        failed(program);
    }
    close(folder);
}

int main(int argc, char **argv) {
    (void)argc;
    struct trailer trailer;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self < 0) {
        say("/proc is not mounted, and cortex needs it");
        return MISTAKE;
    }
    if (read_trailer(self, &trailer) < 0) {
        damaged();
        say("%s (was it stripped?)", reason);
        return BROKEN;
    }
    char temporary[64], base[PATH_MAX];
    snprintf(temporary, sizeof temporary, PROGRAM "-%u", (unsigned)geteuid());
    const char *named = getenv(CHOSEN);
    if (named && *named && *named != '/') {
        say(CHOSEN " is '%s', and an absolute path is wanted", named);
        return MISTAKE;
    }
    const char *chosen = variable(CHOSEN), *service = variable(SERVICE);
    const struct { const char *root, *below; } places[] = {
        {chosen, ""},
        {service, ""},
        {variable("XDG_CACHE_HOME"), "/" PROGRAM},
        {variable("HOME"), "/.cache/" PROGRAM},
        {"/var/tmp/", temporary},
        {"/tmp/", temporary},
    };
    char said[(sizeof places / sizeof *places) * (sizeof base + sizeof reason + 8)] = "";
    int full = 0;
    for (size_t i = 0; i < (chosen ? 1 : sizeof places / sizeof *places); i++) {
        if (!places[i].root) continue;
        /* CACHE_DIRECTORY may hold several, parted by colons. */
        int length = (int)strcspn(places[i].root, i == 1 ? ":" : "");
        if (snprintf(base, sizeof base, "%.*s%s", length, places[i].root, places[i].below) >= (int)sizeof base) continue;
        run_from(self, &trailer, base, service && *said ? said : NULL, argv);
        if (problem == DAMAGED) {
            say("%s", reason);
            return BROKEN;
        }
        full |= problem == FULL;
        size_t used = strlen(said);
        snprintf(said + used, sizeof said - used, "%s%s: %s", used ? "; " : "", base, reason);
    }
    say("there is no directory to unpack to (%s); make room there, or name one that only this user can write with " CHOSEN, said);
    return full ? TRY_AGAIN : MISTAKE;
}
