/*
 * big.c - one file that all lanes copy together, chunk by chunk.
 *
 * ar_big_open makes the temporary file, any lane copies any chunk into it, and
 * ar_big_close, when all have ended, checks that the source stood still, joins the
 * chunk hashes and puts the file in its place.
 */
#include <pthread.h>
#include <stdlib.h>

#include "big.h"

/* opens and closes change the batch, which several big files may share */
static pthread_mutex_t batch_lock = PTHREAD_MUTEX_INITIALIZER;

static void row_from_stat(struct ar_row *row, const struct stat *st)
{
	ar_row_take(row, st);
	row->flags &= (uint8_t)~AR_ROW_SPARSE;
	if ((uint64_t)st->st_blocks * 512 < row->size)
		row->flags |= AR_ROW_SPARSE;
}

/* ------------------------------------------------------------------- open */

int ar_big_open_source(struct ar_big *big, int *op)
{
	const char *name = ar_row_src_name(big->page, &big->row);
	int follow = big->row.flags & AR_ROW_FOLLOWED ? 0 : O_NOFOLLOW;
	struct stat st;

	*op = AR_OP_OPEN_FILE;
	big->src_fd = sys_open(*op, big->folder.src_fd, name, O_RDONLY | O_NONBLOCK | follow, 0);
	if (big->src_fd < 0)
		return big->src_fd;
	int err = sys_fstat(big->src_fd, &st);
	if (!err && !S_ISREG(st.st_mode))
		err = -ENOENT;
	if (!err)
		row_from_stat(&big->row, &st);
	return err;
}

static int create_target(struct ar_lane *lane, struct ar_big *big, int *op)
{
	const char *name = ar_row_name(big->page, &big->row);
	int flags = O_RDWR | O_CREAT | O_NOFOLLOW;

	*op = AR_OP_CREATE;
	big->dst_dir_fd = big->folder.dst_fd;
	ar_base_find(lane, big);
	if (big->in_place) {
		int err = ar_keep_old(lane, &big->folder, big->change, AR_BACKUP_COPY, op);
		if (err)
			return err;
		*op = AR_OP_OPEN_TARGET;
		big->dst_fd = ar_open_in_place(big->dst_dir_fd, name, O_RDWR, big->want.mode & 0700);
		return AR_MIN(big->dst_fd, 0);
	}
	if (lane->cfg.temp_dir_fd >= 0 && !big->reread)
		big->dst_dir_fd = lane->cfg.temp_dir_fd;
	ar_temp_name(lane, big->temp);
	big->dst_fd = sys_open(*op, big->dst_dir_fd, big->temp, flags | O_EXCL,
			       big->want.mode & 0700);
	return AR_MIN(big->dst_fd, 0);
}

/*
 * Room in one piece where the filesystem can.  For O_DIRECT the temporary file has
 * its full size at once: a write that moves the size excludes all others, and two
 * lanes took 0.49 s instead of 0.37 (2 GiB, ext4).  Otherwise, and in place, the
 * size shows only what is written.
 */
static int make_room(struct ar_lane *lane, struct ar_big *big)
{
	bool full = big->method == AR_METHOD_DIRECT && !big->in_place;
	bool keeps_holes = (big->row.flags & AR_ROW_SPARSE) &&
			   !(lane->cfg.flags & AR_LANE_PREALLOCATE);

	const bool is_clone = big->overlays && !big->in_place;	/* and has most of it */

	if (is_clone || keeps_holes || (lane->cfg.flags & AR_LANE_SPARSE))
		return 0;
	int err = sys_fallocate(big->dst_fd, full ? 0 : FALLOC_FL_KEEP_SIZE, 0,
				(off_t)big->row.size);
	if (err != -ENOSPC && err != -EDQUOT)
		return 0;
	ar_give_back_room(big->dst_fd);
	return err;
}

static void open_direct(struct ar_big *big)
{
	char path[AR_PROC_PATH_MAX];

	ar_proc_path(path, big->dst_fd, NULL);
	big->direct_fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
}

