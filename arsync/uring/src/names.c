/*
 * names.c - the names of a directory: read at once, kept compactly, sorted.
 */
#include <endian.h>
#include <stdlib.h>

#include "scan.h"

#define FIRST_BYTES 16384
#define FIRST_NAMES 512
#define SLACK 8			/* so that a key may be loaded behind any name */
#define FEW 24			/* names that insertion sorts fastest */

static int more_bytes(struct ar_names *names, size_t more)
{
	size_t wanted = AR_MAX(names->room, (size_t)FIRST_BYTES);

	while (wanted - names->used < more)
		wanted *= 2;
	if (names->used + more > UINT32_MAX)
		return -EOVERFLOW;
	char *moved = ar_fault(AR_OP_MEMORY, NULL) ? NULL : realloc(names->bytes, wanted);
	if (!moved)
		return -ENOMEM;
	names->bytes = moved;
	names->room = wanted;
	return 0;
}

static int more_offs(struct ar_names *names)
{
	uint32_t wanted = names->offs_room ? names->offs_room * 2 : FIRST_NAMES;
	uint32_t *moved = realloc(names->offs, (size_t)wanted * sizeof(*moved));

	if (!moved)
		return -ENOMEM;
	names->offs = moved;
	names->offs_room = wanted;
	return 0;
}

int ar_names_add(struct ar_names *names, const char *name, size_t len)
{
	const uint16_t len16 = (uint16_t)len;
	const size_t need = sizeof(len16) + len + 2;
	int err = 0;

	if (len > UINT16_MAX)
		return -ENAMETOOLONG;
	if (AR_UNLIKELY(names->room - names->used < need + SLACK))
		err = more_bytes(names, need + SLACK);
	if (AR_UNLIKELY(!err && names->count == names->offs_room))
		err = more_offs(names);
	if (AR_UNLIKELY(err))
		return err;
	char *at = names->bytes + names->used;
	memcpy(at, &len16, sizeof(len16));
	memcpy(at + sizeof(len16), name, len);
	at[need - 2] = at[need - 1] = '\0';
	names->offs[names->count++] = (uint32_t)names->used;
	names->used += need;
	return 0;
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

int ar_names_read(struct ar_names *names, int fd, void *buffer)
{
	for (;;) {
		long got = sys_getdents(fd, buffer, AR_DIRENT_BYTES);

		if (got <= 0)
			return (int)got;
		for (long at = 0; at < got;) {
			struct dirent64 *entry = (void *)((char *)buffer + at);
			int err = 0;

			if (!is_dot(entry->d_name))
				err = ar_names_add(names, entry->d_name, strlen(entry->d_name));
			if (err)
				return err;
			at += entry->d_reclen;
		}
	}
}

/* ---------------------------------------------------------------- sorting */

/* eight bytes from skip on as a number that orders them; behind the name all are 0 */
static uint64_t key_head(const char *name, uint32_t len, size_t skip)
{
	uint64_t head;

	if (len <= skip)
		return 0;
	memcpy(&head, name + skip, sizeof(head));
	head = be64toh(head);
	if (len - skip < sizeof(head))
		head &= ~(UINT64_MAX >> 8 * (len - skip));
	return head;
}

static bool is_before(const struct ar_names *names, const struct ar_sort_key *a,
		      const struct ar_sort_key *b)
{
	if (a->head != b->head)
		return a->head < b->head;
	return ar_name_compare(names->bytes + a->off + 2, a->len, names->bytes + b->off + 2,
			       b->len) < 0;
}

static void sort_few(const struct ar_names *names, struct ar_sort_key *keys, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		const struct ar_sort_key key = keys[i];
		size_t at = i;

		for (; at && is_before(names, &key, &keys[at - 1]); at--)
			keys[at] = keys[at - 1];
		keys[at] = key;
	}
}

static int compare_keys(const void *a, const void *b, void *names)
{
	return is_before(names, a, b) ? -1 : is_before(names, b, a);
}

static void swap_keys(struct ar_sort_key *a, struct ar_sort_key *b)
{
	const struct ar_sort_key held = *a;

	*a = *b;
	*b = held;
}

