/*
 * spool.h - records in a file: appended, then read forward or backward.
 *
 * A record is a struct ar_record, a body, and its length again in the last eight
 * bytes, which is how reading backward finds where it begins.  All lengths and
 * offsets are multiples of eight.  The file belongs to the caller; the spool
 * writes from offset 0 on and buffers, so memory does not grow with the file.
 */
#ifndef ARSYNC_SPOOL_H
#define ARSYNC_SPOOL_H

#include "internal.h"

#define AR_SPOOL_BLOCK (256u << 10)

#define AR_SPOOL_TRAILER sizeof(uint64_t)

struct ar_record {
	uint32_t bytes;		/* of the whole record */
	uint32_t kind;
};

struct ar_bytes {		/* memory that grows */
	uint8_t *data;
	size_t used;
	size_t room;
};

struct ar_spool {
	int fd;
	uint64_t written;	/* bytes of the file */
	struct ar_bytes out;	/* what follows them and is not written yet */
	struct ar_bytes in;	/* what was read last, of the file's .. */
	uint64_t in_start;	/* .. offset in_start on */
	size_t block_bytes;	/* to write and to read at once */
};

/* whether the record is of this kind and has room for a body of this size */
static inline bool ar_record_is(const struct ar_record *record, uint32_t kind, uint64_t body)
{
	return record->kind == kind &&
	       sizeof(*record) + body + AR_SPOOL_TRAILER <= record->bytes;
}

int ar_bytes_add(struct ar_bytes *bytes, const void *data, size_t len);
/* zeros up to the next multiple of eight */
int ar_bytes_align(struct ar_bytes *bytes);
void ar_bytes_free(struct ar_bytes *bytes);

void ar_spool_init(struct ar_spool *spool, int fd);
/* a second reader of what a finished spool holds, for records here and there */
void ar_spool_view(struct ar_spool *view, const struct ar_spool *spool, size_t block_bytes);
void ar_spool_free(struct ar_spool *spool);

static inline uint64_t ar_spool_bytes(const struct ar_spool *spool)
{
	return spool->written + spool->out.used;
}

/* starts a record at offset; ar_bytes_add to spool->out adds to it, end completes it */
int ar_spool_begin(struct ar_spool *spool, uint32_t kind, uint64_t *offset);
int ar_spool_end(struct ar_spool *spool, uint64_t offset);
/* writes what is buffered: only what is written can be read */
int ar_spool_finish(struct ar_spool *spool);

/* the record there, valid until the next call; offset below ar_spool_bytes */
int ar_spool_at(struct ar_spool *spool, uint64_t offset, const struct ar_record **record);
/* the record that ends there; offset above 0 */
int ar_spool_before(struct ar_spool *spool, uint64_t offset, const struct ar_record **record);

#endif
