# Sourced by the other scripts: stands in the root of the checkout, inside a virtual environment.
# The active one is used; otherwise .venv is made. `need EXTRA` installs the project with an extra,
# once for each state of setup.cfg; `need_debian COMMAND PACKAGE` installs a Debian package if root, and
# `need_compiler` what compiles C with Python's headers.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1

say() { printf '%s\n' "$*" >&2; }

install_debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 0
    say "installing from Debian: $*"
    [ -n "${apt_updated:-}" ] || { apt-get -q update >/dev/null 2>&1; apt_updated=1; }
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null 2>&1 || true
}

need_debian() {
    command -v "$1" >/dev/null 2>&1 && return 0
    install_debian "$2"
    command -v "$1" >/dev/null 2>&1 || { say "note: $1 is missing (Debian package $2); what needs it is skipped"; return 1; }
}

need_compiler() {
    python scripts/compiled_environment.py --check 2>/dev/null && return 0
    install_debian gcc libc6-dev python3-dev
    python scripts/compiled_environment.py --check
}

make_venv() {
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "Python 3.11 or newer is needed; set PYTHON to one"; exit 1; }
    "$python" -m venv .venv >/dev/null 2>&1 && return
    rm -rf .venv
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing the Debian package python3-venv"
        apt-get -q update >/dev/null 2>&1
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >/dev/null
    fi
    "$python" -m venv .venv || { say "cannot make .venv: install Debian's python3-venv, or activate a virtual environment"; exit 1; }
}

if [ -z "${VIRTUAL_ENV:-}" ]; then
    [ -x .venv/bin/python ] || make_venv
    . .venv/bin/activate
fi

need() {
    stamp="$VIRTUAL_ENV/.twisted_rr-$1"
    state=$(cat setup.cfg pyproject.toml | cksum; pwd)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && return
    say "installing twisted_rr and what '$1' needs"
    if [ "$1" = core ]; then python -m pip install --quiet --disable-pip-version-check -e .
    else python -m pip install --quiet --disable-pip-version-check -e ".[$1]"; fi || exit 1
    printf '%s' "$state" > "$stamp"
}