/* the median of three at the front: the pivot, which also stops the scan from the right */
static void place_pivot(const struct ar_names *names, struct ar_sort_key *keys, size_t count)
{
	struct ar_sort_key *first = keys, *middle = keys + count / 2, *last = keys + count - 1;

	if (is_before(names, middle, first))
		swap_keys(middle, first);
	if (is_before(names, last, middle))
		swap_keys(last, middle);
	if (is_before(names, middle, first))
		swap_keys(middle, first);
	swap_keys(first, middle);
}

/* quicksort; libc's merge sort takes over where pivots turn out badly */
static void sort_keys(struct ar_names *names, struct ar_sort_key *keys, size_t count, int depth)
{
	while (count > FEW) {
		if (!depth--) {
			qsort_r(keys, count, sizeof(*keys), compare_keys, names);
			return;
		}
		place_pivot(names, keys, count);
		const struct ar_sort_key pivot = keys[0];
		size_t left = 0, right = count;
		for (;;) {
			do {
				left++;
			} while (left < count && is_before(names, &keys[left], &pivot));
			do {
				right--;
			} while (is_before(names, &pivot, &keys[right]));
			if (left >= right)
				break;
			swap_keys(&keys[left], &keys[right]);
		}
		swap_keys(&keys[0], &keys[right]);
		sort_keys(names, keys, right, depth);
		keys += right + 1;
		count -= right + 1;
	}
	sort_few(names, keys, count);
}

static size_t common_prefix(const struct ar_names *names)
{
	uint16_t len, prefix;
	const char *first = ar_name(names, 0, &prefix);

	for (uint32_t i = 1; i < names->count && prefix; i++) {
		const char *name = ar_name(names, i, &len);
		uint16_t same = 0;

		while (same < prefix && same < len && name[same] == first[same])
			same++;
		prefix = same;
	}
	return prefix;
}

static void drop_duplicates(struct ar_names *names)
{
	uint32_t kept = 1;

	for (uint32_t i = 1; i < names->count; i++) {
		uint16_t len, last_len;
		const char *name = ar_name(names, i, &len);
		const char *last = ar_name(names, kept - 1, &last_len);

		if (len != last_len || memcmp(name, last, len))
			names->offs[kept++] = names->offs[i];
	}
	names->count = kept;
}

int ar_names_sort(struct ar_names *names, struct ar_sorter *sorter)
{
	if (names->count < 2)
		return 0;
	if (names->count > sorter->room) {
		const size_t room = AR_MAX((size_t)names->count, (size_t)FIRST_NAMES);
		struct ar_sort_key *moved = realloc(sorter->keys, room * sizeof(*moved));

		if (!moved)
			return -ENOMEM;
		sorter->keys = moved;
		sorter->room = room;
	}
	const size_t skip = names->count > FEW ? common_prefix(names) : 0;
	struct ar_sort_key *keys = sorter->keys;
	for (uint32_t i = 0; i < names->count; i++) {
		uint16_t len;
		const char *name = ar_name(names, i, &len);

		keys[i].off = names->offs[i];
		keys[i].len = len;
		keys[i].head = key_head(name, len, skip);
	}
	sort_keys(names, keys, names->count, 2 * (32 - __builtin_clz(names->count)));
	for (uint32_t i = 0; i < names->count; i++)
		names->offs[i] = keys[i].off;
	drop_duplicates(names);
	return 0;
}

/* ----------------------------------------------------------------- memory */

void ar_names_trim(struct ar_names *names)
{
	char *bytes = names->used ? realloc(names->bytes, names->used) : NULL;
	uint32_t *offs = names->count ? realloc(names->offs, names->count * sizeof(*offs)) : NULL;

	if (bytes) {
		names->bytes = bytes;
		names->room = names->used;
	}
	if (offs) {
		names->offs = offs;
		names->offs_room = names->count;
	}
}

void ar_names_free(struct ar_names *names)
{
	free(names->bytes);
	free(names->offs);
	memset(names, 0, sizeof(*names));
}

void ar_names_clear(struct ar_names *names, size_t keep_bytes)
{
	if (names->room > keep_bytes || names->offs_room * sizeof(*names->offs) > keep_bytes)
		ar_names_free(names);
	names->used = 0;
	names->count = 0;
}
