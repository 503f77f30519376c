/*
 * sys.h - system calls that answer -errno and pass a failpoint first.
 *
 * One wrapper a call, named after it.  EINTR is retried here where the call may
 * simply be repeated, so nobody above ever sees it.
 */
#ifndef ARSYNC_SYS_H
#define ARSYNC_SYS_H

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "internal.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* ---------------------------------------------------------------- fault.c */

extern _Atomic int ar_fault_armed;
/* 0 to go on, -errno to fail; *len may be made smaller */
int ar_fault_hit(int op, size_t *len);

static inline int ar_fault(int op, size_t *len)
{
	if (AR_LIKELY(!atomic_load_explicit(&ar_fault_armed, memory_order_relaxed)))
		return 0;
	return ar_fault_hit(op, len);
}

#define AR_SYS(op, call)                                    \
	({                                                  \
		long ar_r_;                                 \
		do {                                        \
			ar_r_ = ar_fault(op, NULL);         \
			if (AR_LIKELY(!ar_r_)) {            \
				ar_r_ = (call);             \
				if (ar_r_ < 0)              \
					ar_r_ = -errno;     \
			}                                   \
		} while (AR_UNLIKELY(ar_r_ == -EINTR));     \
		ar_r_;                                      \
	})

/* ------------------------------------------------------------------- scan */

static inline int sys_opendirat(int dirfd, const char *path, int flags)
{
	return (int)AR_SYS(AR_OP_OPEN_DIR, openat(dirfd, path, flags | O_CLOEXEC));
}

static inline int sys_openat2(int dirfd, const char *path, const struct open_how *how)
{
	return (int)AR_SYS(AR_OP_OPEN_DIR,
			   syscall(SYS_openat2, dirfd, path, how, sizeof(*how)));
}

static inline long sys_getdents(int fd, void *buffer, size_t bytes)
{
	return AR_SYS(AR_OP_READ_DIR, syscall(SYS_getdents64, fd, buffer, bytes));
}

static inline int sys_statx(int dirfd, const char *name, int flags, unsigned int mask,
			       struct statx *stx)
{
	return (int)AR_SYS(AR_OP_STAT, statx(dirfd, name, flags, mask, stx));
}

static inline long sys_readlinkat(int dirfd, const char *name, char *buffer, size_t bytes)
{
	return AR_SYS(AR_OP_READLINK, readlinkat(dirfd, name, buffer, bytes));
}

/* ------------------------------------------------- execute: source and data */

static inline int sys_open(int op, int dir_fd, const char *name, int flags, mode_t mode)
{
	return (int)AR_SYS(op, openat(dir_fd, name, flags | O_CLOEXEC | O_NOCTTY, mode));
}

static inline int sys_fstat(int fd, struct stat *st)
{
	return (int)AR_SYS(AR_OP_STAT, fstat(fd, st));
}

static inline int sys_fstatat(int dir_fd, const char *name, struct stat *st, int flags)
{
	return (int)AR_SYS(AR_OP_STAT, fstatat(dir_fd, name, st, flags));
}

/* like pread, or preadv2 with RWF_* flags; may answer less than len */
static inline ssize_t sys_read(int fd, void *buf, size_t len, off_t off, int flags)
{
	for (;;) {
		size_t part = len;
		int err = ar_fault(AR_OP_READ, &part);
		if (err == -EINTR)
			continue;
		if (err)
			return err;
		struct iovec vec = { buf, part };
		ssize_t r = flags ? preadv2(fd, &vec, 1, off, flags) : pread(fd, buf, part, off);
		if (r >= 0)
			return r;
		if (errno != EINTR)
			return -errno;
	}
}

