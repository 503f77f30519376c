/*
 * ring.c - the two engines: how a lane opens and reads without waiting.
 *
 * What is cached is answered at once by a plain call that refuses to block
 * (openat2 RESOLVE_CACHED, preadv2 RWF_NOWAIT): on a warm tree that is 12 %
 * cheaper than a trip through the ring.  What would block goes to the ring, as
 * deep as there are free jobs, and the lane works on.  The sync engine makes the
 * same calls blocking; its depth is its number of threads.
 *
 * Source: io_uring(7), io_uring_setup(2), openat2(2), preadv2(2).
 */
#include <linux/magic.h>
#include <sys/vfs.h>
#include <time.h>

#include "lane.h"

#define SUBMIT_EVERY 16		/* reads queued before the kernel is told of them */
#define SUBMIT_TRIES 1000	/* a millisecond each, before the ring is given up */

#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
#define OPEN_FOLLOW_FLAGS (O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)

/* the best set-up first; each kernel takes the first one that it knows */
static const unsigned int setups[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	0,
};

int ar_ring_open(struct ar_lane *lane)
{
	int err = ar_fault(AR_OP_RING_SETUP, NULL);

	if (err)
		return err;
	for (size_t i = 0; i < sizeof(setups) / sizeof(*setups); i++) {
		struct io_uring_params params = { .flags = setups[i] };

		err = io_uring_queue_init_params(lane->cfg.queue_depth, &lane->ring, &params);
		if (err != -EINVAL)
			break;
	}
	if (!err)
		lane->has_ring = true;
	return err;
}

void ar_ring_close(struct ar_lane *lane)
{
	if (lane->has_ring)
		io_uring_queue_exit(&lane->ring);
	lane->has_ring = false;
}

static uint32_t in_flight(const struct ar_lane *lane)
{
	return lane->job_count - lane->free_count;
}

/* an entry that is sure to be had: there are never more jobs than entries */
static struct io_uring_sqe *get_sqe(struct ar_lane *lane, struct job *job)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&lane->ring);

	if (!sqe) {
		if (ar_ring_submit(lane))
			return NULL;
		sqe = io_uring_get_sqe(&lane->ring);
	}
	if (sqe)
		io_uring_sqe_set_data64(sqe, (uint64_t)(job - lane->jobs));
	return sqe;
}

static long queued(struct ar_lane *lane)
{
	lane->tally.punted++;
	if (++lane->unsubmitted >= SUBMIT_EVERY)
		(void)ar_ring_submit(lane);	/* a lost ring is seen by ar_ring_reap */
	return AR_PENDING;
}

