/*
 * lane.h - what the files of the executor share.
 *
 * A lane is one thread with one ring and its buffers.  It takes a batch, opens
 * its directories one after the other and starts a job for each change.  What
 * needs no data (links, nodes, attributes) is done at once.  A regular file is
 * a job that goes through
 *
 *	open source -> read -> create -> write ... read -> write -> attributes -> place
 *
 * where opening and reading may wait on the ring while other jobs go on.  All
 * that changes the destination is plain calls: the kernel would hand them to
 * worker threads (design.md, section 4).
 *
 * A directory that is new at the destination is made under a temporary name,
 * filled with its own files, and appears by one rename ("staged"); in a directory
 * that exists each file is made under a temporary name and renamed.
 */
#ifndef ARSYNC_LANE_H
#define ARSYNC_LANE_H

#include <liburing.h>

#include "sys.h"
#include "backup.h"
#include "hash.h"
#include "successor.h"

#define AR_PENDING (-4095L)	/* the ring has it: the answer comes later */
#define AR_TRIES 4		/* of an operation that fails for a passing reason */
#define AR_TEMP_MAX 64		/* ".arsync.<24 digits>.<lane>-<number>" */

enum job_state { JOB_FREE, JOB_OPEN, JOB_READ };

struct folder {			/* a pair while a lane works in it */
	struct ar_pair *pair;
	uint32_t index;		/* of the pair in the batch */
	int src_fd;
	int dst_fd;		/* the staged directory, or the one in place */
	int parent_fd;		/* of a staged directory, else -1 */
	uint32_t active;	/* jobs under way in it */
	uint32_t umask;		/* of what is made in it, where modes are not kept */
	bool issued;		/* no further jobs will start */
	bool open;
	bool staged;
	char temp[AR_TEMP_MAX];	/* name of the staged directory */
};

struct job {			/* a regular file on its way */
	enum job_state state;
	struct folder *folder;
	struct ar_change *change;
	const struct ar_page *page;
	const struct ar_row *row;
	struct ar_want want;
	int src_fd;		/* what is read: in a check also the destination's file */
	int dst_fd;		/* -1 until the first data is there */
	int dst_dir_fd;		/* where the temporary name lives */
	char temp[AR_TEMP_MAX];	/* "": made under its final name */
	uint8_t *buf;
	uint64_t off;		/* of the read under way */
	uint32_t asked;
	uint64_t size;		/* to be read, as of the last stat */
	uint64_t data_end;	/* of the data segment being read, in a sparse file */
	uint64_t hole_bytes;	/* passed over up to off */
	struct stat before;	/* of the second round, in a check of the destination's file */
	uint8_t hash[AR_HASH_BYTES];	/* check: of the other side */
	uint32_t side;		/* what is read: 0 the source, 1 the destination */
	struct ar_row seen;	/* the source row of the second round */
	bool reread;		/* in the second round, after the first one's file changed */
	bool restarted;		/* the destination may be longer than what is read now */
	bool sparse;		/* the source may have holes */
	bool made;		/* a name at the destination is only ours so far */
	uint8_t tries;		/* after transient errors */
	uint8_t patience;	/* after a lack of descriptors or memory */
	struct ar_hasher hasher;
};

struct ar_lane {
	struct ar_lane_config cfg;
	const struct ar_rules *rules;
	struct io_uring ring;
	bool has_ring;
	bool ring_lost;		/* it takes nothing more; what it has it still answers */
	atomic_int stop;
	int fatal;		/* -errno that ends the run */
	uint32_t euid, egid;
	uint64_t serial;	/* of temporary names */
	uint8_t *arena;		/* all buffers */
	size_t arena_bytes;
	struct job *jobs;
	uint32_t *free_jobs;	/* a stack: the buffer used last is the warmest */
	uint32_t free_count;
	uint32_t job_count;
	uint32_t limit;		/* jobs in flight at most; sinks when resources run out */
	uint32_t unsubmitted;
	int pipe_fds[2];	/* for splice, -1 until needed */
	uint64_t blocking_dev[2];	/* st_dev where reads never wait (tmpfs), by side: ring.c */
	uint64_t no_clone_dev;	/* st_dev from which FICLONE was refused, see method.c */
	struct ar_batch *batch;
	struct folder *folders;
	uint32_t folder_room;
	struct {		/* jobs to start again when others have ended */
		struct folder *folder;
		struct ar_change *change;
	} *again;
	uint32_t again_count;
	char *xattr_space;	/* AR_XATTR_SPACE bytes of attr.c, NULL until needed */
	struct ar_successor *successor;	/* what others wait for, see successor.h; or NULL */
	int parent_fd;		/* the last parent directory that was opened, and its path */
	char *parent_path;
	size_t parent_len;
	struct ar_pin *pins;	/* of the batch, see move.c */
	uint32_t pin_count;
	struct ar_tally tally;
};

