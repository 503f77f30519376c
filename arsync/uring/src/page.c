/*
 * page.c - from the names of a directory to a pair of pages.
 *
 * A page is written in place, at the end of the batch: room for all rows that may
 * come, then names and link targets in row order, then the directory's path.  The
 * destination's page holds those of its names which the source's page has, too.
 */
#include <limits.h>

#include "scan.h"

#define LINK_BYTES (PATH_MAX + 1)	/* the first try; some filesystems go beyond */
#define NAME_HIDDEN 1			/* arsync's own: no row, and no extra at the destination */

static uint8_t *page_start(const struct ar_writer *w)
{
	return w->side == DST ? w->batch->dst + w->batch->dst_bytes
			      : w->batch->src + w->batch->src_bytes;
}

/* room for more bytes at the end of what is written, NULL without memory */
static uint8_t *make_room(const struct ar_writer *w, size_t more)
{
	uint8_t *start = ar_batch_reserve(w->batch, w->side, w->used + more);

	return start ? start + w->used : NULL;
}

int ar_page_open(struct ar_writer *w, uint32_t rows)
{
	w->room = rows;
	w->rows = 0;
	w->used = 0;
	if (!make_room(w, sizeof(struct ar_page) + (size_t)rows * sizeof(struct ar_row)))
		return -ENOMEM;
	w->used = sizeof(struct ar_page) + (size_t)rows * sizeof(struct ar_row);
	return 0;
}

int ar_page_put(struct ar_writer *w, const char *bytes, size_t len, uint32_t *off)
{
	uint8_t *at = make_room(w, len + 1);

	if (!at)
		return -ENOMEM;
	memcpy(at, bytes, len);
	at[len] = '\0';
	*off = (uint32_t)w->used;
	w->used += len + 1;
	return 0;
}

void ar_page_add(struct ar_writer *w, const struct ar_row *row)
{
	memcpy(page_start(w) + sizeof(struct ar_page) + w->rows++ * sizeof(*row), row,
	       sizeof(*row));
}

/* closes the gap that rows left which did not come */
static void close_gap(struct ar_writer *w)
{
	struct ar_page *page = (struct ar_page *)page_start(w);
	const uint32_t gap = (w->room - w->rows) * (uint32_t)sizeof(struct ar_row);
	const size_t arena = sizeof(*page) + (size_t)w->room * sizeof(struct ar_row);

	if (!gap)
		return;
	memmove((uint8_t *)page + arena - gap, (uint8_t *)page + arena, w->used - arena);
	w->used -= gap;
	for (struct ar_row *row = ar_rows(page); row < ar_rows(page) + w->rows; row++) {
		row->name_off -= gap;
		row->link_off -= row->link_len ? gap : 0;
	}
}

int ar_page_close(struct ar_writer *w, const struct ar_side *side, const char *alias,
		  uint32_t flags, uint64_t *offset)
{
	struct ar_page head = {
		.format = AR_FORMAT,
		.flags = flags | side->page_flags,
		.row_count = w->rows,
		.dev = side->dev,
		.self = side->self,
	};
	uint64_t *end = w->side == DST ? &w->batch->dst_bytes : &w->batch->src_bytes;
	int err = 0;

	close_gap(w);
	if (alias) {
		head.alias_len = (uint32_t)strlen(alias);
		err = ar_page_put(w, alias, head.alias_len, &head.alias_off);
	}
	if (w->used + side->path.len + 8 > UINT32_MAX)
		return -EOVERFLOW;
	if (!err)
		err = ar_page_put(w, side->path.bytes, side->path.len, &head.path_off);
	if (!err && !make_room(w, 8))
		err = -ENOMEM;
	if (err)
		return err;
	head.path_len = (uint32_t)side->path.len;
	memset(page_start(w) + w->used, 0, -w->used & 7);
	w->used += -w->used & 7;
	head.bytes = (uint32_t)w->used;
	memcpy(page_start(w), &head, sizeof(head));
	*offset = *end;
	*end += w->used;
	return 0;
}

/* ----------------------------------------------------------------- source */

int ar_page_read_link(struct ar_writer *w, int fd, const char *name, struct ar_row *row)
{
	for (size_t room = LINK_BYTES;; room *= 2) {
		uint8_t *at = make_room(w, room);

		if (!at)
			return -ENOMEM;
		long got = sys_readlinkat(fd, name, (char *)at, room);
		if (got < 0)
			return (int)got;
		if ((size_t)got == room)
			continue;
		at[got] = '\0';
		row->link_off = (uint32_t)w->used;
		row->link_len = (uint32_t)got;
		w->used += (size_t)got + 1;
		return 0;
	}
}

