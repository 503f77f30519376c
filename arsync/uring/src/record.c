/*
 * record.c - from a scanned page to the bytes that the manifest keeps of it.
 *
 * Column by column: most columns of a directory hold one value (owner, seconds of
 * a checkout) or none (device numbers), and take eight bytes or none then.  A page's
 * own row stands before its rows, so that with it or without it they are one array.
 */
#include <stdlib.h>

#include <xxhash.h>

#include "record.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little-endian");
_Static_assert(sizeof(struct ar_record_head) == AR_RECORD_HEAD, "no padding in a head");
_Static_assert(sizeof(struct ar_known) == 32, "no padding in what is known");
_Static_assert(offsetof(struct ar_page, self) + sizeof(struct ar_row) == sizeof(struct ar_page),
	       "a page's own row stands before its rows");

#define SEEN(field) { offsetof(struct ar_row, field), sizeof(((struct ar_row *)0)->field), -1 }
#define SEEN_FLAGS { offsetof(struct ar_row, flags), 1, AR_RECORD_ROW_FLAGS }
#define KNOWN(field) { offsetof(struct ar_known, field), sizeof(((struct ar_known *)0)->field), -1 }

const struct ar_column ar_seen_columns[AR_SEEN_COLUMNS] = {
	SEEN(name_len), SEEN(type), SEEN_FLAGS, SEEN(mode), SEEN(uid), SEEN(gid), SEEN(nlink),
	SEEN(size), SEEN(ino), SEEN(mtime_s), SEEN(ctime_s), SEEN(btime_s), SEEN(atime_s),
	SEEN(mtime_n), SEEN(ctime_n), SEEN(btime_n), SEEN(atime_n), SEEN(rdev_major),
	SEEN(rdev_minor), SEEN(link_len), SEEN(xattr_digest), SEEN(acl_digest),
};

const struct ar_column ar_known_columns[AR_KNOWN_COLUMNS] = {
	KNOWN(state), KNOWN(hash), KNOWN(verified),
};

/* the rows of a page's record: the directory's own is one of them */
static uint32_t row_count(const struct ar_page *page)
{
	return page->row_count + !!(page->flags & AR_PAGE_FIRST);
}

struct rows {			/* of one record, its own directory's first where it has one */
	const uint8_t *first;
	size_t stride;
	uint32_t count;
};

static struct rows rows_of(const struct ar_page *page)
{
	const bool has_self = page->flags & AR_PAGE_FIRST;

	return (struct rows){
		.first = (const uint8_t *)(has_self ? &page->self : ar_rows(page)),
		.stride = sizeof(struct ar_row),
		.count = row_count(page),
	};
}

/* ----------------------------------------------------------------- columns */

/* copies a column's values together; returns whether they differ, in *any whether one is not 0 */
#define GATHER(type)                                                                    \
	static bool gather_##type(const struct rows *rows, const struct ar_column *col, \
				  uint8_t *out, bool *any)                              \
	{                                                                               \
		const uint8_t *from = rows->first + col->offset;                        \
		const type mask = (type)(__int128)col->mask;                            \
		type first, value, differ = 0;                                          \
									                \
		memcpy(&first, from, sizeof(first));                                    \
		first &= mask;                                                          \
		for (uint32_t i = 0; i < rows->count; i++, from += rows->stride) {      \
			memcpy(&value, from, sizeof(value));                            \
			value &= mask;                                                  \
			memcpy(out + i * sizeof(value), &value, sizeof(value));         \
			differ |= value ^ first;                                        \
		}                                                                       \
		*any = differ || first;                                                 \
		return differ;                                                          \
	}

typedef unsigned __int128 uint128_t;

GATHER(uint8_t)
GATHER(uint16_t)
GATHER(uint32_t)
GATHER(uint64_t)
GATHER(uint128_t)

static bool gather(const struct rows *rows, const struct ar_column *column, uint8_t *out,
		   bool *any)
{
	switch (column->width) {
	case 1:
		return gather_uint8_t(rows, column, out, any);
	case 2:
		return gather_uint16_t(rows, column, out, any);
	case 4:
		return gather_uint32_t(rows, column, out, any);
	case 8:
		return gather_uint64_t(rows, column, out, any);
	default:
		return gather_uint128_t(rows, column, out, any);
	}
}

static uint8_t *pad(uint8_t *start, size_t bytes)
{
	memset(start + bytes, 0, ar_round8(bytes) - bytes);
	return start + ar_round8(bytes);
}

/* a region's table and columns; returns where they end */
static uint8_t *put_columns(const struct rows *rows, const struct ar_column *columns,
			    uint32_t count, uint8_t *out)
{
	uint8_t *table = out;

	out = pad(out, count);
	for (uint32_t i = 0; i < count; i++) {
		bool any, differ = gather(rows, &columns[i], out, &any);

		table[i] = differ ? FORM_EACH : any ? FORM_ONE : FORM_ZERO;
		if (any)
			out = pad(out, (differ ? rows->count : 1) * (size_t)columns[i].width);
	}
	return out;
}

