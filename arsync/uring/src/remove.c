/*
 * remove.c - take away what the source does not have.
 *
 * Only what the planner put into a batch, each name beneath the root and without
 * following a link, and only what is still the same inode as when it was found: what
 * somebody put there since was nobody's extra.  With backups a file's own name goes
 * by the move that keeps it, and with a trash everything is moved, a directory whole
 * where nothing in it stays.
 */
#include "lane.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)

struct place {			/* a directory that entries are removed from */
	int fd;
	mode_t mode;		/* to be put back, or 0 */
};

/* who owns a directory may take away the right to write in it, but not for long */
static void let_owner_in(const struct ar_lane *lane, struct place *place)
{
	struct stat st;

	if (!lane->euid || sys_fstat(place->fd, &st) || st.st_uid != lane->euid ||
	    (st.st_mode & 0300) == 0300)
		return;
	if (!sys_fchmod(place->fd, (st.st_mode & 07777) | 0300))
		place->mode = st.st_mode & 07777;
}

/* what is in it has moved its times: as they were, until something else is said of them */
static void leave(const struct ar_lane *lane, const struct ar_pair *pair,
		  const struct place *place, bool moved)
{
	const struct ar_row *self = &ar_dst_page(lane->batch, pair)->self;
	const uint32_t keep = lane->rules->keep;
	const struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = self->mtime_s, .tv_nsec = self->mtime_n },
	};

	if (moved && pair->flags & AR_PAIR_TOUCHED && keep & AR_KEEP_TIMES &&
	    !(keep & AR_OMIT_DIR_TIMES))
		(void)sys_futimens(place->fd, times);
	if (place->mode)
		(void)sys_fchmod(place->fd, place->mode);
	close(place->fd);
}

static int remove_name(struct ar_lane *lane, const struct ar_page *page, int dir_fd,
		       const struct ar_row *row, int *op)
{
	const char *name = ar_row_name(page, row);

	if (lane->cfg.trash) {
		*op = AR_OP_BURY;
		return ar_backup_bury(lane->cfg.trash, lane->batch->dst_root, dir_fd,
				      ar_page_str(page, page->path_off), page->path_len, name);
	}
	*op = row->type == DT_DIR ? AR_OP_RMDIR : AR_OP_UNLINK;
	if (row->type == DT_DIR)
		return sys_rmdir(dir_fd, name);
	if (!lane->cfg.backup || !ar_backup_wanted(lane->cfg.backup, name))
		return sys_unlink(dir_fd, name);
	*op = AR_OP_BACKUP;
	int kept = ar_backup_keep(lane->cfg.backup, lane->batch->dst_root, dir_fd,
				  ar_page_str(page, page->path_off), page->path_len, name,
				  AR_BACKUP_MOVE);
	return kept == 0 ? -ENOENT : AR_MIN(kept, 0);
}

static int remove_row(struct ar_lane *lane, const struct ar_page *page, int dir_fd,
		      const struct ar_row *row, int *op, bool *other)
{
	const char *name = ar_row_name(page, row);
	struct stat st;
	int err = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	*op = AR_OP_STAT;
	if (err)
		return err;
	*other = st.st_ino != row->ino || (st.st_mode & S_IFMT) != (row->mode & S_IFMT);
	if (*other)
		return 0;
	return remove_name(lane, page, dir_fd, row, op);
}

static void count_removed(struct ar_tally *tally, const struct ar_row *row)
{
	switch (row->type) {
	case DT_REG:
		tally->deleted_files++;
		break;
	case DT_DIR:
		tally->deleted_dirs++;
		break;
	case DT_LNK:
		tally->deleted_symlinks++;
		break;
	case DT_CHR:
	case DT_BLK:
		tally->deleted_devices++;
		break;
	default:
		tally->deleted_specials++;
	}
}

static void failed(struct ar_lane *lane, uint32_t pair, uint32_t row, int err, int op)
{
	if (ar_is_fatal(err))
		lane->fatal = err;
	lane->tally.failed++;
	if (ar_batch_add_problem(lane->batch, pair, row, AR_PROBLEM_FAILED, 1, op, -err))
		lane->fatal = -ENOMEM;
}

