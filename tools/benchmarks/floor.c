/*
 * floor: the least that copying a tree costs.
 *
 * A plain C program that does only the necessary calls, on a few threads (two by default), and
 * serves as the bar beside which `tools/bench` reports every tool. It is written as fast as plain
 * system calls allow and leaves out what a real tool owes its user: no comparison with what is at
 * the destination, no hash, no holes, no hard links, no attributes, no retries, the first error
 * ends it. It works as root on a destination that does not exist yet.
 *
 * For each regular file: openat, fstat, openat of a temporary name, read and write, fchown and
 * fchmod only where the kernel did not already give the wanted owner and mode, futimens, renameat.
 * For each directory: one mkdirat by its parent, getdents64, and its owner, mode and times as soon
 * as nothing more will be written into it. The caller (the bench) ends each run with a syncfs.
 *
 * Work: a stack of tasks that all threads share. A task is a directory, or a large file whose
 * chunks every free thread helps to copy. A directory's own entries are made by one thread; its
 * subdirectories are created at once and pushed, so its mtime is final when its last file is.
 *
 * Usage: floor [--threads N] [--no-rename] SRC DST     (SRC: a directory or a regular file)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	MAX_THREADS = 64,
	/* 128 KiB to 1 MiB made no difference (512 MiB on tmpfs, 8 runs each), 64 KiB cost 9 %. */
	BUFFER_BYTES = 256 * 1024,
	GETDENTS_BYTES = 64 * 1024,
	CHUNK_BYTES = 4 * 1024 * 1024,
	/* Below this a file is done sooner by one thread than it is shared. */
	SHARED_FILE_BYTES = 32 * 1024 * 1024,
};

struct linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

/* A directory being copied; lives until its own entries and its large files are done. */
struct directory {
	int src_fd;
	int dst_fd;
	struct stat st;
	atomic_int pending;
};

/* A file that several threads copy by chunks. */
struct large_file {
	struct directory *parent;
	int src_fd;
	int dst_fd;
	struct stat st;
	_Atomic uint64_t next_offset;
	_Atomic uint64_t bytes_left;
	atomic_int users;
	char temporary[32];
	char name[NAME_MAX + 1];
};

struct task {
	struct task *below;
	struct large_file *large;
	char path[];
};

struct worker {
	pthread_t thread;
	int number;
	char *buffer;
	char *entries;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct task *top;
	int unfinished;
} stack = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0 };

/* Directories are made 0755 and corrected only where the source differs: most do not. */
static const mode_t directory_mode = 0755;

static int src_root_fd;
static int dst_root_fd;
static int thread_count = 2;
static bool use_rename = true;
static uid_t our_uid;
static gid_t our_gid;
static atomic_uint temporary_count;

static void die(const char *what, const char *name)
{
	fprintf(stderr, "floor: cannot %s '%s': %s\n", what, name, strerror(errno));
	_exit(1);
}

static void *allocate(size_t bytes)
{
	void *memory = malloc(bytes);

	if (!memory)
		die("allocate memory for", "a task");
	return memory;
}

/* --- the shared stack ------------------------------------------------------------------- */

static void push(struct task *task)
{
	pthread_mutex_lock(&stack.lock);
	task->below = stack.top;
	stack.top = task;
	stack.unfinished++;
	pthread_cond_signal(&stack.changed);
	pthread_mutex_unlock(&stack.lock);
}

static void push_directory(const char *parent, const char *name)
{
	size_t parent_length = strlen(parent), name_length = strlen(name);
	struct task *task = allocate(sizeof(*task) + parent_length + name_length + 2);
	char *end = task->path;

	task->large = NULL;
	if (parent_length) {
		end = mempcpy(end, parent, parent_length);
		*end++ = '/';
	}
	memcpy(end, name, name_length + 1);
	push(task);
}

static void push_large(struct large_file *large)
{
	struct task *task = allocate(sizeof(*task) + 1);

	task->large = large;
	push(task);
}

/* The next task, or NULL when all work is done; sleeps while others may still push. */
static struct task *pop(void)
{
	struct task *task;

