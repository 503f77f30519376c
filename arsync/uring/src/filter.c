/*
 * filter.c - filter rules applied to the names of a directory.
 *
 * Python parses the rules and makes flat tables of them.  A table holds the rules
 * in force in a directory, those of merge files in their places; all directories
 * without a merge file of their own share the table of their parent, or its heir
 * where some rules are not inherited.  When the scanner has read the names of a
 * directory and finds that a merge file is among them, it asks for another table
 * (AR_FILTER_ASK) and the directory is scanned once more.
 *
 * A rule is compared by what it needs at least: most are a name, or a name's end.
 *
 * Source: rsync(1), FILTER RULES; arsync/wildcards.py is the same matcher in Python.
 */
#include <ctype.h>
#include <linux/limits.h>
#include <stdlib.h>

#include "scan.h"

/* ------------------------------------------------------------- wildcards */

enum found { YES, NO, NEVER, NOT_BEFORE_STARSTAR };

typedef int (*class_test)(int c);

/* NULL where no class has that name */
static class_test find_class(const char *name, size_t len)
{
	static const struct {
		const char *name;
		class_test has;
	} classes[] = {
		{ "alnum", isalnum }, { "alpha", isalpha }, { "blank", isblank },
		{ "cntrl", iscntrl }, { "digit", isdigit }, { "graph", isgraph },
		{ "lower", islower }, { "print", isprint }, { "punct", ispunct },
		{ "space", isspace }, { "upper", isupper }, { "xdigit", isxdigit },
	};

	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (strlen(classes[i].name) == len && !memcmp(classes[i].name, name, len))
			return classes[i].has;
	return NULL;
}

/* p: behind the bracket; returns the closing one, NULL where the class has no end */
static const unsigned char *match_class(const unsigned char *p, unsigned char c, bool *is_in)
{
	const bool negated = *p == '!' || *p == '^';
	unsigned char before = 0;
	bool in = false;

	p += negated;
	do {
		unsigned char this = *p;

		if (this == '\\')
			this = *++p;
		else if (this == '-' && before && p[1] && p[1] != ']') {
			p += p[1] == '\\' ? 2 : 1;
			if (!*p)
				return NULL;
			in |= c >= before && c <= *p;
			before = 0;
			continue;
		} else if (this == '[' && p[1] == ':') {
			const char *name = (const char *)p + 2, *end = strchr(name, ']');

			if (!end)
				return NULL;
			if (end > name && end[-1] == ':') {
				const class_test has = find_class(name, (size_t)(end - name) - 1);

				if (!has)
					return NULL;
				in |= isascii(c) && has(c);
				p = (const unsigned char *)end;
				before = 0;
				continue;
			}
		}
		if (!this)
			return NULL;
		in |= c == this;
		before = this;
	} while (*++p != ']');
	*is_in = in != negated;
	return p;
}

static enum found match(const unsigned char *p, const unsigned char *text);

/* p: the first star */
static enum found match_star(const unsigned char *p, const unsigned char *text)
{
	const bool spans = p[1] == '*';

	while (*p == '*')
		p++;
	if (!*p)
		return spans || !strchr((const char *)text, '/') ? YES : NO;
	for (; *text; text++) {
		const enum found found = match(p, text);

		if (found != NO) {
			if (!spans || found != NOT_BEFORE_STARSTAR)
				return found;
		} else if (!spans && *text == '/') {
			return NOT_BEFORE_STARSTAR;
		}
	}
	return NEVER;
}

static enum found match(const unsigned char *p, const unsigned char *text)
{
	for (; *p; p++, text++) {
		bool is_in;

		if (*p == '*')
			return match_star(p, text);
		if (!*text)
			return NEVER;
		switch (*p) {
		case '?':
			if (*text == '/')
				return NO;
			break;
		case '[':
			p = match_class(p + 1, *text, &is_in);
			if (!p)
				return NEVER;
			if (!is_in || *text == '/')
				return NO;
			break;
		case '\\':
			p++;
			/* fall through */
		default:
			if (*p != *text)
				return NO;
		}
	}
	return *text ? NO : YES;
}

