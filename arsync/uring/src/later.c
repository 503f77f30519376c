/*
 * later.c - the spools of what must wait for the whole tree (see later.h), and
 * the directories' own.
 */
#include <stdlib.h>

#include "later.h"
#include "sys.h"

#define LEADER_BLOCK_BYTES 512	/* followers name leaders all over the spool */

int ar_later_string(struct ar_bytes *out, const char *text, size_t len)
{
	int err = ar_bytes_add(out, text, len);

	return err ? err : ar_bytes_add(out, "", 1);
}

static uint32_t bare_bytes(const struct ar_page *page)
{
	return page ? (uint32_t)(sizeof(*page) + page->path_len + 1 + 7) & ~7u : 0;
}

static int add_bare(struct ar_bytes *out, const struct ar_page *page)
{
	if (!page)
		return 0;

	struct ar_page bare = *page;
	bare.flags = AR_PAGE_FIRST | AR_PAGE_LAST;
	bare.row_count = 0;
	bare.bytes = bare_bytes(page);
	bare.path_off = sizeof(bare);
	bare.alias_off = 0;
	bare.alias_len = 0;
	int err = ar_bytes_add(out, &bare, sizeof(bare));
	if (!err)
		err = ar_later_string(out, ar_page_str(page, page->path_off), page->path_len);
	return err ? err : ar_bytes_align(out);
}

int ar_later_folder(struct ar_later *later, const struct ar_batch *batch,
		    const struct ar_pair *pair)
{
	const struct ar_page *src = ar_src_page(batch, pair);
	const struct ar_page *dst = ar_dst_page(batch, pair);
	struct folder_record folder = {
		.directory = pair->directory,
		.flags = pair->flags,
		.why = pair->self.why,
		.src_bytes = bare_bytes(src),
		.dst_bytes = bare_bytes(dst),
	};
	struct ar_bytes *out = &later->spool.out;
	uint64_t offset;

	int err = ar_spool_begin(&later->spool, RECORD_FOLDER, &offset);
	if (!err)
		err = ar_bytes_add(out, &folder.head + 1, sizeof(folder) - sizeof(folder.head));
	if (!err)
		err = add_bare(out, src);
	if (!err)
		err = add_bare(out, dst);
	return err ? err : ar_spool_end(&later->spool, offset);
}

/* ----------------------------------------------------------------- directories */

/* whether a change makes something new while its directory is open, and nothing later */
static bool is_made_at_once(const struct ar_page *page, const struct ar_change *change)
{
	const bool is_entry = change->kind == AR_CHANGE_DATA ||
			      change->kind == AR_CHANGE_SYMLINK ||
			      change->kind == AR_CHANGE_SPECIAL;

	return is_entry && change->state == AR_STATE_PLANNED && !ar_is_big(page, change);
}

/*
 * Whether a new directory is complete when a lane closes it: no directory comes
 * into it, no big file and no further name of a file.  Nor is a name in it linked
 * elsewhere, for which its owner would have to be let in.
 */
static bool is_complete_at_once(const struct ar_batch *batch, const struct ar_pair *pair)
{
	const uint32_t not_plain = ~(uint32_t)(AR_PAIR_NEW | AR_PAIR_REPLACE | AR_PAIR_TOUCHED);
	const struct ar_page *page = ar_src_page(batch, pair);
	const struct ar_change *change = batch->changes + pair->change_first;

	if (!ar_makes_dir(pair) || pair->flags & not_plain || !ar_is_whole(page))
		return false;
	for (uint32_t i = 0; i < page->row_count; i++) {
		const struct ar_row *row = &ar_rows(page)[i];

		if (row->type == DT_DIR || row->nlink > 1)
			return false;
	}
	for (uint32_t i = 0; i < pair->change_count; i++) {
		if (!is_made_at_once(page, &change[i]))
			return false;
	}
	return true;
}

/*
 * One record a directory, by its first page.  Nobody knows yet what the further
 * pages of a long one will do in it, so such a directory is always finished:
 * where nothing moved that costs a look.
 */
bool ar_needs_finish(const struct ar_page *page, const struct ar_pair *pair)
{
	if ((pair->flags & (AR_PAIR_NAMED | AR_PAIR_HELD | AR_PAIR_AT_ONCE)) ||
	    !(page->flags & AR_PAGE_FIRST))
		return false;
	return (pair->flags & AR_PAIR_TOUCHED) || pair->self.kind ||
	       !(page->flags & AR_PAGE_LAST);
}

static int add_dirs(struct ar_later *later, struct ar_batch *batch)
{
	for (uint32_t i = 0; i < batch->pair_count; i++) {
		struct ar_pair *pair = &batch->pairs[i];

		if (!later->takes_all && is_complete_at_once(batch, pair))
			pair->flags |= AR_PAIR_AT_ONCE;
		if (!ar_needs_finish(ar_src_page(batch, pair), pair))
			continue;
		int err = ar_later_folder(later, batch, pair);
		if (err)
			return err;
		later->count++;
	}
	return 0;
}

/* ----------------------------------------------------------------- reading back */

