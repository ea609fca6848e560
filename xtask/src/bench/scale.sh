# Runs in a guest whose clock counts instructions: what it costs the kernel to look at flows without a packet.
# FLOWS, BUCKETS: how many. HOOK: how the programs are attached. Prints what two agents log of their walks and sweeps,
# after the agent's name: `moving` counts flows that move all the time, `resting` the same when no packet comes.

lab 3600
sysctl -qw net.netfilter.nf_conntrack_max=1000000 "net.netfilter.nf_conntrack_buckets=$BUCKETS"

cat >/tmp/scale.toml <<'TOML'
[source]
updates = "sweep"
rate_curve = [{ age = "0s", every = "5s" }]
[log]
level = "debug"
TOML

packets() { ip netns exec a conntally-flows --to 10.99.0.2 --from 10.99.0.1 --flows "$FLOWS" --only-send; }

start() {
    conntally run -c /tmp/scale.toml --source bpf --hook "$HOOK" --output null 2>/tmp/log &
    agent=$!
    await_agent ready $agent
}

stop() { # NAME
    stop_agent $agent "$1"
    grep -E 'walked through|looked at flows|took a program' /tmp/log | sed "s/^/$1 /"
}

start
for _ in 1 2 3 4 5; do
    packets
    sleep 4
done
stop moving

start
sleep 21
stop resting
