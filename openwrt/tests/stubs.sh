# What OpenWrt's rc.common, functions.sh, procd.sh and logger are to the init script, for a test under BusyBox ash.
# Options are files, UCI/CONFIG/SECTION/OPTION, so that any byte may be in a value; "type" holds a section's type.
# Each call of procd is one line of words in NETMON_TEST_CALLS, every word as hexadecimal.

uci_dir=$NETMON_TEST_UCI

config_load() {
	config=$1
	[ -d "$uci_dir/$config" ]
}

# Command substitution would eat line feeds at the end.
read_option() {
	option_value=$(cat "$uci_dir/$config/$1/$2" && echo x) || return 1
	option_value=${option_value%x}
	option_value=${option_value%"
"}
}

config_get() {
	local option_value
	if [ -e "$uci_dir/$config/$2/$3" ] && read_option "$2" "$3"; then
		eval "$1=\$option_value"
	else
		eval "$1=\${4:-}"
	fi
}

config_get_bool() {
	local word
	config_get word "$2" "$3" "$4"
	case "$word" in
	1 | on | true | yes | enabled) eval "$1=1" ;;
	0 | off | false | no | disabled) eval "$1=0" ;;
	*) eval "$1=\$4" ;;
	esac
}

config_foreach() {
	local section
	for section in "$uci_dir/$config"/*; do
		[ -e "$section" ] || continue
		[ "$(cat "$section/type" 2>/dev/null)" != "$2" ] || "$1" "${section##*/}"
	done
}

config_list_foreach() {
	local entry
	for entry in "$uci_dir/$config/$1/$2".*; do
		[ ! -e "$entry" ] || "$3" "$(cat "$entry")"
	done
}

call() {
	local word
	for word; do
		printf '%s' "$word" | od -An -v -tx1 | tr -d ' \n' >>"$NETMON_TEST_CALLS"
		printf ' ' >>"$NETMON_TEST_CALLS"
	done
	echo >>"$NETMON_TEST_CALLS"
}

procd_open_instance() { call open "$@"; }
procd_close_instance() { call close "$@"; }
procd_set_param() { call set "$@"; }
procd_add_jail() { call jail "$@"; }
procd_add_jail_mount() { call mount "$@"; }
procd_add_jail_mount_rw() { call mount_rw "$@"; }
procd_add_reload_trigger() { call trigger "$@"; }
logger() { call log "$@"; }

# As rc.common has them. What is not opened before the service is set is taken away.
start() {
	start_service "$@"
	call set_service
}
reload() {
	if type reload_service >/dev/null 2>&1; then reload_service "$@"; else start; fi
}

. "$1"
shift
"$@"