static size_t columns_room(const struct ar_column *columns, uint32_t count, uint32_t rows)
{
	size_t room = ar_round8(count);

	for (uint32_t i = 0; i < count; i++)
		room += ar_round8((size_t)columns[i].width * rows);
	return room;
}

/* -------------------------------------------------------------- the regions */

static size_t arena_bytes(const struct ar_page *page)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < page->row_count; i++)
		bytes += ar_rows(page)[i].name_len + (size_t)ar_rows(page)[i].link_len;
	return bytes;
}

static uint8_t *put_arena(const struct ar_page *page, uint8_t *out)
{
	uint8_t *start = out;

	for (uint32_t i = 0; i < page->row_count; i++) {
		const struct ar_row *row = &ar_rows(page)[i];

		memcpy(out, ar_row_name(page, row), row->name_len);
		out += row->name_len;
		memcpy(out, ar_page_str(page, row->link_off), row->link_len);
		out += row->link_len;
	}
	return pad(start, (size_t)(out - start));
}

static uint8_t *put_seen(const struct ar_page *page, uint8_t *out)
{
	const struct rows rows = rows_of(page);

	return put_arena(page, put_columns(&rows, ar_seen_columns, AR_SEEN_COLUMNS, out));
}

static uint8_t *put_known(const struct ar_recorded *record, uint32_t count, uint8_t *out)
{
	const struct rows rows = { (const uint8_t *)record->known, sizeof(*record->known), count };

	if (record->known)
		return put_columns(&rows, ar_known_columns, AR_KNOWN_COLUMNS, out);
	return memset(out, 0, ar_round8(AR_KNOWN_COLUMNS)) + ar_round8(AR_KNOWN_COLUMNS);
}

/* no record of the page can be longer */
static size_t room_for(const struct ar_page *page)
{
	const uint32_t rows = page->row_count + 1;

	return AR_RECORD_HEAD + columns_room(ar_seen_columns, AR_SEEN_COLUMNS, rows) +
	       columns_room(ar_known_columns, AR_KNOWN_COLUMNS, rows) +
	       ar_round8(arena_bytes(page));
}

struct scratch {
	uint8_t *bytes;
	size_t room;
};

static int make_room(struct scratch *scratch, size_t bytes)
{
	if (bytes <= scratch->room)
		return 0;
	uint8_t *grown = realloc(scratch->bytes, bytes * 2);
	if (!grown)
		return -ENOMEM;
	scratch->bytes = grown;
	scratch->room = bytes * 2;
	return 0;
}

/* ------------------------------------------------------------ what is sound */

static bool name_is_sound(const char *name, size_t len)
{
	if (!len || len > NAME_MAX || memchr(name, '/', len) || memchr(name, '\0', len))
		return false;
	return name[0] != '.' || len > 2 || (len == 2 && name[1] != '.');
}

bool ar_record_row_is_sound(const struct ar_row *row, const char *name, const char *target,
			    bool is_self)
{
	const uint32_t types = 1u << DT_UNKNOWN | 1u << DT_FIFO | 1u << DT_CHR | 1u << DT_DIR |
			       1u << DT_BLK | 1u << DT_REG | 1u << DT_LNK | 1u << DT_SOCK;

	if (row->type > DT_SOCK || !(types & 1u << row->type))
		return false;
	if (row->link_len && (row->type != DT_LNK || memchr(target, '\0', row->link_len)))
		return false;
	if (row->mtime_n >= 1000000000 || row->ctime_n >= 1000000000 ||
	    row->btime_n >= 1000000000 || row->atime_n >= 1000000000)
		return false;
	return is_self ? row->type == DT_DIR && !row->name_len && !row->link_len
		       : name_is_sound(name, row->name_len);
}

bool ar_record_known_is_sound(const struct ar_known *known)
{
	static const uint8_t none[sizeof(known->hash)];
	const bool hashed = known->state & 1;

	if (known->state > AR_STATE_BITS)
		return false;
	return hashed || (!(known->state & 32) && !known->verified &&
			  !memcmp(known->hash, none, sizeof(none)));
}

static bool page_is_sound(const struct ar_page *page, const struct ar_recorded *record)
{
	const uint32_t rows = row_count(page);

	if (page->flags & AR_PAGE_PARTIAL || !rows || page->row_count > AR_PAGE_ROWS)
		return false;
	if (page->flags & AR_PAGE_FIRST && !ar_record_row_is_sound(&page->self, "", "", true))
		return false;
	for (uint32_t i = 0; i < page->row_count; i++) {
		const struct ar_row *row = &ar_rows(page)[i];

		if (!ar_record_row_is_sound(row, ar_row_name(page, row),
					    ar_page_str(page, row->link_off), false))
			return false;
	}
	for (uint32_t i = 0; record->known && i < rows; i++) {
		if (!ar_record_known_is_sound(&record->known[i]))
			return false;
	}
	return !(record->flags & AR_RECORD_CONVERGED) || ar_record_is_of_source(record);
}

