/*
 * move.c - a file that the destination has under its old name gets its new one.
 *
 * It must be what the manifest says, and so must the source still be what was scanned;
 * where anything is not, or the rename is refused, the file is copied as any other.
 * Attributes are set under the old name: the new one never shows others.
 *
 * Where the old name stays the new one is a file of its own, with the blocks of the old
 * one: a copy by the ways of file.c and big.c, which ask here for its content.
 *
 * Where another file of the batch takes the old name, each old file first gets a
 * temporary name beside it, before anything of the batch is done.  So both names of an
 * exchange have something whole at any time, and of a circle, too.
 */
#include "lane.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif

struct ar_pin {			/* a second name of an old file */
	uint32_t change;	/* in the batch */
	bool is_used;
	char temp[AR_TEMP_MAX];
};

/* held while a directory that a name leaves gets its times back */
static pthread_mutex_t leaving = PTHREAD_MUTEX_INITIALIZER;

static bool is_old_file(const struct stat *st, const struct ar_old_file *old)
{
	return S_ISREG(st->st_mode) && st->st_ino == old->ino &&
	       (uint64_t)st->st_size == old->size && st->st_mtim.tv_sec == old->mtime_s &&
	       st->st_mtim.tv_nsec == old->mtime_n;
}

static bool is_untouched(const struct stat *st, const struct ar_old_file *old)
{
	return is_old_file(st, old) && st->st_ctim.tv_sec == old->ctime_s &&
	       st->st_ctim.tv_nsec == old->ctime_n;
}

/* the directory above may have been renamed since the move was planned */
static int open_old(struct ar_lane *lane, const struct ar_change *change, char *name)
{
	const char *path = (const char *)lane->batch->aux + change->aux;
	size_t len = change->aux_len;
	char *now = NULL;
	int fd = ar_open_holder(lane, path, len, name);

	if (fd == -ENOENT)
		now = ar_root_relocated(lane->batch->dst_root, path, len, &len);
	if (now) {
		fd = ar_open_holder(lane, now, len, name);
		/* it may have been found there, as one that only the destination has */
		if (fd >= 0 && !ar_is_clone(lane->batch, change))
			(void)ar_root_claim(lane->batch->dst_root, now, len);
	}
	free(now);
	return fd;
}

/* ------------------------------------------------------------------ second names */

static int pin(struct ar_lane *lane, uint32_t index)
{
	const struct ar_change *change = &lane->batch->changes[index];
	const struct ar_old_file old = ar_old_file(lane->batch, change);
	struct ar_pin *pin = &lane->pins[lane->pin_count];
	char name[NAME_MAX + 1];
	struct stat st;
	int fd = open_old(lane, change, name);

	if (fd < 0)
		return fd;
	int err = sys_fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (!err && !is_untouched(&st, &old))
		err = -ENOENT;
	pin->change = index;
	pin->is_used = false;
	ar_temp_name(lane, pin->temp);
	if (!err)
		err = sys_link(fd, name, fd, pin->temp);
	close(fd);
	lane->pin_count += !err;
	return err;
}

int ar_moves_pin(struct ar_lane *lane)
{
	const struct ar_batch *batch = lane->batch;

	lane->pin_count = 0;
	if (!(batch->tally.plan_moves || batch->tally.plan_checks) || ar_is_dry_run(lane))
		return 0;
	struct ar_pin *pins = realloc(lane->pins, batch->change_count * sizeof(*pins));
	if (!pins)
		return -ENOMEM;
	lane->pins = pins;
	for (uint32_t i = 0; i < batch->change_count && !ar_stopped(lane); i++) {
		const struct ar_change *change = &batch->changes[i];

		/* one that cannot be had is copied when its turn comes */
		if (ar_has_moved(change) && ar_old_file(batch, change).is_shared)
			(void)pin(lane, i);
	}
	return 0;
}

void ar_moves_unpin(struct ar_lane *lane)
{
	for (uint32_t i = 0; i < lane->pin_count; i++) {
		const struct ar_pin *pin = &lane->pins[i];
		char name[NAME_MAX + 1];

		if (pin->is_used)
			continue;
		int fd = open_old(lane, &lane->batch->changes[pin->change], name);
		if (fd < 0)
			continue;
		(void)sys_unlink(fd, pin->temp);
		close(fd);
	}
	lane->pin_count = 0;
}

static struct ar_pin *find_pin(struct ar_lane *lane, const struct ar_change *change)
{
	const uint32_t index = (uint32_t)(change - lane->batch->changes);
	uint32_t low = 0, high = lane->pin_count;

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;

		if (lane->pins[middle].change < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low < lane->pin_count && lane->pins[low].change == index ? &lane->pins[low] : NULL;
}

/* ------------------------------------------------------------------------ one move */

static bool keeps_dir_times(const struct ar_lane *lane)
{
	return (lane->rules->keep & (AR_KEEP_TIMES | AR_OMIT_DIR_TIMES)) == AR_KEEP_TIMES;
}

/* a directory that loses the name keeps its times, until something else is said of them */
static int rename_out_of(struct ar_lane *lane, int old_fd, const char *old_name, int dir_fd,
			 const char *name, unsigned int flags)
{
	struct stat st;

	pthread_mutex_lock(&leaving);
	const bool restores = keeps_dir_times(lane) && !sys_fstat(old_fd, &st);
	int err = sys_rename(old_fd, old_name, dir_fd, name, flags);
	if (err == -EINVAL && flags)	/* a filesystem that knows no flags */
		err = sys_rename(old_fd, old_name, dir_fd, name, 0);
	if (!err && restores) {
		const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st.st_mtim };

		(void)sys_utimes(old_fd, ".", times);
	}
	pthread_mutex_unlock(&leaving);
	return err;
}

