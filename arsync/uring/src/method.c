/*
 * method.c - content that moves inside the kernel: reflink, copy_file_range, splice.
 *
 * None of them shows the bytes to us, so none leaves a hash.  Which one is tried
 * is decided in methods.py, from measurements; here it is done, or answered with
 * "not possible", and then the file is read and written.
 *
 * Source: ioctl_ficlone(2), copy_file_range(2), splice(2).
 */
#include "lane.h"

#define PIECE_BYTES (16u << 20)	/* a call's share: progress is seen, a stop is heard */
#define PIPE_BYTES (1 << 20)

bool ar_method_refuses(int err)
{
	return err == -EXDEV || err == -EINVAL || err == -EOPNOTSUPP || err == -ENOTTY ||
	       err == -ENOSYS || err == -ETXTBSY || err == -EPERM || err == -EBADF;
}

static bool may_clone(const struct ar_lane *lane, int method, uint64_t dev)
{
	bool wanted = method == AR_METHOD_REFLINK || (lane->cfg.flags & AR_LANE_REFLINK);

	return wanted && (lane->no_clone_dev != dev || (lane->cfg.flags & AR_LANE_REFLINK_ALWAYS));
}

bool ar_method_shares(const struct ar_lane *lane, int method, uint64_t dev)
{
	return may_clone(lane, method, dev) || method == AR_METHOD_COPY_RANGE ||
	       method == AR_METHOD_SPLICE;
}

static int splice_some(struct ar_lane *lane, int src_fd, off_t *src_off, int dst_fd,
		       off_t *dst_off, size_t len)
{
	size_t part = len;
	int err = ar_fault(AR_OP_SPLICE, &part);

	if (err)
		return err;
	if (lane->pipe_fds[0] < 0) {
		if (pipe2(lane->pipe_fds, O_CLOEXEC))
			return -errno;
		(void)fcntl(lane->pipe_fds[1], F_SETPIPE_SZ, PIPE_BYTES);
	}
	ssize_t in = splice(src_fd, src_off, lane->pipe_fds[1], NULL, AR_MIN(part, PIPE_BYTES),
			    SPLICE_F_MOVE);
	if (in <= 0)
		return in ? -errno : 0;
	for (ssize_t out = 0; out < in;) {
		ssize_t r = splice(lane->pipe_fds[0], NULL, dst_fd, dst_off, (size_t)(in - out),
				   SPLICE_F_MOVE);
		if (r <= 0) {	/* what is stuck in the pipe goes with it */
			err = r ? -errno : -EIO;
			close(lane->pipe_fds[0]);
			close(lane->pipe_fds[1]);
			lane->pipe_fds[0] = lane->pipe_fds[1] = -1;
			return err;
		}
		out += r;
	}
	return (int)in;
}

int ar_method_range(struct ar_lane *lane, int method, int src_fd, int dst_fd, uint64_t off,
		    uint64_t len, int *op)
{
	off_t in = (off_t)off, out = (off_t)off;
	uint64_t left = len;

	*op = method == AR_METHOD_SPLICE ? AR_OP_SPLICE : AR_OP_COPY_RANGE;
	while (left) {
		uint64_t piece = AR_MIN(left, lane->cfg.limit ? 1u << 20 : PIECE_BYTES);
		if (ar_stopped(lane))
			return -EINTR;
		ar_limit_take(lane, piece);
		ssize_t r = method == AR_METHOD_SPLICE
				    ? splice_some(lane, src_fd, &in, dst_fd, &out, piece)
				    : sys_copy_range(src_fd, &in, dst_fd, &out, piece);
		if (r == -EINTR)
			continue;
		if (r == 0 || (r < 0 && ar_method_refuses((int)r)))
			return 1;
		if (r < 0)
			return (int)r;
		left -= (uint64_t)r;
		lane->tally.moved_bytes += (uint64_t)r;
	}
	return 0;
}

/* --inplace: with more behind it, the end of the source in the middle of a block is refused */
int ar_method_clone(int src_fd, int dst_fd, uint64_t size)
{
	int err = sys_clone(dst_fd, src_fd);
	struct stat st;

	if (err != -EINVAL || fstat(dst_fd, &st) || (uint64_t)st.st_size <= size)
		return err;
	err = sys_truncate(dst_fd, (off_t)size);
	return err ? err : sys_clone(dst_fd, src_fd);
}

int ar_method_share(struct ar_lane *lane, int method, uint64_t dev, int src_fd, int dst_fd,
		    uint64_t size, int *used, int *op)
{
	if (may_clone(lane, method, dev)) {
		int err = ar_method_clone(src_fd, dst_fd, size);

		*op = AR_OP_REFLINK;
		if (!err) {
			*used = AR_METHOD_REFLINK;
			lane->tally.moved_bytes += size;
			return 0;
		}
		if (!ar_method_refuses(err) || (lane->cfg.flags & AR_LANE_REFLINK_ALWAYS))
			return err;
		lane->no_clone_dev = dev;
	}
	if (method != AR_METHOD_COPY_RANGE && method != AR_METHOD_SPLICE)
		return 1;
	*used = method;
	uint64_t before = lane->tally.moved_bytes;
	int r = ar_method_range(lane, method, src_fd, dst_fd, 0, size, op);
	if (r == 1)	/* it is counted when it is read and written */
		lane->tally.moved_bytes = before;
	return r;
}
