/*
 * folder.c - one directory while a lane works in it.
 *
 * A directory that is new at the destination and gets files of its own is staged:
 * made under a temporary name with mode 0700, filled, given its attributes and
 * renamed into place.  That saves the rename of each file in it, and nobody ever
 * sees it half filled with what belongs to it directly.  Its subdirectories come
 * later, in batches that start when this one has ended.
 *
 * Times, and a mode that would lock the lane out, wait for ar_folder_finish, when
 * nothing will be written into the directory any more; of a new one that no
 * directory comes into (AR_PAIR_AT_ONCE) that is when it is closed.
 */
#include <stdlib.h>

#include "lane.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)

/* tags of acl(5) as the kernel's xattr has them; an ACL of 500 entries is a long one */
enum { ACL_USER_OBJ = 0x01, ACL_GROUP_OBJ = 0x04, ACL_MASK = 0x10, ACL_OTHER = 0x20 };
#define XATTR_SIZE_MAX_ACL 4096

struct dst_path {		/* the directory's path below the destination root */
	const char *path;
	size_t len;
	const char *name;	/* its last component */
	size_t parent_len;
};

static struct dst_path path_of_pair(const struct ar_batch *batch, const struct ar_pair *pair)
{
	const struct ar_page *page = ar_dst_path_page(batch, pair);
	struct dst_path p = { ar_page_str(page, page->path_off), page->path_len, NULL, 0 };
	const char *slash = memrchr(p.path, '/', p.len);
	p.name = slash ? slash + 1 : p.path;
	p.parent_len = slash ? (size_t)(slash - p.path) : 0;
	return p;
}

int ar_lane_parent(struct ar_lane *lane, const char *path, size_t len)
{
	if (lane->parent_fd >= 0 && lane->parent_len == len && !memcmp(lane->parent_path, path, len))
		return lane->parent_fd;
	if (lane->parent_fd >= 0)
		close(lane->parent_fd);
	lane->parent_fd = -1;
	char *copy = ar_copy_of(path, len);
	if (!copy)
		return -ENOMEM;
	int fd = ar_open_beneath(lane->batch->dst_root, path, len, DIR_FLAGS);
	if (fd < 0) {
		free(copy);
		return fd;
	}
	free(lane->parent_path);
	lane->parent_path = copy;
	lane->parent_len = len;
	lane->parent_fd = fd;
	return fd;
}

static bool has_work_of_its_own(const struct ar_lane *lane, const struct ar_pair *pair)
{
	const struct ar_change *change = lane->batch->changes + pair->change_first;
	const struct ar_page *page = ar_src_page(lane->batch, pair);

	for (uint32_t i = 0; i < pair->change_count; i++)
		if (change[i].state == AR_STATE_PLANNED && !ar_is_big(page, &change[i]))
			return true;
	return false;
}

/* of struct posix_acl_xattr_entry: what a default ACL leaves of a new entry's mode */
uint32_t ar_folder_umask(const struct ar_lane *lane, int dir_fd)
{
	struct { uint16_t tag, perm; uint32_t id; } entry;
	uint8_t acl[XATTR_SIZE_MAX_ACL];
	uint32_t user = 0, group = 0, mask = UINT32_MAX, other = 0;

	if (lane->rules->keep & AR_KEEP_PERMS)
		return lane->rules->umask;
	ssize_t len = fgetxattr(dir_fd, "system.posix_acl_default", acl, sizeof(acl));
	if (len <= (ssize_t)sizeof(uint32_t))
		return lane->rules->umask;
	for (ssize_t at = sizeof(uint32_t); at + (ssize_t)sizeof(entry) <= len;
	     at += (ssize_t)sizeof(entry)) {
		memcpy(&entry, acl + at, sizeof(entry));
		if (entry.tag == ACL_USER_OBJ)
			user = entry.perm;
		else if (entry.tag == ACL_GROUP_OBJ)
			group = entry.perm;
		else if (entry.tag == ACL_MASK)
			mask = entry.perm;
		else if (entry.tag == ACL_OTHER)
			other = entry.perm;
	}
	return 0777 & ~(user << 6 | (mask == UINT32_MAX ? group : mask) << 3 | other);
}

void ar_folder_want(const struct ar_lane *lane, const struct folder *folder,
		    const struct ar_row *src, const struct ar_row *dst, struct ar_want *want)
{
	struct ar_rules rules = *lane->rules;

	rules.umask = folder->umask;
	ar_want(&rules, src, dst, want);
}