static int dress(struct ar_lane *lane, struct folder *folder, const struct ar_change *change,
		 int path_fd, const struct stat *st, int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	const struct ar_row *row = &ar_rows(page)[change->src_row];
	struct attr_target at = {
		.fd = -1, .path_fd = path_fd, .dir_fd = -1, .name = "",
		.src_fd = -1, .src_dir_fd = folder->src_fd, .src_name = ar_row_src_name(page, row),
		.pair = folder->index, .row = change->src_row, .same_time = true,
	};
	struct ar_row old = *row;
	struct ar_want want;

	ar_row_take(&old, st);
	ar_folder_want(lane, folder, row, &old, &want);
	return ar_attr_apply(lane, &at, row, &want, op);
}

static int move_from(struct ar_lane *lane, struct folder *folder, const struct ar_change *change,
		     int old_fd, const char *old_name, bool is_pinned, int *op)
{
	const struct ar_old_file old = ar_old_file(lane->batch, change);
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	const char *name = ar_row_name(page, &ar_rows(page)[change->src_row]);
	const unsigned int flags = change->dst_row == AR_NONE ? RENAME_NOREPLACE : 0;
	struct stat st;
	int fd = sys_open(AR_OP_OPEN_TARGET, old_fd, old_name, O_PATH | O_NOFOLLOW, 0);

	if (fd < 0)
		return fd;
	int err = sys_fstat(fd, &st);
	if (!err && !(is_pinned ? is_old_file(&st, &old) : is_untouched(&st, &old)))
		err = -ESTALE;
	if (!err)
		err = dress(lane, folder, change, fd, &st, op);
	if (!err)
		err = rename_out_of(lane, old_fd, old_name, folder->dst_fd, name, flags);
	close(fd);
	return err;
}

static bool is_as_scanned(const struct folder *folder, const struct ar_page *page,
			  const struct ar_row *row)
{
	struct stat st;

	return folder->src_fd >= 0 &&
	       !sys_fstatat(folder->src_fd, ar_row_src_name(page, row), &st, AT_SYMLINK_NOFOLLOW) &&
	       ar_row_same(&st, row);
}

static int try_move(struct ar_lane *lane, struct folder *folder, const struct ar_change *change,
		    int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	struct ar_pin *pin = find_pin(lane, change);
	char name[NAME_MAX + 1];

	if (!is_as_scanned(folder, page, &ar_rows(page)[change->src_row]) ||
	    (ar_old_file(lane->batch, change).is_shared && !pin))
		return -ESTALE;
	int fd = open_old(lane, change, name);
	if (fd < 0)
		return fd;
	int err = move_from(lane, folder, change, fd, pin ? pin->temp : name, pin, op);
	if (pin)
		pin->is_used = !err;
	close(fd);
	return err;
}

void ar_move_drop(struct ar_lane *lane, struct ar_change *change)
{
	if (!ar_is_clone(lane->batch, change))
		lane->tally.new_files += change->dst_row == AR_NONE;
	ar_move_undo(lane->batch, change);
}

int ar_move_run(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);

	if (!try_move(lane, folder, change, op)) {
		lane->tally.done_moves++;
		return 0;
	}
	lane->tally.plan_files++;
	lane->tally.plan_bytes += ar_rows(page)[change->src_row].size;
	ar_move_drop(lane, change);
	return 1;
}

/* ----------------------------------------------------------------------- one clone */

static bool is_old_fd(int fd, const struct ar_old_file *old)
{
	struct stat st;

	return !sys_fstat(fd, &st) && is_untouched(&st, old);
}

int ar_clone_open(struct ar_lane *lane, const struct ar_change *change)
{
	const struct ar_old_file old = ar_old_file(lane->batch, change);
	char name[NAME_MAX + 1];

	if (atomic_load(&lane->batch->dst_root->has_no_clones))
		return -EOPNOTSUPP;
	int dir_fd = open_old(lane, change, name);
	if (dir_fd < 0)
		return dir_fd;
	int fd = sys_open(AR_OP_OPEN_TARGET, dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	close(dir_fd);
	if (fd >= 0 && !is_old_fd(fd, &old)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

bool ar_clone_take(struct ar_lane *lane, const struct ar_change *change, int fd, int dst_fd)
{
	const struct ar_old_file old = ar_old_file(lane->batch, change);
	int err = ar_method_clone(fd, dst_fd, old.size);

	if (err == -EOPNOTSUPP || err == -ENOTTY || err == -ENOSYS)
		atomic_store(&lane->batch->dst_root->has_no_clones, true);
	const bool has_all = !err && is_old_fd(fd, &old);
	close(fd);
	lane->tally.moved_bytes += has_all ? old.size : 0;
	return has_all;
}
