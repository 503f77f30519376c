/*
 * settle.c - what an executed batch left behind, as pages for the manifest.
 *
 * Entries that changed are looked at again at the destination; of the others the
 * scan's rows still hold.  A directory in which something was made is not complete
 * yet: its times come last, and so do its directories and further names of files.
 * It is recorded all the same, as one that is yet to converge, and refreshed when
 * all that is done (refresh.c).
 */
#include <stdlib.h>

#include "hash.h"
#include "later.h"
#include "settle.h"

/* ------------------------------------------------------------------- one row */

static __int128 horizon(int64_t now_ns, int64_t granule_ns)
{
	return granule_ns ? (__int128)now_ns - granule_ns : (__int128)INT64_MAX * INT64_MAX;
}

void ar_settle_note_racy(struct settling *s, const struct ar_row *row, __int128 horizon,
			 struct ar_known *known)
{
	const __int128 ctime_ns = (__int128)row->ctime_s * 1000000000 + row->ctime_n;

	if (row->type != DT_REG || !row->size || ctime_ns < horizon)
		return;
	known->state |= AR_KNOWN_RACY;
	s->is_settled = false;
}

int ar_settle_look(struct settling *s, const struct ar_side *side, const char *name, size_t len,
		   struct ar_writer *w, struct ar_row *row)
{
	const uint8_t flags = row->flags & AR_ROW_FOLLOWED;
	struct statx stx;

	memset(row, 0, sizeof(*row));
	row->flags = flags;
	row->name_len = (uint16_t)len;
	int err = ar_scan_statx(&s->call, side->fd, name, flags ? 0 : AT_SYMLINK_NOFOLLOW, &stx);
	if (err)
		return err;
	err = ar_page_put(w, name, len, &row->name_off);
	if (!err && S_ISLNK(stx.stx_mode))
		err = ar_page_read_link(w, side->fd, name, row);
	if (err)
		return err;
	ar_row_fill(row, &stx, side->dev, s->call.scan->flags);
	if (row->type == DT_DIR)
		ar_row_bare(row);
	else
		err = ar_row_digest(&s->call, row, DST, side->fd, name, AR_NONE);
	return err;
}

int ar_settle_copy(struct ar_writer *w, const struct ar_page *from, const struct ar_row *old)
{
	struct ar_row row = *old;
	int err = ar_page_put(w, ar_row_name(from, old), old->name_len, &row.name_off);

	if (!err && old->link_len)
		err = ar_page_put(w, ar_page_str(from, old->link_off), old->link_len, &row.link_off);
	if (!err)
		ar_page_add(w, &row);
	return err;
}

/* ----------------------------------------------------------- the directory itself */

int ar_settle_open(struct settling *s, const struct ar_pair *pair, bool is_needed)
{
	struct ar_side *side = &s->call.scratch->dir.side[DST];
	const struct ar_page *path = ar_dst_path_page(s->batch, pair);
	const struct ar_page *seen = ar_dst_page(s->batch, pair);
	int err = ar_path_set(&side->path, ar_page_str(path, path->path_off), path->path_len);

	if (err || !is_needed) {
		side->self = seen->self;
		side->dev = seen->dev;
		return err;
	}
	side->fd = ar_open_beneath(s->call.scan->dst, side->path.bytes, side->path.len,
				   O_RDONLY | O_DIRECTORY);
	if (side->fd == -EACCES)
		side->fd = ar_open_beneath(s->call.scan->dst, side->path.bytes, side->path.len,
					   O_PATH | O_DIRECTORY);
	if (side->fd < 0)
		return side->fd;
	return ar_dir_identify(&s->call, &s->call.scratch->dir, DST);
}

/* ---------------------------------------------------------------- what is known */

static bool was_written(const struct ar_change *change)
{
	return change->kind == AR_CHANGE_DATA && change->state == AR_STATE_DONE;
}

static void know_hash(const struct settling *s, const struct ar_change *change,
		      struct ar_known *known)
{
	memset(known, 0, sizeof(*known));
	if (!(change->flags & AR_CHANGE_HASHED))
		return;
	known->state = AR_KNOWN_HASHED;
	known->verified = s->keeping->now;
	memcpy(known->hash, change->hash, sizeof(known->hash));
}