static void want_folder(const struct ar_lane *lane, const struct folder *folder,
			const struct ar_row *self, const struct ar_row *dst, bool filled,
			struct ar_want *want)
{
	ar_folder_want(lane, folder, self, dst, want);
	if (!filled && lane->euid)	/* root needs no permission to fill it */
		want->mode |= 0700;
}

/* a new directory's owner, mode, xattrs and ACLs; its times, too, when it is complete */
static int dress(struct ar_lane *lane, struct folder *folder, int fd, int *op)
{
	const struct ar_row *self = &ar_src_page(lane->batch, folder->pair)->self;
	const bool is_complete = folder->pair->flags & AR_PAIR_AT_ONCE;
	struct attr_target at = {
		.fd = fd, .path_fd = -1, .dir_fd = -1, .name = "",
		.src_fd = folder->src_fd, .src_dir_fd = -1, .src_name = "",
		.pair = folder->index, .row = AR_NONE, .fresh = true, .no_times = !is_complete,
	};
	struct ar_want want;

	want_folder(lane, folder, self, NULL, is_complete, &want);
	return ar_attr_apply(lane, &at, self, &want, op);
}

static int open_source(struct ar_lane *lane, struct folder *folder, int *op)
{
	const struct ar_page *page = ar_src_page(lane->batch, folder->pair);

	*op = AR_OP_OPEN_DIR;
	folder->src_fd = ar_open_beneath(lane->batch->src_root, ar_page_str(page, page->path_off),
					 page->path_len, O_RDONLY | O_DIRECTORY);
	/* the scan has said so; it is made all the same, with what is known of it */
	if (folder->src_fd == -EACCES && (page->flags & AR_PAGE_PARTIAL) &&
	    !has_work_of_its_own(lane, folder->pair))
		folder->src_fd = -1;
	else if (folder->src_fd < 0)
		return folder->src_fd;
	return 0;
}

/*
 * Whether what is made in a directory gets its group is decided by its setgid bit:
 * it is as it shall be before the first entry, where modes are kept.
 */
static void settle_setgid(struct ar_lane *lane, struct folder *folder)
{
	const struct ar_row *self = &ar_src_page(lane->batch, folder->pair)->self;
	struct ar_want want;
	struct stat st;

	if (!(lane->rules->keep & AR_KEEP_PERMS) || (folder->pair->flags & AR_PAIR_NAMED))
		return;
	ar_folder_want(lane, folder, self, NULL, &want);
	if (!sys_fstat(folder->dst_fd, &st) && (st.st_mode ^ want.mode) & S_ISGID)
		(void)sys_fchmod(folder->dst_fd, (st.st_mode ^ S_ISGID) & 07777);
}

/* whether names come or go in it; if so, it is finished when all is done in it */
static bool is_written(const struct ar_lane *lane, const struct ar_pair *pair)
{
	const struct ar_change *change = lane->batch->changes + pair->change_first;

	for (uint32_t i = 0; i < pair->change_count; i++)
		if (change[i].kind != AR_CHANGE_META)
			return true;
	return false;
}

/* a root of which only names are copied is not finished: its mode stays */
static bool is_only_named(const struct ar_lane *lane, const struct ar_pair *pair)
{
	const uint32_t flags = AR_PAIR_NAMED | AR_PAIR_TOUCHED;

	return (pair->flags & flags) == flags && !ar_src_page(lane->batch, pair)->path_len;
}

/* a directory may deny its own owner, who is not root, to work in it */
static void let_owner_in(const struct ar_lane *lane, int fd)
{
	struct stat st;

	if (lane->euid && !sys_fstat(fd, &st) && st.st_uid == lane->euid &&
	    (st.st_mode & 0700) != 0700)
		(void)sys_fchmod(fd, (st.st_mode & 07777) | 0700);
}

/* one that someone else wrote; what it shall be it becomes when it is finished */
static void let_owner_write(const struct ar_lane *lane, const struct folder *folder)
{
	if ((lane->rules->keep & AR_KEEP_PERMS) && is_written(lane, folder->pair) &&
	    !is_only_named(lane, folder->pair))
		let_owner_in(lane, folder->dst_fd);
}

static int make_in_place(struct ar_lane *lane, struct folder *folder, int parent_fd,
			 const char *name, int *op)
{
	int err = sys_mkdir(parent_fd, name, 0700);

	*op = AR_OP_MKDIR;
	if (err && err != -EEXIST)
		return err;
	folder->dst_fd = sys_open(AR_OP_OPEN_TARGET, parent_fd, name, DIR_FLAGS, 0);
	if (folder->dst_fd < 0)
		return folder->dst_fd;
	return dress(lane, folder, folder->dst_fd, op);
}

