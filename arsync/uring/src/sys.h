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
		long ar_r_ = ar_fault(op, NULL);            \
		while (!ar_r_) {                            \
			ar_r_ = (call);                     \
			if (ar_r_ >= 0)                     \
				break;                      \
			ar_r_ = -errno;                     \
			if (ar_r_ != -EINTR)                \
				break;                      \
			ar_r_ = ar_fault(op, NULL);         \
		}                                           \
		ar_r_;                                      \
	})

#endif
