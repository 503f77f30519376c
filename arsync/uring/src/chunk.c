/*
 * chunk.c - a chunk of a big file.
 *
 * Blocks of the lane's buffers form a pipeline: read (at once where the page cache
 * has it, else on the ring), hash in order, write (on the ring with O_DIRECT, else
 * a plain call).  A check has no last step.
 */
#include <pthread.h>
#include <stdlib.h>

#include "big.h"

#define BLOCK_BYTES (1u << 20)
#define SLOTS 8			/* blocks of a pipeline */
#define READS_AHEAD 4
#define DIRECT_ALIGN 4096	/* enough for every block device; refused: buffered */

enum slot_state { SLOT_FREE, SLOT_READING, SLOT_READ, SLOT_WRITING };

struct slot {
	enum slot_state state;
	uint8_t *buf;
	uint64_t off;		/* of the block in the file */
	uint32_t len;
	uint32_t done;		/* of what the ring is doing */
};

struct pipeline {
	struct ar_lane *lane;
	struct ar_big *big;
	int fd;			/* what is read */
	bool checks;		/* nothing is written */
	bool holds;		/* all blocks are kept, and written later or not at all */
	bool shrunk;		/* the file ended before its size */
	struct slot slots[SLOTS];
	uint32_t slot_count;
	uint32_t block;		/* bytes */
	uint64_t start, end;
	uint64_t read_off;	/* the next block to be read */
	uint64_t hash_off;	/* the next block to be hashed and written */
	uint32_t reading, writing;	/* on the ring */
	uint64_t hole_bytes;
	XXH3_state_t *hash;
	int err, op, side;
};

static struct slot *slot_at(struct pipeline *p, uint64_t off)
{
	return &p->slots[(off - p->start) / p->block % p->slot_count];
}

static void fail(struct pipeline *p, int err, int op, int side)
{
	if (p->err)
		return;
	p->err = err;
	p->op = op;
	p->side = side;
}

static struct io_uring_sqe *get_sqe(struct pipeline *p, struct slot *slot)
{
	struct io_uring_sqe *sqe = NULL;

	if (ar_uses_ring(p->lane))
		sqe = io_uring_get_sqe(&p->lane->ring);
	if (!sqe && !ar_ring_submit(p->lane))
		sqe = io_uring_get_sqe(&p->lane->ring);
	if (sqe)
		io_uring_sqe_set_data(sqe, slot);
	return sqe;
}

/* a file that has shrunk: the last stat says so; until then what is missing is zeros */
static void pad(struct pipeline *p, struct slot *slot)
{
	p->shrunk = true;
	memset(slot->buf + slot->done, 0, slot->len - slot->done);
	slot->done = slot->len;
	slot->state = SLOT_READ;
}

/* reads on until the block is full */
static void read_on(struct pipeline *p, struct slot *slot)
{
	int flags = ar_uses_ring(p->lane) ? RWF_NOWAIT : 0;

	while (slot->done < slot->len) {
		uint64_t off = slot->off + slot->done;
		ssize_t r = sys_read(p->fd, slot->buf + slot->done,
				     slot->len - slot->done, (off_t)off, flags);
		if (r == -EOPNOTSUPP && flags) {
			flags = 0;
			continue;
		}
		if (r == -EAGAIN && flags) {
			struct io_uring_sqe *sqe = get_sqe(p, slot);
			if (!sqe) {
				flags = 0;
				continue;
			}
			io_uring_prep_read(sqe, p->fd, slot->buf + slot->done,
					   slot->len - slot->done, off);
			p->reading++;
			p->lane->unsubmitted++;
			p->lane->tally.punted++;
			return;
		}
		if (r < 0) {
			fail(p, (int)r, AR_OP_READ, 0);
			return;
		}
		if (!r) {
			pad(p, slot);
			return;
		}
		slot->done += (uint32_t)r;
	}
	slot->state = SLOT_READ;
}

static void start_read(struct pipeline *p)
{
	struct slot *slot = slot_at(p, p->read_off);

	slot->off = p->read_off;
	slot->len = (uint32_t)AR_MIN(p->end - p->read_off, (uint64_t)p->block);
	slot->done = 0;
	slot->state = SLOT_READING;
	p->read_off += slot->len;
	read_on(p, slot);
}