	pthread_mutex_lock(&stack.lock);
	while (!stack.top && stack.unfinished)
		pthread_cond_wait(&stack.changed, &stack.lock);
	task = stack.top;
	if (task)
		stack.top = task->below;
	pthread_mutex_unlock(&stack.lock);
	return task;
}

static void finish_task(struct task *task)
{
	pthread_mutex_lock(&stack.lock);
	if (!--stack.unfinished)
		pthread_cond_broadcast(&stack.changed);
	pthread_mutex_unlock(&stack.lock);
	free(task);
}

/* --- metadata --------------------------------------------------------------------------- */

/* No directory has setgid while it is filled, so what is made in it has our own group. */
static bool owner_differs(const struct stat *st)
{
	return st->st_uid != our_uid || st->st_gid != our_gid;
}

/* A chown by anybody clears setuid and setgid of a regular file. */
static bool chown_cleared_mode(const struct stat *st, bool chowned)
{
	return chowned && (st->st_mode & (S_ISUID | S_ISGID));
}

static void set_metadata(int fd, const struct stat *st, const char *name)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };
	bool chowned = owner_differs(st);

	if (chowned && fchown(fd, st->st_uid, st->st_gid))
		die("change the owner of", name);
	if (chown_cleared_mode(st, chowned) && fchmod(fd, st->st_mode & 07777))
		die("change the mode of", name);
	if (futimens(fd, times))
		die("set the times of", name);
}

/* Called by whoever finishes a directory's last entry: nothing more will change its mtime. */
static void release_directory(struct directory *directory, const char *name)
{
	struct stat *st = &directory->st;
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };

	if (atomic_fetch_sub(&directory->pending, 1) != 1)
		return;
	if (owner_differs(st) && fchown(directory->dst_fd, st->st_uid, st->st_gid))
		die("change the owner of", name);
	if ((st->st_mode & 07777) != directory_mode &&
	    fchmod(directory->dst_fd, st->st_mode & 07777))
		die("change the mode of", name);
	if (futimens(directory->dst_fd, times))
		die("set the times of", name);
	close(directory->src_fd);
	close(directory->dst_fd);
	free(directory);
}

/* --- regular files ---------------------------------------------------------------------- */

/* Copy bytes [offset, offset + bytes); the source ending early ends the copy there. */
static void copy_range(int src_fd, int dst_fd, uint64_t offset, uint64_t bytes, char *buffer,
		       const char *name)
{
	while (bytes) {
		size_t wanted = bytes < BUFFER_BYTES ? bytes : BUFFER_BYTES;
		ssize_t got = pread(src_fd, buffer, wanted, offset);
		ssize_t done = 0;

		if (got < 0)
			die("read", name);
		if (got == 0)
			return;
		while (done < got) {
			ssize_t put = pwrite(dst_fd, buffer + done, got - done, offset + done);

			if (put < 0)
				die("write", name);
			done += put;
		}
		offset += got;
		bytes -= got;
	}
}

static int create_file(struct directory *parent, const char *name, mode_t mode)
{
	int fd = openat(parent->dst_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			mode & 07777);

	if (fd < 0)
		die("create", name);
	return fd;
}

static void finish_file(struct directory *parent, int src_fd, int dst_fd, const struct stat *st,
			const char *created, const char *name)
{
	set_metadata(dst_fd, st, name);
	close(src_fd);
	close(dst_fd);
	if (use_rename && renameat(parent->dst_fd, created, parent->dst_fd, name))
		die("rename", name);
}

static void release_large(struct large_file *large)
{
	if (atomic_fetch_sub(&large->users, 1) == 1)
		free(large);
}

/* Take chunks until none is left; whoever completes the last one finishes the file. */
static void help_with_large(struct large_file *large, struct worker *me)
{
	const uint64_t size = large->st.st_size;

	for (;;) {
		uint64_t offset = atomic_fetch_add(&large->next_offset, CHUNK_BYTES);
		uint64_t bytes;

		if (offset >= size)
			break;
		bytes = size - offset < CHUNK_BYTES ? size - offset : CHUNK_BYTES;
		copy_range(large->src_fd, large->dst_fd, offset, bytes, me->buffer, large->name);
		if (atomic_fetch_sub(&large->bytes_left, bytes) == bytes) {
			finish_file(large->parent, large->src_fd, large->dst_fd, &large->st,
				    large->temporary, large->name);
			release_directory(large->parent, large->name);
		}
	}
	release_large(large);
}

