//! Indexes of records against a list that is sorted by a comparison of its own, and against those
//! of stock SQLite: D187, D189 to D193, D315, D328, L50008 to L50011.
//!
//! Seeds are as in `support::Seeds` (6; half as many for the exchange with stock).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use support::random::Random;
use support::record::{Field, decode, encode};
use support::{Directory, Seeds, number_from, stock};
use tclbtree::btree::{Collation, Direction, InsertHints, SearchMode, TextEncoding};
use tclbtree::format::{PageNumber, PageSize};
use tclbtree::{
    Btree, CursorId, Error, INDEX, Key, KeyInfo, MemoryVfs, Options, TransactionKind, UnixVfs,
};

type Record = Vec<Field>;

/// Collation and direction of each field.
type Shape = Vec<(Collation, Direction)>;

const COLLATIONS: [Collation; 3] = [Collation::Binary, Collation::NoCase, Collation::RTrim];

fn key_info(shape: &Shape) -> KeyInfo {
    shape
        .iter()
        .fold(KeyInfo::new(), |info, &(collation, direction)| info.with(collation, direction))
}

// --- An order of our own -----------------------------------------------------------------------

/// A value in a form that orders by itself.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Rank {
    Null,
    /// The largest integer that is not above the number, and what is left.
    Number(i128, f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

fn rank(field: &Field, collation: Collation) -> Rank {
    match field {
        Field::Null => Rank::Null,
        Field::Integer(value) => Rank::Number(i128::from(*value), 0.0),
        Field::Real(value) if value.is_infinite() => Rank::Number(*value as i128, 0.0),
        Field::Real(value) => Rank::Number(value.floor() as i128, value - value.floor()),
        Field::Blob(bytes) => Rank::Blob(bytes.clone()),
        Field::Text(bytes) => Rank::Text(match collation {
            Collation::Binary => bytes.clone(),
            Collation::NoCase => bytes.to_ascii_lowercase(),
            Collation::RTrim => {
                let text = String::from_utf8(bytes.clone()).unwrap();
                text.trim_end_matches(' ').as_bytes().to_vec()
            }
        }),
    }
}

fn compare(one: &[Field], other: &[Field], shape: &Shape) -> Ordering {
    for (index, (a, b)) in one.iter().zip(other).enumerate() {
        let (collation, direction) =
            shape.get(index).copied().unwrap_or((Collation::Binary, Direction::Ascending));
        let order = rank(a, collation).partial_cmp(&rank(b, collation)).unwrap();
        match direction {
            _ if order.is_eq() => {}
            Direction::Ascending => return order,
            Direction::Descending => return order.reverse(),
        }
    }
    one.len().cmp(&other.len())
}

fn begins_with(record: &[Field], key: &[Field], shape: &Shape) -> bool {
    record.len() >= key.len() && compare(&record[..key.len()], key, shape).is_eq()
}

// --- Values ------------------------------------------------------------------------------------

/// A value from a small world, so that there are many equal ones, and all kinds of edges.
fn random_field(random: &mut Random, longest: usize) -> Field {
    const EDGES: [i64; 8] = [
        i64::MIN,
        i64::MAX,
        (1 << 53) + 1,
        1 << 53,
        -(1 << 53) - 1,
        0x7fff_ffff_ffff,
        -0x8000_0000_0000,
        128,
    ];
    match random.below(12) {
        0 => Field::Null,
        1..4 => Field::Integer(random.below(9) as i64 - 4),
        4 => Field::Integer(random.pick(&EDGES)),
        5 => Field::Real(random.below(17) as f64 / 2.0 - 4.0),
        6 => Field::Real(random.pick(&EDGES) as f64 * random.pick(&[1.0, 0.5, 4.0])),
        7 => Field::Real(random.pick(&[f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e-300, 1e30])),
        8..11 => Field::Text(random_text(random, longest).into_bytes()),
        _ => {
            let limit = if random.percent(20) { longest } else { 6 };
            let length = random.below(limit);
            Field::Blob(random.bytes(length))
        }
    }
}

/// A text with few letters in both cases, spaces at the end, and sometimes a long beginning.
fn random_text(random: &mut Random, longest: usize) -> String {
    let mut text = String::new();
    if random.percent(10) {
        text = random.pick(&["x", "X", "y"]).repeat(longest.saturating_sub(random.below(20)));
    }
    for _ in 0..random.below(4) {
        text.push_str(random.pick(&["a", "A", "b", "B", "[", "\u{e9}", "\u{1f600}"]));
    }
    text + &" ".repeat(if random.percent(30) { random.below(3) } else { 0 })
}

fn random_shape(random: &mut Random, fields: usize) -> Shape {
    (0..fields)
        .map(|_| {
            let descending = random.percent(40);
            let direction = if descending { Direction::Descending } else { Direction::Ascending };
            (random.pick(&COLLATIONS), direction)
        })
        .collect()
}

// --- Against a sorted list ---------------------------------------------------------------------

struct Model {
    db: Btree,
    root: PageNumber,
    writer: CursorId,
    reader: CursorId,
    shape: Shape,
    /// The entries in order.
    list: Vec<Record>,
    /// Fields of every entry, of which the last is an integer; `None`: as it comes.
    width: Option<usize>,
}

impl Model {
    fn new(random: &mut Random, width: Option<usize>) -> Model {
        let options = Options {
            page_size: PageSize::new(random.pick(&[512, 1024, 4096])).unwrap(),
            ..Options::default()
        };
        let mut db = Btree::open(Arc::new(MemoryVfs::new()), "keys.db", &options).unwrap();
        db.begin(TransactionKind::Write).unwrap();
        let root = db.create_table(INDEX).unwrap();
        let fields = random.below(4);
        let shape = random_shape(random, fields);
        let writer = db.open_index_cursor(root, true, key_info(&shape)).unwrap();
        let reader = db.open_index_cursor(root, false, key_info(&shape)).unwrap();
        Model { db, root, writer, reader, shape, list: Vec::new(), width }
    }

    fn random_record(&self, random: &mut Random) -> Record {
        let longest = if random.percent(5) { 3000 } else { 40 };
        let fields = self.width.map_or_else(|| random.below(5), |width| width - 1);
        let mut record: Record = (0..fields).map(|_| random_field(random, longest)).collect();
        if self.width.is_some() {
            record.push(Field::Integer(random.below(50) as i64));
        }
        record
    }

    fn place(&self, record: &[Field]) -> Result<usize, usize> {
        self.list.binary_search_by(|entry| compare(entry, record, &self.shape))
    }

    fn insert(&mut self, random: &mut Random) {
        let record = self.random_record(random);
        let bytes = encode(&record);
        let hints = InsertHints {
            behind_all: random.percent(20),
            sought: match random.below(3) {
                0 => Some(self.db.seek(self.writer, Key::Bytes(&bytes)).unwrap()),
                1 => {
                    // From somewhere else the hint may be right about one neighbour, and is wrong.
                    let elsewhere = encode(&self.random_record(random));
                    self.db.seek(self.writer, Key::Bytes(&elsewhere)).unwrap();
                    Some(random.pick(&[Ordering::Less, Ordering::Equal, Ordering::Greater]))
                }
                _ => None,
            },
        };
        self.db.insert_with_hints(self.writer, Key::Bytes(&bytes), b"", 0, hints).unwrap();
        match self.place(&record) {
            Ok(at) => self.list[at] = record,
            Err(at) => self.list.insert(at, record),
        }
    }

    fn delete(&mut self, random: &mut Random) {
        if self.list.is_empty() {
            return;
        }
        let at = random.below(self.list.len());
        let key = encode(&self.list[at]);
        assert!(self.db.seek(self.writer, Key::Bytes(&key)).unwrap().is_eq());
        self.db.delete(self.writer).unwrap();
        self.list.remove(at);
    }

    /// The reader stays on its entry, whatever the writer does to the tree, and goes on from there.
    fn change_under_reader(&mut self, random: &mut Random) {
        if self.list.is_empty() {
            return;
        }
        let at = random.below(self.list.len());
        let entry = self.list[at].clone();
        let key = encode(&entry);
        assert!(self.db.seek(self.reader, Key::Bytes(&key)).unwrap().is_eq());
        for _ in 0..random.below(4) {
            if random.percent(50) { self.insert(random) } else { self.delete(random) }
        }
        let found = self.place(&entry);
        let was_moved = self.db.cursor_has_moved(self.reader).unwrap();
        assert_eq!(was_moved, found.is_err(), "{entry:?}");
        let next = found.map_or_else(|at| at, |at| at + 1);
        assert_eq!(self.db.next(self.reader).unwrap(), next < self.list.len());
        if let Some(want) = self.list.get(next) {
            assert_eq!(self.db.key(self.reader).unwrap(), encode(want));
        }
    }

    fn search(&mut self, random: &mut Random) {
        let mut key = match random.below(3) {
            0 => self.random_record(random),
            _ if self.list.is_empty() => Vec::new(),
            _ => self.list[random.below(self.list.len())].clone(),
        };
        if random.percent(60) {
            key.truncate(random.below(key.len() + 1));
        }
        let mode = SearchMode {
            ignore_rowid: self.width.is_some() && random.percent(30),
            increment_key: random.percent(30),
            prefix_match: random.percent(30),
            prefix_search: self.width.is_some() && random.percent(30),
        };
        let (found, rowid) = self.db.seek_fields(self.reader, &key, mode).unwrap();
        self.check_found(&key, mode, found);
        self.check_rowid(&key, mode, rowid);
    }

    /// How the model orders an entry to a key.
    fn order(&self, entry: &[Field], key: &[Field], mode: SearchMode) -> Ordering {
        let entry = &entry[..entry.len() - usize::from(mode.ignore_rowid)];
        if mode.increment_key && begins_with(entry, key, &self.shape) {
            Ordering::Less
        } else if mode.prefix_match && begins_with(entry, key, &self.shape) {
            Ordering::Equal
        } else {
            compare(entry, key, &self.shape)
        }
    }

    fn check_found(&mut self, key: &[Field], mode: SearchMode, found: Ordering) {
        let context = format!("{key:?} {mode:?} {:?}", self.shape);
        let below = self.list.partition_point(|entry| self.order(entry, key, mode).is_lt());
        let equal = self.list[below..].iter().take_while(|e| self.order(e, key, mode).is_eq());
        let equal = below..below + equal.count();
        assert_eq!(found.is_eq(), !equal.is_empty(), "{context}");
        if self.list.is_empty() {
            assert!(self.db.is_at_end(self.reader) && found.is_lt());
            return;
        }
        let entry = self.db.key(self.reader).unwrap();
        let at = self.place(&decode(&entry)).unwrap();
        assert_eq!(entry, encode(&self.list[at]));
        match found {
            Ordering::Equal => assert!(equal.contains(&at), "{context}"),
            Ordering::Less => assert_eq!(at + 1, below, "{context}"),
            Ordering::Greater => assert_eq!(at, below, "{context}"),
        }
    }

    fn check_rowid(&self, key: &[Field], mode: SearchMode, rowid: Option<i64>) {
        if !mode.prefix_search || mode.ignore_rowid || Some(key.len()) != self.width {
            return assert_eq!(rowid, None);
        }
        let prefix = &key[..key.len() - 1];
        let others: Vec<_> = self
            .list
            .iter()
            .filter(|entry| begins_with(entry, prefix, &self.shape) && entry.last() != key.last())
            .map(|entry| support::record::integer(entry.last().unwrap()))
            .collect();
        match rowid {
            Some(rowid) => assert!(others.contains(&rowid)),
            // A search that meets the key itself need not meet another.
            None => assert!(others.is_empty() || self.place(key).is_ok(), "{key:?} {others:?}"),
        }
    }

    fn check(&mut self) {
        let roots = [1, i64::from(self.root.get())];
        assert_eq!(self.db.integrity_check(&roots, 10), Ok(Vec::new()));
        let mut more = self.db.first(self.reader).unwrap();
        for record in &self.list {
            assert!(more);
            assert_eq!(self.db.key(self.reader).unwrap(), encode(record));
            more = self.db.next(self.reader).unwrap();
        }
        assert!(!more);
    }
}

#[test]
fn trees_of_records_are_a_sorted_list() {
    for seed in Seeds::from_environment(6) {
        for width in [None, Some(2), Some(4)] {
            let mut random = Random::new(seed);
            let mut model = Model::new(&mut random, width);
            for step in 0..1200 {
                match random.below(10) {
                    0..5 if step < 900 => model.insert(&mut random),
                    0..7 if step % 3 == 0 => model.delete(&mut random),
                    7 => model.change_under_reader(&mut random),
                    _ => model.search(&mut random),
                }
                if step % 300 == 299 {
                    model.check();
                }
            }
            model.db.close_cursor(model.writer);
            model.db.close_cursor(model.reader);
            model.db.commit().unwrap();
            assert_eq!(model.db.stats().pinned, 0);
        }
    }
}

// --- Against stock SQLite ----------------------------------------------------------------------

/// The indexes of table `t(a, b, c)`: how stock is told, the columns, and their order.
fn indexes() -> Vec<(&'static str, Vec<usize>, Shape)> {
    use Collation::{Binary, NoCase, RTrim};
    use Direction::{Ascending, Descending};
    vec![
        ("a, b, c", vec![0, 1, 2], vec![]),
        ("a DESC", vec![0], vec![(Binary, Descending)]),
        ("b COLLATE NOCASE, a", vec![1, 0], vec![(NoCase, Ascending)]),
        (
            "c COLLATE RTRIM DESC, b COLLATE NOCASE DESC, a",
            vec![2, 1, 0],
            vec![(RTrim, Descending), (NoCase, Descending), (Binary, Ascending)],
        ),
        ("b COLLATE RTRIM, c DESC", vec![1, 2], vec![(RTrim, Ascending), (Binary, Descending)]),
    ]
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Integer(value) => Value::Integer(*value),
        Field::Real(value) => Value::Real(*value),
        Field::Text(bytes) => Value::Text(String::from_utf8(bytes.clone()).unwrap()),
        Field::Blob(bytes) => Value::Blob(bytes.clone()),
    }
}

