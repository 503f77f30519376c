/*
 * earlier.c - several sources for one destination: the first one's entry counts.
 *
 * A scan may be told of sources that were copied before it, and where it looks for
 * extras of those that come after it.  Of a name which one
 * of them has too, only directories go on: what is in both is merged, and the
 * directory itself keeps what the earlier source gave it.  A directory that comes
 * after a file of its name is a problem: the file is there already.  Which of them
 * a symlink is, the options say, as they did when the earlier source was scanned.
 *
 * Source: rsync(1), the first of two equal names in the transfer wins.
 */
#include <limits.h>
#include <stdlib.h>

#include "scan.h"

static int add_source(ar_scan *scan, const struct ar_earlier *source)
{
	size_t bytes = (scan->earlier_count + 1) * sizeof(*scan->earlier);
	struct ar_earlier *grown = realloc(scan->earlier, bytes);
	char *copy = ar_copy_of(source->paths, source->paths_len);

	if (grown)
		scan->earlier = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	scan->earlier[scan->earlier_count] = *source;
	scan->earlier[scan->earlier_count++].paths = copy;
	return 0;
}

int ar_scan_earlier(ar_scan *scan, ar_root *root, const char *paths, size_t paths_len,
		    bool gives_root)
{
	const struct ar_earlier source = {
		.root = root, .paths = (char *)paths, .paths_len = paths_len,
		.gives_root = gives_root,
	};

	return add_source(scan, &source);
}

int ar_scan_further(ar_scan *scan, ar_root *root, const char *paths, size_t paths_len)
{
	const struct ar_earlier source = {
		.root = root, .paths = (char *)paths, .paths_len = paths_len, .is_later = true,
	};

	return add_source(scan, &source);
}

void ar_earlier_free(ar_scan *scan)
{
	for (uint32_t i = 0; i < scan->earlier_count; i++)
		free(scan->earlier[i].paths);
	free(scan->earlier);
}

/* --------------------------------------------------------- what was copied of it */

enum { NOT_GIVEN, ON_THE_WAY, GIVEN };

static bool is_at_or_above(const char *one, size_t one_len, const char *other, size_t other_len)
{
	if (one_len > other_len || memcmp(one, other, one_len))
		return false;
	return !one_len || one_len == other_len || other[one_len] == '/' ||
	       one[one_len - 1] == '/';
}

/*
 * ON_THE_WAY: a directory that -R made, not for all that is in it.  So is one of
 * which only the content was named, with a slash at its end.
 */
static int find_path(const struct ar_earlier *one, const char *path, size_t len)
{
	const char *at = one->paths, *const end = one->paths + one->paths_len;
	int found = one->paths_len ? NOT_GIVEN : GIVEN;

	while (at < end && found != GIVEN) {
		const size_t at_len = strlen(at);

		if (is_at_or_above(at, at_len, path, len))
			found = GIVEN;
		else if (is_at_or_above(path, len, at, at_len))
			found = ON_THE_WAY;
		at += at_len + 1;
	}
	return found;
}

/* the same for an entry of a directory */
static int find_entry(struct scan_call *call, const struct ar_dir *dir, uint32_t index,
		      const char *name, size_t len)
{
	struct ar_path *path = &call->scratch->path;
	const struct ar_path *parent = &dir->side[SRC].path;

	if (dir->earlier[index].is_whole)
		return GIVEN;
	int err = ar_path_set(path, parent->bytes, parent->len);
	ar_path_unmark(path);
	if (!err)
		err = ar_path_push(path, name, len, false);
	return err ? err : find_path(&call->scan->earlier[index], path->bytes, path->len);
}

/* --------------------------------------------------------------- what it is there */

enum { AS_IT_IS, SEEN_THROUGH, LEFT_OUT };

/* -errno: not there, or a link to nothing */
static int look(struct scan_call *call, const struct link_place *place, const char *name,
		struct statx *stx)
{
	char target[PATH_MAX];
	int err = ar_scan_statx(call, place->fd, name, AT_SYMLINK_NOFOLLOW, stx);

	if (err || !S_ISLNK(stx->stx_mode))
		return err;
	long len = sys_readlinkat(place->fd, name, target, sizeof(target) - 1);
	if (len < 0)
		return (int)len;
	target[len] = '\0';
	switch (ar_link_judge(call, place, name, target, stx, &err)) {
	case LINK_KEPT:
		return AS_IT_IS;
	case LINK_FOLLOWED:
		return SEEN_THROUGH;
	case LINK_DANGLING:
		return err;
	case LINK_UNSAFE:
		break;
	}
	return LEFT_OUT;
}

/* goes down the path one by one, through the links that were seen through there */
static int walk_down(struct scan_call *call, const struct ar_earlier *one,
		     const struct ar_path *path)
{
	struct link_place place = { .fd = ar_open_beneath(one->root, "", 0, O_PATH | O_DIRECTORY) };
	char name[NAME_MAX + 1];
	struct statx stx;

	for (size_t at = 0; at < path->len && place.fd >= 0; place.depth++) {
		const char *slash = memchr(path->bytes + at, '/', path->len - at);
		const size_t end = slash ? (size_t)(slash - path->bytes) : path->len;
		int fd = -ENAMETOOLONG, how = -1;

		if (end - at <= NAME_MAX) {
			memcpy(name, path->bytes + at, end - at);
			name[end - at] = '\0';
			place.follow_dirs = find_path(one, path->bytes, end) == ON_THE_WAY;
			how = fd = look(call, &place, name, &stx);
		}
		if (fd >= 0)
			fd = sys_opendirat(place.fd, name, O_PATH | O_DIRECTORY |
					   (how == SEEN_THROUGH ? 0 : O_NOFOLLOW));
		close(place.fd);
		place.fd = fd;
		at = end + 1;
	}
	return place.fd;
}