/* a hash counts no more where the row moved; where nobody looked, the row stays in doubt */
static void recall_known(const struct settling *s, const struct ar_memory *memory, int side,
			 struct ar_known *known)
{
	memset(known, 0, sizeof(*known));
	if (!memory || !memory->state[side])
		return;
	if (memory->state[side] == AR_MEMORY_RECORDED)
		*known = memory->known[side];
	else if (ar_look_moved(s->keeping->rules, memory->state[side]) != AR_MEMORY_RECORDED)
		known->state = AR_KNOWN_RACY;
}

/* the hashes of its chunks, where the batch has those that give its hash */
static const struct ar_chunks *chunks_of(const struct settling *s, const struct ar_change *change,
					 const struct ar_known *known)
{
	if (!(change->flags & AR_CHANGE_HASHED) || !(known->state & AR_KNOWN_HASHED) ||
	    memcmp(known->hash, change->hash, AR_HASH_BYTES))
		return NULL;
	return ar_chunks_find(s->batch, s->pair, change->src_row, false);
}

/* what is known of a source row and of what stands for it at the destination */
static void know(struct settling *s, const struct ar_pair *pair, uint32_t i,
		 const struct ar_change *change, struct ar_known *src, struct ar_known *dst,
		 const struct ar_chunks **chunks)
{
	const struct ar_memory *memory = ar_memory_of(s->batch, pair, i);

	recall_known(s, memory, 0, src);
	recall_known(s, memory, 1, dst);
	if (!change)
		return;
	if (ar_has_moved(change) && change->state == AR_STATE_DONE) {
		if (change->flags & AR_CHANGE_HASHED)
			know_hash(s, change, src);
		*dst = ar_old_file(s->batch, change).known;
		dst->state &= (uint8_t)~AR_KNOWN_CHUNKED;	/* they are kept by name */
	} else if (change->flags & AR_CHANGE_UNSTABLE) {
		memset(src, 0, sizeof(*src));
		src->state = AR_KNOWN_UNSTABLE;
		memset(dst, 0, sizeof(*dst));
		s->is_settled = false;
	} else if (was_written(change)) {
		know_hash(s, change, src);
		know_hash(s, change, dst);
		/* chunks were not read at the destination since */
		if (change->flags & AR_CHANGE_PARTLY && memory)
			dst->verified = memory->known[1].verified;
	} else if (change->flags & AR_CHANGE_HASHED) {	/* a side that was not read keeps its time */
		if (!(change->flags & AR_CHANGE_KNOWS_SRC))
			know_hash(s, change, src);
		if (!(change->flags & AR_CHANGE_KNOWS_DST))
			know_hash(s, change, dst);
	}
	*chunks = chunks_of(s, change, dst);
	if (*chunks)
		dst->state |= AR_KNOWN_CHUNKED;
}

/* ------------------------------------------------------------- the fresh page */

/* else somebody was at it since */
static bool is_as_made(const struct ar_rules *rules, const struct ar_row *row,
		       const struct ar_row *fresh)
{
	return fresh->type == row->type && fresh->size == row->size &&
	       (!(rules->keep & AR_KEEP_TIMES) ||
		!ar_compare_mtimes(rules, row->mtime_s, row->mtime_n, fresh->mtime_s,
				   fresh->mtime_n));
}

/* what a change left behind under the name of a source row */
static int look_again(struct settling *s, const struct ar_page *src, const struct ar_row *row,
		      uint8_t flags, struct ar_writer *w, struct ar_known *known)
{
	struct ar_side *side = &s->call.scratch->dir.side[DST];
	struct ar_row fresh = { .flags = flags };
	int err = ar_settle_look(s, side, ar_row_name(src, row), row->name_len, w, &fresh);

	if (err) {
		s->is_settled = false;
		return err == -ENOMEM ? err : 0;
	}
	if (!is_as_made(s->keeping->rules, row, &fresh))
		memset(known, 0, sizeof(*known));
	ar_settle_note_racy(s, &fresh, s->horizon, known);
	ar_page_add(w, &fresh);
	return 0;
}

