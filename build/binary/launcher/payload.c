/* What is in the file: a zstd stream of entries { u32 mode, u32 name length, u64 size, name, bytes }, ended by name length 0.
 *
 * The last file that is unpacked is LIST, which names all the others with their sizes. */

#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "zstd.h"

#define LIST ".files"
#define DISK_S 600 /* systemd is asked for, to write all of it to a slow disk */

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

int read_trailer(int self, struct trailer *trailer) {
    off_t end = lseek(self, 0, SEEK_END);
    if (end < (off_t)sizeof *trailer || lseek(self, end - (off_t)sizeof *trailer, SEEK_SET) < 0) return -1;
    if (read_all(self, trailer, sizeof *trailer) < 0 || memcmp(trailer->magic, "CORTEXF1", 8) != 0) return -1;
    return trailer->offset + trailer->size + sizeof *trailer == (uint64_t)end ? 0 : -1;
}

uint64_t unpacked_size(int self, const struct trailer *trailer) {
    char header[18]; /* the longest of a zstd frame */
    ssize_t count = pread(self, header, sizeof header, (off_t)trailer->offset);
    unsigned long long size = count > 0 ? ZSTD_getFrameContentSize(header, (size_t)count) : 0;
    return size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR ? 0 : size;
}

/* ---- the stream */

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
    if (s->ended) return damaged();
    if (s->in.pos == s->in.size && s->left > 0) {
        if (fill(s) < 0) return damaged();
        in_before = 0;
    }
    size_t more = ZSTD_decompressStream(s->context, out, &s->in);
    if (ZSTD_isError(more)) return damaged();
    s->ended = more == 0;
    if (!s->ended && s->left == 0 && s->in.pos == in_before && out->pos == out_before) return damaged();
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

/* ---- its files */

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
    if (make_parents(folder, name) < 0) return failed(name);
    int file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, entry->mode & 0755);
    if (file < 0) return failed(name);
    int result = 0;
    for (uint64_t left = entry->size; left > 0 && result == 0;) {
        size_t size = left < sizeof piece ? (size_t)left : sizeof piece;
        result = take(s, piece, size);
        if (result == 0 && write_all(file, piece, size) < 0) result = failed(name);
        left -= size;
        progress(size);
    }
    if (close(file) < 0 && result == 0) result = failed(name);
    return result;
}

static int unpack_files(struct stream *s, int folder, int list) {
    static char name[PATH_MAX];
    for (;;) {
        struct entry entry;
        if (take(s, &entry, sizeof entry) < 0) return -1;
        if (entry.name_length == 0) return finish(s);
        if (entry.name_length >= sizeof name) return damaged();
        if (take(s, name, entry.name_length) < 0) return -1;
        name[entry.name_length] = 0;
        if (unpack_file(s, folder, name, &entry) < 0) return -1;
        if (dprintf(list, "%llu %s\n", (unsigned long long)entry.size, name) < 0) return failed(LIST);
    }
}

int unpack(int self, const struct trailer *trailer, int folder) {
    static struct stream s;
    memset(&s, 0, sizeof s);
    s.fd = self;
    s.left = trailer->size;
    s.context = ZSTD_createDCtx();
    if (!s.context) return fail("out of memory");
    int list = openat(folder, LIST, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int result = list < 0 || lseek(self, (off_t)trailer->offset, SEEK_SET) < 0 ? failed(LIST) : 0;
    if (result == 0) result = unpack_files(&s, folder, list);
    if (list >= 0 && close(list) < 0 && result == 0) result = failed(LIST);
    if (result == 0) waiting("unpacked; the disk takes its time", DISK_S);
    if (result == 0 && syncfs(folder) < 0) result = failed(""); /* a power cut leaves no empty files */
    ZSTD_freeDCtx(s.context);
    return result;
}

int is_whole(int folder) {
    char line[PATH_MAX + 32];
    struct stat status;
    int file = openat(folder, LIST, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    FILE *list = file < 0 ? NULL : fdopen(file, "r");
    int whole = list != NULL;
    while (whole && fgets(line, sizeof line, list)) {
        char *name;
        unsigned long long size = strtoull(line, &name, 10);
        name[strcspn(name, "\n")] = 0;
        whole = *name == ' ' && fstatat(folder, name + 1, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                S_ISREG(status.st_mode) && (unsigned long long)status.st_size == size;
    }
    if (list) fclose(list);
    return whole;
}
