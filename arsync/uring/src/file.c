/*
 * file.c - one regular file from source to destination.
 *
 * The content is read in buffers, hashed while it passes, and believed when a stat
 * after the last read agrees with the one before the first: the scan's own, so
 * that a file which nobody touches costs one fstat.  One that changed is read a
 * second time; one that changed again is installed as read, without a hash, with
 * the time that the scan saw, so that the next run looks at it again.
 */
#include <stdlib.h>
#include <time.h>

#include "lane.h"

static struct job *take_job(struct ar_lane *lane)
{
	struct job *job = &lane->jobs[lane->free_jobs[--lane->free_count]];

	lane->tally.in_flight = lane->job_count - lane->free_count;
	return job;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void ar_job_release(struct ar_lane *lane, struct job *job)
{
	close_fd(&job->src_fd);
	close_fd(&job->dst_fd);
	job->state = JOB_FREE;
	job->folder->active--;
	lane->free_jobs[lane->free_count++] = (uint32_t)(job - lane->jobs);
	lane->tally.in_flight = lane->job_count - lane->free_count;
}

/* never into what stands there as something else: a device or a fifo takes data, too */
static bool in_place(const struct ar_lane *lane, const struct job *job)
{
	return (lane->cfg.flags & AR_LANE_INPLACE) && !job->folder->staged &&
	       !(job->change->why & AR_WHY_TYPE);
}

static const char *made_name(const struct job *job)
{
	return *job->temp ? job->temp : ar_row_name(job->page, job->row);
}

/* what was made so far goes away; nothing that was there before does */
static void unmake(struct job *job)
{
	close_fd(&job->dst_fd);
	if (job->made)
		(void)sys_unlink(job->dst_dir_fd, made_name(job));
	job->made = false;
}

/* ------------------------------------------------------------ destination */

static mode_t create_mode(const struct ar_lane *lane, const struct job *job)
{
	const struct ar_want *want = &job->want;
	bool ours = (!want->set_uid || want->uid == lane->euid) &&
		    (!want->set_gid || want->gid == lane->egid);

	/* until it has its owner nobody else may look into it */
	return want->mode & (ours ? 0777 : 0700);
}

/* what a failure to open the destination is called */
static int create_op(const struct ar_lane *lane, const struct job *job)
{
	if (!in_place(lane, job))
		return AR_OP_CREATE;
	return ar_must_keep_old(lane, job->folder, job->change) ? AR_OP_BACKUP
								: AR_OP_OPEN_TARGET;
}

/* -S wins: what is allocated would not be a hole */
static bool preallocates(const struct ar_lane *lane)
{
	return (lane->cfg.flags & (AR_LANE_PREALLOCATE | AR_LANE_SPARSE)) == AR_LANE_PREALLOCATE;
}

static int create(struct ar_lane *lane, struct job *job)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

	job->dst_dir_fd = job->folder->dst_fd;
	job->temp[0] = '\0';
	if (in_place(lane, job)) {
		int op, err = ar_keep_old(lane, job->folder, job->change, AR_BACKUP_COPY, &op);
		if (err)
			return err;
		job->dst_fd = ar_open_in_place(job->dst_dir_fd, made_name(job), O_WRONLY,
					       job->want.mode & 0700);
	} else {
		if (!job->folder->staged) {
			if (lane->cfg.temp_dir_fd >= 0)
				job->dst_dir_fd = lane->cfg.temp_dir_fd;
			ar_temp_name(lane, job->temp);
		}
		job->dst_fd = sys_open(AR_OP_CREATE, job->dst_dir_fd, made_name(job), flags,
				       create_mode(lane, job));
		job->made = job->dst_fd >= 0;
	}
	if (job->dst_fd < 0)
		return job->dst_fd;
	if (preallocates(lane) && job->size) {
		int err = sys_fallocate(job->dst_fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)job->size);
		if (err && err != -EOPNOTSUPP) {
			ar_give_back_room(job->dst_fd);
			return err;
		}
	}
	return 0;
}

/* ------------------------------------------------------------- the states */

