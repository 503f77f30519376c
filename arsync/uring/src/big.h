/*
 * big.h - a file that all lanes share: big.c opens and closes it, chunk.c moves it.
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
	_Atomic uint64_t hole_bytes;
	atomic_bool shrunk;	/* a read met the end of the file before its size */
	_Atomic int err;	/* the first failure of any chunk */
	int err_op, err_side;
	uint8_t *hashes;	/* AR_HASH_BYTES a chunk */
};

/* ----------------------------------------------------------------- chunk.c */
/* reads, hashes and writes what lies within one chunk; what failed, and on which side */
int ar_chunk_copy(struct ar_lane *lane, struct ar_big *big, uint64_t off, uint64_t len, int *op,
		  int *side);

#endif