static void count_row(struct ar_tally *tally, const struct ar_row *row)
{
	if (row->type == DT_REG) {
		tally->found_files++;
		tally->found_bytes += row->size;
	} else if (row->type == DT_LNK) {
		tally->found_symlinks++;
	} else if (ar_is_device(row->type)) {
		tally->found_devices++;
	} else if (row->type != DT_DIR) {
		tally->found_specials++;
	}
}

/* one problem of one row of the source, which the later stages then leave alone */
static int spoil(struct scan_call *call, struct ar_row *row, uint32_t index, int kind, int op,
		 int err)
{
	if (err == -ENOMEM)
		return err;
	row->flags |= AR_ROW_BAD;
	return ar_batch_add_problem(call->out, call->pair, index, kind, SRC, op, err);
}

/* a name that vanished in mid-scan is exit code 24, one that the user asked for 23 */
static int missing_kind(const struct ar_dir *dir, int err)
{
	return err == -ENOENT && !(dir->pair_flags & AR_PAIR_NAMED) ? AR_PROBLEM_VANISHED
								    : AR_PROBLEM_FAILED;
}

static int source_link(struct scan_call *call, struct ar_dir *dir, struct ar_writer *w,
		       const char *name, struct statx *stx, struct ar_row *row)
{
	const struct link_place place = {
		.fd = dir->side[SRC].fd,
		.depth = ar_path_depth(&dir->side[SRC].path),
		.follow_dirs = dir->pair_flags & AR_PAIR_FOLLOW,
	};
	const size_t before = w->used;
	int err = ar_page_read_link(w, place.fd, name, row);

	if (err)
		return spoil(call, row, w->rows, missing_kind(dir, err), AR_OP_READLINK, err);
	const char *target = (const char *)page_start(w) + row->link_off;
	switch (ar_link_judge(call, &place, name, target, stx, &err)) {
	case LINK_KEPT:
		return 0;
	case LINK_FOLLOWED:
		row->flags |= AR_ROW_FOLLOWED;
		row->link_off = row->link_len = 0;
		w->used = before;
		return 0;
	case LINK_DANGLING:
		return spoil(call, row, w->rows, AR_PROBLEM_FAILED, AR_OP_STAT, err);
	case LINK_UNSAFE:
		break;
	}
	return spoil(call, row, w->rows, AR_PROBLEM_UNSAFE, AR_OP_NONE, 0);
}

/* what the name is; one that cannot be looked at has no type.  0, NAME_HIDDEN or -ENOMEM */
static int fill_source(struct scan_call *call, struct ar_dir *dir, struct ar_writer *w,
		       const char *name, struct ar_row *row)
{
	const struct ar_side *side = &dir->side[SRC];
	struct statx stx;
	int err = ar_scan_statx(call, side->fd, name, AT_SYMLINK_NOFOLLOW, &stx);

	if (err)
		return spoil(call, row, w->rows, missing_kind(dir, err), AR_OP_STAT, err);
	if (S_ISLNK(stx.stx_mode))
		err = source_link(call, dir, w, name, &stx, row);
	if (!err)
		ar_row_fill(row, &stx, side->dev, call->scan->flags);
	return err || !ar_scan_hides(call->scan, &stx) ? err : NAME_HIDDEN;
}

/* what only its type shows: a rule for directories or for files hides it, or -x keeps out of it */
static bool is_left_out(struct scan_call *call, const struct ar_dir *dir, const char *name,
			const struct ar_row *row, bool decided)
{
	const bool is_dir = row->type == DT_DIR;

	if (!decided && ar_filter_hides(call, dir, name, is_dir))
		return true;
	return is_dir && row->flags & AR_ROW_MOUNT && call->scan->flags & AR_SCAN_SKIP_MOUNTS &&
	       !(dir->pair_flags & AR_PAIR_NAMED);
}

