#!/usr/bin/env bash
# limit: 300
# git and sqlite, as people use them.
. "$TOP/tests/real/lib.sh"
up
export GIT_CONFIG_GLOBAL=$WORK/gitconfig HOME=$WORK
git config --global user.name t; git config --global user.email t@example.org; git config --global init.defaultBranch main
git config --global safe.directory '*'
say git
mkdir "$M/repo"; cd "$M/repo"
git init -q; cp -r "$TOP/raft" "$TOP/kv" "$TOP/fs" .; git add -A; git commit -qm one
for i in 1 2 3 4 5; do echo $i >> raft/raft.h; git mv fs fs$i; git commit -qam "change $i"; git mv fs$i fs; git commit -qam back; done
git branch other HEAD~3; git checkout -q other; echo o > o; git add o; git commit -qm o; git checkout -q main; git merge -q other -m merge
git gc -q; git fsck --full --strict; [ -z "$(git status --porcelain)" ] || die "git status is not clean"
cd "$M"; git clone -q repo clone; git -C clone fsck; diff -r --exclude=.git repo clone
git clone -q "$M/repo" "$WORK/out"; diff -r --exclude=.git "$WORK/out" clone
say sqlite
db=$M/db.sqlite
sqlite3 "$db" 'create table t(id integer primary key, v text, n int)'
for i in $(seq 60); do echo "insert into t(v,n) values('row $i', $i); insert into t(v,n) values('and $i', -$i); update t set n = n + 1 where id % 7 = $i % 7; delete from t where id = $((i * 3 % 50)) and n < 0;"; done > "$WORK/sql"
sqlite3 "$db" < "$WORK/sql"
sqlite3 "$WORK/local.sqlite" 'create table t(id integer primary key, v text, n int)'; sqlite3 "$WORK/local.sqlite" < "$WORK/sql"
[ "$(sqlite3 "$db" 'pragma integrity_check')" = ok ] || die "integrity"
diff <(sqlite3 "$db" .dump) <(sqlite3 "$WORK/local.sqlite" .dump)
sqlite3 "$db" 'begin; delete from t; rollback;'; diff <(sqlite3 "$db" .dump) <(sqlite3 "$WORK/local.sqlite" .dump)
say "four writers at once"
for w in 1 2 3 4; do (for i in $(seq 15); do sqlite3 -cmd '.timeout 60000' "$db" "insert into t(v,n) values('w$w', $i)"; done) & done
wait
[ "$(sqlite3 "$db" "select count(*) from t where v like 'w_'")" = 60 ] || die "lost inserts"
[ "$(sqlite3 "$db" 'pragma integrity_check')" = ok ] || die "integrity"
say "a C build in the mount"
if command -v gcc >/dev/null && command -v make >/dev/null; then
    mkdir "$M/proj"; cd "$M/proj"
    printf '#include <stdio.h>\nint f(void);\nint main(void){printf("%%d\\n", f());return 0;}\n' > main.c; echo 'int f(void){return 42;}' > f.c
    printf 'p: main.o f.o\n\tcc -o $@ $^\n%%.o: %%.c\n\tcc -c -o $@ $<\n' > Makefile
    make -s; [ "$(./p)" = 42 ] || die "the built program"
    make -s | grep -q . && die "make rebuilt: mtimes are wrong"
    echo 'int f(void){return 43;}' > f.c; make -s; [ "$(./p)" = 43 ] || die "make missed a change"
fi
cd /; agree; down