static inline bool ar_is_check(const struct job *job)
{
	return job->change->kind == AR_CHANGE_CHECK;
}

static inline int ar_job_open_op(const struct job *job)
{
	return job->side ? AR_OP_OPEN_TARGET : AR_OP_OPEN_FILE;
}

static inline bool ar_is_dry_run(const struct ar_lane *lane)
{
	return lane->cfg.flags & AR_LANE_DRY_RUN;
}

static inline bool ar_is_transient(int err)
{
	return err == -EAGAIN || err == -EBUSY || err == -ESTALE || err == -ETIMEDOUT;
}

static inline bool ar_is_exhausted(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM;
}

/* what no other file can survive either */
static inline bool ar_is_fatal(int err)
{
	return err == -ENOSPC || err == -EDQUOT || err == -EROFS;
}

static inline bool ar_uses_ring(const struct ar_lane *lane)
{
	return lane->has_ring && !lane->ring_lost;
}

static inline bool ar_stopped(const struct ar_lane *lane)
{
	return atomic_load_explicit(&lane->stop, memory_order_relaxed) || lane->fatal;
}

/* what a copy must find unchanged, and has to set, of a source file */
static inline void ar_row_take(struct ar_row *row, const struct stat *st)
{
	row->mode = st->st_mode;
	row->uid = st->st_uid;
	row->gid = st->st_gid;
	row->size = (uint64_t)st->st_size;
	row->ino = st->st_ino;
	row->mtime_s = st->st_mtim.tv_sec;
	row->mtime_n = (uint32_t)st->st_mtim.tv_nsec;
	row->ctime_s = st->st_ctim.tv_sec;
	row->ctime_n = (uint32_t)st->st_ctim.tv_nsec;
}

static inline bool ar_row_same(const struct stat *st, const struct ar_row *row)
{
	return st->st_ino == row->ino && (uint64_t)st->st_size == row->size &&
	       st->st_mtim.tv_sec == row->mtime_s && st->st_mtim.tv_nsec == row->mtime_n &&
	       st->st_ctim.tv_sec == row->ctime_s && st->st_ctim.tv_nsec == row->ctime_n;
}

/* one of AR_PAIR_NAMED was not there when it was scanned; its own pair has made it since */
/* the destination itself: the run has made it before it scanned anything */
static inline bool ar_makes_root(const struct ar_pair *pair)
{
	return (pair->flags & AR_PAIR_ROOT) && (pair->self.why & AR_WHY_NEW);
}

/* ------------------------------------------------------------------- ring.c */
int ar_ring_open(struct ar_lane *lane);
void ar_ring_close(struct ar_lane *lane);
long ar_io_open(struct ar_lane *lane, struct job *job);
long ar_io_read(struct ar_lane *lane, struct job *job, size_t len);
/* -errno: the ring is lost, see ring.c */
int ar_ring_submit(struct ar_lane *lane);
/* the next entry that a lost ring never took, NULL after the last; cursor begins at 0 */
struct io_uring_sqe *ar_ring_untaken(struct ar_lane *lane, uint32_t *cursor);
/* waits for one completion at least and gives each to ar_job_advance */
int ar_ring_reap(struct ar_lane *lane, bool wait);

/* ------------------------------------------------------------------- file.c */
void ar_job_start(struct ar_lane *lane, struct folder *folder, struct ar_change *change);
void ar_job_advance(struct ar_lane *lane, struct job *job, long result);
/* from the beginning, as what its change is now */
void ar_job_begin(struct ar_lane *lane, struct job *job);
/* opens a side and reads it */
void ar_job_read(struct ar_lane *lane, struct job *job, uint32_t side);
/* everything is read; buffered: so many bytes, all of them, and not written yet */
void ar_job_complete(struct ar_lane *lane, struct job *job, size_t buffered, int method);
/* the batch gets the hashes of its chunks, which have been read */
void ar_job_keep_chunks(struct ar_lane *lane, const struct job *job);
void ar_job_failed(struct ar_lane *lane, struct job *job, int err, int op, int side);
void ar_job_release(struct ar_lane *lane, struct job *job);

