# What the scripts share. Sourced, never run: `. "$(dirname "$0")/lib.sh"`.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$repo/.cache
# Where running guests keep their console, agent and pid.
guests=${SWIVEL_GUESTS:-/tmp/swivel-guests}
export repo cache guests

# With a terminal, steps stand out; in a log they are plain.
if [ -t 1 ]; then bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'; else bold='' red='' plain=''; fi

step() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '    %s\n' "$*"; }
warn() { printf '%s%s: %s%s\n' "$red" "${0##*/}" "$*" "$plain" >&2; }
die() {
  warn "$*"
  exit 1
}

# as_root COMMAND...: runs it as root, through sudo when need be.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root, and there is no sudo: run as root: $*"
  fi
}

# wait_until SECONDS COMMAND...: polls the command; false when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# end PID...: asks politely, then not; returns when the processes are gone.
end() {
  local pid
  for pid in "$@"; do
    alive "$pid" || continue
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
      alive "$pid" || continue 2
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
  done
}
