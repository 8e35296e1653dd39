/* Where the program lies: BASE/ID. It is executed, so nobody else may write there, and nothing half may have that name.
 *
 *   - It is unpacked to another name and renamed when it is whole: a full disk or a cut in the middle leave nothing half.
 *   - One start at a time unpacks (a lock on BASE); the others wait, and find it.
 *   - Whoever runs it holds a shared lock on BASE/ID. Versions that nobody holds and nobody has started for a week are removed
 *     by the next one that is unpacked. systemd-tmpfiles, which removes old files below /tmp, honours the lock as well.
 *   - Files that went missing meanwhile are noticed, and it is unpacked anew. */

#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define UNUSED_S (7 * 24 * 3600)
#define BEGUN ".unpack-"
#define DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define ROUNDING (8 * MEGABYTE) /* files take whole blocks */
#define PATIENT_TENTHS 20
#define ANOTHER_S 600 /* what systemd is asked for, and no more: it may hang */

/* ---- the directory */

/* Whether nobody but us and root can put something at `path`, or take it away: what the folders above it say. No link is in it. */
static int is_kept(const char *path) {
    char above[PATH_MAX];
    struct stat status;
    snprintf(above, sizeof above, "%s", path);
    for (char *slash = strrchr(above, '/'); slash; slash = strrchr(above, '/')) {
        slash[slash == above] = 0;
        if (lstat(above, &status) < 0) return failed("");
        if (status.st_uid != 0 && status.st_uid != geteuid()) return fail("%s belongs to another user", above);
        if ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX)) return fail("everybody may write to %s", above);
        if (slash == above) break;
    }
    return 0;
}

static int is_ours(const char *path) {
    struct stat status;
    if (lstat(path, &status) < 0) return failed("");
    if (!S_ISDIR(status.st_mode)) return fail("it is no directory");
    if (status.st_uid != geteuid()) return fail("it belongs to another user");
    if (status.st_mode & 022) return fail("others may write to it");
    return is_kept(path);
}

/* The real path takes the place of `base`, as far as it is there: who owns a link may turn it while we are at work. */
static int follow_links(char *base) {
    char there[PATH_MAX], real[PATH_MAX], whole[PATH_MAX];
    snprintf(there, sizeof there, "%s", base);
    while (!realpath(there, real)) {
        char *slash = strrchr(there, '/');
        if (errno != ENOENT) return failed("");
        slash[slash == there] = 0; /* the root is there */
    }
    const char *rest = strcmp(there, "/") == 0 ? base : base + strlen(there);
    int length = snprintf(whole, sizeof whole, "%s%s", strcmp(real, "/") == 0 && *rest ? "" : real, rest);
    if (length >= (int)sizeof whole) return fail("the path is too long");
    memcpy(base, whole, (size_t)length + 1);
    return 0;
}

/* Nothing is made in a folder of somebody else. */
static int make_folder(const char *path) {
    struct stat status;
    if (lstat(path, &status) == 0) return 0;
    if (errno != ENOENT) return failed("");
    if (is_kept(path) < 0) return -1;
    return mkdir(path, 0700) < 0 && errno != EEXIST ? failed("") : 0;
}

int make_base(char *base) {
    struct statvfs disk;
    if (follow_links(base) < 0) return -1;
    for (char *slash = strchr(base + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int made = make_folder(base);
        *slash = '/';
        if (made < 0) return -1;
    }
    if (make_folder(base) < 0 || is_ours(base) < 0) return -1;
    if (statvfs(base, &disk) == 0 && (disk.f_flag & ST_NOEXEC)) return fail("it is mounted noexec");
    return 0;
}

static int has_room(const char *base, uint64_t size) {
    struct statvfs disk;
    if (size == 0 || statvfs(base, &disk) < 0 || disk.f_blocks == 0) return 0; /* writing will tell */
    uint64_t blocks = geteuid() == 0 ? disk.f_bfree : disk.f_bavail, room = blocks * disk.f_frsize;
    if (room >= size + ROUNDING) return 0;
    fail("%llu MB are needed, and %llu MB are free", (unsigned long long)(size + ROUNDING) / MEGABYTE,
         (unsigned long long)room / MEGABYTE);
    problem = FULL;
    return -1;
}

static int path_below(char *path, const char *base, const char *name) {
    return snprintf(path, PATH_MAX, "%s/%.*s", base, ID_LENGTH, name) < PATH_MAX ? 0 : fail("the path is too long");
}

/* ---- what lies in it */

/* -1 where there is no whole program (yet, or any more). */
static int open_whole(const char *path) {
    struct stat opened, there;
    int folder = open(path, DIRECTORY);
    if (folder < 0) return failed("");
    if (flock(folder, LOCK_SH) < 0)
        failed("it cannot be locked");
    else if (fstat(folder, &opened) < 0 || lstat(path, &there) < 0 || opened.st_ino != there.st_ino)
        fail("it is being removed");
    else if (opened.st_uid != geteuid() || (opened.st_mode & 022))
        fail("%s belongs to another user", path);
    else if (!is_whole(folder))
        fail("files are missing in %s", path);
    else
        return folder;
    close(folder);
    return -1;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); }