/* the row that a source row has at the destination now, and what is known of it */
static int fresh_row(struct settling *s, const struct ar_pair *pair, const struct ar_row *old,
		     uint32_t i, const struct ar_change *change, struct ar_writer *w)
{
	const struct ar_page *src = ar_src_page(s->batch, pair);
	const struct ar_row *row = &ar_rows(src)[i];
	const uint32_t self = !!(src->flags & AR_PAGE_FIRST), before = w->rows;
	struct ar_known *src_known = &s->src_known[self + i], known;
	const struct ar_chunks *chunks = NULL;
	int err = 0;

	/* left alone is not equal: nobody may take it for that when no row is compared */
	if (change && change->kind == AR_CHANGE_NONE) {
		s->is_settled = false;
		change = NULL;
	}
	know(s, pair, i, change, src_known, &known, &chunks);
	ar_settle_note_racy(s, row, s->seen_horizon, src_known);
	if (row->flags & AR_ROW_BAD || (change && change->state != AR_STATE_DONE)) {
		s->is_settled = false;
	} else if (change) {
		err = look_again(s, src, row, old ? old->flags : 0, w, &known);
	} else if (old && !(old->flags & AR_ROW_BAD) &&
		   (old->type == DT_DIR) == (row->type == DT_DIR)) {
		ar_settle_note_racy(s, old, s->seen_horizon, &known);
		err = ar_settle_copy(w, ar_dst_page(s->batch, pair), old);
	}	/* a directory comes later, and what one is in the way of */
	if (w->rows > before) {
		s->dst_known[self + before] = known;
		s->chunks[self + before] = chunks;
	}
	return err;
}

static int fresh_rows(struct settling *s, const struct ar_pair *pair, struct ar_writer *w)
{
	const struct ar_page *src = ar_src_page(s->batch, pair);
	const struct ar_page *dst = ar_dst_page(s->batch, pair);
	const struct ar_change *change = s->batch->changes + pair->change_first;
	const struct ar_change *const end = change + pair->change_count;
	uint32_t at = 0;
	int err = 0;

	memset(s->src_known, 0, sizeof(s->src_known[0]));
	memset(s->dst_known, 0, sizeof(s->dst_known[0]));
	for (uint32_t i = 0; i < src->row_count && !err; i++) {
		const struct ar_row *row = &ar_rows(src)[i];
		const struct ar_row *old =
			ar_row_from(dst, &at, ar_row_name(src, row), row->name_len);
		const bool is_changed = change < end && change->src_row == i;

		err = fresh_row(s, pair, old, i, is_changed ? change : NULL, w);
		change += is_changed;
	}
	return err;
}

static int fresh_page(struct settling *s, const struct ar_pair *pair, uint64_t *page)
{
	const struct ar_page *src = ar_src_page(s->batch, pair);
	struct ar_writer w = { .batch = s->fresh, .side = DST };
	int err = ar_page_open(&w, src->row_count);

	if (!err)
		err = fresh_rows(s, pair, &w);
	if (!err)
		err = ar_page_close(&w, &s->call.scratch->dir.side[DST], NULL,
				 src->flags & (AR_PAGE_FIRST | AR_PAGE_LAST), page);
	return err;
}

/* -------------------------------------------------------------------- records */

/* packs a page; a page without rows that does not begin its directory has no data */
static int keep(struct settling *s, const struct ar_pair *pair, const struct ar_page *page,
		const struct ar_batch *pages, int side, struct ar_recorded *record)
{
	struct ar_kept *kept = &s->kept[s->count++];

	*kept = (struct ar_kept){
		.directory = pair->directory,
		.tree = side ? s->keeping->dst_tree : s->keeping->tree,
		.flags = page->flags & (AR_PAGE_FIRST | AR_PAGE_LAST),
	};
	if (pair->flags & AR_PAIR_CONVERGED)
		kept->flags |= AR_RECORD_CONVERGED;
	record->directory = kept->directory;
	record->tree = kept->tree;
	int err = ar_records_pack(pages, side, record, 1, s->out);
	if (err || record->result)
		return err;
	kept->data = record->aux;
	kept->data_len = (uint32_t)record->len;
	if (page->flags & AR_PAGE_FIRST)
		return 0;
	kept->key_len = ar_rows(page)->name_len;
	kept->key = ar_batch_add_aux(s->out, ar_row_name(page, ar_rows(page)), kept->key_len);
	return kept->key == AR_NONE ? -ENOMEM : 0;
}

uint64_t ar_settle_sum(const struct ar_recorded *record)
{
	struct ar_record_head head;

	if (record->result)
		return 0;
	memcpy(&head, record->bytes, sizeof(head));
	return head.checksum;
}