/* adds a row, or none where the name is left out; 0, NAME_HIDDEN or -errno */
static int source_row(struct scan_call *call, struct ar_dir *dir, struct ar_writer *w,
		      const char *name, uint16_t len)
{
	const char *src_name = dir->alias ? dir->alias : name;
	const uint32_t problems = call->out->problem_count;
	const size_t before = w->used;
	struct ar_row row = { .name_len = len };
	bool decided;

	if (ar_filter_hides_early(call, dir, src_name, &decided))
		return 0;
	int err = ar_page_put(w, name, len, &row.name_off);
	if (!err)
		err = fill_source(call, dir, w, src_name, &row);
	if (err == NAME_HIDDEN)
		w->used = before;
	if (err)
		return err;
	if (is_left_out(call, dir, src_name, &row, decided)) {
		call->out->problem_count = problems;
		w->used = before;
		return 0;
	}
	if (dir->earlier) {
		int taken = ar_earlier_has(call, dir, name, len, &row);

		if (taken == -ENOMEM)
			return taken;
		row.flags |= taken ? AR_ROW_BAD : 0;
		if (taken < 0)
			err = ar_batch_add_problem(call->out, call->pair, w->rows,
						   AR_PROBLEM_FAILED, DST, AR_OP_MKDIR, taken);
		if (err)
			return err;
	}
	if (!(row.flags & AR_ROW_BAD)) {
		if (row.type == DT_DIR)
			ar_row_bare(&row);
		else
			err = ar_row_digest(call, &row, SRC, dir->side[SRC].fd, src_name, w->rows);
		count_row(&call->out->tally, &row);
	}
	ar_page_add(w, &row);
	return err;
}

static int source_page(struct scan_call *call, struct ar_dir *dir, uint64_t *offset)
{
	struct ar_side *side = &dir->side[SRC];
	const uint32_t rows = AR_MIN(side->names.count - side->at, (uint32_t)AR_PAGE_ROWS);
	struct ar_writer w = { .batch = call->out, .side = SRC };
	uint32_t flags = dir->begun ? 0 : AR_PAGE_FIRST;
	int err = ar_page_open(&w, rows);

	if (!err)
		err = ar_filter_begin(call, dir);
	for (uint32_t i = 0; i < rows && !err; i++) {
		uint16_t len;
		const char *name = ar_name(&side->names, side->at + i, &len);

		const uint32_t before = w.rows;
		err = source_row(call, dir, &w, name, len);
		const bool is_given = w.rows > before || err == NAME_HIDDEN;
		*ar_name_mark(&side->names, side->at + i) = is_given;
		err = AR_MIN(err, 0);
	}
	if (err)
		return err;
	side->at += rows;
	if (side->at == side->names.count)
		flags |= AR_PAGE_LAST;
	call->rows += w.rows;
	return ar_page_close(&w, side, dir->alias, flags, offset);
}

/* ------------------------------------------------------------- destination */

/*
 * The destination may be searchable but not readable: each name is then looked up,
 * as all are where only some names are ours.
 */
static bool is_listed(struct ar_side *side, const char *name, uint16_t len)
{
	if (!side->listed)
		return true;
	for (; side->at < side->names.count; side->at++) {
		uint16_t other_len;
		const char *other = ar_name(&side->names, side->at, &other_len);
		int order = ar_name_compare(other, other_len, name, len);

		if (order >= 0)
			return order == 0;
	}
	return false;
}

/* see ar_mode_lock */
static int dest_stat(struct scan_call *call, int fd, const char *name, struct statx *stx)
{
	int err = ar_scan_statx(call, fd, name, AT_SYMLINK_NOFOLLOW, stx);

	if (err || !(call->scan->flags & AR_SCAN_OLD_MODES) || stx->stx_nlink < 2 ||
	    S_ISDIR(stx->stx_mode))
		return err;
	pthread_mutex_lock(&ar_mode_lock);
	err = ar_scan_statx(call, fd, name, AT_SYMLINK_NOFOLLOW, stx);
	pthread_mutex_unlock(&ar_mode_lock);
	return err;
}

/* nothing comes to the name of a directory of arsync's own, whatever the source has there */
static void hide_dest(struct ar_writer *w, struct ar_row *src, struct ar_row *row)
{
	src->flags |= AR_ROW_BAD;
	row->flags |= AR_ROW_BAD;
	ar_page_add(w, row);
}

static int dest_row(struct scan_call *call, struct ar_side *side, struct ar_writer *w,
		    struct ar_row *src, const char *name, uint32_t src_index)
{
	struct ar_row row = { .name_len = src->name_len };
	struct statx stx;
	int err = dest_stat(call, side->fd, name, &stx);