static int is_begun(const char *name) { return strncmp(name, BEGUN, strlen(BEGUN)) == 0; }

static int is_version(const char *name) {
    return strlen(name) == ID_LENGTH && strspn(name, "0123456789abcdef") == ID_LENGTH;
}

static void remove_unless_used(const char *path, time_t rested_s) {
    struct stat status;
    int folder = open(path, DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    if (fstat(folder, &status) == 0 && time(NULL) - status.st_mtime >= rested_s && flock(folder, LOCK_EX | LOCK_NB) == 0)
        remove_tree(path);
    close(folder);
}

/* Versions that have rested for a week; at once what was begun and not ended, as nobody else unpacks now. */
static void clean_up(const char *base) {
    char path[PATH_MAX];
    DIR *entries = opendir(base);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (!is_begun(entry->d_name) && !is_version(entry->d_name)) continue;
        if (path_below(path, base, entry->d_name) == 0)
            remove_unless_used(path, is_begun(entry->d_name) ? 0 : UNUSED_S);
    }
    if (entries) closedir(entries);
}

/* ---- unpacking */

static int new_folder(char *path, const char *base) {
    if (path_below(path, base, BEGUN "XXXXXX") < 0) return -1;
    return mkdtemp(path) ? 0 : failed("");
}

/* A program that is not whole any more gets another name: it may be running. */
static int set_aside(const char *path, const char *base) {
    char aside[PATH_MAX];
    if (access(path, F_OK) < 0) return 0;
    if (new_folder(aside, base) < 0) return -1;
    return rename(path, aside) < 0 ? failed("") : 0;
}

static int unpack_to(int self, const struct trailer *trailer, const char *base, const char *path) {
    char fresh[PATH_MAX];
    uint64_t size = unpacked_size(self, trailer);
    if (set_aside(path, base) < 0) return -1;
    clean_up(base);
    if (has_room(base, size) < 0 || new_folder(fresh, base) < 0) return -1;
    int folder = open(fresh, DIRECTORY | O_CLOEXEC);
    progress_begins(base, size);
    int result = folder < 0 ? failed("") : unpack(self, trailer, folder);
    if (result == 0 && rename(fresh, path) < 0) result = failed("");
    if (folder >= 0) close(folder);
    if (result < 0) remove_tree(fresh);
    return result;
}

/* The lock of whoever unpacks to `base`; it ends with the file descriptor. */
static int lock_base(const char *base) {
    int result, lock = open(base, DIRECTORY | O_CLOEXEC);
    if (lock < 0) return failed("");
    for (int tenths = 0; (result = flock(lock, LOCK_EX | LOCK_NB)) < 0 && errno == EWOULDBLOCK; tenths++) {
        if (tenths == PATIENT_TENTHS) {
            say("another start is unpacking to %s: waiting for it", base);
            waiting("another start is unpacking", ANOTHER_S);
        }
        usleep(100 * 1000);
    }
    if (result == 0) return lock;
    failed("it cannot be locked");
    close(lock);
    return -1;
}

int open_program(int self, const struct trailer *trailer, const char *base) {
    char path[PATH_MAX];
    if (path_below(path, base, trailer->id) < 0) return -1;
    int folder = open_whole(path);
    if (folder >= 0) return folder;
    int lock = lock_base(base);
    if (lock < 0) return -1;
    if ((folder = open_whole(path)) < 0 && unpack_to(self, trailer, base, path) == 0) folder = open_whole(path);
    close(lock);
    return folder;
}
