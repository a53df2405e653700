/* SQLite's own b-tree, called at the level of its btree.h: no SQL in between.
**
** The amalgamation is compiled inside this file with its public functions static, so that all of
** SQLite stays inlinable here and can live in one process with another copy of it. What leaves
** this file is one thin function per function of the b-tree interface, and the few that fill in
** the structs which only C knows.
**
** Every function that returns int returns a result code of SQLite, 0 for success, unless its
** comment says otherwise. Nothing here checks its pointers: the caller is sqlite_btree.rs alone.
*/
#define SQLITE_API static
#define SQLITE_EXTERN
#include "sqlite3.c"

/* A database handle, which every b-tree wants for its mutex and its allocations. One serves all of
** them, so that opening a b-tree is not charged with making one. */
static sqlite3 *handle;

typedef struct Connection {
  sqlite3 *db;
  Btree *btree;
  KeyInfo *key_info; /* one BINARY key field of two, as for a WITHOUT ROWID table of two columns */
} Connection;

static int open_btree(Connection *c, const char *path, int page_size, int cache_pages) {
  int rc = handle ? SQLITE_OK : sqlite3_open(":memory:", &handle);
  if (rc != SQLITE_OK) return rc;
  c->db = handle;
  c->key_info = sqlite3KeyInfoAlloc(c->db, 1, 1);
  if (c->key_info == 0) return SQLITE_NOMEM;
  c->key_info->enc = SQLITE_UTF8;
  rc = sqlite3BtreeOpen(sqlite3_vfs_find(0), path, c->db, &c->btree, 0,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MAIN_DB);
  if (rc != SQLITE_OK) return rc;
  sqlite3BtreeSetCacheSize(c->btree, cache_pages);
  return page_size ? sqlite3BtreeSetPageSize(c->btree, page_size, 0, 0) : SQLITE_OK;
}

void bench_close(Connection *c) {
  if (c->btree) sqlite3BtreeClose(c->btree);
  if (c->key_info) sqlite3KeyInfoUnref(c->key_info);
  free(c);
}

static int journal_mode_number(const char *name) {
  const char *known;
  int mode;
  for (mode = 0; (known = sqlite3JournalModename(mode)) != 0; mode++) {
    if (strcmp(known, name) == 0) return mode;
  }
  return PAGER_JOURNALMODE_DELETE;
}

/* Opens or creates the file. *out is set on success only. An existing file has its own page size and
** is given 0. `synchronous` is 0 or 2, as the pragma; `journal_mode` a name that its pragma takes. */
int bench_open(const char *path, int page_size, int cache_pages, int synchronous,
               const char *journal_mode, int exclusive, Connection **out) {
  Connection *c = calloc(1, sizeof(*c));
  int rc;
  if (c == 0) return SQLITE_NOMEM;
  rc = open_btree(c, path, page_size, cache_pages);
  if (rc != SQLITE_OK) {
    bench_close(c);
    return rc;
  }
  sqlite3BtreeSetPagerFlags(c->btree, (synchronous ? PAGER_SYNCHRONOUS_FULL : PAGER_SYNCHRONOUS_OFF)
                                          | PAGER_CACHESPILL);
  sqlite3PagerSetJournalMode(sqlite3BtreePager(c->btree), journal_mode_number(journal_mode));
  if (exclusive) sqlite3PagerLockingMode(sqlite3BtreePager(c->btree), PAGER_LOCKINGMODE_EXCLUSIVE);
  *out = c;
  return SQLITE_OK;
}

/* Begins a read transaction (write = 0) or a write transaction (1). */
int bench_begin(Connection *c, int write) {
  return sqlite3BtreeBeginTrans(c->btree, write, 0);
}

int bench_commit(Connection *c) {
  return sqlite3BtreeCommit(c->btree);
}

/* Creates a table b-tree (integer keys) or an index b-tree. */
int bench_create(Connection *c, int integer_keys, unsigned *root) {
  return sqlite3BtreeCreateTable(c->btree, root, integer_keys ? BTREE_INTKEY : BTREE_BLOBKEY);
}

int bench_cursor(Connection *c, unsigned root, int integer_keys, int write, BtCursor **out) {
  BtCursor *cursor = calloc(1, (size_t)sqlite3BtreeCursorSize());
  int rc;
  if (cursor == 0) return SQLITE_NOMEM;
  sqlite3BtreeCursorZero(cursor);
  rc = sqlite3BtreeCursor(c->btree, root, write ? BTREE_WRCSR : 0,
                          integer_keys ? 0 : c->key_info, cursor);
  if (rc != SQLITE_OK) {
    free(cursor);
    return rc;
  }
  *out = cursor;
  return SQLITE_OK;
}

void bench_close_cursor(BtCursor *cursor) {
  sqlite3BtreeCloseCursor(cursor);
  free(cursor);
}