int ar_settle_keep(struct settling *s, const struct ar_pair *pair, const struct ar_batch *src,
		   uint64_t src_page, uint64_t dst_page)
{
	struct ar_recorded dst = { .page = dst_page, .known = s->dst_known };
	struct ar_recorded record = { .page = src_page, .known = s->src_known };
	const struct ar_page *fresh = (const struct ar_page *)(s->fresh->dst + dst_page);
	const struct ar_page *from = (const struct ar_page *)(src->src + src_page);
	int err = keep(s, pair, fresh, s->fresh, 1, &dst);

	if (!err)
		err = ar_chunks_keep(s->batch, fresh, s->dst_known, s->chunks, s->out,
				     &s->kept[s->count - 1]);
	if (err)
		return err;
	dst.bytes = s->out->aux + dst.aux;	/* which has grown since */
	if (s->is_settled && !dst.result && ar_pages_agree(s->keeping->rules, from, fresh)) {
		record.flags = AR_RECORD_CONVERGED;
		record.equality = s->keeping->equality;
		record.partner = s->is_early ? ~ar_settle_sum(&dst) : ar_settle_sum(&dst);
	}
	return keep(s, pair, from, src, 0, &record);
}

/* ------------------------------------------------------------------- a batch */

int ar_settle_begin(struct settling *s, ar_scan *scan, const struct ar_batch *batch,
		    const struct ar_keeping *keeping, struct ar_batch *out, struct ar_kept *kept)
{
	struct timespec now;

	s->batch = batch;
	s->keeping = keeping;
	s->out = out;
	s->kept = kept;
	s->fresh = ar_batch_new();
	s->old = ar_batch_new();
	if (!s->fresh || !s->old)
		return -ENOMEM;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	s->horizon = horizon(now.tv_sec * 1000000000L + now.tv_nsec, keeping->granule_ns);
	s->seen_horizon = horizon(batch->scanned_ns, keeping->granule_ns);
	return ar_scan_begin(&s->call, scan, s->fresh);
}

void ar_settle_end(struct settling *s)
{
	if (s->call.scratch)
		ar_scan_end(&s->call);
	ar_batch_free(s->fresh);
	ar_batch_free(s->old);
	free(s);
}

static bool is_recordable(const struct ar_batch *batch, const struct ar_pair *pair)
{
	const uint32_t never = AR_PAIR_SOME | AR_PAIR_NAMED | AR_PAIR_SHALLOW | AR_PAIR_FINISH;
	const struct ar_page *src = ar_src_page(batch, pair), *dst = ar_dst_page(batch, pair);

	if (!pair->directory || pair->flags & never || src->flags & AR_PAGE_PARTIAL ||
	    src->self.flags & AR_ROW_BAD)
		return false;
	if (pair->flags & AR_PAIR_CONVERGED && ar_is_whole(src))
		return false;
	return !dst || !(dst->flags & AR_PAGE_PARTIAL || dst->self.flags & AR_ROW_BAD);
}

static bool has_problem(const struct ar_batch *batch, uint32_t pair)
{
	for (uint32_t i = 0; i < batch->problem_count; i++) {
		if (batch->problems[i].pair == pair)
			return true;
	}
	return false;
}

static int settle_pair(struct settling *s, uint32_t i)
{
	const struct ar_pair *pair = &s->batch->pairs[i];
	const bool is_new = !ar_dst_page(s->batch, pair) || pair->flags & AR_PAIR_NEW;
	uint64_t page;

	s->pair = i;
	s->is_settled = !(pair->self.kind && pair->self.state != AR_STATE_DONE) &&
			!(pair->flags & AR_PAIR_HELD) && !has_problem(s->batch, i);
	s->is_early = ar_needs_finish(ar_src_page(s->batch, pair), pair);
	ar_batch_clear(s->fresh);
	int err = ar_settle_open(s, pair, is_new || pair->change_count || pair->self.kind);
	if (!err)
		err = fresh_page(s, pair, &page);
	if (!err)
		err = ar_settle_keep(s, pair, s->batch, pair->src_page, page);
	ar_dir_reset(&s->call.scratch->dir, 0);
	return err == -ENOMEM ? err : 0;	/* what cannot be looked at is not recorded */
}

uint32_t ar_unsettled(const struct ar_batch *batch)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < batch->pair_count; i++)
		count += is_recordable(batch, &batch->pairs[i]);
	return count;
}

int ar_settle(ar_scan *scan, const struct ar_batch *batch, const struct ar_keeping *keeping,
	      struct ar_batch *out, struct ar_kept *kept)
{
	struct settling *s = calloc(1, sizeof(*s));
	int err = s ? ar_settle_begin(s, scan, batch, keeping, out, kept) : -ENOMEM;

	for (uint32_t i = 0; i < batch->pair_count && !err; i++) {
		if (is_recordable(batch, &batch->pairs[i]))
			err = settle_pair(s, i);
	}
	int count = s ? (int)s->count : 0;
	if (s)
		ar_settle_end(s);
	return err ? err : count;
}