static void write_on(struct pipeline *p, struct slot *slot)
{
	struct io_uring_sqe *sqe = get_sqe(p, slot);

	if (!sqe) {
		fail(p, -ENOMEM, AR_OP_RING_SUBMIT, 1);
		return;
	}
	/* the last block is written whole and the file cut to its size in the end */
	uint32_t len = (slot->len + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;
	io_uring_prep_write(sqe, p->big->direct_fd, slot->buf + slot->done, len - slot->done,
			    slot->off + slot->done);
	slot->state = SLOT_WRITING;
	p->writing++;
	p->lane->unsubmitted++;
}

/* on the ring where there is one; -EINVAL: not in this way */
static int write_direct(struct pipeline *p, struct slot *slot)
{
	int err = 0;

	ar_limit_take(p->lane, slot->len);
	memset(slot->buf + slot->len, 0, p->block - slot->len);
	if (ar_uses_ring(p->lane)) {
		err = ar_fault(AR_OP_WRITE, NULL);
		slot->done = 0;
		if (!err)
			write_on(p, slot);
		return err;
	}
	uint32_t len = (slot->len + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;
	err = sys_write_all(p->big->direct_fd, slot->buf, len, (off_t)slot->off);
	if (!err)
		p->lane->tally.moved_bytes += slot->len;
	return err;
}

/* where a file's next data (or its next hole) begins: at off or later, at end at the latest */
static uint64_t next_extent(int fd, uint64_t off, int whence, uint64_t end)
{
	off_t at = sys_seek(fd, (off_t)off, whence);

	if (at < 0 && at != -ENXIO)	/* a filesystem that cannot tell: all of it is data */
		return whence == SEEK_DATA ? off : end;
	return at < 0 ? end : AR_MIN((uint64_t)at, end);
}

/*
 * Holes of the source stay holes, and zeros that it stores are stored.  A hole is
 * left out only where zeros were read: it may be younger than the reading.
 */
static int write_extents(struct pipeline *p, const struct slot *slot)
{
	struct ar_big *big = p->big;
	const uint64_t end = slot->off + slot->len;
	int err = 0;

	for (uint64_t off = slot->off, data, hole; off < end && !err; off = hole) {
		data = next_extent(big->src_fd, off, SEEK_DATA, end);
		hole = data < end ? next_extent(big->src_fd, data, SEEK_HOLE, end) : end;
		if (data > off)
			err = ar_write_holes(p->lane, big->dst_fd, slot->buf + (off - slot->off),
					     data - off, off, big->overlays, &p->hole_bytes);
		if (!err && hole > data)
			err = ar_write_data(p->lane, big->dst_fd, slot->buf + (data - slot->off),
					    hole - data, data, big->overlays, &p->hole_bytes);
	}
	return err;
}

static void write_block(struct pipeline *p, struct slot *slot)
{
	struct ar_lane *lane = p->lane;
	struct ar_big *big = p->big;
	const bool has_holes = big->row.flags & AR_ROW_SPARSE;
	int err;

	slot->state = SLOT_FREE;
	if (big->direct_fd >= 0 && !has_holes && !(lane->cfg.flags & AR_LANE_SPARSE)) {
		err = write_direct(p, slot);
		if (err && err != -EINVAL)
			fail(p, err, AR_OP_WRITE, 1);
		if (err != -EINVAL)
			return;
	}
	if (has_holes)
		err = write_extents(p, slot);
	else
		err = ar_write_data(lane, big->dst_fd, slot->buf, slot->len, slot->off,
				    big->overlays, &p->hole_bytes);
	if (err)
		fail(p, err, AR_OP_WRITE, 1);
}

static void process(struct pipeline *p, struct slot *slot)
{
	if (p->hash && XXH3_128bits_update(p->hash, slot->buf, slot->len) != XXH_OK)
		fail(p, -ENOMEM, AR_OP_MEMORY, 0);
	p->hash_off += slot->len;
	if (p->checks)
		slot->state = SLOT_FREE;
	else if (!p->holds)
		write_block(p, slot);
}

static void completed(struct pipeline *p, struct slot *slot, int result)
{
	if (slot->state == SLOT_READING) {
		p->reading--;
		if (result < 0 && result != -EAGAIN && result != -EINTR) {
			fail(p, result, AR_OP_READ, 0);
			return;
		}
		slot->done += (uint32_t)AR_MAX(result, 0);
		if (!result)
			pad(p, slot);
		else
			read_on(p, slot);
		return;
	}
	p->writing--;
	if (result < 0 && result != -EAGAIN && result != -EINTR) {
		fail(p, result, AR_OP_WRITE, 1);
		return;
	}
	slot->done += (uint32_t)AR_MAX(result, 0);
	if (slot->done < slot->len) {
		write_on(p, slot);
		return;
	}
	p->lane->tally.moved_bytes += slot->len;
	slot->state = SLOT_FREE;
}

/* a lost ring never took these */
static void forget_untaken(struct pipeline *p)
{
	uint32_t cursor = 0;

	p->lane->unsubmitted = 0;
	for (struct io_uring_sqe *sqe; (sqe = ar_ring_untaken(p->lane, &cursor));) {
		const struct slot *slot = (void *)(uintptr_t)sqe->user_data;
		*(slot->state == SLOT_READING ? &p->reading : &p->writing) -= 1;
	}
}

static void reap(struct pipeline *p)
{
	struct io_uring_cqe *cqe;
	int err;

	if (p->lane->unsubmitted && (err = ar_ring_submit(p->lane))) {
		forget_untaken(p);
		fail(p, -EAGAIN, AR_OP_RING_SUBMIT, 0);	/* again, by plain calls */
	}
	if (!p->reading && !p->writing)
		return;
	do {
		err = io_uring_wait_cqe(&p->lane->ring, &cqe);
	} while (err == -EINTR || err == -EAGAIN);
	if (err) {	/* nothing can be known of what is in flight: the lane is lost */
		fail(p, err, AR_OP_RING_SUBMIT, 0);
		p->lane->fatal = err;
		p->reading = p->writing = 0;
		return;
	}
	while (!io_uring_peek_cqe(&p->lane->ring, &cqe)) {
		struct slot *slot = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&p->lane->ring, cqe);
		completed(p, slot, result);
	}
}

static bool slot_ready(struct pipeline *p)
{
	return p->hash_off < p->read_off && slot_at(p, p->hash_off)->state == SLOT_READ;
}

static bool may_read(struct pipeline *p)
{
	return p->read_off < p->end && p->reading < READS_AHEAD &&
	       slot_at(p, p->read_off)->state == SLOT_FREE;
}

static void run_pipeline(struct pipeline *p)
{
	while (!p->err && p->hash_off < p->end) {
		if (ar_stopped(p->lane))
			fail(p, -EINTR, AR_OP_READ, 0);
		else if (slot_ready(p))
			process(p, slot_at(p, p->hash_off));
		else if (may_read(p))
			start_read(p);
		else
			reap(p);
	}
	while (p->reading || p->writing)
		reap(p);
}

static bool is_hole(int fd, uint64_t off, uint64_t len)
{
	return next_extent(fd, off, SEEK_DATA, off + len) == off + len;
}

static uint8_t hash_of_hole[AR_HASH_BYTES];	/* of a whole chunk of zeros */
static bool has_hash_of_hole;

static bool hash_zeros(uint64_t len, uint8_t out[AR_HASH_BYTES])
{
	struct ar_hasher hasher = { 0 };

	ar_hasher_reset(&hasher);
	ar_hasher_zeros(&hasher, len);
	bool done = ar_hasher_final(&hasher, out);
	ar_hasher_free(&hasher);
	return done;
}

static void make_hash_of_hole(void)
{
	has_hash_of_hole = hash_zeros(AR_HASH_CHUNK, hash_of_hole);
}

/* a disk image may be a quarter of a million such chunks */
static bool hash_hole(uint64_t len, uint8_t out[AR_HASH_BYTES])
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_hash_of_hole);
	if (len != AR_HASH_CHUNK || !has_hash_of_hole)
		return hash_zeros(len, out);
	memcpy(out, hash_of_hole, AR_HASH_BYTES);
	return true;
}

