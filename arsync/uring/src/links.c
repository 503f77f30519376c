/*
 * links.c - which symlinks the options see through, on either side.
 *
 * On the source's side (-L, -k, --copy-unsafe-links, a path of -R) a link may lead
 * anywhere: the user said so.  On the destination's (-K) it must lead to a directory
 * below the destination; one to a directory elsewhere is a problem, any other counts
 * as the link that it is.
 */
#include "scan.h"

static bool is_step(const char *name, size_t len, const char *step)
{
	return strlen(step) == len && !memcmp(name, step, len);
}

/* "a/../b" may leave the tree through a link in its middle; rsync refuses "../.." as well */
static bool turns_back(const char *target)
{
	const size_t len = strlen(target);

	if (len > 3 && !strcmp(target + len - 3, "/.."))
		return true;
	while (!strncmp(target, "../", 3)) {
		target += 3;
		target += strspn(target, "/");
	}
	return strstr(target, "/../");
}

/* as rsync's unsafe_symlink(), for a link in a directory that lies depth below the top */
static bool is_unsafe(const char *target, long depth)
{
	if (!*target || *target == '/' || turns_back(target))
		return true;
	while (*target) {
		const size_t len = strcspn(target, "/");

		if (is_step(target, len, ".."))
			depth--;
		else if (target[len] && !is_step(target, len, "."))
			depth++;
		if (depth < 0)
			return true;
		target += len;
		target += strspn(target, "/");
	}
	return false;
}

long ar_path_depth(const struct ar_path *path)
{
	long depth = path->len > 0;

	for (size_t i = 0; i < path->len; i++)
		depth += path->bytes[i] == '/';
	return depth;
}

/* -k sees through links to directories everywhere, a path of -R through its own */
static bool follows_dirlinks(const struct scan_call *call, const struct link_place *place)
{
	const uint32_t flags = call->scan->flags;

	return place->follow_dirs ||
	       (flags & AR_SCAN_COPY_DIRLINKS && !(flags & AR_SCAN_COPY_LINKS));
}

enum link_verdict ar_link_judge(struct scan_call *call, const struct link_place *place,
				const char *name, const char *target, struct statx *stx, int *err)
{
	const uint32_t flags = call->scan->flags;
	bool unsafe = false;
	struct statx seen;

	if (follows_dirlinks(call, place) &&
	    !ar_scan_statx(call, place->fd, name, 0, &seen) && S_ISDIR(seen.stx_mode)) {
		*stx = seen;
		return LINK_FOLLOWED;
	}
	if (flags & (AR_SCAN_COPY_UNSAFE | AR_SCAN_SAFE))
		unsafe = is_unsafe(target, place->depth);
	if (flags & AR_SCAN_COPY_LINKS || (unsafe && flags & AR_SCAN_COPY_UNSAFE)) {
		*err = ar_scan_statx(call, place->fd, name, 0, &seen);
		if (*err)
			return LINK_DANGLING;
		*stx = seen;
		return LINK_FOLLOWED;
	}
	return unsafe ? LINK_UNSAFE : LINK_KEPT;
}

static int open_dst_dir(struct scan_call *call, const struct ar_path *path)
{
	return ar_open_beneath(call->scan->dst, path->bytes, path->len, O_PATH | O_DIRECTORY);
}

int ar_link_is_dst_dir(struct scan_call *call, const struct ar_side *side, const char *name,
		       size_t len, struct statx *stx)
{
	struct ar_path *path = &call->scratch->path;
	struct statx seen;

	if (!(call->scan->flags & AR_SCAN_KEEP_DIRLINKS))
		return 0;
	if (ar_path_set(path, side->path.bytes, side->path.len) ||
	    ar_path_push(path, name, len, true))
		return 0;
	int fd = open_dst_dir(call, path);
	if (fd < 0)
		return fd == -EXDEV ? fd : 0;
	int err = ar_scan_statx(call, fd, "", AT_EMPTY_PATH, &seen);
	close(fd);
	if (!err)
		*stx = seen;
	return !err;
}

/* what the path is called when its last component may be a followed link */
static int push_component(struct scan_call *call, struct ar_path *path, const char *name,
			  size_t len)
{
	int err = ar_path_push(path, name, len, false);
	int fd = err ? err : open_dst_dir(call, path);

	if (fd == -ELOOP || fd == -ENOTDIR) {
		const size_t plain = path->len;

		err = ar_path_mark(path);
		fd = err ? err : open_dst_dir(call, path);
		if (fd < 0)
			path->len = plain;
	}
	if (fd >= 0)
		close(fd);
	return err;
}

int ar_link_mark_path(struct scan_call *call, struct ar_path *path)
{
	struct ar_path *made = &call->scratch->path;
	size_t at = 0;
	int err = ar_path_set(made, "", 0);

	while (at < path->len && !err) {
		const char *slash = memchr(path->bytes + at, '/', path->len - at);
		const size_t end = slash ? (size_t)(slash - path->bytes) : path->len;

		err = push_component(call, made, path->bytes + at, end - at);
		at = end + 1;
	}
	return err ? err : ar_path_set(path, made->bytes, made->len);
}
