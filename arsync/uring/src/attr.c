/*
 * attr.c - owner, xattrs, ACLs, mode and times of what has been made.
 *
 * Source: chown(2) (clears setuid, setgid and security.capability), acl(5),
 * xattr(7), utimensat(2).
 */
#include <stdlib.h>
#include <limits.h>
#include <linux/limits.h>

#include "lane.h"

pthread_mutex_t ar_mode_lock = PTHREAD_MUTEX_INITIALIZER;

/* two lists and two values, each as long as the kernel allows */
#define AR_XATTR_SPACE (2 * XATTR_LIST_MAX + 2 * XATTR_SIZE_MAX)

static const char *const acl_names[] = {
	"system.posix_acl_access",
	"system.posix_acl_default",
};

struct xattr_path {		/* how xattr calls name an object */
	char path[AR_PROC_PATH_MAX];
	bool follow;
};

static void path_of(struct xattr_path *out, int fd, int dir_fd, const char *name)
{
	out->follow = fd >= 0;
	ar_proc_path(out->path, fd >= 0 ? fd : dir_fd, fd >= 0 ? NULL : name);
}

static bool in_scope(const struct ar_lane *lane, const char *name, uint32_t side)
{
	const uint32_t keep = lane->rules->keep;

	if (keep & AR_KEEP_ACLS && (!strcmp(name, acl_names[0]) || !strcmp(name, acl_names[1])))
		return false;
	return ar_xattr_in_scope(name, side | (keep & AR_AS_ROOT ? AR_XATTR_ALL : 0),
				 lane->rules->xattr_filter);
}

/* an attribute that this file or this filesystem cannot have */
static bool cannot_hold(int err)
{
	return err == -EPERM || err == -EACCES || err == -EOPNOTSUPP || err == -EINVAL ||
	       err == -E2BIG || err == -ERANGE || err == -ENOTSUP || err == -ENODATA ||
	       err == -ENOSPC || err == -EOVERFLOW;
}

static int judge(struct ar_lane *lane, const struct attr_target *at, int op, int err, int *failed_op)
{
	if (!err)
		return 0;
	if (cannot_hold(err)) {
		ar_warn(lane, at->pair, at->row, AR_PROBLEM_CANNOT_HOLD, op, err);
		return 0;
	}
	*failed_op = op;
	return err;
}

static bool listed(const char *list, ssize_t len, const char *name)
{
	for (const char *p = list; p < list + len; p += strlen(p) + 1)
		if (!strcmp(p, name))
			return true;
	return false;
}

static int copy_xattr(const struct xattr_path *src, const struct xattr_path *dst, const char *name,
		      bool fresh, char *value, char *old)
{
	ssize_t len = sys_getxattr(src->path, src->follow, name, value, XATTR_SIZE_MAX);

	if (len < 0)	/* gone since it was listed: not ours to report */
		return len == -ENODATA ? 0 : (int)len;
	if (!fresh) {
		ssize_t old_len = sys_getxattr(dst->path, dst->follow, name, old, XATTR_SIZE_MAX);
		if (old_len == len && !memcmp(value, old, (size_t)len))
			return 0;
	}
	return sys_setxattr(AR_OP_SET_XATTR, dst->path, dst->follow, name, value, (size_t)len);
}

static int sync_xattrs(struct ar_lane *lane, const struct attr_target *at,
		       const struct xattr_path *src, const struct xattr_path *dst, int *op)
{
	char *src_list = lane->xattr_space, *dst_list = src_list + XATTR_LIST_MAX;
	char *value = dst_list + XATTR_LIST_MAX, *old = value + XATTR_SIZE_MAX;
	int err = 0;

	ssize_t src_len = sys_listxattr(src->path, src->follow, src_list, XATTR_LIST_MAX);
	if (src_len == -EOPNOTSUPP)
		src_len = 0;
	if (src_len < 0) {
		ar_warn(lane, at->pair, at->row, AR_PROBLEM_FAILED, AR_OP_LIST_XATTR, (int)src_len);
		return 0;
	}
	for (char *name = src_list; !err && name < src_list + src_len; name += strlen(name) + 1)
		if (in_scope(lane, name, 0))
			err = judge(lane, at, AR_OP_SET_XATTR,
				    copy_xattr(src, dst, name, at->fresh, value, old), op);
	if (err || at->fresh)
		return err;

	ssize_t dst_len = sys_listxattr(dst->path, dst->follow, dst_list, XATTR_LIST_MAX);
	if (dst_len < 0 && dst_len != -EOPNOTSUPP)
		err = judge(lane, at, AR_OP_LIST_XATTR, (int)dst_len, op);
	for (char *name = dst_list; !err && name < dst_list + dst_len; name += strlen(name) + 1)
		if (in_scope(lane, name, AR_XATTR_DST) &&
		    !(listed(src_list, src_len, name) && in_scope(lane, name, 0)))
			err = judge(lane, at, AR_OP_REMOVE_XATTR,
				    sys_removexattr(AR_OP_REMOVE_XATTR, dst->path, dst->follow, name),
				    op);
	return err;
}