/* where the last count components of a text begin, NULL where there are fewer */
static const char *last_components(const char *text, size_t len, int count)
{
	const char *at = text + len;

	while (at > text)
		if (*--at == '/' && !--count)
			return at + 1;
	return count == 1 ? text : NULL;
}

static bool match_wild(const struct ar_filter_rule *rule, const char *pattern, const char *text,
		       size_t len)
{
	const unsigned char *p = (const unsigned char *)pattern;

	if (rule->where > 0)
		text = last_components(text, len, rule->where);
	if (!text)
		return false;
	enum found found = match(p, (const unsigned char *)text);
	if (rule->where >= 0 || found == NEVER)
		return found == YES;
	while (found != YES && found != NEVER) {
		text = strchr(text, '/');
		if (!text)
			break;
		found = match(p, (const unsigned char *)++text);
	}
	return found == YES;
}

/* ----------------------------------------------------------------- rules */

struct subject {		/* a path that rules are compared with */
	char *full;		/* absolute, with a NUL and room for a slash */
	size_t root_len;	/* of it, the slash behind it included */
	size_t name_at;
	size_t len;
	uint32_t ignored;	/* AR_FILTER_PERISHABLE where such rules do not count */
};

static bool ends_with(const char *text, size_t len, const char *tail, size_t tail_len)
{
	if (len < tail_len)
		return false;
	/* one byte tells most names apart without a call */
	return !tail_len || (text[len - 1] == tail[tail_len - 1] &&
			     !memcmp(text + len - tail_len, tail, tail_len));
}

static bool begins_with(const char *text, size_t len, const char *head, size_t head_len)
{
	if (len < head_len)
		return false;
	return !head_len || (*text == *head && !memcmp(text, head, head_len));
}

static size_t text_start(const struct ar_filter_rule *rule, const struct subject *s)
{
	switch (rule->scope) {
	case AR_FILTER_NAME:
		return s->name_at;
	case AR_FILTER_SLASHED:
		return s->root_len - 1;
	case AR_FILTER_FULL:
		return 1;
	case AR_FILTER_BELOW:
		return rule->start;
	default:
		return s->root_len;
	}
}

static bool matches(const struct ar_filter_table *table, const struct ar_filter_rule *rule,
		    const struct subject *s, bool is_dir)
{
	const size_t start = text_start(rule, s);
	const char *text = s->full + start, *pattern = table->text + rule->text_off;
	const size_t len = s->len - start;

	switch (rule->how) {
	case AR_FILTER_EQUAL:
		return len == rule->text_len && !memcmp(text, pattern, len);
	case AR_FILTER_SUFFIX:
		return ends_with(text, len, pattern, rule->text_len);
	case AR_FILTER_PREFIX:
		return begins_with(text, len, pattern, rule->text_len);
	case AR_FILTER_COMPONENTS:
		return ends_with(text, len, pattern, rule->text_len) &&
		       (len == rule->text_len || text[len - rule->text_len - 1] == '/');
	case AR_FILTER_ANY:
		return true;
	}
	if (!ends_with(text, len, pattern + rule->text_len - rule->tail_len, rule->tail_len) ||
	    !begins_with(text, len, pattern, rule->head_len))
		return false;
	if (!is_dir || !(rule->flags & AR_FILTER_CONTENT))
		return match_wild(rule, pattern, text, len);
	s->full[s->len] = '/';
	s->full[s->len + 1] = '\0';
	const bool found = match_wild(rule, pattern, text, len + 1);
	s->full[s->len] = '\0';
	return found;
}

enum type { A_FILE, A_DIR, UNKNOWN };
enum verdict { SHOWN, HIDDEN, UNDECIDED, NO_RULE };

static bool needs_type(const struct ar_filter_rule *rule)
{
	return rule->flags & (AR_FILTER_ONLY_DIRS | AR_FILTER_CONTENT);
}

