/*
 * settle.h - what a batch left behind: directories one by one, as records of both
 * sides (settle.c when a batch is done, refresh.c when its directories are complete).
 */
#ifndef ARSYNC_SETTLE_H
#define ARSYNC_SETTLE_H

#include "record.h"
#include "scan.h"

struct settling {
	struct scan_call call;
	const struct ar_batch *batch;
	const struct ar_keeping *keeping;
	struct ar_batch *fresh;		/* destination pages as they are now */
	struct ar_batch *old;		/* as they were recorded, of both sides */
	struct ar_batch *out;
	struct ar_kept *kept;
	uint32_t count;
	struct ar_known src_known[AR_RECORD_ROWS];
	struct ar_known dst_known[AR_RECORD_ROWS];
	struct ar_known old_known[AR_RECORD_ROWS];
	__int128 seen_horizon;		/* a ctime from here on may move unseen: when it was scanned */
	__int128 horizon;		/* and now */
	bool is_settled;		/* of the pair: nothing in it is pending, failed or racy */
	bool is_early;			/* but its times, which come last */
	uint32_t pair;			/* index */
	/* of each row of the fresh page the hashes of chunks that were read, or NULL */
	const struct ar_chunks *chunks[AR_RECORD_ROWS];
};

/* a batch; -ENOMEM.  ar_settle_end frees s, also when this failed */
int ar_settle_begin(struct settling *s, ar_scan *scan, const struct ar_batch *batch,
		    const struct ar_keeping *keeping, struct ar_batch *out, struct ar_kept *kept);
void ar_settle_end(struct settling *s);

/* the destination's directory: opened, and its own row filled in, where that is needed;
 * an error says that it cannot be recorded now */
int ar_settle_open(struct settling *s, const struct ar_pair *pair, bool is_needed);

/* row's flags say how it was seen before; -ENOENT where there is nothing of that name */
int ar_settle_look(struct settling *s, const struct ar_side *side, const char *name, size_t len,
		   struct ar_writer *w, struct ar_row *row);
/* appends a row as it was */
int ar_settle_copy(struct ar_writer *w, const struct ar_page *from, const struct ar_row *old);
/* marks what may have been written to again within one ctime */
void ar_settle_note_racy(struct settling *s, const struct ar_row *row, __int128 horizon,
			 struct ar_known *known);

/* packs both pages of a pair; the destination's is one of s->fresh */
int ar_settle_keep(struct settling *s, const struct ar_pair *pair, const struct ar_batch *src,
		   uint64_t src_page, uint64_t dst_page);
/* the checksum of a record, by which the other side's names it; 0 where there is none */
uint64_t ar_settle_sum(const struct ar_recorded *record);

#endif
