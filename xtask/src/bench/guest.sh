# Runs in a guest whose clock counts instructions: what one packet of a known flow costs without and with the agent.
# HOOKS: the hooks to measure. PACKETS: how many are timed. Prints lines that xtask reads: `CONFIG MEDIAN MEAN`
# (`HOOK` and `sweep-HOOK` for the two ways of `source.updates`),
# for the proof `proof HOOK PACKETS RUNS UPDATES STARTS`, and `map HOOK NAME ENTRIES` for each map.

lab 600
cat >/tmp/bench.toml <<'TOML'
[source]
rate_curve = [{ age = "0s", every = "1h" }]
TOML
{ cat /tmp/bench.toml; echo 'updates = "sweep"'; } >/tmp/sweep.toml

port=20000
# Each run is a flow of its own: whether the kernel counts a flow is decided when it begins.
new_flow() { port=$((port + 1)); }

packets() {
    ip netns exec a conntally-pps --to 10.99.0.2:9 --from "10.99.0.1:$port" --packets "$PACKETS"
}

field() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }

measure() {
    for _ in 1 2 3; do
        new_flow
        line=$(packets)
        echo "$1 $(field median_ns <<<"$line") $(field mean_ns <<<"$line")"
    done
}

start() { # HOOK FILE
    conntally run -c "/tmp/$2.toml" --source bpf --hook "$1" --output json >/tmp/records 2>/tmp/log &
    agent=$!
    await_agent ready $agent
}

# How often the programs on the packet path have run.
runs() {
    bpftool prog show | awk '/ name (acct_add|refresh_acct)/ { for (i = 1; i < NF; i++) if ($i == "run_cnt") sum += $(i + 1) } END { print sum + 0 }'
}

# The agent that was timed, right after, still has the flow that was timed last: its hook must run once for each
# further packet. Of all timed flows it must have said nothing but their starts.
prove() { # HOOK
    sysctl -qw kernel.bpf_stats_enabled=1
    before=$(runs)
    sent=$(packets | field packets)
    after=$(runs)
    sysctl -qw kernel.bpf_stats_enabled=0
    sleep 1.5
    grep -E "\"port\":($((port - 2))|$((port - 1))|$port)[,}]" /tmp/records >/tmp/timed || true
    updates=$(grep -c '"info"' /tmp/timed) || true
    starts=$(grep -c '"start"\]' /tmp/timed) || true
    echo "proof $1 $((sent + 1000)) $((after - before)) $updates $starts"
}

# How big the agent made its maps, by bpftool's lines `ID: TYPE  name NAME …` and `key … max_entries N …`.
maps() { # HOOK
    bpftool map show | awk -v hook="$1" '
        / name / { for (i = 1; i < NF; i++) if ($i == "name") name = $(i + 1) }
        /max_entries/ && name ~ /^[A-Z]+$/ {
            for (i = 1; i < NF; i++) if ($i == "max_entries") print "map", hook, name, $(i + 1)
        }'
}

set_in_a nf_conntrack_acct 0
measure none
set_in_a nf_conntrack_acct 1
measure base
for hook in $HOOKS; do
    start "$hook" bench
    measure "$hook"
    prove "$hook"
    maps "$hook"
    stop_agent $agent "$hook"
    start "$hook" sweep
    measure "sweep-$hook"
    stop_agent $agent "sweep-$hook"
done
