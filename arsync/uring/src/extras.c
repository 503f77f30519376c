/*
 * extras.c - what the destination has and the source does not.
 *
 * When the last page of a source directory is written, the destination's names that
 * no page has are extras.  They go into pairs of their own (AR_PAIR_EXTRA), after the
 * directory's other pairs, and so do all names of a directory that is itself one.  A
 * name stays, and keeps the directories above it, where a rule protects it, where it
 * is the temporary one of a run or a directory of arsync's own, where something is
 * mounted and where nobody can say what it is.
 *
 * Nothing is found in a directory that could not be read whole on both sides, or
 * that is not transferred whole: then a missing name means nothing.
 */
#include <ctype.h>

#include "scan.h"

#define RUN_DIGITS 24

bool ar_extras_wanted(const struct scan_call *call, const struct ar_dir *dir)
{
	const struct ar_side *dst = &dir->side[DST];
	const uint32_t flags = call->scan->flags;

	if (!dst->listed || (dir->side[SRC].page_flags | dst->page_flags) & AR_PAGE_PARTIAL)
		return false;
	if (dir->pair_flags & AR_PAIR_EXTRA)
		return true;
	if (!(flags & AR_SCAN_DELETE) || dir->pair_flags & (AR_PAIR_SHALLOW | AR_PAIR_NAMED) ||
	    (flags & AR_SCAN_XDEV && dst->dev != call->scan->dst->dev))
		return false;
	return !ar_earlier_covers(call, dir);
}

bool ar_extras_left(const struct ar_dir *dir)
{
	return dir->deletes && dir->extra_at < dir->side[DST].names.count;
}

/* the name of a file that a run is just making, or a dead one has left */
static bool is_temporary(const char *name, size_t len)
{
	static const char start[] = ".arsync.";
	const size_t start_len = sizeof(start) - 1;

	if (len <= start_len + RUN_DIGITS || memcmp(name, start, start_len))
		return false;
	for (size_t i = start_len; i < start_len + RUN_DIGITS; i++)
		if (!isxdigit((unsigned char)name[i]))
			return false;
	return name[start_len + RUN_DIGITS] == '.';
}

static bool is_spared(const struct scan_call *call, const struct ar_path *path, const char *name,
		      size_t len)
{
	const struct ar_scan *scan = call->scan;
	const size_t before = path->len ? path->len + 1 : 0;

	for (uint32_t i = 0; i < scan->spare_count; i++) {
		const struct ar_spare *one = &scan->spare[i];

		if (one->len == before + len && !memcmp(one->path, path->bytes, path->len) &&
		    (!before || one->path[path->len] == '/') &&
		    !memcmp(one->path + before, name, len))
			return true;
	}
	return false;
}

/* whether the pages of the source had a row of this name; names come in order */
static bool is_given(struct ar_dir *dir, const char *name, uint16_t len)
{
	const struct ar_names *src = &dir->side[SRC].names;

	for (; dir->extra_src_at < src->count; dir->extra_src_at++) {
		uint16_t src_len;
		const char *src_name = ar_name(src, dir->extra_src_at, &src_len);
		int order = ar_name_compare(src_name, src_len, name, len);

		if (order >= 0)
			return order == 0 && *ar_name_mark(src, dir->extra_src_at);
	}
	return false;
}

/* a row that has its problem stays, and says so to who counts what can go */
static int add_row(struct scan_call *call, struct ar_writer *w, struct ar_row *row,
		   const char *name, int err)
{
	int failed = ar_page_put(w, name, row->name_len, &row->name_off);

	if (!failed && err)
		failed = ar_batch_add_problem(call->out, call->pair, w->rows, AR_PROBLEM_FAILED,
					      DST, AR_OP_STAT, err);
	else if (!failed && row->flags & AR_ROW_MOUNT)
		failed = ar_batch_add_problem(call->out, call->pair, w->rows, AR_PROBLEM_KEPT,
					      DST, AR_OP_NONE, EBUSY);
	if (!failed)
		ar_page_add(w, row);
	return failed;
}

