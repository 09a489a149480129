"""Makes the databases of the tests with the SQLite of Python, and tells what stands in them."""
import os, random, shutil, sqlite3, tarfile, json

random.seed(1)
os.makedirs("/tmp/dbs", exist_ok=True)
SCHEMA = 'CREATE TABLE "cache" ("key" varchar not null, "value" text not null, "expiration" integer not null, primary key ("key"))'
expected = {}

def rows(n, longest):
    for i in range(n):
        yield ("laravel-cache-%s" % random.randrange(10**12) if i % 3 else "k%d" % i * random.randrange(1, longest // 4),
               "v%d" % i * random.randrange(1, longest), random.choice([0, 1, -1, 127, -129, 2**31, 2**45, 2**62, i]))

def make(name, page=4096, n=200, longest=300, schema=SCHEMA, wal=False, deleted=False, pragmas=(), last=None):
    path = "/tmp/dbs/" + name
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    c = sqlite3.connect(path, isolation_level=None)
    for p in ["page_size=%d" % page, *pragmas]:
        c.execute("pragma " + p)
    c.execute("create table other (a integer primary key, b)")
    c.execute(schema)
    if wal:
        c.execute("pragma journal_mode=wal")
        c.execute("pragma wal_autocheckpoint=0")
    c.execute("begin")
    for r in rows(n, longest):
        c.execute("insert or replace into cache (key, value, expiration) values (?, ?, ?)", r)
    c.execute("commit")
    if deleted:
        c.execute("delete from cache where rowid % 2 = 0")
    if last:
        last(c)
    found = {k: [v if isinstance(v, str) else v.decode() if v is not None else v, e] for k, v, e in c.execute("select key, value, expiration from cache")}
    for suffix in ("", "-wal"):
        if os.path.exists(path + suffix):
            shutil.copy(path + suffix, path + ".copy" + suffix)
    c.close()
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    for suffix in ("", "-wal"):
        if os.path.exists(path + ".copy" + suffix):
            os.rename(path + ".copy" + suffix, path + suffix)
    expected[name] = found

def later(c):
    c.execute("pragma wal_checkpoint(truncate)")
    for i in range(30):
        c.execute("insert or replace into cache (key, value, expiration) values ('late', ?, ?)", ("x" * i * 40, i))
    c.execute("delete from cache where key like 'k%'")
    c.execute("begin")
    c.execute("insert into other (b) values (zeroblob(9000))")  # is rolled back, and in the log perhaps
    c.execute("rollback")

make("small-pages.db", page=512, n=150, longest=60)
make("large-pages.db", page=65536, n=40)
make("long-keys.db", page=512, n=40, longest=1200)
make("deleted.db", page=1024, deleted=True)
make("log.db", page=1024, n=60, wal=True)
make("log-anew.db", page=512, n=60, longest=60, wal=True, last=later)
make("scan.db", page=512, n=100, longest=60, schema='create table [cache] (id integer, `key` text /* , */, value, "expiration" int default (1 + (2)), unique(key), unique (id, key))')
make("later-column.db", page=512, n=30, longest=60, last=lambda c: (c.execute("alter table cache add column extra text default null")))
make("empty.db", n=0)
make("utf16.db", page=512, n=5, pragmas=["encoding='UTF-16'"])
make("without-rowid.db", page=512, n=5, schema=SCHEMA + " without rowid")
json.dump(expected, open("/tmp/dbs/expected.json", "w"), ensure_ascii=False)
with tarfile.open("databases.tar.gz", "w:gz") as t:
    for f in sorted(os.listdir("/tmp/dbs")):
        t.add("/tmp/dbs/" + f, f)