/* one of the two ACLs; 1 when it was touched, so that the mode must be set again */
static int sync_acl(const struct ar_lane *lane, const struct xattr_path *src,
		    const struct xattr_path *dst, const char *name, bool there)
{
	char *value = lane->xattr_space, *old = value + XATTR_SIZE_MAX;
	ssize_t len = there ? sys_getxattr(src->path, src->follow, name, value, XATTR_SIZE_MAX)
			    : -ENODATA;

	if (len == -ENODATA || len == -EOPNOTSUPP) {
		int err = sys_removexattr(AR_OP_SET_ACL, dst->path, dst->follow, name);
		return !err ? 1 : err == -ENODATA || err == -EOPNOTSUPP ? 0 : err;
	}
	if (len < 0)
		return (int)len;
	ar_acl_map(lane->rules, value, (size_t)len);
	ssize_t old_len = sys_getxattr(dst->path, dst->follow, name, old, XATTR_SIZE_MAX);
	if (old_len == len && !memcmp(value, old, (size_t)len))
		return 0;
	int err = sys_setxattr(AR_OP_SET_ACL, dst->path, dst->follow, name, value, (size_t)len);
	return err ? err : 1;
}

static int sync_acls(struct ar_lane *lane, const struct attr_target *at, const struct ar_row *row,
		     const struct xattr_path *src, const struct xattr_path *dst, bool *touched,
		     int *op)
{
	int count = S_ISDIR(row->mode) ? 2 : 1;

	for (int i = 0; i < count; i++) {
		int r = sync_acl(lane, src, dst, acl_names[i], row->acl_digest != 0);
		if (r > 0)
			*touched = true;
		else if (r < 0 && (r = judge(lane, at, AR_OP_SET_ACL, r, op)))
			return r;
	}
	return 0;
}

static int set_mode(const struct attr_target *at, mode_t mode)
{
	char path[AR_PROC_PATH_MAX];

	if (at->fd >= 0)
		return sys_fchmod(at->fd, mode);
	/* fchmod refuses O_PATH, and fchmodat2 is Linux 6.6: through the magic link */
	ar_proc_path(path, at->path_fd, NULL);
	return (int)AR_SYS(AR_OP_CHMOD, chmod(path, mode));
}

static int set_times(const struct attr_target *at, const struct timespec times[2])
{
	if (at->fd >= 0)
		return sys_futimens(at->fd, times);
	if (at->path_fd >= 0)
		return sys_utimes(at->path_fd, "", times);
	return sys_utimes(at->dir_fd, at->name, times);
}

static int set_owner(const struct attr_target *at, uid_t uid, gid_t gid)
{
	if (at->fd >= 0)
		return sys_chown(at->fd, "", uid, gid);
	if (at->path_fd >= 0)
		return sys_chown(at->path_fd, "", uid, gid);
	return sys_chown(at->dir_fd, at->name, uid, gid);
}

static int stat_target(const struct attr_target *at, struct stat *st)
{
	if (at->fd >= 0)
		return sys_fstat(at->fd, st);
	if (at->path_fd >= 0)
		return sys_fstat(at->path_fd, st);
	return sys_fstatat(at->dir_fd, at->name, st, AT_SYMLINK_NOFOLLOW);
}

static bool keeps_mtime(const struct ar_lane *lane, const struct attr_target *at,
			const struct stat *now, const struct ar_row *row)
{
	return at->same_time &&
	       !ar_compare_mtimes(lane->rules, now->st_mtim.tv_sec,
				  (uint32_t)now->st_mtim.tv_nsec, row->mtime_s, row->mtime_n);
}

static bool times_differ(const struct stat *now, const struct ar_row *row,
			 const struct ar_want *want, bool set_mtime)
{
	return (set_mtime && (now->st_mtim.tv_sec != row->mtime_s ||
			      now->st_mtim.tv_nsec != row->mtime_n)) ||
	       (want->set_atime && (now->st_atim.tv_sec != row->atime_s ||
				    now->st_atim.tv_nsec != row->atime_n));
}