/* ------------------------------------------------------------------ check.c */
/* nobody has written to it, nor given it other attributes */
bool ar_stat_same(const struct stat *a, const struct stat *b);
void ar_check_begin(struct ar_lane *lane, struct job *job);
/*
 * Whether the source has lost the content that is recorded of it, by nobody's writing, and
 * the destination's file of that name has it still.  hash: of what was read.
 */
bool ar_source_decays(const struct folder *folder, const struct ar_change *change,
		      const char *name, uint64_t size, const uint8_t *hash);
/* a side is open; false: that was all there was to see */
bool ar_check_opened(struct ar_lane *lane, struct job *job);
/* a side is read; buffered: all of it is in the buffer */
void ar_check_read(struct ar_lane *lane, struct job *job, size_t buffered);
/* no answer: a copy is right whatever the destination holds */
void ar_check_copy_anyway(struct ar_lane *lane, struct job *job);
/* makes of the change what has been found; hash: of both sides, NULL where they differ */
void ar_check_decide(struct ar_lane *lane, const struct ar_pair *pair, struct ar_change *change,
		     const uint8_t *hash);
/* a dry run: further names that are linked to one that stays are nothing to be told of */
void ar_check_drop_links(struct ar_lane *lane, const struct ar_pair *pair);

/* ------------------------------------------------------------------- node.c */
int ar_node_make(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op);
/* 1: there is no link to be had, make the file anew */
int ar_node_link(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op);
int ar_node_meta(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op);
/* the directory at the destination that holds a path; its last name is copied out, with a NUL */
int ar_open_holder(struct ar_lane *lane, const char *path, size_t len, char *name);

/* ------------------------------------------------------------------- move.c */
/* second names for old files whose first ones others of the batch take */
int ar_moves_pin(struct ar_lane *lane);
void ar_moves_unpin(struct ar_lane *lane);
/* it is copied after all, from the source */
void ar_move_drop(struct ar_lane *lane, struct ar_change *change);
/* 1: it cannot be moved, copy it */
int ar_move_run(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op);
/* the old file of a change that is cloned, open for reading; or -errno: there is none as recorded */
int ar_clone_open(struct ar_lane *lane, const struct ar_change *change);
/* dst_fd gets all of it; fd is closed.  false: it cannot be had, and dst_fd may hold anything */
bool ar_clone_take(struct ar_lane *lane, const struct ar_change *change, int fd, int dst_fd);

/* ----------------------------------------------------------------- remove.c */
/* all changes of a pair of extras */
void ar_extras_remove(struct ar_lane *lane, uint32_t index);

/* ----------------------------------------------------------------- folder.c */
int ar_folder_open(struct ar_lane *lane, struct folder *folder, int *op);
/* what new entries of a directory lose of their mode: by its default ACL, else the umask */
uint32_t ar_folder_umask(const struct ar_lane *lane, int dir_fd);
/* ar_want for an entry of the folder; dst NULL: it is made anew */
void ar_folder_want(const struct ar_lane *lane, const struct folder *folder,
		    const struct ar_row *src, const struct ar_row *dst, struct ar_want *want);
int ar_folder_close(struct ar_lane *lane, struct folder *folder, int *op);
int ar_folder_finish(struct ar_lane *lane, struct ar_pair *pair, int *op);

/* ---------------------------------------------------------------- sources.c */
/* removes the names of a pair from the source */
void ar_sources_remove(struct ar_lane *lane, uint32_t index);

/* ------------------------------------------------------------------ place.c */
void ar_temp_name(struct ar_lane *lane, char *out);
/*
 * Renames temp over name.  Where something of another type stands there it is
 * exchanged and removed, a directory only when it is empty (-ENOTEMPTY).
 */
int ar_place(int temp_fd, const char *temp, int dir_fd, const char *name, bool is_dir, int *op);
/*
 * Opens a regular file to be written where it is, made with mode where it is missing.
 * One that its owner may not write is made writable for the moment, as rsync does it.
 */
