/*
 * arsync.h - the one interface between Python and the C of arsync.
 *
 * Everything between the two "cdef" marks is also what cffi reads, so it holds
 * plain declarations only.  What crosses this line is a batch of directories,
 * never a single file, except one of AR_BIG_BYTES or more: ar_lane_run leaves it,
 * and ar_big_* copies it with all lanes, stretch by stretch.
 *
 * A batch is the unit that walks through the stages:
 *
 *	ar_scan_*	fills its source and destination pages, pair by pair
 *	ar_diff		compares each pair and fills changes and children
 *	ar_later_add	takes out what must wait for the whole tree
 *	ar_lane_run	executes the changes and writes the outcome into them
 *
 * One thread owns a batch at a time.  Functions return 0 (or a count) or
 * -errno.  Trouble with one file is a problem in the batch, not a return value.
 */
#ifndef ARSYNC_H
#define ARSYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* cdef: begin */

#define AR_FORMAT 1		/* of rows and pages */
#define AR_PAGE_ROWS 1024	/* a longer directory is many pages */
#define AR_NONE 0xffffffff	/* no row, no change */
#define AR_NO_PAGE 0xffffffffffffffff
#define AR_HASH_CHUNK 4194304	/* a longer file's hash is one of chunk hashes */
#define AR_BIG_BYTES 33554432	/* from here on all lanes share a file */

/* ---------------------------------------------------------------- rows */

#define AR_ROW_MOUNT 1		/* on another filesystem than its directory */
#define AR_ROW_FOLLOWED 2	/* a symlink seen through: the rest is its target's */
#define AR_ROW_BAD 4		/* cannot be stat'ed; the batch holds the problem */
#define AR_ROW_SPARSE 8		/* a regular file with fewer blocks than its size needs */

struct ar_row {			/* one name as the scan sees it, 120 bytes */
	uint32_t name_off;	/* from the start of the page */
	uint16_t name_len;
	uint8_t type;		/* DT_REG, DT_DIR, DT_LNK, ... */
	uint8_t flags;		/* AR_ROW_* */
	uint32_t mode;		/* st_mode, type bits included */
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint64_t size;
	uint64_t ino;
	int64_t mtime_s;
	int64_t ctime_s;
	int64_t btime_s;	/* 0 where the filesystem has none */
	int64_t atime_s;	/* 0 unless asked for */
	uint32_t mtime_n;
	uint32_t ctime_n;
	uint32_t btime_n;
	uint32_t atime_n;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t link_off;	/* symlink target, from the start of the page */
	uint32_t link_len;
	uint64_t xattr_digest;	/* of names and values, 0: none, or not asked for */
	uint64_t acl_digest;	/* of access and default ACL, ids mapped; 0 likewise */
};

#define AR_PAGE_FIRST 1		/* begins its directory */
#define AR_PAGE_LAST 2		/* ends it */
#define AR_PAGE_PARTIAL 4	/* reading it failed: absent names mean nothing */

struct ar_page {		/* rows follow, then the arena of names, then the path */
	uint32_t format;	/* AR_FORMAT */
	uint32_t flags;		/* AR_PAGE_* */
	uint32_t row_count;
	uint32_t bytes;		/* of the whole page, a multiple of 8 */
	uint32_t path_off;	/* the directory below its root, "" for the root */
	uint32_t path_len;
	uint32_t alias_off;	/* the only row has this name on the source side */
	uint32_t alias_len;
	uint64_t dev;		/* of the directory, as st_dev packs it */
	struct ar_row self;	/* the directory's own row, without a name */
};

/* ------------------------------------------------------- pairs and changes */

#define AR_CHANGE_DATA 1	/* regular file: content and all that belongs to it */
#define AR_CHANGE_META 2	/* only mode, owner, times, xattrs, ACLs */
#define AR_CHANGE_SYMLINK 3
#define AR_CHANGE_SPECIAL 4	/* fifo, socket, device node */
#define AR_CHANGE_LINK 5	/* a further name of a file that has one here already */
#define AR_CHANGE_DIR 6		/* a pair's own directory */
#define AR_CHANGE_CHECK 7	/* regular file of one size: what it is needs a look at the content */
#define AR_CHANGE_NONE 8	/* left alone: NEW by --existing, NEWER, EXISTS, LARGE, SMALL */
#define AR_CHANGE_DELETE 9	/* dst_row alone: the source has nothing of this name */
#define AR_CHANGE_REMOVE 10	/* a name in the source: the destination has what it stands for */
#define AR_CHANGE_MOVE 11	/* regular file: it is under another name here; aux: that path */

#define AR_WHY_NEW 1		/* nothing of this name at the destination */
#define AR_WHY_TYPE 2		/* something of another type is */
#define AR_WHY_SIZE 4
#define AR_WHY_MTIME 8
#define AR_WHY_MODE 16
#define AR_WHY_UID 32
#define AR_WHY_GID 64
#define AR_WHY_ATIME 128
#define AR_WHY_XATTR 256
#define AR_WHY_ACL 512
#define AR_WHY_TARGET 1024	/* symlink target or device number */
#define AR_WHY_LINK 2048	/* linked to another file than at the source */
#define AR_WHY_CONTENT 4096	/* the data is to be written */
#define AR_WHY_CHECKSUM 8192	/* and it was looked at for that, or -c would have */
#define AR_WHY_CTIME 16384	/* why it is compared: ctime moved since it was recorded */
#define AR_WHY_INODE 32768	/* another inode than the one recorded */
#define AR_WHY_NEWER 65536	/* NONE: -u, it is newer at the destination */
#define AR_WHY_EXISTS 131072	/* NONE: --ignore-existing, beside what differs */
#define AR_WHY_RACY 262144	/* recorded in the same moment as it was written */
#define AR_WHY_EXTRA 524288	/* the source does not have it */
#define AR_WHY_LARGE 1048576	/* NONE: --max-size */
#define AR_WHY_SMALL 2097152	/* NONE: --min-size */
#define AR_WHY_COPIED 4194304	/* REMOVE: by this run or one before */
#define AR_WHY_MOVED 8388608	/* the source had the inode under another name, which aux is */

