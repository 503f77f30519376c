/*
 * trial.c - which way an operation goes through the ring on one filesystem.
 *
 * One operation at a time is submitted to a plain ring (without DEFER_TASKRUN,
 * which would hold completions back).  There are three ways:
 *
 *	inlined	its completion is there when io_uring_enter comes back
 *	device	it comes later, moved on by the device's interrupt
 *	worker	the kernel handed it to a thread of its own
 *
 * The kernel's workers belong to the thread that submits, appear in
 * /proc/self/task as "iou-wrk-...", and stay for five seconds when idle.  So
 * each try has a thread and a ring of its own: a worker that was not in the
 * list before the try was started for it.  Their number in the name is that of
 * the outermost pid namespace, so it is the set of threads that is compared.
 */
#include "sys.h"

#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK 4096
#define FILE_BYTES 65536
#define MAX_TASKS 1024
#define WORKER_NAME "iou-wrk-"
#define ATTRIBUTE "user.arsync.trial"

struct try {
	int dir;
	int fd;
	int pipe[2];
	uint8_t *buffer;
	struct statx stx;
	uint32_t trial;
	enum { INLINED, DEVICE, WORKER } way;
	int err;
};

/* --------------------------------------------------------- workers of the kernel */

struct tasks {
	int count;
	int tid[MAX_TASKS];
};

static bool is_worker(int task_dir, const char *tid)
{
	char path[64], name[32] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%.32s/comm", tid);
	fd = openat(task_dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, name, sizeof(name) - 1);
	close(fd);
	return n > 0 && !strncmp(name, WORKER_NAME, strlen(WORKER_NAME));
}

static int list_workers(struct tasks *out)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;

	if (!dir)
		return -errno;
	out->count = 0;
	while ((entry = readdir(dir)) && out->count < MAX_TASKS) {
		if (entry->d_name[0] != '.' && is_worker(dirfd(dir), entry->d_name))
			out->tid[out->count++] = atoi(entry->d_name);
	}
	closedir(dir);
	return 0;
}

static bool has_task(const struct tasks *tasks, int tid)
{
	for (int i = 0; i < tasks->count; i++) {
		if (tasks->tid[i] == tid)
			return true;
	}
	return false;
}

static bool has_new_task(const struct tasks *before, const struct tasks *after)
{
	for (int i = 0; i < after->count; i++) {
		if (!has_task(before, after->tid[i]))
			return true;
	}
	return false;
}

/* ------------------------------------------------ what each operation needs first */

