/* The start of the one file: finds the unpacked program or unpacks it, then becomes it (exec, so one process and one pid).
 *
 * Nuitka's own onefile start is not used: it stays as a parent process that kills its child five seconds after a signal
 * (a drain takes longer, and systemd would watch the wrong pid), decompresses everything at each start even when it is
 * cached, writes the cached files in place, and knows no cache directory but the user's home.
 *
 * The file is this program, then the payload, then a trailer (payload.py writes it):
 *   payload   a zstd stream of entries { u32 mode, u32 name length, u64 size, name, bytes }, ended by name length 0
 *   trailer   { magic[8], u64 offset of the payload, u64 its size, id[32] }, integers little-endian
 *
 * It is unpacked to BASE/ID once: into a directory of another name first, which is renamed when it is whole, so that two
 * starts at once, a full disk or a cut in the middle leave nothing half. BASE is the first of these that works:
 *   $CORTEX_UNPACK_DIR (no other is tried then), $CACHE_DIRECTORY (systemd's CacheDirectory=), $XDG_CACHE_HOME/cortex,
 *   $HOME/.cache/cortex, /var/tmp/cortex-UID, /tmp/cortex-UID
 * Nobody else may write to it: what lies there is executed. A shared lock on BASE/ID is held for as long as the program
 * runs; whoever unpacks another version removes those that nobody holds and nobody has started for a week.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "zstd.h"

#define ID_LENGTH 32
#define UNUSED_S (7 * 24 * 3600)
#define PROGRAM "cortex"
#define CHOSEN "CORTEX_UNPACK_DIR"
#define DAMAGED "this file is damaged: copy it again"

struct trailer {
    char magic[8];
    uint64_t offset, size;
    char id[ID_LENGTH];
} __attribute__((packed));

struct entry {
    uint32_t mode, name_length;
    uint64_t size;
} __attribute__((packed));

struct stream {
    int fd;
    uint64_t left; /* compressed bytes that were not read yet */
    int ended;     /* the decoder has seen the end and its checksum */
    ZSTD_DCtx *context;
    ZSTD_inBuffer in;
    char buffer[1 << 16];
};

static char problem[512]; /* why the last directory could not be used */

static int fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    return -1;
}

/* ---- the payload */

static int read_all(int fd, void *to, size_t size) {
    for (char *next = to; size > 0;) {
        ssize_t count = read(fd, next, size);
        if (count <= 0 && !(count < 0 && errno == EINTR)) return -1;
        if (count > 0) next += count, size -= (size_t)count;
    }
    return 0;
}

static int write_all(int fd, const char *from, size_t size) {
    while (size > 0) {
        ssize_t count = write(fd, from, size);
        if (count < 0 && errno != EINTR) return -1;
        if (count > 0) from += count, size -= (size_t)count;
    }
    return 0;
}

static int fill(struct stream *s) {
    size_t size = s->left < sizeof s->buffer ? (size_t)s->left : sizeof s->buffer;
    if (size == 0 || read_all(s->fd, s->buffer, size) < 0) return -1;
    s->left -= size;
    s->in = (ZSTD_inBuffer){s->buffer, size, 0};
    return 0;
}

/* One step of the decoder; it may hold output back although its input is used up. */
static int step(struct stream *s, ZSTD_outBuffer *out) {
    size_t in_before = s->in.pos, out_before = out->pos;
    if (s->ended) return fail(DAMAGED);
    if (s->in.pos == s->in.size && s->left > 0) {
        if (fill(s) < 0) return fail(DAMAGED);
        in_before = 0;
    }
    size_t more = ZSTD_decompressStream(s->context, out, &s->in);
    if (ZSTD_isError(more)) return fail(DAMAGED);
    s->ended = more == 0;
    if (!s->ended && s->left == 0 && s->in.pos == in_before && out->pos == out_before) return fail(DAMAGED);
    return 0;
}

/* Exactly `size` unpacked bytes. */
static int take(struct stream *s, void *to, size_t size) {
    ZSTD_outBuffer out = {to, size, 0};
    while (out.pos < out.size)
        if (step(s, &out) < 0) return -1;
    return 0;
}

/* The end of the stream, with its checksum. */
static int finish(struct stream *s) {
    char nothing;
    ZSTD_outBuffer out = {&nothing, 0, 0};
    while (!s->ended)
        if (step(s, &out) < 0) return -1;
    return 0;
}