#define AR_STATE_PLANNED 0
#define AR_STATE_LATER 1	/* a hard link: waits until all first names are there */
#define AR_STATE_DONE 2
#define AR_STATE_FAILED 3	/* the batch holds the problem */
#define AR_STATE_SKIPPED 4	/* not tried: its directory failed, or the run stopped */
#define AR_STATE_BIG 5		/* left by ar_lane_run for ar_big_open */

#define AR_METHOD_NONE 0
#define AR_METHOD_REFLINK 1
#define AR_METHOD_COPY_RANGE 2
#define AR_METHOD_SPLICE 3
#define AR_METHOD_READ_WRITE 4
#define AR_METHOD_DIRECT 5

#define AR_CHANGE_HASHED 1	/* hash[] is of a consistent read */
#define AR_CHANGE_UNSTABLE 2	/* the source moved under two reads in a row */
#define AR_CHANGE_LEADER 4	/* other names will be linked to this one */
#define AR_CHANGE_KNOWS_SRC 8	/* CHECK: hash[] is the source's, only the other side is read */
#define AR_CHANGE_KNOWS_DST 16	/* CHECK: likewise the destination's */
#define AR_CHANGE_BACKED_UP 32	/* what it replaces has been kept */
#define AR_CHANGE_EXPECTS 64	/* hash[] was the source's when nobody had written to it since */
#define AR_CHANGE_PARTLY 128	/* chunks were left as they were recorded, and not read */

struct ar_change {
	uint32_t src_row;	/* in the pair's source page, AR_NONE: DIR, DELETE */
	uint32_t dst_row;	/* in its destination page, or AR_NONE */
	uint32_t why;		/* AR_WHY_* */
	uint8_t kind;		/* AR_CHANGE_* */
	uint8_t state;		/* AR_STATE_* */
	uint8_t method;		/* AR_METHOD_*: what moved the content */
	uint8_t flags;		/* AR_CHANGE_HASHED, ... */
	uint32_t aux;		/* LINK, WHY_MOVED: offset of the other name's path in batch->aux */
	uint32_t aux_len;
	uint64_t bytes;		/* of content written or shared */
	uint8_t hash[16];	/* XXH3-128, canonical byte order */
};

#define AR_PAIR_NEW 1		/* no such directory at the destination; of a root: made by this run */
#define AR_PAIR_REPLACE 2	/* and something else has its name there */
#define AR_PAIR_NAMED 4		/* only named entries: the directory itself is not ours */
#define AR_PAIR_SHALLOW 8	/* the directory only, not what is in it */
#define AR_PAIR_ROOT 16		/* both roots: there already, whatever the pages say */
#define AR_PAIR_FINISH 32	/* times and mode of a directory that is complete */
#define AR_PAIR_TOUCHED 64	/* work in it moves its mtime: finish it later */
#define AR_PAIR_FOLLOW 128	/* names that are links to directories stand for those */
#define AR_PAIR_IMPLIED 256	/* named by -R as a directory on the way: no rule hides it */
#define AR_PAIR_GIVEN 512	/* its own attributes are an earlier source's, and have been compared */
#define AR_PAIR_HELD 4096	/* its own change is elsewhere: it waits for entries (-m) */
#define AR_PAIR_BARE 2097152	/* the change of a HELD one: what comes into it is elsewhere */
#define AR_PAIR_EXTRA 1024	/* the destination page holds extras, the source page is a path */
#define AR_PAIR_KEPT 2048	/* of EXTRA: something else in the directory stays */
#define AR_PAIR_CARRIED 16384	/* of EXTRA: all in it goes with a directory above */
#define AR_PAIR_REMOVE 8192	/* names to be removed from the source */
#define AR_PAIR_CONVERGED 65536	/* both sides are as recorded, and were found equal then */
#define AR_PAIR_TRUSTED 524288	/* scanned, and the destination not looked at so far */
#define AR_PAIR_SOME 262144	/* only names that were asked for, whoever owns the directory */
#define AR_PAIR_AT_ONCE 1048576	/* NEW, and complete when it is closed: finished then, not later */
#define AR_PAIR_SAME_DST 131072	/* the destination's side is as recorded */

struct ar_pair {		/* one directory, or one page of it, on both sides */
	uint64_t src_page;	/* offset in batch->src */
	uint64_t dst_page;	/* offset in batch->dst, or AR_NO_PAGE */
	uint32_t change_first;
	uint32_t change_count;
	uint32_t flags;		/* AR_PAIR_* */
	uint32_t filter;	/* of the rules in force in it, as ar_scan_filter gave it */
	uint64_t directory;	/* id in the manifest, 0: it is not recorded */
	uint64_t dst_sum;	/* with SAME_DST: the record's checksum */
	uint64_t memory;	/* of its source rows, from here in batch->memory; or AR_NO_PAGE */
	struct ar_change self;	/* kind 0: nothing to do for the directory itself */
};

#define AR_KNOWN_HASHED 1	/* the hash is of the content that the row's stat describes */
#define AR_KNOWN_RACY 2		/* changed within the clock's granule before it was looked at */
#define AR_KNOWN_DIRTY 4	/* an update in place may have ended half-way */
#define AR_KNOWN_UNSTABLE 8	/* changed while it was read */
#define AR_KNOWN_VOLATILE 16	/* recorded before it was durable */
#define AR_KNOWN_CHUNKED 32	/* the hashes of its chunks are recorded, too */

struct ar_known {		/* what a scan cannot see of a row */
	uint8_t hash[16];	/* XXH3-128, canonical byte order */
	int64_t verified;	/* seconds since 1970, 0: never */
	uint8_t state;		/* AR_KNOWN_* */
	uint8_t reserved[7];
};

#define AR_MEMORY_RECORDED 1	/* a regular file, its size and mtime as recorded */
#define AR_MEMORY_CTIME 2	/* but not its ctime */
#define AR_MEMORY_INODE 4	/* it is another inode */

struct ar_memory {		/* what the manifest knows of a source row, on both sides */
	struct ar_known known[2];
	uint8_t state[2];	/* AR_MEMORY_*, 0: nothing */
	uint8_t is_same_file;	/* the source had this inode under this name, whatever is in it */
	uint8_t reserved[5];
};

struct ar_chunks {		/* the hashes of a file's chunks */
	uint32_t pair;
	uint32_t row;		/* in the pair's source page */
	uint32_t aux;		/* where they begin in batch->aux */
	uint32_t count;
	bool is_old;		/* of what the destination has there; else of what was read */
	uint8_t reserved[3];
};

