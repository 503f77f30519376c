/*
 * acl.c - the ids in POSIX ACLs, mapped as those of owners are.
 *
 * Which of the maps reach into ACLs is the options' business (AR_MAP_ACL_*).  Two
 * ids may become one: the kernel takes such an ACL, and the entry that comes first
 * is the one that counts.
 *
 * Source: acl(5), linux/posix_acl_xattr.h; compared with rsync 3.5.0 by
 * tests/compat.
 */
#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "internal.h"

#define ENTRIES_OFF sizeof(struct posix_acl_xattr_header)

struct acl_entry {		/* struct posix_acl_xattr_entry in this machine's bytes */
	uint16_t tag;
	uint16_t perm;
	uint32_t id;
};

static struct acl_entry get_entry(const char *value, size_t index)
{
	struct posix_acl_xattr_entry raw;

	memcpy(&raw, value + ENTRIES_OFF + index * sizeof(raw), sizeof(raw));
	return (struct acl_entry){ le16toh(raw.e_tag), le16toh(raw.e_perm), le32toh(raw.e_id) };
}

static void put_entry(char *value, size_t index, struct acl_entry entry)
{
	const struct posix_acl_xattr_entry raw = {
		.e_tag = htole16(entry.tag),
		.e_perm = htole16(entry.perm),
		.e_id = htole32(entry.id),
	};

	memcpy(value + ENTRIES_OFF + index * sizeof(raw), &raw, sizeof(raw));
}

static bool is_well_formed(const char *value, size_t len)
{
	struct posix_acl_xattr_header header;

	if (len < sizeof(header))
		return false;
	memcpy(&header, value, sizeof(header));
	return le32toh(header.a_version) == POSIX_ACL_XATTR_VERSION &&
	       (len - ENTRIES_OFF) % sizeof(struct posix_acl_xattr_entry) == 0;
}

static bool has_id(const struct acl_entry *entry)
{
	return entry->tag == ACL_USER || entry->tag == ACL_GROUP;
}

static uint32_t mapped_id(const struct ar_rules *rules, const struct acl_entry *entry)
{
	if (entry->tag == ACL_USER && (rules->keep & AR_MAP_ACL_USERS))
		return ar_mapped_id(rules->uidmap, rules->uidmap_count, entry->id);
	if (entry->tag == ACL_GROUP && (rules->keep & AR_MAP_ACL_GROUPS))
		return ar_mapped_id(rules->gidmap, rules->gidmap_count, entry->id);
	return entry->id;
}

/*
 * By id among entries of one tag, and those of one id as they were: so does libacl,
 * and with it rsync and setfacl.  The entries before index are in order, and nearly
 * always this one belongs behind them.
 */
static void insert_entry(char *value, size_t index, struct acl_entry entry)
{
	for (; index && has_id(&entry); index--) {
		const struct acl_entry before = get_entry(value, index - 1);
		if (before.tag != entry.tag || before.id <= entry.id)
			break;
		put_entry(value, index, before);
	}
	put_entry(value, index, entry);
}

void ar_acl_map(const struct ar_rules *rules, char *value, size_t len)
{
	if (!rules || !(rules->keep & (AR_MAP_ACL_USERS | AR_MAP_ACL_GROUPS)) ||
	    !is_well_formed(value, len))
		return;

	const size_t count = (len - ENTRIES_OFF) / sizeof(struct posix_acl_xattr_entry);
	for (size_t i = 0; i < count; i++) {
		struct acl_entry entry = get_entry(value, i);
		entry.id = mapped_id(rules, &entry);
		insert_entry(value, i, entry);
	}
}
