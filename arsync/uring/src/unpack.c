/*
 * unpack.c - from the bytes of a record to a page.
 *
 * Those bytes come from a disk: nothing in them is believed before it is checked,
 * also where the checksum is right.  A page is built at the end of the batch and
 * counts only when the last check has passed.
 */
#include "record.h"

struct reader {			/* of one region */
	const uint8_t *table;
	const uint8_t *at;	/* the next column */
	const uint8_t *end;
	uint32_t rows;
};

static bool is_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

/* takes bytes and the padding behind them off the region; NULL: they are not there */
static const uint8_t *take(struct reader *reader, size_t bytes)
{
	const uint8_t *start = reader->at;

	if ((size_t)(reader->end - start) < ar_round8(bytes) ||
	    !is_zero(start + bytes, ar_round8(bytes) - bytes))
		return NULL;
	reader->at += ar_round8(bytes);
	return start;
}

static bool all_equal(const uint8_t *values, uint32_t count, uint32_t width)
{
	return !memcmp(values, values + width, (size_t)(count - 1) * width);
}

/* spreads one column over the rows, which are zero so far */
static bool spread(struct reader *reader, uint8_t form, const struct ar_column *column,
		   uint8_t *rows, size_t stride)
{
	const uint32_t width = column->width;
	const bool each = form == FORM_EACH;

	if (form == FORM_ZERO)
		return true;
	if (form > FORM_EACH)
		return false;
	const uint8_t *values = take(reader, (each ? reader->rows : 1) * (size_t)width);
	if (!values || (each ? all_equal(values, reader->rows, width) : is_zero(values, width)))
		return false;
	for (uint32_t i = 0; i < reader->rows; i++)
		memcpy(rows + i * stride + column->offset, values + (each ? i * width : 0), width);
	return true;
}

static bool spread_all(struct reader *reader, const struct ar_column *columns, uint32_t count,
		       uint8_t *rows, size_t stride)
{
	reader->table = take(reader, count);
	if (!reader->table)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		if (!spread(reader, reader->table[i], &columns[i], rows, stride))
			return false;
	}
	return true;
}

bool ar_record_own(const struct ar_recorded *record, struct ar_row *own)
{
	struct ar_record_head head;

	memcpy(&head, record->bytes, sizeof(head));
	const uint8_t *start = record->bytes + sizeof(head);
	struct reader reader = { .at = start, .end = start + head.seen_bytes, .rows = head.rows };

	memset(own, 0, sizeof(*own));
	reader.table = take(&reader, AR_SEEN_COLUMNS);
	for (uint32_t i = 0; reader.table && i < AR_SEEN_COLUMNS; i++) {
		const uint32_t width = ar_seen_columns[i].width;

		if (reader.table[i] == FORM_ZERO)
			continue;
		const uint32_t count = reader.table[i] == FORM_EACH ? head.rows : 1;
		const uint8_t *values = take(&reader, count * (size_t)width);
		if (!values)
			return false;
		memcpy((char *)own + ar_seen_columns[i].offset, values, width);
	}
	return reader.table;
}

/* ------------------------------------------------------------------- a page */

static bool rises(const struct ar_page *page, uint32_t i)
{
	const struct ar_row *a = &ar_rows(page)[i - 1], *b = &ar_rows(page)[i];

	return ar_name_compare(ar_row_name(page, a), a->name_len, ar_row_name(page, b),
			       b->name_len) < 0;
}

/* the page's arena: each name and target gets a NUL; returns the page's bytes so far, 0: damaged */
static size_t spread_arena(struct reader *reader, struct ar_page *page, size_t used)
{
	const uint8_t *from = reader->at;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < page->row_count; i++)
		bytes += ar_rows(page)[i].name_len + (uint64_t)ar_rows(page)[i].link_len;
	if (bytes > (size_t)(reader->end - from) || !take(reader, bytes) ||
	    reader->at != reader->end)
		return 0;
	for (uint32_t i = 0; i < page->row_count; i++) {
		struct ar_row *row = &ar_rows(page)[i];

		row->name_off = (uint32_t)used;
		memcpy((char *)page + used, from, row->name_len);
		((char *)page)[used + row->name_len] = '\0';
		used += row->name_len + 1u;
		from += row->name_len;
		if (row->link_len) {
			row->link_off = (uint32_t)used;
			memcpy((char *)page + used, from, row->link_len);
			((char *)page)[used + row->link_len] = '\0';
			used += row->link_len + 1u;
			from += row->link_len;
		}
		if (row->flags & ~AR_RECORD_ROW_FLAGS || !ar_record_row_is_sound(row, ar_row_name(page, row),
					    ar_page_str(page, row->link_off), false) ||
		    (i && !rises(page, i)))
			return 0;
	}
	return used;
}