void ar_job_failed(struct ar_lane *lane, struct job *job, int err, int op, int side)
{
	struct folder *folder = job->folder;
	struct ar_change *change = job->change;
	bool waits = ar_is_exhausted(err) && job->patience < 100;

	unmake(job);
	close_fd(&job->src_fd);
	if (ar_stopped(lane)) {
		change->state = AR_STATE_SKIPPED;
		ar_job_release(lane, job);
		return;
	}
	if (waits && lane->job_count - lane->free_count > 1) {
		/* fewer in flight from now on; this one again when another has ended */
		lane->limit = AR_MAX(1u, (lane->job_count - lane->free_count) / 2);
		lane->again[lane->again_count].folder = folder;
		lane->again[lane->again_count++].change = change;
		lane->tally.retries++;
		folder->active++;	/* stays open for it */
		ar_job_release(lane, job);
		return;
	}
	if (waits || (ar_is_transient(err) && ++job->tries < AR_TRIES)) {
		long ms = waits ? 20 : 10L << job->tries;

		job->patience += waits;
		lane->tally.retries++;
		nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
		ar_job_begin(lane, job);
		return;
	}
	if (ar_is_check(job) && side) {
		ar_check_copy_anyway(lane, job);
		return;
	}
	ar_change_failed(lane, folder, change, err, op, side);
	ar_job_release(lane, job);
}

static const struct ar_row *dst_row(const struct ar_lane *lane, const struct job *job)
{
	return ar_change_dst_row(lane->batch, job->folder->pair, job->change);
}

static void use_stat(struct job *job)
{
	job->seen = *job->row;
	ar_row_take(&job->seen, &job->before);
}

static void rewind_job(const struct ar_lane *lane, struct job *job)
{
	const struct ar_row *row = job->reread ? &job->seen : job->row;
	const struct ar_row *read = job->side ? dst_row(lane, job) : row;

	job->size = row->size;
	job->off = 0;
	job->data_end = 0;
	job->hole_bytes = 0;
	job->asked = 0;
	/* in place a hole would leave the old data standing; -S punches it */
	job->sparse = (read->flags & AR_ROW_SPARSE) && (ar_is_check(job) || !in_place(lane, job));
	ar_hasher_reset(&job->hasher);
}

static int finish(struct ar_lane *lane, struct job *job, bool unstable, int *op)
{
	struct folder *folder = job->folder;
	const char *name = ar_row_name(job->page, job->row);
	const struct ar_row *row = job->reread && !unstable ? &job->seen : job->row;
	struct attr_target at = {
		.fd = job->dst_fd, .path_fd = -1, .dir_fd = -1, .name = "",
		.src_fd = job->src_fd, .src_dir_fd = -1, .src_name = "",
		.pair = folder->index, .row = job->change->src_row, .fresh = !in_place(lane, job),
	};
	int err = ar_attr_apply(lane, &at, row, &job->want, op);

	if (err)
		return err;
	*op = AR_OP_WRITE;
	err = close(job->dst_fd) ? -errno : 0;
	job->dst_fd = -1;	/* closed also where close(2) tells of an error */
	if (!err && *job->temp)
		err = ar_keep_old(lane, folder, job->change, AR_BACKUP_LINK, op);
	if (!err && *job->temp)
		err = ar_place(job->dst_dir_fd, job->temp, folder->dst_fd, name, false, op);
	if (!err)
		job->made = false;	/* it is what it shall be: nobody removes it any more */
	return err;
}

/* its content comes from the source after all */
static void drop_clone(struct ar_lane *lane, struct job *job)
{
	if (ar_is_clone(lane->batch, job->change))
		ar_move_drop(lane, job->change);
}

