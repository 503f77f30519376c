/*
 * spool.c - see spool.h.
 */
#include <stdlib.h>

#include "spool.h"
#include "sys.h"

#define TRAILER_BYTES AR_SPOOL_TRAILER

/* ------------------------------------------------------------------ memory */

static int bytes_room(struct ar_bytes *bytes, size_t more)
{
	size_t wanted = AR_MAX(bytes->room, (size_t)4096);

	if (bytes->room - bytes->used >= more)
		return 0;
	while (wanted - bytes->used < more)
		wanted *= 2;
	uint8_t *data = ar_fault(AR_OP_MEMORY, NULL) ? NULL : realloc(bytes->data, wanted);
	if (!data)
		return -ENOMEM;
	bytes->data = data;
	bytes->room = wanted;
	return 0;
}

int ar_bytes_add(struct ar_bytes *bytes, const void *data, size_t len)
{
	int err = bytes_room(bytes, len);

	if (err)
		return err;
	if (len)
		memcpy(bytes->data + bytes->used, data, len);
	bytes->used += len;
	return 0;
}

int ar_bytes_align(struct ar_bytes *bytes)
{
	static const uint8_t zeros[8];

	return ar_bytes_add(bytes, zeros, -bytes->used & 7);
}

void ar_bytes_free(struct ar_bytes *bytes)
{
	free(bytes->data);
	memset(bytes, 0, sizeof(*bytes));
}

void ar_spool_init(struct ar_spool *spool, int fd)
{
	memset(spool, 0, sizeof(*spool));
	spool->fd = fd;
	spool->block_bytes = AR_SPOOL_BLOCK;
}

void ar_spool_view(struct ar_spool *view, const struct ar_spool *spool, size_t block_bytes)
{
	ar_spool_init(view, spool->fd);
	view->written = spool->written;
	view->block_bytes = block_bytes;
}

void ar_spool_free(struct ar_spool *spool)
{
	ar_bytes_free(&spool->out);
	ar_bytes_free(&spool->in);
}

/* ----------------------------------------------------------------- writing */

static int write_all(int fd, const uint8_t *data, size_t len, uint64_t offset)
{
	while (len) {
		size_t part = len;
		int err = ar_fault(AR_OP_SPOOL, &part);
		if (err == -EINTR)
			continue;
		if (err)
			return err;
		ssize_t r = pwrite(fd, data, part, (off_t)offset);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -EIO;
		data += r;
		len -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}

static int flush(struct ar_spool *spool)
{
	int err = write_all(spool->fd, spool->out.data, spool->out.used, spool->written);

	if (err)
		return err;
	spool->written += spool->out.used;
	spool->out.used = 0;
	return 0;
}

int ar_spool_begin(struct ar_spool *spool, uint32_t kind, uint64_t *offset)
{
	struct ar_record record = { .kind = kind };

	*offset = ar_spool_bytes(spool);
	return ar_bytes_add(&spool->out, &record, sizeof(record));
}

int ar_spool_end(struct ar_spool *spool, uint64_t offset)
{
	int err = ar_bytes_align(&spool->out);

	if (err)
		return err;
	uint64_t bytes = ar_spool_bytes(spool) + TRAILER_BYTES - offset;
	if (bytes > UINT32_MAX)
		return -EOVERFLOW;
	err = ar_bytes_add(&spool->out, &bytes, sizeof(bytes));
	if (err)
		return err;
	struct ar_record *record =
		(struct ar_record *)(spool->out.data + (offset - spool->written));
	record->bytes = (uint32_t)bytes;
	return spool->out.used >= spool->block_bytes ? flush(spool) : 0;
}

int ar_spool_finish(struct ar_spool *spool)
{
	int err = flush(spool);

	if (!err)
		ar_bytes_free(&spool->out);
	return err;
}

/* ----------------------------------------------------------------- reading */

/* makes spool->in hold the file from start to end */
static int load(struct ar_spool *spool, uint64_t start, uint64_t end)
{
	spool->in.used = 0;
	spool->in_start = start;
	int err = bytes_room(&spool->in, end - start);
	if (err)
		return err;
	while (start + spool->in.used < end) {
		size_t part = end - start - spool->in.used;
		err = ar_fault(AR_OP_SPOOL, &part);
		if (err == -EINTR)
			continue;
		if (err)
			return err;
		ssize_t r = pread(spool->fd, spool->in.data + spool->in.used, part,
				  (off_t)(start + spool->in.used));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -EIO;
		spool->in.used += (size_t)r;
	}
	return 0;
}

static bool holds(const struct ar_spool *spool, uint64_t start, uint64_t end)
{
	return start >= spool->in_start && end <= spool->in_start + spool->in.used;
}

/* bytes start..end of the file; a block that contains them is read, ahead or behind */
static int fetch(struct ar_spool *spool, uint64_t start, uint64_t end, bool backward,
		 const void **at)
{
	if (end > spool->written || start > end)
		return -EIO;
	if (!holds(spool, start, end)) {
		uint64_t from = start, to = end;
		if (backward && to - from < spool->block_bytes)
			from = to > spool->block_bytes ? to - spool->block_bytes : 0;
		else if (to - from < spool->block_bytes)
			to = AR_MIN(from + spool->block_bytes, spool->written);
		int err = load(spool, from, to);
		if (err)
			return err;
	}
	*at = spool->in.data + (start - spool->in_start);
	return 0;
}

/* a record says its length at both ends: a file that somebody damaged is an error */
static int check(const struct ar_record *record, uint64_t bytes)
{
	uint64_t again;

	memcpy(&again, (const uint8_t *)record + bytes - TRAILER_BYTES, sizeof(again));
	return record->bytes == bytes && again == bytes ? 0 : -EIO;
}

int ar_spool_at(struct ar_spool *spool, uint64_t offset, const struct ar_record **record)
{
	const void *at;
	int err = fetch(spool, offset, offset + sizeof(struct ar_record), false, &at);

	if (err)
		return err;
	uint32_t bytes = ((const struct ar_record *)at)->bytes;
	if (bytes < sizeof(struct ar_record) + TRAILER_BYTES || bytes % 8)
		return -EIO;
	err = fetch(spool, offset, offset + bytes, false, &at);
	if (err)
		return err;
	*record = at;
	return check(at, bytes);
}

int ar_spool_before(struct ar_spool *spool, uint64_t offset, const struct ar_record **record)
{
	const void *at;
	uint64_t bytes;

	if (offset < TRAILER_BYTES)
		return -EIO;
	int err = fetch(spool, offset - TRAILER_BYTES, offset, true, &at);
	if (err)
		return err;
	memcpy(&bytes, at, sizeof(bytes));
	if (bytes > offset || bytes < sizeof(struct ar_record) + TRAILER_BYTES || bytes % 8)
		return -EIO;
	err = fetch(spool, offset - bytes, offset, true, &at);
	if (err)
		return err;
	*record = at;
	return check(at, bytes);
}
