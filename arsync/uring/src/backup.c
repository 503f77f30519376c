/*
 * backup.c - what a change replaces, or a deletion removes, stays under another name.
 *
 * That name is beside the entry, with a suffix, or at the same place below another
 * directory, whose own directories are made as they are needed.  The entry gets it
 * as a second name, a hard link, so that the name which is about to be replaced is
 * never missing.  Where no link can be made it is renamed, and copied to another
 * filesystem.  An older backup of that name is given up for it.
 *
 * Source: rsync(1), --backup; link(2).
 */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "backup.h"
#include "sys.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
#define COPY_BYTES (1u << 18)
#define MOST_NAMES 100000	/* that are tried for one entry in the trash */

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif

struct ar_backup {
	char *dir;		/* NULL: beside what is kept */
	char *suffix;
	ar_root *root;		/* dir, once it is needed */
	pthread_mutex_t lock;	/* of root */
	atomic_bool stopped;
};

struct spot {			/* a name in an open directory */
	int dir_fd;
	const char *name;
};

int ar_backup_open(const char *dir, const char *suffix, ar_backup **out)
{
	struct ar_backup *backup = calloc(1, sizeof(*backup));

	if (!backup)
		return -ENOMEM;
	pthread_mutex_init(&backup->lock, NULL);
	backup->dir = *dir ? strdup(dir) : NULL;
	backup->suffix = strdup(suffix);
	if ((*dir && !backup->dir) || !backup->suffix) {
		ar_backup_close(backup);
		return -ENOMEM;
	}
	*out = backup;
	return 0;
}

void ar_backup_close(ar_backup *backup)
{
	if (!backup)
		return;
	if (backup->root)
		ar_root_close(backup->root);
	pthread_mutex_destroy(&backup->lock);
	free(backup->dir);
	free(backup->suffix);
	free(backup);
}

void ar_backup_stop(struct ar_backup *backup)
{
	atomic_store(&backup->stopped, true);
}

/* ------------------------------------------------------------ where it is kept */

static int make_path(char *path)
{
	int err = 0;

	for (char *slash = strchr(path + 1, '/'); slash && !err; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		err = sys_mkdir(AT_FDCWD, path, 0777);
		*slash = '/';
		if (err == -EEXIST)
			err = 0;
	}
	return err;
}

static int open_root(struct ar_backup *backup)
{
	int err = 0;

	pthread_mutex_lock(&backup->lock);
	if (!backup->root) {
		err = make_path(backup->dir);
		if (!err)
			err = ar_root_open(backup->dir, AR_ROOT_CREATE, &backup->root);
	}
	pthread_mutex_unlock(&backup->lock);
	return err;
}

/* a directory of backups lets in whom the directory they are from lets in */
static void dress_like(int fd, const ar_root *dst, const char *path, size_t len)
{
	int like = ar_open_beneath(dst, path, len, O_PATH | O_DIRECTORY);
	struct stat st;

	if (like < 0)
		return;
	if (!sys_fstat(like, &st)) {
		(void)sys_chown(fd, "", st.st_uid, st.st_gid);
		(void)sys_fchmod(fd, st.st_mode & 07777);
	}
	close(like);
}

static int open_or_make(int parent_fd, const char *name, bool *made)
{
	int fd = sys_open(AR_OP_OPEN_TARGET, parent_fd, name, DIR_FLAGS, 0);

	*made = false;
	if (fd != -ENOENT)
		return fd;
	int err = sys_mkdir(parent_fd, name, 0700);
	*made = !err;
	if (err && err != -EEXIST)
		return err;
	return sys_open(AR_OP_OPEN_TARGET, parent_fd, name, DIR_FLAGS, 0);
}

/* path is the destination's: a component that ends in a NUL is a link there, and none here */
static int make_dirs(const ar_root *root, const ar_root *dst, const char *path, size_t len)
{
	int fd = ar_open_beneath(root, "", 0, O_RDONLY | O_DIRECTORY);
	char name[NAME_MAX + 1];

	for (size_t at = 0; at < len && fd >= 0;) {
		const char *slash = memchr(path + at, '/', len - at);
		const size_t end = slash ? (size_t)(slash - path) : len;
		bool made = false;
		int next = -ENAMETOOLONG;

		if (end - at <= NAME_MAX) {
			memcpy(name, path + at, end - at);
			name[end - at] = '\0';
			next = open_or_make(fd, name, &made);
		}
		close(fd);
		fd = next;
		if (made && fd >= 0)
			dress_like(fd, dst, path, end);
		at = end + 1;
	}
	return fd;
}

