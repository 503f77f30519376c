/*
 * internal.h - what the C files share and Python does not see.
 *
 * Calls that the tests must be able to break go through the wrappers of sys.h,
 * which answer -errno and pass a failpoint first.
 */
#ifndef ARSYNC_INTERNAL_H
#define ARSYNC_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "arsync.h"

#define AR_LIKELY(x) __builtin_expect(!!(x), 1)
#define AR_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define AR_MIN(a, b) ((a) < (b) ? (a) : (b))
#define AR_MAX(a, b) ((a) > (b) ? (a) : (b))

/* NULL: no memory, never because there is nothing to copy; free() it */
static inline void *ar_copy_of(const void *bytes, size_t len)
{
	void *copy = malloc(len + 1);

	return copy && len ? memcpy(copy, bytes, len) : copy;
}

_Static_assert(sizeof(struct ar_row) == 120, "rows are bytes of the manifest");
_Static_assert(offsetof(struct ar_row, size) == 24, "no padding in a row");
_Static_assert(offsetof(struct ar_row, mtime_n) == 72, "no padding in a row");
_Static_assert(offsetof(struct ar_row, acl_digest) == 112, "no padding in a row");
_Static_assert(sizeof(struct ar_page) == 160, "rows follow a page's header");

/* ------------------------------------------------------------------ root.c */

struct ar_root {
	int fd;			/* O_DIRECTORY, for reading where that is allowed */
	bool inside;		/* a destination: followed links must not lead out of it */
	bool has_openat2;
	uint64_t dev;		/* as ar_dev() packs it */
	uint64_t ino;
	struct ar_successors *successors;	/* of first names, see successor.h */
	struct ar_inodes *kept;	/* by first names, see check.c; NULL until needed */
	struct ar_inodes *claims;	/* old names of what is moved; NULL until needed */
	pthread_mutex_t claims_lock;
	struct ar_relocation *relocations;	/* directories that were renamed, the last first */
	atomic_bool has_no_clones;	/* its filesystem has said so */
};

struct ar_relocation {
	struct ar_relocation *next;
	size_t old_len, new_len;
	char paths[];		/* the old one and the new one */
};

/* a directory has been renamed by this run; -ENOMEM */
int ar_root_relocate(ar_root *root, const char *old, size_t old_len, const char *new,
		     size_t new_len);
/* where what was at the path is now; NULL: no directory of it was renamed, or no memory */
char *ar_root_relocated(ar_root *root, const char *path, size_t len, size_t *new_len);

/* 1: the entry at the path is moved by who asks, 0: another one was first; -ENOMEM */
int ar_root_claim(ar_root *root, const char *path, size_t len);
/* it is not moved after all */
void ar_root_release(ar_root *root, const char *path, size_t len);
bool ar_root_has_claim(ar_root *root, const char *path, size_t len);


/*
 * A path inside a root is a string of length len without a leading slash.  A
 * component that ends in a NUL byte is a symlink which an option told us to
 * follow: it, and nothing else, is followed.  Paths longer than PATH_MAX are
 * walked in pieces.  Never leaves the root otherwise (openat2 RESOLVE_BENEATH |
 * RESOLVE_NO_SYMLINKS, or a component-wise O_NOFOLLOW walk without openat2).  In
 * a destination (ar_scan_open says which it is) a followed link must lead to a
 * directory of the root, or the answer is -EXDEV.
 * flags: O_RDONLY | O_DIRECTORY or O_PATH ...  Returns a descriptor or -errno.
 */
int ar_open_beneath(const struct ar_root *root, const char *path, size_t len, int flags);

static inline uint64_t ar_dev(uint32_t major, uint32_t minor)
{
	return (uint64_t)major << 32 | minor;
}

static inline bool ar_is_device(uint8_t type)
{
	return type == DT_CHR || type == DT_BLK;
}

/* ----------------------------------------------------------------- batch.c */

/* a batch ends with the directory that reaches one of these */
#define AR_BATCH_ROWS 2048
#define AR_BATCH_BYTES (1u << 20)
#define AR_BATCH_DIRS 128

static inline struct ar_page *ar_src_page(const struct ar_batch *b, const struct ar_pair *p)
{
	return (struct ar_page *)(b->src + p->src_page);
}

static inline struct ar_page *ar_dst_page(const struct ar_batch *b, const struct ar_pair *p)
{
	return p->dst_page == AR_NO_PAGE ? NULL : (struct ar_page *)(b->dst + p->dst_page);
}

static inline struct ar_row *ar_rows(const struct ar_page *page)
{
	return (struct ar_row *)(page + 1);
}

/* whether the page is all of its directory */
static inline bool ar_is_whole(const struct ar_page *page)
{
	const uint32_t both = AR_PAGE_FIRST | AR_PAGE_LAST;

	return (page->flags & both) == both;
}

static inline const struct ar_row *ar_change_dst_row(const struct ar_batch *batch,
						     const struct ar_pair *pair,
						     const struct ar_change *change)
{
	const struct ar_page *page = ar_dst_page(batch, pair);

	return page && change->dst_row != AR_NONE ? &ar_rows(page)[change->dst_row] : NULL;
}

