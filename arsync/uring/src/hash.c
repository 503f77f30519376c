/*
 * hash.c - XXH3-128 of content, whole or by chunks (hash.h).
 *
 * Source: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
 */
#include <stdlib.h>
#include <string.h>

#include "arsync.h"
#include "hash.h"

#define LIST_ROOM 16

static const uint8_t zeros[65536];

static void canonical(XXH128_hash_t hash, uint8_t out[AR_HASH_BYTES])
{
	XXH128_canonical_t bytes;

	XXH128_canonicalFromHash(&bytes, hash);
	memcpy(out, bytes.digest, AR_HASH_BYTES);
}

void ar_hash_block(const void *data, size_t len, uint8_t out[AR_HASH_BYTES])
{
	canonical(XXH3_128bits(data, len), out);
}

void ar_hash_list(const uint8_t *hashes, size_t count, uint8_t out[AR_HASH_BYTES])
{
	if (count == 1)
		memcpy(out, hashes, AR_HASH_BYTES);
	else
		ar_hash_block(hashes, count * AR_HASH_BYTES, out);
}

void ar_hasher_reset(struct ar_hasher *hasher)
{
	hasher->total = 0;
	hasher->list_count = 0;
	hasher->failed = false;
	if (!hasher->chunk)
		hasher->chunk = XXH3_createState();
	if (!hasher->chunk || XXH3_128bits_reset(hasher->chunk) != XXH_OK)
		hasher->failed = true;
}

static void close_chunk(struct ar_hasher *hasher)
{
	if (hasher->list_count == hasher->list_room) {
		const size_t room = hasher->list_room ? 2 * hasher->list_room : LIST_ROOM;
		uint8_t *list = realloc(hasher->list, room * AR_HASH_BYTES);
		if (!list) {
			hasher->failed = true;
			return;
		}
		hasher->list = list;
		hasher->list_room = room;
	}
	canonical(XXH3_128bits_digest(hasher->chunk),
		  hasher->list + hasher->list_count++ * AR_HASH_BYTES);
}

void ar_hasher_update(struct ar_hasher *hasher, const void *data, size_t len)
{
	while (len && !hasher->failed) {
		uint64_t in_chunk = hasher->total % AR_HASH_CHUNK;

		/* a chunk is closed only when a further byte follows it */
		if (!in_chunk && hasher->total) {
			close_chunk(hasher);
			if (hasher->failed || XXH3_128bits_reset(hasher->chunk) != XXH_OK) {
				hasher->failed = true;
				return;
			}
		}
		size_t part = AR_HASH_CHUNK - in_chunk;
		if (part > len)
			part = len;
		if (XXH3_128bits_update(hasher->chunk, data, part) != XXH_OK)
			hasher->failed = true;
		hasher->total += part;
		data = (const uint8_t *)data + part;
		len -= part;
	}
}

void ar_hasher_zeros(struct ar_hasher *hasher, uint64_t len)
{
	while (len) {
		size_t part = len < sizeof(zeros) ? len : sizeof(zeros);

		ar_hasher_update(hasher, zeros, part);
		len -= part;
	}
}

bool ar_hasher_final(struct ar_hasher *hasher, uint8_t out[AR_HASH_BYTES])
{
	if (!hasher->failed)
		close_chunk(hasher);
	if (!hasher->failed)
		ar_hash_list(hasher->list, hasher->list_count, out);
	return !hasher->failed;
}

const uint8_t *ar_hasher_list(const struct ar_hasher *hasher, size_t *count)
{
	*count = hasher->list_count;
	return hasher->list_count > 1 ? hasher->list : NULL;
}

void ar_hasher_free(struct ar_hasher *hasher)
{
	XXH3_freeState(hasher->chunk);
	free(hasher->list);
	hasher->chunk = NULL;
	hasher->list = NULL;
	hasher->list_room = 0;
}