static enum verdict judge(const struct ar_filter_table *table, uint32_t side,
			  const struct subject *s, enum type type)
{
	for (uint32_t i = 0; i < table->count; i++) {
		const struct ar_filter_rule *rule = &table->rules[i];
		const bool negated = rule->flags & AR_FILTER_NEGATE;
		bool applies;

		if (!(rule->flags & side) || rule->flags & s->ignored)
			continue;
		if (type == A_FILE && rule->flags & AR_FILTER_ONLY_DIRS)
			applies = negated;
		else
			applies = matches(table, rule, s, type != A_FILE) != negated;
		if (type == UNKNOWN && needs_type(rule)) {
			bool as_file = negated;

			if (!(rule->flags & AR_FILTER_ONLY_DIRS))
				as_file = matches(table, rule, s, false) != negated;
			if (as_file != applies)
				return UNDECIDED;
		}
		if (applies)
			return rule->flags & AR_FILTER_INCLUDE ? SHOWN : HIDDEN;
	}
	return NO_RULE;
}

int ar_filter_check(const struct ar_filter_table *table, const char *path, size_t path_len,
		    bool is_dir, uint32_t asked)
{
	const uint32_t ignored = asked & AR_FILTER_PERISHABLE;
	struct subject s = { .root_len = table->root_len, .ignored = ignored };
	char *full = malloc(table->root_len + path_len + 2);

	if (!full)
		return -ENOMEM;
	memcpy(full, table->root, table->root_len);
	memcpy(full + table->root_len, path, path_len);
	s.full = full;
	s.len = table->root_len + path_len;
	full[s.len] = '\0';
	s.name_at = (size_t)(strrchr(full, '/') + 1 - full);
	const enum verdict verdict = judge(table, asked & ~ignored, &s, is_dir ? A_DIR : A_FILE);
	free(full);
	return verdict == NO_RULE ? AR_FILTER_NO_RULE
				  : verdict == HIDDEN ? AR_FILTER_HIDDEN : AR_FILTER_SHOWN;
}

bool ar_filter_hides_xattr(const struct ar_filter_table *table, const char *name, uint32_t side)
{
	char full[XATTR_NAME_MAX + 3] = "/";
	const size_t len = AR_MIN(strlen(name), (size_t)XATTR_NAME_MAX);

	memcpy(full + 1, name, len);
	full[len + 1] = '\0';
	const struct subject s = {
		.full = full, .root_len = 1, .len = len + 1,
		.name_at = (size_t)(strrchr(full, '/') + 1 - full),
	};
	return judge(table, side, &s, A_FILE) == HIDDEN;
}

/* ---------------------------------------------------------------- tables */

static void free_table(struct ar_filter_table *table)
{
	if (!table)
		return;
	free((void *)table->rules);
	free((void *)table->text);
	free((void *)table->root);
	free((void *)table->merges);
	free(table);
}

static struct ar_filter_table *copy_table(const struct ar_filter_table *from)
{
	struct ar_filter_table *table = ar_copy_of(from, sizeof(*from));

	if (!table)
		return NULL;
	table->rules = ar_copy_of(from->rules, from->count * sizeof(*from->rules));
	table->text = ar_copy_of(from->text, from->text_len);
	table->root = ar_copy_of(from->root, from->root_len);
	table->merges = ar_copy_of(from->merges, from->merges_len);
	if (table->rules && table->text && table->root && table->merges)
		return table;
	free_table(table);
	return NULL;
}

int ar_scan_filter(ar_scan *scan, const struct ar_filter_table *table)
{
	struct ar_filter_table *copy = copy_table(table), **grown;
	int id = -ENOMEM;

	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&scan->lock);
	grown = realloc(scan->filters, (scan->filter_count + 1) * sizeof(*grown));
	if (grown) {
		scan->filters = grown;
		id = (int)scan->filter_count++;
		if (copy->heir == AR_NONE)
			copy->heir = (uint32_t)id;
		grown[id] = copy;
	}
	pthread_mutex_unlock(&scan->lock);
	if (id < 0)
		free_table(copy);
	return id;
}

void ar_scan_filter_root(ar_scan *scan, uint32_t id)
{
	scan->root_filter = id;
}

void ar_filters_free(ar_scan *scan)
{
	for (uint32_t i = 0; i < scan->filter_count; i++)
		free_table(scan->filters[i]);
	free(scan->filters);
}

