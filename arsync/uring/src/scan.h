/*
 * scan.h - what the files of the scanner share.
 *
 * A call of the scanner takes a scratch from the ar_scan, scans one directory
 * after the other with it and gives it back: nothing else is shared between
 * threads, and nothing is allocated per directory or per name.
 *
 *	names.c		a directory's names: read, sorted
 *	row.c		one row
 *	page.c		names -> the rows of both sides' pages
 *	links.c		which symlinks are seen through
 *	dir.c		a directory opened on both sides
 *	extras.c	what only the destination has
 *	filter.c	which names the user leaves out
 *	earlier.c	what another source has given already
 *	trust.c		what is not looked at
 *	settle.c	what a batch left behind, for the manifest (settle.h)
 *	refresh.c	and of directories that are complete
 *	scan.c		which directories, and what becomes of each
 */
#ifndef ARSYNC_SCAN_H
#define ARSYNC_SCAN_H

#include <pthread.h>

#include "sys.h"

#define AR_DIRENT_BYTES 65536

enum { SRC, DST };

/* ----------------------------------------------------------------- names.c */

/*
 * A compact list: each name is its length (2 bytes), its bytes, a NUL and a mark.
 * 10^6 names of 20 bytes take 28 MB.
 */
struct ar_names {
	char *bytes;
	uint32_t *offs;		/* where each name's length stands */
	size_t used, room;
	uint32_t count, offs_room;
};

struct ar_sort_key {
	uint64_t head;		/* the first bytes in which names differ, big-endian */
	uint32_t off;
	uint32_t len;
};

struct ar_sorter {
	struct ar_sort_key *keys;
	size_t room;
};

static inline const char *ar_name(const struct ar_names *names, uint32_t index, uint16_t *len)
{
	const char *at = names->bytes + names->offs[index];

	memcpy(len, at, sizeof(*len));
	return at + sizeof(*len);
}

/* a byte that is the caller's, 0 at first */
static inline char *ar_name_mark(const struct ar_names *names, uint32_t index)
{
	uint16_t len;
	const char *name = ar_name(names, index, &len);

	return (char *)name + len + 1;
}

int ar_names_add(struct ar_names *names, const char *name, size_t len);
/* adds all names of the directory; on an error those read so far are there */
int ar_names_read(struct ar_names *names, int fd, void *buffer);
/* sorts and drops duplicates, which a directory shows while it is being changed */
int ar_names_sort(struct ar_names *names, struct ar_sorter *sorter);
/* gives back what a directory of many pages does not need while it waits */
void ar_names_trim(struct ar_names *names);
void ar_names_clear(struct ar_names *names, size_t keep_bytes);
void ar_names_free(struct ar_names *names);

/* ------------------------------------------------------------------ scan.c */

struct ar_path {
	char *bytes;
	size_t len, room;
};

struct ar_side {		/* a directory on one side while its pages are written */
	int fd;			/* -1: not there */
	bool listed;		/* names is what the directory holds */
	uint32_t page_flags;	/* AR_PAGE_PARTIAL */
	uint32_t at;		/* the next name */
	uint64_t dev;
	struct ar_row self;
	struct ar_path path;
	struct ar_names names;
};

struct ar_namesake {		/* the same directory of an earlier source */
	int fd;			/* negative: it gave none */
	bool is_whole;		/* and all that is in it */
};

struct ar_dir {
	struct ar_side side[2];
	uint32_t pair_flags;
	bool begun;		/* its first page is written */
	bool dead;		/* the source could not be looked at at all */
	bool deletes;		/* what only the destination has is listed */
	uint32_t extra_at;	/* the next name there, and the source's beside it */
	uint32_t extra_src_at;
	const struct ar_filter_table *filter;	/* the rules in force in it, or NULL */
	uint32_t filter_id;
	const char *alias;	/* the source's name of the only entry, or NULL */
	struct ar_namesake *earlier;	/* one for each earlier source */
	uint32_t earlier_count;
	bool self_is_given;	/* by one of them: side[SRC].self is that one's */
};

struct ar_scratch {
	struct ar_scratch *next;
	struct ar_dir dir;
	struct ar_sorter sorter;
	struct ar_path path;	/* of a link that may be seen through */
	struct ar_path full;	/* the directory that rules are being applied to */
	char dirents[AR_DIRENT_BYTES] __attribute__((aligned(8)));
};

struct ar_earlier {		/* a source that has been copied to the same destination */
	ar_root *root;
	char *paths;		/* NUL-separated, of what was copied of it */
	size_t paths_len;	/* 0: all of it */
	bool gives_root;	/* the root has its attributes */
	bool is_later;		/* it comes after this one: only extras care */
};

