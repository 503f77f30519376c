/*
 * deletions.c - the spool of extras: what of them can go, and in which order.
 *
 * One record a pair of extras, in the order of the walk, which has each directory
 * before what is in it.  Read backward, what is in a directory comes before the row
 * of the directory: so one pass (settle) finds every directory that must stay because
 * something in it stays, remembers it by its inode and counts the rest.  A second one
 * gives all that is not a directory, in batches that may run in any order, a third
 * the directories, which are empty by then.  Where extras are moved, a directory of
 * which nothing stays goes whole: first all that is moved, then what went with it.
 */
#include <limits.h>

#include "later.h"

struct extras_record {
	struct ar_record head;
	uint32_t flags;		/* AR_PAIR_* */
	uint32_t reserved;
	uint32_t src_bytes;	/* of the pages that follow */
	uint32_t dst_bytes;
};

static int add_pair(struct ar_later *later, const struct ar_batch *batch,
		    const struct ar_pair *pair)
{
	const struct ar_page *src = ar_src_page(batch, pair), *dst = ar_dst_page(batch, pair);
	struct extras_record record = {
		.flags = pair->flags, .src_bytes = src->bytes, .dst_bytes = dst->bytes,
	};
	struct ar_bytes *out = &later->spool.out;
	uint64_t offset;

	int err = ar_spool_begin(&later->spool, RECORD_EXTRAS, &offset);
	if (!err)
		err = ar_bytes_add(out, &record.head + 1, sizeof(record) - sizeof(record.head));
	if (!err)
		err = ar_bytes_add(out, src, src->bytes);
	if (!err)
		err = ar_bytes_add(out, dst, dst->bytes);
	later->count += dst->row_count;
	return err ? err : ar_spool_end(&later->spool, offset);
}

int ar_deletions_add(struct ar_later *later, const struct ar_batch *batch)
{
	int err = 0;

	for (uint32_t i = 0; i < batch->pair_count && !err; i++)
		if (batch->pairs[i].flags & AR_PAIR_EXTRA)
			err = add_pair(later, batch, &batch->pairs[i]);
	return err;
}

static int read_back(struct ar_later *later, const struct extras_record **found)
{
	const struct ar_record *record;
	int err = ar_spool_before(&later->spool, later->position, &record);

	if (err)
		return err;
	const struct extras_record *extras = (const void *)record;
	uint64_t body = sizeof(*extras) - sizeof(extras->head);
	body += (uint64_t)extras->src_bytes + extras->dst_bytes;
	if (!ar_record_is(record, RECORD_EXTRAS, body))
		return -EIO;
	later->position -= record->bytes;
	*found = extras;
	return 0;
}

static const struct ar_page *dst_page_of(const struct extras_record *extras)
{
	return (const void *)((const uint8_t *)(extras + 1) + extras->src_bytes);
}

/* ---------------------------------------------------------------- what can go */

static bool has_trouble(const struct ar_row *row)
{
	return row->flags & (AR_ROW_BAD | AR_ROW_MOUNT);
}

static bool is_kept(const struct ar_later *later, const struct ar_page *page,
		    const struct ar_row *row)
{
	return row->type == DT_DIR &&
	       ar_inodes_has(later->inodes, ar_inode_of(page->dev, row));
}

/* whether a directory of the path, or the path itself, has been renamed */
static bool is_below_moved(const struct ar_later *later, const char *path, size_t len)
{
	for (size_t end = 1; end <= len; end++) {
		if ((end == len || path[end] == '/') &&
		    ar_root_has_claim(later->dst_root, path, end))
			return true;
	}
	return false;
}

/* it is renamed, and so it is no extra; nor is what is in an extra directory that is */
static bool is_moved(const struct ar_later *later, const struct ar_page *page, uint32_t flags,
		     const struct ar_row *row)
{
	char path[PATH_MAX];
	const size_t dir = page->path_len + !!page->path_len, len = dir + row->name_len;

	if (!later->dst_root || !later->dst_root->claims || len > sizeof(path))
		return false;
	memcpy(path, ar_page_str(page, page->path_off), page->path_len);
	if (page->path_len)
		path[page->path_len] = '/';
	memcpy(path + dir, ar_row_name(page, row), row->name_len);
	return ar_root_has_claim(later->dst_root, path, len) ||
	       (!(flags & AR_PAIR_TOUCHED) && is_below_moved(later, path, page->path_len));
}

static void count_row(struct ar_tally *sum, const struct ar_row *row)
{
	switch (row->type) {
	case DT_REG:
		sum->extra_files++;
		break;
	case DT_DIR:
		sum->extra_dirs++;
		break;
	case DT_LNK:
		sum->extra_symlinks++;
		break;
	case DT_CHR:
	case DT_BLK:
		sum->extra_devices++;
		break;
	default:
		sum->extra_specials++;
	}
}