static const struct ar_filter_table *table_of(ar_scan *scan, uint32_t id)
{
	const struct ar_filter_table *table = NULL;

	pthread_mutex_lock(&scan->lock);
	if (id < scan->filter_count)
		table = scan->filters[id];
	pthread_mutex_unlock(&scan->lock);
	return table;
}

/* --------------------------------------------------------- one directory */

static bool has_merge_file(const struct ar_filter_table *table, const struct ar_names *names)
{
	const char *at = table->merges, *const end = at + table->merges_len;

	for (; at < end; at += strlen(at) + 1) {
		uint32_t low = 0, high = names->count;

		while (low < high) {
			const uint32_t middle = low + (high - low) / 2;
			uint16_t len;
			const char *name = ar_name(names, middle, &len);
			const int order = ar_name_compare(name, len, at, strlen(at));

			if (!order)
				return true;
			if (order < 0)
				low = middle + 1;
			else
				high = middle;
		}
	}
	return false;
}

int ar_filter_inherit(struct scan_call *call, struct ar_dir *dir, uint32_t parent)
{
	const struct ar_filter_table *table = table_of(call->scan, parent);
	const int side = dir->pair_flags & AR_PAIR_EXTRA ? DST : SRC;

	if (!table)
		return 0;
	if (table->flags & AR_FILTER_ASK_ALWAYS || has_merge_file(table, &dir->side[side].names))
		return AR_FILTER_ASK;
	ar_filter_use(call, dir, table->heir);
	return 0;
}

void ar_filter_use(struct scan_call *call, struct ar_dir *dir, uint32_t id)
{
	dir->filter = table_of(call->scan, id);
	dir->filter_id = id;
}

int ar_filter_begin(struct scan_call *call, const struct ar_dir *dir)
{
	const struct ar_filter_table *table = dir->filter;
	const struct ar_path *path = &dir->side[SRC].path;
	struct ar_path *full = &call->scratch->full;

	if (!table)
		return 0;
	/* a slash behind the path; a name, the slash of a directory, a NUL */
	int err = ar_path_reserve(full, table->root_len + path->len + 1 + NAME_MAX + 2);
	if (err)
		return err;
	memcpy(full->bytes, table->root, table->root_len);
	memcpy(full->bytes + table->root_len, path->bytes, path->len);
	full->len = table->root_len + path->len;
	ar_path_unmark(full);
	if (path->len)
		full->bytes[full->len++] = '/';
	return 0;
}

static enum verdict judge_name(struct scan_call *call, const struct ar_dir *dir, const char *name,
			       enum type type, uint32_t side)
{
	struct ar_path *full = &call->scratch->full;
	const size_t len = AR_MIN(strlen(name), (size_t)NAME_MAX);
	const struct subject s = {
		.full = full->bytes,
		.root_len = dir->filter->root_len,
		.name_at = full->len,
		.len = full->len + len,
		.ignored = dir->pair_flags & AR_PAIR_EXTRA ? AR_FILTER_PERISHABLE : 0,
	};

	memcpy(full->bytes + full->len, name, len);
	full->bytes[s.len] = '\0';
	return judge(dir->filter, side, &s, type);
}

bool ar_filter_hides_early(struct scan_call *call, const struct ar_dir *dir, const char *name,
			   bool *decided)
{
	*decided = true;
	if (!dir->filter)
		return false;
	const enum verdict verdict = judge_name(call, dir, name, UNKNOWN, AR_FILTER_SENDER);
	*decided = verdict != UNDECIDED;
	return verdict == HIDDEN;
}

bool ar_filter_hides(struct scan_call *call, const struct ar_dir *dir, const char *name,
		     bool is_dir)
{
	return dir->filter &&
	       judge_name(call, dir, name, is_dir ? A_DIR : A_FILE, AR_FILTER_SENDER) == HIDDEN;
}

bool ar_filter_protects(struct scan_call *call, const struct ar_dir *dir, const char *name,
			bool is_dir)
{
	return dir->filter &&
	       judge_name(call, dir, name, is_dir ? A_DIR : A_FILE, AR_FILTER_RECEIVER) == HIDDEN;
}