int ar_open_in_place(int dir_fd, const char *name, int access, mode_t mode);
/* what a file got behind its end when there was not room for all of it */
void ar_give_back_room(int fd);
/* -ENOTEMPTY where ar_place would find such a directory: asked before anything is copied */
int ar_place_check(int dir_fd, const char *name, int *op);

/* whether that is wanted and not done: a second try must not keep what the first one wrote */
bool ar_must_keep_old(const struct ar_lane *lane, const struct folder *folder,
		      const struct ar_change *change);
/* keeps what a change is about to replace or, with AR_BACKUP_COPY, to write into */
int ar_keep_old(struct ar_lane *lane, const struct folder *folder, struct ar_change *change,
		enum ar_backup_how how, int *op);

/* ------------------------------------------------------------------- attr.c */
struct attr_target {		/* what gets attributes, and whose they are */
	int fd;			/* open for reading or writing, or -1: */
	int path_fd;		/* O_PATH of the object itself, or -1: */
	int dir_fd;		/* where name is; for symlinks only */
	const char *name;
	int src_fd;		/* the source, open for reading, or -1: */
	int src_dir_fd;		/* where src_name is; -1 when there is no need to read it */
	const char *src_name;
	uint32_t pair;		/* of the batch, for problems */
	uint32_t row;
	bool fresh;		/* made by this run: nothing to be removed from it */
	bool no_times;		/* a directory that is not complete yet */
	bool same_time;		/* an mtime that the rules take for equal stays */
};
/*
 * Sets owner, xattrs, ACLs, mode and times, in the order that the kernel's side
 * effects demand: chown clears setuid and capabilities, an ACL moves the mode, and
 * everything but utimes moves nothing that utimes sets.  What the destination
 * cannot hold is a warning; -errno only when the file is not fit to be used.
 */
int ar_attr_apply(struct ar_lane *lane, const struct attr_target *at, const struct ar_row *row,
		  const struct ar_want *want, int *op);

/* ---------------------------------------------------------------- method.c */
/* is anything but reading and writing to be tried for a file from dev? */
bool ar_method_shares(const struct ar_lane *lane, int method, uint64_t dev);
/* is it the answer of a filesystem, or a pair of them, that cannot? */
bool ar_method_refuses(int err);
/* FICLONE of a whole file onto one of any size; -errno */
int ar_method_clone(int src_fd, int dst_fd, uint64_t size);
/* all of a file; 0: content is there, 1: not possible here (part of it may be), -errno */
int ar_method_share(struct ar_lane *lane, int method, uint64_t dev, int src_fd, int dst_fd,
		    uint64_t size, int *used, int *op);
/* len bytes at off by copy_file_range or splice, likewise */
int ar_method_range(struct ar_lane *lane, int method, int src_fd, int dst_fd, uint64_t off,
		    uint64_t len, int *op);

/* ------------------------------------------------------------------ lane.c */
void ar_change_done(struct ar_lane *lane, struct folder *folder, struct ar_change *change);
/* executes what needs no content */
void ar_change_run(struct ar_lane *lane, struct folder *folder, struct ar_change *change);
/* records the failure of a change, or of the folder itself when change is NULL */
void ar_change_failed(struct ar_lane *lane, struct folder *folder, struct ar_change *change,
		      int err, int op, int side);
void ar_warn(struct ar_lane *lane, uint32_t pair, uint32_t row, int kind, int op, int err);
/* opens the directory at path beneath the destination, one descriptor is kept for siblings */
int ar_lane_parent(struct ar_lane *lane, const char *path, size_t len);
/* waits for the turn of so many bytes under --bwlimit, or until the lane is stopped */
void ar_limit_take(struct ar_lane *lane, uint64_t bytes);
/* whether to try an operation again that failed with err; sleeps a while before yes */
bool ar_try_again(struct ar_lane *lane, int err, int *tries);
/* zeros become holes, punched where something may stand; adds them to hole_bytes */
int ar_write_holes(struct ar_lane *lane, int fd, const uint8_t *buf, size_t len, uint64_t off,
		   bool punch, uint64_t *hole_bytes);
/* likewise under -S, else zeros are written as what they are */
int ar_write_data(struct ar_lane *lane, int fd, const uint8_t *buf, size_t len, uint64_t off,
		  bool punch, uint64_t *hole_bytes);
/* notes a file that is whole and in its place */
void ar_file_done(struct ar_lane *lane, int method, uint64_t size, uint64_t hole_bytes);

#endif
