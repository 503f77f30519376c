/*
 * hash.h - XXH3-128 of a file while it goes by.
 *
 * Up to AR_HASH_CHUNK bytes a file's hash is the XXH3-128 of its content, as
 * `xxhsum -H2` prints it; above, it is the XXH3-128 of the list of its chunks'
 * hashes in canonical byte order.
 */
#ifndef ARSYNC_HASH_H
#define ARSYNC_HASH_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <xxhash.h>

#define AR_HASH_BYTES 16

struct ar_hasher {
	XXH3_state_t *chunk;	/* of the chunk under way, NULL until needed */
	uint8_t *list;		/* hashes of the chunks before it; in the end of all */
	size_t list_count, list_room;
	uint64_t total;		/* bytes fed */
	bool failed;		/* out of memory: no hash */
};

void ar_hash_block(const void *data, size_t len, uint8_t out[AR_HASH_BYTES]);

/* starts anew; whatever was allocated is kept for the next file */
void ar_hasher_reset(struct ar_hasher *hasher);
void ar_hasher_update(struct ar_hasher *hasher, const void *data, size_t len);
/* a hole: zeros that nobody has to read */
void ar_hasher_zeros(struct ar_hasher *hasher, uint64_t len);
/* false: no hash could be made */
bool ar_hasher_final(struct ar_hasher *hasher, uint8_t out[AR_HASH_BYTES]);
/* after that: the hashes of all chunks, NULL where the file's is not one of them */
const uint8_t *ar_hasher_list(const struct ar_hasher *hasher, size_t *count);
void ar_hasher_free(struct ar_hasher *hasher);

/* the hash of a file of many chunks from those of its chunks */
void ar_hash_list(const uint8_t *hashes, size_t count, uint8_t out[AR_HASH_BYTES]);

#endif
