#!/usr/bin/env bash
# Creates the virtual environment of `make setup`, or brings it up to date: bash setup_environment.sh DIRECTORY
#
# PYTHON names the interpreter to begin with. Works where python3-venv is split off (no ensurepip), and says in one
# sentence what the machine lacks instead of leaving it to the compiler's messages.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
venv=$1

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer; ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>/dev/null || echo missing)." \
        "Install one, or name it: make setup PYTHON=/path/to/python3.11"
}

check_compiler() {
    local compiler=${CC:-}
    if [ -z "$compiler" ]; then
        compiler=$("$1" -c 'import shlex, sysconfig; print(shlex.split(sysconfig.get_config_var("CC") or "cc")[0])')
    fi
    command -v "${compiler%% *}" >/dev/null ||
        fail "needs a C compiler, and there is no ${compiler%% *} (Debian, Ubuntu: apt install gcc)"
}

check_headers() {
    local headers
    headers=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$headers/Python.h" ] ||
        fail "needs Python's headers, and there is no $headers/Python.h (Debian, Ubuntu: apt install python3-dev)"
}

create_venv() {
    [ -x "$venv/bin/python" ] && new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
    rm -rf "$venv"
    if "$1" -c 'import ensurepip' 2>/dev/null; then
        "$1" -m venv "$venv"
        return
    fi
    "$1" -m pip --version >/dev/null 2>&1 ||
        fail "$1 has neither ensurepip nor pip (Debian, Ubuntu: apt install python3-venv)"
    "$1" -m venv --without-pip "$venv"
    "$1" -m pip --python "$venv/bin/python" install --quiet pip
}

python=$(find_python)
check_compiler "$python"
check_headers "$python"
create_venv "$python"
# setuptools calls its settings for C extensions experimental at every build; real failures are not warnings
PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[test]'
