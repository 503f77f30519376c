/*
 * resettle.c - new names that are directories which the source had under another name.
 *
 * Such a directory is renamed at the destination when it is met, before anything in it
 * is scanned: what is below is then compared as in any other directory, and so it need
 * not be as it was recorded.  A dry run scans it where it is.
 *
 * Only a directory whose old name is gone goes, and only where no rule could keep
 * anything in it.  Of any other its files are moved, one by one.
 */
#include "past.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif

struct resettling {
	ar_scan *scan;
	const ar_past *past;
	struct ar_batch *batch;
	struct ar_batch *out;
	const struct ar_moving *how;
	uint64_t root;
	struct ar_path path;	/* the old one */
	struct ar_path target;
};

static bool is_candidate(const struct resettling *r, const struct ar_child *child)
{
	const struct ar_pair *pair = &r->batch->pairs[child->pair];
	const uint32_t never = AR_PAIR_NEW | AR_PAIR_REPLACE | AR_PAIR_SHALLOW | AR_PAIR_EXTRA |
			       AR_PAIR_HELD | AR_PAIR_FOLLOW;
	const struct ar_page *src = ar_src_page(r->batch, pair), *dst = ar_dst_page(r->batch, pair);

	if (child->flags || pair->flags & never || !pair->directory || src->alias_len || !dst ||
	    dst->flags & AR_PAGE_PARTIAL)
		return false;
	const struct ar_row *row = &ar_rows(src)[child->row];
	return row->btime_s && !(row->flags & (AR_ROW_FOLLOWED | AR_ROW_MOUNT));
}

/* the destination has a directory of its old name that may go; where its parent is, open */
static int find_old(struct resettling *r, const struct ar_past_record *old)
{
	struct statx stx;
	bool is_gone = false;
	int fd = ar_past_open_dir(r->past, r->scan->src, old->directory, r->root, &r->path);
	const bool has_left = ar_past_has_left(r->scan, old, fd, &is_gone);

	if (fd >= 0)
		close(fd);
	if (!has_left || !is_gone)
		return fd == -ENOMEM ? fd : -ENOENT;
	fd = ar_past_open_dir(r->past, r->scan->dst, old->directory, r->root, &r->path);
	if (fd < 0)
		return fd;
	int err = ar_path_push(&r->path, ar_past_name(old), old->name_len, false);
	if (!err && !ar_would_go(r->scan, r->path.bytes, r->path.len, r->how))
		err = -ENOENT;
	if (!err)
		err = sys_statx(fd, ar_past_name(old), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
				STATX_BASIC_STATS, &stx);
	if (!err && !S_ISDIR(stx.stx_mode))
		err = -ENOTDIR;
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

/* the old parent keeps its mtime, until something else is said of it */
static int rename_dir(struct resettling *r, int old_fd, const struct ar_past_record *old,
		      const struct ar_page *dst, const char *name)
{
	struct stat st;
	int fd = ar_open_beneath(r->scan->dst, ar_page_str(dst, dst->path_off), dst->path_len,
				 O_PATH | O_DIRECTORY);

	if (fd < 0)
		return fd;
	int err = sys_fstat(old_fd, &st);
	if (!err)
		err = sys_rename(old_fd, ar_past_name(old), fd, name, RENAME_NOREPLACE);
	if (!err && r->how->flags & AR_MOVING_KEEPS_TIMES) {
		const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st.st_mtim };

		(void)sys_utimes(old_fd, ".", times);
	}
	close(fd);
	return err;
}

/* the change that tells of it, in its place among those of its pair */
static int insert_change(struct resettling *r, const struct ar_child *child, bool is_done)
{
	const struct ar_old_file none = { 0 };
	struct ar_batch *batch = r->batch;
	struct ar_path *path = &r->path;
	char *bytes = malloc(sizeof(none) + path->len);
	uint32_t aux = AR_NONE;

	if (bytes) {
		memcpy(bytes, &none, sizeof(none));
		memcpy(bytes + sizeof(none), path->bytes, path->len);
		aux = ar_batch_add_aux(batch, bytes, sizeof(none) + path->len);
	}
	free(bytes);
	if (aux == AR_NONE || !ar_batch_add_change(batch))
		return -ENOMEM;
	struct ar_pair *pair = &batch->pairs[child->pair];
	uint32_t at = pair->change_first;
	while (at < pair->change_first + pair->change_count &&
	       batch->changes[at].src_row < child->row)
		at++;
	memmove(&batch->changes[at + 1], &batch->changes[at],
		(batch->change_count - 1 - at) * sizeof(*batch->changes));
	batch->changes[at] = (struct ar_change){
		.src_row = child->row,
		.dst_row = AR_NONE,
		.why = AR_WHY_MOVED,
		.kind = AR_CHANGE_MOVE,
		.state = is_done ? AR_STATE_DONE : AR_STATE_PLANNED,
		.aux = aux + (uint32_t)sizeof(none),
		.aux_len = (uint32_t)path->len,
	};
	pair->change_count++;
	for (uint32_t i = child->pair + 1; i < batch->pair_count; i++)
		batch->pairs[i].change_first++;
	return 0;
}