/* ------------------------------------------------------------------ entries */

static uint64_t checksum_of(const struct ar_recorded *record)
{
	const uint64_t place = record->directory + ((uint64_t)record->tree << 48);
	const uint64_t seed = XXH3_64bits_withSeed(
		record->bytes, offsetof(struct ar_record_head, checksum), place);

	return XXH3_64bits_withSeed(record->bytes + AR_RECORD_HEAD, record->len - AR_RECORD_HEAD,
				    seed);
}

bool ar_record_head_read(const struct ar_recorded *record, struct ar_record_head *head)
{
	if (record->len < sizeof(*head))
		return false;
	memcpy(head, record->bytes, sizeof(*head));
	return !memcmp(head->magic, "ARPG", 4) && head->version == AR_RECORD_VERSION &&
	       record->len == AR_RECORD_HEAD + (uint64_t)head->seen_bytes + head->known_bytes &&
	       head->checksum == checksum_of(record);
}

static uint32_t page_flags(const struct ar_page *page)
{
	return page->flags & (AR_PAGE_FIRST | AR_PAGE_LAST);
}

/* the record of a page, at record->bytes */
static void pack(const struct ar_page *page, struct ar_recorded *record, uint8_t *out)
{
	const bool converged = record->flags & AR_RECORD_CONVERGED;
	struct ar_record_head head = {
		.magic = "ARPG",
		.version = AR_RECORD_VERSION,
		.flags = (uint16_t)(page_flags(page) | (record->flags & AR_RECORD_CONVERGED)),
		.rows = row_count(page),
		.equality = converged ? record->equality : 0,
		.partner = converged ? record->partner : 0,
	};
	uint8_t *known = put_seen(page, out + AR_RECORD_HEAD);
	uint8_t *end = put_known(record, head.rows, known);

	head.seen_bytes = (uint32_t)(known - out - AR_RECORD_HEAD);
	head.known_bytes = (uint32_t)(end - known);
	memcpy(out, &head, sizeof(head));
	record->rows = head.rows;
	record->len = (uint64_t)(end - out);
	record->bytes = out;
	head.checksum = checksum_of(record);
	memcpy(out, &head, sizeof(head));
}

static const struct ar_page *page_of(const struct ar_batch *batch, int side,
				     const struct ar_recorded *record)
{
	return (const struct ar_page *)((side ? batch->dst : batch->src) + record->page);
}

int ar_records_pack(const struct ar_batch *batch, int side, struct ar_recorded *records,
		    uint32_t count, struct ar_batch *out)
{
	struct scratch scratch = { 0 };
	int err = 0;

	for (uint32_t i = 0; i < count && !err; i++) {
		const struct ar_page *page = page_of(batch, side, &records[i]);
		const size_t room = room_for(page);

		records[i].bytes = NULL;
		records[i].len = 0;
		records[i].result = -EINVAL;
		if (room > AR_RECORD_MOST_BYTES || !page_is_sound(page, &records[i]))
			continue;
		err = make_room(&scratch, room);
		if (err)
			break;
		pack(page, &records[i], scratch.bytes);
		records[i].aux = ar_batch_add_aux(out, (const char *)scratch.bytes, records[i].len);
		err = records[i].aux == AR_NONE ? -ENOMEM : 0;
		records[i].result = 0;
	}
	/* aux moves while it grows: only now it stays */
	for (uint32_t i = 0; i < count && !err; i++) {
		if (!records[i].result)
			records[i].bytes = out->aux + records[i].aux;
	}
	free(scratch.bytes);
	return err;
}

/* whether the seen region of a record is what a page packs to, -EBADMSG for a damaged record */
static int compare(const struct ar_page *page, const struct ar_recorded *record, uint8_t *seen)
{
	struct ar_record_head head;

	if (!ar_record_head_read(record, &head))
		return -EBADMSG;
	if (head.rows != row_count(page) || page->flags & AR_PAGE_PARTIAL ||
	    (head.flags & (AR_PAGE_FIRST | AR_PAGE_LAST)) != page_flags(page))
		return 0;
	const size_t bytes = (size_t)(put_seen(page, seen) - seen);
	return bytes == head.seen_bytes && !memcmp(record->bytes + sizeof(head), seen, bytes);
}

int ar_records_compare(const struct ar_batch *batch, int side, struct ar_recorded *records,
		       uint32_t count)
{
	struct scratch scratch = { 0 };
	int err = 0;

	for (uint32_t i = 0; i < count && !err; i++) {
		const struct ar_page *page = page_of(batch, side, &records[i]);

		err = make_room(&scratch, room_for(page));
		if (!err)
			records[i].result = compare(page, &records[i], scratch.bytes);
	}
	free(scratch.bytes);
	return err;
}