int ar_ring_submit(struct ar_lane *lane)
{
	if (lane->ring_lost)
		return -ENXIO;
	for (int tries = 0;;) {
		int r = ar_fault(AR_OP_RING_SUBMIT, NULL);

		if (!r)
			r = io_uring_submit(&lane->ring);
		if (r >= 0) {
			lane->unsubmitted = io_uring_sq_ready(&lane->ring);
			return 0;
		}
		if (r == -EINTR)
			continue;
		/* EBUSY: the completion queue overflowed; EAGAIN: no memory just now */
		if ((r != -EBUSY && r != -EAGAIN) || ++tries > SUBMIT_TRIES) {
			lane->ring_lost = true;
			return r;
		}
		lane->tally.retries++;
		if (io_uring_cq_ready(&lane->ring))
			return 0;	/* reaping makes room; the rest is submitted then */
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

long ar_io_open(struct ar_lane *lane, struct job *job)
{
	const char *name = job->side ? ar_row_name(job->page, job->row)
				     : ar_row_src_name(job->page, job->row);
	int dir_fd = job->side ? job->folder->dst_fd : job->folder->src_fd;
	bool follow = !job->side && (job->row->flags & AR_ROW_FOLLOWED);
	int flags = follow ? OPEN_FOLLOW_FLAGS : OPEN_FLAGS;
	int op = ar_job_open_op(job);

	if (!ar_uses_ring(lane) || follow)
		return AR_SYS(op, openat(dir_fd, name, flags));

	struct open_how how = { .flags = (uint64_t)flags, .resolve = RESOLVE_CACHED };
	long r = AR_SYS(op, syscall(SYS_openat2, dir_fd, name, &how, sizeof(how)));
	if (r != -EAGAIN && r != -EINVAL && r != -ENOSYS)
		return r;
	struct io_uring_sqe *sqe = get_sqe(lane, job);
	if (!sqe)
		return AR_SYS(op, openat(dir_fd, name, flags));
	io_uring_prep_openat(sqe, dir_fd, name, flags, 0);
	return queued(lane);
}

/* files of a memory filesystem know no RWF_NOWAIT, and reading them never waits */
static bool never_waits(struct ar_lane *lane, const struct job *job, uint64_t dev)
{
	struct statfs fs;

	if (fstatfs(job->src_fd, &fs) || (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC))
		return false;
	lane->blocking_dev[job->side] = dev;
	return true;
}

static uint64_t dev_of(const struct ar_lane *lane, const struct job *job)
{
	return job->side ? ar_dst_page(lane->batch, job->folder->pair)->dev : job->page->dev;
}

long ar_io_read(struct ar_lane *lane, struct job *job, size_t len)
{
	int fd = job->src_fd;
	off_t off = (off_t)job->off;
	uint64_t dev = dev_of(lane, job);

	job->asked = (uint32_t)len;
	if (!ar_uses_ring(lane) || lane->blocking_dev[job->side] == dev)
		return sys_read(fd, job->buf, len, off, 0);

	long r = sys_read(fd, job->buf, len, off, RWF_NOWAIT);
	if (r != -EAGAIN && r != -EOPNOTSUPP)
		return r;
	if (r == -EOPNOTSUPP && never_waits(lane, job, dev))
		return sys_read(fd, job->buf, len, off, 0);
	struct io_uring_sqe *sqe = get_sqe(lane, job);
	if (!sqe)
		return sys_read(fd, job->buf, len, off, 0);
	io_uring_prep_read(sqe, fd, job->buf, (unsigned int)len, (uint64_t)off);
	return queued(lane);
}

struct io_uring_sqe *ar_ring_untaken(struct ar_lane *lane, uint32_t *cursor)
{
	const struct io_uring_sq *sq = &lane->ring.sq;
	const unsigned int at = io_uring_smp_load_acquire(sq->khead) + *cursor;

	if (at == sq->sqe_tail)
		return NULL;
	++*cursor;
	return &sq->sqes[at & sq->ring_mask];	/* liburing fills them in this order */
}

/* what a lost ring never took is done by plain calls, as everything from here on */
static void redo_untaken(struct ar_lane *lane)
{
	uint32_t cursor = 0;

	if (!lane->unsubmitted)
		return;
	lane->unsubmitted = 0;	/* the entries stay where they are: they are looked at once */
	for (struct io_uring_sqe *sqe; (sqe = ar_ring_untaken(lane, &cursor));) {
		struct job *job = &lane->jobs[sqe->user_data];

		if (job->state == JOB_OPEN)
			ar_job_advance(lane, job, ar_io_open(lane, job));
		else
			ar_job_advance(lane, job, -EAGAIN);
	}
}

int ar_ring_reap(struct ar_lane *lane, bool wait)
{
	struct io_uring_cqe *cqe;
	int err = 0;

	if (!lane->has_ring)
		return 0;
	if (lane->unsubmitted && ar_ring_submit(lane))
		redo_untaken(lane);
	if (wait && in_flight(lane)) {
		do {
			err = io_uring_wait_cqe(&lane->ring, &cqe);
		} while (err == -EINTR || err == -EAGAIN);
		if (err)
			return err;
	}
	while (!io_uring_peek_cqe(&lane->ring, &cqe)) {
		struct job *job = &lane->jobs[io_uring_cqe_get_data64(cqe)];
		long result = cqe->res;

		io_uring_cqe_seen(&lane->ring, cqe);
		if (result == -EINTR || result == -ECANCELED)
			result = -EAGAIN;
		ar_job_advance(lane, job, result);
	}
	return 0;
}