#define AR_CHILD_DST_DIR 1	/* the destination has a directory of this name */
#define AR_CHILD_DST_OTHER 2	/* the destination has something else there */
#define AR_CHILD_SHALLOW 4	/* make it, do not enter it */
#define AR_CHILD_ASK 8		/* the scan stopped here for its filter rules */
#define AR_CHILD_EXTRA 16	/* only the destination has it: row is in that page */
#define AR_CHILD_BLOCKING 32	/* and it is in the way of something else of its name */

struct ar_child {		/* a directory to scan next */
	uint32_t pair;
	uint32_t row;		/* in the pair's source page */
	uint32_t flags;		/* AR_CHILD_* */
	uint32_t filter;	/* from ar_scan_filter; 0: what it inherits */
	uint32_t dst, dst_len;	/* in the batch's aux: where it is at the destination so far */
};

#define AR_PROBLEM_FAILED 1	/* some files not transferred: exit code 23 */
#define AR_PROBLEM_VANISHED 2	/* gone before it was read: exit code 24 */
#define AR_PROBLEM_CANNOT_HOLD 3 /* the destination cannot hold an attribute: summarised */
#define AR_PROBLEM_UNSTABLE 4	/* the file kept changing while it was read */
#define AR_PROBLEM_SKIPPED 5	/* a type that the options leave out */
#define AR_PROBLEM_LOOP 6	/* a directory that contains itself */
#define AR_PROBLEM_UNSAFE 7	/* a link out of the tree, ignored (--safe-links) */
#define AR_PROBLEM_KEPT 8	/* an extra that cannot go: not empty, a mount point, not the same */
#define AR_PROBLEM_CHANGED 9	/* since it was copied: not removed from the source */

struct ar_problem {
	uint32_t pair;
	uint32_t row;		/* in the source page, of EXTRA in the other; AR_NONE: itself */
	uint16_t op;		/* AR_OP_*: what failed */
	uint8_t kind;		/* AR_PROBLEM_* */
	uint8_t side;		/* 0 source, 1 destination */
	int32_t err;		/* errno, positive */
};

struct ar_tally {		/* counters; each has one writing thread */
	uint64_t found_files;	/* scan: regular files in the source */
	uint64_t found_dirs;
	uint64_t found_symlinks;
	uint64_t found_devices;
	uint64_t found_specials;	/* fifos and sockets */
	uint64_t found_bytes;
	uint64_t found_dst;	/* names in directories of the destination, to delete in */
	uint64_t plan_files;	/* diff, and lanes after a check: content is to be copied */
	uint64_t plan_bytes;
	uint64_t plan_metas;	/* names of which only attributes change */
	uint64_t plan_checks;	/* regular files whose content is to be compared */
	uint64_t plan_check_bytes;
	uint64_t plan_moves;	/* files that are under another name at the destination */
	uint64_t plan_clones;	/* of plan_files: that name stays, and what it has is shared */
	uint64_t new_files;	/* of what is planned: not at the destination yet */
	uint64_t new_dirs;
	uint64_t new_symlinks;
	uint64_t new_devices;
	uint64_t new_specials;
	uint64_t extra_files;	/* to be deleted, known when all are */
	uint64_t extra_dirs;
	uint64_t extra_symlinks;
	uint64_t extra_devices;
	uint64_t extra_specials;
	uint64_t done_files;	/* lanes: with content */
	uint64_t done_dirs;
	uint64_t done_symlinks;
	uint64_t done_specials;	/* devices too */
	uint64_t done_links;
	uint64_t done_metas;
	uint64_t done_moves;
	uint64_t done_clones;	/* of done_files */
	uint64_t checked_files;	/* compared, whatever came out */
	uint64_t checked_bytes;	/* of them, each once, as they pass */
	uint64_t deleted_files;
	uint64_t deleted_dirs;
	uint64_t deleted_symlinks;
	uint64_t deleted_devices;
	uint64_t deleted_specials;
	uint64_t done_bytes;	/* of their content, holes left out */
	uint64_t hole_bytes;	/* in them, not written */
	uint64_t matched_bytes;	/* of done_bytes, not written: the old file had them */
	uint64_t moved_bytes;	/* as they pass, holes too, whatever becomes of the file */
	uint64_t in_flight;	/* files being read now */
	uint64_t retries;	/* transient errors tried again */
	uint64_t rereads;	/* files that changed under the first read */
	uint64_t failed;
	uint64_t punted;	/* reads that had to wait for the device */
	uint64_t method_files[6];	/* by AR_METHOD_* */
	uint64_t method_bytes[6];
};

typedef struct ar_root ar_root;

struct ar_batch {
	uint8_t *src;			/* source pages, back to back */
	uint8_t *dst;			/* destination pages: names the source has, too */
	uint8_t *aux;			/* paths of first names, NUL-terminated; hashes of chunks */
	struct ar_pair *pairs;
	struct ar_change *changes;
	struct ar_child *children;
	struct ar_problem *problems;
	struct ar_memory *memory;	/* one a source row of each pair that is not CONVERGED */
	struct ar_chunks *chunks;	/* of a few of its files */
	uint64_t memory_count, memory_room;	/* room in bytes */
	uint64_t src_bytes, src_room;
	uint64_t dst_bytes, dst_room;
	uint64_t aux_bytes, aux_room;
	uint32_t pair_count, pair_room;
	uint32_t change_count, change_room;
	uint32_t child_count, child_room;
	uint32_t problem_count, problem_room;
	uint32_t chunks_count, chunks_room;
	uint32_t big_count;		/* changes that ar_lane_run left as AR_STATE_BIG */
	uint32_t blocking_count;	/* children that are AR_CHILD_BLOCKING */
	int64_t scanned_ns;		/* when the first of its directories was, since 1970 */
	uint64_t waits;			/* how often its scan slept: for what was not in memory */
	ar_root *src_root;		/* set by whoever fills the batch */
	ar_root *dst_root;
	struct ar_tally tally;		/* of the scan and the diff of this batch */
};

struct ar_batch *ar_batch_new(void);	/* NULL: out of memory */
void ar_batch_clear(struct ar_batch *batch);	/* keeps what it allocated */
void ar_batch_free(struct ar_batch *batch);
void ar_tally_add(struct ar_tally *sum, const struct ar_tally *part);	/* from any thread */