int ar_later_page(struct ar_batch *batch, int side, const void *page, size_t bytes,
		  uint64_t *offset)
{
	uint8_t *at = ar_batch_reserve(batch, side, bytes);

	if (!at)
		return -ENOMEM;
	memcpy(at, page, bytes);
	*offset = side ? batch->dst_bytes : batch->src_bytes;
	*(side ? &batch->dst_bytes : &batch->src_bytes) += bytes;
	return 0;
}

static int add_finish(struct ar_batch *out, const struct folder_record *folder)
{
	const uint8_t *pages = (const uint8_t *)(folder + 1);
	int err = ar_folder_check(folder);

	if (err)
		return err;
	struct ar_pair *pair = ar_batch_add_pair(out);
	if (!pair)
		return -ENOMEM;
	/* it was made meanwhile if it was new: only self.why still says so */
	pair->flags = (folder->flags & AR_PAIR_ROOT) | AR_PAIR_FINISH;
	pair->dst_page = AR_NO_PAGE;
	pair->directory = folder->directory;
	pair->self.kind = AR_CHANGE_DIR;
	pair->self.why = folder->why;
	pair->self.src_row = AR_NONE;
	pair->self.dst_row = AR_NONE;
	err = ar_later_page(out, 0, pages, folder->src_bytes, &pair->src_page);
	if (!err && folder->dst_bytes)
		err = ar_later_page(out, 1, pages + folder->src_bytes, folder->dst_bytes,
				    &pair->dst_page);
	return err;
}

static int next_dirs(struct ar_later *later, struct ar_batch *out)
{
	while (later->position && out->pair_count < AR_BATCH_DIRS) {
		const struct ar_record *record;
		int err = ar_spool_before(&later->spool, later->position, &record);
		if (!err)
			err = add_finish(out, (const struct folder_record *)record);
		if (err)
			return err;
		later->position -= record->bytes;
	}
	return out->pair_count > 0;
}

int ar_later_add(ar_later *later, struct ar_batch *batch)
{
	if (!later->count) {	/* nothing of another source waits */
		later->src_root = batch->src_root;
		later->dst_root = batch->dst_root;
	}
	if (later->reading || later->src_root != batch->src_root ||
	    later->dst_root != batch->dst_root)
		return -EINVAL;
	switch (later->what) {
	case AR_LATER_LINKS:
		return ar_followers_add(later, batch);
	case AR_LATER_EXTRAS:
		return ar_deletions_add(later, batch);
	case AR_LATER_SOURCES:
		return ar_sources_add(later, batch);
	}
	return add_dirs(later, batch);
}

int ar_later_read(struct ar_later *later)
{
	int err = later->reading ? 0 : ar_spool_finish(&later->spool);

	if (err || later->reading)
		return err;
	later->reading = true;
	if (later->what == AR_LATER_DIRS || later->what == AR_LATER_EXTRAS)
		later->position = later->spool.written;
	ar_spool_free(&later->leaders);
	ar_spool_view(&later->leaders, &later->spool, LEADER_BLOCK_BYTES);
	return 0;
}

/* the first names stay known: another source may have more names of their inodes */
static void end_followers(struct ar_later *later)
{
	later->reading = false;
	later->count = 0;
}

int ar_later_next(ar_later *later, struct ar_batch *out)
{
	int err = ar_later_read(later);

	if (err)
		return err;
	ar_batch_clear(out);
	out->src_root = later->src_root;
	out->dst_root = later->dst_root;
	if (later->what == AR_LATER_EXTRAS)
		return ar_deletions_next(later, out);
	if (later->what == AR_LATER_DIRS)
		return next_dirs(later, out);
	int filled = ar_followers_next(later, out);
	if (!filled)
		end_followers(later);
	return filled;
}

/* --------------------------------------------------------------- open and close */

int ar_later_open(int spool_fd, uint32_t what, ar_later **out)
{
	if (what < AR_LATER_LINKS || what > AR_LATER_ALL_DIRS)
		return -EINVAL;
	struct ar_later *later = ar_fault(AR_OP_MEMORY, NULL) ? NULL : calloc(1, sizeof(*later));
	if (!later)
		return -ENOMEM;
	later->is_planned = what == AR_LATER_PLANNED_SOURCES;
	later->takes_all = what == AR_LATER_ALL_DIRS;
	later->what = later->is_planned ? AR_LATER_SOURCES
		    : later->takes_all	? AR_LATER_DIRS
					: what;
	ar_spool_init(&later->spool, spool_fd);
	if (what == AR_LATER_LINKS) {
		later->inodes = ar_inodes_new();
		/* fills the place of offset 0, which means "none" in a leader */
		uint64_t offset;
		int err = later->inodes ? ar_spool_begin(&later->spool, 0, &offset) : -ENOMEM;
		if (!err)
			err = ar_spool_end(&later->spool, offset);
		if (err) {
			ar_later_close(later);
			return err;
		}
	}
	*out = later;
	return 0;
}

uint64_t ar_later_count(const ar_later *later)
{
	return later->count;
}

void ar_later_close(ar_later *later)
{
	if (!later)
		return;
	ar_inodes_free(later->inodes);
	ar_spool_free(&later->spool);
	ar_spool_free(&later->leaders);
	ar_bytes_free(&later->open_folder);
	ar_bytes_free(&later->src.rows);
	ar_bytes_free(&later->src.arena);
	ar_bytes_free(&later->dst.rows);
	ar_bytes_free(&later->dst.arena);
	free(later);
}
