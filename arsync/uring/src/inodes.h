/*
 * inodes.h - which inode is which: the first names of hard-linked files.
 *
 * An open-addressing table of 32 bytes an inode, in shards that grow one at a
 * time and by a quarter, so that it is never in memory twice: a million inodes
 * take 40 to 50 MB.  Paths are not in it but in the spool.
 */
#ifndef ARSYNC_INODES_H
#define ARSYNC_INODES_H

#include "internal.h"

#define AR_LEADER_META 1	/* its attributes are set in this run */

struct ar_inode {		/* what stays while an inode lives */
	uint64_t place;		/* device, birth time and type, mixed */
	uint64_t ino;
};

struct ar_leader {
	struct ar_inode src;
	uint64_t dst;		/* of its file at the destination: ar_inode_id, 0 unknown */
	uint64_t path;		/* offset of its record, AR_LEADER_* in the low bits */
};

struct ar_inodes;

/*
 * The birth time is part of the place because st_dev says too little: overlayfs
 * gives files of two layers the directory's device and inode numbers that may be
 * the same (without xino).
 */
struct ar_inode ar_inode_of(uint64_t dev, const struct ar_row *row);
/* one number for the inode, never 0 */
uint64_t ar_inode_id(struct ar_inode inode);

struct ar_inodes *ar_inodes_new(void);
void ar_inodes_free(struct ar_inodes *inodes);
/* whether the inode was entered, and its entry got a path */
bool ar_inodes_has(const struct ar_inodes *inodes, struct ar_inode inode);
/* the inode's entry, a new one with path 0 the first time; NULL without memory */
struct ar_leader *ar_inodes_enter(struct ar_inodes *inodes, struct ar_inode inode);

#endif
