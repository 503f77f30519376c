/*
 * recall.c - what the manifest knows of the directories that were just scanned.
 *
 * A pair whose two pages are as recorded, and were equal then by the same rules,
 * has converged: nothing but its directories is looked at further.  For any other
 * pair the records are joined with the scanned rows, by name.  A hash counts for as
 * long as type, size, mtime, ctime and inode of its row are as they were.
 */
#include <stdlib.h>
#include <time.h>

#include "record.h"
#include "scan.h"

#define SCARCE_NS 10000000L	/* until lanes may have given descriptors back */
#define SCARCE_TRIES 1000	/* ten seconds */

/* -------------------------------------------------------- ids of directories */

static uint32_t count_source_pairs(const struct ar_batch *batch, uint32_t first_pair)
{
	uint32_t count = 0;

	for (uint32_t i = first_pair; i < batch->pair_count; i++)
		count += !(batch->pairs[i].flags & AR_PAIR_EXTRA);
	return count;
}

_Static_assert(AR_KEY_BYTES == 4 + 8 + NAME_MAX, "room for the longest name");

int ar_child_keys(const struct ar_batch *parent, uint32_t first, const struct ar_batch *batch,
		  uint32_t first_pair, uint8_t *keys)
{
	uint32_t count = count_source_pairs(batch, first_pair);
	uint8_t *at = keys;

	for (uint32_t i = first; count && i < parent->child_count; i++) {
		const struct ar_child *child = &parent->children[i];
		const struct ar_pair *pair = &parent->pairs[child->pair];
		const struct ar_page *page = ar_src_page(parent, pair);

		if (child->flags & AR_CHILD_EXTRA)
			continue;
		const struct ar_row *row = &ar_rows(page)[child->row];
		const uint32_t len = 8 + (uint32_t)row->name_len;
		const uint64_t above = __builtin_bswap64(pair->directory);

		if (row->name_len > NAME_MAX)
			return -EINVAL;
		memcpy(at, &len, 4);
		memcpy(at + 4, &above, 8);
		memcpy(at + 12, ar_row_name(page, row), row->name_len);
		at += 4 + len;
		count--;
	}
	return count ? -EINVAL : (int)(at - keys);
}

void ar_identify(struct ar_batch *batch, uint32_t first_pair, const uint64_t *ids, uint32_t count)
{
	uint32_t at = 0;

	for (uint32_t i = first_pair; i < batch->pair_count; i++) {
		struct ar_pair *pair = &batch->pairs[i];

		if (!(pair->flags & AR_PAIR_EXTRA) && count)
			pair->directory = ids[at + 1 < count ? at++ : count - 1];
		else if (pair->flags & AR_PAIR_EXTRA && pair->flags & AR_PAIR_TOUCHED && i)
			pair->directory = batch->pairs[i - 1].directory;
	}
}

uint32_t ar_next_part(const struct ar_batch *batch, uint32_t pair)
{
	while (pair < batch->pair_count &&
	       (batch->pairs[pair].flags & AR_PAIR_EXTRA ||
		ar_is_whole(ar_src_page(batch, &batch->pairs[pair]))))
		pair++;
	return pair;
}

/* ------------------------------------------------------------ one side's records */

struct cursor {			/* on the records of one side, a pair after the other */
	const struct ar_chains *chains;
	const uint8_t *bytes;
	const uint64_t *len;
};

static struct ar_recorded record_at(struct cursor *cursor, uint64_t directory)
{
	const struct ar_recorded record = {
		.bytes = cursor->bytes,
		.len = *cursor->len,
		.directory = directory,
		.tree = cursor->chains->tree,
	};

	cursor->bytes += *cursor->len++;
	return record;
}

static bool same_content_stat(const struct ar_row *a, const struct ar_row *b)
{
	return a->type == DT_REG && b->type == DT_REG && a->size == b->size &&
	       a->mtime_s == b->mtime_s && a->mtime_n == b->mtime_n &&
	       (a->flags & AR_ROW_FOLLOWED) == (b->flags & AR_ROW_FOLLOWED);
}

static bool is_same_file(const struct ar_row *seen, const struct ar_row *recorded)
{
	return seen->ino == recorded->ino && seen->btime_s == recorded->btime_s &&
	       seen->btime_n == recorded->btime_n;
}

static uint8_t judge(const struct ar_row *seen, const struct ar_row *recorded)
{
	uint8_t state = AR_MEMORY_RECORDED;

	if (!same_content_stat(seen, recorded))
		return 0;
	if (seen->ctime_s != recorded->ctime_s || seen->ctime_n != recorded->ctime_n)
		state |= AR_MEMORY_CTIME;
	if (!is_same_file(seen, recorded))
		state |= AR_MEMORY_INODE;
	return state;
}

