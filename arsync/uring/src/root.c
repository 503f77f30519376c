/*
 * root.c - a tree's top directory, and how anything below it is opened.
 *
 * Nobody who can rename things inside a tree may lead arsync out of it: a path is
 * resolved beneath the root's descriptor and symlinks are refused, except those
 * that the path itself marks as followed by option (see ar_open_beneath).
 */
#include <limits.h>
#include <stdlib.h>
#include <xxhash.h>

#include "inodes.h"
#include "successor.h"
#include "sys.h"

#define PIECE_BYTES (PATH_MAX - 1)	/* of one call, without the NUL */
#define AGAIN_TRIES 16			/* openat2: a rename or mount raced with it */
#define RESOLVE_STRICT (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

/* missing before Linux 5.6; container runtimes refuse what they do not know with EPERM */
static bool has_openat2(int fd)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_STRICT,
	};
	long probe = syscall(SYS_openat2, fd, ".", &how, sizeof(how));

	if (probe < 0)
		return errno != ENOSYS && errno != EPERM;
	close((int)probe);
	return true;
}

static int identify(int fd, uint64_t *dev, uint64_t *ino)
{
	struct statx stx;
	int err = sys_statx(fd, "", AT_EMPTY_PATH, STATX_INO, &stx);

	if (err)
		return err;
	*dev = ar_dev(stx.stx_dev_major, stx.stx_dev_minor);
	*ino = stx.stx_ino;
	return 0;
}

/* an operand may be a symlink, and need not be readable */
static int open_operand(const char *path)
{
	int fd = sys_opendirat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);

	return fd == -EACCES ? sys_opendirat(AT_FDCWD, path, O_PATH | O_DIRECTORY) : fd;
}

int ar_root_open(const char *path, uint32_t flags, ar_root **out)
{
	struct ar_root *root;
	int err, fd = open_operand(path);

	if (fd == -ENOENT && flags & AR_ROOT_CREATE) {
		err = (int)AR_SYS(AR_OP_MKDIR, mkdir(path, 0777));
		if (err && err != -EEXIST)
			return err;
		fd = open_operand(path);
	}
	if (fd < 0)
		return fd;
	root = calloc(1, sizeof(*root));
	if (!root) {
		close(fd);
		return -ENOMEM;
	}
	root->fd = fd;
	pthread_mutex_init(&root->claims_lock, NULL);
	root->successors = ar_successors_new();
	err = root->successors ? identify(fd, &root->dev, &root->ino) : -ENOMEM;
	if (err) {
		ar_root_close(root);
		return err;
	}
	root->has_openat2 = has_openat2(fd);
	*out = root;
	return 0;
}

int ar_root_sync(const ar_root *root)
{
	return (int)AR_SYS(AR_OP_SYNC, syncfs(root->fd));
}

int ar_root_fd(const ar_root *root)
{
	return root->fd;
}

void ar_root_close(ar_root *root)
{
	if (!root)
		return;
	close(root->fd);
	ar_successors_free(root->successors);
	ar_inodes_free(root->kept);
	ar_inodes_free(root->claims);
	while (root->relocations) {
		struct ar_relocation *one = root->relocations;

		root->relocations = one->next;
		free(one);
	}
	pthread_mutex_destroy(&root->claims_lock);
	free(root);
}

/* -------------------------------------------------------------------- claims */

static struct ar_inode claim_of(const char *path, size_t len)
{
	const XXH128_hash_t hash = XXH3_128bits(path, len);

	return (struct ar_inode){ .place = hash.high64, .ino = hash.low64 };
}

enum { CLAIMED = 1, RELEASED };	/* path of an entry, which cannot be taken out again */

int ar_root_claim(ar_root *root, const char *path, size_t len)
{
	struct ar_leader *claim = NULL;
	int result = -ENOMEM;

	pthread_mutex_lock(&root->claims_lock);
	if (!root->claims)
		root->claims = ar_inodes_new();
	if (root->claims)
		claim = ar_inodes_enter(root->claims, claim_of(path, len));
	if (claim) {
		result = claim->path != CLAIMED;
		claim->path = CLAIMED;
	}
	pthread_mutex_unlock(&root->claims_lock);
	return result;
}

/* the entry of a path that was claimed, NULL for none */
static struct ar_leader *find_claim(ar_root *root, const char *path, size_t len)
{
	const struct ar_inode key = claim_of(path, len);

	return root->claims && ar_inodes_has(root->claims, key)
		       ? ar_inodes_enter(root->claims, key) : NULL;
}

void ar_root_release(ar_root *root, const char *path, size_t len)
{
	pthread_mutex_lock(&root->claims_lock);
	struct ar_leader *claim = find_claim(root, path, len);
	if (claim)
		claim->path = RELEASED;
	pthread_mutex_unlock(&root->claims_lock);
}

bool ar_root_has_claim(ar_root *root, const char *path, size_t len)
{
	pthread_mutex_lock(&root->claims_lock);
	const struct ar_leader *claim = find_claim(root, path, len);
	const bool found = claim && claim->path == CLAIMED;
	pthread_mutex_unlock(&root->claims_lock);
	return found;
}

