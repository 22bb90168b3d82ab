#!/bin/sh
# deps.sh COMMAND...
#
# Installs the Debian packages that hold the commands which are missing here,
# and says nothing when none is. Needs to be root, or sudo, only to install.
set -eu

package_of() {
    case $1 in
    mosquitto) echo mosquitto ;;
    mosquitto_pub | mosquitto_sub) echo mosquitto-clients ;;
    qemu-*-static) echo qemu-user-static ;;
    gcc) echo gcc libc6-dev ;;
    postgres) echo postgresql ;;
    *) echo "$1" ;;
    esac
}

# Debian keeps daemons in a folder that only root has in its PATH, and PostgreSQL's
# programs in one for each version that nobody has there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
for folder in /usr/lib/postgresql/*/bin; do
    PATH=$PATH:$folder
done

missing=
for command; do
    command -v "$command" >/dev/null || missing="$missing $(package_of "$command")"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "deps: not a Debian system; please install:$missing" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps: not root and no sudo; as root, run: apt-get install$missing" >&2
        exit 1
    fi
    exec sudo -- "$0" "$@"
fi

# The tests start brokers and databases of their own: a package must not start one
# beside them, now or at the next boot.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "deps: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # a list of packages
if ! { apt-get -q update && apt-get -q -y --no-install-recommends install $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "deps: could not install$missing; the log is above and in $log" >&2
    exit 1
fi
rm -f "$log"
if [ -d /run/systemd/system ]; then
    case $missing in
    *" mosquitto"*) systemctl --quiet disable mosquitto ;;
    esac
    case $missing in
    *" postgresql"*) systemctl --quiet disable postgresql ;;
    esac
fi