static void remember(const struct ar_batch *batch, const struct ar_pair *pair, int side,
		     const struct ar_page *recorded, const struct ar_known *known)
{
	const struct ar_page *src = ar_src_page(batch, pair);
	const struct ar_page *seen = side ? ar_dst_page(batch, pair) : src;
	struct ar_memory *memory = batch->memory + pair->memory;
	uint32_t at = 0, seen_at = 0;

	known += !!(recorded->flags & AR_PAGE_FIRST);
	for (uint32_t i = 0; i < src->row_count; i++) {
		const struct ar_row *row = &ar_rows(src)[i];
		const char *name = ar_row_name(src, row);
		const struct ar_row *found = ar_row_from(recorded, &at, name, row->name_len);

		if (side)
			row = ar_row_from(seen, &seen_at, name, row->name_len);
		if (!found || !row || row->flags & AR_ROW_BAD)
			continue;
		if (!side)
			memory[i].is_same_file = is_same_file(row, found);
		const uint8_t state = judge(row, found);
		if (!state || (memory[i].state[side] && state != AR_MEMORY_RECORDED))
			continue;	/* another source's record has said as much */
		memory[i].state[side] = state;
		memory[i].known[side] = known[found - ar_rows(recorded)];
	}
}

/* ------------------------------------------------------------------ the batch */

struct recall {
	struct scan_call call;
	struct ar_batch *batch;
	struct ar_batch *spare;	/* for records that are unpacked */
	uint64_t equality;
	struct ar_known known[AR_RECORD_ROWS];
};

static int remember_chain(struct recall *r, const struct ar_pair *pair, int side,
			  struct cursor cursor, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct ar_recorded record = record_at(&cursor, pair->directory);

		record.known = r->known;
		ar_batch_clear(r->spare);
		int err = ar_records_unpack(&record, 1, r->spare, 0);
		if (err || record.result)
			return err ? err : record.result;
		remember(r->batch, pair, side, (const struct ar_page *)r->spare->src, r->known);
	}
	return 0;
}

static int add_memory(struct ar_batch *batch, struct ar_pair *pair)
{
	const uint32_t rows = ar_src_page(batch, pair)->row_count;

	pair->memory = batch->memory_count;
	return !rows || ar_batch_add_memory(batch, rows) ? 0 : -ENOMEM;
}

/*
 * Other entries of a directory than those of this source move its own ctime, its link
 * count and its size: of two sources that share it, each moves what the other has seen.
 */
static int compare_entries(const struct recall *r, struct ar_page *page,
			   struct ar_recorded *record)
{
	const struct ar_row self = page->self;
	struct ar_row own;

	if (!ar_record_own(record, &own))
		return -EBADMSG;
	page->self.ctime_s = own.ctime_s;
	page->self.ctime_n = own.ctime_n;
	page->self.nlink = own.nlink;
	page->self.size = own.size;
	int err = ar_records_compare(r->batch, 1, record, 1);
	page->self = self;
	return err ? err : record->result;
}

/* one record and the page that was scanned: a directory of several pages is never compared whole */
static int compare_pair(const struct recall *r, const struct ar_pair *pair, int side,
			struct cursor cursor, uint32_t count, struct ar_record_head *head)
{
	const uint64_t page = side ? pair->dst_page : pair->src_page;

	if (count != 1 || page == AR_NO_PAGE)
		return 0;
	struct ar_recorded record = record_at(&cursor, pair->directory);
	record.page = page;
	int err = ar_records_compare(r->batch, side, &record, 1);
	if (err || record.result < 0)
		return err ? err : record.result;
	memcpy(head, record.bytes, sizeof(*head));
	struct ar_page *seen = (struct ar_page *)(r->batch->dst + page);
	if (!record.result && side && seen->flags & AR_PAGE_FIRST && head->flags & AR_PAGE_FIRST)
		return compare_entries(r, seen, &record);
	return record.result;
}

static bool is_converged(const struct recall *r, const struct ar_record_head *src,
			 const struct ar_record_head *dst)
{
	return src->flags & AR_RECORD_CONVERGED && src->equality == r->equality &&
	       src->partner == dst->checksum;
}

/* whether a directory that was opened has changed; what it holds has not been looked at */
static bool has_moved(const struct ar_row *seen, const struct ar_row *recorded)
{
	return seen->type && (seen->ino != recorded->ino || seen->ctime_s != recorded->ctime_s ||
			      seen->ctime_n != recorded->ctime_n);
}