/*
 * The directory's path below the destination root.  It differs from the source
 * page's where links are followed on one side (-L, -k, -K); such a pair has a
 * destination page for its path alone, also when AR_PAIR_NEW says that nothing
 * is there.
 */
static inline const struct ar_page *ar_dst_path_page(const struct ar_batch *b,
						     const struct ar_pair *p)
{
	const struct ar_page *dst = ar_dst_page(b, p);

	return dst ? dst : ar_src_page(b, p);
}

/* names and link targets in an arena end in a NUL that their length leaves out */
static inline const char *ar_page_str(const struct ar_page *page, uint32_t off)
{
	return (const char *)page + off;
}

static inline const char *ar_row_name(const struct ar_page *page, const struct ar_row *row)
{
	return ar_page_str(page, row->name_off);
}

/* names as memcmp orders them, a prefix before what continues it */
static inline int ar_name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, AR_MIN(a_len, b_len));

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* the name on the source side; a single file may get another one at the destination */
static inline const char *ar_row_src_name(const struct ar_page *page, const struct ar_row *row)
{
	return ar_page_str(page, page->alias_len ? page->alias_off : row->name_off);
}

/* each grows its array and returns the new, zeroed element, NULL without memory */
struct ar_pair *ar_batch_add_pair(struct ar_batch *batch);
struct ar_change *ar_batch_add_change(struct ar_batch *batch);
struct ar_child *ar_batch_add_child(struct ar_batch *batch);
struct ar_chunks *ar_batch_add_chunks(struct ar_batch *batch);
int ar_batch_add_problem(struct ar_batch *batch, uint32_t pair, uint32_t row, int kind, int side,
			 int op, int err);
/* makes room for bytes more at the end of src (side 0) or dst (1), not yet counted */
uint8_t *ar_batch_reserve(struct ar_batch *batch, int side, size_t bytes);
/* the zeroed memory of so many rows more, NULL without memory */
struct ar_memory *ar_batch_add_memory(struct ar_batch *batch, uint32_t rows);
/* appends len bytes and a NUL to aux; offset or AR_NONE */
uint32_t ar_batch_add_aux(struct ar_batch *batch, const char *bytes, size_t len);
/* the same without the NUL, for what Python takes apart by lengths */
uint32_t ar_batch_put_aux(struct ar_batch *batch, const void *bytes, size_t len);

/* what the manifest knows of a source row of the pair, NULL where nothing was asked */
static inline const struct ar_memory *ar_memory_of(const struct ar_batch *batch,
						   const struct ar_pair *pair, uint32_t row)
{
	if (!batch->memory || pair->memory == AR_NO_PAGE)
		return NULL;
	return &batch->memory[pair->memory + row];
}

/* ---------------------------------------------------------------- chunks.c */

/* the hashes of a file of more than one chunk; -ENOMEM */
int ar_chunks_add(struct ar_batch *batch, uint32_t pair, uint32_t row, bool is_old,
		  const uint8_t *hashes, size_t count);
/* NULL: the batch has none */
const struct ar_chunks *ar_chunks_find(const struct ar_batch *batch, uint32_t pair, uint32_t row,
				       bool is_old);
/*
 * Says in kept which files of a destination's page have hashes of chunks: those whose
 * row knows them.  chunks: of each row those that are new, or NULL.
 */
int ar_chunks_keep(const struct ar_batch *batch, const struct ar_page *page,
		   const struct ar_known *known, const struct ar_chunks *const *chunks,
		   struct ar_batch *out, struct ar_kept *kept);

/* ------------------------------------------------------------------ want.c */

uint32_t ar_mapped_id(const struct ar_idmap *map, uint32_t count, uint32_t id);

/* ------------------------------------------------------------------- acl.c */

/*
 * Gives the entries of an ACL, as its xattr has them, the ids that they shall have at
 * the destination, and puts them in order.  What is no ACL stays as it is, and so
 * does everything without rules or where no map is for ACLs.
 */
void ar_acl_map(const struct ar_rules *rules, char *value, size_t len);

/* ------------------------------------------------------------------ diff.c */

/* the kinds that rsync tells apart: one entry can become another of its kind */
bool ar_same_kind(uint8_t src_type, uint8_t dst_type);
/*
 * Which of two mtimes is later, as memcmp says it: 0 where the rules take them for
 * equal, which they do by granules or within the window.
 */
int ar_compare_mtimes(const struct ar_rules *rules, int64_t a_s, uint32_t a_n, int64_t b_s,
		      uint32_t b_n);
/* whether the diff of two pages finds nothing to do but for directories and memory */
bool ar_pages_agree(const struct ar_rules *rules, const struct ar_page *src,
		    const struct ar_page *dst);
/*
 * The row of a name, NULL for none, where the names that are asked for rise: *at is
 * how far it has come.  page may be NULL.
 */
const struct ar_row *ar_row_from(const struct ar_page *page, uint32_t *at, const char *name,
				 size_t len);
/* index of the row with this name, AR_NONE if there is none; page may be NULL */
uint32_t ar_page_find(const struct ar_page *page, const char *name, size_t len);

