#!/bin/sh
# Install premblyd as a systemd service, or update the one that is there. Run as root:
#
#   install.sh                    install or update from the source tree this script is in
#   install.sh --from WHAT        ... from a wheel, another folder, or a pip requirement
#   install.sh --with postgresql  ... with PostgreSQL's driver, which updates then keep
#   install.sh --with encryption  ... with SQLCipher; a new installation's database is encrypted then
#   install.sh --uninstall        remove the program; configuration and data stay
#
# pip's own settings (pip.conf, PIP_* variables) are used as they are.
#
# Each version has its own folder, and a link says which one runs: /opt/premblyd/current -> versions/2
set -eu
umask 022

opt=/opt/premblyd
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
    for tool in systemctl systemd-sysusers systemd-tmpfiles flock; do
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

# What else is wanted, as the folder $1 pins it.
install_extras() {
    for extra in $with; do
        pip install --require-hashes --requirement "$1/requirements-$extra.txt" || return 1
    done
}

# They are also wanted where the configuration or the version that runs has them.
keep_extras() {
    keep_extra postgresql psycopg '^[^#]*postgres(ql)?://'
    keep_extra encryption sqlcipher3 '^encryption:'
}

keep_extra() { # $1, whose library is $2, and which a line like $3 needs
    case " $with " in *" $1 "*) return 0 ;; esac
    if grep -qsE "$3" "$config" || ls "$opt"/current/lib/python3*/site-packages/"$2" >/dev/null 2>&1; then
        with="${with:+$with }$1"
    fi
}

# Make the next version's folder, $new, of what pip can install.
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
    case " $with " in *" encryption "*) set -- --encryption ;; *) set -- ;; esac
    "$new/bin/premblyd" init "$@" "$etc" >"$new/init.log"
    grep '^Made the key' "$new/init.log" || true # whoever loses it loses the record
    protect_configuration
    make_key
}

# Put the units of the version in folder $1, and remove those that only the one in folder $2 has.
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

# Let the version in folder $1 run in the place of the one in folder $2. Connections wait meanwhile;
# only where the socket itself changes are they refused.
exchange() {
    ln -sfn "versions/${1##*/}" "$opt/current.new"
    mv -fT "$opt/current.new" "$opt/current" # at once, and never a link to nothing
    ln -sfn "$opt/current/bin/premblyd" "$link"
    put_units "$1" "$2"
    systemctl --quiet enable premblyd.socket premblyd.service
    [ -z "$socket_changed" ] || systemctl stop premblyd.socket premblyd.service
    systemctl reset-failed premblyd.service premblyd.socket 2>/dev/null || true
    systemctl restart premblyd.service || return 1
    # Ready, and not dead right after.
    sleep 2
    systemctl --quiet is-active premblyd.service
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
        exchanging)
            say "Version $number did not start: going back to ${old##*/}" >&2
            show_log
            if exchange "$old" "$new"; then
                say "The old version runs again; nothing was lost." >&2
            else
                say "The old version does not start either: journalctl -u premblyd" >&2
            fi
            rm -rf "$new"
            status=1
            ;;
    esac
    exit "$status"
}

install_or_update() {
    require_systemd
    [ ! -e /usr/lib/premblyd ] ||
        die "the Debian package is installed. Remove it first (configuration, keys and record stay): sudo apt remove premblyd"
    find_python
    if [ -e "$link" ] && [ ! -L "$link" ]; then
        die "$link is there and not from here: move it away"
    fi
    mkdir -p "$opt/versions"
    # Only root can open the file, so nobody else can hold it.
    (umask 077 && : >>"$opt/.installing")
    exec 8>"$opt/.installing"
    flock -n 8 || die "another install.sh is running: wait until it has ended"
    old=
    [ ! -e "$opt/current" ] || old=$opt/$(readlink "$opt/current")

    keep_extras
    build_version "$1"
    make_configuration
    if ! "$new/bin/premblyd" check --config "$config" >"$new/check.log" 2>&1; then
        cat "$new/check.log" >&2
        [ -z "$old" ] ||
            die "version $number can't run with $config; the old version goes on, nothing was changed" 78
    fi
    socket_changed=
    if [ -n "$old" ]; then update; else install_first; fi
}

install_first() {
    stage=
    if ! exchange "$new" "$new"; then
        show_log
        die "premblyd is installed, but does not start. Correct that, then: systemctl start premblyd"
    fi
    say "$(premblyd_version) runs as the service premblyd: systemctl status premblyd"
    next_steps docs
}

update() {
    systemctl stop premblyd-reconcile.service premblyd-backup.service 2>/dev/null || true # the next night goes on from there
    [ "$(socket_settings "$new/systemd/premblyd.socket")" = "$(socket_settings "$units/premblyd.socket")" ] ||
        socket_changed=yes
    stage=exchanging
    exchange "$new" "$old"
    stage=
    for version in "$opt/versions"/*; do
        case $version in "$new" | "$old") ;; *) rm -rf "$version" ;; esac
    done
    say "Updated to $(premblyd_version), which runs: systemctl status premblyd"
    if has_placeholder; then next_steps docs; fi
}

premblyd_version() { "$opt/current/bin/premblyd" --version | sed 's/, version / /'; }

uninstall() {
    systemctl --quiet disable --now premblyd.socket premblyd.service 2>/dev/null || true
    # A newer version than this script's may have more of them.
    for unit in $all_units $(units_of "$opt/current"); do remove_unit "$unit"; done
    rm -f "$sysusers"
    systemctl daemon-reload
    systemctl reset-failed premblyd.service premblyd.socket 2>/dev/null || true
    [ ! -L "$link" ] || rm -f "$link"
    rm -rf "$opt"
    yours=
    for folder in "$units"/premblyd*.d; do
        [ ! -d "$folder" ] || yours="$yours $folder"
    done
    cat <<END
premblyd is uninstalled. These stay:
  $etc  (configuration and keys)
  /var/lib/premblyd  (the database, with people's data)
  /var/backups/premblyd  (its copies)
  the user and group premblyd, whom they belong to${yours:+
 $yours  (your changes to the units)}
Remove them too:  sudo rm -r $etc /var/lib/premblyd /var/backups/premblyd$yours && sudo userdel premblyd
END
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
                postgresql | encryption) with="${with:+$with }$2" ;;
                *) die "--with needs the word postgresql or encryption" 2 ;;
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
    install) install_or_update "$from" ;;
    uninstall) uninstall ;;
esac
