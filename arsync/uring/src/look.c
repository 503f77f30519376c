/*
 * look.c - what the manifest says of two files that rsync's rule calls equal.
 *
 * Size and mtime are what anybody can put back.  So a side whose ctime or inode moved
 * since it was recorded has its content looked at, and one that was recorded in the
 * moment in which it was written.  A hash that still counts saves reading its side;
 * where both count, nothing is read.
 */
#include "internal.h"

#define IN_DOUBT (AR_KNOWN_RACY | AR_KNOWN_DIRTY | AR_KNOWN_UNSTABLE | AR_KNOWN_VOLATILE)

uint8_t ar_look_moved(const struct ar_rules *rules, uint8_t state)
{
	if (rules->update & AR_UPDATE_IGNORE_CTIME)
		state &= (uint8_t)~AR_MEMORY_CTIME;
	if (rules->update & AR_UPDATE_IGNORE_INODE)
		state &= (uint8_t)~AR_MEMORY_INODE;
	return state;
}

static uint32_t doubt(const struct ar_rules *rules, const struct ar_memory *memory, int side)
{
	const uint8_t state = ar_look_moved(rules, memory->state[side]);
	uint32_t why = 0;

	if (!state)
		return 0;
	if (state & AR_MEMORY_CTIME)
		why |= AR_WHY_CTIME;
	if (state & AR_MEMORY_INODE)
		why |= AR_WHY_INODE;
	if (memory->known[side].state & IN_DOUBT)
		why |= AR_WHY_RACY;
	return why;
}

static const uint8_t *hash_of(const struct ar_rules *rules, const struct ar_memory *memory,
			      int side)
{
	const struct ar_known *known = &memory->known[side];

	if (rules->update & AR_UPDATE_REHASH || doubt(rules, memory, side) ||
	    !memory->state[side])
		return NULL;
	return known->state & AR_KNOWN_HASHED ? known->hash : NULL;
}

const uint8_t *ar_look_expected(const struct ar_rules *rules, const struct ar_memory *memory)
{
	const struct ar_known *known = &memory->known[0];

	if (!memory->state[0] || doubt(rules, memory, 0))
		return NULL;
	return known->state & AR_KNOWN_HASHED ? known->hash : NULL;
}

struct ar_look ar_look(const struct ar_rules *rules, const struct ar_memory *memory)
{
	const bool by_content = rules->update & AR_UPDATE_CONTENT;
	struct ar_look look = { .verdict = by_content ? AR_LOOK_CHECK : AR_LOOK_EQUAL };

	if (!memory)
		return look;
	look.why = doubt(rules, memory, 0) | doubt(rules, memory, 1);
	const uint8_t *src = hash_of(rules, memory, 0), *dst = hash_of(rules, memory, 1);
	if (src && dst) {
		const bool same = !memcmp(src, dst, sizeof(memory->known[0].hash));

		look.verdict = same ? AR_LOOK_EQUAL : AR_LOOK_DIFFERENT;
		return look;
	}
	if (look.why)
		look.verdict = AR_LOOK_CHECK;
	look.flags = src ? AR_CHANGE_KNOWS_SRC : dst ? AR_CHANGE_KNOWS_DST : 0;
	look.hash = src ? src : dst;
	if (!dst && (src = ar_look_expected(rules, memory))) {
		look.hash = src;
		look.flags |= AR_CHANGE_EXPECTS;
	}
	return look;
}
