/*
 * successor.h - where the further names of an inode go when its first one cannot
 * have them: the filesystem's link count is full, or the first one is not there.
 *
 * The next name then becomes a copy, and what comes after it is linked to that.
 * All lanes share one table, a destination root's: so a group goes on in one new
 * inode, not in one a lane.  While the copy is made, lanes with further names wait;
 * its maker waits for no other, so there is no circle.
 */
#ifndef ARSYNC_SUCCESSOR_H
#define ARSYNC_SUCCESSOR_H

#include "internal.h"

struct ar_successors;
struct ar_successor;

struct ar_heir {		/* what a first name's further names are linked to */
	char *path;		/* for free(); NULL: the first name itself */
	size_t len;
	uint64_t serial;	/* 0 for the first name, rising from one to the next */
};

struct ar_successors *ar_successors_new(void);
void ar_successors_free(struct ar_successors *all);

/* waits while it is being made; 0 or -ENOMEM */
int ar_successor_find(struct ar_successors *all, const char *first, size_t len,
		      struct ar_heir *heir);

/*
 * Says that the heir cannot have another name, err being why, and that path, which
 * the caller makes now, shall follow.  true: do make it.  *claimed is then what to
 * give to ar_successor_made, or NULL where it could not be remembered: each further
 * name becomes a copy, which is right too.  false: another lane was first, look again.
 */
bool ar_successor_claim(struct ar_successors *all, const char *first, size_t len,
			const struct ar_heir *heir, int err, char *path, size_t path_len,
			struct ar_successor **claimed);
/* it is there, or making it has failed: who waits goes on */
void ar_successor_made(struct ar_successors *all, struct ar_successor *claimed);

#endif