static int open_namesake(struct scan_call *call, const struct ar_earlier *one,
			 const struct ar_path *path)
{
	int fd = ar_open_beneath(one->root, path->bytes, path->len, O_PATH | O_DIRECTORY);

	return fd == -ELOOP || fd == -ENOTDIR ? walk_down(call, one, path) : fd;
}

int ar_earlier_open(struct scan_call *call, struct ar_dir *dir)
{
	const struct ar_scan *scan = call->scan;
	struct ar_side *side = &dir->side[SRC];
	struct ar_path *path = &call->scratch->path;
	struct statx stx;

	if (!scan->earlier_count)
		return 0;
	dir->earlier = malloc(scan->earlier_count * sizeof(*dir->earlier));
	if (!dir->earlier || ar_path_set(path, side->path.bytes, side->path.len))
		return -ENOMEM;
	ar_path_unmark(path);
	for (uint32_t i = 0; i < scan->earlier_count; i++) {
		const struct ar_earlier *one = &scan->earlier[i];
		const int found = find_path(one, path->bytes, path->len);
		int fd = found == NOT_GIVEN ? -1 : open_namesake(call, one, path);

		dir->earlier[dir->earlier_count++] = (struct ar_namesake){
			.fd = fd, .is_whole = found == GIVEN,
		};
		if (ar_scan_is_scarce(fd))
			return fd;
		bool gave_self = fd >= 0 && !one->is_later && (path->len || one->gives_root);
		if (gave_self && !dir->self_is_given &&
		    !ar_scan_statx(call, fd, "", AT_EMPTY_PATH, &stx)) {
			memset(&side->self, 0, sizeof(side->self));
			ar_row_fill(&side->self, &stx, side->dev, scan->flags);
			dir->self_is_given = true;
		}
	}
	return 0;
}

void ar_earlier_close(struct ar_dir *dir)
{
	for (uint32_t i = 0; i < dir->earlier_count; i++)
		if (dir->earlier[i].fd >= 0)
			close(dir->earlier[i].fd);
	free(dir->earlier);
	dir->earlier = NULL;
	dir->earlier_count = 0;
	dir->self_is_given = false;
}

int ar_earlier_has(struct scan_call *call, const struct ar_dir *dir, const char *name, size_t len,
		   const struct ar_row *row)
{
	struct link_place place = { .depth = ar_path_depth(&dir->side[SRC].path) };
	struct statx stx;

	for (uint32_t i = 0; i < dir->earlier_count; i++) {
		place.fd = dir->earlier[i].fd;
		if (place.fd < 0 || call->scan->earlier[i].is_later)
			continue;
		const int found = find_entry(call, dir, i, name, len);
		if (found < 0)
			return found;
		place.follow_dirs = found == ON_THE_WAY;
		const int how = found == NOT_GIVEN ? -ENOENT : look(call, &place, name, &stx);
		if (how < 0)
			continue;
		/* what the rules left out there is not given; a directory on the way is */
		if (found == GIVEN && ar_filter_hides(call, dir, name, S_ISDIR(stx.stx_mode)))
			continue;
		if (row->type != DT_DIR)
			return 1;
		return S_ISDIR(stx.stx_mode) || how == LEFT_OUT ? 0 : -ENOTDIR;
	}
	return 0;
}

bool ar_earlier_covers(const struct scan_call *call, const struct ar_dir *dir)
{
	for (uint32_t i = 0; i < dir->earlier_count; i++)
		if (dir->earlier[i].fd >= 0 && dir->earlier[i].is_whole &&
		    !call->scan->earlier[i].is_later)
			return true;
	return false;
}

int ar_other_has(struct scan_call *call, const struct ar_dir *dir, const char *name, size_t len)
{
	struct statx stx;

	for (uint32_t i = 0; i < dir->earlier_count; i++) {
		if (dir->earlier[i].fd < 0)
			continue;
		const int found = find_entry(call, dir, i, name, len);
		if (found < 0)
			return found;
		if (found == NOT_GIVEN)
			continue;
		const int err = ar_scan_statx(call, dir->earlier[i].fd, name, AT_SYMLINK_NOFOLLOW,
					      &stx);
		if (err == -ENOENT)
			continue;
		/* what cannot be looked at may be there */
		if (err || found != GIVEN || !ar_filter_hides(call, dir, name, S_ISDIR(stx.stx_mode)))
			return 1;
	}
	return 0;
}

static bool may_have(const struct ar_earlier *one, const char *path, size_t len)
{
	if (find_path(one, path, len) == NOT_GIVEN)
		return false;
	int err = ar_open_beneath(one->root, path, len, O_PATH | O_NOFOLLOW);
	if (err >= 0)
		close(err);
	return err != -ENOENT && err != -ENOTDIR;
}

bool ar_other_may_have(const ar_scan *scan, const char *path, size_t len)
{
	for (uint32_t i = 0; i < scan->earlier_count; i++)
		if (may_have(&scan->earlier[i], path, len))
			return true;
	return false;
}
