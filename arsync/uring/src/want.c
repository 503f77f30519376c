/*
 * want.c - the attributes that an entry shall have at the destination.
 *
 * Compared with rsync 3.5.0 by tests/unit/test_want.py.  Two rules come from the
 * place where an entry is made and are the executor's: without AR_KEEP_PERMS a
 * new directory keeps the setgid bit that its parent gave it, and a default ACL
 * of the parent takes the umask's place.
 */
#include "internal.h"

#define MODE_BITS 07777u
#define X_BITS 0111u

bool ar_same_kind(uint8_t src_type, uint8_t dst_type)
{
	bool special = src_type == DT_FIFO || src_type == DT_SOCK;

	if (special)
		return dst_type == DT_FIFO || dst_type == DT_SOCK;
	if (ar_is_device(src_type))
		return ar_is_device(dst_type);
	return src_type == dst_type;
}

/* each rule reads the mode that the one before it left, X the mode before all */
static uint32_t changed_mode(const struct ar_rules *rules, uint32_t mode, bool is_dir)
{
	const uint32_t applies = is_dir ? AR_CHMOD_DIRS : AR_CHMOD_FILES;
	const bool had_x = is_dir || (mode & X_BITS);

	for (uint32_t i = 0; i < rules->chmod_count; i++) {
		const struct ar_chmod *rule = &rules->chmods[i];
		if (!(rule->flags & applies))
			continue;
		bool keeps_x = (rule->flags & AR_CHMOD_X) && !had_x;
		uint32_t copied = (mode >> rule->copy_from & 7) * X_BITS & rule->copy_to;
		mode = (mode & rule->and_mode) | (rule->or_mode & ~(keeps_x ? X_BITS : 0));
		if ((rule->flags & AR_CHMOD_COPY) && rule->copy_minus)
			mode &= ~copied;
		else if (rule->flags & AR_CHMOD_COPY)
			mode |= copied;
	}
	return mode & MODE_BITS;
}

uint32_t ar_mapped_id(const struct ar_idmap *map, uint32_t count, uint32_t id)
{
	for (uint32_t i = 0; i < count; i++)
		if (map[i].lo <= id && id <= map[i].hi)
			return map[i].to;
	return id;
}

static bool may_set_group(const struct ar_rules *rules, uint32_t gid)
{
	if (rules->group_count == AR_NONE)
		return true;
	for (uint32_t i = 0; i < rules->group_count; i++)
		if (rules->groups[i] == gid)
			return true;
	return false;
}

static void want_mode(const struct ar_rules *rules, const struct ar_row *src,
		      const struct ar_row *dst, struct ar_want *want)
{
	if (src->type == DT_LNK) {
		want->mode = 0777;
		return;
	}
	want->set_mode = true;
	want->mode = changed_mode(rules, src->mode & MODE_BITS, src->type == DT_DIR);
	if (rules->keep & AR_KEEP_PERMS)
		return;
	if (dst)
		want->mode = dst->mode & MODE_BITS;
	else
		want->mode &= 0777 & ~rules->umask;
}

static void want_times(const struct ar_rules *rules, const struct ar_row *src,
		       struct ar_want *want)
{
	bool is_dir = src->type == DT_DIR;
	bool omitted = (is_dir && (rules->keep & AR_OMIT_DIR_TIMES)) ||
		       (src->type == DT_LNK && (rules->keep & AR_OMIT_LINK_TIMES));

	want->set_mtime = (rules->keep & AR_KEEP_TIMES) && !omitted;
	/* rsync keeps no directory's atime: reading it, as the next run does, moves it */
	want->set_atime = (rules->keep & AR_KEEP_ATIMES) && !omitted && !is_dir;
}

void ar_want(const struct ar_rules *rules, const struct ar_row *src, const struct ar_row *dst,
	     struct ar_want *want)
{
	if (dst && !ar_same_kind(src->type, dst->type))
		dst = NULL;
	memset(want, 0, sizeof(*want));
	want_mode(rules, src, dst, want);
	want->uid = ar_mapped_id(rules->uidmap, rules->uidmap_count, src->uid);
	want->gid = ar_mapped_id(rules->gidmap, rules->gidmap_count, src->gid);
	want->set_uid = (rules->keep & AR_KEEP_OWNER) && (rules->keep & AR_AS_ROOT);
	want->set_gid = (rules->keep & AR_KEEP_GROUP) && may_set_group(rules, want->gid);
	want_times(rules, src, want);
}