/* 1: the source is as recorded, and the destination was equal then: its page is what it was */
static int take_recorded(struct recall *r, struct ar_pair *pair, const struct cursor *cursors,
			 const uint32_t *counts)
{
	struct ar_path *path = &r->call.scratch->dir.side[DST].path;
	struct ar_record_head src, dst;
	struct cursor at = cursors[1];

	if (!pair->directory || counts[1] != 1)
		return 0;
	int same = compare_pair(r, pair, 0, cursors[0], counts[0], &src);
	if (same <= 0)
		return same;
	struct ar_recorded record = record_at(&at, pair->directory);
	if (!ar_record_head_read(&record, &dst))
		return -EBADMSG;
	if (!is_converged(r, &src, &dst))
		return 0;
	const struct ar_page *from = ar_dst_path_page(r->batch, pair);
	const struct ar_row self = pair->dst_page == AR_NO_PAGE ? (struct ar_row){ 0 } : from->self;
	int err = ar_path_set(path, ar_page_str(from, from->path_off), from->path_len);
	record.path = path->bytes;
	record.path_len = from->path_len;
	if (!err)
		err = ar_records_unpack(&record, 1, r->batch, 1);
	if (err || record.result)
		return err ? err : record.result;
	struct ar_page *page = (struct ar_page *)(r->batch->dst + record.page);
	if (has_moved(&self, &page->self))
		return 0;
	page->dev = r->call.scan->dst->dev;
	pair->dst_page = record.page;
	pair->dst_sum = dst.checksum;
	pair->flags |= AR_PAIR_SAME_DST | AR_PAIR_CONVERGED;
	return 1;
}

static int distrust(struct recall *r, uint32_t index)
{
	const struct timespec pause = { 0, SCARCE_NS };
	int err, tries = 0;

	while (((err = ar_page_distrust(&r->call, index)) == -EMFILE || err == -ENFILE) &&
	       ++tries < SCARCE_TRIES)
		nanosleep(&pause, NULL);
	return err;
}

static int recall_pair(struct recall *r, uint32_t index, const struct cursor *cursors,
		       const uint32_t *counts)
{
	struct ar_pair *pair = &r->batch->pairs[index];
	struct ar_record_head src, dst;

	pair->memory = AR_NO_PAGE;
	if (pair->flags & AR_PAIR_TRUSTED) {
		int taken = take_recorded(r, pair, cursors, counts);
		if (taken)
			return AR_MIN(taken, 0);
		taken = distrust(r, index);
		if (taken)
			return taken;
	}
	if (!pair->directory || pair->flags & AR_PAIR_EXTRA || !(counts[0] || counts[1]))
		return 0;
	int same_dst = compare_pair(r, pair, 1, cursors[1], counts[1], &dst);
	if (same_dst < 0)
		return same_dst;
	int same_src = compare_pair(r, pair, 0, cursors[0], counts[0], &src);
	if (same_src < 0)
		return same_src;
	if (same_dst) {
		pair->flags |= AR_PAIR_SAME_DST;
		pair->dst_sum = dst.checksum;
	}
	if (same_src && same_dst && is_converged(r, &src, &dst)) {
		pair->flags |= AR_PAIR_CONVERGED;
		if (ar_is_whole(ar_src_page(r->batch, pair)))
			return 0;	/* one of many pages is recorded with the others */
	}
	int err = add_memory(r->batch, pair);
	for (int side = 0; side < 2 && !err; side++)
		err = remember_chain(r, pair, side, cursors[side], counts[side]);
	return err;
}

int ar_recall(ar_scan *scan, struct ar_batch *batch, const struct ar_chains *sides,
	      uint64_t equality)
{
	struct recall *r = calloc(1, sizeof(*r));
	struct cursor cursors[2];
	int err = r ? ar_scan_begin(&r->call, scan, batch) : -ENOMEM;

	if (err) {
		free(r);
		return err;
	}
	r->batch = batch;
	r->equality = equality;
	r->spare = ar_batch_new();
	err = r->spare ? 0 : -ENOMEM;
	for (int side = 0; side < 2; side++)
		cursors[side] = (struct cursor){ &sides[side], sides[side].bytes, sides[side].lens };
	for (uint32_t i = 0; i < batch->pair_count && !err; i++) {
		const uint32_t counts[2] = { sides[0].counts[i], sides[1].counts[i] };

		err = recall_pair(r, i, cursors, counts);
		for (int side = 0; side < 2; side++) {
			for (uint32_t j = 0; j < counts[side]; j++)
				record_at(&cursors[side], 0);
		}
	}
	ar_batch_free(r->spare);
	ar_scan_end(&r->call);
	free(r);
	return err;
}