static void start_large(struct directory *parent, const char *name, int src_fd,
			const struct stat *st)
{
	struct large_file *large = allocate(sizeof(*large));
	const char *created = use_rename ? large->temporary : name;
	int i;

	snprintf(large->temporary, sizeof(large->temporary), ".floor.large.%u",
		 atomic_fetch_add(&temporary_count, 1));
	snprintf(large->name, sizeof(large->name), "%s", name);
	large->parent = parent;
	large->src_fd = src_fd;
	large->dst_fd = create_file(parent, created, st->st_mode);
	large->st = *st;
	atomic_init(&large->next_offset, 0);
	atomic_init(&large->bytes_left, st->st_size);
	atomic_init(&large->users, thread_count);
	atomic_fetch_add(&parent->pending, 1);
	for (i = 0; i < thread_count; i++)
		push_large(large);
}

static void copy_file(struct directory *parent, const char *name, struct worker *me)
{
	char temporary[32];
	const char *created = name;
	struct stat st;
	int src_fd, dst_fd;

	src_fd = openat(parent->src_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (src_fd < 0)
		die("open", name);
	if (fstat(src_fd, &st))
		die("stat", name);
	if (st.st_size >= SHARED_FILE_BYTES && thread_count > 1) {
		start_large(parent, name, src_fd, &st);
		return;
	}
	if (use_rename) {
		snprintf(temporary, sizeof(temporary), ".floor.%d", me->number);
		created = temporary;
	}
	dst_fd = create_file(parent, created, st.st_mode);
	copy_range(src_fd, dst_fd, 0, st.st_size, me->buffer, name);
	finish_file(parent, src_fd, dst_fd, &st, created, name);
}

/* --- what is neither file nor directory ------------------------------------------------- */

static void copy_symlink(struct directory *parent, const char *name)
{
	char target[4096];
	ssize_t length = readlinkat(parent->src_fd, name, target, sizeof(target) - 1);

	if (length < 0)
		die("read link", name);
	target[length] = '\0';
	if (symlinkat(target, parent->dst_fd, name))
		die("make link", name);
}

static void copy_special(struct directory *parent, const char *name)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	struct stat st;

	if (fstatat(parent->src_fd, name, &st, AT_SYMLINK_NOFOLLOW))
		die("stat", name);
	if (S_ISLNK(st.st_mode))
		copy_symlink(parent, name);
	else if (mknodat(parent->dst_fd, name, st.st_mode, st.st_rdev))
		die("make node", name);
	if (owner_differs(&st) &&
	    fchownat(parent->dst_fd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW))
		die("change the owner of", name);
	times[1] = st.st_mtim;
	if (utimensat(parent->dst_fd, name, times, AT_SYMLINK_NOFOLLOW))
		die("set the times of", name);
}

/* --- directories ------------------------------------------------------------------------ */

