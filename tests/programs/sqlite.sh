# SPDX-License-Identifier: Apache-2.0
# Databases: with a rollback journal, read again by another process; with a write-ahead log, and many processes.
set -e
python3 - <<'END'
import sqlite3
c = sqlite3.connect('data.db')
c.execute('create table t(a integer primary key, b text)')
with c:
    c.executemany('insert into t values(?, ?)', [(i, 'text %d' % i) for i in range(5000)])
try:
    with c:
        c.execute('delete from t')
        raise RuntimeError
except RuntimeError:
    pass
print(c.execute('select count(*), sum(a) from t').fetchone())
c.execute('create index i on t(b)'); c.execute('vacuum'); c.close()
END
if command -v sqlite3 >/dev/null; then
  sqlite3 data.db "select b from t where a=7; insert into t values(9999,'new'); pragma integrity_check"; sqlite3 data.db .tables
  sqlite3 data.db .dump | md5sum
fi
python3 -c "import sqlite3; c = sqlite3.connect('data.db'); print(c.execute('pragma integrity_check').fetchone(), c.execute('select max(a) from t').fetchone())"
rm data.db
has shared_mappings || exit 0

# A write-ahead log: its index is memory that all processes share by mapping a file. One writer is killed on the way.
cat >writer.py <<'END'
import sqlite3, sys
c = sqlite3.connect('wal.db', timeout=60, isolation_level=None)
c.execute('pragma synchronous=normal')
for n in range(int(sys.argv[2])):
    c.execute('begin immediate')
    c.execute('insert into t values(?, ?, ?)', (int(sys.argv[1]), n, 'x' * 500))
    c.execute('commit')
END
python3 - <<'END'
import os, signal, sqlite3, subprocess, sys, time
c = sqlite3.connect('wal.db', timeout=60, isolation_level=None)
print(c.execute('pragma journal_mode=wal').fetchone())
c.execute('create table t(writer integer, n integer, text text, primary key(writer, n))')
writers = [subprocess.Popen([sys.executable, 'writer.py', str(i), '400' if i < 3 else '1000000']) for i in range(4)]
count = lambda i: c.execute('select count(*) from t where writer = ?', (i,)).fetchone()[0]
seen, back, end = [0] * 4, 0, time.monotonic() + 100
while seen[3] < 100 and time.monotonic() < end:
    for i in range(4):
        now = count(i); back += now < seen[i]; seen[i] = now
writers[3].send_signal(signal.SIGKILL)
print([w.wait() for w in writers], back)
print([count(i) for i in range(3)], count(3) >= 100, count(3) == c.execute('select max(n) + 1 from t where writer = 3').fetchone()[0])
late = subprocess.run([sys.executable, 'writer.py', '4', '50']); print(late.returncode, count(4))
print(c.execute('pragma integrity_check').fetchone(), c.execute('pragma wal_checkpoint(truncate)').fetchone())
c.execute('delete from t where writer = 3'); c.close(); print(sorted(f for f in os.listdir('.') if f.startswith('wal')))
END
python3 -c "import sqlite3; c = sqlite3.connect('wal.db'); print(c.execute('pragma integrity_check').fetchone(), c.execute('select count(*), sum(n) from t').fetchone())"
rm wal.db writer.py
ls
