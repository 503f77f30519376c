/*
 * earlier.c - several sources for one destination: the first one's entry counts.
 *
 * A scan may be told of sources that were copied before it.  Of a name which one
 * of them has too, only directories go on: what is in both is merged, and the
 * directory itself keeps what the earlier source gave it.  A directory that comes
 * after a file of its name is a problem: the file is there already.
 *
 * Source: rsync(1), the first of two equal names in the transfer wins.
 */
#include <stdlib.h>

#include "scan.h"

int ar_scan_earlier(ar_scan *scan, ar_root *root, const char *names, size_t names_len)
{
	size_t bytes = (scan->earlier_count + 1) * sizeof(*scan->earlier);
	struct ar_earlier *grown = realloc(scan->earlier, bytes);
	char *copy = ar_copy_of(names, names_len);

	if (grown)
		scan->earlier = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	scan->earlier[scan->earlier_count++] = (struct ar_earlier){
		.root = root, .names = copy, .names_len = names_len,
	};
	return 0;
}

void ar_earlier_free(ar_scan *scan)
{
	for (uint32_t i = 0; i < scan->earlier_count; i++)
		free(scan->earlier[i].names);
	free(scan->earlier);
}

/* is the name among those that were copied from there? */
static bool is_named(const struct ar_earlier *one, const char *name, size_t len)
{
	const char *at = one->names, *const end = one->names + one->names_len;

	if (!one->names_len)
		return true;
	for (; at < end; at += strlen(at) + 1)
		if (strlen(at) == len && !memcmp(at, name, len))
			return true;
	return false;
}

static bool holds_path(const struct ar_earlier *one, const struct ar_path *path)
{
	const char *slash = path->len ? memchr(path->bytes, '/', path->len) : NULL;

	return !path->len ||
	       is_named(one, path->bytes, slash ? (size_t)(slash - path->bytes) : path->len);
}

int ar_earlier_open(struct scan_call *call, struct ar_dir *dir)
{
	const struct ar_scan *scan = call->scan;
	struct ar_side *side = &dir->side[SRC];
	struct statx stx;

	if (!scan->earlier_count)
		return 0;
	dir->earlier = malloc(scan->earlier_count * sizeof(*dir->earlier));
	if (!dir->earlier)
		return -ENOMEM;
	for (uint32_t i = 0; i < scan->earlier_count; i++) {
		const struct ar_earlier *one = &scan->earlier[i];
		int fd = -1;

		if (holds_path(one, &side->path))
			fd = ar_open_beneath(one->root, side->path.bytes, side->path.len,
					     O_PATH | O_DIRECTORY);
		dir->earlier[dir->earlier_count++] = fd;
		if (ar_scan_is_scarce(fd))
			return fd;
		/* the root was finished with the attributes of a root only by a whole source */
		bool gave_self = fd >= 0 && (side->path.len || !one->names_len);
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
		if (dir->earlier[i] >= 0)
			close(dir->earlier[i]);
	free(dir->earlier);
	dir->earlier = NULL;
	dir->earlier_count = 0;
	dir->self_is_given = false;
}

int ar_earlier_has(struct scan_call *call, const struct ar_dir *dir, const char *name, size_t len,
		   const struct ar_row *row)
{
	struct statx stx;

	for (uint32_t i = 0; i < dir->earlier_count; i++) {
		if (dir->earlier[i] < 0)
			continue;
		if (!dir->side[SRC].path.len && !is_named(&call->scan->earlier[i], name, len))
			continue;
		if (ar_scan_statx(call, dir->earlier[i], name, AT_SYMLINK_NOFOLLOW, &stx))
			continue;
		/* what the rules left out there is not given */
		if (ar_filter_hides(call, dir, name, S_ISDIR(stx.stx_mode)))
			continue;
		if (row->type != DT_DIR)
			return 1;
		return S_ISDIR(stx.stx_mode) ? 0 : -ENOTDIR;
	}
	return 0;
}
