# Two namespaces with a link between them: a tracks and counts what it sends to b. Sourced before what measures.
set -eu

lab() { # SECONDS that a flow lives
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
    # Nobody reads what arrives: it is dropped early, so that the receiver's part is always the same.
    ip netns exec b nft -f - <<'NFT'
table inet measure { chain in { type filter hook prerouting priority -300; meta l4proto udp drop; }; }
NFT
    set_in_a nf_conntrack_acct 1
    set_in_a nf_conntrack_timestamp 1
    set_in_a nf_conntrack_udp_timeout "$1"
    ip netns exec a ping -q -c 1 -W 1 10.99.0.2 >/dev/null || true
}

set_in_a() { ip netns exec a sysctl -qw "net.netfilter.$1=$2"; }

# Waits some time for a word in the agent's log.
await_agent() { # WORD PROCESS
    for _ in $(seq 300); do
        grep -q "$1" /tmp/log && return
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    echo "it is not ready:"
    cat /tmp/log
    exit 1
}

stop_agent() { # PROCESS NAME
    kill -TERM "$1"
    wait "$1" || { echo "the agent ended with code $?"; cat /tmp/log; exit 1; }
    cp /tmp/log "/out/agent-$2.log"
}
