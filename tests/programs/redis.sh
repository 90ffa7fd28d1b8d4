# redis.sh SERVER BENCHMARK CLI PRELOAD: the server, with PRELOAD preloaded, under load with snapshots
# by fork; then its content, which is the same everywhere, before and after a restart.
set -eu
server=$1 benchmark=$2 cli=$3 preload=$4
dir=$PWD
socket=$dir/socket
start() {
    LD_PRELOAD=$preload "$server" --port 0 --unixsocket "$socket" --dir "$dir" --save '' --appendonly no \
        --io-threads 2 --enable-debug-command yes --activedefrag no --daemonize no >>"$dir/log" 2>&1 &
    pid=$!
    trap 'kill $pid 2>/dev/null || true' EXIT
    for _ in $(seq 1 200); do
        [ "$("$cli" -s "$socket" ping 2>/dev/null || true)" != PONG ] || return 0
        kill -0 "$pid" || { cat "$dir/log"; exit 1; }
        sleep 0.05
    done
    cat "$dir/log"
    exit 1
}
stop() {
    "$cli" -s "$socket" shutdown nosave || true
    wait "$pid" || { echo "the server ended with status $?"; cat "$dir/log"; exit 1; }
}
saved() {
    while "$cli" -s "$socket" info persistence | grep -q rdb_bgsave_in_progress:1; do sleep 0.02; done
    "$cli" -s "$socket" info persistence | grep -o 'rdb_last_bgsave_status:[a-z]*'
}
start
if [ -n "$preload" ]; then
    grep -q librcumalloc "/proc/$pid/maps" || { echo "the library is not in the server"; exit 1; }
fi
"$benchmark" -s "$socket" -q -n 12000 -c 20 -P 8 -r 5000 -d 200 \
    -t set,get,incr,lpush,lpop,sadd,hset,zadd,lrange_100 >"$dir/benchmark" 2>&1 &
load=$!
for _ in 1 2 3; do
    "$cli" -s "$socket" bgsave >"$dir/reply" 2>&1 || true
    saved
done
wait "$load" || { echo "redis-benchmark failed"; cat "$dir/benchmark"; exit 1; }
"$cli" -s "$socket" flushall
# Content that does not depend on chance.
{
    for i in $(seq 1 3000); do
        echo "set key:$i $(printf "%0$((i % 500 + 1))d" "$i")"
        echo "rpush list:$((i % 50)) $i $((i * 7)) $((i * 11))"
        echo "hset hash:$((i % 40)) f$i v$((i * 3))"
        echo "zadd zset:$((i % 30)) $((i * 31 % 1009)) m$i"
        [ $((i % 3)) -ne 0 ] || echo "del key:$((i / 2))"
        [ $((i % 7)) -ne 0 ] || echo "append key:$i tail"
    done
} | "$cli" -s "$socket" | cksum
"$cli" -s "$socket" debug digest
"$cli" -s "$socket" dbsize
"$cli" -s "$socket" bgsave >/dev/null
saved
stop
start
"$cli" -s "$socket" debug digest
"$cli" -s "$socket" eval 'local t = {} for i = 1, 20000 do t[i] = tostring(i) end return #table.concat(t)' 0
stop