/* the directory for the backups of a directory of the destination */
static int open_dir(struct ar_backup *backup, const ar_root *dst, int dir_fd, const char *path,
		    size_t len)
{
	if (!backup->dir) {
		int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? -errno : fd;
	}
	int err = open_root(backup);
	return err ? err : make_dirs(backup->root, dst, path, len);
}

/* -------------------------------------------------------------------- copying */

static int copy_data(struct ar_backup *backup, int from, int to)
{
	char *buf;
	off_t off = 0;
	ssize_t got;
	int err = 0;

	if (!sys_clone(to, from))
		return 0;
	buf = malloc(COPY_BYTES);
	if (!buf)
		return -ENOMEM;
	while (!err && (got = sys_read(from, buf, COPY_BYTES, off, 0)) != 0) {
		err = got < 0 ? (int)got : sys_write_all(to, buf, (size_t)got, off);
		off += got;
		if (!err && atomic_load(&backup->stopped))
			err = -EINTR;
	}
	free(buf);
	return err;
}

/* what an ACL hides must not be shown by a backup: it fails where that cannot be set */
static int copy_xattrs(int from, int to)
{
	char from_path[AR_PROC_PATH_MAX], to_path[AR_PROC_PATH_MAX];
	char *list = malloc(XATTR_LIST_MAX + XATTR_SIZE_MAX), *value = list + XATTR_LIST_MAX;
	int err = 0;

	if (!list)
		return -ENOMEM;
	ar_proc_path(from_path, from, NULL);
	ar_proc_path(to_path, to, NULL);
	ssize_t len = sys_listxattr(from_path, true, list, XATTR_LIST_MAX);
	for (char *name = list; !err && name < list + len; name += strlen(name) + 1) {
		ssize_t got = sys_getxattr(from_path, true, name, value, XATTR_SIZE_MAX);
		if (got >= 0)
			err = sys_setxattr(AR_OP_SET_XATTR, to_path, true, name, value, (size_t)got);
		if (strncmp(name, "system.", 7))
			err = 0;
	}
	free(list);
	return err;
}

static int copy_file(struct ar_backup *backup, const struct spot *from, const struct spot *to,
		     const struct stat *st)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	int out = -1, err = 0;
	int in = sys_open(AR_OP_OPEN_TARGET, from->dir_fd, from->name,
			  O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);

	if (in < 0)
		return in;
	out = sys_open(AR_OP_CREATE, to->dir_fd, to->name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	err = out < 0 ? out : copy_data(backup, in, out);
	if (!err) {
		(void)sys_chown(out, "", st->st_uid, st->st_gid);
		err = copy_xattrs(in, out);
	}
	if (!err)
		err = sys_fchmod(out, st->st_mode & 07777);
	if (!err)
		err = sys_futimens(out, times);
	if (out >= 0 && close(out) && !err)
		err = -errno;
	if (err && out >= 0)
		(void)sys_unlink(to->dir_fd, to->name);
	close(in);
	return err;
}

static int copy_node(const struct spot *from, const struct spot *to, const struct stat *st)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	char target[PATH_MAX];
	int err;

	if (S_ISLNK(st->st_mode)) {
		long len = sys_readlinkat(from->dir_fd, from->name, target, sizeof(target) - 1);
		if (len < 0)
			return (int)len;
		target[len] = '\0';
		err = sys_symlink(target, to->dir_fd, to->name);
	} else {
		err = sys_mknod(to->dir_fd, to->name, st->st_mode, st->st_rdev);
	}
	if (err)
		return err;
	(void)sys_chown(to->dir_fd, to->name, st->st_uid, st->st_gid);
	(void)sys_utimes(to->dir_fd, to->name, times);
	return 0;
}

static int copy(struct ar_backup *backup, const struct spot *from, const struct spot *to,
		const struct stat *st)
{
	return S_ISREG(st->st_mode) ? copy_file(backup, from, to, st) : copy_node(from, to, st);
}

/* -------------------------------------------------------------- the second name */

