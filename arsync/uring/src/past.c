/*
 * past.c - see past.h.
 *
 * Records are appended to a file that is mapped, and chained by a hash of what they
 * are looked up by when all are there: memory does not grow with the tree, and
 * nothing is sorted.  An entry takes 32 bytes and its name, 8 the heads of chains.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "past.h"
#include "record.h"

#define FIRST_ROOM (1u << 20)
#define MOST_GROWTH (64u << 20)
#define DEEPEST 65536		/* a path has fewer components, unless ids go in a circle */

struct place {			/* where a directory is now */
	uint64_t directory;	/* 0: free */
	char *path;
	size_t len;
};

struct ar_past {
	int fd;			/* the caller's */
	uint8_t *map;
	uint64_t used, room;
	uint64_t heads;		/* offset of as many u32 as mask says; 0: not sealed */
	uint64_t mask;
	uint64_t count;
	struct ar_batch *spare;
	pthread_rwlock_t lock;	/* of what follows */
	struct place *places;	/* an open-addressing table */
	uint64_t place_count, place_room;	/* room: a power of two */
};

/* the finaliser of splitmix64, as in inodes.c */
static uint64_t hash_of(uint64_t ino, uint64_t born, uint32_t kind)
{
	uint64_t x = ino * 0x9e3779b97f4a7c15 ^ (born + kind);

	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9;
	x ^= x >> 27;
	x *= 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* what is mapped has its blocks: a full disk is an error here, and no SIGBUS later */
static int make_room(struct ar_past *past, uint64_t more)
{
	uint64_t room = past->room;

	if (past->room - past->used >= more)
		return 0;
	while (room - past->used < more)
		room += AR_MIN(AR_MAX(room, (uint64_t)FIRST_ROOM), (uint64_t)MOST_GROWTH);
	int err = ar_fault(AR_OP_SPOOL, NULL);
	if (!err)
		err = -posix_fallocate(past->fd, (off_t)past->room, (off_t)(room - past->room));
	if (err)
		return err;
	void *map = past->map ? mremap(past->map, past->room, room, MREMAP_MAYMOVE)
			      : mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, past->fd, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	past->map = map;
	past->room = room;
	return 0;
}

static int add(struct ar_past *past, struct ar_past_record record, const char *name)
{
	const size_t bytes = (sizeof(record) + record.name_len + 1u + 7) & ~(size_t)7;
	int err = make_room(past, bytes);

	if (err)
		return err;
	if ((past->used + bytes) / 8 > UINT32_MAX)
		return -EOVERFLOW;
	uint8_t *at = past->map + past->used;
	memset(at + bytes - 8, 0, 8);
	memcpy(at, &record, sizeof(record));
	memcpy(at + sizeof(record), name, record.name_len);
	past->used += bytes;
	past->count++;
	return 0;
}

/* ------------------------------------------------------------------ filling */

int ar_past_open(int fd, ar_past **out)
{
	struct ar_past *past = calloc(1, sizeof(*past));

	if (!past)
		return -ENOMEM;
	past->fd = fd;
	pthread_rwlock_init(&past->lock, NULL);
	past->spare = ar_batch_new();
	int err = past->spare ? make_room(past, FIRST_ROOM) : -ENOMEM;
	if (err) {
		ar_past_close(past);
		return err;
	}
	past->used = sizeof(struct ar_past_record);	/* offset 0 ends a chain */
	*out = past;
	return 0;
}

void ar_past_close(ar_past *past)
{
	if (!past)
		return;
	if (past->map)
		munmap(past->map, past->room);
	ar_batch_free(past->spare);
	for (uint64_t i = 0; i < past->place_room; i++)
		free(past->places[i].path);
	free(past->places);
	pthread_rwlock_destroy(&past->lock);
	free(past);
}

/* without a birth time an inode number says nothing: it is given out again */
static bool is_worth_it(const struct ar_row *row)
{
	return (row->type == DT_REG || row->type == DT_DIR) && row->btime_s &&
	       !(row->flags & (AR_ROW_BAD | AR_ROW_FOLLOWED));
}

static int add_page(struct ar_past *past, const struct ar_page *page, uint64_t directory)
{
	int err = 0;

	for (uint32_t i = 0; i < page->row_count && !err; i++) {
		const struct ar_row *row = &ar_rows(page)[i];

		if (!is_worth_it(row))
			continue;
		err = add(past, (struct ar_past_record){
				  .ino = row->ino,
				  .born = ar_born(row->btime_s, row->btime_n),
				  .directory = directory,
				  .name_len = row->name_len,
				  .kind = row->type,
			  }, ar_row_name(page, row));
	}
	return err;
}

int ar_past_add_pages(ar_past *past, struct ar_recorded *records, uint32_t count)
{
	int err = 0;

	for (uint32_t i = 0; i < count && !err; i++) {
		ar_batch_clear(past->spare);
		err = ar_records_unpack(&records[i], 1, past->spare, 0);
		if (!err)
			err = records[i].result;
		if (!err)
			err = add_page(past, (const struct ar_page *)past->spare->src,
				       records[i].directory);
	}
	return err;
}

int ar_past_add_directory(ar_past *past, uint64_t id, uint64_t above, const char *name,
			  uint32_t name_len)
{
	if (name_len > NAME_MAX)
		return -EBADMSG;
	return add(past, (struct ar_past_record){
			   .ino = id,
			   .directory = above,
			   .name_len = (uint16_t)name_len,
			   .kind = AR_PAST_DIRECTORY,
		   }, name);
}

static struct ar_past_record *record_at(const struct ar_past *past, uint64_t offset)
{
	return (struct ar_past_record *)(past->map + offset);
}

static void chain(struct ar_past *past, uint64_t offset)
{
	struct ar_past_record *record = record_at(past, offset);
	uint32_t *head = (uint32_t *)(past->map + past->heads) +
			 (hash_of(record->ino, record->born, record->kind) & past->mask);

	record->next = *head;
	*head = (uint32_t)(offset / 8);
}

int ar_past_seal(ar_past *past)
{
	const uint64_t end = past->used;
	uint64_t heads = 1024;

	while (heads < past->count)
		heads *= 2;
	int err = make_room(past, heads * sizeof(uint32_t));
	if (err)
		return err;
	memset(past->map + end, 0, heads * sizeof(uint32_t));
	past->used = end + heads * sizeof(uint32_t);
	past->heads = end;
	past->mask = heads - 1;
	for (uint64_t at = sizeof(struct ar_past_record); at < end;) {
		const size_t bytes =
			sizeof(struct ar_past_record) + record_at(past, at)->name_len + 1u;

		chain(past, at);
		at += (bytes + 7) & ~(size_t)7;
	}
	ar_batch_free(past->spare);
	past->spare = NULL;
	return 0;
}

/* ------------------------------------------------------------------ looking */

const struct ar_past_record *ar_past_find(const struct ar_past *past, uint64_t ino, uint64_t born,
					  uint32_t kind, const struct ar_past_record *after)
{
	const uint32_t *heads = (const uint32_t *)(past->map + past->heads);
	uint64_t at = after ? after->next : heads[hash_of(ino, born, kind) & past->mask];

	for (; at; at = record_at(past, at * 8)->next) {
		const struct ar_past_record *record = record_at(past, at * 8);

		if (record->ino == ino && record->born == born && record->kind == kind)
			return record;
	}
	return NULL;
}

/* ---------------------------------------------------- what has been renamed since */

/* its entry, or the free one where it belongs; NULL without a table */
static struct place *find_place(const struct ar_past *past, uint64_t directory)
{
	uint64_t i = hash_of(directory, 0, AR_PAST_DIRECTORY);

	if (!past->place_room)
		return NULL;
	for (;; i++) {
		struct place *place = &past->places[i & (past->place_room - 1)];

		if (!place->directory || place->directory == directory)
			return place;
	}
}

static int grow_places(struct ar_past *past)
{
	struct ar_past wider = { .place_room = AR_MAX(2 * past->place_room, (uint64_t)64) };

	wider.places = calloc(wider.place_room, sizeof(*wider.places));
	if (!wider.places)
		return -ENOMEM;
	for (uint64_t i = 0; i < past->place_room; i++) {
		if (past->places[i].directory)
			*find_place(&wider, past->places[i].directory) = past->places[i];
	}
	free(past->places);
	past->places = wider.places;
	past->place_room = wider.place_room;
	return 0;
}

int ar_past_relocate(struct ar_past *past, uint64_t directory, const char *path, size_t len)
{
	char *copy = ar_copy_of(path, len);
	int err = copy ? 0 : -ENOMEM;

	pthread_rwlock_wrlock(&past->lock);
	if (!err && 2 * past->place_count >= past->place_room)
		err = grow_places(past);
	if (!err) {
		struct place *place = find_place(past, directory);

		past->place_count += !place->directory;
		free(place->path);
		*place = (struct place){ .directory = directory, .path = copy, .len = len };
	}
	pthread_rwlock_unlock(&past->lock);
	if (err)
		free(copy);
	return err;
}

/* the way up to root, or to what has been renamed since: its path is where the way begins */
static int path_of(const struct ar_past *past, uint64_t directory, uint64_t root,
		   struct ar_path *path)
{
	const struct ar_past_record *record;
	const struct place *start = NULL;
	size_t len = 0;
	uint32_t depth = 0;
	uint64_t at;

	for (at = directory; at != root; at = record->directory) {
		start = find_place(past, at);
		if (start && start->directory)
			break;
		start = NULL;
		record = ar_past_find(past, at, 0, AR_PAST_DIRECTORY, NULL);
		if (!record || ++depth > DEEPEST)
			return -ENOENT;
		len += record->name_len + 1u;
	}
	const uint64_t end = at;
	len += start ? start->len + 1 : 0;
	int err = ar_path_reserve(path, len + 1);
	if (err)
		return err;
	path->len = len ? len - 1 : 0;
	for (at = directory; at != end; at = record->directory) {
		record = ar_past_find(past, at, 0, AR_PAST_DIRECTORY, NULL);
		len -= record->name_len + 1u;
		memcpy(path->bytes + len, ar_past_name(record), record->name_len);
		path->bytes[len + record->name_len] = '/';
	}
	if (start) {
		memcpy(path->bytes, start->path, start->len);
		path->bytes[start->len] = '/';
	}
	return 0;
}

int ar_past_path(const struct ar_past *past, uint64_t directory, uint64_t root,
		 struct ar_path *path)
{
	pthread_rwlock_t *lock = (pthread_rwlock_t *)&past->lock;

	pthread_rwlock_rdlock(lock);
	int err = path_of(past, directory, root, path);
	pthread_rwlock_unlock(lock);
	return err;
}

int ar_past_open_dir(const struct ar_past *past, const struct ar_root *root, uint64_t directory,
		     uint64_t top, struct ar_path *path)
{
	int err = ar_past_path(past, directory, top, path);

	if (err)	/* not of this tree: nobody can say, which ENOENT would */
		return err == -ENOENT ? -EXDEV : err;
	return ar_open_beneath(root, path->bytes, path->len, O_PATH | O_DIRECTORY);
}