/* ---------------------------------------------------------------- policy */

#define AR_KEEP_PERMS 1
#define AR_KEEP_OWNER 2
#define AR_KEEP_GROUP 4
#define AR_KEEP_TIMES 8
#define AR_KEEP_LINKS 16	/* symlinks */
#define AR_KEEP_DEVICES 32
#define AR_KEEP_SPECIALS 64
#define AR_KEEP_ACLS 256
#define AR_KEEP_XATTRS 512
#define AR_KEEP_ATIMES 1024
#define AR_KEEP_DIRS 2048	/* -r or -d: directories are made at all */
#define AR_OMIT_DIR_TIMES 4096
#define AR_OMIT_LINK_TIMES 8192
#define AR_AS_ROOT 16384	/* chown, trusted.* and device nodes may be tried */
#define AR_MAP_ACL_USERS 32768	/* uidmap is for the ids in ACLs, too */
#define AR_MAP_ACL_GROUPS 65536
#define AR_MAKE_WAY 131072	/* directories give way to what is none, when they are empty */

#define AR_UPDATE_OLDER 1	/* -u: what is newer at the destination stays */
#define AR_UPDATE_ALWAYS 2	/* -I: equal times prove nothing */
#define AR_UPDATE_SIZE_ONLY 4
#define AR_UPDATE_EXISTING 8	/* nothing new is made */
#define AR_UPDATE_MISSING 16	/* --ignore-existing: only directories are looked at */
#define AR_UPDATE_CONTENT 32	/* -c: times say nothing, files of one size are compared */
#define AR_UPDATE_IGNORE_CTIME 64	/* a ctime that moved is no reason to read a file */
#define AR_UPDATE_IGNORE_INODE 128
#define AR_UPDATE_REHASH 256	/* no recorded hash counts */

struct ar_idmap {		/* the first one that holds the id wins */
	uint32_t lo;
	uint32_t hi;
	uint32_t to;
};

#define AR_CHMOD_DIRS 1
#define AR_CHMOD_FILES 2
#define AR_CHMOD_X 4		/* or_mode's x bits only where some x is set, or for directories */
#define AR_CHMOD_COPY 8		/* copy_from's bits spread to copy_to */

struct ar_chmod {		/* mode = mode & and_mode | or_mode, in the order given */
	uint32_t flags;		/* AR_CHMOD_* */
	uint32_t and_mode;
	uint32_t or_mode;
	uint32_t copy_from;	/* shift of the class copied from: 6 u, 3 g, 0 o */
	uint32_t copy_to;	/* mask of class bits copied to, such as 0770 */
	uint32_t copy_minus;	/* 1: take the bits away rather than add them */
};

struct ar_filter_table;

struct ar_rules {		/* what decides equality, and what is set */
	uint32_t keep;		/* AR_KEEP_* and the like */
	uint32_t update;	/* AR_UPDATE_* */
	uint32_t umask;
	uint32_t window_s;	/* times that differ by no more are equal; 0: granules decide */
	int64_t granule_ns;	/* times are compared in units of this, at least 1 */
	uint64_t min_size;	/* of regular files; others are left alone */
	uint64_t max_size;
	uint32_t group_count;	/* AR_NONE: any group may be set, else those listed */
	uint32_t uidmap_count;
	uint32_t gidmap_count;
	uint32_t chmod_count;
	const uint32_t *groups;
	const struct ar_idmap *uidmap;
	const struct ar_idmap *gidmap;
	const struct ar_chmod *chmods;
	const struct ar_filter_table *xattr_filter;	/* for names of xattrs, or NULL */
};

/* ------------------------------------------------------------------ scan */

#define AR_SCAN_XDEV 1
#define AR_SCAN_ATIME 2
#define AR_SCAN_XATTR 4
#define AR_SCAN_ACL 8
#define AR_SCAN_COPY_LINKS 16		/* -L */
#define AR_SCAN_COPY_DIRLINKS 32	/* -k */
#define AR_SCAN_COPY_UNSAFE 64		/* --copy-unsafe-links */
#define AR_SCAN_SAFE 128		/* --safe-links */
#define AR_SCAN_KEEP_DIRLINKS 256	/* -K, the destination's side */
#define AR_SCAN_RECURSE 512
#define AR_SCAN_SKIP_MOUNTS 1024	/* -xx: not even the mount point */
#define AR_SCAN_ALL_XATTRS 2048		/* as root: every name but system.* */
#define AR_SCAN_DRY_RUN 4096		/* what an earlier source gives is not there */
#define AR_SCAN_NEW_ROOT 8192		/* the run has made the destination */
#define AR_SCAN_OLD_MODES 16384		/* entries of the destination keep their modes */
#define AR_SCAN_LET_IN 32768		/* destination directories that shut their owner out */
#define AR_SCAN_DELETE 65536		/* find what only the destination has */
#define AR_SCAN_RELATIVE 131072		/* -R: links on the way to a source are followed */

#define AR_FILTER_INCLUDE 1
#define AR_FILTER_NEGATE 2
#define AR_FILTER_ONLY_DIRS 4	/* the pattern ended in a slash */
#define AR_FILTER_CONTENT 8	/* it ends in three stars */
#define AR_FILTER_PERISHABLE 16
#define AR_FILTER_SENDER 32	/* hides from the transfer */
#define AR_FILTER_RECEIVER 64	/* protects from deletion */

#define AR_FILTER_EQUAL 0
#define AR_FILTER_SUFFIX 1
#define AR_FILTER_PREFIX 2
#define AR_FILTER_COMPONENTS 3	/* the last components */
#define AR_FILTER_ANY 4
#define AR_FILTER_WILD 5

#define AR_FILTER_NAME 0	/* the last component */
#define AR_FILTER_PATH 1	/* from the root of the transfer */
#define AR_FILTER_SLASHED 2	/* with the slash before that */
#define AR_FILTER_FULL 3	/* from the first slash of all, left out */
#define AR_FILTER_BELOW 4	/* from the directory of the rule's merge file */

struct ar_filter_rule {
	uint32_t flags;		/* AR_FILTER_INCLUDE, ... */
	uint16_t how;		/* AR_FILTER_EQUAL, ...: how it is compared */
	uint16_t scope;		/* AR_FILTER_NAME, ...: with what */
	int32_t where;		/* WILD: 0 at the start, -1 after any slash, n last components */
	uint32_t start;		/* BELOW: what is cut off the absolute path */
	uint32_t text_off;	/* ends in a NUL */
	uint32_t text_len;
	uint32_t tail_len;	/* WILD: of its end that is literal */
	uint32_t head_len;	/* WILD at the start: of its beginning that is literal */
};

