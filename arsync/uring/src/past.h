/*
 * past.h - where each inode of the source was when it was recorded.
 *
 *	past.c	the index: an unlinked file, mapped
 *	leaving.c	whether an old name is no more
 *	moves.c	new names of files that are old inodes
 *	resettle.c	and of directories, which are renamed at once
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
/* opens it, for looking up names; path is then its path below top */
int ar_past_open_dir(const struct ar_past *past, const struct ar_root *root, uint64_t directory,
		     uint64_t top, struct ar_path *path);

/*
 * Whether the source, of which dir_fd is the old directory or why it cannot be opened, has
 * the entry no more under its old name: that name is gone, or another entry's.  false also
 * where nobody can say.
 */
bool ar_past_has_left(const ar_scan *scan, const struct ar_past_record *old, int dir_fd,
		      bool *is_gone);
/* whether what stands at the path would be deleted: the source has nothing of its name */
bool ar_would_go(const ar_scan *scan, const char *path, size_t len, const struct ar_moving *how);

#endif
