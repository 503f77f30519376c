/*
 * dir.c - open a directory on both sides: identity, own row, names.
 */
#include <stdlib.h>
#include <time.h>

#include "scan.h"

#define FIRST_PATH 256
#define PAUSE_NS 5000000L	/* the first one; each further is four times as long */

/* ------------------------------------------------------------------- paths */

int ar_path_reserve(struct ar_path *path, size_t len)
{
	size_t wanted = AR_MAX(path->room, (size_t)FIRST_PATH);

	if (len <= path->room)
		return 0;
	while (wanted < len)
		wanted *= 2;
	char *moved = ar_fault(AR_OP_MEMORY, NULL) ? NULL : realloc(path->bytes, wanted);
	if (!moved)
		return -ENOMEM;
	path->bytes = moved;
	path->room = wanted;
	return 0;
}

int ar_path_set(struct ar_path *path, const char *bytes, size_t len)
{
	int err = ar_path_reserve(path, len + 1);

	if (err)
		return err;
	memcpy(path->bytes, bytes, len);
	path->len = len;
	return 0;
}

int ar_path_push(struct ar_path *path, const char *name, size_t len, bool marked)
{
	int err = ar_path_reserve(path, path->len + len + 2);

	if (err)
		return err;
	if (path->len)
		path->bytes[path->len++] = '/';
	memcpy(path->bytes + path->len, name, len);
	path->len += len;
	return marked ? ar_path_mark(path) : 0;
}

int ar_path_mark(struct ar_path *path)
{
	int err = ar_path_reserve(path, path->len + 1);

	if (!err)
		path->bytes[path->len++] = '\0';
	return err;
}

void ar_path_unmark(struct ar_path *path)
{
	size_t kept = 0;

	for (size_t i = 0; i < path->len; i++) {
		if (path->bytes[i])
			path->bytes[kept++] = path->bytes[i];
	}
	path->len = kept;
}

/* ------------------------------------------------------------------- tries */

bool ar_scan_again(struct scan_call *call, int err, int *tries)
{
	struct timespec pause = { 0, PAUSE_NS << 2 * *tries };

	if (err != -EAGAIN && err != -EBUSY && err != -ESTALE && err != -ETIMEDOUT)
		return false;
	if (++*tries == AR_SCAN_TRIES)
		return false;
	call->out->tally.retries++;
	nanosleep(&pause, NULL);
	return true;
}

/* without moving the atime where that is allowed: to the owner and to root */
static int open_side(struct scan_call *call, const struct ar_root *root,
		     const struct ar_path *path, int flags)
{
	int fd, tries = 0;

	do {
		fd = -EPERM;
		if (!(flags & O_PATH))
			fd = ar_open_beneath(root, path->bytes, path->len, flags | O_NOATIME);
		if (fd == -EPERM)
			fd = ar_open_beneath(root, path->bytes, path->len, flags);
	} while (fd < 0 && ar_scan_again(call, fd, &tries));
	return fd;
}

static int problem(struct scan_call *call, int kind, int side, int op, int err)
{
	return ar_batch_add_problem(call->out, call->pair, AR_NONE, kind, side, op, err);
}

static int identify_side(struct scan_call *call, struct ar_side *side)
{
	struct statx stx;
	int err = ar_scan_statx(call, side->fd, "", AT_EMPTY_PATH, &stx);

	if (err)
		return err;
	side->dev = ar_dev(stx.stx_dev_major, stx.stx_dev_minor);
	memset(&side->self, 0, sizeof(side->self));
	ar_row_fill(&side->self, &stx, side->dev, call->scan->flags);
	return 0;
}

static int self_digest(struct scan_call *call, struct ar_dir *dir, int which)
{
	struct ar_side *side = &dir->side[which];

	if (dir->pair_flags & AR_PAIR_NAMED && !(dir->pair_flags & AR_PAIR_ROOT))
		return 0;
	return ar_row_digest(call, &side->self, which, side->fd, ".", AR_NONE);
}

int ar_dir_identify(struct scan_call *call, struct ar_dir *dir, int side)
{
	int err = identify_side(call, &dir->side[side]);

	return err ? err : self_digest(call, dir, side);
}

/* ------------------------------------------------------------------ source */

/* the pair only names the problem: nothing of the directory is known */
static int give_up(struct scan_call *call, struct ar_dir *dir, int op, int err)
{
	struct ar_side *side = &dir->side[SRC];
	const bool vanished = err == -ENOENT && !(dir->pair_flags & AR_PAIR_NAMED);

	if (ar_scan_is_scarce(err))
		return err;
	memset(&side->self, 0, sizeof(side->self));
	side->self.flags = AR_ROW_BAD;
	side->page_flags |= AR_PAGE_PARTIAL;
	dir->pair_flags = AR_PAIR_NAMED;
	dir->dead = true;
	return problem(call, vanished ? AR_PROBLEM_VANISHED : AR_PROBLEM_FAILED, SRC, op, err);
}

