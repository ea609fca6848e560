# Measures what one-packet flows cost with each of several programs that account them. Set before: FLOWS, FEWER.
# Prints `NAME JSON` for each, the JSON being that of conntally-flows.

lab 600
sysctl -qw net.netfilter.nf_conntrack_max=1000000 net.core.rmem_max=67108864

mkfifo /tmp/lines

flows() { # NAME FLOWS LINES
    echo "$1 $(ip netns exec a conntally-flows --to 10.99.0.2 --from 10.99.0.1 --flows "$2" --lines "$3")"
}

# Runs a command whose output is read, until it says a word on its standard error or some seconds have passed.
begin() { # WORD COMMAND…
    word=$1
    shift
    "$@" >/tmp/lines 2>/tmp/log &
    pid=$!
    exec 3</tmp/lines
    if [ "$word" ]; then await_agent "$word" $pid; else sleep 10; fi
}

finish() {
    kill -TERM $pid
    cat <&3 >/dev/null
    exec 3<&-
    wait $pid || true
    cp /tmp/log "/out/$1.log"
}

flows base "$FLOWS" 0
flows base "$FLOWS" 0
flows fewer "$FEWER" 0

begin ready conntally run --source bpf --output json
flows conntally "$FLOWS" 2 <&3
finish conntally

# With room for all events; it loses most of them nevertheless.
begin '' ip netns exec a conntrack -E -e NEW,DESTROY -b 67108864
flows conntrack "$FEWER" 2 <&3
finish conntrack

cat >/tmp/ulogd.conf <<TOML
[global]
logfile="/tmp/ulogd.log"
loglevel=5
plugin="$PWD/ulogd_inpflow_NFCT.so"
plugin="$PWD/ulogd_filter_IP2STR.so"
plugin="$PWD/ulogd_filter_PRINTFLOW.so"
plugin="$PWD/ulogd_output_LOGEMU.so"
stack=ct1:NFCT,ip2str1:IP2STR,print1:PRINTFLOW,emu1:LOGEMU
[ct1]
hash_enable=0
event_mask=0x00000005
netlink_socket_buffer_size=67108864
netlink_socket_buffer_maxsize=67108864
[emu1]
file="/proc/self/fd/1"
sync=1
TOML
begin '' ip netns exec a ulogd -c /tmp/ulogd.conf
flows ulogd "$FEWER" 2 <&3
finish ulogd
cp /tmp/ulogd.log /out/ 2>/dev/null || true