/* ------------------------------------------------------------------ attr.c */

/*
 * Held from a chown, which takes setuid and setgid away, to the chmod that gives them
 * back, where the inode has further names and modes are not kept: the mode that the
 * scan sees of such a name is then the one that it shall have.
 */
extern pthread_mutex_t ar_mode_lock;

/* in which attributes, that the rules keep, two rows differ: AR_WHY_* */
uint32_t ar_attribute_why(const struct ar_rules *rules, const struct ar_row *src,
			  const struct ar_row *dst);

/* ----------------------------------------------------------------- moves.c */

struct ar_old_file {		/* before the path of WHY_MOVED: what is to be found there */
	struct ar_known known;
	uint64_t ino;
	uint64_t size;
	int64_t mtime_s, ctime_s;
	uint32_t mtime_n, ctime_n;
	uint32_t is_shared;	/* another file takes the name in the same batch */
	uint32_t stays;		/* under its name: the new one gets a clone */
};

static inline struct ar_old_file ar_old_file(const struct ar_batch *batch,
					     const struct ar_change *change)
{
	struct ar_old_file old;

	memcpy(&old, batch->aux + change->aux - sizeof(old), sizeof(old));
	return old;
}

/* a MOVE, or DATA that is cloned; or a CHECK that becomes one of them, where it is equal */
static inline bool ar_has_moved(const struct ar_change *change)
{
	return change->why & AR_WHY_MOVED;
}

static inline bool ar_is_clone(const struct ar_batch *batch, const struct ar_change *change)
{
	return ar_has_moved(change) && ar_old_file(batch, change).stays;
}

/* makes it what it was: a copy, whose old name is left to deletion */
void ar_move_undo(struct ar_batch *batch, struct ar_change *change);

/* ------------------------------------------------------------------ look.c */

enum ar_verdict { AR_LOOK_EQUAL, AR_LOOK_DIFFERENT, AR_LOOK_CHECK };

struct ar_look {
	enum ar_verdict verdict;
	uint32_t why;		/* of CHECK: AR_WHY_CTIME and the like; 0 for -c alone */
	uint8_t flags;		/* AR_CHANGE_KNOWS_*, whose hash it is */
	const uint8_t *hash;
};

/* AR_MEMORY_*: how a row was found again, without what the rules make nothing of */
uint8_t ar_look_moved(const struct ar_rules *rules, uint8_t state);

/* of two files of one size that the quick check calls equal, or -c leaves open; memory or NULL */
struct ar_look ar_look(const struct ar_rules *rules, const struct ar_memory *memory);

/* the source's recorded hash, where its stat says that nobody has written to it since; or NULL */
const uint8_t *ar_look_expected(const struct ar_rules *rules, const struct ar_memory *memory);

/* ----------------------------------------------------------------- xattr.c */

#define AR_XATTR_ALL 1		/* every namespace but system.*, else user.* only */
#define AR_XATTR_FOLLOW 2	/* a descriptor's own proc path, or a link to see through */
#define AR_XATTR_DST 4		/* of the destination: rules of the source's side do not count */

/* whether an attribute is one that -X keeps: not what stands for an ACL */
bool ar_xattr_in_scope(const char *name, uint32_t flags, const struct ar_filter_table *filter);

/*
 * Digests of the xattrs (sorted by name, those in scope) and of the POSIX ACLs
 * of a name in the directory dirfd, "." for itself, which may be O_PATH (not followed
 * unless AR_XATTR_FOLLOW says so), 0 for none; either pointer may be NULL.  The ACLs
 * are those that the rules make of them, with AR_XATTR_DST or without rules as they are.  A filesystem without
 * xattrs has none: no error.
 */
int ar_xattr_digest_at(int dirfd, const char *name, uint32_t flags,
		       const struct ar_rules *rules, uint64_t *xattrs, uint64_t *acls);

/* -------------------------------------------------------------- filter.c */

/* side: AR_FILTER_SENDER or _RECEIVER */
bool ar_filter_hides_xattr(const struct ar_filter_table *table, const char *name, uint32_t side);

/*
 * An entry as xattr calls can name it, whatever its type: "/proc/self/fd/<fd>" for
 * an open descriptor, ".../<name>" for a name in a directory.
 */
#define AR_PROC_PATH_MAX (sizeof("/proc/self/fd/4294967295/") + NAME_MAX)
void ar_proc_path(char *out, int fd, const char *name_or_null);

/* the pair's directory is to be made by a lane */
static inline bool ar_makes_dir(const struct ar_pair *pair)
{
	const uint32_t others = AR_PAIR_ROOT | AR_PAIR_NAMED | AR_PAIR_HELD;

	return (pair->flags & AR_PAIR_NEW) && !(pair->flags & others);
}

/* all lanes share the file, when the rest of its batch is done */
static inline bool ar_is_big(const struct ar_page *page, const struct ar_change *change)
{
	return (change->kind == AR_CHANGE_DATA || change->kind == AR_CHANGE_CHECK) &&
	       ar_rows(page)[change->src_row].size >= AR_BIG_BYTES;
}

#endif
