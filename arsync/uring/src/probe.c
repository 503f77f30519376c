/*
 * probe.c - what the kernel lets this process do, and what a filesystem says
 * of itself.  Writes nothing; trial.c finds out by trying.
 *
 * A ring gets all the flags that the kernel takes, in the order in which they
 * came: COOP_TASKRUN is of 5.19, SINGLE_ISSUER of 6.0, DEFER_TASKRUN of 6.1 (and
 * only together with SINGLE_ISSUER).  A flag that it does not know is EINVAL.
 */
#include "sys.h"

#include <liburing.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#define FEW_ENTRIES 8
#define MOST_ENTRIES 32768	/* IORING_MAX_ENTRIES: the kernel refuses more */
#define BUFFER_BYTES 262144

static int ring_setup(struct io_uring *ring, uint32_t entries, uint32_t flags)
{
	struct io_uring_params params = { .flags = flags };
	int err = ar_fault(AR_OP_RING_SETUP, NULL);

	return err ? err : io_uring_queue_init_params(entries, ring, &params);
}

static const struct {
	uint32_t setup, flag;
} ring_steps[] = {
	{ IORING_SETUP_COOP_TASKRUN, AR_RING_COOP_TASKRUN },
	{ IORING_SETUP_SINGLE_ISSUER, AR_RING_SINGLE_ISSUER },
	{ IORING_SETUP_DEFER_TASKRUN, AR_RING_DEFER_TASKRUN },
};

#define RING_STEPS (sizeof(ring_steps) / sizeof(ring_steps[0]))

/* all steps, as a kernel of today takes them, else one step less and so on */
static int best_ring(struct io_uring *ring, uint32_t *accepted)
{
	int err = -EINVAL;

	for (size_t steps = RING_STEPS + 1; steps-- && err == -EINVAL;) {
		uint32_t setup = 0;

		*accepted = 0;
		for (size_t i = 0; i < steps; i++) {
			setup |= ring_steps[i].setup;
			*accepted |= ring_steps[i].flag;
		}
		err = ring_setup(ring, FEW_ENTRIES, setup);
	}
	return err;
}

static int list_ops(struct io_uring *ring, struct ar_ring_facts *out)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);

	if (!probe)
		return -ENOMEM;
	out->op_count = probe->ops_len;
	for (uint32_t i = 0; i < probe->ops_len; i++)
		out->ops[probe->ops[i].op] = !!(probe->ops[i].flags & IO_URING_OP_SUPPORTED);
	io_uring_free_probe(probe);
	return 0;
}

static void try_depth(struct ar_ring_facts *out)
{
	for (uint32_t entries = MOST_ENTRIES; entries; entries /= 2) {
		struct io_uring ring;
		int err = ring_setup(&ring, entries, 0);

		if (!err) {
			io_uring_queue_exit(&ring);
			out->depth = entries;
			return;
		}
		out->depth_err = -err;
	}
}

/*
 * The same pages again and again: each registration counts against
 * RLIMIT_MEMLOCK, none takes memory.  Pages of a huge one would count once.
 */
static int try_buffers(struct io_uring *ring, struct ar_ring_facts *out, uint64_t bytes)
{
	uint32_t count = (uint32_t)AR_MAX(bytes / BUFFER_BYTES, 1);
	struct iovec *buffers = calloc(count, sizeof(*buffers));
	void *memory = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err = buffers && memory != MAP_FAILED ? 0 : -ENOMEM;

	if (err)
		goto out;
	madvise(memory, BUFFER_BYTES, MADV_NOHUGEPAGE);
	for (uint32_t i = 0; i < count; i++)
		buffers[i] = (struct iovec){ memory, BUFFER_BYTES };
	for (uint32_t low = 0, high = count; low < high;) {
		uint32_t tried = high == count ? count : low + (high - low + 1) / 2;
		int refused = io_uring_register_buffers(ring, buffers, tried);

		if (refused) {
			out->buffer_err = -refused;
			high = tried - 1;
			continue;
		}
		io_uring_unregister_buffers(ring);
		low = tried;
		out->buffer_bytes = (uint64_t)tried * BUFFER_BYTES;
	}
out:
	if (memory != MAP_FAILED)
		munmap(memory, BUFFER_BYTES);
	free(buffers);
	return err;
}

int ar_probe_ring(uint64_t buffer_bytes, struct ar_ring_facts *out)
{
	struct io_uring ring;
	int err;

	memset(out, 0, sizeof(*out));
	err = best_ring(&ring, &out->flags);
	if (err) {
		out->err = -err;
		out->flags = 0;
		return 0;
	}
	out->features = ring.features;
	err = list_ops(&ring, out);
	/*
	 * The deep rings come last: they may count against RLIMIT_MEMLOCK too, and
	 * the kernel gives a ring's share back some time after it was closed.
	 */
	if (!err && buffer_bytes)
		err = try_buffers(&ring, out, buffer_bytes);
	if (!err && buffer_bytes)
		try_depth(out);
	io_uring_queue_exit(&ring);
	return err;
}

static void take_statfs(const struct statfs *from, struct ar_fs_facts *out)
{
	uint64_t block = from->f_frsize ? (uint64_t)from->f_frsize : (uint64_t)from->f_bsize;

	out->magic = (uint64_t)from->f_type & 0xffffffff;
	out->block_bytes = block;
	out->total_bytes = from->f_blocks * block;
	out->free_bytes = from->f_bavail * block;
	out->total_inodes = from->f_files;
	out->free_inodes = from->f_ffree;
	out->name_max = (uint64_t)from->f_namelen;
}

static void take_statx(const struct statx *from, struct ar_fs_facts *out)
{
	out->dev = ar_dev(from->stx_dev_major, from->stx_dev_minor);
	if (from->stx_mask & STATX_BTIME) {
		out->has_btime = 1;
		out->btime_s = from->stx_btime.tv_sec;
		out->btime_n = from->stx_btime.tv_nsec;
	}
	if (from->stx_mask & STATX_MNT_ID)
		out->mount_id = from->stx_mnt_id;
#ifdef STATX_DIOALIGN
	if (from->stx_mask & STATX_DIOALIGN) {
		out->dio_known = 1;
		out->dio_memory = from->stx_dio_mem_align;
		out->dio_offset = from->stx_dio_offset_align;
	}
#endif
}

int ar_probe_fs(int fd, struct ar_fs_facts *out)
{
	uint32_t mask = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;
	struct statfs fs;
	struct statx st;

#ifdef STATX_DIOALIGN
	mask |= STATX_DIOALIGN;
#endif
	memset(out, 0, sizeof(*out));
	if (fstatfs(fd, &fs))
		return -errno;
	if (statx(fd, "", AT_EMPTY_PATH, mask, &st))
		return -errno;
	take_statfs(&fs, out);
	take_statx(&st, out);
	return 0;
}

int ar_probe_fallocate(int fd, uint32_t mode, uint64_t offset, uint64_t length)
{
	return (int)AR_SYS(AR_OP_ALLOCATE,
			   fallocate(fd, (int)mode, (off_t)offset, (off_t)length));
}
