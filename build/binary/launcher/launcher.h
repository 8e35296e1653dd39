/* What the parts of the one file's start share. main.c has the whole story. */

#pragma once

#define _GNU_SOURCE
#include <stdint.h>

#define ID_LENGTH 32
#define PROGRAM "cortex"
#define MEGABYTE 1000000

/* The file's last bytes, integers little-endian; payload.py writes them. */
struct trailer {
    char magic[8];
    uint64_t offset, size; /* of the payload in the file */
    char id[ID_LENGTH];
} __attribute__((packed));

/* ---- payload.c: what is in the file */

int read_trailer(int self, struct trailer *trailer);
/* Bytes of the unpacked program; 0 where the payload does not say. */
uint64_t unpacked_size(int self, const struct trailer *trailer);
/* Everything into `folder`, on the disk for good. */
int unpack(int self, const struct trailer *trailer, int folder);
/* Whether all that was unpacked to `folder` is there still: who cleans up old files may have taken some. */
int is_whole(int folder);

/* ---- cache.c: where it lies */

/* Make `base`, or find out why it cannot hold a program. Links in it are replaced by what they lead to. */
int make_base(char *base);
/* An open BASE/ID with the program in it, locked for as long as it is open; unpacked unless it was there. */
int open_program(int self, const struct trailer *trailer, const char *base);

/* ---- report.c: what people and systemd hear */

enum problem { UNFIT, FULL, DAMAGED };
extern enum problem problem;
extern char reason[512]; /* of the problem */

int fail(const char *format, ...);  /* -1, and the reason of an UNFIT directory */
int failed(const char *what);       /* the same, from errno: a disk may be FULL */
int damaged(void);                  /* the same, for a file that was damaged on its way */
void say(const char *format, ...);  /* one line on stderr */
void progress_begins(const char *base, uint64_t size);
void progress(uint64_t bytes); /* more bytes are unpacked */
void waiting(const char *status, int seconds); /* systemd's time-out does not run out for so long */
