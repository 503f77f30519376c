/*
 * refresh.c - directories that are complete, as pages for the manifest.
 *
 * What was recorded of them when their batch was done is taken up again: entries
 * that could not be there yet are looked at, and so are files with several names,
 * whose ctime each of them has moved.
 */
#include <stdlib.h>

#include "settle.h"

static int refresh_row(struct settling *s, const struct ar_page *page, const struct ar_row *row,
		       const struct ar_page *dst, const struct ar_row *old, struct ar_writer *w)
{
	const struct ar_known *known = old ? &s->old_known[1 + (old - ar_rows(dst))] : NULL;
	const bool is_named_again = row->type != DT_DIR && row->nlink > 1;
	struct ar_side *side = &s->call.scratch->dir.side[DST];
	struct ar_row fresh = { .flags = old ? old->flags : 0 };

	if (old && !is_named_again && page != dst) {
		s->dst_known[1 + w->rows] = *known;
		return ar_settle_copy(w, dst, old);
	}
	int err = ar_settle_look(s, side, ar_row_name(page, row), row->name_len, w, &fresh);
	if (err) {
		s->is_settled = s->is_settled && page == dst;
		return err == -ENOMEM ? err : 0;
	}
	memset(&s->dst_known[1 + w->rows], 0, sizeof(*known));
	if (old && old->ino == fresh.ino && old->size == fresh.size &&
	    old->mtime_s == fresh.mtime_s && old->mtime_n == fresh.mtime_n)
		s->dst_known[1 + w->rows] = *known;
	ar_settle_note_racy(s, &fresh, s->horizon, &s->dst_known[1 + w->rows]);
	ar_page_add(w, &fresh);
	return 0;
}

/* the rows of both pages, by name; what only the destination has may be gone by now */
static int refresh_rows(struct settling *s, const struct ar_page *src, const struct ar_page *dst,
			struct ar_writer *w)
{
	uint32_t i = 0, j = 0;
	int err = 0;

	while ((i < src->row_count || j < dst->row_count) && !err) {
		const struct ar_row *a = i < src->row_count ? &ar_rows(src)[i] : NULL;
		const struct ar_row *b = j < dst->row_count ? &ar_rows(dst)[j] : NULL;
		int order = !a ? 1 : -1;

		if (a && b)
			order = ar_name_compare(ar_row_name(src, a), a->name_len,
						ar_row_name(dst, b), b->name_len);
		if (order > 0)
			err = refresh_row(s, dst, b, dst, b, w);
		else
			err = refresh_row(s, src, a, dst, order ? NULL : b, w);
		i += order <= 0;
		j += order >= 0;
	}
	return err;
}

static uint32_t count_names(const struct ar_page *a, const struct ar_page *b)
{
	uint32_t at = 0, shared = 0;

	for (uint32_t i = 0; i < a->row_count; i++) {
		const struct ar_row *row = &ar_rows(a)[i];

		shared += ar_row_from(b, &at, ar_row_name(a, row), row->name_len) != NULL;
	}
	return a->row_count + b->row_count - shared;
}

/* -EBADMSG for a damaged record; 1 when it does not begin its directory */
static int unpack_first(struct settling *s, struct ar_recorded *record, int side,
			struct ar_known *known)
{
	record->known = known;
	int err = ar_records_unpack(record, 1, s->old, side);
	if (err || record->result)
		return err ? err : record->result;
	return !(record->flags & AR_RECORD_FIRST);
}

static int refresh_pair(struct settling *s, const struct ar_pair *pair, struct ar_recorded *src,
			struct ar_recorded *dst)
{
	struct ar_writer w = { .batch = s->fresh, .side = DST };
	uint64_t page;

	ar_batch_clear(s->fresh);
	ar_batch_clear(s->old);
	int err = unpack_first(s, src, 0, s->src_known);
	if (!err)
		err = unpack_first(s, dst, 1, s->old_known);
	if (err)
		return err < 0 ? err : 0;
	const struct ar_page *src_page = (struct ar_page *)s->old->src;
	const struct ar_page *dst_page = (struct ar_page *)s->old->dst;
	const uint64_t sum = ar_settle_sum(dst);

	s->is_settled = src->flags & AR_RECORD_CONVERGED &&
			(src->partner == sum || src->partner == ~sum) &&
			src->equality == s->keeping->equality &&
			pair->self.state == AR_STATE_DONE;
	memset(s->dst_known, 0, sizeof(s->dst_known[0]));
	const uint32_t rows = count_names(src_page, dst_page);
	if (rows > AR_PAGE_ROWS || src_page->flags != dst_page->flags)
		return 0;
	err = ar_settle_open(s, pair, true);
	if (!err)
		err = ar_page_open(&w, rows);
	if (!err)
		err = refresh_rows(s, src_page, dst_page, &w);
	if (!err)
		err = ar_page_close(&w, &s->call.scratch->dir.side[DST], NULL,
				 dst_page->flags & (AR_PAGE_FIRST | AR_PAGE_LAST), &page);
	if (!err) {
		const struct ar_page *fresh = (const struct ar_page *)(s->fresh->dst + page);

		if (!(pair->flags & AR_PAIR_GIVEN) &&
		    ar_attribute_why(s->keeping->rules, &src_page->self, &fresh->self))
			s->is_settled = false;
		err = ar_settle_keep(s, pair, s->old, 0, page);
	}
	ar_dir_reset(&s->call.scratch->dir, 0);
	return err == -ENOMEM ? err : 0;
}

int ar_refresh(ar_scan *scan, const struct ar_batch *batch, const struct ar_chains *sides,
	       const struct ar_keeping *keeping, struct ar_batch *out, struct ar_kept *kept)
{
	struct settling *s = calloc(1, sizeof(*s));
	const uint8_t *bytes[2] = { sides[0].bytes, sides[1].bytes };
	const uint64_t *len[2] = { sides[0].lens, sides[1].lens };
	int err = s ? ar_settle_begin(s, scan, batch, keeping, out, kept) : -ENOMEM;

	for (uint32_t i = 0; i < batch->pair_count && !err; i++) {
		const struct ar_pair *pair = &batch->pairs[i];
		struct ar_recorded first[2] = { 0 };

		for (int side = 0; side < 2; side++) {
			first[side] = (struct ar_recorded){ .bytes = bytes[side],
							    .directory = pair->directory,
							    .tree = sides[side].tree };
			if (sides[side].counts[i])
				first[side].len = *len[side];
			for (uint32_t j = 0; j < sides[side].counts[i]; j++)
				bytes[side] += *len[side]++;
		}
		if (first[0].len && first[1].len)
			err = refresh_pair(s, pair, &first[0], &first[1]);
	}
	int count = s ? (int)s->count : 0;
	if (s)
		ar_settle_end(s);
	return err ? err : count;
}
