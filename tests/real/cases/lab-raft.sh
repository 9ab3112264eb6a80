#!/usr/bin/env bash
# limit: 700
# long: yes
# alone: yes
# show: yes
# The Raft titles of the labs on real processes, disks and sockets, through a network that cuts, loses and delays.
exec "$(dirname "$QFS")/tests/labreal/lab_real" --lab raft --jobs 9 --dir "$WORK/lab"
