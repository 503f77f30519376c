/*
 * xattr.c - digests of extended attributes and ACLs, so that a scan can compare them.
 *
 * Since Linux 6.13 listxattrat(2) and getxattrat(2) take a directory descriptor and
 * a name; before, the name goes through /proc/self/fd.
 */
#include <limits.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "sys.h"

#define SYS_getxattrat_ 464	/* the same number on every architecture */
#define SYS_listxattrat_ 465
#define FIRST_BYTES 1024

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

struct xattr_args_ {		/* linux/xattr.h has it since 6.13 */
	uint64_t value;
	uint32_t size;
	uint32_t flags;
};

struct entry {			/* how the calls name it */
	int dirfd;		/* -1: path is for the plain calls */
	const char *path;
	bool follow;
	const struct ar_rules *acl_rules;	/* what maps its ACLs, or NULL */
	const struct ar_filter_table *filter;	/* of xattrs, or NULL */
};

struct buffer {
	char *bytes;
	size_t room;
	char first[FIRST_BYTES];
};

void ar_proc_path(char *out, int fd, const char *name_or_null)
{
	int len = snprintf(out, AR_PROC_PATH_MAX, "/proc/self/fd/%d", fd);

	if (name_or_null)
		snprintf(out + len, AR_PROC_PATH_MAX - (size_t)len, "/%s", name_or_null);
}

static long list(const struct entry *at, char *buffer, size_t room)
{
	const int flags = at->follow ? 0 : AT_SYMLINK_NOFOLLOW;

	if (at->dirfd >= 0)
		return AR_SYS(AR_OP_LIST_XATTR, syscall(SYS_listxattrat_, at->dirfd, at->path,
							flags, buffer, room));
	return AR_SYS(AR_OP_LIST_XATTR, at->follow ? listxattr(at->path, buffer, room)
						   : llistxattr(at->path, buffer, room));
}

static long get(const struct entry *at, const char *name, char *buffer, size_t room)
{
	const int flags = at->follow ? 0 : AT_SYMLINK_NOFOLLOW;
	struct xattr_args_ args = { .value = (uintptr_t)buffer, .size = (uint32_t)room };

	if (at->dirfd >= 0)
		return AR_SYS(AR_OP_GET_XATTR, syscall(SYS_getxattrat_, at->dirfd, at->path, flags,
						       name, &args, sizeof(args)));
	return AR_SYS(AR_OP_GET_XATTR, at->follow ? getxattr(at->path, name, buffer, room)
						  : lgetxattr(at->path, name, buffer, room));
}

static void buffer_open(struct buffer *buffer)
{
	buffer->bytes = buffer->first;
	buffer->room = sizeof(buffer->first);
}

static void buffer_close(struct buffer *buffer)
{
	if (buffer->bytes != buffer->first)
		free(buffer->bytes);
}

/* the largest that the kernel hands out, once what we have proved too small */
static int buffer_grow(struct buffer *buffer)
{
	char *bytes;

	if (buffer->bytes != buffer->first)
		return -ERANGE;
	bytes = malloc(XATTR_SIZE_MAX);
	if (!bytes)
		return -ENOMEM;
	buffer->bytes = bytes;
	buffer->room = XATTR_SIZE_MAX;
	return 0;
}

/* name NULL: the list */
static long fetch(const struct entry *at, const char *name, struct buffer *buffer)
{
	for (;;) {
		long got = name ? get(at, name, buffer->bytes, buffer->room)
				: list(at, buffer->bytes, buffer->room);

		if (got != -ERANGE)
			return got;
		int err = buffer_grow(buffer);
		if (err)
			return err;
	}
}

static bool is_acl(const char *name)
{
	return !strcmp(name, ACL_ACCESS) || !strcmp(name, ACL_DEFAULT);
}