/// The record with its texts, which are UTF-8, in another encoding.
fn in_encoding(record: &[Field], encoding: TextEncoding) -> Record {
    let units = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().encode_utf16().collect();
    let convert = |field: &Field| match (field, encoding) {
        (Field::Text(bytes), TextEncoding::Utf16LittleEndian) => {
            let units: Vec<u16> = units(bytes);
            Field::Text(units.into_iter().flat_map(u16::to_le_bytes).collect())
        }
        (Field::Text(bytes), TextEncoding::Utf16BigEndian) => {
            let units: Vec<u16> = units(bytes);
            Field::Text(units.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        _ => field.clone(),
    };
    record.iter().map(convert).collect()
}

fn random_row(random: &mut Random) -> Record {
    let longest = if random.percent(5) { 2500 } else { 30 };
    (0..3).map(|_| random_field(random, longest)).collect()
}

fn root_of(connection: &Connection, name: &str) -> PageNumber {
    let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?";
    PageNumber::new(connection.query_row(query, [name], |row| row.get(0)).unwrap()).unwrap()
}

/// A database of stock's with some rows; returns the roots of the table and of its indexes.
fn make_by_stock(path: &Path, random: &mut Random, encoding: &str) -> Vec<PageNumber> {
    let mut connection = stock::open(path);
    connection.pragma_update(None, "page_size", random.pick(&[512, 1024, 4096])).unwrap();
    connection.pragma_update(None, "encoding", encoding).unwrap();
    connection.execute_batch("CREATE TABLE t(a, b, c)").unwrap();
    for (number, (columns, ..)) in indexes().iter().enumerate() {
        connection.execute_batch(&format!("CREATE INDEX i{number} ON t({columns})")).unwrap();
    }
    let transaction = connection.transaction().unwrap();
    for _ in 0..300 {
        let row = random_row(random);
        let values = params_from_iter(row.iter().map(value));
        transaction.execute("INSERT INTO t VALUES(?, ?, ?)", values).unwrap();
    }
    transaction.commit().unwrap();
    let names = ["t".to_owned()].into_iter().chain((0..5).map(|number| format!("i{number}")));
    names.map(|name| root_of(&connection, &name)).collect()
}

/// The entry of an index for a row.
fn entry(row: &[Field], columns: &[usize], rowid: i64) -> Vec<u8> {
    let mut record: Record = columns.iter().map(|&column| row[column].clone()).collect();
    record.push(Field::Integer(rowid));
    encode(&record)
}

/// Every entry is found where it stands, and stands above the one before it.
fn check_index(db: &mut Btree, root: PageNumber, info: KeyInfo, rows: usize) {
    let cursor = db.open_index_cursor(root, false, info.clone()).unwrap();
    let seeker = db.open_index_cursor(root, false, info).unwrap();
    let (mut count, mut last): (usize, Option<Record>) = (0, None);
    let mut more = db.first(cursor).unwrap();
    while more {
        let key = db.key(cursor).unwrap();
        assert!(db.seek(seeker, Key::Bytes(&key)).unwrap().is_eq());
        assert_eq!(db.key(seeker).unwrap(), key);
        let fields = decode(&key);
        if let Some(last) = last.replace(fields.clone()) {
            let (order, _) = db.seek_fields(seeker, &last, SearchMode::default()).unwrap();
            assert!(order.is_eq());
            assert!(db.next(seeker).unwrap());
            assert_eq!(db.key(seeker).unwrap(), key, "{last:?} is not right below");
        }
        let prefix = &fields[..fields.len() - 1];
        let mode = SearchMode { prefix_match: true, ..SearchMode::default() };
        assert!(db.seek_fields(seeker, prefix, mode).unwrap().0.is_eq());
        count += 1;
        more = db.next(cursor).unwrap();
    }
    assert_eq!(count, rows);
    db.close_cursor(cursor);
    db.close_cursor(seeker);
}

/// Adds rows and takes some of them out again, in the table and in every index.
fn change_here(
    db: &mut Btree,
    roots: &[PageNumber],
    infos: &[KeyInfo],
    random: &mut Random,
) -> usize {
    let encoding = TextEncoding::from_number(db.meta(5).unwrap());
    db.begin(TransactionKind::Write).unwrap();
    let table = db.open_cursor(roots[0], true).unwrap();
    let cursors: Vec<_> = roots[1..]
        .iter()
        .zip(infos)
        .map(|(&root, info)| db.open_index_cursor(root, true, info.clone()).unwrap())
        .collect();
    let mut left = 0;
    for rowid in 1001..1301 {
        let row = in_encoding(&random_row(random), encoding);
        db.insert(table, Key::Integer(rowid), &encode(&row), 0).unwrap();
        for (&cursor, (_, columns, _)) in cursors.iter().zip(indexes()) {
            db.insert(cursor, Key::Bytes(&entry(&row, &columns, rowid)), b"", 0).unwrap();
        }
        left += 1;
        if random.percent(40) {
            let rowid = random.between(1, rowid as usize) as i64;
            if !db.seek(table, Key::Integer(rowid)).unwrap().is_eq() {
                continue;
            }
            let row = decode(&db.data(table).unwrap());
            db.delete(table).unwrap();
            for (&cursor, (_, columns, _)) in cursors.iter().zip(indexes()) {
                let key = entry(&row, &columns, rowid);
                assert!(db.seek(cursor, Key::Bytes(&key)).unwrap().is_eq());
                db.delete(cursor).unwrap();
            }
            left -= 1;
        }
    }
    for cursor in cursors.into_iter().chain([table]) {
        db.close_cursor(cursor);
    }
    db.commit().unwrap();
    (300 + left) as usize
}

/// D187: the order is that of stock, both reading stock's indexes and writing them.
#[test]
fn indexes_of_stock_are_read_and_written() {
    for seed in Seeds::from_environment(3) {
        for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
            let mut random = Random::new(seed);
            let directory = Directory::new("keys");
            let path = directory.file("t.db");
            let roots = make_by_stock(&path, &mut random, encoding);
            let vfs = Arc::new(UnixVfs::new());
            let mut db = Btree::open(vfs, &path, &Options::default()).unwrap();
            let number = TextEncoding::from_number(db.meta(5).unwrap());
            let infos: Vec<_> =
                indexes().iter().map(|(.., shape)| key_info(shape).in_encoding(number)).collect();
            let mut rows = 300;
            for round in 0..2 {
                for (&root, info) in roots[1..].iter().zip(&infos) {
                    check_index(&mut db, root, info.clone(), rows);
                }
                if round == 0 {
                    rows = change_here(&mut db, &roots, &infos, &mut random);
                }
            }
            let connection = stock::open(&path);
            assert_eq!(stock::integrity(&connection), "ok", "{encoding}, seed {seed}");
            let count =
                connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
            assert_eq!(count, Ok(rows as i64), "{encoding}, seed {seed}");
        }
    }
}

/// D288: whatever stands in the cells of an index, a search by fields ends, with a place or with
/// `Corrupt`, and no page is pinned afterwards.
#[test]
fn damaged_records_do_no_harm() {
    for seed in 0..40 {
        let mut random = Random::new(number_from("TCLBTREE_SEED", 1) + seed);
        let mut model = Model::new(&mut random, Some(3));
        let plain = model.db.open_cursor(model.root, true).unwrap();
        for _ in 0..60 {
            let mut record = encode(&model.random_record(&mut random));
            for _ in 0..random.below(3) {
                let at = random.below(record.len().min(12));
                record[at] = random.bits() as u8;
            }
            record.truncate(random.between(record.len() / 2, record.len()));
            model.db.insert(plain, Key::Bytes(&record), b"", 0).unwrap();
        }
        for _ in 0..100 {
            let key = model.random_record(&mut random);
            let mode = SearchMode { ignore_rowid: random.percent(50), ..SearchMode::default() };
            let sought = model.db.seek_fields(model.writer, &key, mode);
            assert!(matches!(sought, Ok(_) | Err(Error::Corrupt { .. })), "{sought:?}");
            let inserted = model.db.insert(model.writer, Key::Bytes(&encode(&key)), b"", 0);
            assert!(matches!(inserted, Ok(()) | Err(Error::Corrupt { .. })), "{inserted:?}");
        }
        let roots = [1, i64::from(model.root.get())];
        assert_eq!(model.db.integrity_check(&roots, 10), Ok(Vec::new()));
        for cursor in [plain, model.writer, model.reader] {
            model.db.close_cursor(cursor);
        }
        model.db.commit().unwrap();
        assert_eq!(model.db.stats().pinned, 0);
    }
}
