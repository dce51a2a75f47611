# Sourced by the scripts beside it: makes and checks .venv. Sets ROOT and PYTHON (the interpreter of .venv).
# shellcheck shell=bash
#
# .venv/replicate-stamp        the state of a finished install: where it is as `wanted`, nothing is to be done
# .venv/replicate-installing   the process that installs; left behind, the install was cut off and starts afresh
# .venv/replicate-install.log  what pip said

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$ROOT/.venv"
MARKER="$VENV/replicate-installing"
PYTHON="$VENV/bin/python"
NEWEST_MINOR=14 # the newest Python for which every pin of constraints.txt has a wheel
OLDEST_MINOR=10

say() { printf 'replicate: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 2
}

# "3.11.7 usable", or "3.11.7 no-venv"; nothing where $1 does not run.
describe() {
  "$1" -c 'import importlib.util as u, sys
missing = [m for m in ("venv", "ensurepip") if u.find_spec(m) is None]
print("%d.%d.%d" % sys.version_info[:3], "no-venv" if missing else "usable")' 2>/dev/null
}

in_range() {
  case "$1" in
    3.*) ;;
    *) return 1 ;;
  esac
  local minor="${1#3.}"
  minor="${minor%%.*}"
  [ "$minor" -ge "$OLDEST_MINOR" ] && [ "$minor" -le "$NEWEST_MINOR" ]
}

# Sets BASE and BASE_VERSION: $REPLICATE_PYTHON, or the newest suitable Python on PATH.
choose_python() {
  local supported="3.$OLDEST_MINOR to 3.$NEWEST_MINOR" no_venv="" seen="" found candidate minor
  local candidates=()
  if [ -n "${REPLICATE_PYTHON:-}" ]; then
    candidates=("$REPLICATE_PYTHON")
  else
    for ((minor = NEWEST_MINOR; minor >= OLDEST_MINOR; minor--)); do candidates+=("python3.$minor"); done
    candidates+=(python3 python)
  fi
  for candidate in "${candidates[@]}"; do
    found="$(describe "$candidate")" || continue
    seen="$candidate (${found% *})"
    in_range "${found% *}" || continue
    if [ "${found#* }" = no-venv ]; then
      no_venv="${no_venv:-$candidate (${found% *})}"
      continue
    fi
    BASE="$candidate" BASE_VERSION="${found% *}"
    return
  done
  if [ -n "$no_venv" ]; then
    fail "$no_venv comes without venv and ensurepip; install them (Debian, Ubuntu: apt install python3-venv)" \
      "or name another Python $supported in REPLICATE_PYTHON"
  elif [ -n "${REPLICATE_PYTHON:-}" ]; then
    fail "expected Python $supported in REPLICATE_PYTHON, got ${seen:-$REPLICATE_PYTHON, which does not run};" \
      "name another one or unset it"
  fi
  fail "expected Python $supported on PATH, got ${seen:-none}; install one or name it in REPLICATE_PYTHON"
}

# What the stamp must say for a .venv of Python $1.
wanted() {
  printf 'python %s\nroot %s\nrequirements %s\n' "$1" "$ROOT" \
    "$(cat "$ROOT/pyproject.toml" "$ROOT/ci/constraints.txt" | cksum)"
}

# The version of .venv's interpreter; nothing where there is none that runs.
venv_version() {
  local found
  [ -x "$PYTHON" ] && found="$(describe "$PYTHON")" && printf '%s' "${found% *}"
}

stamp_matches() {
  local version
  [ -f "$VENV/replicate-stamp" ] || return 1
  version="$(venv_version)" && [ "$(cat "$VENV/replicate-stamp")" = "$(wanted "$version")" ] || return 1
  [ -z "${REPLICATE_PYTHON:-}" ] || [ "$(describe "$REPLICATE_PYTHON")" = "$version usable" ]
}

# Says every ten seconds that pip (process $1) is still at it, for how long, how much there is, and what it does.
watch_install() {
  local line seconds=0
  while sleep 1 && kill -0 "$1" 2>/dev/null; do
    seconds=$((seconds + 1))
    [ $((seconds % 10)) -eq 0 ] || continue
    line="$(grep -Eo '(Collecting|Downloading|Installing) [^ ]+' "$VENV/replicate-install.log" | tail -n 1)" || line=""
    line="${line/Installing collected/installing}"
    line="$seconds s, $(du -sk "$VENV" 2>/dev/null | awk '{printf "%.1f GB", $1 / 1e6}')  $line"
    if [ -t 2 ]; then printf '\r\033[K%.*s' "${COLUMNS:-78}" "replicate: $line" >&2; else say "${line:0:78}"; fi
  done
  [ ! -t 2 ] || printf '\r\033[K' >&2
}

