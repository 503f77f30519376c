/*
 * past.h - where each inode of the source was when it was recorded.
 *
 *	past.c	the index: an unlinked file, mapped
 *	moves.c	new names of a batch that are old inodes
 */
#ifndef ARSYNC_PAST_H
#define ARSYNC_PAST_H

#include "scan.h"

#define AR_PAST_DIRECTORY 255	/* beside the DT_* of entries */

struct ar_past_record {		/* an entry, or a directory by its id; the name and a NUL follow */
	uint64_t ino;		/* or its id */
	uint64_t born;		/* its birth time in ns, modulo 2^64 */
	uint64_t directory;	/* the id of the one that holds it */
	uint32_t next;		/* of its chain, in units of 8 bytes; 0: the last */
	uint16_t name_len;
	uint16_t kind;		/* DT_*, or AR_PAST_DIRECTORY */
};

static inline const char *ar_past_name(const struct ar_past_record *record)
{
	return (const char *)(record + 1);
}

static inline uint64_t ar_born(int64_t s, uint32_t n)
{
	return (uint64_t)s * 1000000000u + n;
}

/* the next record of this inode and kind after one, or the first after NULL; NULL: no more */
const struct ar_past_record *ar_past_find(const struct ar_past *past, uint64_t ino, uint64_t born,
					  uint32_t kind, const struct ar_past_record *after);
/* the path of a directory below the one whose id is root; -ENOENT: it is not below it */
int ar_past_path(const struct ar_past *past, uint64_t directory, uint64_t root,
		 struct ar_path *path);

#endif
