/*
 * backup.h - keeping what is about to be replaced or deleted (see backup.c).
 */
#ifndef ARSYNC_BACKUP_H
#define ARSYNC_BACKUP_H

#include "internal.h"

enum ar_backup_how {
	AR_BACKUP_LINK,		/* it keeps its name, too: something will be renamed over it */
	AR_BACKUP_MOVE,		/* its name goes away: it is deleted */
	AR_BACKUP_COPY,		/* it is going to be written into */
};

/*
 * Keeps the entry `name` of the open directory dir_fd, whose path below the
 * destination's root is path.  1: it is kept, 0: there is nothing of that name, or a
 * directory, which has no backup; -errno: it must not be replaced or deleted.  Any
 * thread may call.  A problem of it is one of AR_OP_BACKUP.
 */
int ar_backup_keep(struct ar_backup *backup, const ar_root *dst, int dir_fd, const char *path,
		   size_t len, const char *name, enum ar_backup_how how);

/*
 * Moves an entry, a directory too, out of the destination; with .1, .2 or the like
 * behind its name where that is taken.  0 or -errno.
 */
int ar_backup_bury(struct ar_backup *trash, const ar_root *dst, int dir_fd, const char *path,
		   size_t len, const char *name);
/* false: it is itself a backup beside others, which is deleted without one */
bool ar_backup_wanted(const struct ar_backup *backup, const char *name);

/* makes copies that are under way end with -EINTR; from any thread */
void ar_backup_stop(struct ar_backup *backup);

#endif