static int settle_page(struct ar_later *later, const struct ar_page *page, uint32_t flags,
		       bool backups_stay, struct ar_tally *sum)
{
	bool kept = flags & AR_PAIR_KEPT;

	for (uint32_t i = 0; i < page->row_count; i++) {
		const struct ar_row *row = &ar_rows(page)[i];

		if (has_trouble(row) || is_kept(later, page, row))
			kept = true;
		else if (!is_moved(later, page, flags, row))
			count_row(sum, row);
		kept |= backups_stay && row->type != DT_DIR;
	}
	if (!kept)
		return 0;
	struct ar_leader *self =
		ar_inodes_enter(later->inodes, ar_inode_of(page->dev, &page->self));
	if (!self)
		return -ENOMEM;
	self->path = 1;		/* it is in the table, and that is all that is asked */
	return 0;
}

int ar_later_settle(struct ar_later *later, bool backups_stay, struct ar_tally *sum)
{
	int err = ar_later_read(later);

	if (!err && !later->inodes) {
		later->inodes = ar_inodes_new();
		err = later->inodes ? 0 : -ENOMEM;
	}
	later->position = later->spool.written;
	while (later->position && !err) {
		const struct extras_record *extras;

		err = read_back(later, &extras);
		if (!err)
			err = settle_page(later, dst_page_of(extras), extras->flags,
					  backups_stay, sum);
	}
	return err;
}

/* ------------------------------------------------------------------ the passes */

void ar_later_pass(struct ar_later *later, uint32_t what)
{
	later->pass = what;
	later->position = later->spool.written;
}

static int add_change(struct ar_batch *out, uint32_t row)
{
	struct ar_change *change = ar_batch_add_change(out);

	if (!change)
		return -ENOMEM;
	change->kind = AR_CHANGE_DELETE;
	change->why = AR_WHY_EXTRA;
	change->src_row = AR_NONE;
	change->dst_row = row;
	return 0;
}

/* whether its directory goes whole; it does not where it only blocks, or is no extra */
static bool is_carried(const struct ar_later *later, const struct extras_record *extras)
{
	const struct ar_page *page = dst_page_of(extras);

	return !(extras->flags & (AR_PAIR_TOUCHED | AR_PAIR_REPLACE)) &&
	       !ar_inodes_has(later->inodes, ar_inode_of(page->dev, &page->self));
}

static bool is_of_pass(const struct ar_later *later, const struct extras_record *extras)
{
	if (later->pass == AR_EXTRAS_WHOLE)
		return !is_carried(later, extras);
	return later->pass != AR_EXTRAS_CARRIED || is_carried(later, extras);
}

static bool is_asked_for(const struct ar_later *later, const struct ar_row *row)
{
	if (later->pass == AR_EXTRAS_FILES)
		return row->type != DT_DIR;
	return later->pass != AR_EXTRAS_DIRS || row->type == DT_DIR;
}

static int add_changes(struct ar_later *later, const struct ar_page *page, uint32_t flags,
		       uint32_t pair, struct ar_batch *out)
{
	int err = 0;

	for (uint32_t i = 0; i < page->row_count && !err; i++) {
		const struct ar_row *row = &ar_rows(page)[i];

		if (!is_asked_for(later, row) || has_trouble(row) ||
		    is_moved(later, page, flags, row))
			continue;
		if (is_kept(later, page, row))
			err = ar_batch_add_problem(out, pair, i, AR_PROBLEM_KEPT, 1, AR_OP_NONE,
						   ENOTEMPTY);
		else
			err = add_change(out, i);
	}
	return err;
}

static int give_pair(struct ar_later *later, const struct extras_record *extras,
		     struct ar_batch *out)
{
	const uint32_t changes = out->change_count, problems = out->problem_count;
	const uint8_t *pages = (const uint8_t *)(extras + 1);

	if (!is_of_pass(later, extras))
		return 0;
	int err = add_changes(later, dst_page_of(extras), extras->flags, out->pair_count, out);
	if (err || (changes == out->change_count && problems == out->problem_count))
		return err;
	struct ar_pair *pair = ar_batch_add_pair(out);
	if (!pair)
		return -ENOMEM;
	pair->flags = extras->flags |
		      (later->pass == AR_EXTRAS_CARRIED ? AR_PAIR_CARRIED : 0);
	pair->change_first = changes;
	pair->change_count = out->change_count - changes;
	err = ar_later_page(out, 0, pages, extras->src_bytes, &pair->src_page);
	if (!err)
		err = ar_later_page(out, 1, pages + extras->src_bytes, extras->dst_bytes,
				    &pair->dst_page);
	return err;
}

int ar_deletions_next(struct ar_later *later, struct ar_batch *out)
{
	while (later->position && out->pair_count < AR_BATCH_DIRS &&
	       out->change_count < AR_BATCH_ROWS) {
		const struct extras_record *extras;
		int err = read_back(later, &extras);

		if (!err)
			err = give_pair(later, extras, out);
		if (err)
			return err;
	}
	return out->pair_count > 0;
}