	if (err == -ENOENT)
		return 0;
	if (err == -EACCES || err == -ENOMEM)
		return err;
	int no_memory = ar_page_put(w, name, src->name_len, &row.name_off);
	if (no_memory)
		return no_memory;
	if (err) {
		row.flags = AR_ROW_BAD;
		ar_page_add(w, &row);
		return ar_batch_add_problem(call->out, call->pair, src_index, AR_PROBLEM_FAILED,
					    DST, AR_OP_STAT, err);
	}
	if (S_ISLNK(stx.stx_mode) && src->type == DT_DIR)
		err = ar_link_is_dst_dir(call, side, name, src->name_len, &stx);
	if (err < 0) {	/* neither followed nor replaced */
		row.flags = AR_ROW_BAD;
		ar_page_add(w, &row);
		return ar_batch_add_problem(call->out, call->pair, src_index, AR_PROBLEM_FAILED,
					    DST, AR_OP_OPEN_DIR, err);
	}
	if (ar_scan_hides(call->scan, &stx)) {
		hide_dest(w, src, &row);
		return 0;
	}
	row.flags |= err ? AR_ROW_FOLLOWED : 0;
	err = 0;
	if (S_ISLNK(stx.stx_mode))
		err = ar_page_read_link(w, side->fd, name, &row);
	if (err == -ENOMEM)
		return err;
	ar_row_fill(&row, &stx, side->dev, call->scan->flags);
	if (row.type == DT_DIR)
		ar_row_bare(&row);
	else
		err = ar_row_digest(call, &row, DST, side->fd, name, src_index);
	ar_page_add(w, &row);
	return err;
}

static int dest_rows(struct scan_call *call, struct ar_side *side, struct ar_writer *w,
		     const struct ar_page *src)
{
	int err = 0;

	for (uint32_t i = 0; i < src->row_count && !err; i++) {
		struct ar_row *row = &ar_rows(src)[i];
		const char *name = ar_row_name(src, row);

		if (is_listed(side, name, row->name_len))
			err = dest_row(call, side, w, row, name, i);
	}
	if (err != -EACCES)
		return err;
	/* nothing in it can be looked up: said once, not for each name */
	side->page_flags |= AR_PAGE_PARTIAL;
	return ar_batch_add_problem(call->out, call->pair, AR_NONE, AR_PROBLEM_FAILED, DST,
				    AR_OP_STAT, err);
}

static bool has_own_path(const struct ar_dir *dir)
{
	const struct ar_path *src = &dir->side[SRC].path, *dst = &dir->side[DST].path;

	return src->len != dst->len || memcmp(src->bytes, dst->bytes, src->len);
}

static int dest_page(struct scan_call *call, struct ar_dir *dir, const struct ar_page *src,
		     uint64_t *offset)
{
	struct ar_side *side = &dir->side[DST];
	struct ar_writer w = { .batch = call->out, .side = DST };
	const bool has_rows = side->fd >= 0 && !(side->page_flags & AR_PAGE_PARTIAL) &&
			      !(dir->pair_flags & AR_PAIR_TRUSTED);
	int err;

	*offset = AR_NO_PAGE;
	if (side->fd < 0 && !side->page_flags && !has_own_path(dir))
		return 0;
	err = ar_page_open(&w, has_rows ? src->row_count : 0);
	if (!err && has_rows)
		err = dest_rows(call, side, &w, src);
	if (err)
		return err;
	return ar_page_close(&w, side, NULL, src->flags & (AR_PAGE_FIRST | AR_PAGE_LAST), offset);
}

int ar_page_pair(struct scan_call *call, struct ar_dir *dir)
{
	struct ar_batch *out = call->out;
	uint64_t src, dst;

	call->pair = out->pair_count;
	int err = source_page(call, dir, &src);
	if (!err)
		err = dest_page(call, dir, (const struct ar_page *)(out->src + src), &dst);
	if (err)
		return err;
	struct ar_pair *pair = ar_batch_add_pair(out);
	if (!pair)
		return -ENOMEM;
	pair->src_page = src;
	pair->dst_page = dst;
	pair->flags = dir->pair_flags;
	pair->filter = dir->filter_id;
	if (!dir->begun && !(dir->pair_flags & AR_PAIR_NAMED))
		out->tally.found_dirs++;
	dir->begun = true;
	return 0;
}

int ar_page_distrust(struct scan_call *call, uint32_t index)
{
	struct ar_batch *batch = call->out;
	struct ar_pair *pair = &batch->pairs[index];
	struct ar_dir *dir = &call->scratch->dir;
	const struct ar_page *src = ar_src_page(batch, pair), *dst = ar_dst_path_page(batch, pair);

	call->pair = index;
	dir->pair_flags = pair->flags & ~AR_PAIR_TRUSTED;
	int err = ar_path_set(&dir->side[SRC].path, ar_page_str(src, src->path_off), src->path_len);
	if (!err)
		err = ar_path_set(&dir->side[DST].path, ar_page_str(dst, dst->path_off),
				  dst->path_len);
	if (!err)	/* names are looked up, which needs no list of them */
		err = ar_dir_open_dest(call, dir, true);
	if (!err)
		err = dest_page(call, dir, src, &pair->dst_page);
	if (!err)
		pair->flags = dir->pair_flags;
	ar_dir_reset(dir, 0);
	return err;
}