#define AR_FILTER_ASK_ALWAYS 1	/* for each directory entered with this table */

struct ar_filter_table {	/* the rules in force in a directory */
	const struct ar_filter_rule *rules;
	const char *text;
	const char *root;	/* of the transfer, absolute, with a slash at its end */
	const char *merges;	/* names of merge files, NUL-terminated each */
	uint64_t text_len;
	uint64_t root_len;
	uint64_t merges_len;
	uint32_t count;
	uint32_t flags;		/* AR_FILTER_ASK_ALWAYS */
	uint32_t heir;		/* for directories without a merge file; AR_NONE: this one */
	uint32_t reserved;
};

#define AR_FILTER_SHOWN 1
#define AR_FILTER_HIDDEN 2
#define AR_FILTER_NO_RULE 3

/*
 * Which rule decides: AR_FILTER_SHOWN, ...  asked: AR_FILTER_SENDER or _RECEIVER, with
 * AR_FILTER_PERISHABLE in a directory that is being deleted, where such rules do not count.
 */
int ar_filter_check(const struct ar_filter_table *table, const char *path, size_t path_len,
		    bool is_dir, uint32_t asked);

typedef struct ar_scan ar_scan;
typedef struct ar_dir ar_dir;		/* a directory of more rows than a page */

#define AR_ROOT_CREATE 1		/* make the last component when it is missing */

int ar_root_open(const char *path, uint32_t flags, ar_root **out);
int ar_root_fd(const ar_root *root);
/* waits until all that was written to the filesystem is on its disk */
int ar_root_sync(const ar_root *root);
void ar_root_close(ar_root *root);

/* dst may be NULL: nothing is there yet */
int ar_scan_open(ar_root *src, ar_root *dst, uint32_t flags, ar_scan **out);
void ar_scan_close(ar_scan *scan);
/* source ACLs are compared as the rules map their ids; call it before the first scan */
void ar_scan_map_acls(ar_scan *scan, const struct ar_rules *rules);
/*
 * A source copied before this one, of it these paths, NUL-separated, or (none) all;
 * a path of -R with a slash at its end leads through a symlink.  gives_root: the
 * destination's root has its attributes.
 */
int ar_scan_earlier(ar_scan *scan, ar_root *root, const char *paths, size_t paths_len,
		    bool gives_root);
/* a source copied after this one, likewise: what it has is no extra */
int ar_scan_further(ar_scan *scan, ar_root *root, const char *paths, size_t paths_len);
/* a path below the destination's root that is no extra, whenever it is made: arsync's own */
int ar_scan_spare(ar_scan *scan, const char *path, size_t path_len);
/* a directory, wherever it is found, that is neither copied nor deleted: -ENOSPC after a few */
int ar_scan_hide(ar_scan *scan, uint64_t dev, uint64_t ino);
/* leaves it to ar_recall to look at directories of the destination */
void ar_scan_trust(ar_scan *scan);
/* copies a table; its id.  The first is for names, and for what is entered from them */
int ar_scan_filter(ar_scan *scan, const struct ar_filter_table *table);
/* the table of the root itself */
void ar_scan_filter_root(ar_scan *scan, uint32_t id);
/*
 * The directory path with only these names, NUL-separated; pair_flags AR_PAIR_*, of
 * which ROOT says that the root itself is meant, too.
 */
int ar_scan_names(ar_scan *scan, const char *path, size_t path_len, const char *names,
		  size_t names_len, const char *alias, uint32_t pair_flags,
		  struct ar_batch *out);
/* the root directory itself */
int ar_scan_root(ar_scan *scan, struct ar_batch *out, ar_dir **more);
/*
 * Children first.. of a diffed batch; returns how many were scanned.  The scan stops
 * before one with a merge file, 0 if it is the first, and marks it AR_CHILD_ASK: when
 * its filter is set it can go on.
 */
int ar_scan_children(ar_scan *scan, const struct ar_batch *parent, uint32_t first,
		     uint32_t count, struct ar_batch *out, ar_dir **more);
/* the next page; 1 when another one follows */
int ar_scan_more(ar_scan *scan, ar_dir *dir, struct ar_batch *out);
void ar_dir_close(ar_dir *dir);

int ar_diff(struct ar_batch *batch, const struct ar_rules *rules);

#define AR_PRUNE_FULL 0		/* something that is no directory is in it */
#define AR_PRUNE_BARE 1
#define AR_PRUNE_NEITHER 2	/* no directory of ours, or not its first page, and nothing in it */

/* what each pair of a diffed batch is; found has room for all */
void ar_prune_look(const struct ar_batch *batch, uint8_t *found);
/* moves the pair's own change to out, which is empty; what is left is AR_PAIR_HELD */
int ar_prune_hold(struct ar_batch *batch, uint32_t pair, struct ar_batch *out);

struct ar_want {		/* the attributes that a destination entry shall have */
	uint32_t mode;		/* permission bits, 07777 */
	uint32_t uid;
	uint32_t gid;
	bool set_mode;		/* false: whatever creation or the old file gives */
	bool set_uid;
	bool set_gid;
	bool set_mtime;
	bool set_atime;
};

/* dst NULL: the entry is new, which it also is when dst is of another kind */
void ar_want(const struct ar_rules *rules, const struct ar_row *src, const struct ar_row *dst,
	     struct ar_want *want);

/* --------------------------------------------- what waits for the whole tree */

typedef struct ar_later ar_later;

#define AR_LATER_LINKS 1
#define AR_LATER_DIRS 2
#define AR_LATER_EXTRAS 3
#define AR_LATER_SOURCES 4	/* takes batches that are done: what may leave the source */
#define AR_LATER_PLANNED_SOURCES 5	/* those of a dry run: what would */
#define AR_LATER_ALL_DIRS 6	/* DIRS where backups may come into any: no AR_PAIR_AT_ONCE */

#define AR_EXTRAS_FILES 1	/* all but directories */
#define AR_EXTRAS_DIRS 2	/* directories, those in others first */
#define AR_EXTRAS_WHOLE 3	/* what is moved; a directory that goes with all that is in it */
#define AR_EXTRAS_CARRIED 4	/* and what has gone with one: AR_PAIR_CARRIED */