int ar_dir_open_source(struct scan_call *call, struct ar_dir *dir, bool only_self)
{
	struct ar_side *side = &dir->side[SRC];
	const struct ar_root *root = call->scan->src;
	int err = 0, flags = only_self ? O_PATH | O_DIRECTORY : O_RDONLY | O_DIRECTORY;

	side->fd = open_side(call, root, &side->path, flags);
	if (side->fd == -EACCES && !only_self) {
		side->page_flags |= AR_PAGE_PARTIAL;
		side->fd = open_side(call, root, &side->path, O_PATH | O_DIRECTORY);
		if (side->fd >= 0)
			err = problem(call, AR_PROBLEM_FAILED, SRC, AR_OP_OPEN_DIR, -EACCES);
	}
	if (side->fd < 0)
		return give_up(call, dir, AR_OP_OPEN_DIR, side->fd);
	if (err)
		return err;
	err = identify_side(call, side);
	if (err)
		return give_up(call, dir, AR_OP_STAT, err);
	err = self_digest(call, dir, SRC);
	return err ? err : ar_earlier_open(call, dir);
}

int ar_dir_list_source(struct scan_call *call, struct ar_dir *dir)
{
	struct ar_side *side = &dir->side[SRC];
	int err = 0;

	if (!(side->page_flags & AR_PAGE_PARTIAL))
		err = ar_names_read(&side->names, side->fd, call->scratch->dirents);
	if (err == -ENOMEM)
		return err;
	if (err) {
		side->page_flags |= AR_PAGE_PARTIAL;
		err = problem(call, err == -ENOENT ? AR_PROBLEM_VANISHED : AR_PROBLEM_FAILED, SRC,
			      AR_OP_READ_DIR, err);
	}
	return err ? err : ar_names_sort(&side->names, &call->scratch->sorter);
}

/* ------------------------------------------------------------- destination */

static bool is_absent(int err)
{
	return err == -ENOENT || err == -ENOTDIR || err == -ELOOP;
}

/*
 * What cannot be looked at is taken for empty, but not for absent: making what the
 * source has will say what is wrong with it, or turn out well.
 */
static int cannot_look(struct scan_call *call, struct ar_side *side, int op, int err)
{
	if (ar_scan_is_scarce(err))
		return err;
	if (op != AR_OP_READ_DIR)
		side->self.flags = AR_ROW_BAD;
	side->page_flags |= AR_PAGE_PARTIAL;
	return problem(call, AR_PROBLEM_FAILED, DST, op, err);
}

static int list_dest(struct scan_call *call, struct ar_side *side)
{
	int err = ar_names_read(&side->names, side->fd, call->scratch->dirents);

	if (err)
		return cannot_look(call, side, AR_OP_READ_DIR, err);
	side->listed = true;
	if (call->scan->flags & AR_SCAN_DELETE)
		call->out->tally.found_dst += side->names.count;
	return ar_names_sort(&side->names, &call->scratch->sorter);
}

/*
 * A directory of one's own whose mode keeps the owner out: as rsync does, it is given
 * another, and the one that it shall have when it is finished.  1: it is open anew.
 */
static int let_owner_in(struct scan_call *call, struct ar_dir *dir, int flags)
{
	struct ar_side *side = &dir->side[DST];
	const uint32_t mode = side->self.mode & 07777;
	char path[AR_PROC_PATH_MAX];

	if (!(call->scan->flags & AR_SCAN_LET_IN) || side->self.uid != geteuid() ||
	    (mode & 0500) == 0500)
		return 0;
	ar_proc_path(path, side->fd, NULL);
	if (AR_SYS(AR_OP_CHMOD, chmod(path, mode | 0700)))
		return 0;
	dir->pair_flags |= AR_PAIR_TOUCHED;
	close(side->fd);
	side->fd = open_side(call, call->scan->dst, &side->path, flags);
	return side->fd < 0 ? side->fd : 1;
}