struct ar_spare {		/* a path that is no extra */
	char *path;
	size_t len;
};

#define AR_HIDDEN_MOST 4

struct ar_hidden {		/* a directory of arsync's own, in neither tree */
	uint64_t dev, ino;
};

struct ar_scan {
	ar_root *src, *dst;
	struct ar_earlier *earlier;
	uint32_t earlier_count;
	struct ar_spare *spare;
	uint32_t spare_count;
	struct ar_hidden hidden[AR_HIDDEN_MOST];
	uint32_t hidden_count;
	uint32_t flags;
	bool trusts;		/* see ar_scan_trust */
	const struct ar_rules *acl_rules;	/* of source ACLs, or NULL */
	struct ar_filter_table **filters;
	uint32_t filter_count, root_filter;
	atomic_bool root_is_new;	/* until that has been said of it */
	pthread_mutex_t lock;
	struct ar_scratch *idle;
};

struct scan_call {		/* one call of the scanner, on one thread */
	struct ar_scan *scan;
	struct ar_scratch *scratch;
	struct ar_batch *out;
	uint32_t pair;		/* index of the one under way */
	uint32_t rows;		/* of the source, so far */
	uint64_t waits;		/* of the thread, before */
};

/* takes a scratch for a call that fills out; ar_scan_end gives it back */
int ar_scan_begin(struct scan_call *call, struct ar_scan *scan, struct ar_batch *out);
void ar_scan_end(struct scan_call *call);

bool ar_scan_hides(const struct ar_scan *scan, const struct statx *stx);

/* the caller can wait until others have closed or freed something */
static inline bool ar_scan_is_scarce(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM;
}

/* ------------------------------------------------------------------- dir.c */

#define AR_SCAN_TRIES 4		/* of a call that fails for a passing reason */

/* true: try again, after a pause that grows */
bool ar_scan_again(struct scan_call *call, int err, int *tries);

int ar_path_reserve(struct ar_path *path, size_t len);
int ar_path_set(struct ar_path *path, const char *bytes, size_t len);
/* appends a component, and the mark of a followed link when asked to */
int ar_path_push(struct ar_path *path, const char *name, size_t len, bool marked);
int ar_path_mark(struct ar_path *path);
void ar_path_unmark(struct ar_path *path);

/*
 * Open the directory at each side's path, write its own row and read its names.
 * Trouble is a problem of the pair that comes; an answer of -errno says that
 * descriptors or memory ran out.  only_self: what is in it is not looked at.
 */
int ar_dir_open_source(struct scan_call *call, struct ar_dir *dir, bool only_self);
int ar_dir_list_source(struct scan_call *call, struct ar_dir *dir);
int ar_dir_open_dest(struct scan_call *call, struct ar_dir *dir, bool only_self);
/* one that only the destination has, which the row is of; dead when it is that no more */
int ar_dir_open_extra(struct scan_call *call, struct ar_dir *dir, const struct ar_row *row,
		      uint64_t dev);
/* fills in the device and the own row, with its digests, of a side that is open */
int ar_dir_identify(struct scan_call *call, struct ar_dir *dir, int side);
/* 1: it is the destination's root or, when ancestors is set, one of its own ancestors */
int ar_dir_is_loop(struct scan_call *call, const struct ar_dir *dir, bool ancestors);
/* closes it; its memory is kept for the next one, up to keep_bytes each */
void ar_dir_reset(struct ar_dir *dir, size_t keep_bytes);
void ar_dir_free(struct ar_dir *dir);

/* ------------------------------------------------------------------- row.c */

int ar_scan_statx(struct scan_call *call, int fd, const char *name, int flags,
		  struct statx *stx);
/* fills all but the names of a row; dev is that of the directory which holds it */
void ar_row_fill(struct ar_row *row, const struct statx *stx, uint64_t dev, uint32_t scan_flags);
/* of a directory that is an entry: the rest moves with its content, and is in its own page */
void ar_row_bare(struct ar_row *row);
/* the digests of a row; trouble with them is a problem of the row, and 0 */
int ar_row_digest(struct scan_call *call, struct ar_row *row, int side, int fd, const char *name,
		  uint32_t index);

/* ---------------------------------------------------------------- filter.c */

#define AR_FILTER_ASK 1		/* no error: the directory has rules of its own to be read */

/* the rules that a directory of these names takes over; 0, or AR_FILTER_ASK */
int ar_filter_inherit(struct scan_call *call, struct ar_dir *dir, uint32_t parent);
void ar_filter_use(struct scan_call *call, struct ar_dir *dir, uint32_t id);
/* to be called before names of the directory are judged */
int ar_filter_begin(struct scan_call *call, const struct ar_dir *dir);
/* true: hidden, whatever it is; *decided false: that depends on whether it is a directory */
bool ar_filter_hides_early(struct scan_call *call, const struct ar_dir *dir, const char *name,
			   bool *decided);
