/*
 * big.c - one file that all lanes copy together, chunk by chunk.
 *
 * ar_big_open makes the temporary file, any lane copies any chunk into it, and
 * ar_big_close, when all have ended, checks that the source stood still, joins the
 * chunk hashes and puts the file in its place.
 *
 * Within a chunk, blocks of the lane's buffers form a pipeline: read (at once
 * where the page cache has it, else on the ring), hash in order, write (on the
 * ring with O_DIRECT, else a plain call).
 */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "lane.h"

#define BLOCK_BYTES (1u << 20)
#define SLOTS 8			/* blocks of a pipeline */
#define READS_AHEAD 4
#define DIRECT_ALIGN 4096	/* enough for every block device; refused: buffered */

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

/* opens and closes change the batch, which several big files may share */
static pthread_mutex_t batch_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t chunk_count(uint64_t size)
{
	return (size + AR_HASH_CHUNK - 1) / AR_HASH_CHUNK;
}

static void row_from_stat(struct ar_row *row, const struct stat *st)
{
	ar_row_take(row, st);
	row->flags &= (uint8_t)~AR_ROW_SPARSE;
	if ((uint64_t)st->st_blocks * 512 < row->size)
		row->flags |= AR_ROW_SPARSE;
}

/* ------------------------------------------------------------------- open */

static int open_source(struct ar_big *big, int *op)
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

	if (keeps_holes || (lane->cfg.flags & AR_LANE_SPARSE))
		return 0;
	int err = sys_fallocate(big->dst_fd, full ? 0 : FALLOC_FL_KEEP_SIZE, 0,
				(off_t)big->row.size);
	return err == -ENOSPC || err == -EDQUOT ? err : 0;
}

static void open_direct(struct ar_big *big)
{
	char path[AR_PROC_PATH_MAX];

	ar_proc_path(path, big->dst_fd, NULL);
	big->direct_fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
}

static int start(struct ar_lane *lane, struct ar_big *big, int *op)
{
	int used = AR_METHOD_NONE, err = create_target(lane, big, op);

	big->method = (int)lane->cfg.big_method;
	big->shared = false;
	if (err)
		return err;
	if ((lane->cfg.flags & AR_LANE_REFLINK) || big->method == AR_METHOD_REFLINK) {
		err = ar_method_share(lane, AR_METHOD_REFLINK, big->page->dev, big->src_fd,
				      big->dst_fd, big->row.size, &used, op);
		if (err < 0)
			return err;
		if (!err) {
			big->method = AR_METHOD_REFLINK;
			big->shared = true;
			return 0;
		}
	}
	/* what was not shared, and holes, which the others would fill */
	if (big->method == AR_METHOD_REFLINK || (big->row.flags & AR_ROW_SPARSE))
		big->method = AR_METHOD_READ_WRITE;
	*op = AR_OP_ALLOCATE;
	err = make_room(lane, big);
	if (err)
		return err;
	if (big->method == AR_METHOD_DIRECT)
		open_direct(big);
	big->hashed = true;
	big->hashes = malloc(chunk_count(big->row.size) * AR_HASH_BYTES);
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
}

static void close_sources(struct ar_big *big)
{
	close_fd(&big->src_fd);
	close_fd(&big->folder.src_fd);
	close_fd(&big->folder.dst_fd);
}

static void destroy(struct ar_big *big)
{
	close_sources(big);
	free(big);
}

static int open_folders(struct ar_big *big, int *op)
{
	struct ar_batch *batch = big->batch;
	const struct ar_page *src = big->page, *dst = ar_dst_path_page(batch, big->folder.pair);

	*op = AR_OP_OPEN_DIR;
	big->folder.src_fd = ar_open_beneath(batch->src_root, ar_page_str(src, src->path_off),
					     src->path_len, O_RDONLY | O_DIRECTORY);
	if (big->folder.src_fd < 0)
		return big->folder.src_fd;
	*op = AR_OP_OPEN_TARGET;
	big->folder.dst_fd = ar_open_beneath(batch->dst_root, ar_page_str(dst, dst->path_off),
					     dst->path_len, O_RDONLY | O_DIRECTORY);
	return AR_MIN(big->folder.dst_fd, 0);
}