static int make_parents(int folder, char *name) {
    for (char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int made = mkdirat(folder, name, 0700);
        *slash = '/';
        if (made < 0 && errno != EEXIST) return -1;
    }
    return 0;
}

static int unpack_file(struct stream *s, int folder, char *name, const struct entry *entry) {
    static char piece[1 << 18];
    if (make_parents(folder, name) < 0) return fail("%s: %s", name, strerror(errno));
    int file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, entry->mode & 0755);
    if (file < 0) return fail("%s: %s", name, strerror(errno));
    int result = 0;
    for (uint64_t left = entry->size; left > 0 && result == 0;) {
        size_t size = left < sizeof piece ? (size_t)left : sizeof piece;
        result = take(s, piece, size);
        if (result == 0 && write_all(file, piece, size) < 0) result = fail("%s: %s", name, strerror(errno));
        left -= size;
    }
    if (close(file) < 0 && result == 0) result = fail("%s: %s", name, strerror(errno));
    return result;
}

static int unpack(int self, const struct trailer *trailer, int folder) {
    static struct stream s;
    static char name[PATH_MAX];
    memset(&s, 0, sizeof s);
    s.fd = self;
    s.left = trailer->size;
    s.context = ZSTD_createDCtx();
    if (!s.context) return fail("out of memory");
    int result = lseek(self, (off_t)trailer->offset, SEEK_SET) < 0 ? fail("%s", strerror(errno)) : 0;
    while (result == 0) {
        struct entry entry;
        if ((result = take(&s, &entry, sizeof entry)) < 0 || entry.name_length == 0) break;
        if (entry.name_length >= sizeof name) result = fail(DAMAGED);
        if (result == 0) result = take(&s, name, entry.name_length);
        name[entry.name_length] = 0;
        if (result == 0) result = unpack_file(&s, folder, name, &entry);
    }
    if (result == 0) result = finish(&s);
    if (result == 0 && syncfs(folder) < 0) result = fail("%s", strerror(errno)); /* a power cut leaves no empty files */
    ZSTD_freeDCtx(s.context);
    return result;
}

/* ---- the directory */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); }

/* Whether nobody but us and root can put something at `path`, or take it away. */
static int is_ours(const char *path) {
    char real[PATH_MAX];
    struct stat status;
    if (!realpath(path, real) || lstat(real, &status) < 0) return fail("%s", strerror(errno));
    if (status.st_uid != geteuid()) return fail("it belongs to another user");
    if (status.st_mode & 022) return fail("others may write to it");
    for (char *slash = strrchr(real, '/'); slash; slash = strrchr(real, '/')) {
        slash[slash == real] = 0;
        if (lstat(real, &status) < 0) return fail("%s", strerror(errno));
        if (status.st_uid != 0 && status.st_uid != geteuid()) return fail("%s belongs to another user", real);
        if ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX)) return fail("everybody may write to %s", real);
        if (slash == real) break;
    }
    return 0;
}

static int make_base(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int made = mkdir(path, 0700);
        *slash = '/';
        if (made < 0 && errno != EEXIST && errno != EROFS && errno != EACCES) return fail("%s", strerror(errno));
    }
    if (mkdir(path, 0700) < 0 && errno != EEXIST) return fail("%s", strerror(errno));
    return is_ours(path);
}

/* An open and locked BASE/ID, or -1 where there is none (yet, or any more). */
static int open_locked(const char *path) {
    struct stat opened, there;
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (folder < 0) return -1;
    if (flock(folder, LOCK_SH) == 0 && fstat(folder, &opened) == 0 && lstat(path, &there) == 0 &&
        opened.st_ino == there.st_ino && opened.st_uid == geteuid() && !(opened.st_mode & 022))
        return folder;
    close(folder);
    return fail("%s belongs to another user, or is being removed", path);
}

static int is_version(const char *name) {
    return strncmp(name, ".unpack-", 8) == 0 || (strlen(name) == ID_LENGTH && strspn(name, "0123456789abcdef") == ID_LENGTH);
}

static void remove_unused(const char *base) {
    char path[PATH_MAX];
    struct stat status;
    DIR *entries = opendir(base);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (!is_version(entry->d_name) || snprintf(path, sizeof path, "%s/%s", base, entry->d_name) >= (int)sizeof path)
            continue;
        int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0) continue;
        if (fstat(folder, &status) == 0 && time(NULL) - status.st_mtime > UNUSED_S && flock(folder, LOCK_EX | LOCK_NB) == 0)
            remove_tree(path);
        close(folder);
    }
    if (entries) closedir(entries);
}