bool ar_filter_hides(struct scan_call *call, const struct ar_dir *dir, const char *name,
		     bool is_dir);
/* true: a rule keeps the name from being deleted */
bool ar_filter_protects(struct scan_call *call, const struct ar_dir *dir, const char *name,
			bool is_dir);
void ar_filters_free(ar_scan *scan);

/* --------------------------------------------------------------- earlier.c */

/* opens the source directory's namesakes, whose own row then stands for its own */
int ar_earlier_open(struct scan_call *call, struct ar_dir *dir);
void ar_earlier_close(struct ar_dir *dir);
/*
 * 1: the entry of this name came from an earlier source; -ENOTDIR: it is in a
 * directory's way; -ENOMEM.
 */
int ar_earlier_has(struct scan_call *call, const struct ar_dir *dir, const char *name, size_t len,
		   const struct ar_row *row);
/* whether an earlier source gives all of the directory, and so finds its extras */
bool ar_earlier_covers(const struct scan_call *call, const struct ar_dir *dir);
/* 1: another source, an earlier or a later one, gives an entry of this name; -ENOMEM */
int ar_other_has(struct scan_call *call, const struct ar_dir *dir, const char *name, size_t len);
/* whether another source may give what is at the path, whatever the rules say of it */
bool ar_other_may_have(const ar_scan *scan, const char *path, size_t len);
void ar_earlier_free(ar_scan *scan);

/* ----------------------------------------------------------------- trust.c */

/*
 * Whether the record of a child directory may speak for it: not where another source
 * has a hand in it, nor on another filesystem, which no record names.
 */
bool ar_trust_child(const struct ar_scan *scan, const struct ar_page *dst, const char *name,
		    size_t len);
/* and whether it still may when the source is listed: what has several pages is looked at */
bool ar_trust_fits(const struct ar_dir *dir);

/* ---------------------------------------------------------------- extras.c */

/* whether what only the destination has is to be found in the directory, as it was opened */
bool ar_extras_wanted(const struct scan_call *call, const struct ar_dir *dir);
bool ar_extras_left(const struct ar_dir *dir);
/* writes the next page of them, where there are any, as a new pair of call->out */
int ar_extras_pair(struct scan_call *call, struct ar_dir *dir);

/* ------------------------------------------------------------------ page.c */

struct ar_writer {		/* a page that is being written at the end of a batch */
	struct ar_batch *batch;
	int side;
	uint32_t room;		/* rows there is room for */
	uint32_t rows;
	size_t used;		/* bytes from the page's start */
};

int ar_page_open(struct ar_writer *w, uint32_t rows);
/* appends len bytes and a NUL; where they are goes into *off */
int ar_page_put(struct ar_writer *w, const char *bytes, size_t len, uint32_t *off);
void ar_page_add(struct ar_writer *w, const struct ar_row *row);
/* the target of a symlink, into the page and the row */
int ar_page_read_link(struct ar_writer *w, int fd, const char *name, struct ar_row *row);
int ar_page_close(struct ar_writer *w, const struct ar_side *side, const char *alias,
		  uint32_t flags, uint64_t *offset);
/* writes the next page of the directory on both sides as a new pair of call->out */
int ar_page_pair(struct scan_call *call, struct ar_dir *dir);
/* looks at the destination of a pair that is AR_PAIR_TRUSTED: from here on it is like any other */
int ar_page_distrust(struct scan_call *call, uint32_t index);

/* ----------------------------------------------------------------- links.c */

enum link_verdict { LINK_KEPT, LINK_FOLLOWED, LINK_DANGLING, LINK_UNSAFE };

struct link_place {		/* a source directory that holds a symlink */
	int fd;
	long depth;		/* below the root */
	bool follow_dirs;	/* as a path of -R does */
};

/* how deep a directory of this path lies */
long ar_path_depth(const struct ar_path *path);
/*
 * What the options make of the symlink name there.  FOLLOWED: stx is the target's
 * now.  DANGLING: -errno in *err.
 */
enum link_verdict ar_link_judge(struct scan_call *call, const struct link_place *place,
				const char *name, const char *target, struct statx *stx, int *err);
/*
 * -K: 1 when the link leads to a directory of the destination, which stx is then;
 * -EXDEV when it leads to one outside.
 */
int ar_link_is_dst_dir(struct scan_call *call, const struct ar_side *side, const char *name,
		       size_t len, struct statx *stx);
/* -K: marks the links to directories among the path's components */
int ar_link_mark_path(struct scan_call *call, struct ar_path *path);

#endif