static int extra_row(struct scan_call *call, struct ar_dir *dir, struct ar_writer *w,
		     const char *name, uint16_t len, bool *kept)
{
	const struct ar_side *side = &dir->side[DST];
	struct ar_row row = { .name_len = len };
	struct statx stx;
	int err = ar_scan_statx(call, side->fd, name, AT_SYMLINK_NOFOLLOW, &stx);

	if (err == -ENOENT)
		return 0;
	if (err == -ENOMEM)
		return err;
	if (err) {
		row.flags = AR_ROW_BAD;
		return add_row(call, w, &row, name, err);
	}
	const bool is_dir = S_ISDIR(stx.stx_mode);
	if (ar_filter_protects(call, dir, name, is_dir) || ar_scan_hides(call->scan, &stx) ||
	    (is_dir && is_spared(call, &side->path, name, len))) {
		*kept = true;
		return 0;
	}
	ar_row_fill(&row, &stx, side->dev, call->scan->flags);
	return add_row(call, w, &row, name, 0);
}

static int extra_rows(struct scan_call *call, struct ar_dir *dir, struct ar_writer *w, bool *kept)
{
	const struct ar_names *names = &dir->side[DST].names;
	const bool is_extra = dir->pair_flags & AR_PAIR_EXTRA;
	int err = 0;

	for (; dir->extra_at < names->count && w->rows < w->room && !err; dir->extra_at++) {
		uint16_t len;
		const char *name = ar_name(names, dir->extra_at, &len);

		if (is_temporary(name, len)) {
			*kept = true;
			continue;
		}
		int given = !is_extra && is_given(dir, name, len);
		if (!is_extra && !given)
			given = ar_other_has(call, dir, name, len);
		err = given ? AR_MIN(given, 0) : extra_row(call, dir, w, name, len, kept);
	}
	return err;
}

/* who removes what is in a directory that stays puts its times back */
static int add_pair(struct scan_call *call, struct ar_dir *dir, struct ar_writer *dst, bool kept)
{
	struct ar_writer src = { .batch = call->out, .side = SRC };
	uint64_t src_page, dst_page;
	int err = ar_page_close(dst, &dir->side[DST], NULL, 0, &dst_page);

	if (!err)
		err = ar_page_open(&src, 0);
	if (!err)
		err = ar_page_close(&src, &dir->side[SRC], NULL, 0, &src_page);
	if (err)
		return err;
	struct ar_pair *pair = ar_batch_add_pair(call->out);
	if (!pair)
		return -ENOMEM;
	pair->src_page = src_page;
	pair->dst_page = dst_page;
	pair->flags = AR_PAIR_EXTRA | AR_PAIR_NAMED | (kept ? AR_PAIR_KEPT : 0) |
		      (dir->pair_flags & AR_PAIR_EXTRA ? dir->pair_flags & AR_PAIR_REPLACE
						       : AR_PAIR_TOUCHED);
	pair->filter = dir->filter_id;
	call->rows += dst->rows;
	return 0;
}

int ar_extras_pair(struct scan_call *call, struct ar_dir *dir)
{
	const struct ar_side *side = &dir->side[DST];
	const uint32_t names = side->names.count - dir->extra_at;
	struct ar_writer w = { .batch = call->out, .side = DST };
	bool kept = side->page_flags & AR_PAGE_PARTIAL;

	call->pair = call->out->pair_count;
	int err = ar_page_open(&w, kept ? 0 : AR_MIN(names, (uint32_t)AR_PAGE_ROWS));
	if (!err)
		err = ar_filter_begin(call, dir);
	if (!err && !kept)
		err = extra_rows(call, dir, &w, &kept);
	if (err)
		return err;
	/* that something is kept matters where the directory itself is to go */
	if (!w.rows && !(kept && dir->pair_flags & AR_PAIR_EXTRA))
		return 0;
	return add_pair(call, dir, &w, kept);
}