/* records go to spool_fd, an unlinked file that the caller keeps open */
int ar_later_open(int spool_fd, uint32_t what, ar_later **out);
int ar_later_add(ar_later *later, struct ar_batch *batch);
/* 1 when the batch was filled, 0 at the end */
int ar_later_next(ar_later *later, struct ar_batch *out);
uint64_t ar_later_count(const ar_later *later);
/*
 * EXTRAS, when all are added and before a pass: adds to the extra_* of sum what can go.
 * backups_stay: each file leaves a backup in its directory, which that one is kept for.
 */
int ar_later_settle(ar_later *later, bool backups_stay, struct ar_tally *sum);
/* ar_later_next gives these (AR_EXTRAS_*) from the start */
void ar_later_pass(ar_later *later, uint32_t what);
void ar_later_close(ar_later *later);

/* ----------------------------------------------------------------- execute */

#define AR_ENGINE_URING 1
#define AR_ENGINE_SYNC 2

#define AR_LANE_INPLACE 1
#define AR_LANE_SPARSE 2	/* -S: runs of zeros become holes */
#define AR_LANE_PREALLOCATE 4
#define AR_LANE_REFLINK 8	/* --reflink auto or always */
#define AR_LANE_REFLINK_ALWAYS 16	/* a file that cannot be shared fails */
#define AR_LANE_DRY_RUN 32	/* contents are compared, nothing else is done */
#define AR_LANE_UPDATE 64	/* of a big file that is replaced only chunks that differ are written */

typedef struct ar_backup ar_backup;

/* dir "": beside what is kept, else a path that is made when it is first needed */
int ar_backup_open(const char *dir, const char *suffix, ar_backup **out);
void ar_backup_close(ar_backup *backup);

struct ar_lane_config {
	uint32_t engine;	/* AR_ENGINE_* */
	uint32_t flags;		/* AR_LANE_* */
	uint32_t queue_depth;	/* 1 to 32768 */
	uint32_t files_in_flight;
	uint32_t method;	/* AR_METHOD_*: what moves a file's content */
	uint32_t big_method;	/* the same from AR_BIG_BYTES on */
	uint32_t lane;		/* number of this lane, part of its temporary names */
	uint64_t buffer_bytes;	/* of one buffer, a multiple of 4096 */
	uint64_t memory_bytes;	/* of all buffers of this lane */
	char run[25];		/* 24 hex digits: names are .arsync.<run>.<lane>-<n> */
	int temp_dir_fd;	/* -1: temporary files beside their targets */
	const struct ar_rules *rules;
	struct ar_limit *limit;	/* shared by all lanes, or NULL */
	ar_backup *backup;	/* the same */
	ar_backup *trash;	/* where what is deleted goes, or NULL */
};

struct ar_limit {		/* --bwlimit: a token bucket that all lanes draw from */
	uint64_t bytes_per_s;
	int64_t next_ns;
};

typedef struct ar_lane ar_lane;
typedef struct ar_big ar_big;

int ar_lane_open(const struct ar_lane_config *config, ar_lane **out);
void ar_lane_close(ar_lane *lane);
/* -EINTR: stopped by ar_lane_stop; -ENOSPC and the like: the run cannot go on */
int ar_lane_run(ar_lane *lane, struct ar_batch *batch);
void ar_lane_stop(ar_lane *lane);	/* from any thread */
const struct ar_tally *ar_lane_tally(const ar_lane *lane);

/* a big file: open on one lane, chunks on all, close on one; 1 from close: copy it again */
int ar_big_open(ar_lane *lane, struct ar_batch *batch, uint32_t pair, uint32_t change,
		ar_big **out);
uint64_t ar_big_bytes(const ar_big *big);	/* still to be copied: 0 after a reflink */
int ar_big_copy(ar_lane *lane, ar_big *big, uint64_t offset, uint64_t length);
int ar_big_close(ar_lane *lane, ar_big *big, int keep);

/* ------------------------------------------------- operations and failpoints */

#define AR_OP_NONE 0
#define AR_OP_OPEN_FILE 1	/* open a source file */
#define AR_OP_OPEN_DIR 2
#define AR_OP_READ_DIR 3
#define AR_OP_STAT 4
#define AR_OP_READLINK 5
#define AR_OP_LIST_XATTR 6
#define AR_OP_GET_XATTR 7
#define AR_OP_READ 8
#define AR_OP_SEEK 9
#define AR_OP_CREATE 10
#define AR_OP_WRITE 11
#define AR_OP_TRUNCATE 12
#define AR_OP_ALLOCATE 13
#define AR_OP_REFLINK 14
#define AR_OP_COPY_RANGE 15
#define AR_OP_SPLICE 16
#define AR_OP_CHOWN 17
#define AR_OP_CHMOD 18
#define AR_OP_UTIMES 19
#define AR_OP_SET_XATTR 20
#define AR_OP_REMOVE_XATTR 21
#define AR_OP_SET_ACL 22
#define AR_OP_RENAME 23
#define AR_OP_LINK 24
#define AR_OP_SYMLINK 25
#define AR_OP_MKNOD 26
#define AR_OP_MKDIR 27
#define AR_OP_UNLINK 28
#define AR_OP_RMDIR 29
#define AR_OP_OPEN_TARGET 30	/* open what is at the destination already */
#define AR_OP_RING_SETUP 31
#define AR_OP_RING_SUBMIT 32
#define AR_OP_MEMORY 33
#define AR_OP_SPOOL 34
#define AR_OP_BACKUP 35
#define AR_OP_SYNC 36
#define AR_OP_BURY 37	/* move to the trash */
#define AR_OP_VERIFY 38	/* find the content that is recorded */
#define AR_OP_COUNT 39

#define AR_FAULT_ERROR 1	/* value: the errno to return */
#define AR_FAULT_SHORT 2	/* value: the most bytes to pass on */
#define AR_FAULT_PAUSE 3	/* stop there until ar_fault_resume */
#define AR_FAULT_KILL 4		/* SIGKILL to the process */
#define AR_FAULT_TRACE 5	/* count only */

