/*
 * relink.c - read followers back as batches for the link phase (see later.h).
 */
#include "later.h"

static uint32_t draft_rows(const struct page_draft *draft)
{
	return (uint32_t)(draft->rows.used / sizeof(struct ar_row));
}

/* name_off and link_off count from the arena until the page is written */
static int draft_row(struct page_draft *draft, const struct ar_row *from, const char *name,
		     const char *target, uint32_t target_len)
{
	struct ar_row row = *from;

	row.name_off = (uint32_t)draft->arena.used;
	int err = ar_later_string(&draft->arena, name, row.name_len);
	row.link_off = target_len ? (uint32_t)draft->arena.used : 0;
	row.link_len = target_len;
	if (!err && target_len)
		err = ar_later_string(&draft->arena, target, target_len);
	return err ? err : ar_bytes_add(&draft->rows, &row, sizeof(row));
}

static int write_draft(struct page_draft *draft, const struct ar_page *bare,
		       struct ar_batch *out, int side, uint64_t *offset)
{
	const uint32_t arena_off = (uint32_t)(sizeof(*bare) + draft->rows.used);
	const size_t path_off = arena_off + draft->arena.used;
	const size_t bytes = (path_off + bare->path_len + 1 + 7) & ~(size_t)7;
	uint8_t *at = ar_batch_reserve(out, side, bytes);

	if (!at)
		return -ENOMEM;
	memset(at + path_off, 0, bytes - path_off);
	memcpy(at, bare, sizeof(*bare));
	if (draft->rows.used) {
		memcpy(at + sizeof(*bare), draft->rows.data, draft->rows.used);
		memcpy(at + arena_off, draft->arena.data, draft->arena.used);
	}
	memcpy(at + path_off, ar_page_str(bare, bare->path_off), bare->path_len);

	struct ar_page *page = (struct ar_page *)at;
	page->row_count = draft_rows(draft);
	page->bytes = (uint32_t)bytes;
	page->path_off = (uint32_t)path_off;
	for (uint32_t i = 0; i < page->row_count; i++) {
		struct ar_row *row = &ar_rows(page)[i];
		row->name_off += arena_off;
		row->link_off += row->link_len ? arena_off : 0;
	}
	*offset = side ? out->dst_bytes : out->src_bytes;
	*(side ? &out->dst_bytes : &out->src_bytes) += bytes;
	draft->rows.used = draft->arena.used = 0;
	return 0;
}

/* ends the pair that followers are added to */
static int close_pair(struct ar_later *later, struct ar_batch *out)
{
	const struct folder_record *folder = (const void *)later->open_folder.data;
	const uint8_t *pages = (const uint8_t *)(folder + 1);

	if (!draft_rows(&later->src))
		return 0;
	struct ar_pair *pair = ar_batch_add_pair(out);
	if (!pair)
		return -ENOMEM;
	pair->flags = AR_PAIR_NAMED | (later->what == AR_LATER_SOURCES ? AR_PAIR_REMOVE : 0);
	pair->dst_page = AR_NO_PAGE;
	pair->change_count = draft_rows(&later->src);
	pair->change_first = out->change_count - pair->change_count;
	int err = write_draft(&later->src, (const void *)pages, out, 0, &pair->src_page);
	if (!err && folder->dst_bytes)
		err = write_draft(&later->dst, (const void *)(pages + folder->src_bytes), out, 1,
				  &pair->dst_page);
	return err;
}

static int open_folder(struct ar_later *later, const struct ar_record *record)
{
	int err = ar_folder_check((const struct folder_record *)record);

	later->open_folder.used = 0;
	return err ? err : ar_bytes_add(&later->open_folder, record, record->bytes);
}

static int leader_path(struct ar_later *later, uint64_t offset, struct ar_batch *out,
		       struct ar_change *change)
{
	const struct ar_record *record;
	int err = ar_spool_at(&later->leaders, offset, &record);

	if (err)
		return err;
	const struct leader_record *leader = (const void *)record;
	if (!ar_record_is(record, RECORD_LEADER, sizeof(leader->path_len) + leader->path_len))
		return -EIO;
	change->aux_len = (uint32_t)leader->path_len;
	change->aux = ar_batch_add_aux(out, (const char *)(leader + 1), leader->path_len);
	return change->aux == AR_NONE ? -ENOMEM : 0;
}

static int draft_follower(struct ar_later *later, const struct ar_record *record,
			  struct ar_batch *out)
{
	const struct follower_record *follower = (const void *)record;
	const char *name = (const char *)(follower + 1);
	const char *target = name + follower->name_len + 1;
	const uint64_t strings = (uint64_t)follower->name_len + follower->link_len + 2;

	if (!later->open_folder.used ||
	    !ar_record_is(record, RECORD_FOLLOWER,
			  sizeof(*follower) - sizeof(*record) + strings))
		return -EIO;
	struct ar_change *change = ar_batch_add_change(out);
	if (!change)
		return -ENOMEM;
	change->kind = later->what == AR_LATER_SOURCES ? AR_CHANGE_REMOVE : AR_CHANGE_LINK;
	change->why = follower->why;
	change->src_row = draft_rows(&later->src);
	change->dst_row = follower->has_dst ? draft_rows(&later->dst) : AR_NONE;
	int err = draft_row(&later->src, &follower->src, name, target, follower->link_len);
	if (!err && follower->has_dst)
		err = draft_row(&later->dst, &follower->dst, name, NULL, 0);
	if (err || later->what == AR_LATER_SOURCES)
		return err;
	return leader_path(later, follower->leader, out, change);
}

static int read_forward(struct ar_later *later, const struct ar_record *record,
			struct ar_batch *out)
{
	int err = 0;

	switch (record->kind) {
	case RECORD_FOLDER:
		err = close_pair(later, out);
		return err ? err : open_folder(later, record);
	case RECORD_FOLLOWER:
		if (draft_rows(&later->src) == AR_PAGE_ROWS)
			err = close_pair(later, out);
		return err ? err : draft_follower(later, record, out);
	}
	return 0;
}

int ar_followers_next(struct ar_later *later, struct ar_batch *out)
{
	/* a record may end a pair, and so does the end of the batch */
	while (later->position < later->spool.written && out->change_count < AR_BATCH_ROWS &&
	       out->pair_count + 1 < AR_BATCH_DIRS) {
		const struct ar_record *record;
		int err = ar_spool_at(&later->spool, later->position, &record);
		if (err)
			return err;
		later->position += record->bytes;
		err = read_forward(later, record, out);
		if (err)
			return err;
	}
	int err = close_pair(later, out);
	return err ? err : out->pair_count > 0;
}