/* Inserts or replaces a row of a table b-tree. */
int bench_put_integer(BtCursor *cursor, i64 key, const void *data, int size) {
  BtreePayload payload;
  memset(&payload, 0, sizeof(payload));
  payload.nKey = key;
  payload.pData = data;
  payload.nData = size;
  return sqlite3BtreeInsert(cursor, &payload, 0, 0);
}

/* Inserts a row behind all others, as the SQL layer does when it makes up the rowid: it looks where
** the end is, and says so. */
int bench_append_integer(BtCursor *cursor, i64 key, const void *data, int size) {
  BtreePayload payload;
  int empty, rc = sqlite3BtreeLast(cursor, &empty);
  if (rc != SQLITE_OK) return rc;
  if (!empty && sqlite3BtreeIntegerKey(cursor) >= key) return SQLITE_MISUSE;
  memset(&payload, 0, sizeof(payload));
  payload.nKey = key;
  payload.pData = data;
  payload.nData = size;
  return sqlite3BtreeInsert(cursor, &payload, BTREE_APPEND, 0);
}

static void blob_field(Mem *field, const void *bytes, int size) {
  memset(field, 0, sizeof(*field));
  field->flags = MEM_Blob;
  field->z = (char *)bytes;
  field->n = size;
  field->enc = SQLITE_UTF8;
}

/* Inserts or replaces a record; its key field is handed over decoded, as the SQL layer does. With
** `append` the hint is given that it comes last. */
int bench_put_record(BtCursor *cursor, const void *record, int size, const void *key, int key_size,
                     int append) {
  BtreePayload payload;
  Mem field;
  blob_field(&field, key, key_size);
  memset(&payload, 0, sizeof(payload));
  payload.pKey = record;
  payload.nKey = size;
  payload.aMem = &field;
  payload.nMem = 1;
  return sqlite3BtreeInsert(cursor, &payload, append ? BTREE_APPEND : 0, 0);
}

/* *found: 0 exact, negative: the cursor is on a smaller entry or the tree is empty, else positive. */
int bench_seek_integer(BtCursor *cursor, i64 key, int *found) {
  return sqlite3BtreeTableMoveto(cursor, key, 0, found);
}

/* The same for a record whose first field is this blob. */
int bench_seek_record(Connection *c, BtCursor *cursor, const void *key, int key_size, int *found) {
  UnpackedRecord wanted;
  Mem field;
  blob_field(&field, key, key_size);
  memset(&wanted, 0, sizeof(wanted));
  wanted.pKeyInfo = c->key_info;
  wanted.aMem = &field;
  wanted.nField = 1;
  return sqlite3BtreeIndexMoveto(cursor, &wanted, found);
}

int bench_first(BtCursor *cursor, int *empty) {
  return sqlite3BtreeFirst(cursor, empty);
}

/* SQLITE_DONE (101) past the last entry. */
int bench_next(BtCursor *cursor) {
  return sqlite3BtreeNext(cursor, 0);
}

int bench_last(BtCursor *cursor, int *empty) {
  return sqlite3BtreeLast(cursor, empty);
}

/* SQLITE_DONE (101) before the first entry. */
int bench_previous(BtCursor *cursor) {
  return sqlite3BtreePrevious(cursor, 0);
}

/* Deletes the entry under the cursor. */
int bench_delete(BtCursor *cursor) {
  return sqlite3BtreeDelete(cursor, 0);
}

i64 bench_integer_key(BtCursor *cursor) {
  return sqlite3BtreeIntegerKey(cursor);
}

unsigned bench_payload_size(BtCursor *cursor) {
  return sqlite3BtreePayloadSize(cursor);
}

/* The part of the payload that lies on the node, valid until the cursor moves. bench_payload_size or
** bench_integer_key must have been called since it last moved: they decode the cell. */
const void *bench_payload_fetch(BtCursor *cursor, unsigned *size) {
  return sqlite3BtreePayloadFetch(cursor, size);
}

int bench_payload(BtCursor *cursor, unsigned size, void *out) {
  return sqlite3BtreePayload(cursor, 0, size, out);
}

/* The integrity check of the file, its trees being table 1 and `root`. *text is NULL if all is
** well, else the messages, to be freed with bench_free. */
int bench_check(Connection *c, unsigned root, char **text) {
  Pgno roots[2];
  int rc, errors = 0;
  Mem counts[2];
  memset(counts, 0, sizeof(counts));
  roots[0] = 1;
  roots[1] = root;
  rc = sqlite3BtreeIntegrityCheck(c->db, c->btree, roots, counts, 2, 100, &errors, text);
  return rc == SQLITE_OK && errors > 0 && *text == 0 ? SQLITE_NOMEM : rc;
}

void bench_free(void *memory) {
  sqlite3_free(memory);
}

const char *bench_version(void) {
  return SQLITE_VERSION;
}
