# shellcheck shell=bash
# Set the checkout up. The other tools source this file, with their own real path in `self`.
#
# `set_up KIND` makes sure that `.venv` in the checkout holds a working arsync with
#   run   what the program needs
#   test  that, and what the tests need
#   dev   that, and the checkers
# The first call takes a minute, each further one a few file tests (no process is started), until
# pyproject.toml, these scripts or the C changes. A step counts as done when its stamp in `.venv`
# says so: removed before the step, written after it, dated at its start. The stamp of `run` holds
# the path of the checkout, because a virtual environment that was moved does not work.

# shellcheck disable=SC2154 # self is the caller's
tools=${self%/*}
checkout=${tools%/*}
venv=$checkout/.venv

SET_UP_FAILED=43 # "not supported here" among arsync's exit codes

set_up() { # KIND
    is_ready "$1" && return
    mkdir -p "$venv" 2>/dev/null || true
    [[ -w $venv ]] || refuse_stranger
    (
        flock --nonblock 9 || {
            say "waiting for another set-up of this checkout"
            flock 9
        }
        is_ready "$1" || prepare "$1"
    ) 9>>"$venv/.lock" </dev/null || exit
}

# Not this user's checkout: what is there would do, or it does not.
refuse_stranger() {
    local python=$venv/bin/python
    [[ ! -f $venv/.ready-run || -x $python ]] ||
        fail "this user cannot run '$(readlink -m "$python")', the Python that the checkout was set up" \
            "with: its owner must set it up with one for everybody:" \
            "rm -r '$venv' && PATH=/usr/bin:/bin '$tools/arsync' --version"
    fail "cannot write '$venv', where the set-up goes: call it once as the owner of the checkout"
}

say() { printf 'arsync set-up: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit "$SET_UP_FAILED"
}

# --- what is done already ---

is_ready() { # KIND
    is_installed run && { [[ $1 == run ]] || is_installed "$1"; } && is_built
}

is_installed() { # KIND
    is_whole &&
        is_fresh "$venv/.ready-$1" "$checkout/pyproject.toml" "$checkout/setup.py" "$tools/setup.sh"
}

# An installation was finished here, and its Python still exists.
is_whole() {
    local made_for=
    [[ -x $venv/bin/python && -x $venv/bin/arsync && -f $venv/.ready-run ]] || return
    IFS= read -r -d '' made_for <"$venv/.ready-run"
    [[ $made_for == "$checkout" ]]
}

is_built() {
    local uring=$checkout/arsync/uring modules
    modules=("$uring"/_native*.so)
    [[ -f ${modules[0]} ]] &&
        is_fresh "$venv/.built" "$uring/_build.py" "$uring/src" "$uring"/src/*.[ch]
}

is_fresh() { # STAMP INPUT...
    local stamp=$1 input
    shift
    [[ -f $stamp ]] || return
    for input; do
        [[ ! $input -nt $stamp ]] || return
    done
}

# --- the steps ---

prepare() { # KIND
    is_installed run || install_run
    is_built || build_native
    [[ $1 == run ]] || is_installed "$1" || "install_$1"
    say "done"
}

install_run() {
    say "setting up '$venv', once, about a minute"
    need_build_packages
    is_whole || make_environment
    rm -f "$venv"/.ready-* "$venv/.built"
    : >"$venv/.started"
    say "arsync, what it imports, and its C module"
    pip_install 'setuptools>=77' 'cffi>=1.15'
    install_checkout
    try_import
    stamp built
    stamp ready-run "$checkout"
}

make_environment() {
    local python
    python=$(find_python)
    # The lock stays: others may be waiting for it.
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
    say "virtual environment with $python"
    logged "$python" -I -m venv "$venv"
}

install_test() {
    rm -f "$venv/.ready-test"
    : >"$venv/.started"
    want_test_packages
    say "Python packages of the tests"
    install_checkout '[test]'
    stamp ready-test
}

install_dev() {
    is_installed test || install_test
    rm -f "$venv/.ready-dev"
    : >"$venv/.started"
    say "Python packages of the checkers"
    install_checkout '[test,dev]'
    stamp ready-dev
}

build_native() {
    rm -f "$venv/.built"
    : >"$venv/.started"
    say "building the C module"
    (cd "$checkout" && logged "$venv/bin/python" setup.py --quiet build_ext --inplace) || exit
    try_import
    stamp built
}

# The linker takes undefined symbols in a module; the import does not.
try_import() {
    logged "$venv/bin/python" -I -c 'import arsync.uring._native'
}

install_checkout() { # [EXTRAS]
    (cd "$checkout" && pip_install --no-build-isolation --editable ".${1-}") || exit
}

pip_install() {
    logged "$venv/bin/python" -I -m pip --quiet --disable-pip-version-check --no-input install "$@"
}

# Write the stamp whole and at once, dated when the step started: what was edited meanwhile is newer.
stamp() { # NAME [TEXT]
    printf %s "${2-}" >"$venv/.stamp"
    touch -r "$venv/.started" "$venv/.stamp"
    mv "$venv/.stamp" "$venv/.$1"
}

# Run a command quietly; when it fails, show the end of what it said and stop.
logged() { # COMMAND...
    local log=$venv/.set-up.log
    "$@" >"$log" 2>&1 9>&- && return
    tail -n 40 "$log" >&2
    fail "failed: ${*##*/} (the whole output: $log)"
}

