/*
 * row.c - from what statx says to a row, and the digests beside it.
 */
#include "scan.h"

int ar_scan_statx(struct scan_call *call, int fd, const char *name, int flags, struct statx *stx)
{
	int err, tries = 0;

	/* not AT_STATX_DONT_SYNC: it makes NFS and FUSE answer what was true long ago */
	do {
		err = sys_statx(fd, name, flags | AT_NO_AUTOMOUNT,
				STATX_BASIC_STATS | STATX_BTIME, stx);
	} while (AR_UNLIKELY(err) && ar_scan_again(call, err, &tries));
	return err;
}

void ar_row_fill(struct ar_row *row, const struct statx *stx, uint64_t dev, uint32_t scan_flags)
{
	row->type = (uint8_t)((stx->stx_mode & S_IFMT) >> 12);
	row->mode = stx->stx_mode;
	row->uid = stx->stx_uid;
	row->gid = stx->stx_gid;
	row->nlink = stx->stx_nlink;
	row->size = stx->stx_size;
	row->ino = stx->stx_ino;
	row->mtime_s = stx->stx_mtime.tv_sec;
	row->mtime_n = stx->stx_mtime.tv_nsec;
	row->ctime_s = stx->stx_ctime.tv_sec;
	row->ctime_n = stx->stx_ctime.tv_nsec;
	if (stx->stx_mask & STATX_BTIME) {
		row->btime_s = stx->stx_btime.tv_sec;
		row->btime_n = stx->stx_btime.tv_nsec;
	}
	if (scan_flags & AR_SCAN_ATIME) {
		row->atime_s = stx->stx_atime.tv_sec;
		row->atime_n = stx->stx_atime.tv_nsec;
	}
	if (ar_is_device(row->type)) {
		row->rdev_major = stx->stx_rdev_major;
		row->rdev_minor = stx->stx_rdev_minor;
	}
	/* delayed allocation is counted; a compressed file only costs a look for holes */
	if (row->type == DT_REG && stx->stx_blocks * 512 < stx->stx_size)
		row->flags |= AR_ROW_SPARSE;
	const bool elsewhere = ar_dev(stx->stx_dev_major, stx->stx_dev_minor) != dev;
	if (row->type == DT_DIR && (stx->stx_attributes & STATX_ATTR_MOUNT_ROOT || elsewhere))
		row->flags |= AR_ROW_MOUNT;
	/* without a link between, the files of an overlay keep the st_dev of their layer */
	if (row->type != DT_DIR && row->flags & AR_ROW_FOLLOWED && elsewhere)
		row->flags |= AR_ROW_MOUNT;
}

void ar_row_bare(struct ar_row *row)
{
	*row = (struct ar_row){
		.name_off = row->name_off,
		.name_len = row->name_len,
		.type = row->type,
		.flags = row->flags,
		.mode = row->mode & S_IFMT,
		.ino = row->ino,
		.btime_s = row->btime_s,
		.btime_n = row->btime_n,
	};
}

int ar_row_digest(struct scan_call *call, struct ar_row *row, int side, int fd, const char *name,
		  uint32_t index)
{
	const uint32_t scan_flags = call->scan->flags;
	uint32_t flags = scan_flags & AR_SCAN_ALL_XATTRS ? AR_XATTR_ALL : 0;

	if (!(scan_flags & (AR_SCAN_XATTR | AR_SCAN_ACL)))
		return 0;
	if (row->flags & AR_ROW_FOLLOWED)
		flags |= AR_XATTR_FOLLOW;
	if (side == DST)
		flags |= AR_XATTR_DST;
	int err = ar_xattr_digest_at(fd, name, flags, call->scan->acl_rules,
				     scan_flags & AR_SCAN_XATTR ? &row->xattr_digest : NULL,
				     scan_flags & AR_SCAN_ACL ? &row->acl_digest : NULL);
	if (!err || err == -ENOENT || err == -ENOMEM)
		return err == -ENOMEM ? err : 0;
	return ar_batch_add_problem(call->out, call->pair, index, AR_PROBLEM_FAILED, side,
				    AR_OP_GET_XATTR, err);
}
