/*
 * chunks.c - the hashes of chunks that a batch carries for a few of its files.
 *
 * A file of more than one chunk that was read leaves its list for the manifest.
 */
#include "hash.h"
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
			const uint32_t at = ar_batch_add_aux(out, parts[j].bytes, parts[j].len);
			if (at == AR_NONE)
				return -ENOMEM;
			out->aux_bytes--;	/* no NUL between them */
			if (!kept->chunks_len)
				kept->chunks = at;
			kept->chunks_len += (uint32_t)parts[j].len;
		}
	}
	return 0;
}
