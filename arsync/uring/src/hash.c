/*
 * hash.c - XXH3-128 of content, whole or by chunks (hash.h).
 *
 * Source: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
 */
#include <string.h>

#include "arsync.h"
#include "hash.h"

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
	hasher->failed = false;
	if (!hasher->chunk)
		hasher->chunk = XXH3_createState();
	if (!hasher->chunk || XXH3_128bits_reset(hasher->chunk) != XXH_OK)
		hasher->failed = true;
}

static void close_chunk(struct ar_hasher *hasher)
{
	uint8_t digest[AR_HASH_BYTES];
	bool first = hasher->total == AR_HASH_CHUNK;

	if (!hasher->list)
		hasher->list = XXH3_createState();
	if (!hasher->list || (first && XXH3_128bits_reset(hasher->list) != XXH_OK)) {
		hasher->failed = true;
		return;
	}
	canonical(XXH3_128bits_digest(hasher->chunk), digest);
	if (XXH3_128bits_update(hasher->list, digest, AR_HASH_BYTES) != XXH_OK ||
	    XXH3_128bits_reset(hasher->chunk) != XXH_OK)
		hasher->failed = true;
}

void ar_hasher_update(struct ar_hasher *hasher, const void *data, size_t len)
{
	while (len && !hasher->failed) {
		uint64_t in_chunk = hasher->total % AR_HASH_CHUNK;

		/* a chunk is closed only when a further byte follows it */
		if (!in_chunk && hasher->total)
			close_chunk(hasher);
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
	uint8_t digest[AR_HASH_BYTES];

	if (hasher->failed)
		return false;
	canonical(XXH3_128bits_digest(hasher->chunk), digest);
	if (hasher->total <= AR_HASH_CHUNK) {
		memcpy(out, digest, AR_HASH_BYTES);
		return true;
	}
	if (XXH3_128bits_update(hasher->list, digest, AR_HASH_BYTES) != XXH_OK)
		return false;
	canonical(XXH3_128bits_digest(hasher->list), out);
	return true;
}

void ar_hasher_free(struct ar_hasher *hasher)
{
	XXH3_freeState(hasher->chunk);
	XXH3_freeState(hasher->list);
	hasher->chunk = hasher->list = NULL;
}