static int prepare(struct ar_lane *lane, struct ar_big *big, int *op)
{
	int err = open_folders(big, op);

	if (!err)
		err = open_source(big, op);
	if (!err) {
		big->folder.umask = ar_folder_umask(lane, big->folder.dst_fd);
		ar_folder_want(lane, &big->folder, &big->row,
			       ar_change_dst_row(big->batch, big->folder.pair, big->change),
			       &big->want);
		err = start(lane, big, op);
	}
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
	big->src_fd = big->dst_fd = big->direct_fd = -1;
	/* never into what stands there as something else: a device takes data, too */
	big->in_place = (lane->cfg.flags & AR_LANE_INPLACE) && !(big->change->why & AR_WHY_TYPE);
	lane->batch = batch;
	do {
		err = prepare(lane, big, &op);
	} while (err && ar_try_again(lane, err, &tries));
	if (err) {
		bool side = op != AR_OP_OPEN_DIR && op != AR_OP_OPEN_FILE;
		ar_change_failed(lane, &big->folder, big->change, err, op, side);
		destroy(big);
		pthread_mutex_unlock(&batch_lock);
		return err;
	}
	pthread_mutex_unlock(&batch_lock);
	*out = big;
	return 0;
}

uint64_t ar_big_bytes(const ar_big *big)
{
	return big->shared ? 0 : big->row.size;
}

/* ------------------------------------------------------------------- chunks */

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
	atomic_store(&p->big->shrunk, true);
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
		ssize_t r = sys_read(p->big->src_fd, slot->buf + slot->done,
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
			io_uring_prep_read(sqe, p->big->src_fd, slot->buf + slot->done,
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
					     data - off, off, big->in_place, &p->hole_bytes);
		if (!err && hole > data)
			err = ar_write_data(p->lane, big->dst_fd, slot->buf + (data - slot->off),
					    hole - data, data, big->in_place, &p->hole_bytes);
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
				    big->in_place, &p->hole_bytes);
	if (err)
		fail(p, err, AR_OP_WRITE, 1);
}

static void process(struct pipeline *p, struct slot *slot)
{
	if (p->hash && XXH3_128bits_update(p->hash, slot->buf, slot->len) != XXH_OK)
		fail(p, -ENOMEM, AR_OP_MEMORY, 0);
	p->hash_off += slot->len;
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

/*
 * A chunk that is nothing but a hole needs neither reading nor writing, unless old
 * data stands there.
 */
static bool all_hole(struct ar_big *big, uint64_t off, uint64_t len)
{
	if (!(big->row.flags & AR_ROW_SPARSE) || !is_hole(big->src_fd, off, len))
		return false;
	return !big->in_place || is_hole(big->dst_fd, off, len);
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

static int copy_chunk(struct ar_lane *lane, struct ar_big *big, uint64_t off, uint64_t len, int *op,
		      int *side)
{
	uint8_t *digest = big->hashes + off / AR_HASH_CHUNK * AR_HASH_BYTES;
	struct pipeline p = { .lane = lane, .big = big, .start = off, .end = off + len,
			      .read_off = off, .hash_off = off };
	XXH128_canonical_t canonical;

	if (all_hole(big, off, len)) {
		lane->tally.moved_bytes += len;
		atomic_fetch_add(&big->hole_bytes, len);
		return !big->hashed || hash_hole(len, digest) ? 0 : -ENOMEM;
	}
	p.block = (uint32_t)AR_MIN(lane->arena_bytes / 2 / DIRECT_ALIGN * DIRECT_ALIGN,
				   (size_t)BLOCK_BYTES);
	p.slot_count = (uint32_t)AR_MIN(lane->arena_bytes / p.block, (size_t)SLOTS);
	p.slot_count = AR_MIN(p.slot_count, lane->cfg.queue_depth);
	for (uint32_t i = 0; i < p.slot_count; i++)
		p.slots[i].buf = lane->arena + (size_t)i * p.block;
	if (big->hashed) {
		p.hash = XXH3_createState();
		if (!p.hash || XXH3_128bits_reset(p.hash) != XXH_OK)
			fail(&p, -ENOMEM, AR_OP_MEMORY, 0);
	}
	run_pipeline(&p);
	if (p.hash && !p.err) {
		XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(p.hash));
		memcpy(digest, canonical.digest, AR_HASH_BYTES);
	}
	XXH3_freeState(p.hash);
	if (!p.err)
		atomic_fetch_add(&big->hole_bytes, p.hole_bytes);
	*op = p.op;
	*side = p.side;
	return p.err;
}

/* the first failure that is for good is the file's */
static int note_failure(struct ar_big *big, int err, int op, int side)
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
		err = copy_chunk(lane, big, off, len, &op, &side);
	} while (err && ar_try_again(lane, err, &tries));
	return note_failure(big, err, op, side);
}

int ar_big_copy(ar_lane *lane, ar_big *big, uint64_t offset, uint64_t length)
{
	uint64_t end = AR_MIN(offset + length, big->row.size);

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
			return note_failure(big, r, op, 1);
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
		ar_hash_list(big->hashes, chunk_count(big->row.size), change->hash);
		change->flags |= AR_CHANGE_HASHED;
	}
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
				 op == big->err_op ? big->err_side : op != AR_OP_STAT);
	discard(big);
	destroy(big);
	pthread_mutex_unlock(&batch_lock);
	return err;
}