static bool spread_known(const struct ar_record_head *head, const struct ar_recorded *record,
			 struct ar_known *known)
{
	const uint8_t *start = record->bytes + AR_RECORD_HEAD + head->seen_bytes;
	struct reader reader = { .at = start, .end = start + head->known_bytes,
				 .rows = head->rows };

	memset(known, 0, head->rows * sizeof(*known));
	if (!spread_all(&reader, ar_known_columns, AR_KNOWN_COLUMNS, (uint8_t *)known,
			sizeof(*known)) ||
	    reader.at != reader.end)
		return false;
	for (uint32_t i = 0; i < head->rows; i++) {
		if (!ar_record_known_is_sound(&known[i]))
			return false;
	}
	return true;
}

static bool head_is_sound(const struct ar_record_head *head, const struct ar_recorded *record)
{
	const bool converged = head->flags & AR_RECORD_CONVERGED;

	if (head->flags & ~(AR_RECORD_FIRST | AR_RECORD_LAST | AR_RECORD_CONVERGED) || head->zero)
		return false;
	if (head->seen_bytes % 8 || head->known_bytes % 8)
		return false;
	if (!head->rows || head->rows > AR_PAGE_ROWS + !!(head->flags & AR_RECORD_FIRST))
		return false;
	return converged ? ar_record_is_of_source(record) : !head->equality && !head->partner;
}

static uint32_t put_path(struct ar_page *page, size_t used, const struct ar_recorded *record)
{
	char *at = (char *)page + used;

	page->path_off = (uint32_t)used;
	page->path_len = record->path_len;
	if (record->path_len)
		memcpy(at, record->path, record->path_len);
	memset(at + record->path_len, 0, 8);
	return (uint32_t)ar_round8(used + record->path_len + 1);
}

static int unpack(struct ar_recorded *record, struct ar_batch *out, int side,
		  struct ar_known *known)
{
	struct ar_record_head head;

	if (record->len > AR_RECORD_MOST_BYTES || !ar_record_head_read(record, &head) ||
	    !head_is_sound(&head, record))
		return -EBADMSG;
	const bool has_self = head.flags & AR_RECORD_FIRST;
	const uint32_t rows = head.rows - has_self;
	const size_t fixed = sizeof(struct ar_page) + rows * sizeof(struct ar_row);
	const size_t room = fixed + head.seen_bytes + 2 * (size_t)rows + record->path_len + 16;
	struct ar_page *page = (struct ar_page *)ar_batch_reserve(out, side, room);
	const uint8_t *seen = record->bytes + sizeof(head);
	struct reader reader = { .at = seen, .end = seen + head.seen_bytes, .rows = head.rows };

	if (!page)
		return -ENOMEM;
	memset(page, 0, fixed);
	page->format = AR_FORMAT;
	page->flags = head.flags & (AR_PAGE_FIRST | AR_PAGE_LAST);
	page->row_count = rows;
	if (!spread_all(&reader, ar_seen_columns, AR_SEEN_COLUMNS,
			(uint8_t *)(has_self ? &page->self : ar_rows(page)),
			sizeof(struct ar_row)) ||
	    (has_self && page->self.flags & ~AR_RECORD_ROW_FLAGS) ||
	    (has_self && !ar_record_row_is_sound(&page->self, "", "", true)))
		return -EBADMSG;
	const size_t used = spread_arena(&reader, page, fixed);
	if (!used || !spread_known(&head, record, known))
		return -EBADMSG;
	page->bytes = put_path(page, used, record);
	record->flags = head.flags;
	record->equality = head.equality;
	record->partner = head.partner;
	record->rows = head.rows;
	return 0;
}

int ar_records_unpack(struct ar_recorded *records, uint32_t count, struct ar_batch *out, int side)
{
	uint64_t *end = side ? &out->dst_bytes : &out->src_bytes;
	struct ar_known spare[AR_RECORD_ROWS];

	for (uint32_t i = 0; i < count; i++) {
		struct ar_recorded *record = &records[i];

		record->result = unpack(record, out, side, record->known ? record->known : spare);
		if (record->result == -ENOMEM)
			return -ENOMEM;
		if (record->result)
			continue;
		record->page = *end;
		*end += ((struct ar_page *)((side ? out->dst : out->src) + *end))->bytes;
	}
	return 0;
}

int ar_records_check(struct ar_recorded *records, uint32_t count)
{
	struct ar_known known[AR_RECORD_ROWS];
	struct ar_batch *spare = ar_batch_new();
	int err = spare ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < count && !err; i++) {
		records[i].result = unpack(&records[i], spare, 1, known);
		err = records[i].result == -ENOMEM ? -ENOMEM : 0;
	}
	ar_batch_free(spare);
	return err;
}
