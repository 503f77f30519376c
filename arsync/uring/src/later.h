/*
 * later.h - what the files of the spools share: later.c, followers.c, relink.c,
 * deletions.c, sources.c.
 *
 * AR_LATER_LINKS: of the names of one inode, the first that is added is the
 * leader: its change goes on as if it had no other name.  Each further name, a
 * follower, is linked to the leader's destination when everything is copied.
 * When all followers are read, names of a further source for the same destination
 * may be added: they follow the leaders of the sources before.
 * AR_LATER_DIRS: directories that work moves the mtime of, or that get their mode
 * and times when they are complete; children come out before their parents.
 * AR_LATER_EXTRAS: what only the destination has, see deletions.c.
 * AR_LATER_SOURCES: names that may be removed from the source when everything is
 * done; each is a FOLLOWER without a leader.
 *
 * Scan threads add batches at the same time, but each under one lock that Python
 * holds around ar_later_add: nothing here is safe for two threads.
 *
 * The spool's records, in the order in which batches came:
 *
 *	LEADER	struct leader_record, path below the destination root, NUL
 *	FOLDER	struct folder_record, bare source page, bare destination page
 *	FOLLOWER struct follower_record, name, NUL, symlink target, NUL
 *	EXTRAS	struct extras_record, source page, destination page
 *
 * A bare page is a page's header and path without rows.  A FOLLOWER belongs to
 * the last FOLDER before it.  The directories' spool holds FOLDERs only.
 */
#ifndef ARSYNC_LATER_H
#define ARSYNC_LATER_H

#include "inodes.h"
#include "spool.h"

enum { RECORD_LEADER = 1, RECORD_FOLDER, RECORD_FOLLOWER, RECORD_EXTRAS };

struct folder_record {
	struct ar_record head;
	uint64_t directory;	/* id in the manifest */
	uint32_t flags;		/* AR_PAIR_* */
	uint32_t why;		/* of the directory itself */
	uint32_t src_bytes;	/* of the bare page */
	uint32_t dst_bytes;	/* 0: there was none */
};

struct follower_record {
	struct ar_record head;
	uint64_t leader;	/* offset of its record */
	uint32_t why;
	uint32_t has_dst;
	uint32_t name_len;
	uint32_t link_len;
	struct ar_row src;
	struct ar_row dst;
};

/* whether a directory's times come last, in a batch of AR_LATER_DIRS, which has taken it then */
bool ar_needs_finish(const struct ar_page *page, const struct ar_pair *pair);

struct leader_record {
	struct ar_record head;
	uint64_t path_len;
};

struct page_draft {		/* a page whose number of rows is not known yet */
	struct ar_bytes rows;
	struct ar_bytes arena;
};

struct ar_later {
	uint32_t what;
	bool reading;
	bool is_planned;	/* of SOURCES: by a dry run */
	bool takes_all;		/* of DIRS: none is complete when it is closed */
	uint64_t count;
	uint64_t position;	/* of the next record to read */
	uint32_t pass;		/* AR_EXTRAS_* */
	ar_root *src_root;
	ar_root *dst_root;
	struct ar_inodes *inodes;	/* of LINKS: the leaders; of EXTRAS: what stays */
	struct ar_spool spool;
	struct ar_spool leaders;	/* reads their paths */
	struct ar_bytes open_folder;	/* copy of the FOLDER record that is read */
	struct page_draft src;
	struct page_draft dst;
};

/* whether a record holds what it says: 0 or -EIO */
static inline int ar_folder_check(const struct folder_record *folder)
{
	uint64_t body = sizeof(*folder) - sizeof(folder->head);

	body += (uint64_t)folder->src_bytes + folder->dst_bytes;
	return ar_record_is(&folder->head, RECORD_FOLDER, body) ? 0 : -EIO;
}

int ar_later_string(struct ar_bytes *out, const char *text, size_t len);
/* appends the pair's FOLDER */
int ar_later_folder(struct ar_later *later, const struct ar_batch *batch,
		    const struct ar_pair *pair);

/* a copy of a page goes to the end of a batch */
int ar_later_page(struct ar_batch *batch, int side, const void *page, size_t bytes,
		  uint64_t *offset);
/* nothing can be added any more */
int ar_later_read(struct ar_later *later);

/* deletions.c */
int ar_deletions_add(struct ar_later *later, const struct ar_batch *batch);
int ar_deletions_next(struct ar_later *later, struct ar_batch *out);
/* followers.c: leaders and followers of a batch go into the spool */
int ar_followers_add(struct ar_later *later, struct ar_batch *batch);
/* sources.c: names of a batch that is done go into the spool */
int ar_sources_add(struct ar_later *later, const struct ar_batch *batch);
/* relink.c: the next followers, as pairs; 1, 0 at the end, -errno */
int ar_followers_next(struct ar_later *later, struct ar_batch *out);

#endif
