# shellcheck shell=bash
# Build arsync with other compiler flags, beside the normal build. Sourced after setup.sh.

# Copy the checkout to build/NAME and build the C module there as `_build.py` defines NAME; the path
# of the copy goes to `variant`. Run from there with PYTHONPATH=$variant: that wins over the checkout.
build_variant() { # NAME
    local entry
    # shellcheck disable=SC2154 # set by setup.sh
    variant=$checkout/build/$1
    rm -rf "$variant"
    mkdir -p "$variant"
    for entry in "$checkout"/*; do
        case ${entry##*/} in
        build | dist | *.egg-info) ;;
        *) cp -a "$entry" "$variant/" ;;
        esac
    done
    rm -f "$variant"/arsync/uring/_native*.so
    say "building the C module for $1"
    # shellcheck disable=SC2154 # set by setup.sh
    (cd "$variant" && ARSYNC_BUILD=$1 logged "$venv/bin/python" setup.py --quiet build_ext --inplace)
}