/* an older backup; a directory of that name only when it is empty */
static int give_up(const struct spot *old)
{
	int err = sys_unlink(old->dir_fd, old->name);

	return err == -EISDIR ? sys_rmdir(old->dir_fd, old->name) : err;
}

static bool in_the_way(int err)
{
	return err == -EEXIST || err == -EISDIR || err == -ENOTEMPTY;
}

/* no links on this filesystem, none to a file of another owner, or no more of them */
static bool no_link(int err)
{
	return err == -EPERM || err == -EOPNOTSUPP || err == -ENOSYS || err == -EMLINK;
}

/* between two names of one file rename does nothing and leaves both */
static bool is_still_there(const struct spot *spot, const struct stat *st)
{
	struct stat now;

	return st->st_nlink > 1 &&
	       !sys_fstatat(spot->dir_fd, spot->name, &now, AT_SYMLINK_NOFOLLOW) &&
	       now.st_ino == st->st_ino && now.st_dev == st->st_dev;
}

static int move(struct ar_backup *backup, const struct spot *from, const struct spot *to,
		const struct stat *st)
{
	int err = sys_rename(from->dir_fd, from->name, to->dir_fd, to->name, 0);

	if (!err && is_still_there(from, st))
		return sys_unlink(from->dir_fd, from->name);
	if (err != -EXDEV)
		return err;
	err = copy(backup, from, to, st);
	return err ? err : sys_unlink(from->dir_fd, from->name);
}

static int try_keep(struct ar_backup *backup, const struct spot *from, const struct spot *to,
		    const struct stat *st, enum ar_backup_how how)
{
	if (how == AR_BACKUP_COPY)
		return copy(backup, from, to, st);
	if (how == AR_BACKUP_MOVE)
		return move(backup, from, to, st);
	int err = sys_link(from->dir_fd, from->name, to->dir_fd, to->name);
	if (err == -EXDEV)
		return copy(backup, from, to, st);
	return no_link(err) ? move(backup, from, to, st) : err;
}

static int keep(struct ar_backup *backup, const struct spot *from, int to_fd,
		const struct stat *st, enum ar_backup_how how)
{
	char name[NAME_MAX + 1];
	const struct spot to = { to_fd, name };

	if (strlen(from->name) + strlen(backup->suffix) > NAME_MAX)
		return -ENAMETOOLONG;
	strcpy(stpcpy(name, from->name), backup->suffix);
	int err = try_keep(backup, from, &to, st, how);
	if (in_the_way(err)) {
		err = give_up(&to);
		if (!err)
			err = try_keep(backup, from, &to, st, how);
	}
	return err;
}

int ar_backup_keep(struct ar_backup *backup, const ar_root *dst, int dir_fd, const char *path,
		   size_t len, const char *name, enum ar_backup_how how)
{
	const struct spot from = { dir_fd, name };
	struct stat st;
	int err = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (err == -ENOENT || (!err && S_ISDIR(st.st_mode)))
		return 0;
	if (err)
		return err;
	int to_fd = open_dir(backup, dst, dir_fd, path, len);
	if (to_fd < 0)
		return to_fd;
	err = keep(backup, &from, to_fd, &st, how);
	close(to_fd);
	return err ? err : 1;
}

bool ar_backup_wanted(const struct ar_backup *backup, const char *name)
{
	const size_t len = strlen(name), suffix = strlen(backup->suffix);

	return backup->dir || len <= suffix || strcmp(name + len - suffix, backup->suffix);
}

/* the name, or for a number above 0 as much of it as leaves room for that */
static void number_name(char *out, const char *name, unsigned int number)
{
	char tail[16] = "";

	if (number)
		snprintf(tail, sizeof(tail), ".%u", number);
	snprintf(out, NAME_MAX + 1, "%.*s%s", NAME_MAX - (int)strlen(tail), name, tail);
}

int ar_backup_bury(struct ar_backup *trash, const ar_root *dst, int dir_fd, const char *path,
		   size_t len, const char *name)
{
	int to_fd = open_dir(trash, dst, dir_fd, path, len);
	char new_name[NAME_MAX + 1];
	int err = -EEXIST;

	if (to_fd < 0)
		return to_fd;
	for (unsigned int number = 0; err == -EEXIST && number < MOST_NAMES; number++) {
		number_name(new_name, name, number);
		err = sys_rename(dir_fd, name, to_fd, new_name, RENAME_NOREPLACE);
	}
	close(to_fd);
	return err;
}