static void lay_out(struct pipeline *p, uint64_t off, uint64_t len)
{
	struct ar_lane *lane = p->lane;

	p->start = p->read_off = p->hash_off = off;
	p->end = off + len;
	p->block = (uint32_t)AR_MIN(lane->arena_bytes / 2 / DIRECT_ALIGN * DIRECT_ALIGN,
				    (size_t)BLOCK_BYTES);
	p->slot_count = (uint32_t)AR_MIN(lane->arena_bytes / p->block, (size_t)SLOTS);
	p->slot_count = AR_MIN(p->slot_count, lane->cfg.queue_depth);
	for (uint32_t i = 0; i < p->slot_count; i++)
		p->slots[i].buf = lane->arena + (size_t)i * p->block;
}

/* runs over the chunk laid out, and hashes it unless digest is NULL; 0 or what failed */
static int run_chunk(struct pipeline *p, uint8_t *digest)
{
	XXH128_canonical_t canonical;

	if (digest) {
		p->hash = XXH3_createState();
		if (!p->hash || XXH3_128bits_reset(p->hash) != XXH_OK)
			fail(p, -ENOMEM, AR_OP_MEMORY, 0);
	}
	run_pipeline(p);
	if (p->hash && !p->err) {
		XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(p->hash));
		memcpy(digest, canonical.digest, AR_HASH_BYTES);
	}
	XXH3_freeState(p->hash);
	return p->err;
}

