#!/usr/bin/env bash
# limit: 700
# long: yes
# alone: yes
# show: yes
# Titles of the labs' later editions on real processes: bytes of RPCs, speed, linearizability under faults.
exec "$(dirname "$QFS")/tests/labreal/lab_real" --lab later --dir "$WORK/lab"
