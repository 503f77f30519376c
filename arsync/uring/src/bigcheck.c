/*
 * bigcheck.c - whether a big file at the destination has the content of its source.
 *
 * All lanes share it, chunk by chunk: the hash of a chunk of the destination's file
 * against that of the source's.  The first difference ends it.  Where the hash of
 * one side is known only the other is read, and its list of hashes decides.
 *
 * What is equal, and what becomes of the rest, is as in check.c.
 */
#include <stdlib.h>

#include "big.h"

static int decide(struct ar_lane *lane, struct ar_big *big, const uint8_t *hash)
{
	lane->tally.checked_bytes += big->row.size - atomic_load(&big->checked);
	ar_check_decide(lane, big->folder.pair, big->change, hash);
	return hash ? 0 : 1;
}

int ar_big_check_open(struct ar_lane *lane, struct ar_big *big, int *op)
{
	int err = 0;

	if (!(big->change->flags & AR_CHANGE_KNOWS_SRC))
		err = ar_big_open_source(big, op);
	if (err)
		return err;
	*op = AR_OP_MEMORY;
	big->hashed = true;
	big->hashes = malloc(ar_chunk_count(big->row.size) * AR_HASH_BYTES);
	if (!big->hashes)
		return -ENOMEM;
	if (big->change->flags & AR_CHANGE_KNOWS_DST)
		return 0;
	*op = AR_OP_OPEN_TARGET;
	big->old_fd = sys_open(*op, big->folder.dst_fd, ar_row_name(big->page, &big->row),
			       O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	err = big->old_fd < 0 ? big->old_fd : sys_fstat(big->old_fd, &big->old);
	if (ar_is_exhausted(err) || ar_is_transient(err))
		return err;
	if (err || !S_ISREG(big->old.st_mode) || (uint64_t)big->old.st_size != big->row.size) {
		free(big->hashes);
		big->hashes = NULL;
		return decide(lane, big, NULL);
	}
	return 0;
}

static bool is_sparse(const struct ar_row *row)
{
	return row->flags & AR_ROW_SPARSE;
}

/* 1: a difference; what goes wrong at the destination is one, too */
static int check_chunk(struct ar_lane *lane, struct ar_big *big, uint64_t off, uint64_t len,
		       int *op)
{
	const struct ar_row *dst = ar_change_dst_row(big->batch, big->folder.pair, big->change);
	uint8_t *hash = big->hashes + off / AR_HASH_CHUNK * AR_HASH_BYTES;
	uint8_t old[AR_HASH_BYTES];
	int err = 0;

	if (big->old_fd >= 0)
		err = ar_chunk_hash(lane, big->old_fd, is_sparse(dst), off, len, old, op);
	if (err && err != -ENOMEM && err != -EINTR && !ar_is_transient(err))
		return 1;
	if (!err && big->src_fd >= 0)
		err = ar_chunk_hash(lane, big->src_fd, is_sparse(&big->row), off, len, hash, op);
	else if (!err)
		memcpy(hash, old, AR_HASH_BYTES);
	return err ? err : big->old_fd >= 0 && memcmp(old, hash, AR_HASH_BYTES);
}

static int check_chunk_patiently(struct ar_lane *lane, struct ar_big *big, uint64_t off,
				 uint64_t len)
{
	int err, op = AR_OP_NONE, tries = 0;

	do {
		err = check_chunk(lane, big, off, len, &op);
	} while (err < 0 && ar_try_again(lane, err, &tries));
	if (err < 0)
		return ar_big_fail(big, err, op, 0);
	lane->tally.checked_bytes += len;
	atomic_fetch_add(&big->checked, len);
	if (err)
		atomic_store(&big->differs, true);
	return err;
}

int ar_big_check(struct ar_lane *lane, struct ar_big *big, uint64_t offset, uint64_t end)
{
	int err = 0;

	for (uint64_t off = offset; off < end && !err; off += AR_HASH_CHUNK) {
		if (atomic_load(&big->err) || atomic_load(&big->differs))
			return 1;
		err = check_chunk_patiently(lane, big, off,
					    AR_MIN(end - off, (uint64_t)AR_HASH_CHUNK));
	}
	return err;
}

/* 1: each side that was read is as it was before, 0: it is not */
static int stood_still(struct ar_big *big)
{
	const struct ar_row *row = &ar_rows(big->page)[big->change->src_row];
	struct stat st;
	int err = big->src_fd >= 0 ? sys_fstat(big->src_fd, &st) : 0;

	if (err)
		return err;
	if (big->src_fd >= 0 && !ar_row_same(&st, row))
		return 0;
	return big->old_fd < 0 ||
	       (!sys_fstat(big->old_fd, &st) && ar_stat_same(&st, &big->old));
}

int ar_big_check_close(struct ar_lane *lane, struct ar_big *big, int *op)
{
	const uint8_t known = AR_CHANGE_KNOWS_SRC | AR_CHANGE_KNOWS_DST;
	uint8_t hash[AR_HASH_BYTES];
	int stood = atomic_load(&big->differs) ? 0 : stood_still(big);

	*op = AR_OP_STAT;
	if (stood < 0)
		return stood;
	if (!stood)
		return decide(lane, big, NULL);
	ar_hash_list(big->hashes, ar_chunk_count(big->row.size), hash);
	if ((big->change->flags & known) && memcmp(hash, big->change->hash, AR_HASH_BYTES))
		return decide(lane, big, NULL);
	decide(lane, big, hash);
	ar_big_keep_chunks(lane, big);
	if (big->change->kind == AR_CHANGE_MOVE && !ar_is_dry_run(lane)) {
		int copy = ar_move_run(lane, &big->folder, big->change, op);

		big->change->state = copy ? AR_STATE_PLANNED : AR_STATE_DONE;
		return copy;
	}
	if (big->change->kind == AR_CHANGE_DATA)
		return !ar_is_dry_run(lane);
	if (big->change->why && !ar_is_dry_run(lane))
		ar_change_run(lane, &big->folder, big->change);
	return 0;
}
