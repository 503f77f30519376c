/*
 * batch.c - the memory of a batch: arrays that grow by doubling and are used again.
 */
#include <stdlib.h>

#include "sys.h"

#define KEEP_BYTES (4u << 20)	/* a larger array is given back when the batch is cleared */
#define FIRST_BYTES 4096
#define FIRST_ROOM 64

struct ar_batch *ar_batch_new(void)
{
	return ar_fault(AR_OP_MEMORY, NULL) ? NULL : calloc(1, sizeof(struct ar_batch));
}

static void *give_back(void *array, uint32_t *room, size_t size)
{
	if (*room * size <= KEEP_BYTES)
		return array;
	free(array);
	*room = 0;
	return NULL;
}

static uint8_t *give_back_bytes(uint8_t *bytes, uint64_t *room)
{
	if (*room <= KEEP_BYTES)
		return bytes;
	free(bytes);
	*room = 0;
	return NULL;
}

void ar_batch_clear(struct ar_batch *batch)
{
	batch->src = give_back_bytes(batch->src, &batch->src_room);
	batch->dst = give_back_bytes(batch->dst, &batch->dst_room);
	batch->aux = give_back_bytes(batch->aux, &batch->aux_room);
	batch->pairs = give_back(batch->pairs, &batch->pair_room, sizeof(*batch->pairs));
	batch->changes = give_back(batch->changes, &batch->change_room, sizeof(*batch->changes));
	batch->children = give_back(batch->children, &batch->child_room, sizeof(*batch->children));
	batch->problems = give_back(batch->problems, &batch->problem_room,
				    sizeof(*batch->problems));
	batch->memory = (void *)give_back_bytes((void *)batch->memory, &batch->memory_room);
	batch->chunks = give_back(batch->chunks, &batch->chunks_room, sizeof(*batch->chunks));
	batch->src_bytes = batch->dst_bytes = batch->aux_bytes = 0;
	batch->chunks_count = 0;
	batch->memory_count = 0;
	batch->scanned_ns = 0;
	batch->waits = 0;
	batch->pair_count = batch->change_count = 0;
	batch->child_count = batch->problem_count = 0;
	batch->blocking_count = 0;
	batch->src_root = batch->dst_root = NULL;
	memset(&batch->tally, 0, sizeof(batch->tally));
}

void ar_batch_free(struct ar_batch *batch)
{
	if (!batch)
		return;
	free(batch->src);
	free(batch->dst);
	free(batch->aux);
	free(batch->pairs);
	free(batch->changes);
	free(batch->children);
	free(batch->problems);
	free(batch->memory);
	free(batch->chunks);
	free(batch);
}

/* the array with room for one more than *room, or NULL */
static void *grown(void *array, uint32_t *room, size_t size)
{
	uint64_t wanted = *room ? (uint64_t)*room * 2 : FIRST_ROOM;

	if (wanted >= AR_NONE || ar_fault(AR_OP_MEMORY, NULL))
		return NULL;
	array = realloc(array, wanted * size);
	if (array)
		*room = (uint32_t)wanted;
	return array;
}

/* the new last element of an array of the batch, zeroed; NULL without memory */
#define ADD(array, count, room)                                             \
	({                                                                  \
		__typeof__(array) new_ = (array);                           \
		if ((count) == (room))                                      \
			new_ = grown(new_, &(room), sizeof(*new_));         \
		if (new_) {                                                 \
			(array) = new_;                                     \
			new_ += (count)++;                                  \
			memset(new_, 0, sizeof(*new_));                     \
		}                                                           \
		new_;                                                       \
	})

struct ar_pair *ar_batch_add_pair(struct ar_batch *batch)
{
	return ADD(batch->pairs, batch->pair_count, batch->pair_room);
}

struct ar_change *ar_batch_add_change(struct ar_batch *batch)
{
	return ADD(batch->changes, batch->change_count, batch->change_room);
}

struct ar_child *ar_batch_add_child(struct ar_batch *batch)
{
	return ADD(batch->children, batch->child_count, batch->child_room);
}

struct ar_chunks *ar_batch_add_chunks(struct ar_batch *batch)
{
	return ADD(batch->chunks, batch->chunks_count, batch->chunks_room);
}

int ar_batch_add_problem(struct ar_batch *batch, uint32_t pair, uint32_t row, int kind, int side,
			 int op, int err)
{
	struct ar_problem *problem =
		ADD(batch->problems, batch->problem_count, batch->problem_room);

	if (!problem)
		return -ENOMEM;
	problem->pair = pair;
	problem->row = row;
	problem->kind = (uint8_t)kind;
	problem->side = (uint8_t)side;
	problem->op = (uint16_t)op;
	problem->err = err < 0 ? -err : err;
	return 0;
}

static uint8_t *reserve(uint8_t **bytes, uint64_t used, uint64_t *room, size_t more)
{
	uint64_t wanted = AR_MAX(*room, FIRST_BYTES);

	if (*room - used >= more)
		return *bytes + used;
	while (wanted - used < more)
		wanted *= 2;
	uint8_t *moved = ar_fault(AR_OP_MEMORY, NULL) ? NULL : realloc(*bytes, wanted);
	if (!moved)
		return NULL;
	*bytes = moved;
	*room = wanted;
	return moved + used;
}

uint8_t *ar_batch_reserve(struct ar_batch *batch, int side, size_t bytes)
{
	if (side)
		return reserve(&batch->dst, batch->dst_bytes, &batch->dst_room, bytes);
	return reserve(&batch->src, batch->src_bytes, &batch->src_room, bytes);
}

struct ar_memory *ar_batch_add_memory(struct ar_batch *batch, uint32_t rows)
{
	const size_t size = rows * sizeof(*batch->memory);
	uint8_t *bytes = (uint8_t *)batch->memory;
	uint8_t *added = reserve(&bytes, batch->memory_count * sizeof(*batch->memory),
				 &batch->memory_room, size);

	if (!added)
		return NULL;
	batch->memory = (struct ar_memory *)bytes;
	batch->memory_count += rows;
	return memset(added, 0, size);
}

uint32_t ar_batch_add_aux(struct ar_batch *batch, const char *bytes, size_t len)
{
	uint64_t offset = batch->aux_bytes;

	if (offset + len >= AR_NONE)
		return AR_NONE;
	uint8_t *at = reserve(&batch->aux, offset, &batch->aux_room, len + 1);
	if (!at)
		return AR_NONE;
	memcpy(at, bytes, len);
	at[len] = '\0';
	batch->aux_bytes += len + 1;
	return (uint32_t)offset;
}

uint32_t ar_batch_put_aux(struct ar_batch *batch, const void *bytes, size_t len)
{
	const uint32_t at = ar_batch_add_aux(batch, bytes, len);

	if (at != AR_NONE)
		batch->aux_bytes--;
	return at;
}

/* a tally is nothing but counters */
_Static_assert(sizeof(struct ar_tally) % sizeof(uint64_t) == 0, "counters of 64 bits");

void ar_tally_add(struct ar_tally *sum, const struct ar_tally *part)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)part;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		__atomic_fetch_add(&to[i], from[i], __ATOMIC_RELAXED);
}