/* at the op's passes skip+1 .. skip+count do the action */
int ar_fault_set(int op, uint32_t skip, uint32_t count, int action, int64_t value);
void ar_fault_clear(void);
uint64_t ar_fault_passes(int op);	/* since ar_fault_set of any op */
int ar_fault_wait(int op, int timeout_ms);	/* until a thread is paused there */
void ar_fault_resume(void);

/* ---------------------------------------------------------------- manifest */

#define AR_RECORD_FIRST 1	/* begins its directory: its own row is row 0 */
#define AR_RECORD_LAST 2
#define AR_RECORD_CONVERGED 4
#define AR_RECORD_MOST_BYTES 33554432	/* of one record */

struct ar_recorded {		/* a page and the bytes that the manifest has of it */
	uint64_t page;		/* offset in the batch's pages of its side */
	const uint8_t *bytes;
	uint64_t len;
	uint64_t directory;	/* id */
	uint32_t tree;
	uint32_t flags;		/* AR_RECORD_* */
	uint64_t equality;	/* with CONVERGED */
	uint64_t partner;
	struct ar_known *known;	/* one a row of the record; packing takes NULL for none */
	const char *path;	/* unpacking: of the directory */
	uint32_t path_len;
	uint32_t rows;		/* of the record */
	int32_t result;		/* of each call: see there */
	uint32_t aux;		/* packing: offset of the bytes in out->aux */
};

/* records are made of pages and kept in out->aux; bytes and len say where.  result: 0 or
   -EINVAL for a page that has no valid record, which then has no bytes */
int ar_records_pack(const struct ar_batch *batch, int side, struct ar_recorded *records,
		    uint32_t count, struct ar_batch *out);
/* result: 1 the scan sees what is recorded, 0 something else, -EBADMSG a damaged record */
int ar_records_compare(const struct ar_batch *batch, int side, struct ar_recorded *records,
		       uint32_t count);
/* checks everything; fills flags, equality, partner and rows.  result: 0 or -EBADMSG */
int ar_records_check(struct ar_recorded *records, uint32_t count);
/* the same, and makes pages of them at the end of a side; known is filled unless NULL
   and must have room for 1025 rows */
int ar_records_unpack(struct ar_recorded *records, uint32_t count, struct ar_batch *out, int side);

struct ar_chains {		/* records of the directories of a batch's pairs, in their order */
	const uint8_t *bytes;	/* back to back */
	const uint64_t *lens;	/* of each record */
	const uint32_t *counts;	/* of each pair's records */
	uint32_t tree;
	uint32_t reserved;
};

/*
 * The manifest's keys (parent's id, big-endian, and name) of the children that became
 * the source's pairs of a batch from first_pair on, each after its length (u32).  Children
 * from first on that the source does not have are passed over.  Room for
 * AR_KEY_BYTES a pair; returns how many bytes there are.
 */
#define AR_KEY_BYTES 267
int ar_child_keys(const struct ar_batch *parent, uint32_t first, const struct ar_batch *batch,
		  uint32_t first_pair, uint8_t *keys);
/*
 * Says which directories the pairs from one on are: an id for each that the source has,
 * the last one for all that follow.  A pair of extras is of the directory before it.
 */
void ar_identify(struct ar_batch *batch, uint32_t first_pair, const uint64_t *ids, uint32_t count);
/* the first pair from one on that is not all of its directory; pair_count: there is none */
uint32_t ar_next_part(const struct ar_batch *batch, uint32_t pair);
/* sides 0 and 1: fills in what is known of a scanned batch before it is compared; of a
   TRUSTED pair that has converged the destination's page is what is recorded.
   -EBADMSG: a record is damaged */
int ar_recall(ar_scan *scan, struct ar_batch *batch, const struct ar_chains *sides,
	      uint64_t equality);

/*
 * The big files of a compared batch that replace one whose chunk hashes are recorded:
 * of each pair, row and length of its name (u32 each) and the name, in out->aux.
 */
int ar_chunks_wanted(const struct ar_batch *batch, struct ar_batch *out);
/* the recorded list of one of them; what is not the preimage of its hash is not taken */
int ar_chunks_give(struct ar_batch *batch, uint32_t pair, uint32_t row, const uint8_t *hashes,
		   size_t bytes);

struct ar_kept {		/* a page for the manifest; offsets are in out->aux */
	uint64_t directory;
	uint32_t tree;
	uint32_t flags;		/* AR_RECORD_*; CONVERGED: it is recorded like this already */
	uint32_t key, key_len;	/* its first name, "" with FIRST */
	uint32_t data, data_len;	/* 0: no row is left of it */
	/* destination: of each file whose chunk hashes are to be there the lengths of its name
	   and of them (u32 each), the name, and what is new of them, all or none */
	uint32_t chunks, chunks_len;
};

struct ar_keeping {		/* how rows are recorded */
	uint32_t tree;		/* of the source */
	uint32_t dst_tree;	/* of the destination as that source's runs leave it */
	uint64_t equality;
	int64_t now;		/* for what was hashed now, in seconds since 1970 */
	int64_t granule_ns;	/* of ctimes; 0: no two changes have the same */
	const struct ar_rules *rules;
};

/* how many pairs ar_settle would look at: none where all has converged */
uint32_t ar_unsettled(const struct ar_batch *batch);
/*
 * Pages of what an executed batch left behind, two a directory at most: entries that
 * changed are looked at again.  Room for twice ar_unsettled; returns how many.
 */
int ar_settle(ar_scan *scan, const struct ar_batch *batch, const struct ar_keeping *keeping,
	      struct ar_batch *out, struct ar_kept *kept);
/*
 * The same for directories that are complete: a batch of AR_LATER_DIRS, with what was
 * recorded of each.  Looks again at the directory itself, at its directories and at what
 * has several names.  Room for as many as there are records.
 */
int ar_refresh(ar_scan *scan, const struct ar_batch *batch, const struct ar_chains *sides,
	       const struct ar_keeping *keeping, struct ar_batch *out, struct ar_kept *kept);

/* ------------------------------------------------------------------ moves */

typedef struct ar_past ar_past;		/* where each inode of a source was when it was recorded */
typedef struct ar_moves ar_moves;	/* names of a batch that may be files of the past */

/* fd: of an unlinked file that the caller keeps open */
int ar_past_open(int fd, ar_past **out);
/* pages of the source; -EBADMSG: a record is damaged */
int ar_past_add_pages(ar_past *past, struct ar_recorded *records, uint32_t count);
int ar_past_add_directory(ar_past *past, uint64_t id, uint64_t above, const char *name,
			  uint32_t name_len);
