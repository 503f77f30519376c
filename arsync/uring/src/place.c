/*
 * place.c - temporary names, and how what they hold takes its place.
 *
 * A temporary name is ".arsync.<run>.<lane>-<n>": never made from the final name,
 * which may already be as long as a name can be.
 */
#include <stdio.h>

#include "lane.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE (1 << 1)
#endif

void ar_temp_name(struct ar_lane *lane, char *out)
{
	snprintf(out, AR_TEMP_MAX, ".arsync.%s.%u-%llx", lane->cfg.run, lane->cfg.lane,
		 (unsigned long long)++lane->serial);
}

void ar_give_back_room(int fd)
{
	struct stat st;

	if (!sys_fstat(fd, &st))
		(void)sys_truncate(fd, st.st_size);
}

static int directory_is_empty(int dir_fd, const char *name)
{
	int fd = sys_open(AR_OP_OPEN_TARGET, dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	DIR *dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	int empty = 1;
	for (struct dirent *e; empty && (e = readdir(dir));)
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	closedir(dir);
	return empty;
}

int ar_place_check(int dir_fd, const char *name, int *op)
{
	struct stat st;

	if (sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode))
		return 0;
	*op = AR_OP_RMDIR;
	return directory_is_empty(dir_fd, name) ? 0 : -ENOTEMPTY;
}

/* puts temp where an entry of another type stands, and removes that one */
static int exchange(int temp_fd, const char *temp, int dir_fd, const char *name, bool old_is_dir)
{
	int err = sys_rename(temp_fd, temp, dir_fd, name, RENAME_EXCHANGE);

	if (err == -EINVAL || err == -ENOSYS) {	/* a filesystem without exchange */
		err = old_is_dir ? sys_rmdir(dir_fd, name) : sys_unlink(dir_fd, name);
		return err ? err : sys_rename(temp_fd, temp, dir_fd, name, 0);
	}
	if (err)
		return err;
	err = old_is_dir ? sys_rmdir(temp_fd, temp) : sys_unlink(temp_fd, temp);
	if (err)	/* somebody filled it meanwhile: as it was */
		(void)sys_rename(temp_fd, temp, dir_fd, name, RENAME_EXCHANGE);
	return err;
}

int ar_place(int temp_fd, const char *temp, int dir_fd, const char *name, bool is_dir, int *op)
{
	/* an empty directory would silently give way to another one: NOREPLACE */
	int err = sys_rename(temp_fd, temp, dir_fd, name, is_dir ? RENAME_NOREPLACE : 0);

	*op = AR_OP_RENAME;
	if (is_dir && err == -EINVAL)
		err = sys_rename(temp_fd, temp, dir_fd, name, 0);
	if (err != -EISDIR && err != -ENOTDIR && err != -ENOTEMPTY && err != -EEXIST)
		return err;

	struct stat st;
	int rc = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (rc)
		return rc;
	bool old_is_dir = S_ISDIR(st.st_mode);
	if (old_is_dir && is_dir)
		return -EEXIST;	/* the caller merges */
	if (old_is_dir) {
		rc = directory_is_empty(dir_fd, name);
		if (rc <= 0) {
			*op = AR_OP_RMDIR;
			return rc ? rc : -ENOTEMPTY;
		}
	}
	return exchange(temp_fd, temp, dir_fd, name, old_is_dir);
}

bool ar_must_keep_old(const struct ar_lane *lane, const struct folder *folder,
		      const struct ar_change *change)
{
	return lane->cfg.backup && !folder->staged && change->dst_row != AR_NONE &&
	       !(change->flags & AR_CHANGE_BACKED_UP);
}

int ar_keep_old(struct ar_lane *lane, const struct folder *folder, struct ar_change *change,
		enum ar_backup_how how, int *op)
{
	const struct ar_page *src = ar_src_page(lane->batch, folder->pair);
	const struct ar_page *dst = ar_dst_path_page(lane->batch, folder->pair);

	if (!ar_must_keep_old(lane, folder, change))
		return 0;
	*op = AR_OP_BACKUP;
	int kept = ar_backup_keep(lane->cfg.backup, lane->batch->dst_root, folder->dst_fd,
				  ar_page_str(dst, dst->path_off), dst->path_len,
				  ar_row_name(src, &ar_rows(src)[change->src_row]), how);
	if (kept > 0)
		change->flags |= AR_CHANGE_BACKED_UP;
	return AR_MIN(kept, 0);
}

static int open_in_spite_of_mode(int dir_fd, const char *name, int flags)
{
	struct stat st;

	if (sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode) ||
	    st.st_uid != geteuid())
		return -EACCES;
	if (fchmodat(dir_fd, name, (st.st_mode & 07777) | 0600, AT_SYMLINK_NOFOLLOW))
		return -EACCES;
	int fd = sys_open(AR_OP_CREATE, dir_fd, name, flags & ~O_CREAT, 0);
	if (fd >= 0)	/* what is open stays writable */
		(void)sys_fchmod(fd, st.st_mode & 07777);
	else
		(void)fchmodat(dir_fd, name, st.st_mode & 07777, AT_SYMLINK_NOFOLLOW);
	return fd;
}

int ar_open_in_place(int dir_fd, const char *name, int access, mode_t mode)
{
	int flags = access | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
	int fd = sys_open(AR_OP_CREATE, dir_fd, name, flags, mode);
	struct stat st;

	if (fd == -EACCES)
		fd = open_in_spite_of_mode(dir_fd, name, flags);
	if (fd < 0)
		return fd;
	int err = sys_fstat(fd, &st);
	if (!err && !S_ISREG(st.st_mode))
		err = -EEXIST;	/* put there since it was compared */
	if (err)
		close(fd);
	return err ? err : fd;
}
