# Stock SQLite, for comparison: the command-line shell, and its Tcl package where there is one.

namespace eval stock {}

# What the shell answers to these statements.
proc stock::sql {file statements} {
    return [exec sqlite3 -batch -bail $file << $statements]
}

proc stock::version {} {
    return [lindex [exec sqlite3 -version] 0]
}

# `ok`, or the first lines of what PRAGMA integrity_check has to say.
proc stock::check {file} {
    return [join [lrange [split [sql $file {PRAGMA integrity_check;}] \n] 0 4] "; "]
}

# A database with a bit of everything: two tables of different depth, an index, a WITHOUT ROWID
# table, rows that need overflow pages, and free pages where rows were deleted.
proc stock::make_database {file} {
    sql $file {
        PRAGMA page_size = 1024;
        PRAGMA journal_mode = DELETE;
        BEGIN;
        CREATE TABLE city(id INTEGER PRIMARY KEY, name TEXT, people INTEGER, height REAL);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
            INSERT INTO city
            SELECT i, substr('BADOMIRELUKANOSETIVAPUGOHE', 1 + i % 25, 2)
                || lower(substr('KARINOBELTUMADESOVIGAHUPERO', 1 + i * 7 % 25, 3)) || '-' || i,
                i * 7919 % 1000003, i * 37 % 4000 / 10.0 FROM n;
        CREATE INDEX city_by_name ON city(name);
        CREATE TABLE reading(station TEXT, day INTEGER, celsius REAL, PRIMARY KEY(station, day))
            WITHOUT ROWID;
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2999)
            INSERT INTO reading
            SELECT 'station ' || (i % 30), i / 30, (i * 31 % 400 - 100) / 10.0 FROM n;
        CREATE TABLE document(id INTEGER PRIMARY KEY, title TEXT, body BLOB);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
            INSERT INTO document SELECT i, 'Document ' || i, randomblob(i * i * 5) FROM n;
        COMMIT;
        DELETE FROM document WHERE id % 4 = 0;
        DELETE FROM city WHERE id BETWEEN 2000 AND 2600;
    }
}

# Whether the sqlite3 package of Tcl can be had.
proc stock::has_package {} {
    return [expr {![catch {package require sqlite3}]}]
}
