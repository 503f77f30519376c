/*
 * node.c - what has no content to copy: symlinks, fifos, sockets, devices, further
 * names of a file, and entries of which only attributes change.
 */
#include <limits.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "lane.h"

/* where an entry is made: under its own name in a staged directory, else beside it */
static const char *name_to_make(struct ar_lane *lane, const struct folder *folder,
				const char *name, char *temp)
{
	if (folder->staged)
		return name;
	ar_temp_name(lane, temp);
	return temp;
}

static int make_entry(const struct ar_page *page, const struct ar_row *row, int dir_fd,
		      const char *name, int *op)
{
	if (S_ISLNK(row->mode)) {
		*op = AR_OP_SYMLINK;
		return sys_symlink(ar_page_str(page, row->link_off), dir_fd, name);
	}
	*op = AR_OP_MKNOD;
	return sys_mknod(dir_fd, name, (row->mode & S_IFMT) | 0600,
			 makedev(row->rdev_major, row->rdev_minor));
}

static int dress(struct ar_lane *lane, struct folder *folder, struct ar_change *change,
		 const char *name, bool fresh, int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	const struct ar_row *row = &ar_rows(page)[change->src_row];
	struct attr_target at = {
		.fd = -1, .path_fd = -1, .dir_fd = folder->dst_fd, .name = name,
		.src_fd = -1, .src_dir_fd = folder->src_fd, .src_name = ar_row_src_name(page, row),
		.pair = folder->index, .row = change->src_row, .fresh = fresh,
		.same_time = !fresh,
	};
	const struct ar_row *old = fresh ? NULL
					 : ar_change_dst_row(lane->batch, folder->pair, change);
	struct ar_want want;
	struct stat st;
	int err = 0;

	ar_folder_want(lane, folder, row, old, &want);
	at.path_fd = sys_open(AR_OP_OPEN_TARGET, folder->dst_fd, name, O_PATH | O_NOFOLLOW, 0);
	*op = AR_OP_OPEN_TARGET;
	if (at.path_fd < 0)
		return at.path_fd;
	err = sys_fstat(at.path_fd, &st);
	if (!err && (st.st_mode & S_IFMT) != (row->mode & S_IFMT))
		err = -ENOENT;	/* replaced meanwhile: not the entry that was compared */
	/* a followed source is not what its name says: read through it */
	if (!err && (row->flags & AR_ROW_FOLLOWED) && folder->src_fd >= 0) {
		at.src_fd = sys_open(AR_OP_OPEN_FILE, folder->src_fd, at.src_name, O_PATH, 0);
		err = AR_MIN(at.src_fd, 0);
	}
	if (!err)
		err = ar_attr_apply(lane, &at, row, &want, op);
	if (at.src_fd >= 0)
		close(at.src_fd);
	close(at.path_fd);
	return err;
}

int ar_node_make(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	const struct ar_row *row = &ar_rows(page)[change->src_row];
	const char *name = ar_row_name(page, row);
	char temp[AR_TEMP_MAX];
	const char *made = name_to_make(lane, folder, name, temp);

	int err = make_entry(page, row, folder->dst_fd, made, op);
	if (err)
		return err;
	err = dress(lane, folder, change, made, true, op);
	if (!err && made != name)
		err = ar_keep_old(lane, folder, change, AR_BACKUP_LINK, op);
	if (!err && made != name)
		err = ar_place(folder->dst_fd, made, folder->dst_fd, name, false, op);
	if (err)
		(void)sys_unlink(folder->dst_fd, made);
	return err;
}

int ar_node_meta(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	const struct ar_row *row = &ar_rows(page)[change->src_row];

	return dress(lane, folder, change, ar_row_name(page, row), false, op);
}

/* -------------------------------------------------------------- hard links */

/* the path of a name below the destination's root, without a NUL; free() it */
static char *dst_path(const struct ar_lane *lane, const struct folder *folder, const char *name,
		      size_t *len)
{
	const struct ar_page *page = ar_dst_path_page(lane->batch, folder->pair);
	const size_t slash = page->path_len ? 1 : 0, name_len = strlen(name);
	char *path = malloc(page->path_len + slash + name_len);

	if (!path)
		return NULL;
	memcpy(path, ar_page_str(page, page->path_off), page->path_len);
	if (slash)
		path[page->path_len] = '/';
	memcpy(path + page->path_len + slash, name, name_len);
	*len = page->path_len + slash + name_len;
	return path;
}

int ar_open_holder(struct ar_lane *lane, const char *path, size_t len, char *name)
{
	const char *slash = memrchr(path, '/', len);
	size_t parent_len = slash ? (size_t)(slash - path) : 0;
	size_t start = slash ? parent_len + 1 : 0;

	if (len - start > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, path + start, len - start);
	name[len - start] = '\0';
	return ar_open_beneath(lane->batch->dst_root, path, parent_len, O_PATH | O_DIRECTORY);
}

static bool keeps_time(const struct ar_lane *lane, mode_t mode)
{
	uint32_t keep = lane->rules->keep;

	return (keep & AR_KEEP_TIMES) && !(S_ISLNK(mode) && (keep & AR_OMIT_LINK_TIMES));
}

