#!/usr/bin/env bash
# limit: 300
# `quorumfs sim` runs, tells the same story twice for one seed, prints what the labs print, and refuses nonsense.
. "$TOP/tests/real/lib.sh"

refused() { # words of the message, arguments
    local words=$1 code=0
    shift
    q sim "$@" >out 2>err || code=$?
    [ $code = 2 ] && grep -q "$words" err || die "sim $*: exit $code, $(cat err)"
}

q sim --seed 3 --runs 2 --figures >out || die "two runs fail"
grep -q '^2 runs passed (seeds 3 to 4, commit ' out || die "it does not say what passed: $(cat out)"
[ "$(grep -c '^seed ' out)" = 2 ] || die "no line for each run"

q sim --seed 5 --faults kill,power --trace >story1
q sim --seed 5 --faults kill,power --trace >story2
diff <(grep -v ' runs passed' story1) <(grep -v ' runs passed' story2) >/dev/null || die "one seed, two stories"
for words in 'is the leader of term' 'votes for server' 'is committed, a majority has it on disk' 'asks: ' 'is answered after'; do
    grep -q "$words" story1 || die "the story does not tell: $words"
done

q sim --lab raft --test 'Test (2B): basic agreement' --runs 3 >out
printf 'Test (2B): basic agreement ...\n  ... Passed\n' | cmp -n 44 - out || die "not as the labs print it: $(cat out)"
grep -q '^1 tests passed, 3 runs' out || die "no closing count"
q sim --lab all >out
[ "$(grep -c '^  ... Passed' out)" = 38 ] && grep -q '^38 tests passed, 36 runs in .* s of CPU' out || die "not all titles: $(tail -1 out)"
[ "$(q sim --list | grep -c '^  Test')" -ge 47 ] || die "titles are missing"

q sim --seed 5 --faults +churn >out
grep '^faults that happened:' out | grep -q ' churn [1-9]' || die "no members came or went: $(cat out)"

refused 'no kind of fault' --faults kill,nonsense
refused 'no kind of fault' --faults +nonsense
refused 'no such test' --lab raft --test 'Test (9Z): nothing'
refused 'wants a number' --seed x
refused 'for random runs' --lab kv --faults kill
say "fine"