/* the source as it is now; 1: changed, read it again */
static int still_the_same(struct ar_lane *lane, struct job *job, bool *unstable)
{
	struct stat st;
	int err = sys_fstat(job->src_fd, &st);

	*unstable = false;
	if (err)
		return err;
	if (job->reread) {
		struct ar_row now = job->seen;

		*unstable = !ar_row_same(&st, &now) || job->off != job->size;
		return 0;
	}
	if (ar_row_same(&st, job->row) && job->off == job->size)
		return 0;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;	/* not the file that was scanned */
	job->before = st;
	use_stat(job);
	job->reread = true;
	lane->tally.rereads++;
	ar_folder_want(lane, job->folder, &job->seen, dst_row(lane, job), &job->want);
	return 1;
}

/* a file shorter than what stood there, or one that ends in a hole */
static int set_length(struct ar_lane *lane, struct job *job)
{
	if (!in_place(lane, job) && !job->hole_bytes && !job->restarted &&
	    !(lane->cfg.flags & (AR_LANE_SPARSE | AR_LANE_PREALLOCATE)))
		return 0;
	return sys_truncate(job->dst_fd, (off_t)job->off);
}

void ar_job_keep_chunks(struct ar_lane *lane, const struct job *job)
{
	size_t count;
	const uint8_t *hashes = ar_hasher_list(&job->hasher, &count);

	if (hashes && ar_chunks_add(lane->batch, job->folder->index, job->change->src_row,
					  false, hashes, count))
		lane->fatal = -ENOMEM;
}

static void succeed(struct ar_lane *lane, struct job *job, int method, bool unstable)
{
	struct ar_change *change = job->change;

	change->method = (uint8_t)method;
	change->bytes = job->off;
	if (unstable) {
		change->flags |= AR_CHANGE_UNSTABLE;
		ar_warn(lane, job->folder->index, change->src_row, AR_PROBLEM_UNSTABLE, AR_OP_READ, 0);
	}
	ar_file_done(lane, method, job->off, job->hole_bytes);
	ar_change_done(lane, job->folder, change);
	ar_job_release(lane, job);
}

static void restart(struct ar_lane *lane, struct job *job)
{
	drop_clone(lane, job);
	job->restarted = job->dst_fd >= 0;
	if (job->restarted && !in_place(lane, job)) {
		int err = sys_truncate(job->dst_fd, 0);
		if (err) {
			ar_job_failed(lane, job, err, AR_OP_TRUNCATE, 1);
			return;
		}
	}
	rewind_job(lane, job);
	ar_job_advance(lane, job, 0);
}

void ar_job_complete(struct ar_lane *lane, struct job *job, size_t buffered, int method)
{
	struct ar_change *change = job->change;
	uint8_t hash[AR_HASH_BYTES];
	int op = AR_OP_STAT, err;
	bool unstable;

	if (ar_is_check(job)) {
		ar_check_read(lane, job, buffered);
		return;
	}
	err = still_the_same(lane, job, &unstable);
	if (err > 0) {
		restart(lane, job);
		return;
	}
	if (err < 0) {
		ar_job_failed(lane, job, err, AR_OP_STAT, 0);
		return;
	}
	bool hashed = method == AR_METHOD_READ_WRITE && !unstable;
	if (hashed && buffered)
		ar_hash_block(job->buf, buffered, hash);
	else if (hashed)
		hashed = ar_hasher_final(&job->hasher, hash);
	if (hashed && !job->reread &&
	    ar_source_decays(job->folder, change, ar_row_name(job->page, job->row), job->size,
			     hash)) {
		ar_job_failed(lane, job, -EBADMSG, AR_OP_VERIFY, 0);
		return;
	}
	if (job->dst_fd < 0 && (err = create(lane, job))) {
		ar_job_failed(lane, job, err, create_op(lane, job), 1);
		return;
	}
	if (buffered) {
		err = ar_write_data(lane, job->dst_fd, job->buf, buffered, 0, in_place(lane, job),
				    &job->hole_bytes);
		if (err) {
			ar_job_failed(lane, job, err, AR_OP_WRITE, 1);
			return;
		}
	}
	if ((err = set_length(lane, job))) {
		ar_job_failed(lane, job, err, AR_OP_TRUNCATE, 1);
		return;
	}
	if (hashed) {
		memcpy(change->hash, hash, AR_HASH_BYTES);
		change->flags |= AR_CHANGE_HASHED;
	}
	if (hashed && !buffered)
		ar_job_keep_chunks(lane, job);
	err = finish(lane, job, unstable, &op);
	if (err == -EXDEV && job->dst_dir_fd != job->folder->dst_fd) {
		unmake(job);
		lane->cfg.temp_dir_fd = -1;	/* --temp-dir on another filesystem: beside it */
		lane->tally.moved_bytes -= AR_MIN(job->off, lane->tally.moved_bytes);
		restart(lane, job);
		return;
	}
	if (err)
		ar_job_failed(lane, job, err, op, 1);
	else
		succeed(lane, job, method, unstable);
}