static void stays(struct ar_lane *lane, uint32_t pair, uint32_t row, int err)
{
	if (ar_batch_add_problem(lane->batch, pair, row, AR_PROBLEM_KEPT, 1, AR_OP_NONE, err))
		lane->fatal = -ENOMEM;
}

static void remove_change(struct ar_lane *lane, const struct place *place, uint32_t pair,
			  struct ar_change *change)
{
	const struct ar_page *page = ar_dst_page(lane->batch, &lane->batch->pairs[pair]);
	const struct ar_row *row = &ar_rows(page)[change->dst_row];
	int op = AR_OP_NONE, err, tries = 0;
	bool other = false;

	do {
		err = remove_row(lane, page, place->fd, row, &op, &other);
	} while (err && ar_try_again(lane, err, &tries));
	change->state = AR_STATE_SKIPPED;
	if (other) {
		stays(lane, pair, change->dst_row, EEXIST);
	} else if (!err) {
		change->state = AR_STATE_DONE;
		change->flags |= op == AR_OP_BACKUP ? AR_CHANGE_BACKED_UP : 0;
		count_removed(&lane->tally, row);
	} else if (op == AR_OP_RMDIR && (err == -ENOTEMPTY || err == -EEXIST)) {
		stays(lane, pair, change->dst_row, ENOTEMPTY);
	} else if (err != -ENOENT) {
		change->state = AR_STATE_FAILED;
		failed(lane, pair, change->dst_row, err, op);
	}
}

static int open_place(struct ar_lane *lane, const struct ar_page *page)
{
	int fd, tries = 0;

	do {
		fd = ar_open_beneath(lane->batch->dst_root, ar_page_str(page, page->path_off),
				     page->path_len, DIR_FLAGS);
	} while (fd < 0 && ar_try_again(lane, fd, &tries));
	return fd;
}

static void skip(struct ar_change *change, uint32_t count, int state)
{
	for (uint32_t i = 0; i < count; i++)
		change[i].state = (uint8_t)state;
}

/* what is in a directory that was moved is gone when that is */
static void note_carried(struct ar_lane *lane, uint32_t index)
{
	const struct ar_pair *pair = &lane->batch->pairs[index];
	const struct ar_page *page = ar_dst_page(lane->batch, pair);
	struct ar_change *change = lane->batch->changes + pair->change_first;
	int fd = ar_stopped(lane) ? -ECANCELED : open_place(lane, page);

	skip(change, pair->change_count, fd == -ENOENT ? AR_STATE_DONE : AR_STATE_SKIPPED);
	for (uint32_t i = 0; fd == -ENOENT && i < pair->change_count; i++)
		count_removed(&lane->tally, &ar_rows(page)[change[i].dst_row]);
	if (fd >= 0)
		close(fd);
}

void ar_extras_remove(struct ar_lane *lane, uint32_t index)
{
	const struct ar_pair *pair = &lane->batch->pairs[index];
	struct ar_change *change = lane->batch->changes + pair->change_first;
	struct place place = { .fd = -1 };
	bool moved = false;

	if (!pair->change_count)
		return;
	if (pair->flags & AR_PAIR_CARRIED) {
		note_carried(lane, index);
		return;
	}
	if (!ar_stopped(lane))
		place.fd = open_place(lane, ar_dst_page(lane->batch, pair));
	if (place.fd < 0) {
		bool gone = ar_stopped(lane) || place.fd == -ENOENT;

		skip(change, pair->change_count, gone ? AR_STATE_SKIPPED : AR_STATE_FAILED);
		if (!gone)
			failed(lane, index, AR_NONE, place.fd, AR_OP_OPEN_TARGET);
		return;
	}
	let_owner_in(lane, &place);
	for (uint32_t i = 0; i < pair->change_count; i++) {
		if (ar_stopped(lane))
			change[i].state = AR_STATE_SKIPPED;
		else
			remove_change(lane, &place, index, &change[i]);
		moved |= change[i].state == AR_STATE_DONE;
	}
	leave(lane, pair, &place, moved);
}
