# What scripts/demo and scripts/test share: installing what is missing, and the virtual environment of the checkout.
# Sourced by bash, from the directory of the checkout.

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        return 127
    fi
}

apt_updated=
# install PACKAGE...: from Debian, without recommended packages. Returns false where that is not possible.
install() {
    command -v apt-get >/dev/null || return 1
    say "installing from Debian: $*"
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -qq || return 1
        apt_updated=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

require_python() {
    command -v python3 >/dev/null || install python3 || fail "python3 is needed: version 3.11 or newer"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "python3 is $(python3 -V 2>&1 | cut -d' ' -f2); version 3.11 or newer is needed"
    python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv ||
        fail "the venv module of python3 is needed: install the package python3-venv"
}

# environment DIRECTORY FILE PIP_ARGUMENT...: a virtual environment there with these packages. It is kept as long as
# FILE and the interpreter stay the same.
environment() {
    local directory=$1 file=$2 stamp
    shift 2
    stamp=$({ cat "$file"; python3 -VV; echo "$*"; } | sha256sum | cut -d' ' -f1)
    if [ -x "$directory/bin/python" ] && [ "$(cat "$directory/.stamp" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    say "installing Python packages into $directory: $*"
    [ -x "$directory/bin/python" ] || python3 -m venv "$directory"
    "$directory/bin/python" -m pip install -q --disable-pip-version-check "$@"
    echo "$stamp" >"$directory/.stamp"
}

require_package() {
    require_python
    environment .venv pyproject.toml -e '.[dev]'
}