int ar_root_relocate(ar_root *root, const char *old, size_t old_len, const char *new,
		     size_t new_len)
{
	struct ar_relocation *one = malloc(sizeof(*one) + old_len + new_len);

	if (!one)
		return -ENOMEM;
	one->old_len = old_len;
	one->new_len = new_len;
	memcpy(one->paths, old, old_len);
	memcpy(one->paths + old_len, new, new_len);
	pthread_mutex_lock(&root->claims_lock);
	one->next = root->relocations;
	root->relocations = one;
	pthread_mutex_unlock(&root->claims_lock);
	return 0;
}

char *ar_root_relocated(ar_root *root, const char *path, size_t len, size_t *new_len)
{
	char *found = NULL;

	pthread_mutex_lock(&root->claims_lock);
	for (struct ar_relocation *one = root->relocations; one && !found; one = one->next) {
		if (len <= one->old_len || path[one->old_len] != '/' ||
		    memcmp(path, one->paths, one->old_len))
			continue;
		*new_len = one->new_len + len - one->old_len;
		found = malloc(*new_len);
		if (!found)
			break;
		memcpy(found, one->paths + one->old_len, one->new_len);
		memcpy(found + one->new_len, path + one->old_len, len - one->old_len);
	}
	pthread_mutex_unlock(&root->claims_lock);
	return found;
}

/* ------------------------------------------------------------------ below it */

/*
 * Climbs from an open directory to the root.  Only what can be renamed into the
 * tree can be made to pass, and that is the business of who may rename it.
 */
static int check_inside(const struct ar_root *root, int fd)
{
	uint64_t dev, ino, last_dev = 0, last_ino = 0;
	int at = fd, err, up;

	for (;;) {
		err = identify(at, &dev, &ino);
		if (err || (dev == root->dev && ino == root->ino))
			break;
		err = -EXDEV;
		if (dev == last_dev && ino == last_ino)	/* the parent of / is / */
			break;
		last_dev = dev;
		last_ino = ino;
		up = sys_opendirat(at, "..", O_PATH | O_DIRECTORY);
		if (up < 0) {
			err = up == -ENOTDIR ? -EXDEV : up;
			break;
		}
		if (at != fd)
			close(at);
		at = up;
	}
	if (at != fd)
		close(at);
	return err;
}

static int follow_link(const struct ar_root *root, int at, const char *name, int flags)
{
	int fd = sys_opendirat(at, name, flags & ~O_NOFOLLOW);

	if (fd < 0 || !root->inside)
		return fd;
	int err = check_inside(root, fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

/* O_PATH | O_NOFOLLOW opens a symlink itself, where openat2 would say ELOOP */
static int refuse_symlink(int fd)
{
	struct stat st;

	if (fd < 0 || (!fstat(fd, &st) && !S_ISLNK(st.st_mode)))
		return fd;
	close(fd);
	return -ELOOP;
}

/* the way without openat2; piece is cut up in place */
static int walk(int at, char *piece, int flags)
{
	const int start = at;
	char *save, *name = strtok_r(piece, "/", &save), *next;
	int fd = -EINVAL;

	for (; name; name = next) {
		next = strtok_r(NULL, "/", &save);
		if (!strcmp(name, ".."))
			fd = -EXDEV;
		else if (next)
			fd = sys_opendirat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
		else
			fd = sys_opendirat(at, name, flags | O_NOFOLLOW);
		if (!next && flags & O_PATH && !(flags & O_NOFOLLOW))
			fd = refuse_symlink(fd);
		if (at != start)
			close(at);
		if (fd < 0)
			return fd;
		at = fd;
	}
	return fd;
}

static int open_piece(const struct ar_root *root, int at, char *piece, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_STRICT,
	};
	int fd, tries = 0;

	if (!root->has_openat2)
		return walk(at, piece, flags);
	do {
		fd = sys_openat2(at, piece, &how);
	} while (fd == -EAGAIN && ++tries < AGAIN_TRIES);
	return fd;
}

/* where the next call's part of the path ends, its slashes left out */
static size_t piece_end(const char *path, size_t len, bool *marked)
{
	const char *mark = memchr(path, '\0', len);
	size_t end = mark ? (size_t)(mark - path) : len;

	*marked = false;
	if (mark) {	/* a marked component is a piece of its own */
		const char *slash = memrchr(path, '/', end);
		*marked = !slash;
		end = slash ? (size_t)(slash - path) : end;
	}
	if (end > PIECE_BYTES) {
		const char *slash = memrchr(path, '/', PIECE_BYTES);
		end = slash ? (size_t)(slash - path) : end;
	}
	return end;
}

int ar_open_beneath(const struct ar_root *root, const char *path, size_t len, int flags)
{
	char piece[PIECE_BYTES + 1];
	int at = root->fd, fd;

	do {
		bool marked;
		size_t end = piece_end(path, len, &marked);

		if (end > PIECE_BYTES) {
			fd = -ENAMETOOLONG;
		} else {
			memcpy(piece, end ? path : ".", AR_MAX(end, 1u));
			piece[AR_MAX(end, 1u)] = '\0';
			end += marked;
			while (end < len && path[end] == '/')
				end++;
			int how = end < len ? O_PATH | O_DIRECTORY : flags;
			fd = marked ? follow_link(root, at, piece, how)
				    : open_piece(root, at, piece, how);
		}
		if (at != root->fd)
			close(at);
		at = fd;
		path += end;
		len -= AR_MIN(end, len);
	} while (fd >= 0 && len);
	return fd;
}