static int open_a(struct try *t, int flags)
{
	t->fd = openat(t->dir, "a", flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return t->fd < 0 ? -errno : 0;
}

static int nothing(struct try *t)
{
	(void)t;
	return 0;
}

static int new_file(struct try *t)
{
	return open_a(t, O_RDWR | O_CREAT | O_EXCL);
}

static int full_file(struct try *t)
{
	int err = new_file(t);

	if (!err && pwrite(t->fd, t->buffer, FILE_BYTES, 0) != FILE_BYTES)
		err = errno ? -errno : -EIO;
	return err;
}

static int closed_file(struct try *t)
{
	int err = full_file(t);

	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	return err;
}

static int cold_file(struct try *t)
{
	struct iovec part = { t->buffer, BLOCK };
	int err = full_file(t);

	if (err)
		return err;
	if (fdatasync(t->fd))
		return -errno;
	posix_fadvise(t->fd, 0, 0, POSIX_FADV_DONTNEED);
	/* a filesystem in memory has no cold files, and others may keep a page */
	if (preadv2(t->fd, &part, 1, 0, RWF_NOWAIT) >= 0)
		return -EBUSY;
	return errno == EAGAIN ? 0 : -errno;
}

static int direct_file(struct try *t)
{
	int err = full_file(t);

	if (!err && fdatasync(t->fd))
		err = -errno;
	if (err)
		return err;
	close(t->fd);
	return open_a(t, O_RDONLY | O_DIRECT);
}

/* as the executor does it: space within the size, so that no write extends the file */
static int allocated_file(struct try *t)
{
	int err = open_a(t, O_RDWR | O_CREAT | O_EXCL | O_DIRECT);

	if (!err && fallocate(t->fd, 0, 0, FILE_BYTES))
		err = -errno;
	return err;
}

static int attribute_file(struct try *t)
{
	int err = new_file(t);

	if (!err && fsetxattr(t->fd, ATTRIBUTE, "1", 1, 0))
		err = -errno;
	return err;
}

static int pipe_and_file(struct try *t)
{
	int err = full_file(t);

	if (!err && pipe2(t->pipe, O_CLOEXEC))
		err = -errno;
	return err;
}

/* --------------------------------------------------------------- the operations */

static void fill_open(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_openat(sqe, t->dir, "a", O_RDONLY | O_CLOEXEC, 0);
}

static void fill_create(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_openat(sqe, t->dir, "a", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

static void fill_read(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_read(sqe, t->fd, t->buffer, BLOCK, 0);
}

static void fill_write(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_write(sqe, t->fd, t->buffer, BLOCK, 0);
}

static void fill_fsync(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_fsync(sqe, t->fd, 0);
}

static void fill_fallocate(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_fallocate(sqe, t->fd, FALLOC_FL_KEEP_SIZE, 0, FILE_BYTES);
}

static void fill_statx(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_statx(sqe, t->dir, "a", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &t->stx);
}

static void fill_mkdir(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_mkdirat(sqe, t->dir, "a", 0700);
}

static void fill_rename(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_renameat(sqe, t->dir, "a", t->dir, "b", 0);
}

static void fill_unlink(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_unlinkat(sqe, t->dir, "a", 0);
}

static void fill_link(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_linkat(sqe, t->dir, "a", t->dir, "b", 0);
}

static void fill_symlink(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_symlinkat(sqe, "target", t->dir, "b");
}

static void fill_set_xattr(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_fsetxattr(sqe, t->fd, ATTRIBUTE, "1", 0, 1);
}

static void fill_get_xattr(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_fgetxattr(sqe, t->fd, ATTRIBUTE, (char *)t->buffer, BLOCK);
}

static void fill_splice(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_splice(sqe, t->fd, 0, t->pipe[1], -1, BLOCK, 0);
}

static void fill_close(struct try *t, struct io_uring_sqe *sqe)
{
	io_uring_prep_close(sqe, t->fd);
}

static const struct {
	uint8_t opcode;
	int (*prepare)(struct try *t);
	void (*fill)(struct try *t, struct io_uring_sqe *sqe);
} trials[AR_TRIAL_COUNT] = {
	[AR_TRIAL_OPEN] = { IORING_OP_OPENAT, closed_file, fill_open },
	[AR_TRIAL_CREATE] = { IORING_OP_OPENAT, nothing, fill_create },
	[AR_TRIAL_READ_CACHED] = { IORING_OP_READ, full_file, fill_read },
	[AR_TRIAL_READ_COLD] = { IORING_OP_READ, cold_file, fill_read },
	[AR_TRIAL_READ_DIRECT] = { IORING_OP_READ, direct_file, fill_read },
	[AR_TRIAL_WRITE_NEW] = { IORING_OP_WRITE, new_file, fill_write },
	[AR_TRIAL_WRITE_DIRECT] = { IORING_OP_WRITE, allocated_file, fill_write },
	[AR_TRIAL_FSYNC] = { IORING_OP_FSYNC, full_file, fill_fsync },
	[AR_TRIAL_FALLOCATE] = { IORING_OP_FALLOCATE, new_file, fill_fallocate },
	[AR_TRIAL_STATX] = { IORING_OP_STATX, closed_file, fill_statx },
	[AR_TRIAL_MKDIR] = { IORING_OP_MKDIRAT, nothing, fill_mkdir },
	[AR_TRIAL_RENAME] = { IORING_OP_RENAMEAT, closed_file, fill_rename },
	[AR_TRIAL_UNLINK] = { IORING_OP_UNLINKAT, closed_file, fill_unlink },
	[AR_TRIAL_LINK] = { IORING_OP_LINKAT, closed_file, fill_link },
	[AR_TRIAL_SYMLINK] = { IORING_OP_SYMLINKAT, nothing, fill_symlink },
	[AR_TRIAL_SET_XATTR] = { IORING_OP_FSETXATTR, new_file, fill_set_xattr },
	[AR_TRIAL_GET_XATTR] = { IORING_OP_FGETXATTR, attribute_file, fill_get_xattr },
	[AR_TRIAL_SPLICE] = { IORING_OP_SPLICE, pipe_and_file, fill_splice },
	[AR_TRIAL_CLOSE] = { IORING_OP_CLOSE, full_file, fill_close },
};

/* ---------------------------------------------------------------------- one try */

static int submit_and_watch(struct try *t, struct io_uring *ring)
{
	struct tasks before, after;
	struct io_uring_cqe *cqe;
	bool at_once;
	int err = list_workers(&before);

	if (err)
		return err;
	trials[t->trial].fill(t, io_uring_get_sqe(ring));
	err = io_uring_submit(ring);
	if (err < 0)
		return err;
	at_once = !io_uring_peek_cqe(ring, &cqe);
	if (!at_once) {
		err = io_uring_wait_cqe(ring, &cqe);
		if (err)
			return err;
	}
	err = cqe->res < 0 ? cqe->res : 0;
	if (!err && trials[t->trial].opcode == IORING_OP_OPENAT)
		t->fd = cqe->res;
	if (!err && trials[t->trial].opcode == IORING_OP_CLOSE)
		t->fd = -1;
	io_uring_cqe_seen(ring, cqe);
	if (err)
		return err;
	err = list_workers(&after);
	t->way = has_new_task(&before, &after) ? WORKER : at_once ? INLINED : DEVICE;
	return err;
}

static void clean(struct try *t)
{
	int fds[] = { t->fd, t->pipe[0], t->pipe[1] };

	for (int i = 0; i < 3; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	if (unlinkat(t->dir, "a", 0) && (errno == EISDIR || errno == EPERM))
		unlinkat(t->dir, "a", AT_REMOVEDIR);
	unlinkat(t->dir, "b", 0);
}

static void *try_once(void *arg)
{
	struct try *t = arg;
	struct io_uring ring;

	t->fd = t->pipe[0] = t->pipe[1] = -1;
	t->err = ar_fault(AR_OP_RING_SETUP, NULL);
	if (!t->err)
		t->err = io_uring_queue_init(4, &ring, 0);
	if (t->err)
		return NULL;
	t->err = trials[t->trial].prepare(t);
	if (!t->err)
		t->err = submit_and_watch(t, &ring);
	clean(t);
	io_uring_queue_exit(&ring);
	return NULL;
}

int ar_probe_trial(int dir_fd, uint32_t trial, uint32_t times, struct ar_trial *out)
{
	struct try t = { .dir = dir_fd, .trial = trial };
	void *memory;

	if (trial >= AR_TRIAL_COUNT)
		return -EINVAL;
	if (posix_memalign(&memory, BLOCK, FILE_BYTES))
		return -ENOMEM;
	t.buffer = memset(memory, 'a', FILE_BYTES);
	memset(out, 0, sizeof(*out));
	out->opcode = trials[trial].opcode;
	while (times-- && !out->err) {
		pthread_t thread;
		int err = pthread_create(&thread, NULL, try_once, &t);

		if (err) {
			free(memory);
			return -err;
		}
		pthread_join(thread, NULL);
		out->err = -t.err;
		out->inlined += !t.err && t.way == INLINED;
		out->device += !t.err && t.way == DEVICE;
		out->worker += !t.err && t.way == WORKER;
	}
	free(memory);
	return 0;
}
