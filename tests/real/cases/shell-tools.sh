#!/usr/bin/env bash
# limit: 300
# What people do in a directory all day, in the mount and in a local directory: the same trees.
. "$TOP/tests/real/lib.sh"
up
mkdir "$WORK/local" "$WORK/src"
src=$WORK/src
mkdir -p "$src/a/b/c" "$src/empty"
cp -r "$TOP/raft" "$TOP/base" "$src/a/"
head -c 3000000 /dev/urandom > "$src/a/b/big"
head -c 100 /dev/urandom > "$src/a/b/tiny"
: > "$src/a/none"
ln -s b/big "$src/a/link"; ln -s /nowhere "$src/dangling"; ln "$src/a/b/big" "$src/hard"
truncate -s 5M "$src/sparse"; printf end >> "$src/sparse"
chmod 600 "$src/a/b/tiny"; chmod 4755 "$src/a/b/big"; chmod 1777 "$src/empty"
touch -d '2001-02-03 04:05:06.789012345' "$src/a/b/c" "$src/a/b/tiny"
tar cf "$WORK/src.tar" -C "$src" .
work() {        # the same steps wherever it is called
    cd "$1"
    cp -a "$src" copy
    mkdir untar && tar xpf "$WORK/src.tar" -C untar
    cp -r copy second && rm -rf second/a/b && mv second third && mv third/a third/renamed
    cp -a copy over && cp -af copy/. over/ && mv over/a/none over/a/b/tiny
    mkdir links && echo x > links/f && ln links/f links/g && ln -s f links/s && rm links/f && ln links/g links/h
    mkdir -p deep/1/2/3/4/5/6/7/8/9 && mv deep/1/2 deep/two && rmdir deep/1
    dd if=copy/a/b/big of=dd bs=4096 skip=3 seek=5 count=100 conv=notrunc 2>/dev/null
    dd if=/dev/zero of=dd bs=1 seek=1000000 count=1 conv=notrunc 2>/dev/null
    printf 'one\ntwo\n' > text && printf 'three\n' >> text && sed -i s/two/2/ text
    truncate -s 3 text && truncate -s 10 text
    for i in 1 2 3 4 5 6 7 8 9; do echo $i >> appended; done
    touch -d '1999-12-31 23:59:59' text appended dd && touch -a -d '1998-01-01' text
    chmod 751 links && chmod g-w,o+r text && chmod 0 appended
    mkfifo fifo && mkdir "odd name
with newline" && echo q > "odd name
with newline/ü € -x"
    echo new > exists && echo old > victim && mv exists victim
    mkdir d1 d2 && mv -T d1 d2
    cp --sparse=always copy/sparse sp2
    install -m 640 text installed
    rsync -a copy/ synced/ && rsync -a --delete copy/a/ synced/a/
    find . -name '*.c' -size +2k | sort > found; grep -rl 'Raft' copy | sort > grepped; du -al --apparent-size copy | sort -k2 > du
    touch -d '2000-01-01' found grepped du sp2 dd installed links/g "odd name
with newline/ü € -x" victim appended text links/h
    find third fifo ! -type l -exec touch -d '2000-01-01' {} + # made anew: their times differ
    find . -type d -exec touch -d '2000-01-01' {} +
    cd /
}
work "$WORK/local"; work "$M"
# du counts a directory's own size, which differs between filesystems: compare it for files only
for t in "$WORK/local" "$M"; do (cd "$t" && while read -r s n; do [ -d "$n" ] || echo "$s $n"; done < du > du2 && mv du2 du && touch -d '2000-01-01' du . ); done
listing "$WORK/local" > "$WORK/want"; listing "$M" > "$WORK/got"
diff -u "$WORK/want" "$WORK/got" || die "the trees differ"
diff -r --no-dereference "$WORK/local/copy" "$M/copy"
say "sparse files hold no space"
[ "$(stat -c %b "$M/sp2")" -lt 100 ] || die "sparse copy holds $(stat -c %b "$M/sp2") blocks"
say "a file that is open goes on after its last name is gone"
exec 5<>"$M/open"; echo one >&5; rm "$M/open"; echo two >&5
[ "$(cat /proc/self/fd/5 | wc -l)" = 2 ] || die "nameless file"
exec 5>&-
say "errors"
! mkdir "$M/text" 2>/dev/null; ! rmdir "$M/copy" 2>/dev/null; ! mv "$M/copy" "$M/copy/a/" 2>/dev/null; ! ln "$M/copy" "$M/hl" 2>/dev/null
! cat "$M/none" 2>/dev/null
n=$(printf 'x%.0s' $(seq 256)); ! touch "$M/$n" 2>/dev/null; touch "$M/${n%x}"
say "extended attributes, seek over holes, allocation"
python3 - "$M" <<'P'
import errno, os, sys
p = sys.argv[1] + "/xa"; open(p, "w").close()
os.setxattr(p, "user.a", b"1"); os.setxattr(p, "user.b", b"\0" * 5000)
assert sorted(os.listxattr(p)) == ["user.a", "user.b"] and os.getxattr(p, "user.b") == b"\0" * 5000
for flag, name, want in ((os.XATTR_CREATE, "user.a", errno.EEXIST), (os.XATTR_REPLACE, "user.c", errno.ENODATA)):
    try: os.setxattr(p, name, b"x", flag); assert 0
    except OSError as e: assert e.errno == want, e
os.removexattr(p, "user.a"); assert os.listxattr(p) == ["user.b"]
fd = os.open(sys.argv[1] + "/holes", os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"x" * 4096, 1 << 20); os.ftruncate(fd, 4 << 20)
assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20 and os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 4096
os.posix_fallocate(fd, 0, 8 << 20); assert os.fstat(fd).st_size == 8 << 20
assert os.pread(fd, 4096, 5 << 20) == b"\0" * 4096
import mmap
m = mmap.mmap(fd, 1 << 20); m[0:5] = b"mmap!"; m.flush(); m.close()
assert os.pread(fd, 5, 0) == b"mmap!"
P
agree
down
