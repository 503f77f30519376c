/*
 * trust.c - where what is recorded of the destination speaks for it (--trust-dst).
 *
 * The scan leaves the destination of a pair alone, and ar_recall, which knows the
 * records, either takes the recorded page or has the destination looked at.  It
 * takes a page only where nothing is to be done, so whatever is replaced or deleted
 * has been looked at.
 */
#include "scan.h"

void ar_scan_trust(ar_scan *scan)
{
	scan->trusts = true;
}

bool ar_trust_child(const struct ar_scan *scan, const struct ar_page *dst, const char *name,
		    size_t len)
{
	if (!scan->trusts || scan->flags & AR_SCAN_KEEP_DIRLINKS || scan->earlier_count || !dst ||
	    dst->dev != scan->dst->dev)
		return false;
	const uint32_t found = ar_page_find(dst, name, len);
	return found != AR_NONE && !(ar_rows(dst)[found].flags & AR_ROW_MOUNT);
}

bool ar_trust_fits(const struct ar_dir *dir)
{
	const uint32_t never = AR_PAIR_ROOT | AR_PAIR_NAMED | AR_PAIR_SHALLOW | AR_PAIR_FOLLOW |
			       AR_PAIR_IMPLIED | AR_PAIR_REPLACE | AR_PAIR_TOUCHED;
	const struct ar_side *src = &dir->side[SRC];

	return !(dir->pair_flags & never) && !(src->page_flags & AR_PAGE_PARTIAL) &&
	       src->names.count <= AR_PAGE_ROWS;
}