static int write_held(struct pipeline *p)
{
	for (uint64_t off = p->start; off < p->end && !p->err; off += p->block)
		write_block(p, slot_at(p, off));
	while (p->writing)
		reap(p);
	return p->err;
}

/*
 * Moves a chunk; the hash of what the target has there, or NULL.  1: it is the same.
 * Where the buffers do not hold a chunk, one that differs is read a second time.
 */
static int move_chunk(struct pipeline *p, uint64_t off, uint64_t len, const uint8_t *base,
		      uint8_t *digest)
{
	lay_out(p, off, len);
	p->holds = base && (uint64_t)p->slot_count * p->block >= len;
	p->checks = base && !p->holds;
	int err = run_chunk(p, digest);

	if (err || !base)
		return err;
	if (!memcmp(base, digest, AR_HASH_BYTES))
		return 1;
	if (p->holds)
		return write_held(p);
	p->checks = false;
	lay_out(p, off, len);
	return run_chunk(p, digest);
}

int ar_chunk_copy(struct ar_lane *lane, struct ar_big *big, uint64_t off, uint64_t len, int *op,
		  int *side)
{
	uint8_t *digest = big->hashes + off / AR_HASH_CHUNK * AR_HASH_BYTES;
	struct pipeline p = { .lane = lane, .big = big, .fd = big->src_fd };
	const bool hole = (big->row.flags & AR_ROW_SPARSE) && is_hole(big->src_fd, off, len);
	uint8_t base[AR_HASH_BYTES];
	int err = 1;

	/* neither reading nor writing, unless old data stands there */
	if (hole && !(big->overlays && !is_hole(big->dst_fd, off, len))) {
		lane->tally.moved_bytes += len;
		atomic_fetch_add(&big->hole_bytes, len);
		return !big->hashed || hash_hole(len, digest) ? 0 : -ENOMEM;
	}
	if (!hole && big->hashed)
		err = ar_base_hash(lane, big, off, len, base, op);
	*side = 1;
	if (err < 0)
		return err;
	err = move_chunk(&p, off, len, err ? NULL : base, big->hashed ? digest : NULL);
	if (err == 1) {
		lane->tally.moved_bytes += len;
		atomic_fetch_add(&big->matched_bytes, len);
		err = 0;
	}
	if (!err)
		atomic_fetch_add(&big->hole_bytes, p.hole_bytes);
	if (p.shrunk)
		atomic_store(&big->shrunk, true);
	*op = p.op;
	*side = p.side;
	return err;
}

int ar_chunk_hash(struct ar_lane *lane, int fd, bool sparse, uint64_t off, uint64_t len,
		  uint8_t *digest, int *op)
{
	struct pipeline p = { .lane = lane, .fd = fd, .checks = true };

	*op = AR_OP_MEMORY;
	if (sparse && is_hole(fd, off, len))
		return hash_hole(len, digest) ? 0 : -ENOMEM;
	lay_out(&p, off, len);
	int err = run_chunk(&p, digest);
	*op = p.op;
	return err ? err : p.shrunk;
}