static bool is_as_scanned(const struct ar_big *big)
{
	const struct ar_row *seen = &ar_rows(big->page)[big->change->src_row], *row = &big->row;

	return row->ino == seen->ino && row->size == seen->size && row->mtime_s == seen->mtime_s &&
	       row->mtime_n == seen->mtime_n && row->ctime_s == seen->ctime_s &&
	       row->ctime_n == seen->ctime_n;
}

/* 0: the new file is a clone of the old one, 1: it is to be copied, as an empty file */
static int start_clone(struct ar_lane *lane, struct ar_big *big, int *op)
{
	if (!ar_is_clone(big->batch, big->change))
		return 1;
	int fd = is_as_scanned(big) ? ar_clone_open(lane, big->change) : -ESTALE;
	if (fd >= 0 && ar_clone_take(lane, big->change, fd, big->dst_fd))
		return 0;
	ar_move_drop(lane, big->change);
	*op = AR_OP_TRUNCATE;
	int err = fd >= 0 && !big->in_place ? sys_truncate(big->dst_fd, 0) : 0;
	return err ? err : 1;
}

static int share(struct ar_lane *lane, struct ar_big *big, int *op)
{
	int used, err = start_clone(lane, big, op);

	if (err == 1 && ((lane->cfg.flags & AR_LANE_REFLINK) || big->method == AR_METHOD_REFLINK))
		err = ar_method_share(lane, AR_METHOD_REFLINK, big->page->dev, big->src_fd,
				      big->dst_fd, big->row.size, &used, op);
	if (!err) {
		big->method = AR_METHOD_REFLINK;
		big->shared = true;
	}
	return err;
}

