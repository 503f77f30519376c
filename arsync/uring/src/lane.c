/*
 * lane.c - a lane: opened, fed with batches, closed.
 *
 * The loop of ar_lane_run starts jobs until as many are in flight as there are
 * buffers, then lands what the ring has read.  A folder is open from its first job
 * to its last, so descriptors are bounded by jobs, not by the batch.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "lane.h"

#define ZERO_BLOCK 4096
#define NAP_NS 50000000LL
#define EXHAUSTED_TRIES 200	/* for descriptors or memory: four seconds */

int ar_lane_open(const struct ar_lane_config *config, ar_lane **out)
{
	struct ar_lane *lane = calloc(1, sizeof(*lane));
	int err = -ENOMEM;

	if (!lane)
		return -ENOMEM;
	lane->cfg = *config;
	lane->rules = config->rules;
	lane->euid = geteuid();
	lane->egid = getegid();
	lane->parent_fd = lane->pipe_fds[0] = lane->pipe_fds[1] = -1;
	lane->blocking_dev[0] = lane->blocking_dev[1] = lane->no_clone_dev = UINT64_MAX;
	lane->job_count = (uint32_t)AR_MIN(config->memory_bytes / config->buffer_bytes,
					   (uint64_t)config->files_in_flight);
	lane->job_count = AR_MIN(AR_MAX(lane->job_count, 1u), config->queue_depth);
	lane->limit = lane->job_count;
	lane->arena_bytes = AR_MAX(config->memory_bytes, lane->job_count * config->buffer_bytes);
	lane->arena = mmap(NULL, lane->arena_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	lane->jobs = calloc(lane->job_count, sizeof(*lane->jobs));
	lane->free_jobs = calloc(lane->job_count, sizeof(*lane->free_jobs));
	lane->again = calloc(lane->job_count, sizeof(*lane->again));
	if (lane->arena == MAP_FAILED) {
		lane->arena = NULL;
		goto err;
	}
	if (!lane->jobs || !lane->free_jobs || !lane->again)
		goto err;
	for (uint32_t i = 0; i < lane->job_count; i++) {
		lane->jobs[i].src_fd = lane->jobs[i].dst_fd = -1;
		lane->jobs[i].buf = lane->arena + i * config->buffer_bytes;
		lane->free_jobs[lane->free_count++] = lane->job_count - 1 - i;
	}
	if (config->engine == AR_ENGINE_URING && (err = ar_ring_open(lane)))
		goto err;
	*out = lane;
	return 0;
err:
	ar_lane_close(lane);
	return err;
}

void ar_lane_close(ar_lane *lane)
{
	if (!lane)
		return;
	ar_ring_close(lane);
	for (uint32_t i = 0; lane->jobs && i < lane->job_count; i++)
		ar_hasher_free(&lane->jobs[i].hasher);
	for (int i = 0; i < 2; i++)
		if (lane->pipe_fds[i] >= 0)
			close(lane->pipe_fds[i]);
	if (lane->parent_fd >= 0)
		close(lane->parent_fd);
	if (lane->arena)
		munmap(lane->arena, lane->arena_bytes);
	free(lane->parent_path);
	free(lane->xattr_space);
	free(lane->pins);
	free(lane->folders);
	free(lane->again);
	free(lane->free_jobs);
	free(lane->jobs);
	free(lane);
}

void ar_lane_stop(ar_lane *lane)
{
	atomic_store(&lane->stop, 1);
	if (lane->cfg.backup)
		ar_backup_stop(lane->cfg.backup);
}

const struct ar_tally *ar_lane_tally(const ar_lane *lane)
{
	return &lane->tally;
}

/* ------------------------------------------------------------------ writing */

static void sleep_ns(int64_t ns)
{
	nanosleep(&(struct timespec){ ns / 1000000000, ns % 1000000000 }, NULL);
}

bool ar_try_again(struct ar_lane *lane, int err, int *tries)
{
	bool exhausted = ar_is_exhausted(err);	/* others give back in a while */
	int most = exhausted ? EXHAUSTED_TRIES : AR_TRIES;

	if (!(exhausted || ar_is_transient(err)) || *tries >= most || ar_stopped(lane))
		return false;
	sleep_ns(exhausted ? 20000000 : 10000000LL << *tries);
	++*tries;
	lane->tally.retries++;
	return true;
}

void ar_limit_take(struct ar_lane *lane, uint64_t bytes)
{
	struct ar_limit *limit = lane->cfg.limit;
	struct timespec ts;

	if (!limit)
		return;
	int64_t cost = (int64_t)((double)bytes * 1e9 / (double)limit->bytes_per_s);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	int64_t now = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
	int64_t start = __atomic_load_n(&limit->next_ns, __ATOMIC_RELAXED), next;
	do {
		next = AR_MAX(start, now) + cost;
	} while (!__atomic_compare_exchange_n(&limit->next_ns, &start, next, false,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	/* in short naps: a turn may be minutes away, and a stop is to be heard */
	for (int64_t wait = next - cost - now; wait > 0 && !ar_stopped(lane); wait -= NAP_NS)
		sleep_ns(AR_MIN(wait, NAP_NS));
}

static bool is_zero(const uint8_t *buf, size_t len)
{
	return !buf[0] && !memcmp(buf, buf + 1, len - 1);
}

/* the run at buf of blocks that are all zero, or all not */
static size_t run_length(const uint8_t *buf, size_t len, bool *zero)
{
	size_t run = 0;

	while (run < len) {
		size_t part = AR_MIN(len - run, (size_t)ZERO_BLOCK);
		bool z = is_zero(buf + run, part);
		if (!run)
			*zero = z;
		else if (z != *zero)
			break;
		run += part;
	}
	return run;
}

static int write_sparse(int fd, const uint8_t *buf, size_t len, uint64_t off, bool punch,
			uint64_t *hole_bytes)
{
	int err = 0;

	while (len && !err) {
		bool zero = false;
		size_t run = run_length(buf, len, &zero);

		if (!zero) {
			err = sys_write_all(fd, buf, run, (off_t)off);
		} else {
			if (punch)
				err = sys_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						    (off_t)off, (off_t)run);
			if (err == -EOPNOTSUPP)
				err = sys_write_all(fd, buf, run, (off_t)off);
			*hole_bytes += run;
		}
		buf += run;
		off += run;
		len -= run;
	}
	return err;
}

int ar_write_holes(struct ar_lane *lane, int fd, const uint8_t *buf, size_t len, uint64_t off,
		   bool punch, uint64_t *hole_bytes)
{
	ar_limit_take(lane, len);
	int err = write_sparse(fd, buf, len, off, punch, hole_bytes);
	if (!err)
		lane->tally.moved_bytes += len;
	return err;
}

int ar_write_data(struct ar_lane *lane, int fd, const uint8_t *buf, size_t len, uint64_t off,
		  bool punch, uint64_t *hole_bytes)
{
	if (lane->cfg.flags & AR_LANE_SPARSE)
		return ar_write_holes(lane, fd, buf, len, off, punch, hole_bytes);
	ar_limit_take(lane, len);
	int err = sys_write_all(fd, buf, len, (off_t)off);
	if (!err)
		lane->tally.moved_bytes += len;
	return err;
}

/* ----------------------------------------------------------------- outcomes */

void ar_file_done(struct ar_lane *lane, int method, uint64_t size, uint64_t hole_bytes)
{
	lane->tally.method_files[method]++;
	lane->tally.method_bytes[method] += size;
	lane->tally.done_files++;
	lane->tally.done_bytes += size - AR_MIN(hole_bytes, size);
	lane->tally.hole_bytes += AR_MIN(hole_bytes, size);
}

void ar_warn(struct ar_lane *lane, uint32_t pair, uint32_t row, int kind, int op, int err)
{
	int side = kind == AR_PROBLEM_CANNOT_HOLD;

	(void)ar_batch_add_problem(lane->batch, pair, row, kind, side, op, -err);
}

void ar_change_done(struct ar_lane *lane, struct folder *folder, struct ar_change *change)
{
	(void)folder;
	change->state = AR_STATE_DONE;
	lane->tally.done_clones += ar_is_clone(lane->batch, change);
}

void ar_change_failed(struct ar_lane *lane, struct folder *folder, struct ar_change *change,
		      int err, int op, int side)
{
	uint32_t row = change ? change->src_row : AR_NONE;
	int kind = AR_PROBLEM_FAILED;

	if (side && ar_is_fatal(err))
		lane->fatal = err;
	if (change)
		change->state = AR_STATE_FAILED;
	else
		folder->pair->self.state = AR_STATE_FAILED;
	lane->tally.failed++;
	if (!side && err == -ENOENT)
		kind = AR_PROBLEM_VANISHED;
	else if (op == AR_OP_REFLINK && ar_method_refuses(err))	/* every file would say so */
		kind = AR_PROBLEM_CANNOT_HOLD;
	if (ar_batch_add_problem(lane->batch, folder->index, row, kind, side, op, -err))
		lane->fatal = -ENOMEM;
}

/* ------------------------------------------------------------------ the loop */

static uint32_t in_flight(const struct ar_lane *lane)
{
	return lane->job_count - lane->free_count;
}

static void count_node(struct ar_lane *lane, const struct ar_row *row)
{
	if (S_ISLNK(row->mode))
		lane->tally.done_symlinks++;
	else
		lane->tally.done_specials++;
}

/* what needs no content; 1: it does, also where its link cannot be made */
static int run_node(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op)
{
	const struct ar_row *row =
		&ar_rows(ar_src_page(lane->batch, folder->pair))[change->src_row];
	int err;

	switch (change->kind) {
	case AR_CHANGE_DATA:
		return 1;
	case AR_CHANGE_META:
		err = ar_node_meta(lane, folder, change, op);
		lane->tally.done_metas += !err;
		return err;
	case AR_CHANGE_MOVE:
		return ar_move_run(lane, folder, change, op);
	case AR_CHANGE_LINK:
		err = ar_node_link(lane, folder, change, op);
		lane->tally.done_links += !err && change->why;
		if (err != 1)
			return err;
		if (S_ISREG(row->mode))
			return 1;
		change->kind = S_ISLNK(row->mode) ? AR_CHANGE_SYMLINK : AR_CHANGE_SPECIAL;
	}
	err = ar_node_make(lane, folder, change, op);
	if (!err)
		count_node(lane, row);
	return err;
}

void ar_change_run(struct ar_lane *lane, struct folder *folder, struct ar_change *change)
{
	int op, err, tries = 0;

	do {
		op = AR_OP_NONE;
		err = run_node(lane, folder, change, &op);
	} while (err < 0 && ar_try_again(lane, err, &tries));
	if (err == 1) {
		change->kind = AR_CHANGE_DATA;
		ar_job_start(lane, folder, change);
	} else if (err) {
		ar_change_failed(lane, folder, change, err, op, 1);
	} else {
		ar_change_done(lane, folder, change);
	}
}

static void skip_changes(struct ar_lane *lane, struct ar_pair *pair)
{
	struct ar_change *change = lane->batch->changes + pair->change_first;

	for (uint32_t i = 0; i < pair->change_count; i++)
		if (change[i].state == AR_STATE_PLANNED || change[i].state == AR_STATE_LATER)
			change[i].state = AR_STATE_SKIPPED;
}

/* what was made in a staged directory went away with it */
static void undo_changes(struct ar_lane *lane, struct ar_pair *pair)
{
	struct ar_change *change = lane->batch->changes + pair->change_first;

	for (uint32_t i = 0; i < pair->change_count; i++) {
		if (change[i].state == AR_STATE_DONE && change[i].kind != AR_CHANGE_NONE)
			change[i].state = AR_STATE_SKIPPED;
		change[i].flags &= (uint8_t)~AR_CHANGE_HASHED;
	}
}

/* closes the folder when nothing in it is under way any more */
static void settle(struct ar_lane *lane, struct folder *folder)
{
	int op = AR_OP_NONE;

	if (!folder->open || !folder->issued || folder->active)
		return;
	/* a long directory is many pairs, and one directory */
	bool is_first = ar_src_page(lane->batch, folder->pair)->flags & AR_PAGE_FIRST;
	bool is_new = ar_makes_dir(folder->pair) && is_first, staged = folder->staged;
	int err = ar_folder_close(lane, folder, &op);
	if (err) {
		ar_change_failed(lane, folder, NULL, err, op, 1);
		skip_changes(lane, folder->pair);
		if (staged)
			undo_changes(lane, folder->pair);
		return;
	}
	if (ar_is_dry_run(lane))
		return;
	folder->pair->self.state = AR_STATE_DONE;
	lane->tally.done_dirs += is_new;
}

static void settle_all(struct ar_lane *lane, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		settle(lane, &lane->folders[i]);
}

static int reap(struct ar_lane *lane, uint32_t folders)
{
	int err = ar_ring_reap(lane, true);

	if (err)
		lane->fatal = err;
	settle_all(lane, folders);
	return err;
}

/* jobs that gave way when descriptors or memory ran out */
static void start_again(struct ar_lane *lane)
{
	while (lane->again_count && in_flight(lane) < lane->limit) {
		uint32_t last = --lane->again_count;
		struct folder *folder = lane->again[last].folder;
		struct ar_change *change = lane->again[last].change;

		if (ar_stopped(lane))
			change->state = AR_STATE_SKIPPED;
		else
			ar_job_start(lane, folder, change);
		folder->active--;
	}
}

/* lanes wait for this copy, so it is not left to itself among the others */
static void finish_successor(struct ar_lane *lane, const struct ar_change *change,
			     uint32_t folders)
{
	while (change->state == AR_STATE_PLANNED && !lane->fatal &&
	       (in_flight(lane) || lane->again_count)) {
		if (in_flight(lane))
			reap(lane, folders);
		start_again(lane);
	}
	ar_successor_made(lane->batch->dst_root->successors, lane->successor);
	lane->successor = NULL;
}

static void start_change(struct ar_lane *lane, struct folder *folder, struct ar_change *change,
			 uint32_t folders)
{
	if (change->kind != AR_CHANGE_DATA && change->kind != AR_CHANGE_CHECK &&
	    change->kind != AR_CHANGE_LINK && change->kind != AR_CHANGE_MOVE) {
		ar_change_run(lane, folder, change);
		return;
	}
	while (in_flight(lane) >= lane->limit || !lane->free_count) {
		reap(lane, folders);
		start_again(lane);
		if (lane->fatal)
			break;
	}
	if (ar_stopped(lane))
		change->state = AR_STATE_SKIPPED;
	else if (change->kind == AR_CHANGE_LINK || change->kind == AR_CHANGE_MOVE)
		ar_change_run(lane, folder, change);
	else
		ar_job_start(lane, folder, change);
	if (lane->successor)
		finish_successor(lane, change, folders);
}

static int open_folder(struct ar_lane *lane, struct folder *folder, uint32_t folders)
{
	for (int tries = 0;;) {
		int op = AR_OP_NONE;
		int err = ar_folder_open(lane, folder, &op);

		if (!err)
			return 0;
		if (ar_is_exhausted(err) && in_flight(lane)) {
			reap(lane, folders);
			start_again(lane);
			tries = 0;
			continue;
		}
		if (!ar_try_again(lane, err, &tries)) {
			ar_change_failed(lane, folder, NULL, err, op, op != AR_OP_OPEN_DIR);
			return err;
		}
	}
}

/* a dry run compares contents, and leaves everything else as it is planned */
static bool is_due(const struct ar_lane *lane, const struct ar_change *change)
{
	return change->state == AR_STATE_PLANNED &&
	       (!ar_is_dry_run(lane) || change->kind == AR_CHANGE_CHECK);
}

static bool has_due(const struct ar_lane *lane, const struct ar_pair *pair)
{
	const struct ar_change *change = lane->batch->changes + pair->change_first;

	for (uint32_t i = 0; i < pair->change_count; i++)
		if (is_due(lane, &change[i]))
			return true;
	return false;
}

static bool has_work(const struct ar_lane *lane, const struct ar_pair *pair)
{
	/* a mode that changes may hold the setgid bit, which directories below inherit */
	return has_due(lane, pair) ||
	       (!ar_is_dry_run(lane) &&
		(ar_makes_dir(pair) || (pair->self.why & (AR_WHY_MODE | AR_WHY_NEW))));
}

/* a big file is for all lanes, when its directory is in place */
static bool leave_big(struct ar_lane *lane, const struct ar_pair *pair, struct ar_change *change)
{
	const struct ar_page *page = ar_src_page(lane->batch, pair);

	if (!ar_is_big(page, change))
		return false;
	change->state = AR_STATE_BIG;
	lane->batch->big_count++;
	return true;
}

/* whether a directory with entries keeps the change's place; then it has failed */
static bool is_blocked(struct ar_lane *lane, struct folder *folder, struct ar_change *change)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	int op, err;

	if (!(change->why & AR_WHY_TYPE))
		return false;
	err = ar_place_check(folder->dst_fd, ar_row_name(page, &ar_rows(page)[change->src_row]),
			     &op);
	if (err)
		ar_change_failed(lane, folder, change, err, op, 1);
	return err;
}

static void run_folder(struct ar_lane *lane, uint32_t index)
{
	struct folder *folder = &lane->folders[index];
	struct ar_pair *pair = &lane->batch->pairs[index];
	struct ar_change *change = lane->batch->changes + pair->change_first;

	folder->pair = pair;
	folder->index = index;
	if (ar_is_dry_run(lane))
		ar_check_drop_links(lane, pair);
	if (ar_stopped(lane) || (has_work(lane, pair) && open_folder(lane, folder, index))) {
		skip_changes(lane, pair);
		return;
	}
	if (!folder->open)
		return;
	for (uint32_t i = 0; i < pair->change_count; i++) {
		if (!is_due(lane, &change[i]))
			continue;
		if (is_blocked(lane, folder, &change[i]) || leave_big(lane, pair, &change[i]))
			continue;
		if (ar_stopped(lane))
			change[i].state = AR_STATE_SKIPPED;
		else
			start_change(lane, folder, &change[i], index);
	}
	folder->issued = true;
	settle(lane, folder);
}

static void finish_folder(struct ar_lane *lane, struct ar_pair *pair)
{
	struct folder folder = { .pair = pair, .index = (uint32_t)(pair - lane->batch->pairs) };
	int op = AR_OP_NONE, err, tries = 0;

	if (ar_stopped(lane)) {
		pair->self.state = AR_STATE_SKIPPED;
		return;
	}
	do {
		err = ar_folder_finish(lane, pair, &op);
	} while (err && ar_try_again(lane, err, &tries));
	if (err) {
		ar_change_failed(lane, &folder, NULL, err, op, 1);
		return;
	}
	pair->self.state = AR_STATE_DONE;
	lane->tally.done_dirs += ar_makes_root(pair);
}

static int take_batch(struct ar_lane *lane, struct ar_batch *batch)
{
	if (lane->parent_fd >= 0)	/* its path may mean another directory by now */
		close(lane->parent_fd);
	lane->parent_fd = -1;
	lane->batch = batch;
	lane->again_count = 0;
	if (batch->pair_count > lane->folder_room) {
		size_t bytes = batch->pair_count * sizeof(*lane->folders);
		struct folder *folders = realloc(lane->folders, bytes);
		if (!folders)
			return -ENOMEM;
		lane->folders = folders;
		lane->folder_room = batch->pair_count;
	}
	for (uint32_t i = 0; i < batch->pair_count; i++)
		lane->folders[i].open = false;
	return 0;
}

static void run_pair(struct ar_lane *lane, uint32_t index)
{
	struct ar_pair *pair = &lane->batch->pairs[index];

	if (ar_is_dry_run(lane))	/* whatever it is for: run_folder compares, and no more */
		run_folder(lane, index);
	else if (pair->flags & AR_PAIR_FINISH)
		finish_folder(lane, pair);
	else if (pair->flags & AR_PAIR_EXTRA)
		ar_extras_remove(lane, index);
	else if (pair->flags & AR_PAIR_REMOVE)
		ar_sources_remove(lane, index);
	else
		run_folder(lane, index);
}

int ar_lane_run(ar_lane *lane, struct ar_batch *batch)
{
	int err = take_batch(lane, batch);

	if (!err)
		err = ar_moves_pin(lane);
	if (err)
		return err;
	for (uint32_t i = 0; i < batch->pair_count; i++)
		run_pair(lane, i);
	while (in_flight(lane) || lane->again_count) {
		start_again(lane);
		if (in_flight(lane) && reap(lane, batch->pair_count))
			break;
	}
	settle_all(lane, batch->pair_count);
	ar_moves_unpin(lane);
	lane->limit = lane->job_count;
	if (lane->fatal)
		return lane->fatal;
	return atomic_load(&lane->stop) ? -EINTR : 0;
}