/* 1: cloned and done with, 0: to be copied */
static int try_clone(struct ar_lane *lane, struct job *job)
{
	if (!ar_is_clone(lane->batch, job->change))
		return 0;
	int fd = ar_clone_open(lane, job->change);
	int err = fd >= 0 ? create(lane, job) : 0;
	if (err) {
		close(fd);
		ar_job_failed(lane, job, err, create_op(lane, job), 1);
		return 1;
	}
	if (fd >= 0 && ar_clone_take(lane, job->change, fd, job->dst_fd)) {
		job->off = job->size;
		ar_job_complete(lane, job, 0, AR_METHOD_REFLINK);
		return 1;
	}
	unmake(job);
	drop_clone(lane, job);
	return 0;
}

/* 1: shared and done with, 0: to be read */
static int try_share(struct ar_lane *lane, struct job *job)
{
	int method = lane->cfg.method, used = AR_METHOD_NONE, op = AR_OP_NONE;

	if (!job->size || job->reread || !ar_method_shares(lane, method, job->page->dev))
		return 0;
	int err = job->dst_fd < 0 ? create(lane, job) : 0;
	if (err) {
		ar_job_failed(lane, job, err, create_op(lane, job), 1);
		return 1;
	}
	if (job->sparse && method != AR_METHOD_REFLINK)
		method = AR_METHOD_READ_WRITE;	/* the others would fill the holes */
	err = ar_method_share(lane, method, job->page->dev, job->src_fd, job->dst_fd, job->size,
			      &used, &op);
	if (err < 0) {
		ar_job_failed(lane, job, err, op, 1);
		return 1;
	}
	if (err) {	/* not possible here: part of it may have been copied */
		job->restarted = true;
		return 0;
	}
	job->off = job->size;
	ar_job_complete(lane, job, 0, used);
	return 1;
}

/* finds the data segment at off; 0: nothing but a hole up to the end */
static int next_segment(struct ar_lane *lane, struct job *job)
{
	off_t data = sys_seek(job->src_fd, (off_t)job->off, SEEK_DATA);
	uint64_t start = data < 0 || (uint64_t)data > job->size ? job->size : (uint64_t)data;

	if (data < 0 && data != -ENXIO) {	/* a filesystem that cannot tell */
		job->sparse = false;
		return 1;
	}
	if (start > job->off) {
		ar_hasher_zeros(&job->hasher, start - job->off);
		if (!ar_is_check(job)) {
			job->hole_bytes += start - job->off;
			lane->tally.moved_bytes += start - job->off;
		}
		job->off = start;
	}
	off_t hole = start < job->size ? sys_seek(job->src_fd, (off_t)start, SEEK_HOLE) : 0;
	job->data_end = hole > (off_t)start ? (uint64_t)hole : job->size;
	return start < job->size;
}

/* the length of the next read, 0 when there is nothing more to read */
static size_t next_read(struct ar_lane *lane, struct job *job)
{
	uint64_t end = job->size;

	if (job->off >= end)
		return 0;
	if (job->sparse && job->off >= job->data_end && !next_segment(lane, job))
		return 0;
	if (job->sparse)
		end = AR_MIN(end, job->data_end);
	return (size_t)AR_MIN(end - job->off, lane->cfg.buffer_bytes);
}