static int make_staged(struct ar_lane *lane, struct folder *folder, int parent_fd, int *op)
{
	*op = AR_OP_MKDIR;
	folder->parent_fd = fcntl(parent_fd, F_DUPFD_CLOEXEC, 0);
	if (folder->parent_fd < 0)
		return -errno;
	ar_temp_name(lane, folder->temp);
	int err = sys_mkdir(folder->parent_fd, folder->temp, 0700);
	if (err)
		return err;
	folder->staged = true;
	folder->dst_fd = sys_open(AR_OP_OPEN_TARGET, folder->parent_fd, folder->temp, DIR_FLAGS, 0);
	if (folder->dst_fd >= 0)
		settle_setgid(lane, folder);
	return AR_MIN(folder->dst_fd, 0);
}

static int make_directory(struct ar_lane *lane, struct folder *folder, int *op)
{
	struct dst_path p = path_of_pair(lane->batch, folder->pair);
	int parent_fd = ar_lane_parent(lane, p.path, p.parent_len);

	*op = AR_OP_OPEN_TARGET;
	if (parent_fd < 0)
		return parent_fd;
	folder->umask = ar_folder_umask(lane, parent_fd);
	/* finished later, as a name comes into it; of the root only its own pair knows that */
	if (p.parent_len && lane->rules->keep & AR_KEEP_PERMS)
		let_owner_in(lane, parent_fd);
	if (has_work_of_its_own(lane, folder->pair) || (folder->pair->flags & AR_PAIR_REPLACE))
		return make_staged(lane, folder, parent_fd, op);
	return make_in_place(lane, folder, parent_fd, p.name, op);
}

static void close_all(struct folder *folder)
{
	if (folder->src_fd >= 0)
		close(folder->src_fd);
	if (folder->dst_fd >= 0)
		close(folder->dst_fd);
	if (folder->parent_fd >= 0)
		close(folder->parent_fd);
	folder->src_fd = folder->dst_fd = folder->parent_fd = -1;
	folder->open = false;
}

/* on btrfs a descriptor lists nothing that was made after it was opened */
static int open_again(int fd)
{
	return sys_open(AR_OP_OPEN_TARGET, fd, ".", DIR_FLAGS, 0);
}

/* removes a staged directory and the files that this lane made in it */
static void unstage(const struct ar_lane *lane, struct folder *folder)
{
	if (folder->dst_fd >= 0)	/* it may be dressed already */
		let_owner_in(lane, folder->dst_fd);

	int fd = folder->dst_fd >= 0 ? open_again(folder->dst_fd) : -1;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (dir) {
		for (struct dirent *e; (e = readdir(dir));)
			if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
				(void)sys_unlink(folder->dst_fd, e->d_name);
		closedir(dir);
	} else if (fd >= 0) {
		close(fd);
	}
	(void)sys_rmdir(folder->parent_fd, folder->temp);
	folder->staged = false;
}

int ar_folder_open(struct ar_lane *lane, struct folder *folder, int *op)
{
	struct ar_pair *pair = folder->pair;
	bool extended = lane->rules->keep & (AR_KEEP_XATTRS | AR_KEEP_ACLS);
	int err = 0;

	folder->src_fd = folder->dst_fd = folder->parent_fd = -1;
	folder->active = 0;
	folder->staged = folder->issued = false;
	if (has_work_of_its_own(lane, pair) || (extended && ar_makes_dir(pair)))
		err = open_source(lane, folder, op);
	if (!err && pair->flags & AR_PAIR_NEW && ar_is_dry_run(lane)) {
		folder->dst_fd = -1;	/* only sources are looked at */
	} else if (!err && ar_makes_dir(pair)) {
		err = make_directory(lane, folder, op);
	} else if (!err) {
		struct dst_path p = path_of_pair(lane->batch, pair);
		*op = AR_OP_OPEN_TARGET;
		folder->dst_fd = ar_open_beneath(lane->batch->dst_root, p.path, p.len, DIR_FLAGS);
		err = AR_MIN(folder->dst_fd, 0);
		if (!err && !ar_is_dry_run(lane)) {
			folder->umask = ar_folder_umask(lane, folder->dst_fd);
			settle_setgid(lane, folder);
			let_owner_write(lane, folder);
		}
	}
	if (err) {
		if (folder->staged)
			unstage(lane, folder);
		close_all(folder);
		return err;
	}
	folder->open = true;
	return 0;
}

