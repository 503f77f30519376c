/*
 * chunks.c - the hashes of chunks that a batch carries for a few of its files.
 *
 * A file of more than one chunk that was read leaves its list for the manifest.  A
 * big file that is about to be replaced, and is as it was recorded, has its old one
 * from there: big files of the same content need not be written where they have it.
 */
#include "lane.h"
#include "record.h"

int ar_chunks_add(struct ar_batch *batch, uint32_t pair, uint32_t row, bool is_old,
		  const uint8_t *hashes, size_t count)
{
	const uint32_t aux = ar_batch_add_aux(batch, (const char *)hashes, count * AR_HASH_BYTES);
	struct ar_chunks *chunks = aux == AR_NONE ? NULL : ar_batch_add_chunks(batch);

	if (!chunks)
		return -ENOMEM;
	chunks->pair = pair;
	chunks->row = row;
	chunks->is_old = is_old;
	chunks->aux = aux;
	chunks->count = (uint32_t)count;
	return 0;
}

const struct ar_chunks *ar_chunks_find(const struct ar_batch *batch, uint32_t pair, uint32_t row,
				       bool is_old)
{
	for (uint32_t i = batch->chunks_count; i--;) {
		const struct ar_chunks *one = &batch->chunks[i];

		if (one->pair == pair && one->row == row && one->is_old == is_old)
			return one;
	}
	return NULL;
}

/* what is recorded of the file that a change replaces; NULL: nothing that gives its chunks */
static const struct ar_known *known_old(const struct ar_batch *batch, const struct ar_pair *pair,
					uint32_t row)
{
	const struct ar_memory *memory = ar_memory_of(batch, pair, row);
	const bool is_same = memory && memory->state[1] == AR_MEMORY_RECORDED &&
			     memory->known[1].state == (AR_KNOWN_HASHED | AR_KNOWN_CHUNKED);
	return is_same ? &memory->known[1] : NULL;
}

int ar_chunks_wanted(const struct ar_batch *batch, struct ar_batch *out)
{
	for (uint32_t i = 0; i < batch->pair_count; i++) {
		const struct ar_pair *pair = &batch->pairs[i];
		const struct ar_page *page = ar_src_page(batch, pair);

		for (uint32_t j = 0; j < pair->change_count; j++) {
			const struct ar_change *change = &batch->changes[pair->change_first + j];

			if (!ar_is_big(page, change) || change->dst_row == AR_NONE ||
			    !known_old(batch, pair, change->src_row))
				continue;
			const struct ar_row *row = &ar_rows(page)[change->src_row];
			const uint32_t head[3] = { i, change->src_row, row->name_len };
			if (ar_batch_put_aux(out, head, sizeof(head)) == AR_NONE ||
			    ar_batch_put_aux(out, ar_row_name(page, row), row->name_len) == AR_NONE)
				return -ENOMEM;
		}
	}
	return 0;
}

int ar_chunks_give(struct ar_batch *batch, uint32_t pair, uint32_t row, const uint8_t *hashes,
		   size_t bytes)
{
	const struct ar_known *known = known_old(batch, &batch->pairs[pair], row);
	uint8_t hash[AR_HASH_BYTES];

	if (!known || bytes < 2 * AR_HASH_BYTES || bytes % AR_HASH_BYTES)
		return 0;
	ar_hash_block(hashes, bytes, hash);
	if (memcmp(hash, known->hash, AR_HASH_BYTES))
		return 0;
	return ar_chunks_add(batch, pair, row, true, hashes, bytes / AR_HASH_BYTES);
}

int ar_chunks_keep(const struct ar_batch *batch, const struct ar_page *page,
		   const struct ar_known *known, const struct ar_chunks *const *chunks,
		   struct ar_batch *out, struct ar_kept *kept)
{
	const uint32_t self = !!(page->flags & AR_PAGE_FIRST);

	for (uint32_t i = 0; i < page->row_count; i++) {
		const struct ar_row *row = &ar_rows(page)[i];
		const struct ar_chunks *fresh = chunks[self + i];
		const uint32_t head[2] = { row->name_len, fresh ? fresh->count * AR_HASH_BYTES : 0 };
		const struct { const void *bytes; size_t len; } parts[] = {
			{ head, sizeof(head) },
			{ ar_row_name(page, row), head[0] },
			{ fresh ? batch->aux + fresh->aux : NULL, head[1] },
		};

		if (!(known[self + i].state & AR_KNOWN_CHUNKED))
			continue;
		for (size_t j = 0; j < sizeof(parts) / sizeof(parts[0]) && parts[j].len; j++) {
			const uint32_t at = ar_batch_put_aux(out, parts[j].bytes, parts[j].len);
			if (at == AR_NONE)
				return -ENOMEM;
			if (!kept->chunks_len)
				kept->chunks = at;
			kept->chunks_len += (uint32_t)parts[j].len;
		}
	}
	return 0;
}
