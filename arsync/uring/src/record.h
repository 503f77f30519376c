/*
 * record.h - a page as the manifest keeps it (docs/formats.md, "Pages").
 *
 *	record.c	the columns, and packing a scanned page
 *	unpack.c	checking a record and making a page of it again
 */
#ifndef ARSYNC_RECORD_H
#define ARSYNC_RECORD_H

#include "internal.h"

#define AR_RECORD_VERSION 1
#define AR_RECORD_HEAD 48
#define AR_RECORD_ROWS (AR_PAGE_ROWS + 1)	/* the directory's own, too */
#define AR_SEEN_COLUMNS 22
#define AR_KNOWN_COLUMNS 3
#define AR_STATE_BITS 63
/* how many blocks a file has is nobody's doing: writing back and compression move it */
#define AR_RECORD_ROW_FLAGS (AR_ROW_MOUNT | AR_ROW_FOLLOWED | AR_ROW_BAD)

enum { FORM_ZERO, FORM_ONE, FORM_EACH };	/* of a column, as its table says */

struct ar_column {
	uint32_t offset;	/* in its row */
	uint32_t width;
	int64_t mask;		/* of the bits that are recorded */
};

struct ar_record_head {		/* the bytes that every record begins with */
	char magic[4];
	uint16_t version;
	uint16_t flags;
	uint32_t rows;
	uint32_t seen_bytes;
	uint32_t known_bytes;
	uint32_t zero;
	uint64_t equality;
	uint64_t partner;
	uint64_t checksum;
};

extern const struct ar_column ar_seen_columns[AR_SEEN_COLUMNS];
extern const struct ar_column ar_known_columns[AR_KNOWN_COLUMNS];

static inline size_t ar_round8(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* trees from here on, and 0, are of the destination */
#define AR_RECORD_DESTINATIONS 32768

static inline bool ar_record_is_of_source(const struct ar_recorded *record)
{
	return record->tree && record->tree < AR_RECORD_DESTINATIONS;
}

/* false: no record of this version, not as long as it says, or its checksum is wrong here */
bool ar_record_head_read(const struct ar_recorded *record, struct ar_record_head *head);
/* the row of the directory that a record begins; its head is sound.  false: it is damaged */
bool ar_record_own(const struct ar_recorded *record, struct ar_row *own);
/* what a row by itself must be, whoever made it */
bool ar_record_row_is_sound(const struct ar_row *row, const char *name, const char *target,
			    bool is_self);
bool ar_record_known_is_sound(const struct ar_known *known);

#endif