static int start(struct ar_lane *lane, struct ar_big *big, int *op)
{
	int err = create_target(lane, big, op);

	big->method = (int)lane->cfg.big_method;
	big->shared = false;
	big->overlays = big->in_place;
	if (err)
		return err;
	err = share(lane, big, op);
	if (err <= 0)
		return err;
	/* what was not shared, and holes, which the others would fill */
	if (big->method == AR_METHOD_REFLINK || (big->row.flags & AR_ROW_SPARSE))
		big->method = AR_METHOD_READ_WRITE;
	err = ar_base_use(lane, big, op);
	if (err)
		return err;
	*op = AR_OP_ALLOCATE;
	err = make_room(lane, big);
	if (err)
		return err;
	if (big->method == AR_METHOD_DIRECT)
		open_direct(big);
	big->hashed = true;
	big->hashes = malloc(ar_chunk_count(big->row.size) * AR_HASH_BYTES);
	*op = AR_OP_MEMORY;
	return big->hashes || !big->row.size ? 0 : -ENOMEM;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void discard(struct ar_big *big)
{
	close_fd(&big->direct_fd);
	if (big->dst_fd >= 0 && !big->in_place && *big->temp)
		(void)sys_unlink(big->dst_dir_fd, big->temp);
	close_fd(&big->dst_fd);
	free(big->hashes);
	big->hashes = NULL;
	ar_base_drop(big);
}

static void close_sources(struct ar_big *big)
{
	close_fd(&big->src_fd);
	close_fd(&big->old_fd);
	close_fd(&big->folder.src_fd);
	close_fd(&big->folder.dst_fd);
}

static void destroy(struct ar_big *big)
{
	close_sources(big);
	free(big);
}

static int open_folders(const struct ar_lane *lane, struct ar_big *big, int *op)
{
	struct ar_batch *batch = big->batch;
	const struct ar_page *src = big->page, *dst = ar_dst_path_page(batch, big->folder.pair);

	*op = AR_OP_OPEN_DIR;
	big->folder.src_fd = ar_open_beneath(batch->src_root, ar_page_str(src, src->path_off),
					     src->path_len, O_RDONLY | O_DIRECTORY);
	if (big->folder.src_fd < 0)
		return big->folder.src_fd;
	if (big->folder.pair->flags & AR_PAIR_NEW && ar_is_dry_run(lane))
		return 0;	/* only sources are looked at */
	*op = AR_OP_OPEN_TARGET;
	big->folder.dst_fd = ar_open_beneath(batch->dst_root, ar_page_str(dst, dst->path_off),
					     dst->path_len, O_RDONLY | O_DIRECTORY);
	return AR_MIN(big->folder.dst_fd, 0);
}

/* what is to be compared becomes a copy */
static int start_copy(struct ar_lane *lane, struct ar_big *big, int *op)
{
	int err = big->src_fd < 0 ? ar_big_open_source(big, op) : 0;

	if (!err) {
		big->folder.umask = ar_folder_umask(lane, big->folder.dst_fd);
		ar_folder_want(lane, &big->folder, &big->row,
			       ar_change_dst_row(big->batch, big->folder.pair, big->change),
			       &big->want);
		err = start(lane, big, op);
	}
	return err;
}

/* 1: there is nothing more to be done */
static int prepare(struct ar_lane *lane, struct ar_big *big, int *op)
{
	int err = open_folders(lane, big, op);

	if (!err && ar_big_is_check(big))
		err = ar_big_check_open(lane, big, op);
	if (err < 0 || (err && ar_is_dry_run(lane)) || (!err && ar_big_is_check(big)))
		return err;
	return start_copy(lane, big, op);
}

static int prepare_or_clean_up(struct ar_lane *lane, struct ar_big *big, int *op)
{
	int err = prepare(lane, big, op);

	if (err) {
		discard(big);
		close_sources(big);
	}
	return err;
}

static struct ar_big *new_big(struct ar_batch *batch, uint32_t pair, uint32_t change)
{
	struct ar_big *big = ar_fault(AR_OP_MEMORY, NULL) ? NULL : calloc(1, sizeof(*big));
	const uint32_t row = batch->changes[change].src_row;

	if (!big) {
		batch->changes[change].state = AR_STATE_FAILED;
		(void)ar_batch_add_problem(batch, pair, row, AR_PROBLEM_FAILED, 1, AR_OP_MEMORY,
					   ENOMEM);
	}
	return big;
}

int ar_big_open(ar_lane *lane, struct ar_batch *batch, uint32_t pair, uint32_t change, ar_big **out)
{
	int op = AR_OP_MEMORY, err, tries = 0;

	pthread_mutex_lock(&batch_lock);
	struct ar_big *big = new_big(batch, pair, change);
	if (!big) {
		pthread_mutex_unlock(&batch_lock);
		return -ENOMEM;
	}
	big->batch = batch;
	big->change = &batch->changes[change];
	big->folder = (struct folder){ .pair = &batch->pairs[pair], .index = pair,
				       .src_fd = -1, .dst_fd = -1, .parent_fd = -1 };
	big->page = ar_src_page(batch, big->folder.pair);
	big->row = ar_rows(big->page)[big->change->src_row];
	big->src_fd = big->dst_fd = big->direct_fd = big->old_fd = -1;
	/* never into what stands there as something else: a device takes data, too */
	big->in_place = (lane->cfg.flags & AR_LANE_INPLACE) && !(big->change->why & AR_WHY_TYPE);
	lane->batch = batch;
	do {
		err = prepare_or_clean_up(lane, big, &op);
	} while (err < 0 && ar_try_again(lane, err, &tries));
	if (err < 0) {
		bool side = op != AR_OP_OPEN_DIR && op != AR_OP_OPEN_FILE;
		ar_change_failed(lane, &big->folder, big->change, err, op, side);
	}
	if (err)
		destroy(big);
	else
		*out = big;
	pthread_mutex_unlock(&batch_lock);
	return err;
}

uint64_t ar_big_bytes(const ar_big *big)
{
	return big->shared ? 0 : big->row.size;
}

/* ------------------------------------------------------------------ copying */

int ar_big_fail(struct ar_big *big, int err, int op, int side)
{
	int none = 0;

	if (err && atomic_compare_exchange_strong(&big->err, &none, err)) {
		big->err_op = op;
		big->err_side = side;
	}
	return err;
}

static int copy_chunk_patiently(struct ar_lane *lane, struct ar_big *big, uint64_t off, uint64_t len)
{
	int err, op = AR_OP_MEMORY, side = 0, tries = 0;
	const uint64_t before = lane->tally.moved_bytes;

	do {
		lane->tally.moved_bytes = before;
		err = ar_chunk_copy(lane, big, off, len, &op, &side);
	} while (err && ar_try_again(lane, err, &tries));
	return ar_big_fail(big, err, op, side);
}

int ar_big_copy(ar_lane *lane, ar_big *big, uint64_t offset, uint64_t length)
{
	uint64_t end = AR_MIN(offset + length, big->row.size);

	if (ar_big_is_check(big))
		return ar_big_check(lane, big, offset, end);
	if (big->method == AR_METHOD_COPY_RANGE || big->method == AR_METHOD_SPLICE) {
		int op = AR_OP_NONE, r, tries = 0;
		uint64_t before = lane->tally.moved_bytes;

		do {
			lane->tally.moved_bytes = before;
			r = ar_method_range(lane, big->method, big->src_fd, big->dst_fd, offset,
					    end - offset, &op);
		} while (r < 0 && ar_try_again(lane, r, &tries));
		if (r <= 0) {
			atomic_store(&big->hashed, false);
			return ar_big_fail(big, r, op, 1);
		}
		lane->tally.moved_bytes = before;	/* counted when it is read and written */
	}
	int err = 0;
	for (uint64_t off = offset; off < end && !err; off += AR_HASH_CHUNK) {
		if (atomic_load(&big->err))
			return atomic_load(&big->err);
		err = copy_chunk_patiently(lane, big, off, AR_MIN(end - off, (uint64_t)AR_HASH_CHUNK));
	}
	return err;
}

/* -------------------------------------------------------------------- close */

static int put_in_place(struct ar_lane *lane, struct ar_big *big, const struct ar_row *row,
			uint64_t size, int *op)
{
	const char *name = ar_row_name(big->page, &big->row);
	struct attr_target at = {
		.fd = big->dst_fd, .path_fd = -1, .dir_fd = -1, .name = "",
		.src_fd = big->src_fd, .src_dir_fd = -1, .src_name = "",
		.pair = big->folder.index, .row = big->change->src_row, .fresh = !big->in_place,
	};
	int err = sys_truncate(big->dst_fd, (off_t)size);

	*op = AR_OP_TRUNCATE;
	if (!err)
		err = ar_attr_apply(lane, &at, row, &big->want, op);
	if (!err && !big->in_place)
		err = ar_keep_old(lane, &big->folder, big->change, AR_BACKUP_LINK, op);
	if (!err && !big->in_place)
		err = ar_place(big->dst_dir_fd, big->temp, big->folder.dst_fd, name, false, op);
	if (!err)
		big->temp[0] = '\0';	/* nothing to be removed any more */
	return err;
}

void ar_big_keep_chunks(struct ar_lane *lane, const struct ar_big *big)
{
	const uint64_t count = ar_chunk_count(big->row.size);

	if (count > 1 && ar_chunks_add(big->batch, big->folder.index, big->change->src_row,
					     false, big->hashes, count))
		lane->fatal = -ENOMEM;
}

static void note_done(struct ar_lane *lane, struct ar_big *big, bool unstable)
{
	struct ar_change *change = big->change;
	int used = big->method == AR_METHOD_DIRECT && big->direct_fd < 0 ? AR_METHOD_READ_WRITE
									  : big->method;

	change->method = (uint8_t)used;
	change->bytes = big->row.size;
	if (unstable) {
		change->flags |= AR_CHANGE_UNSTABLE;
		ar_warn(lane, big->folder.index, change->src_row, AR_PROBLEM_UNSTABLE, AR_OP_READ, 0);
	} else if (big->hashed && !big->shared) {
		ar_hash_list(big->hashes, ar_chunk_count(big->row.size), change->hash);
		change->flags |= AR_CHANGE_HASHED;
		ar_big_keep_chunks(lane, big);
	}
	const uint64_t matched = atomic_load(&big->matched_bytes);
	if (matched && big->base_hashes)
		change->flags |= AR_CHANGE_PARTLY;
	lane->tally.matched_bytes += matched;
	ar_file_done(lane, used, big->row.size, atomic_load(&big->hole_bytes));
	ar_change_done(lane, &big->folder, change);
}

/* the source moved while it was read: everything once more, from its new state */
static int copy_again(struct ar_lane *lane, struct ar_big *big, const struct stat *st, int *op)
{
	discard(big);
	atomic_store(&big->err, 0);
	atomic_store(&big->shrunk, false);
	atomic_store(&big->hole_bytes, 0);
	atomic_store(&big->matched_bytes, 0);
	row_from_stat(&big->row, st);
	big->reread = true;
	lane->tally.rereads++;
	ar_folder_want(lane, &big->folder, &big->row,
		       ar_change_dst_row(big->batch, big->folder.pair, big->change), &big->want);
	return start(lane, big, op);
}

static int close_kept(struct ar_lane *lane, struct ar_big *big, int *op)
{
	struct stat st;
	int err = atomic_load(&big->err);

	*op = big->err_op;
	if (err)
		return err;
	if (ar_big_is_check(big)) {
		err = ar_big_check_close(lane, big, op);
		if (err != 1 || ar_is_dry_run(lane))
			return AR_MIN(err, 0);
		free(big->hashes);
		big->hashes = NULL;
		close_fd(&big->old_fd);
		int tries = 0;
		while ((err = start_copy(lane, big, op)) && ar_try_again(lane, err, &tries))
			discard(big);
		return err ? err : 1;
	}
	*op = AR_OP_STAT;
	int rc = sys_fstat(big->src_fd, &st);
	if (rc)
		return rc;
	bool changed = atomic_load(&big->shrunk) || !ar_row_same(&st, &big->row);
	if (changed && !big->reread) {
		rc = copy_again(lane, big, &st, op);
		return rc ? rc : 1;
	}
	/* an unstable file keeps the time of the scan, so that the next run sees it */
	const struct ar_row *row = changed ? &ar_rows(big->page)[big->change->src_row] : &big->row;
	uint64_t size = AR_MIN(big->row.size, (uint64_t)st.st_size);
	int tries = 0;
	if (!changed && !big->reread && big->hashed && !big->shared) {
		uint8_t hash[AR_HASH_BYTES];

		ar_hash_list(big->hashes, ar_chunk_count(big->row.size), hash);
		*op = AR_OP_VERIFY;
		if (ar_source_decays(&big->folder, big->change,
				     ar_row_name(big->page, &big->row), size, hash))
			return -EBADMSG;
	}
	do {
		rc = put_in_place(lane, big, row, size, op);
	} while (rc && ar_try_again(lane, rc, &tries));
	if (rc == -EXDEV && !big->reread) {	/* --temp-dir on another filesystem: beside it */
		rc = copy_again(lane, big, &st, op);
		return rc ? rc : 1;
	}
	if (!rc)
		note_done(lane, big, changed);
	return rc;
}

int ar_big_close(ar_lane *lane, ar_big *big, int keep)
{
	int op = AR_OP_NONE, err = 0;

	pthread_mutex_lock(&batch_lock);
	lane->batch = big->batch;
	if (keep)
		err = close_kept(lane, big, &op);
	if (err == 1) {
		pthread_mutex_unlock(&batch_lock);
		return 1;
	}
	if (!keep)
		big->change->state = AR_STATE_SKIPPED;
	else if (err == -EINTR)
		big->change->state = AR_STATE_SKIPPED;
	else if (err)
		ar_change_failed(lane, &big->folder, big->change, err, op,
				 op == big->err_op ? big->err_side
						   : op != AR_OP_STAT && op != AR_OP_OPEN_FILE);
	discard(big);
	destroy(big);
	pthread_mutex_unlock(&batch_lock);
	return err;
}