static int tell_name(struct resettling *r, uint64_t directory, const char *name, size_t len)
{
	const uint32_t length = (uint32_t)len;
	const uint32_t head[3] = { (uint32_t)directory, (uint32_t)(directory >> 32), length };

	if (ar_batch_put_aux(r->out, head, sizeof(head)) == AR_NONE ||
	    ar_batch_put_aux(r->out, name, len) == AR_NONE)
		return -ENOMEM;
	return 0;
}

static int tell(struct resettling *r, struct ar_child *child, const struct ar_past_record *old,
		const char *name, bool is_done)
{
	const struct ar_path *path = is_done ? &r->target : &r->path;
	int err = insert_change(r, child, is_done);

	if (!err)
		err = tell_name(r, old->directory, ar_past_name(old), old->name_len);
	if (!err)
		err = tell_name(r, r->batch->pairs[child->pair].directory, name, strlen(name));
	if (!err)
		err = tell_name(r, 0, path->bytes, path->len);
	r->batch->tally.plan_moves++;
	r->batch->tally.done_moves += is_done;
	child->flags = AR_CHILD_DST_DIR;
	if (!err && !is_done) {	/* it is scanned where it is */
		child->dst_len = (uint32_t)r->path.len;
		child->dst = ar_batch_add_aux(r->batch, r->path.bytes, r->path.len);
		err = child->dst == AR_NONE ? -ENOMEM : 0;
	}
	return err;
}

/* 1: it is there now, 0: not by this old name */
static int resettle(struct resettling *r, struct ar_child *child, const struct ar_past_record *old)
{
	const struct ar_pair *pair = &r->batch->pairs[child->pair];
	const struct ar_page *dst = ar_dst_page(r->batch, pair);
	const struct ar_page *src = ar_src_page(r->batch, pair);
	const struct ar_row *row = &ar_rows(src)[child->row];
	const bool is_dry = r->scan->flags & AR_SCAN_DRY_RUN;
	int fd = find_old(r, old);

	if (fd < 0)
		return fd == -ENOMEM ? fd : 0;
	int claimed = ar_root_claim(r->scan->dst, r->path.bytes, r->path.len);
	if (claimed > 0 && !is_dry && rename_dir(r, fd, old, dst, ar_row_name(src, row))) {
		ar_root_release(r->scan->dst, r->path.bytes, r->path.len);
		claimed = 0;
	}
	close(fd);
	if (claimed <= 0)
		return claimed;
	int err = ar_path_set(&r->target, ar_page_str(dst, dst->path_off), dst->path_len);
	if (!err)
		err = ar_path_push(&r->target, ar_row_name(src, row), row->name_len, false);
	if (!err && !is_dry)
		err = ar_root_relocate(r->scan->dst, r->path.bytes, r->path.len, r->target.bytes,
				       r->target.len);
	if (!err)
		err = tell(r, child, old, ar_row_name(src, row), !is_dry);
	return err ? err : 1;
}

int ar_moves_resettle(ar_scan *scan, const ar_past *past, struct ar_batch *batch, uint64_t root,
		      const struct ar_moving *how, struct ar_batch *out)
{
	struct resettling r = {
		.scan = scan, .past = past, .batch = batch, .out = out, .how = how, .root = root,
	};
	int err = 0;

	if (scan->filter_count || scan->spare_count || !(scan->flags & AR_SCAN_RECURSE))
		return 0;
	for (uint32_t i = 0; i < batch->child_count && err >= 0; i++) {
		struct ar_child *child = &batch->children[i];
		const struct ar_past_record *old = NULL;

		if (!is_candidate(&r, child))
			continue;
		const struct ar_page *page = ar_src_page(batch, &batch->pairs[child->pair]);
		const struct ar_row *row = &ar_rows(page)[child->row];
		err = 0;
		while (!err && (old = ar_past_find(past, row->ino,
						   ar_born(row->btime_s, row->btime_n), DT_DIR,
						   old)))
			err = resettle(&r, child, old);
	}
	free(r.path.bytes);
	free(r.target.bytes);
	return AR_MIN(err, 0);
}

uint32_t ar_resettlings_possible(const ar_scan *scan, const struct ar_batch *batch)
{
	const struct resettling r = { .batch = (struct ar_batch *)batch };
	uint32_t count = 0;

	if (scan->filter_count || scan->spare_count || !(scan->flags & AR_SCAN_RECURSE))
		return 0;
	for (uint32_t i = 0; i < batch->child_count; i++)
		count += is_candidate(&r, &batch->children[i]);
	return count;
}
