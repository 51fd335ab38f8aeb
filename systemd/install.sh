#!/bin/sh
# Install premblyd as a systemd service, or upgrade the one that is there. Run as root:
#
#   install.sh                    install or upgrade from the source tree this script is in
#   install.sh --from WHAT        ... from a wheel, another folder, or a pip requirement
#   install.sh --with postgresql  ... with PostgreSQL's driver, which upgrades then keep
#   install.sh --with seal        ... with what seals exports, and the record: a new installation's
#                                 is sealed from the start. Upgrades keep it too
#   install.sh --uninstall        remove the program; configuration and data stay
#
# pip's own settings (pip.conf, PIP_* variables) are used as they are.
#
# Every version has a folder of its own, so that going back is one link:
#   /opt/premblyd/current -> versions/2
set -eu
umask 022

opt=/opt/premblyd
exchanging=$opt/.exchanging
installing=$opt/.installing
units=/etc/systemd/system
all_units="premblyd.service premblyd.socket premblyd-reconcile.service premblyd-reconcile.timer premblyd-backup.service premblyd-backup.timer"
sysusers=/etc/sysusers.d/premblyd.conf
link=/usr/local/bin/premblyd
here=$(cd "$(dirname "$0")" && pwd)

die() {
    printf 'install.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

install_hint() { # the command that installs Debian's package $1, or $2 elsewhere
    if command -v apt-get >/dev/null; then
        say "apt-get install $1"
    elif command -v dnf >/dev/null; then
        say "dnf install $2"
    else
        say "your package manager: install $1"
    fi
}

# --- What must be there first -------------------------------------------------------------

require_systemd() {
    for tool in systemctl systemd-sysusers flock runuser; do
        command -v "$tool" >/dev/null ||
            die "$tool is missing. Run: $(install_hint 'systemd util-linux' 'systemd util-linux')"
    done
    systemd_version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${systemd_version:-0}" -ge 252 ] ||
        die "systemd ${systemd_version:-?} is too old: 252 is needed (Debian 12, Ubuntu 24.04 or newer). Run: apt-get full-upgrade, or do-release-upgrade"
    [ -d /run/systemd/system ] || die "this machine was not booted with systemd: docs/install.md says how to run premblyd without it"
}

# Set $python to a Python that the service can use too.
find_python() {
    reason="Python 3.11 or newer is missing"
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        for candidate in "/usr/bin/$name" "/usr/local/bin/$name" "$(command -v "$name" || true)"; do
            [ -x "$candidate" ] || continue
            # The sandbox hides the home folders (ProtectHome=), so a Python there won't do.
            answer=$("$candidate" -c '
import sys
minor = "%d.%d" % sys.version_info[:2]
if sys.version_info < (3, 11):
    print("old", minor)
elif sys.base_prefix.startswith(("/root/", "/home/")):
    print("home", minor)
else:
    try:
        import ensurepip, venv
        print("good", minor)
    except ImportError:
        print("bare", minor)
' 2>/dev/null) || continue
            case $answer in
                good*)
                    python=$candidate
                    return
                    ;;
                bare*) reason="$candidate can't make virtual environments" ;;
            esac
        done
    done
    die "$reason. Run: $(install_hint 'python3 python3-venv' 'python3.11')"
}

# --- Steps --------------------------------------------------------------------------------

# The tree in folder $1 without what lies around in it (a build/ of an earlier version, an
# .egg-info), as $new/source: so nothing is written into the user's checkout either.
copy_source() {
    mkdir "$new/source"
    for name in pyproject.toml setup.cfg README.md LICENSE premblyd systemd; do
        [ -e "$1/$name" ] || die "$1 is not premblyd's source tree: it has no $name; nothing was changed"
        cp -R "$1/$name" "$new/source/" || return 1
    done
    find "$new/source" -name __pycache__ -prune -exec rm -r {} +
    [ ! -e "$1/systemd/version.py" ] || set_version "$new/source" "$("$python" "$1/systemd/version.py")"
}

