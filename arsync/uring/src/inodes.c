/*
 * inodes.c - see inodes.h.
 */
#include <stdlib.h>

#include "inodes.h"
#include "sys.h"

#define SHARDS 64
#define FIRST_SLOTS 16

struct shard {
	struct ar_leader *slots;	/* path 0: free */
	uint32_t room;
	uint32_t used;
};

struct ar_inodes {
	struct shard shards[SHARDS];
};

/* the finaliser of splitmix64: each bit of the input moves half of the output */
static uint64_t mixed(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9;
	x ^= x >> 27;
	x *= 0x94d049bb133111eb;
	return x ^ x >> 31;
}

struct ar_inode ar_inode_of(uint64_t dev, const struct ar_row *row)
{
	uint64_t place = mixed(dev + 0x9e3779b97f4a7c15);

	place = mixed(place ^ (uint64_t)row->btime_s);
	place = mixed(place ^ ((uint64_t)row->type << 32 | row->btime_n));
	return (struct ar_inode){ .place = place, .ino = row->ino };
}

uint64_t ar_inode_id(struct ar_inode inode)
{
	uint64_t id = mixed(inode.place ^ mixed(inode.ino + 1));

	return id ? id : 1;
}

struct ar_inodes *ar_inodes_new(void)
{
	return ar_fault(AR_OP_MEMORY, NULL) ? NULL : calloc(1, sizeof(struct ar_inodes));
}

void ar_inodes_free(struct ar_inodes *inodes)
{
	if (!inodes)
		return;
	for (int i = 0; i < SHARDS; i++)
		free(inodes->shards[i].slots);
	free(inodes);
}

/* the inode's slot, or the free one where it belongs */
static struct ar_leader *slot_of(const struct shard *shard, struct ar_inode inode)
{
	/* the shard took the top bits of the id: the low half spreads inside it */
	uint32_t hash = (uint32_t)ar_inode_id(inode);
	uint32_t i = (uint32_t)((uint64_t)hash * shard->room >> 32);

	for (;;) {
		struct ar_leader *slot = &shard->slots[i];
		if (!slot->path ||
		    (slot->src.ino == inode.ino && slot->src.place == inode.place))
			return slot;
		if (++i == shard->room)
			i = 0;
	}
}

static bool is_full(const struct shard *shard)
{
	return (uint64_t)shard->used * 10 >= (uint64_t)shard->room * 8;
}

static int grow(struct shard *shard)
{
	struct shard wider = { .room = AR_MAX(shard->room + shard->room / 4, FIRST_SLOTS) };

	if (wider.room < shard->room || ar_fault(AR_OP_MEMORY, NULL))
		return -ENOMEM;
	wider.slots = calloc(wider.room, sizeof(*wider.slots));
	if (!wider.slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < shard->room; i++)
		if (shard->slots[i].path)
			*slot_of(&wider, shard->slots[i].src) = shard->slots[i];
	wider.used = shard->used;
	free(shard->slots);
	*shard = wider;
	return 0;
}

bool ar_inodes_has(const struct ar_inodes *inodes, struct ar_inode inode)
{
	const struct shard *shard = &inodes->shards[ar_inode_id(inode) >> 58];

	return shard->room && slot_of(shard, inode)->path;
}

struct ar_leader *ar_inodes_enter(struct ar_inodes *inodes, struct ar_inode inode)
{
	struct shard *shard = &inodes->shards[ar_inode_id(inode) >> 58];

	if (is_full(shard) && grow(shard))
		return NULL;
	struct ar_leader *leader = slot_of(shard, inode);
	if (!leader->path) {
		leader->src = inode;
		shard->used++;
	}
	return leader;
}