static int unpack_to(int self, const struct trailer *trailer, const char *base, const char *path) {
    char fresh[PATH_MAX];
    if (snprintf(fresh, sizeof fresh, "%s/.unpack-XXXXXX", base) >= (int)sizeof fresh) return fail("the path is too long");
    if (!mkdtemp(fresh)) return fail("%s", strerror(errno));
    int folder = open(fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int result = folder < 0 ? fail("%s", strerror(errno)) : unpack(self, trailer, folder);
    /* Another start may have been faster: its directory is as good. */
    if (result == 0 && rename(fresh, path) < 0 && errno != ENOTEMPTY && errno != EEXIST) result = fail("%s", strerror(errno));
    if (folder >= 0) close(folder);
    char kept[sizeof problem];
    memcpy(kept, problem, sizeof kept);
    remove_tree(fresh);
    memcpy(problem, kept, sizeof kept);
    return result;
}

/* Become the program that lies in `base`. Returns only when that is not possible. */
static void run_from(int self, const struct trailer *trailer, char *base, char **argv) {
    char path[PATH_MAX], program[PATH_MAX];
    if (make_base(base) < 0) return;
    if (snprintf(path, sizeof path, "%s/%.*s", base, ID_LENGTH, trailer->id) >= (int)sizeof path ||
        snprintf(program, sizeof program, "%s/%s", path, PROGRAM) >= (int)sizeof program) {
        fail("the path is too long");
        return;
    }
    int folder = open_locked(path);
    if (folder < 0) {
        if (unpack_to(self, trailer, base, path) < 0) return;
        remove_unused(base);
        if ((folder = open_locked(path)) < 0) return;
    }
    futimens(folder, NULL); /* started today */
    unsetenv(CHOSEN); /* the program takes CORTEX_… for keys of its configuration */
    execv(program, argv);
    fail("%s cannot be run: %s%s", program, strerror(errno), errno == EACCES ? " (is it mounted noexec?)" : "");
    close(folder);
}

static int read_trailer(int self, struct trailer *trailer) {
    off_t end = lseek(self, 0, SEEK_END);
    if (end < (off_t)sizeof *trailer || lseek(self, end - (off_t)sizeof *trailer, SEEK_SET) < 0) return -1;
    if (read_all(self, trailer, sizeof *trailer) < 0 || memcmp(trailer->magic, "CORTEXF1", 8) != 0) return -1;
    return trailer->offset + trailer->size + sizeof *trailer == (uint64_t)end ? 0 : -1;
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && value[0] == '/' ? value : NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    struct trailer trailer;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self < 0 || read_trailer(self, &trailer) < 0) {
        fprintf(stderr, self < 0 ? "cortex: /proc is not mounted, and cortex needs it\n"
                                 : "cortex: " DAMAGED " (was it stripped?)\n");
        return 1;
    }
    char temporary[64], base[PATH_MAX];
    snprintf(temporary, sizeof temporary, "cortex-%u", (unsigned)geteuid());
    const char *chosen = variable(CHOSEN);
    const struct { const char *root, *below; } places[] = {
        {chosen, ""},
        {variable("CACHE_DIRECTORY"), ""},
        {variable("XDG_CACHE_HOME"), "/" PROGRAM},
        {variable("HOME"), "/.cache/" PROGRAM},
        {"/var/tmp/", temporary},
        {"/tmp/", temporary},
    };
    char said[(sizeof places / sizeof *places) * (sizeof base + sizeof problem + 8)] = "";
    for (size_t i = 0; i < (chosen ? 1 : sizeof places / sizeof *places); i++) {
        if (!places[i].root) continue;
        /* CACHE_DIRECTORY may hold several, parted by colons. */
        int length = (int)strcspn(places[i].root, i == 1 ? ":" : "");
        if (snprintf(base, sizeof base, "%.*s%s", length, places[i].root, places[i].below) >= (int)sizeof base) continue;
        run_from(self, &trailer, base, argv);
        if (strcmp(problem, DAMAGED) == 0) {
            fprintf(stderr, "cortex: " DAMAGED "\n");
            return 1;
        }
        size_t used = strlen(said);
        snprintf(said + used, sizeof said - used, "\n  %s: %s", base, problem);
    }
    fprintf(stderr, "cortex: there is no directory to unpack to; name one that only this user can write and that has"
                    " 200 MB free with " CHOSEN ":%s\n", said);
    return 1;
}