pip() { "$new/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

# From a source tree: exactly what was tested with it, by its hash (systemd/requirements.txt).
install_tree() {
    copy_source "$1" || return 1
    pip install --require-hashes --requirement "$new/source/systemd/requirements.txt" || return 1
    install_extras "$new/source/systemd" || return 1
    pip install --no-deps --no-build-isolation "$new/source" || return 1
    rm -r "$new/source"
}

# What --with asks for, as the files of folder $1 pin it.
install_extras() {
    for extra in $with; do
        [ -e "$1/requirements-$extra.txt" ] || die "this version knows no --with $extra; nothing was changed"
        pip install --require-hashes --requirement "$1/requirements-$extra.txt" || return 1
    done
}

want_extra() {
    case " $with " in *" $1 "*) ;; *) with="${with:+$with }$1" ;; esac
}

# Where the configuration needs PostgreSQL's driver, or the version before has it, nobody need ask;
# and so with what seals.
keep_extras() {
    ! grep -qsE '^[^#]*postgres(ql)?://' "$config" || want_extra postgresql
    ! grep -qs '^encryption:' "$config" || want_extra seal
    [ -n "$old" ] || return 0
    for folder in "$old"/lib/python3*/site-packages; do # its Python may be gone by now
        [ ! -e "$folder/psycopg" ] || want_extra postgresql
        [ ! -e "$folder/pyrage" ] || want_extra seal
    done
}

# Given what pip shall install, make the next version's folder $new.
build_version() {
    number=$(find "$opt/versions" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' | sort -n | tail -n 1)
    number=$((${number:-0} + 1))
    new=$opt/versions/$number
    stage=building
    say "Building $new with $python from $1${with:+, with $with}"
    "$python" -m venv "$new"
    if [ -d "$1" ]; then
        install_tree "$1" || die "pip could not install $1; nothing was changed"
    else
        { pip install "$1" && install_extras "$here"; } ||
            die "pip could not install $1; nothing was changed"
    fi
    [ -x "$new/bin/premblyd" ] || die "$1 has no command premblyd; nothing was changed"
    # The units go with their version, also when it is put back.
    mkdir "$new/systemd"
    for unit in $all_units; do
        for_systemd "$here/$unit" "$systemd_version" >"$new/systemd/$unit"
    done
    cp "$here/premblyd.sysusers" "$here/premblyd.tmpfiles" "$new/systemd/"
}

make_configuration() {
    make_user "$new/systemd"
    mkdir -p "$(dirname "$sysusers")"
    cp "$new/systemd/premblyd.sysusers" "$sysusers"
    [ ! -e "$config" ] || return 0
    "$new/bin/premblyd" init "$etc" >/dev/null
    seal_new
    protect_configuration
    make_key
}

# Have a new record sealed from the start, where what seals is installed.
seal_new() {
    case " $with " in *" seal "*) ;; *) return 0 ;; esac
    [ -e "$data_key" ] || "$new/bin/premblyd" keygen "$data_key" >/dev/null
    sed -i 's/^# encryption: .*/encryption: {key: {file: premblyd-data-key}}/' "$config"
}

# Put the units of the version in folder $1. Those that only the version in folder $2 has go.
put_units() {
    for unit in $(units_of "$1"); do
        cp "$1/systemd/$unit" "$units/$unit.new"
        mv -f "$units/$unit.new" "$units/$unit"
    done
    for unit in $(units_of "$2"); do
        [ -e "$1/systemd/$unit" ] || remove_unit "$unit"
    done
    systemctl daemon-reload
}

units_of() { # the version in folder $1
    find "$1/systemd" -name 'premblyd*.*' ! -name '*.sysusers' ! -name '*.tmpfiles' -printf '%f\n' 2>/dev/null | sort
}

remove_unit() {
    systemctl --quiet disable --now "$1" 2>/dev/null || true
    rm -f "$units/$1"
}

# Point `current` at the version in folder $1, at once and never at nothing.
point_at() {
    ln -sfn "versions/${1##*/}" "$opt/current.new"
    mv -fT "$opt/current.new" "$opt/current"
}

# A connection that comes while the service is stopped makes systemd start it again: that
# start waits for this lock (ExecStartPre= in the unit), so the connection waits and isn't lost.
# Only root can open the file, so nobody else can hold it.
lock() {
    exec 9>"$exchanging"
    flock 9
    # The first version's unit waits for the folder, which everyone can lock.
    if grep -qsx 'ExecStartPre=/usr/bin/flock --shared /opt/premblyd true' \
        "$units/premblyd.service" "$old/systemd/premblyd.service"; then
        exec 7<"$opt"
        flock --wait 60 7 || die "somebody else locks $opt. See who: lslocks"
    fi
}
unlock() { exec 7<&- 9>&-; }

