#!/bin/sh
# Install what packages.txt names (Pango and a font, for report.pdf) where Debian's tools are and we may.
# Without them everything else works: the report is then written as HTML only, and says so.
set -eu
cd "$(dirname "$0")"
command -v dpkg-query >/dev/null || exit 0
missing=""
for name in $(cat packages.txt); do
  dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q "install ok installed" || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "report.pdf needs these system packages; as root: apt-get install$missing" >&2
  exit 0
fi
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
  echo "not installed:$missing; report.pdf will not be written, report.html will" >&2