/* false: the job has ended */
static bool write_out(struct ar_lane *lane, struct job *job, size_t got)
{
	int err = job->dst_fd < 0 ? create(lane, job) : 0;

	if (err) {
		ar_job_failed(lane, job, err, create_op(lane, job), 1);
		return false;
	}
	err = ar_write_data(lane, job->dst_fd, job->buf, got, job->off, in_place(lane, job),
			    &job->hole_bytes);
	if (err)
		ar_job_failed(lane, job, err, AR_OP_WRITE, 1);
	return !err;
}

/* takes got bytes in the buffer on to the destination, in a check to the hash alone */
static bool pass_on(struct ar_lane *lane, struct job *job, size_t got)
{
	if (!ar_is_check(job) && !write_out(lane, job, got))
		return false;
	ar_hasher_update(&job->hasher, job->buf, got);
	job->off += got;
	return true;
}

static bool opened(struct ar_lane *lane, struct job *job, long result)
{
	if (result < 0) {
		ar_job_failed(lane, job, (int)result, ar_job_open_op(job), (int)job->side);
		return false;
	}
	job->src_fd = (int)result;
	job->state = JOB_READ;
	if (ar_is_check(job))
		return ar_check_opened(lane, job);
	return !try_clone(lane, job) && !try_share(lane, job);
}

/*
 * Goes on with a job whose pending operation answered result (of a read: bytes; 0
 * with nothing asked for starts a round).  Returns when the job waits for the ring
 * again or has ended.
 */
void ar_job_advance(struct ar_lane *lane, struct job *job, long result)
{
	if (job->state == JOB_OPEN) {
		if (!opened(lane, job, result))
			return;
		result = 0;
	}
	for (;;) {
		if (result == -EAGAIN)	/* the ring would not wait for it */
			result = sys_read(job->src_fd, job->buf, job->asked, (off_t)job->off, 0);
		if (result < 0) {
			ar_job_failed(lane, job, (int)result, AR_OP_READ, (int)job->side);
			return;
		}
		if (job->asked && !result) {	/* it ends before its size */
			ar_job_complete(lane, job, 0, AR_METHOD_READ_WRITE);
			return;
		}
		if (result && !job->off && (uint64_t)result == job->size && job->dst_fd < 0) {
			job->off = job->size;	/* all of it in one buffer: the common case */
			ar_job_complete(lane, job, (size_t)result, AR_METHOD_READ_WRITE);
			return;
		}
		if (result && !pass_on(lane, job, (size_t)result))
			return;
		size_t len = ar_stopped(lane) ? 0 : next_read(lane, job);
		if (!len && ar_stopped(lane)) {
			ar_job_failed(lane, job, -EINTR, AR_OP_READ, 0);
			return;
		}
		if (!len) {
			ar_job_complete(lane, job, 0, AR_METHOD_READ_WRITE);
			return;
		}
		result = ar_io_read(lane, job, len);
		if (result == AR_PENDING)
			return;
	}
}

void ar_job_read(struct ar_lane *lane, struct job *job, uint32_t side)
{
	job->side = side;
	job->state = JOB_OPEN;
	rewind_job(lane, job);
	long r = ar_io_open(lane, job);
	if (r != AR_PENDING)
		ar_job_advance(lane, job, r);
}

void ar_job_begin(struct ar_lane *lane, struct job *job)
{
	job->src_fd = job->dst_fd = -1;
	job->temp[0] = '\0';
	job->reread = job->restarted = job->made = false;
	ar_folder_want(lane, job->folder, job->row, dst_row(lane, job), &job->want);
	if (ar_is_check(job))
		ar_check_begin(lane, job);
	else
		ar_job_read(lane, job, 0);
}

void ar_job_start(struct ar_lane *lane, struct folder *folder, struct ar_change *change)
{
	struct job *job = take_job(lane);

	job->folder = folder;
	job->change = change;
	job->page = ar_src_page(lane->batch, folder->pair);
	job->row = &ar_rows(job->page)[change->src_row];
	job->tries = job->patience = 0;
	folder->active++;
	ar_job_begin(lane, job);
}