/* writes it all, whatever write(2) makes of it; 0 or -errno */
static inline int sys_write_all(int fd, const void *buf, size_t len, off_t off)
{
	while (len) {
		size_t part = len;
		int err = ar_fault(AR_OP_WRITE, &part);
		if (err == -EINTR)
			continue;
		if (err)
			return err;
		ssize_t r = pwrite(fd, buf, part, off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			return -EIO;
		buf = (const char *)buf + r;
		len -= (size_t)r;
		off += r;
	}
	return 0;
}

static inline off_t sys_seek(int fd, off_t off, int whence)
{
	return AR_SYS(AR_OP_SEEK, lseek(fd, off, whence));
}

static inline int sys_truncate(int fd, off_t size)
{
	return (int)AR_SYS(AR_OP_TRUNCATE, ftruncate(fd, size));
}

static inline int sys_fallocate(int fd, int mode, off_t off, off_t len)
{
	return (int)AR_SYS(AR_OP_ALLOCATE, fallocate(fd, mode, off, len));
}

static inline int sys_clone(int dst_fd, int src_fd)
{
	return (int)AR_SYS(AR_OP_REFLINK, ioctl(dst_fd, FICLONE, src_fd));
}

static inline ssize_t sys_copy_range(int in, off_t *in_off, int out, off_t *out_off, size_t len)
{
	int err = ar_fault(AR_OP_COPY_RANGE, &len);

	if (err)
		return err;
	ssize_t r = copy_file_range(in, in_off, out, out_off, len, 0);
	return r < 0 ? -errno : r;
}

/* ------------------------------------------------------ execute: attributes */

static inline int sys_chown(int dir_fd, const char *name, uid_t uid, gid_t gid)
{
	int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);

	return (int)AR_SYS(AR_OP_CHOWN, fchownat(dir_fd, name, uid, gid, flags));
}

static inline int sys_utimes(int dir_fd, const char *name, const struct timespec times[2])
{
	int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);

	return (int)AR_SYS(AR_OP_UTIMES, utimensat(dir_fd, name, times, flags));
}

static inline int sys_futimens(int fd, const struct timespec times[2])
{
	return (int)AR_SYS(AR_OP_UTIMES, futimens(fd, times));
}

static inline int sys_fchmod(int fd, mode_t mode)
{
	return (int)AR_SYS(AR_OP_CHMOD, fchmod(fd, mode));
}

/* path is one of ar_proc_path's: a descriptor alone is a link to be followed */
static inline int sys_setxattr(int op, const char *path, bool follow, const char *name,
			       const void *value, size_t size)
{
	return (int)AR_SYS(op, follow ? setxattr(path, name, value, size, 0)
				      : lsetxattr(path, name, value, size, 0));
}

static inline int sys_removexattr(int op, const char *path, bool follow, const char *name)
{
	return (int)AR_SYS(op, follow ? removexattr(path, name) : lremovexattr(path, name));
}

static inline ssize_t sys_getxattr(const char *path, bool follow, const char *name, void *value,
				   size_t size)
{
	return AR_SYS(AR_OP_GET_XATTR, follow ? getxattr(path, name, value, size)
					      : lgetxattr(path, name, value, size));
}

static inline ssize_t sys_listxattr(const char *path, bool follow, char *list, size_t size)
{
	return AR_SYS(AR_OP_LIST_XATTR, follow ? listxattr(path, list, size)
					       : llistxattr(path, list, size));
}

/* ------------------------------------------------------------ execute: names */

static inline int sys_rename(int from_fd, const char *from, int to_fd, const char *to,
			     unsigned int flags)
{
	return (int)AR_SYS(AR_OP_RENAME, renameat2(from_fd, from, to_fd, to, flags));
}

static inline int sys_link(int from_fd, const char *from, int to_fd, const char *to)
{
	return (int)AR_SYS(AR_OP_LINK, linkat(from_fd, from, to_fd, to, 0));
}

static inline int sys_symlink(const char *target, int dir_fd, const char *name)
{
	return (int)AR_SYS(AR_OP_SYMLINK, symlinkat(target, dir_fd, name));
}

static inline int sys_mknod(int dir_fd, const char *name, mode_t mode, dev_t dev)
{
	return (int)AR_SYS(AR_OP_MKNOD, mknodat(dir_fd, name, mode, dev));
}

static inline int sys_mkdir(int dir_fd, const char *name, mode_t mode)
{
	return (int)AR_SYS(AR_OP_MKDIR, mkdirat(dir_fd, name, mode));
}

static inline int sys_unlink(int dir_fd, const char *name)
{
	return (int)AR_SYS(AR_OP_UNLINK, unlinkat(dir_fd, name, 0));
}

static inline int sys_rmdir(int dir_fd, const char *name)
{
	return (int)AR_SYS(AR_OP_RMDIR, unlinkat(dir_fd, name, AT_REMOVEDIR));
}

#endif
