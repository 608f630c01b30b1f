# SPDX-License-Identifier: Apache-2.0
# SQLite's write-ahead log by two processes after a fork, one of which is killed again and again: what
# it had committed is there, nothing else of it, and the other is not disturbed. $ROUNDS: 25.
set -e
cat >forks.py <<'END'
import os, random, select, signal, sqlite3, struct, sys, time
rounds = int(os.environ.get('ROUNDS', '25'))
def connect():
    c = sqlite3.connect('wal.db', timeout=60, isolation_level=None)
    c.execute('pragma synchronous=normal'); c.execute('pragma wal_autocheckpoint=50')
    return c
def put(c, writer, n):
    c.execute('begin immediate')
    c.executemany('insert into t values(?, ?, ?, ?)', [(writer, n, i, 'x' * (300 + n % 700)) for i in range(3)])
    c.execute('commit')
c = connect(); print(c.execute('pragma journal_mode=wal').fetchone())
c.execute('create table t(writer integer, n integer, i integer, text text, primary key(writer, n, i))')
c.execute('create index by_text on t(text)'); c.close()
lost = made_up = torn = broken = acknowledged = own = 0
for writer in range(rounds):
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            d = connect()
            for n in range(1000000):
                put(d, writer, n)
                os.write(tell, struct.pack('i', n))
        finally:
            os._exit(1)
    os.close(tell)
    d = connect()
    # Until it has committed once, and a random while more; meanwhile this one writes too.
    select.select([told], [], [], 60)
    end = time.monotonic() + random.uniform(0, 0.03)
    while True:
        put(d, -1, own); own += 1
        if time.monotonic() >= end:
            break
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        print('it ended by itself')
    last = -1
    while text := os.read(told, 4):
        last = struct.unpack('i', text)[0]
    os.close(told)
    acknowledged += last + 1
    rows = [r for r in d.execute('select n, count(*) from t where writer = ? group by n order by n', (writer,))]
    # One more may have been committed, and not told.
    lost += sum(n not in dict(rows) for n in range(last + 1)); made_up += len(rows) not in (last + 1, last + 2)
    torn += sum(count != 3 for _, count in rows)
    broken += d.execute('select count(*) from t where writer = -1').fetchone() != (3 * own,)
    broken += d.execute('pragma integrity_check').fetchall() != [('ok',)]
    d.execute('delete from t where writer >= 0 and n > 20')
    d.close()
print('lost', lost, 'made up', made_up, 'torn', torn, 'broken', broken, acknowledged >= rounds, own >= rounds)
END
python3 forks.py
python3 -c "import sqlite3; c = sqlite3.connect('wal.db'); print(c.execute('pragma integrity_check').fetchone(), c.execute('pragma wal_checkpoint(truncate)').fetchone()[0])"
rm -f wal.db* forks.py