static int apply_owner(struct ar_lane *lane, const struct attr_target *at,
		       const struct ar_want *want, const struct stat *now, bool *mode_moved,
		       int *op)
{
	bool uid = want->set_uid && now->st_uid != want->uid;
	bool gid = want->set_gid && now->st_gid != want->gid;

	if (!uid && !gid)
		return 0;
	int err = set_owner(at, uid ? want->uid : (uid_t)-1, gid ? want->gid : (gid_t)-1);
	if (!err && (now->st_mode & 06000))
		*mode_moved = true;	/* taken away or not: that depends on type and mode */
	return judge(lane, at, AR_OP_CHOWN, err, op);
}

static int apply_extended(struct ar_lane *lane, const struct attr_target *at,
			  const struct ar_row *row, bool *acl_touched, int *op)
{
	uint32_t keep = lane->rules->keep;
	bool acls = (keep & AR_KEEP_ACLS) && !S_ISLNK(row->mode);
	bool xattrs = (keep & AR_KEEP_XATTRS) && (row->xattr_digest || !at->fresh);
	struct xattr_path src, dst;
	int err = 0;

	if ((!acls && !xattrs) || (at->src_fd < 0 && at->src_dir_fd < 0))
		return 0;
	if (!lane->xattr_space && !(lane->xattr_space = malloc(AR_XATTR_SPACE))) {
		*op = AR_OP_MEMORY;
		return -ENOMEM;
	}
	path_of(&src, at->src_fd, at->src_dir_fd, at->src_name);
	path_of(&dst, at->fd >= 0 ? at->fd : at->path_fd, at->dir_fd, at->name);
	if (xattrs)
		err = sync_xattrs(lane, at, &src, &dst, op);
	if (!err && acls)
		err = sync_acls(lane, at, row, &src, &dst, acl_touched, op);
	return err;
}

static int apply_times(struct ar_lane *lane, const struct attr_target *at,
		       const struct ar_row *row, const struct ar_want *want,
		       const struct stat *now, int *op)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };

	const bool set_mtime = want->set_mtime && !keeps_mtime(lane, at, now, row);

	if (at->no_times || !times_differ(now, row, want, set_mtime))
		return 0;
	if (want->set_atime)
		times[0] = (struct timespec){ row->atime_s, row->atime_n };
	if (set_mtime)
		times[1] = (struct timespec){ row->mtime_s, row->mtime_n };
	return judge(lane, at, AR_OP_UTIMES, set_times(at, times), op);
}

static int apply_owner_and_mode(struct ar_lane *lane, const struct attr_target *at,
				const struct ar_row *row, const struct ar_want *want,
				const struct stat *now, int *op)
{
	bool mode_moved = false;
	int err = apply_owner(lane, at, want, now, &mode_moved, op);

	if (!err)
		err = apply_extended(lane, at, row, &mode_moved, op);
	mode_t mode = want->mode;
	if (at->fresh && S_ISDIR(row->mode) && !(lane->rules->keep & AR_KEEP_PERMS))
		mode |= now->st_mode & S_ISGID;	/* as it came from the parent */
	if (!err && want->set_mode && !S_ISLNK(row->mode) &&
	    (mode_moved || (now->st_mode & 07777) != mode))
		err = judge(lane, at, AR_OP_CHMOD, set_mode(at, mode), op);
	return err;
}

/* whether the scan may see another name of it while chown has taken a part of its mode away */
static bool is_seen_elsewhere(const struct ar_lane *lane, const struct stat *now)
{
	return !(lane->rules->keep & AR_KEEP_PERMS) && now->st_nlink > 1 &&
	       !S_ISDIR(now->st_mode);
}

int ar_attr_apply(struct ar_lane *lane, const struct attr_target *at, const struct ar_row *row,
		  const struct ar_want *want, int *op)
{
	struct stat now;
	int err = stat_target(at, &now);

	if (err) {
		*op = AR_OP_STAT;
		return err;
	}
	const bool is_locked = is_seen_elsewhere(lane, &now);
	if (is_locked)
		pthread_mutex_lock(&ar_mode_lock);
	err = apply_owner_and_mode(lane, at, row, want, &now, op);
	if (is_locked)
		pthread_mutex_unlock(&ar_mode_lock);
	if (!err)
		err = apply_times(lane, at, row, want, &now, op);
	return err;
}