# Stop the service for an exchange. Quietly: systemctl warns that the socket may start it again, and
# it shall. Only another address needs another socket: then connections are refused meanwhile, and
# none may start the service, which would keep the socket from being opened.
stop_service() {
    systemctl stop premblyd-reconcile.service 2>/dev/null || true # goes on from there next time
    systemctl stop premblyd-backup.service 2>/dev/null || true    # leaves the copies of before
    if [ -n "$socket_changed" ]; then
        systemctl stop premblyd.socket premblyd.service
    else
        systemctl stop premblyd.service 2>/dev/null
    fi
}

start() { # the service, which wants its socket
    systemctl start premblyd.service || return 1
    # Ready, and not dead right after.
    sleep 2
    systemctl --quiet is-active premblyd.service
}

# Set $copier to the version that can copy the database: an older one can't, on the way back to it.
find_copier() {
    for copier in "$new/bin/premblyd" "$old/bin/premblyd"; do
        ! "$copier" upgrading --help >/dev/null 2>&1 || return 0
    done
    die "neither version can copy the database; nothing was changed"
}

# An older version can't work on what a newer one has changed. Known before anything is touched, and
# above all before the copy of the last upgrade is overwritten. (The first version has no such command.)
require_readable_database() {
    "$new/bin/premblyd" upgrading fits --help >/dev/null 2>&1 || return 0
    runuser -u premblyd -- "$new/bin/premblyd" upgrading fits "$database" ||
        die "version $number was not installed; the old version goes on, nothing was changed"
}

# `database save` makes the copy, `database restore` puts it back. Runs as premblyd: root must
# not write in a folder where hooks could have left a link to somewhere else.
database() {
    runuser -u premblyd -- "$copier" upgrading "$1" "$database"
}

# --- What can be asked for ----------------------------------------------------------------

# Undo what was begun, however it ended; once begun, another Ctrl-C does not stop this.
on_exit() {
    status=$?
    trap - EXIT
    trap '' HUP INT TERM
    set +e
    case $stage in
        building) rm -rf "$new" ;;
        stopped) # only that: the program, the units and the database are as they were
            say "Version $number was not installed" >&2
            go_on_with_the_old
            ;;
        exchanging)
            say "Version $number did not become ready: going back to ${old##*/}" >&2
            show_log
            unlock
            lock
            stop_service
            point_at "$old"
            put_units "$old" "$new"
            # The copy that this run has made; never one of an upgrade before.
            database restore >&2 || restored=
            go_on_with_the_old
            ;;
    esac
    exit "$status"
}

# Does the service start by itself after all, once what was in its way (a lock) is gone?
comes_back() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        sleep 1
        ! systemctl --quiet is-active premblyd.service || return 0
        ! systemctl --quiet is-failed premblyd.service || return 1
    done
    return 1
}

# Start the version that ran before, and forget the new one.
go_on_with_the_old() {
    unlock
    systemctl reset-failed premblyd.service premblyd.socket 2>/dev/null
    if [ -z "$restored" ]; then
        say "The copy is $database.before-upgrade: put it back with: premblyd restore (docs/install.md)." >&2
    fi
    if ! start && ! comes_back; then
        say "The old version does not start either: journalctl -u premblyd" >&2
    elif [ -z "$restored" ]; then
        say "The old version runs again, on the database as the new one left it." >&2
    else
        say "The old version runs again; nothing was lost." >&2
    fi
    rm -rf "$new"
    status=1
}

install_or_upgrade() {
    require_systemd
    [ ! -e /usr/lib/premblyd ] ||
        die "the Debian package is installed. Remove it first (configuration, keys and record stay): sudo apt remove premblyd"
    find_python
    if [ -e "$link" ] && [ ! -L "$link" ]; then
        die "$link is there and not from here: move it away"
    fi
    mkdir -p "$opt/versions"
    (umask 077 && : >>"$installing" && : >>"$exchanging")
    exec 8>"$installing"
    flock -n 8 || die "another install.sh is running: wait until it has ended"
    old=
    [ ! -e "$opt/current" ] || old=$opt/$(readlink "$opt/current")

    keep_extras
    build_version "$1"
    make_configuration
    if ! "$new/bin/premblyd" check --config "$config" >"$new/check.log" 2>&1; then
        cat "$new/check.log" >&2
        [ -z "$old" ] || die "version $number can't use $config; the old version goes on, nothing was changed" 78
    fi
    if [ -n "$old" ]; then upgrade; else install_first; fi
}

