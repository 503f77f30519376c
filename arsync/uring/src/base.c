/*
 * base.c - what a big file already has of the one that it replaces.
 *
 * In place, what stands there is the base.  Elsewhere the temporary file can begin
 * as a clone of the old one, where the filesystem has reflinks and the hashes of its
 * chunks are recorded; without them nobody knows which chunks are the same before
 * both sides are read.  Then only chunks that differ are written over the base.
 *
 * A base with hashes is the file that was recorded: its stat says so, before and
 * after it is cloned.  Without reflinks nothing is shared: to copy a chunk out of the
 * old file is to read and to write it, when the bytes to be written are at hand.
 */
#include <stdlib.h>

#include "big.h"

void ar_base_drop(struct ar_big *big)
{
	free(big->base_hashes);
	big->base_hashes = NULL;
	big->base_size = 0;
}

static const struct ar_row *old_row(const struct ar_big *big)
{
	return ar_change_dst_row(big->batch, big->folder.pair, big->change);
}

static int open_old(const struct ar_big *big)
{
	struct stat st;
	int fd = sys_open(AR_OP_OPEN_TARGET, big->folder.dst_fd, ar_row_name(big->page, &big->row),
			  O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);

	if (fd >= 0 && (sys_fstat(fd, &st) || !ar_row_same(&st, old_row(big)))) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

void ar_base_find(struct ar_lane *lane, struct ar_big *big)
{
	const struct ar_chunks *chunks =
		ar_chunks_find(big->batch, big->folder.index, big->change->src_row, true);

	ar_base_drop(big);
	/* a second round in place finds what the first one wrote */
	if (!chunks || !(lane->cfg.flags & AR_LANE_UPDATE) || (big->in_place && big->reread) ||
	    chunks->count != ar_chunk_count(old_row(big)->size))
		return;
	int fd = open_old(big);
	if (fd < 0)
		return;
	close(fd);
	big->base_hashes = ar_copy_of((const char *)big->batch->aux + chunks->aux,
				      (size_t)chunks->count * AR_HASH_BYTES);
}

/* to be opened for writing may have moved its ctime */
static int use_in_place(struct ar_big *big)
{
	const struct ar_row *row = old_row(big);
	struct stat st;
	int err = sys_fstat(big->dst_fd, &st);

	if (err)
		return err;
	if (big->base_hashes &&
	    (st.st_ino != row->ino || (uint64_t)st.st_size != row->size ||
	     st.st_mtim.tv_sec != row->mtime_s || st.st_mtim.tv_nsec != row->mtime_n))
		ar_base_drop(big);
	big->base_size = (uint64_t)st.st_size;
	return 0;
}

/* what goes wrong here leaves an empty file, and all of it is written */
static int clone_old(struct ar_big *big, int *op)
{
	struct stat st;
	int fd = open_old(big), err = fd < 0 ? fd : sys_clone(big->dst_fd, fd);

	if (!err && (sys_fstat(fd, &st) || !ar_row_same(&st, old_row(big))))
		err = -ESTALE;
	if (fd >= 0)
		close(fd);
	if (!err) {
		big->base_size = old_row(big)->size;
		big->overlays = true;
		return 0;
	}
	ar_base_drop(big);
	*op = AR_OP_TRUNCATE;
	return sys_truncate(big->dst_fd, 0);
}

int ar_base_use(struct ar_lane *lane, struct ar_big *big, int *op)
{
	*op = AR_OP_STAT;
	if (!(lane->cfg.flags & AR_LANE_UPDATE) ||
	    (big->method != AR_METHOD_READ_WRITE && big->method != AR_METHOD_DIRECT)) {
		ar_base_drop(big);
		return 0;
	}
	if (big->in_place)
		return use_in_place(big);
	return big->base_hashes ? clone_old(big, op) : 0;
}

int ar_base_hash(struct ar_lane *lane, struct ar_big *big, uint64_t off, uint64_t len,
		 uint8_t *hash, int *op)
{
	if (off + len > big->base_size)
		return 1;
	if (big->base_hashes) {
		memcpy(hash, big->base_hashes + off / AR_HASH_CHUNK * AR_HASH_BYTES, AR_HASH_BYTES);
		return 0;
	}
	int err = ar_chunk_hash(lane, big->dst_fd, true, off, len, hash, op);
	/* what cannot be read is written */
	return !err || err == -ENOMEM || err == -EINTR || ar_is_transient(err) ? err : 1;
}
