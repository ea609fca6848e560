# What each script of tests in a guest begins with. It says `diagnose` for what else a failure should show.
set -u
failed=0

# The words after a name are a condition, which may take its time to come true: so many half seconds.
test_that() {
    local name=$1 patience=$2
    shift 2
    for _ in $(seq "$patience"); do
        if "$@"; then
            echo "test $name ... ok"
            return
        fi
        sleep 0.5
    done
    echo "test $name ... FAILED"
    echo "  not true: $*"
    diagnose
    failed=1
}