/* the directory appeared meanwhile by another hand: what we made moves into it */
static int merge(const struct ar_lane *lane, struct folder *folder, const char *name, int *op)
{
	int into = sys_open(AR_OP_OPEN_TARGET, folder->parent_fd, name, DIR_FLAGS, 0);

	let_owner_in(lane, folder->dst_fd);	/* it is dressed already */
	if (into >= 0 && lane->rules->keep & AR_KEEP_PERMS)
		let_owner_in(lane, into);

	int fd = open_again(folder->dst_fd);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	int err = into < 0 ? into : dir ? 0 : -ENOMEM;

	*op = AR_OP_RENAME;
	for (struct dirent *e; !err && (e = readdir(dir));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			err = sys_rename(folder->dst_fd, e->d_name, into, e->d_name, 0);
	if (!err)
		err = sys_rmdir(folder->parent_fd, folder->temp);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	if (into >= 0)
		close(into);
	return err;
}

/* what is no directory gives way to one */
static int keep_replaced(struct ar_lane *lane, struct folder *folder, const struct dst_path *p,
			 int *op)
{
	struct ar_change *self = &folder->pair->self;

	if (!lane->cfg.backup || !(folder->pair->flags & AR_PAIR_REPLACE) ||
	    (self->flags & AR_CHANGE_BACKED_UP))
		return 0;
	*op = AR_OP_BACKUP;
	int kept = ar_backup_keep(lane->cfg.backup, lane->batch->dst_root, folder->parent_fd,
				  p->path, p->parent_len, p->name, AR_BACKUP_LINK);
	if (kept > 0)
		self->flags |= AR_CHANGE_BACKED_UP;
	return AR_MIN(kept, 0);
}

int ar_folder_close(struct ar_lane *lane, struct folder *folder, int *op)
{
	int err = 0;

	if (folder->staged) {
		struct dst_path p = path_of_pair(lane->batch, folder->pair);
		bool is_merged = false;
		int tries = 0;

		do {
			err = dress(lane, folder, folder->dst_fd, op);
			if (!err)
				err = keep_replaced(lane, folder, &p, op);
			if (!err)
				err = ar_place(folder->parent_fd, folder->temp, folder->parent_fd,
					       p.name, true, op);
			is_merged = err == -EEXIST;
			if (is_merged)
				err = merge(lane, folder, p.name, op);
		} while (err && ar_try_again(lane, err, &tries));
		if (!err && is_merged && folder->pair->flags & AR_PAIR_AT_ONCE)
			err = ar_folder_finish(lane, folder->pair, op);
		if (err)
			unstage(lane, folder);
	}
	close_all(folder);
	return err;
}

int ar_folder_finish(struct ar_lane *lane, struct ar_pair *pair, int *op)
{
	struct folder folder = {
		.pair = pair, .index = (uint32_t)(pair - lane->batch->pairs),
		.src_fd = -1, .dst_fd = -1, .parent_fd = -1,
	};
	const struct ar_row *self = &ar_src_page(lane->batch, pair)->self;
	struct dst_path p = path_of_pair(lane->batch, pair);
	struct ar_row now = *self;
	struct ar_want want;
	struct stat st;
	int err = 0;

	*op = AR_OP_OPEN_TARGET;
	folder.dst_fd = ar_open_beneath(lane->batch->dst_root, p.path, p.len, DIR_FLAGS);
	if (folder.dst_fd < 0)
		return folder.dst_fd;
	if ((pair->self.why & AR_WHY_NEW) && !(lane->rules->keep & AR_KEEP_PERMS)) {
		int parent_fd = ar_lane_parent(lane, p.path, p.parent_len);
		folder.umask = parent_fd < 0 ? lane->rules->umask
					     : ar_folder_umask(lane, parent_fd);
	}
	/* any other new one got its xattrs when it was made */
	if (ar_makes_root(pair) ? lane->rules->keep & (AR_KEEP_XATTRS | AR_KEEP_ACLS)
				: !(pair->self.why & AR_WHY_NEW) &&
					  (pair->self.why & (AR_WHY_XATTR | AR_WHY_ACL)))
		err = open_source(lane, &folder, op);
	if (!err && (err = sys_fstat(folder.dst_fd, &st)))
		*op = AR_OP_STAT;
	if (!err) {
		now.mode = st.st_mode;
		now.uid = st.st_uid;
		now.gid = st.st_gid;
		want_folder(lane, &folder, self, pair->self.why & AR_WHY_NEW ? NULL : &now, true,
			    &want);
		struct attr_target at = {
			.fd = folder.dst_fd, .path_fd = -1, .dir_fd = -1, .name = "",
			.src_fd = folder.src_fd, .src_dir_fd = -1, .src_name = "",
			.pair = folder.index, .row = AR_NONE, .fresh = pair->self.why & AR_WHY_NEW,
			.same_time = true,
		};
		err = ar_attr_apply(lane, &at, self, &want, op);
	}
	close_all(&folder);
	return err;
}
