# Runs in a guest whose clock counts instructions: what it costs the kernel to look at flows without a packet.
# FLOWS, BUCKETS: how many. HOOK: how the programs are attached. Prints what two agents log of their walks and sweeps,
# after the agent's name: `moving` counts flows that move all the time, `resting` the same when no packet comes.
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
for setting in acct=1 timestamp=1 udp_timeout=3600; do
    ip netns exec a sysctl -qw "net.netfilter.nf_conntrack_$setting"
done
sysctl -qw net.netfilter.nf_conntrack_max=1000000 "net.netfilter.nf_conntrack_buckets=$BUCKETS"
ip netns exec a ping -q -c 1 -W 1 10.99.0.2 >/dev/null || true

cat >/tmp/scale.toml <<'TOML'
[source]
updates = "sweep"
rate_curve = [{ age = "0s", every = "5s" }]
[log]
level = "debug"
TOML

packets() { ip netns exec a conntally-flows --to 10.99.0.2 --from 10.99.0.1 --flows "$FLOWS" --only-send; }

start_agent() {
    conntally run -c /tmp/scale.toml --source bpf --hook "$HOOK" --output null 2>/tmp/log &
    agent=$!
    for _ in $(seq 300); do
        grep -q 'ready' /tmp/log && return
        kill -0 $agent 2>/dev/null || break
        sleep 0.1
    done
    echo "the agent is not ready:"
    cat /tmp/log
    exit 1
}

stop_agent() { # NAME
    kill -TERM $agent
    wait $agent || { echo "the agent ended with code $?"; cat /tmp/log; exit 1; }
    cp /tmp/log "/out/agent-$1.log"
    grep -E 'walked through|looked at flows|took a program' /tmp/log | sed "s/^/$1 /"
}

start_agent
for _ in 1 2 3 4 5; do
    packets
    sleep 4
done
stop_agent moving

start_agent
sleep 21
stop_agent resting