static unsigned char type_of(struct directory *parent, const struct linux_dirent64 *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type;
	if (fstatat(parent->src_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
		die("stat", entry->d_name);
	return IFTODT(st.st_mode);
}

static bool is_dot_name(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static void copy_entry(struct directory *directory, const char *path,
		       const struct linux_dirent64 *entry, struct worker *me)
{
	const char *name = entry->d_name;

	switch (type_of(directory, entry)) {
	case DT_DIR:
		if (mkdirat(directory->dst_fd, name, directory_mode))
			die("make directory", name);
		push_directory(path, name);
		return;
	case DT_REG:
		copy_file(directory, name, me);
		return;
	default:
		copy_special(directory, name);
	}
}

static struct directory *open_directory(const char *path)
{
	const char *name = *path ? path : ".";
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	struct directory *directory = allocate(sizeof(*directory));

	directory->src_fd = openat(src_root_fd, name, flags);
	if (directory->src_fd < 0)
		die("open directory", name);
	directory->dst_fd = openat(dst_root_fd, name, flags);
	if (directory->dst_fd < 0)
		die("open directory", name);
	if (fstat(directory->src_fd, &directory->st))
		die("stat", name);
	atomic_init(&directory->pending, 1);
	return directory;
}

static void copy_directory(const char *path, struct worker *me)
{
	struct directory *directory = open_directory(path);
	ssize_t got, at;

	while ((got = syscall(SYS_getdents64, directory->src_fd, me->entries, GETDENTS_BYTES)) > 0) {
		for (at = 0; at < got;) {
			struct linux_dirent64 *entry = (void *)(me->entries + at);

			if (!is_dot_name(entry->d_name))
				copy_entry(directory, path, entry, me);
			at += entry->d_reclen;
		}
	}
	if (got < 0)
		die("list", path);
	release_directory(directory, path);
}

/* --- threads and start ------------------------------------------------------------------ */

static void *work(void *argument)
{
	struct worker *me = argument;
	struct task *task;

	while ((task = pop())) {
		if (task->large)
			help_with_large(task->large, me);
		else
			copy_directory(task->path, me);
		finish_task(task);
	}
	return NULL;
}

static void run_threads(void)
{
	static struct worker workers[MAX_THREADS];
	int i;

	for (i = 0; i < thread_count; i++) {
		workers[i].number = i;
		workers[i].buffer = aligned_alloc(4096, BUFFER_BYTES);
		workers[i].entries = allocate(GETDENTS_BYTES);
		if (!workers[i].buffer)
			die("allocate memory for", "a buffer");
		errno = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
		if (errno)
			die("start", "a thread");
	}
	for (i = 0; i < thread_count; i++)
		pthread_join(workers[i].thread, NULL);
}

static int open_path(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		die("open directory", path);
	return fd;
}

static void copy_root_directory(const char *src, const char *dst)
{
	src_root_fd = open_path(src);
	if (mkdir(dst, directory_mode))
		die("make directory", dst);
	dst_root_fd = open_path(dst);
	push_directory("", "");
	run_threads();
}

/* Split a path at its last slash; the name points into the path. */
static int open_parent(char *path, char **name)
{
	char *slash = strrchr(path, '/');

	if (!slash) {
		*name = path;
		return open_path(".");
	}
	*name = slash + 1;
	*slash = '\0';
	return open_path(*path ? path : "/");
}

/* A single file: its directory is only where it stands, so it is never released. */
static void copy_root_file(char *src, char *dst, const struct stat *st)
{
	struct directory parent = { 0 };
	char *src_name, *dst_name;
	int src_fd;

	parent.src_fd = open_parent(src, &src_name);
	parent.dst_fd = open_parent(dst, &dst_name);
	atomic_init(&parent.pending, 1);
	src_fd = openat(parent.src_fd, src_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (src_fd < 0)
		die("open", src_name);
	start_large(&parent, dst_name, src_fd, st);
	run_threads();
}

static int usage(void)
{
	fprintf(stderr, "usage: floor [--threads N] [--no-rename] SRC DST\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct stat st;
	int at = 1;

	for (; at < argc && !strncmp(argv[at], "--", 2); at++) {
		if (!strcmp(argv[at], "--no-rename"))
			use_rename = false;
		else if (!strcmp(argv[at], "--threads") && at + 1 < argc)
			thread_count = atoi(argv[++at]);
		else
			return usage();
	}
	if (argc - at != 2 || thread_count < 1 || thread_count > MAX_THREADS)
		return usage();
	umask(0);
	our_uid = geteuid();
	our_gid = getegid();
	if (lstat(argv[at], &st))
		die("stat", argv[at]);
	if (S_ISDIR(st.st_mode))
		copy_root_directory(argv[at], argv[at + 1]);
	else if (S_ISREG(st.st_mode) && st.st_size > 0)
		copy_root_file(argv[at], argv[at + 1], &st);
	else
		return usage();
	return 0;
}
