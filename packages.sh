#!/bin/sh
# Install what a list names (packages.txt: Pango and a font, for report.pdf; packages-test.txt: the browser
# that tests drive) where Debian's tools are and we may. Without them everything else works: the report is
# then written as HTML only, the browser tests are skipped, and both say so.
# Usage: sh packages.sh [LIST]
set -eu
cd "$(dirname "$0")"
command -v dpkg-query >/dev/null || exit 0
missing=""
list="${1:-packages.txt}"
for name in $(cat "$list"); do
  dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q "install ok installed" || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "$list names system packages that are not here; as root: apt-get install$missing" >&2
  exit 0
fi
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
  echo "not installed:$missing ($list); what needs them is left out, and says so" >&2
