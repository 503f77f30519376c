/*
 * prune.c - directories that wait until something is found below them (-m).
 *
 * Such a directory leaves its batch with its own change, for a batch of its own;
 * the pair that stays behind only says where its subdirectories are.
 */
#include "internal.h"

/* a name that could not be looked at has no type: rsync would not list it */
static bool has_only_dirs(const struct ar_page *page)
{
	const struct ar_row *row = ar_rows(page);

	for (uint32_t i = 0; i < page->row_count; i++)
		if (row[i].type != DT_DIR && row[i].type != DT_UNKNOWN)
			return false;
	return true;
}

static uint8_t look(const struct ar_batch *batch, const struct ar_pair *pair)
{
	const struct ar_page *page = ar_src_page(batch, pair);

	if (!has_only_dirs(page))
		return AR_PRUNE_FULL;
	if (pair->flags & (AR_PAIR_NAMED | AR_PAIR_ROOT) || !(page->flags & AR_PAGE_FIRST))
		return AR_PRUNE_NEITHER;
	return AR_PRUNE_BARE;
}

void ar_prune_look(const struct ar_batch *batch, uint8_t *found)
{
	for (uint32_t i = 0; i < batch->pair_count; i++)
		found[i] = look(batch, &batch->pairs[i]);
}

/* a page without its rows */
static int copy_bare(struct ar_batch *out, int side, const struct ar_page *from, uint64_t *offset)
{
	const size_t bytes = (sizeof(*from) + from->path_len + 1 + 7) & ~(size_t)7;
	uint64_t *end = side ? &out->dst_bytes : &out->src_bytes;
	uint8_t *at = ar_batch_reserve(out, side, bytes);
	struct ar_page page = *from;

	if (!at)
		return -ENOMEM;
	page.flags |= AR_PAGE_FIRST | AR_PAGE_LAST;
	page.row_count = page.alias_off = page.alias_len = 0;
	page.path_off = sizeof(page);
	page.bytes = (uint32_t)bytes;
	memset(at, 0, bytes);
	memcpy(at, &page, sizeof(page));
	memcpy(at + sizeof(page), ar_page_str(from, from->path_off), from->path_len);
	*offset = *end;
	*end += bytes;
	return 0;
}

int ar_prune_hold(struct ar_batch *batch, uint32_t index, struct ar_batch *out)
{
	struct ar_pair *from = &batch->pairs[index], *pair = ar_batch_add_pair(out);
	const struct ar_page *dst = ar_dst_page(batch, from);
	int err = pair ? copy_bare(out, 0, ar_src_page(batch, from), &pair->src_page) : -ENOMEM;

	if (!err && !dst)
		pair->dst_page = AR_NO_PAGE;
	else if (!err)
		err = copy_bare(out, 1, dst, &pair->dst_page);
	if (err)
		return err;
	out->src_root = batch->src_root;
	out->dst_root = batch->dst_root;
	pair->self = from->self;
	pair->filter = from->filter;
	/* what comes into it later moves its mtime */
	pair->flags = from->flags | AR_PAIR_TOUCHED | AR_PAIR_BARE;
	if (pair->self.kind) {
		const bool is_new = pair->self.why & (AR_WHY_NEW | AR_WHY_TYPE);

		*(is_new ? &batch->tally.new_dirs : &batch->tally.plan_metas) -= 1;
		*(is_new ? &out->tally.new_dirs : &out->tally.plan_metas) += 1;
	}
	memset(&from->self, 0, sizeof(from->self));
	from->flags |= AR_PAIR_HELD;
	return 0;
}