install_first() {
    stage=
    point_at "$new"
    put_units "$new" "$new"
    ln -sfn "$opt/current/bin/premblyd" "$link"
    systemctl --quiet enable premblyd.socket premblyd.service
    if ! start; then
        show_log
        die "premblyd is installed, but does not start. Mend that, then: systemctl start premblyd"
    fi
    say "$(premblyd_version) runs as the service premblyd: systemctl status premblyd"
    next_steps docs
}

upgrade() {
    find_copier
    database=$("$copier" upgrading path --config "$config")
    require_readable_database
    socket_changed=
    [ "$(socket_settings "$new/systemd/premblyd.socket")" = "$(socket_settings "$units/premblyd.socket")" ] ||
        socket_changed=yes
    restored=yes
    stage=stopped
    lock
    stop_service
    database save
    stage=exchanging
    point_at "$new"
    put_units "$new" "$old"
    unlock
    ln -sfn "$opt/current/bin/premblyd" "$link"
    systemctl --quiet enable premblyd.socket premblyd.service
    systemctl reset-failed premblyd.service premblyd.socket 2>/dev/null || true
    start
    stage=
    for version in "$opt/versions"/*; do
        case $version in "$new" | "$old") ;; *) rm -rf "$version" ;; esac
    done
    say "Upgraded to $(premblyd_version), which runs: systemctl status premblyd"
    if has_placeholder; then next_steps docs; fi
}

premblyd_version() { "$opt/current/bin/premblyd" --version | sed 's/, version / /'; }

uninstall() {
    stage=
    if [ -e "$units/premblyd.service" ] || [ -e "$units/premblyd.socket" ]; then
        systemctl --quiet disable --now premblyd.socket premblyd.service || true
    fi
    # A newer version than this script's may have more of them.
    for unit in $all_units $(units_of "$opt/current"); do remove_unit "$unit"; done
    rm -f "$sysusers"
    systemctl daemon-reload
    systemctl reset-failed premblyd.service premblyd.socket 2>/dev/null || true
    [ ! -L "$link" ] || rm -f "$link"
    rm -rf "$opt"
    say "premblyd is uninstalled. These stay:"
    say "  $etc  (configuration and keys)"
    say "  /var/lib/premblyd  (the database, with people's data)"
    copies=/var/lib/premblyd-backups
    [ ! -d "$copies" ] || say "  $copies  (copies of the record)"
    say "  the user and group premblyd, whom they belong to"
    yours=
    for folder in "$units"/premblyd*.d; do
        [ -d "$folder" ] || continue
        say "  $folder  (your changes to the units)"
        yours="$yours $folder"
    done
    [ ! -d "$copies" ] || yours=" $copies$yours"
    say "Remove them too:  sudo rm -r $etc /var/lib/premblyd$yours && sudo userdel premblyd"
}

stage=
with=
from=${here%/*}
action=install
while [ $# -gt 0 ]; do
    case $1 in
        --from)
            [ $# -ge 2 ] || die "--from needs a folder, a wheel or a requirement" 2
            from=$2
            shift
            ;;
        --with)
            case ${2:-} in
                postgresql | seal) want_extra "$2" ;;
                *) die "--with needs the word postgresql or seal" 2 ;;
            esac
            shift
            ;;
        --uninstall) action=uninstall ;;
        -h | --help)
            sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) die "unknown argument $1; see --help" 2 ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || die "run this as root: sudo $0"
# shellcheck source-path=SCRIPTDIR
. "$here/steps.sh"
if [ "$action" = install ] && [ "$from" = "${here%/*}" ] && [ ! -e "$from/pyproject.toml" ]; then
    die "$from is not premblyd's source tree: say what to install with --from" 2
fi
# A folder or wheel, not a requirement of that name.
[ ! -e "$from" ] || from=$(readlink -f "$from")
# Python takes modules (pip, venv, another premblyd) from the folder where it is started.
cd /

trap on_exit EXIT
trap 'exit 1' HUP INT TERM
case $action in
    install) install_or_upgrade "$from" ;;
    uninstall) uninstall ;;
esac
