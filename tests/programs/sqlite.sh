# SPDX-License-Identifier: Apache-2.0
# A database with a rollback journal, read again by another process.
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
ls; rm data.db
