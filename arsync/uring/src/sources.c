/*
 * sources.c - --remove-source-files: what the destination has leaves the source.
 *
 * Nothing leaves before everything is done, not even unit by unit: a further name of
 * a file, and another source that has an entry of the same name, still look at it.
 * So each name that is copied, or was up to date, goes into a spool with what the
 * scan saw of it, and is removed only if it still is what was seen.
 */
#include "lane.h"
#include "later.h"

/* ------------------------------------------------------------------- the spool */

static bool has_problem(const struct ar_batch *batch, uint32_t pair, uint32_t row)
{
	for (uint32_t i = 0; i < batch->problem_count; i++)
		if (batch->problems[i].pair == pair && batch->problems[i].row == row)
			return true;
	return false;
}

/* NULL: it was up to date; so was a further name that is one of its first name already */
static bool is_there(const struct ar_later *later, const struct ar_change *change)
{
	if (change && later->is_planned && change->state == AR_STATE_PLANNED)
		return change->kind != AR_CHANGE_NONE;
	if (!change || (change->state == AR_STATE_LATER && !change->why))
		return true;
	return change->state == AR_STATE_DONE && change->kind != AR_CHANGE_NONE;
}

static int spool_name(struct ar_later *later, const struct ar_page *page, const struct ar_row *row)
{
	const char *name = ar_row_src_name(page, row);
	struct follower_record record = {
		.why = AR_WHY_COPIED,
		.name_len = (uint32_t)strlen(name),
		.src = *row,
	};
	struct ar_bytes *out = &later->spool.out;
	uint64_t offset;

	record.src.name_len = (uint16_t)record.name_len;
	int err = ar_spool_begin(&later->spool, RECORD_FOLLOWER, &offset);
	if (!err)
		err = ar_bytes_add(out, &record.head + 1, sizeof(record) - sizeof(record.head));
	if (!err)
		err = ar_later_string(out, name, record.name_len);
	if (!err)
		err = ar_later_string(out, "", 0);
	return err ? err : ar_spool_end(&later->spool, offset);
}

static int add_pair(struct ar_later *later, const struct ar_batch *batch, uint32_t index)
{
	const struct ar_pair *pair = &batch->pairs[index];
	const struct ar_page *page = ar_src_page(batch, pair);
	const struct ar_change *change = batch->changes + pair->change_first;
	const struct ar_change *end = change + pair->change_count;
	bool folder_spooled = false;

	for (uint32_t i = 0; i < page->row_count; i++) {
		const struct ar_row *row = &ar_rows(page)[i];
		while (change < end && change->src_row < i)
			change++;
		const bool changed = change < end && change->src_row == i;
		if (row->type == DT_DIR || (row->flags & AR_ROW_BAD) ||
		    !is_there(later, changed ? change : NULL) || has_problem(batch, index, i))
			continue;
		int err = folder_spooled ? 0 : ar_later_folder(later, batch, pair);
		folder_spooled = true;
		if (!err)
			err = spool_name(later, page, row);
		if (err)
			return err;
		later->count++;
	}
	return 0;
}

int ar_sources_add(struct ar_later *later, const struct ar_batch *batch)
{
	int err = 0;

	for (uint32_t i = 0; i < batch->pair_count && !err; i++)
		err = add_pair(later, batch, i);
	return err;
}

/* --------------------------------------------------------------------- removal */

/* a file of several names has had its ctime moved by the removal of another one */
static bool is_unchanged(const struct stat *st, const struct ar_row *row)
{
	struct ar_row seen = *row;

	if (row->nlink > 1) {
		seen.ctime_s = st->st_ctim.tv_sec;
		seen.ctime_n = (uint32_t)st->st_ctim.tv_nsec;
	}
	return ((st->st_mode ^ row->mode) & S_IFMT) == 0 && ar_row_same(st, &seen);
}

static void remove_name(struct ar_lane *lane, struct folder *folder, struct ar_change *change)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	const struct ar_row *row = &ar_rows(page)[change->src_row];
	const char *name = ar_row_name(page, row);
	struct stat st;
	int err = sys_fstatat(folder->src_fd, name, &st,
			      row->flags & AR_ROW_FOLLOWED ? 0 : AT_SYMLINK_NOFOLLOW);

	change->state = AR_STATE_SKIPPED;
	if (err == -ENOENT)	/* somebody else was quicker */
		return;
	if (!err && !is_unchanged(&st, row)) {
		ar_warn(lane, folder->index, change->src_row, AR_PROBLEM_CHANGED, AR_OP_UNLINK, 0);
		return;
	}
	if (!err)
		err = sys_unlink(folder->src_fd, name);
	if (err)
		ar_change_failed(lane, folder, change, err, AR_OP_UNLINK, 0);
	else
		change->state = AR_STATE_DONE;
}

void ar_sources_remove(struct ar_lane *lane, uint32_t index)
{
	struct ar_pair *pair = &lane->batch->pairs[index];
	const struct ar_page *page = ar_src_page(lane->batch, pair);
	struct ar_change *change = lane->batch->changes + pair->change_first;
	struct folder folder = { .pair = pair, .index = index, .dst_fd = -1, .parent_fd = -1 };

	folder.src_fd = ar_open_beneath(lane->batch->src_root, ar_page_str(page, page->path_off),
					page->path_len, O_RDONLY | O_DIRECTORY);
	if (folder.src_fd < 0)
		ar_change_failed(lane, &folder, NULL, folder.src_fd, AR_OP_OPEN_DIR, 0);
	for (uint32_t i = 0; i < pair->change_count; i++) {
		if (folder.src_fd < 0 || ar_stopped(lane))
			change[i].state = AR_STATE_SKIPPED;
		else
			remove_name(lane, &folder, &change[i]);
	}
	if (folder.src_fd >= 0)
		close(folder.src_fd);
}