# Runs a command with its output in the log, tells how far it is, and ends it when this process is ended.
attended() {
  local pid status=0
  "$@" >>"$VENV/replicate-install.log" 2>&1 &
  pid=$!
  trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
  watch_install "$pid" &
  wait "$pid" || status=$?
  wait # for the watcher
  trap - INT TERM
  return "$status"
}

install_packages() {
  local status=0
  : >"$VENV/replicate-install.log"
  # -I: neither the caller's folder nor PYTHONPATH may stand in for what is installed.
  attended "$PYTHON" -I -m pip install --disable-pip-version-check --no-compile \
    --constraint "$ROOT/ci/constraints.txt" --editable "$ROOT[test]" || status=$?
  if [ "$status" -ne 0 ]; then
    tail -n 20 "$VENV/replicate-install.log" >&2
    fail "pip failed (exit $status); its log is $VENV/replicate-install.log; run this again to start the install afresh"
  fi
  # pip compiles one file after the other, which is half of an install's time; this does so with all cores, and leaves
  # tests of packages out. What does not compile is of another Python, and never imported.
  attended "$PYTHON" -I -m compileall -qq -j 0 -x '/tests?/' "$VENV"/lib/python*/site-packages || true
}

# Makes this process the one that installs, waiting for another one; sets CUT_OFF where an earlier one was killed.
take_marker() {
  local other told=""
  CUT_OFF=""
  until (set -o noclobber && echo $$ >"$MARKER") 2>/dev/null; do
    if ! other="$(cat "$MARKER" 2>/dev/null)"; then
      [ -w "$VENV" ] || fail "cannot write to $VENV; make it writable or clone the repository elsewhere"
      continue # the other one has just finished
    fi
    if [ -n "$other" ] && [ "$other" != $$ ] && kill -0 "$other" 2>/dev/null; then
      [ "$other" = "$told" ] ||
        say "process $other is installing into $VENV; waiting for it (if there is no such install, remove $MARKER)"
      told="$other"
      sleep 2
    elif mv "$MARKER" "$MARKER.$$" 2>/dev/null; then # of several that see it, one can move it
      rm -f "$MARKER.$$"
      CUT_OFF=yes
    fi
  done
}

ensure_environment() {
  local version
  [ -e "$MARKER" ] || ! stamp_matches || return 0
  choose_python
  mkdir -p "$VENV" || fail "cannot make $VENV; make the folder writable or clone the repository elsewhere"
  take_marker
  if [ -z "$CUT_OFF" ] && stamp_matches; then # by the one that was waited for
    rm "$MARKER"
    return 0
  fi

  version="$(venv_version)" || version=""
  if [ -n "$CUT_OFF" ]; then
    say "the last install was cut off: starting afresh"
    version=""
  elif [ -n "$version" ] && ! in_range "$version" ||
    { [ -n "${REPLICATE_PYTHON:-}" ] && [ -n "$version" ] && [ "$version" != "$BASE_VERSION" ]; }; then
    say ".venv has Python $version, wanted is $BASE_VERSION: making it anew"
    version=""
  elif [ -n "$version" ] && ! "$PYTHON" -I -m pip --version >/dev/null 2>&1; then
    say ".venv has no pip that runs: making it anew"
    version=""
  fi

  if [ -z "$version" ]; then
    say "making .venv with Python $BASE_VERSION and installing PyTorch, timm and what they need:" \
      "minutes and, on Linux, about 6 GB, this time only"
    find "$VENV/" -mindepth 1 -maxdepth 1 ! -name "${MARKER##*/}" -exec rm -rf {} +
    "$BASE" -m venv "$VENV" || fail "$BASE -m venv failed; name another Python in REPLICATE_PYTHON"
  else
    say "the requirements changed: bringing .venv up to date"
  fi
  install_packages
  wanted "$(venv_version)" >"$VENV/replicate-stamp.part"
  mv "$VENV/replicate-stamp.part" "$VENV/replicate-stamp"
  rm "$MARKER"
  say "installed"
}
