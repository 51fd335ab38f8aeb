# shellcheck shell=sh disable=SC2034  # the variables are for those who source this
# What install.sh and the Debian package do alike. Both source it; nobody runs it.
etc=/etc/premblyd
config=$etc/premblyd.yaml
credentials=$etc/credentials
key=$credentials/prembly-live-key

say() { printf '%s\n' "$*"; }

# The copy in folder $1 has no .git: its version is $2, which says of which commit it is.
set_version() { sed -i "s/^__version__ = .*/__version__ = \"$2\"/" "$1/premblyd/__init__.py"; }

# The user, and folders that belong to whom they should: by the files of the folder $1.
make_user() {
    systemd-sysusers "$1/premblyd.sysusers"
    systemd-tmpfiles --create "$1/premblyd.tmpfiles"
}

# A new configuration may hold secrets by and by: the service's group reads it, nobody else.
protect_configuration() {
    chown root:premblyd "$config"
    chmod 0640 "$config"
}

# A key that nobody knows: the service starts and is safe, and accepts nothing of Prembly's until the
# real key is here.
make_key() {
    [ -e "$key" ] ||
        (umask 077 && printf 'placeholder-%s\n' "$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')" >"$key")
}

# Is the key that make_key wrote still there?
has_placeholder() { grep -qs '^placeholder-' "$key"; }

# Print the unit file $1 with what the systemd of version $2 knows: it warns of each other line.
for_systemd() {
    if [ "$2" -ge 254 ]; then
        sed 's/^#\(Restart[A-Z][A-Za-z]*=\)/\1/' "$1"
    else
        cat "$1"
    fi
}

socket_settings() { sed -n '/^\[Socket\]/,/^\[Install\]/{/^[^#]/p;}' "$1"; } # of the unit file $1

show_log() {
    say "The last lines of its log (journalctl -u premblyd):" >&2
    journalctl -u premblyd.service -u premblyd.socket -n 15 --no-pager -o cat >&2 || true
}

next_steps() { # the pages are in the folder $1
    cat <<END
1. Paste your key from Prembly's dashboard, Enter, Ctrl-D:  sudo install -m 0600 /dev/stdin $key
2. Say what shall happen:  sudoedit $config  and then  sudo premblyd check
3. Put both in force, refusing no connection:  sudo systemctl restart premblyd
4. Send yourself a webhook and see it:  sudo premblyd send  and then  sudo premblyd events
5. Let your TLS proxy pass /webhooks/prembly to 127.0.0.1:8080 ($1/install.md: nginx, Caddy) and give Prembly the URL.
6. Copy the record each night:  sudo systemctl enable --now premblyd-backup.timer
END
}