static bool starts_with(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

bool ar_xattr_in_scope(const char *name, uint32_t flags, const struct ar_filter_table *filter)
{
	/* as rsync: with rules of the user's own there are no others */
	if (filter)
		return !ar_filter_hides_xattr(filter, name, AR_FILTER_RECEIVER) &&
		       (flags & AR_XATTR_DST ||
			!ar_filter_hides_xattr(filter, name, AR_FILTER_SENDER)) &&
		       !starts_with(name, "trusted.SGI_ACL_");
	if (!(flags & AR_XATTR_ALL))
		return starts_with(name, "user.");
	/* xfs shows root where it keeps the ACLs */
	return !starts_with(name, "system.") && !starts_with(name, "trusted.SGI_ACL_");
}

/* 0 says none, so no digest is 0 */
static uint64_t digest_end(XXH3_state_t *digest)
{
	if (!digest)
		return 0;
	const uint64_t sum = XXH3_64bits_digest(digest);
	XXH3_freeState(digest);
	return sum ? sum : 1;
}

static XXH3_state_t *digest_begin(void)
{
	XXH3_state_t *digest = XXH3_createState();

	if (digest)
		XXH3_64bits_reset(digest);
	return digest;
}

static int digest_add(XXH3_state_t **digest, const struct entry *at, const char *name,
		      struct buffer *value)
{
	const long got = fetch(at, name, value);
	uint64_t len;

	if (got == -ENODATA)	/* removed since it was listed */
		return 0;
	if (got < 0)
		return (int)got;
	if (is_acl(name))
		ar_acl_map(at->acl_rules, value->bytes, (size_t)got);
	if (!*digest)
		*digest = digest_begin();
	if (!*digest)
		return -ENOMEM;
	len = (uint64_t)got;
	XXH3_64bits_update(*digest, name, strlen(name) + 1);
	XXH3_64bits_update(*digest, &len, sizeof(len));
	XXH3_64bits_update(*digest, value->bytes, (size_t)got);
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* the names of a list in byte order; free() it */
static const char **sort_names(const char *names, size_t bytes, size_t *count)
{
	const char **sorted = malloc(bytes / 2 * sizeof(*sorted) + sizeof(*sorted));

	*count = 0;
	if (!sorted)
		return NULL;
	for (const char *name = names; name < names + bytes; name += strlen(name) + 1)
		sorted[(*count)++] = name;
	qsort(sorted, *count, sizeof(*sorted), compare_names);
	return sorted;
}

static int digest_names(const struct entry *at, const struct buffer *names, size_t bytes,
			uint32_t flags, uint64_t *xattrs, uint64_t *acls)
{
	XXH3_state_t *xattr_digest = NULL, *acl_digest = NULL;
	struct buffer value;
	size_t count;
	int err = 0;
	const char **sorted = sort_names(names->bytes, bytes, &count);

	if (!sorted)
		return -ENOMEM;
	buffer_open(&value);
	for (size_t i = 0; i < count && !err; i++) {
		if (acls && is_acl(sorted[i]))
			err = digest_add(&acl_digest, at, sorted[i], &value);
		else if (xattrs && ar_xattr_in_scope(sorted[i], flags, at->filter))
			err = digest_add(&xattr_digest, at, sorted[i], &value);
	}
	buffer_close(&value);
	free(sorted);
	const uint64_t xattr_sum = digest_end(xattr_digest), acl_sum = digest_end(acl_digest);
	if (!err && xattrs)
		*xattrs = xattr_sum;
	if (!err && acls)
		*acls = acl_sum;
	return err;
}

static int digest_entry(const struct entry *at, uint32_t flags, uint64_t *xattrs, uint64_t *acls)
{
	struct buffer names;
	int err = 0;

	if (xattrs)
		*xattrs = 0;
	if (acls)
		*acls = 0;
	buffer_open(&names);
	const long bytes = fetch(at, NULL, &names);
	if (bytes > 0)
		err = digest_names(at, &names, (size_t)bytes, flags, xattrs, acls);
	else if (bytes != -EOPNOTSUPP)
		err = (int)bytes;
	buffer_close(&names);
	return err;
}

/* asked once a process: 0 not yet, 1 there, -1 missing or forbidden */
static bool has_xattrat(void)
{
	static atomic_int known;
	int state = atomic_load_explicit(&known, memory_order_relaxed);

	if (!state) {
		long r = syscall(SYS_listxattrat_, AT_FDCWD, "/", 0, NULL, 0);

		state = r < 0 && (errno == ENOSYS || errno == EPERM) ? -1 : 1;
		atomic_store_explicit(&known, state, memory_order_relaxed);
	}
	return state > 0;
}

int ar_xattr_digest_at(int dirfd, const char *name, uint32_t flags,
		       const struct ar_rules *rules, uint64_t *xattrs, uint64_t *acls)
{
	struct entry at = {
		.dirfd = dirfd, .path = name, .follow = flags & AR_XATTR_FOLLOW,
		.acl_rules = flags & AR_XATTR_DST ? NULL : rules,
		.filter = rules ? rules->xattr_filter : NULL,
	};
	char path[AR_PROC_PATH_MAX];

	if (!has_xattrat()) {
		ar_proc_path(path, dirfd, name);
		at.dirfd = -1;
		at.path = path;
	}
	return digest_entry(&at, flags, xattrs, acls);
}