# --- Python and system packages ---

# Print the path of a Python that can make an environment and compile against itself.
find_python() {
    local name found
    for name in python3 /usr/bin/python3 python3.{14..10}; do
        if found=$("$name" -I -c "$python_probe" 2>/dev/null); then
            printf '%s\n' "$found"
            return
        fi
    done
    return 1
}

# The real path: behind a link or a pyenv shim another version may stand tomorrow.
python_probe='
import ensurepip, os, sys, sysconfig, venv
assert sys.version_info >= (3, 10)
assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
print(os.path.realpath(sys.executable))'

need_build_packages() {
    local packages
    packages=$(missing_build_packages)
    [[ $packages ]] || return 0
    may_install || fail "missing: $packages (Debian's names; liburing 2.3 and Python 3.10 or later);" \
        "install them as root and call again: apt-get install $packages"
    # shellcheck disable=SC2086 # one word a package
    install_packages $packages || fail "apt-get could not install: $packages"
    packages=$(missing_build_packages)
    [[ ! $packages ]] || fail "still missing or too old after their installation: $packages"
}

missing_build_packages() {
    local packages=()
    find_python >/dev/null || packages+=(python3 python3-venv python3-dev)
    command -v gcc >/dev/null || packages+=(gcc)
    compiles '#include <stdlib.h>' || packages+=(libc6-dev)
    # The flag came with liburing 2.3.
    compiles $'#include <liburing.h>\nint flag = IORING_SETUP_DEFER_TASKRUN;' || packages+=(liburing-dev)
    compiles $'#include <xxhash.h>\nXXH128_hash_t hash;' || packages+=(libxxhash-dev)
    printf '%s' "${packages[*]}"
}

compiles() { # SOURCE
    gcc -fsyntax-only -x c - <<<"$1" 2>/dev/null
}

# The tests use these commands; a test whose command is missing says so.
want_test_packages() {
    local packages
    packages=$(missing_test_packages)
    [[ $packages ]] || return 0
    # shellcheck disable=SC2086 # one word a package
    may_install && install_packages $packages && return
    say "not installed, so some tests cannot run: $packages"
}

missing_test_packages() {
    local packages=() wanted
    for wanted in rsync:rsync mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs \
        mkfs.vfat:dosfstools setfacl:acl setfattr:attr setcap:libcap2-bin xxhsum:xxhash \
        bsdtar:libarchive-tools mtree:mtree-netbsd; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${wanted%:*}" >/dev/null || packages+=("${wanted#*:}")
    done
    printf '%s' "${packages[*]}"
}

may_install() {
    command -v apt-get >/dev/null && { ((EUID == 0)) || sudo -n true 2>/dev/null; }
}

install_packages() { # PACKAGE...
    say "apt-get install $*"
    apt_get install "$@" || { apt_get update && apt_get install "$@"; } || {
        tail -n 5 "$venv/.apt.log" >&2
        return 1
    }
}

apt_get() {
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=600 "$@" >"$venv/.apt.log" 2>&1 9>&-
}
