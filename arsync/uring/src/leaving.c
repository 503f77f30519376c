/*
 * leaving.c - whether an old name is no more, in the source and at the destination.
 */
#include "past.h"

/* ------------------------------------------------------------------ in the source */

static bool is_absent(const ar_scan *scan, int err)
{
	const uint32_t follows = AR_SCAN_COPY_LINKS | AR_SCAN_COPY_DIRLINKS | AR_SCAN_COPY_UNSAFE |
				 AR_SCAN_RELATIVE;

	return err == -ENOENT || err == -ENOTDIR || (err == -ELOOP && !(scan->flags & follows));
}

bool ar_past_has_left(const ar_scan *scan, const struct ar_past_record *old, int dir_fd,
		      bool *is_gone)
{
	struct statx stx;
	int err = dir_fd;

	if (dir_fd >= 0)
		err = sys_statx(dir_fd, ar_past_name(old), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
				STATX_BASIC_STATS | STATX_BTIME, &stx);
	*is_gone = err < 0 && is_absent(scan, err);
	if (err < 0)
		return *is_gone;
	return stx.stx_ino != old->ino ||
	       ar_born(stx.stx_btime.tv_sec, stx.stx_btime.tv_nsec) != old->born;
}

/* ------------------------------------------------------------- at the destination */

static bool is_below(const char *path, size_t len, const char *above, size_t above_len)
{
	return len > above_len && !memcmp(path, above, above_len) &&
	       (!above_len || path[above_len] == '/');
}

static bool is_spared(const struct ar_scan *scan, const char *path, size_t len)
{
	for (uint32_t i = 0; i < scan->spare_count; i++) {
		const struct ar_spare *spare = &scan->spare[i];

		if (is_below(path, len, spare->path, spare->len))
			return true;
	}
	return false;
}

/* a rule for the name or for a directory on the way to it; with merge files nobody knows */
static bool may_be_protected(const struct ar_filter_table *table, const char *path, size_t len)
{
	if (table->merges_len || table->flags & AR_FILTER_ASK_ALWAYS)
		return true;
	for (size_t end = 1; end <= len; end++) {
		if (end < len && path[end] != '/')
			continue;
		const int found = ar_filter_check(table, path, end, end < len, AR_FILTER_RECEIVER);

		if (found != AR_FILTER_SHOWN && found != AR_FILTER_NO_RULE)
			return true;
	}
	return false;
}

bool ar_would_go(const ar_scan *scan, const char *path, size_t len, const struct ar_moving *how)
{
	const char *start = how->starts, *const end = start + how->starts_len;
	bool is_of_run = !how->starts_len;

	if (!(how->flags & AR_MOVING_DELETES) || is_spared(scan, path, len) ||
	    ar_other_may_have(scan, path, len))
		return false;
	for (; start < end && !is_of_run; start += strlen(start) + 1)
		is_of_run = is_below(path, len, start, strlen(start));
	for (uint32_t i = 0; i < scan->filter_count && is_of_run; i++)
		is_of_run = !may_be_protected(scan->filters[i], path, len);
	return is_of_run;
}