/* all is added; from now on any thread may look */
int ar_past_seal(ar_past *past);
void ar_past_close(ar_past *past);

struct ar_wanted {		/* of which directory what is recorded is wanted */
	uint64_t directory;
	const char *first;	/* names, from one to the other */
	const char *last;
	uint32_t first_len, last_len;
};

#define AR_MOVING_DELETES 1	/* what the source does not have is deleted */
#define AR_MOVING_BACKS_UP 2	/* what is replaced is kept */
#define AR_MOVING_IN_PLACE 4	/* what is replaced is written into */
#define AR_MOVING_KEEPS_TIMES 8	/* of directories */
#define AR_MOVING_CLONES 16	/* what stays may be cloned at the destination */

struct ar_moving {		/* when an old name may go */
	uint32_t flags;		/* AR_MOVING_* */
	uint32_t starts_len;
	const char *starts;	/* NUL-separated paths below which it deletes; (none) everything */
};

/* changes of a compared batch that are worth a look */
uint32_t ar_moves_possible(const struct ar_batch *batch);
/* root: id of the directory that the scan's roots are */
int ar_moves_look(ar_scan *scan, const ar_past *past, struct ar_batch *batch, uint64_t root,
		  ar_moves **out);
/* by their ids; what first and last are stays until ar_moves_free */
uint32_t ar_moves_wanted(const ar_moves *moves, const struct ar_wanted **out);
/* makes AR_CHANGE_MOVE, or clones, of what can be; sides: what is recorded of each wanted one */
int ar_moves_mark(ar_moves *moves, const struct ar_chains *sides, const struct ar_rules *rules,
		  const struct ar_moving *how);
void ar_moves_free(ar_moves *moves);
/* new directories of a compared batch that are worth a look */
uint32_t ar_resettlings_possible(const ar_scan *scan, const struct ar_batch *batch);
/*
 * Renames directories that the destination has under another name, before they are scanned.
 * out->aux gets, of each, the old parent's id (u64) and name, the new ones, and 0 and the
 * path at which it is now; a length (u32) stands before each name.
 */
int ar_moves_resettle(ar_scan *scan, const ar_past *past, struct ar_batch *batch, uint64_t root,
		      const struct ar_moving *how, struct ar_batch *out);
/* a directory is at this path now, and with it what is below it */
int ar_past_relocate(ar_past *past, uint64_t directory, const char *path, size_t len);

/* ------------------------------------------------------------------- probe */

#define AR_RING_COOP_TASKRUN 1
#define AR_RING_SINGLE_ISSUER 2
#define AR_RING_DEFER_TASKRUN 4

struct ar_ring_facts {		/* what the kernel lets this process have of io_uring */
	int32_t err;		/* why there is no ring (positive errno), else 0 */
	uint32_t flags;		/* AR_RING_*: accepted together */
	uint32_t features;	/* IORING_FEAT_* */
	uint32_t op_count;	/* entries of ops that the kernel filled */
	uint32_t depth;		/* largest number of entries, 0: not tried */
	int32_t depth_err;	/* why not twice as many */
	uint64_t buffer_bytes;	/* most that could be registered, 0: not tried */
	int32_t buffer_err;	/* why not all that was tried */
	uint32_t reserved;
	uint8_t ops[256];	/* 1: the kernel has the operation of this number */
};

/* buffer_bytes 0: only what start-up needs, well under a millisecond */
int ar_probe_ring(uint64_t buffer_bytes, struct ar_ring_facts *out);

struct ar_fs_facts {		/* statfs and statx of one descriptor; nothing is written */
	uint64_t magic;
	uint64_t block_bytes;
	uint64_t total_bytes;
	uint64_t free_bytes;	/* to this user */
	uint64_t total_inodes;	/* 0: made as needed */
	uint64_t free_inodes;
	uint64_t name_max;
	uint64_t mount_id;	/* first field of /proc/self/mountinfo, 0: unknown */
	uint64_t dev;		/* major << 32 | minor */
	int64_t btime_s;
	uint32_t btime_n;
	uint32_t has_btime;
	uint32_t dio_known;	/* 1: the kernel said what follows (regular files only) */
	uint32_t dio_memory;	/* alignment for O_DIRECT, 0: not possible on this file */
	uint32_t dio_offset;
	uint32_t reserved;
};

int ar_probe_fs(int fd, struct ar_fs_facts *out);
/* FALLOC_FL_*: Python's posix_fallocate knows none of them */
int ar_probe_fallocate(int fd, uint32_t mode, uint64_t offset, uint64_t length);

#define AR_TRIAL_OPEN 0		/* openat of an existing file, cached */
#define AR_TRIAL_CREATE 1
#define AR_TRIAL_READ_CACHED 2
#define AR_TRIAL_READ_COLD 3
#define AR_TRIAL_READ_DIRECT 4
#define AR_TRIAL_WRITE_NEW 5	/* buffered, into a new file */
#define AR_TRIAL_WRITE_DIRECT 6	/* into preallocated space */
#define AR_TRIAL_FSYNC 7
#define AR_TRIAL_FALLOCATE 8
#define AR_TRIAL_STATX 9
#define AR_TRIAL_MKDIR 10
#define AR_TRIAL_RENAME 11
#define AR_TRIAL_UNLINK 12
#define AR_TRIAL_LINK 13
#define AR_TRIAL_SYMLINK 14
#define AR_TRIAL_SET_XATTR 15
#define AR_TRIAL_GET_XATTR 16
#define AR_TRIAL_SPLICE 17
#define AR_TRIAL_CLOSE 18
#define AR_TRIAL_COUNT 19

struct ar_trial {		/* how often one operation went which way */
	uint32_t opcode;
	uint32_t inlined;	/* complete when io_uring_enter came back */
	uint32_t device;	/* completed later, and no worker was started */
	uint32_t worker;	/* a kernel worker did it */
	int32_t err;		/* why one could not be tried, or failed; else 0 */
	uint32_t reserved;
};

/* tries the operation in the directory, an empty one made for that; leaves it empty */
int ar_probe_trial(int dir_fd, uint32_t trial, uint32_t times, struct ar_trial *out);

/* cdef: end */

#endif
