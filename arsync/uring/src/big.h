/*
 * big.h - a file that all lanes share: big.c opens and closes it, chunk.c moves it,
 * base.c finds what it has of the old one, bigcheck.c compares it.
 */
#ifndef ARSYNC_BIG_H
#define ARSYNC_BIG_H

#include "lane.h"

struct ar_big {
	struct ar_batch *batch;
	struct folder folder;	/* source and destination directories */
	struct ar_change *change;
	const struct ar_page *page;
	struct ar_row row;	/* the source as of the stat before the reading */
	struct ar_want want;
	int src_fd;
	int dst_fd;
	int direct_fd;		/* O_DIRECT, or -1 */
	int dst_dir_fd;
	char temp[AR_TEMP_MAX];
	int method;		/* what moves the chunks */
	bool in_place;
	bool reread;
	bool shared;		/* a reflink has done it all */
	atomic_bool hashed;
	bool overlays;		/* dst_fd begins with the content of the file that is replaced */
	uint64_t base_size;	/* so much of that may be the same; 0: nothing is compared */
	uint8_t *base_hashes;	/* of its chunks, as recorded; NULL: what is there is read */
	_Atomic uint64_t matched_bytes;
	_Atomic uint64_t hole_bytes;
	atomic_bool shrunk;	/* a read met the end of the file before its size */
	_Atomic int err;	/* the first failure of any chunk */
	int err_op, err_side;
	uint8_t *hashes;	/* AR_HASH_BYTES a chunk */
	int old_fd;		/* check: the destination's file, or -1 */
	struct stat old;	/* before it was read */
	atomic_bool differs;	/* nothing more needs to be read */
	_Atomic uint64_t checked;	/* bytes */
};

static inline uint64_t ar_chunk_count(uint64_t size)
{
	return (size + AR_HASH_CHUNK - 1) / AR_HASH_CHUNK;
}

static inline bool ar_big_is_check(const struct ar_big *big)
{
	return big->change->kind == AR_CHANGE_CHECK;
}


/* ----------------------------------------------------------------- chunk.c */
/* reads, hashes and writes what lies within one chunk; what failed, and on which side */
int ar_chunk_copy(struct ar_lane *lane, struct ar_big *big, uint64_t off, uint64_t len, int *op,
		  int *side);
/* the hash of a chunk; 1: the file ends in it, -errno: op failed */
int ar_chunk_hash(struct ar_lane *lane, int fd, bool sparse, uint64_t off, uint64_t len,
		  uint8_t *digest, int *op);

/* ------------------------------------------------------------------- big.c */
int ar_big_open_source(struct ar_big *big, int *op);
/* the batch gets the hashes of its chunks */
void ar_big_keep_chunks(struct ar_lane *lane, const struct ar_big *big);
/* the first failure that is for good is the file's; err itself */
int ar_big_fail(struct ar_big *big, int err, int op, int side);

/* ------------------------------------------------------------------ base.c */
/* before the target is opened: the recorded hashes of what stands there, where it is that */
void ar_base_find(struct ar_lane *lane, struct ar_big *big);
/* afterwards: clones it, or see that it has not moved */
int ar_base_use(struct ar_lane *lane, struct ar_big *big, int *op);
void ar_base_drop(struct ar_big *big);
/* the hash of what the target has there; 1: none that could be the same */
int ar_base_hash(struct ar_lane *lane, struct ar_big *big, uint64_t off, uint64_t len,
		 uint8_t *hash, int *op);

/* -------------------------------------------------------------- bigcheck.c */
/* 1: there is nothing to compare with, the change is a copy now */
int ar_big_check_open(struct ar_lane *lane, struct ar_big *big, int *op);
/* like ar_big_copy, and 1 where a difference was met */
int ar_big_check(struct ar_lane *lane, struct ar_big *big, uint64_t offset, uint64_t end);
/* 1: the change is a copy now */
int ar_big_check_close(struct ar_lane *lane, struct ar_big *big, int *op);

#endif
