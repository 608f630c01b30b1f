# SPDX-License-Identifier: Apache-2.0
# PostgreSQL (made, loaded, killed, recovered), Redis with an append-only file (the same), RocksDB's tool.
set -e
export HOME=$PWD; away=$(mktemp -d /tmp/libservices-programs.XXXXXX); chmod 777 "$away"; trap 'rm -rf "$away"' EXIT
# Sockets are elsewhere. Nobody but its user starts PostgreSQL.
as() { setpriv --reuid postgres --regid postgres --init-groups env PGHOST="$away" PGUSER=postgres PGDATABASE=postgres "$@"; }
bin=$(echo /usr/lib/postgresql/*/bin); mkdir data; chown postgres: data; chmod 700 data
as "$bin/initdb" -D data -A trust -N --locale=C >"$away/initdb" 2>&1 || cat "$away/initdb"
cat >>data/postgresql.conf <<END
listen_addresses = ''
unix_socket_directories = '$away'
shared_buffers = 4MB
wal_level = minimal
max_wal_senders = 0
min_wal_size = 32MB
max_wal_size = 48MB
checkpoint_timeout = 30s
END
start() { as "$bin/pg_ctl" -D data -w -t 60 -l "$away/log" start >/dev/null || cat "$away/log"; }
start; as "$bin/pgbench" -q -i -s 2 2>/dev/null; as "$bin/pgbench" -n -c 4 -j 2 -t 100 2>&1 | grep -E 'number of transactions actually|failed'
as psql -Atc 'create table kept (n int primary key); insert into kept select generate_series(1, 5000); checkpoint' -c 'select count(*), sum(n) from kept' -c 'create index on kept (n desc)' -c 'vacuum full kept' -c 'select count(*) = 400 from pgbench_history' -c 'select sum(tbalance) = (select sum(bbalance) from pgbench_branches) from pgbench_tellers'
printf '1,a\n2,b\n' >"$away/rows"
as psql -Atc 'create table rows (n int, t text)' -c "copy rows from '$away/rows' csv" -c "copy (select * from kept) to '$PWD/data/copied'" -c 'select count(*) from rows' -c 'begin; insert into kept values (6000); rollback' -c 'create tablespace t location '"'$PWD/data/nothing'" 2>&1 | sed "s|$PWD||"
wc -l data/copied
as psql -qAtc 'insert into kept select generate_series(5001, 5100)'; kill -9 "$(head -1 data/postmaster.pid)"
for i in {1..100}; do as "$bin/pg_ctl" -D data status >/dev/null || break; sleep 0.1; done; sleep 1; start
as psql -Atc 'select count(*), sum(n) from kept'; as pg_dump -t kept | grep -c '^[0-9]'
as "$bin/pg_ctl" -D data -w stop -m fast >/dev/null; as "$bin/pg_controldata" data | grep state
as "$bin/pg_checksums" -D data --enable 2>&1 | grep Checksum
as "$bin/pg_checksums" -D data --check | grep 'Bad checksums'
grep -E 'PANIC|FATAL|could not' "$away/log" || true; rm -rf data
# Redis: what a client had an answer to is there after kill -9.
mkdir redis; cd redis
serve() { redis-server --port 0 --unixsocket "$away/redis" --daemonize no --appendonly yes --appendfsync always --save '' --dir . --loglevel warning >>"$away/redis.log" 2>&1 & server=$!; for i in {1..200}; do redis-cli -s "$away/redis" ping 2>/dev/null | grep -q PONG && break; sleep 0.05; done; }
cli() { redis-cli -s "$away/redis" "$@"; }
serve; for i in {1..1000}; do echo "set key$i value$i"; done | cli | sort | uniq -c
cli bgrewriteaof >/dev/null
for i in {1..200}; do cli info persistence | grep -q 'aof_rewrite_in_progress:0.*' && ! cli info persistence | grep -q 'scheduled:1' && break; sleep 0.05; done
cli rpush list a b c; cli incrby n 41; cli incr n; cli save
{ kill -9 $server; wait $server || true; } 2>/dev/null; serve; cli dbsize; cli get key777; cli lrange list 0 -1; cli get n
cli config set appendonly yes; cli shutdown nosave || true; wait $server || true; serve; cli dbsize
cli shutdown save; wait $server || true; ls; redis-check-rdb dump.rdb | tail -1 | cut -d' ' -f2-
redis-check-aof appendonlydir/*.manifest | tail -1; cd ..
grep -E 'rror|ail' "$away/redis.log" | grep -v overcommit || true; rm -r redis
# RocksDB: tables without mappings.
if command -v ldb >/dev/null; then
  db_bench --benchmarks=fillseq,readrandom,overwrite,readseq,compact,verifychecksum,deleterandom --num=20000 --reads=5000 --db=rocks --compression_type=none --mmap_read=false --mmap_write=false --disable_seek_compaction=1 --threads=1 --write_buffer_size=1000000 2>&1 | grep -ciE 'error|corrupt|fail' || true
ldb --db=rocks2 --create_if_missing put a 1; for i in b c d; do ldb --db=rocks2 put $i "value $i"; done
ldb --db=rocks2 scan; ldb --db=rocks2 delete b; ldb --db=rocks2 compact; ldb --db=rocks2 get c
ldb --db=rocks2 get b 2>&1 | head -1; ldb --db=rocks2 checkconsistency; ldb --db=rocks checkconsistency
ls rocks2 | grep -c sst; sst_dump --file=rocks2 --command=check 2>&1 | grep -c 'verified\|ok' || true
rm -rf rocks rocks2
fi