int ar_dir_open_dest(struct scan_call *call, struct ar_dir *dir, bool only_self)
{
	struct ar_side *side = &dir->side[DST];
	const struct ar_root *root = call->scan->dst;
	const bool by_name = only_self || dir->pair_flags & AR_PAIR_NAMED;
	const int wanted = by_name ? O_PATH | O_DIRECTORY : O_RDONLY | O_DIRECTORY;
	int flags = wanted;

	side->fd = open_side(call, root, &side->path, flags);
	if (side->fd == -EACCES && !by_name) {
		flags = O_PATH | O_DIRECTORY;
		side->fd = open_side(call, root, &side->path, flags);
	}
	if (is_absent(side->fd)) {
		dir->pair_flags |= AR_PAIR_NEW | (side->fd == -ENOENT ? 0 : AR_PAIR_REPLACE);
		side->fd = -1;
		return 0;
	}
	if (side->fd < 0)
		return cannot_look(call, side, AR_OP_OPEN_DIR, side->fd);
	int err = identify_side(call, side);
	if (err)
		return cannot_look(call, side, AR_OP_STAT, err);
	if (!(dir->pair_flags & AR_PAIR_NAMED))
		err = let_owner_in(call, dir, wanted);
	if (err < 0)
		return cannot_look(call, side, AR_OP_OPEN_DIR, err);
	if (err)
		flags = wanted;
	err = self_digest(call, dir, DST);
	if (!err && !(flags & O_PATH) &&
	    (dir->side[SRC].names.count || call->scan->flags & AR_SCAN_DELETE))
		err = list_dest(call, side);
	return err;
}

int ar_dir_open_extra(struct scan_call *call, struct ar_dir *dir, const struct ar_row *row,
		      uint64_t dev)
{
	struct ar_side *side = &dir->side[DST];

	side->fd = open_side(call, call->scan->dst, &side->path, O_RDONLY | O_DIRECTORY);
	if (is_absent(side->fd)) {
		side->fd = -1;
		dir->dead = true;
		return 0;
	}
	int err = side->fd < 0 ? side->fd : identify_side(call, side);
	if (!err && (side->self.ino != row->ino || side->dev != dev)) {
		dir->dead = true;
		return 0;
	}
	if (!err)
		return list_dest(call, side);
	side->self = *row;
	side->self.name_off = side->self.name_len = 0;
	side->dev = dev;
	if (ar_scan_is_scarce(err))
		return err;
	side->page_flags |= AR_PAGE_PARTIAL;
	return problem(call, AR_PROBLEM_FAILED, DST, AR_OP_OPEN_TARGET, err);
}

/* ------------------------------------------------------------------- loops */

static int same_directory(struct scan_call *call, const char *path, size_t len,
			  const struct ar_side *side)
{
	struct statx stx;
	int fd = ar_open_beneath(call->scan->src, path, len, O_PATH | O_DIRECTORY);

	if (fd < 0)
		return ar_scan_is_scarce(fd) ? fd : 0;
	int err = ar_scan_statx(call, fd, "", AT_EMPTY_PATH, &stx);
	close(fd);
	return !err && stx.stx_ino == side->self.ino &&
	       ar_dev(stx.stx_dev_major, stx.stx_dev_minor) == side->dev;
}

int ar_dir_is_loop(struct scan_call *call, const struct ar_dir *dir, bool ancestors)
{
	const struct ar_side *side = &dir->side[SRC];
	const ar_root *dst = call->scan->dst;
	int found = dst && dst->ino == side->self.ino && dst->dev == side->dev;

	if (!ancestors || found)
		return found;
	found = side->path.len ? same_directory(call, "", 0, side) : 0;
	for (size_t i = 0; i < side->path.len && !found; i++) {
		if (side->path.bytes[i] == '/')
			found = same_directory(call, side->path.bytes, i, side);
	}
	return found;
}

/* ------------------------------------------------------------------ memory */

void ar_dir_reset(struct ar_dir *dir, size_t keep_bytes)
{
	for (int which = SRC; which <= DST; which++) {
		struct ar_side *side = &dir->side[which];

		if (side->fd >= 0)
			close(side->fd);
		side->fd = -1;
		side->listed = false;
		side->page_flags = 0;
		side->at = 0;
		side->dev = 0;
		memset(&side->self, 0, sizeof(side->self));
		ar_names_clear(&side->names, keep_bytes);
	}
	ar_earlier_close(dir);
	dir->pair_flags = 0;
	dir->begun = dir->dead = dir->deletes = false;
	dir->extra_at = dir->extra_src_at = 0;
	dir->alias = NULL;
	dir->filter = NULL;
	dir->filter_id = 0;
}

void ar_dir_free(struct ar_dir *dir)
{
	ar_dir_reset(dir, 0);
	for (int which = SRC; which <= DST; which++) {
		ar_names_free(&dir->side[which].names);
		free(dir->side[which].path.bytes);
	}
}