static bool could_be(const struct ar_lane *lane, const struct stat *first, mode_t mode,
		     uint64_t size, int64_t mtime_s, uint32_t mtime_n)
{
	return (first->st_mode & S_IFMT) == (mode & S_IFMT) &&
	       (!S_ISREG(mode) || (uint64_t)first->st_size == size) &&
	       (!keeps_time(lane, mode) ||
		!ar_compare_mtimes(lane->rules, first->st_mtim.tv_sec,
				   (uint32_t)first->st_mtim.tv_nsec, mtime_s, mtime_n));
}

/*
 * Whether the first name holds what the source has: where its copy failed an older
 * file may stand there still.  What was copied may be younger than the scan, as the
 * source itself then is.
 */
static bool is_up_to_date(struct ar_lane *lane, const struct folder *folder,
			  const struct ar_page *page, const struct ar_row *row,
			  const struct stat *first)
{
	struct stat src;

	if (could_be(lane, first, row->mode, row->size, row->mtime_s, row->mtime_n))
		return true;
	return !sys_fstatat(folder->src_fd, ar_row_src_name(page, row), &src, AT_SYMLINK_NOFOLLOW) &&
	       could_be(lane, first, src.st_mode, (uint64_t)src.st_size, src.st_mtim.tv_sec,
			(uint32_t)src.st_mtim.tv_nsec);
}

static int link_over(struct ar_lane *lane, int first_fd, const char *first_name,
		     struct folder *folder, struct ar_change *change, int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	const struct ar_row *row = &ar_rows(page)[change->src_row];
	const char *name = ar_row_name(page, row);
	char temp[AR_TEMP_MAX];
	struct stat first, old;
	int err = sys_fstatat(first_fd, first_name, &first, AT_SYMLINK_NOFOLLOW);

	*op = AR_OP_LINK;
	if (!err && !is_up_to_date(lane, folder, page, row, &first))
		err = -ENOENT;
	if (err)
		return err;
	err = sys_fstatat(folder->dst_fd, name, &old, AT_SYMLINK_NOFOLLOW);
	if (err == -ENOENT)
		return sys_link(first_fd, first_name, folder->dst_fd, name);
	if (err)
		return err;
	if (first.st_dev == old.st_dev && first.st_ino == old.st_ino) {
		change->why = 0;	/* the first name has got what both have */
		return 0;
	}
	err = ar_keep_old(lane, folder, change, AR_BACKUP_LINK, op);
	if (err)
		return err;
	*op = AR_OP_LINK;
	ar_temp_name(lane, temp);
	err = sys_link(first_fd, first_name, folder->dst_fd, temp);
	if (err)
		return err;
	err = ar_place(folder->dst_fd, temp, folder->dst_fd, name, false, op);
	/* rename does nothing between two names of one inode, and leaves both */
	if (sys_unlink(folder->dst_fd, temp) == 0 || err)
		return err;
	return 0;
}

static int link_to(struct ar_lane *lane, struct folder *folder, struct ar_change *change,
		   const char *path, size_t len, int *op)
{
	char first_name[NAME_MAX + 1];
	int fd = ar_open_holder(lane, path, len, first_name);

	*op = AR_OP_OPEN_TARGET;
	if (fd < 0)
		return fd;
	int err = link_over(lane, fd, first_name, folder, change, op);
	close(fd);
	return err;
}

/* no more names for it, or it is not there */
static bool is_refused(int err)
{
	return err == -EMLINK || err == -ENOENT || err == -EXDEV || err == -EPERM;
}

/* true: this name becomes a file of its own, and as a rule the next ones are linked to it */
static bool succeed(struct ar_lane *lane, const struct folder *folder,
		    const struct ar_change *change, const char *name, const struct ar_heir *heir,
		    int err)
{
	const char *first = (const char *)lane->batch->aux + change->aux;
	size_t len = 0;
	char *path = dst_path(lane, folder, name, &len);

	return ar_successor_claim(lane->batch->dst_root->successors, first, change->aux_len, heir,
				  err, path, len, &lane->successor);
}

/*
 * A name beyond a full inode that is one of another up-to-date file, as a run before
 * has left it, cannot be better: it stays, and what comes after it is linked to it.
 */
static bool may_stay(const struct ar_change *change, int err)
{
	return err == -EMLINK && change->why == AR_WHY_LINK;
}

static void stay(struct ar_lane *lane, struct ar_change *change)
{
	if (lane->successor)
		ar_successor_made(lane->batch->dst_root->successors, lane->successor);
	lane->successor = NULL;
	change->why = 0;
}

int ar_node_link(struct ar_lane *lane, struct folder *folder, struct ar_change *change, int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);
	const struct ar_row *row = &ar_rows(page)[change->src_row];
	const char *first = (const char *)lane->batch->aux + change->aux;
	struct ar_heir heir;
	int err;

	do {
		*op = AR_OP_MEMORY;
		err = ar_successor_find(lane->batch->dst_root->successors, first, change->aux_len,
					&heir);
		if (err)
			return err;
		err = link_to(lane, folder, change, heir.path ? heir.path : first,
			      heir.path ? heir.len : change->aux_len, op);
		free(heir.path);
		if (!is_refused(err))
			return err;
	} while (!succeed(lane, folder, change, ar_row_name(page, row), &heir, err));
	if (!may_stay(change, err))
		return 1;
	stay(lane, change);
	return 0;
}
