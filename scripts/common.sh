# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Sourced by the scripts beside it: errors on one line, and the cache.

# What is made once is kept in the cache, in a directory whose name ends in the release of Debian that it
# was made for and its own version. It is made under another name and then renamed, so it is whole; it
# is made anew if files were lost since.

shopt -s inherit_errexit
program=${0##*/}
# shellcheck disable=SC1091
release=$(. /etc/os-release && echo "$ID${VERSION_ID-}")

fail() {
    echo "$program: $*" >&2
    exit 1
}

wrong_usage() {
    echo "$program: $*; see $program --help" >&2
    exit 2
}

# Checks that the option in $1 has a value in $2.
need_value() {
    (($# >= 2)) || wrong_usage "$1 needs a value"
}

# Sets `cache` and MINIVMM_CACHE to the cache's directory, which it makes.
find_cache() {
    local remedy="set MINIVMM_CACHE to a directory that you may write to"
    cache=${MINIVMM_CACHE-}
    [[ $cache || ! ${XDG_CACHE_HOME-} ]] || cache=$XDG_CACHE_HOME/minivmm
    [[ $cache || ! ${HOME-} ]] || cache=$HOME/.cache/minivmm
    [[ $cache ]] || fail "HOME is not set: $remedy"
    [[ $cache == /* ]] || fail "the cache's path $cache is not absolute: $remedy"
    mkdir -p "$cache" 2>/dev/null || true
    [[ -w $cache ]] || fail "cannot write to the cache $cache: $remedy"
    export MINIVMM_CACHE=$cache
}

# Prints the Debian archives that the host itself uses, one "URI suite" per line.
debian_archives() {
    local archives
    # shellcheck disable=SC2016 # apt's variables
    archives=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        sed -n 's/^Debian //p' | sort -u)
    # shellcheck disable=SC1091
    echo "${archives:-http://deb.debian.org/debian $(. /etc/os-release && echo "$VERSION_CODENAME")}"
}

# The number of files in a directory, and of their bytes.
weigh() {
    find "$1" -type f ! -name .made -printf '%s\n' | awk '{ bytes += $1 } END { print NR, bytes }'
}

# made_once KIND VERSION COMMAND...: prints the path of the directory that COMMAND has filled, now or
# earlier; COMMAND gets it as its last argument. VERSION "": the latest that exists for this release.
# Deletes others of this KIND that were not used for 30 days. To be called in $(), as it sets a trap.
made_once() {
    local kind=$1-$release path making
    path=$cache/$kind-${2//:/.}
    [[ $2 ]] || path=$(find "$cache" -maxdepth 1 -type d -name "$kind-*" | sort -V | tail -n 1)
    [[ $path ]] || fail "there is no $1 for $release in $cache, and none can be fetched"
    exec 8>"$cache/$kind.lock"
    flock 8
    if [[ ! -e $path/.made || $(weigh "$path") != "$(<"$path/.made")" ]]; then
        making=$(mktemp -d "$cache/making-XXXXXX")
        # shellcheck disable=SC2064 # `making` is local
        trap "rm -rf '$making'" EXIT
        "${@:3}" "$making" >&2 8>&-
        weigh "$making" >"$making/.made"
        chmod 755 "$making"
        rm -rf "$path"
        mv "$making" "$path"
    fi
    touch "$path"
    find "$cache" -maxdepth 1 \( -name "$1*" -o -name 'making-*' \) ! -name '*.lock' -mtime +30 -exec rm -rf {} +
    echo "$path"
}
