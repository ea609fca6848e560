# Measures what one-packet flows cost with each of several programs that account them. Set before: FLOWS, FEWER.
# Prints `NAME JSON` for each, the JSON being that of conntally-flows.
set -eu

ip netns add a
ip netns add b
ip link add va netns a type veth peer name vb netns b
ip -n a addr add 10.99.0.1/24 dev va
ip -n b addr add 10.99.0.2/24 dev vb
ip -n a link set va up
ip -n b link set vb up
ip netns exec a nft -f - <<'NFT'
table inet measure { chain out { type filter hook output priority 0; ct state established,new counter accept; }; }
NFT
ip netns exec b nft -f - <<'NFT'
table inet measure { chain in { type filter hook prerouting priority -300; meta l4proto udp drop; }; }
NFT
for setting in acct=1 timestamp=1 udp_timeout=600; do
    ip netns exec a sysctl -qw "net.netfilter.nf_conntrack_$setting"
done
sysctl -qw net.netfilter.nf_conntrack_max=1000000 net.core.rmem_max=67108864
ip netns exec a ping -q -c 1 -W 1 10.99.0.2 >/dev/null || true

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
    for _ in $(seq 100); do
        [ "$word" ] && grep -q "$word" /tmp/log && return
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    [ "$word" ] || return 0
    echo "it is not ready:"
    cat /tmp/log
    exit 1
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

cat >/tmp/ulogd.conf <<'TOML'
[global]
logfile="/tmp/ulogd.log"
loglevel=5
plugin="/root/ulogd_inpflow_NFCT.so"
plugin="/root/ulogd_filter_IP2STR.so"
plugin="/root/ulogd_filter_PRINTFLOW.so"
plugin="/root/ulogd_output_LOGEMU.so"
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
