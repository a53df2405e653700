#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use super::*;
use crate::format::{LockPage, PageSize, varint};

const ONE: PageNumber = PageNumber::ONE;

fn page(number: u32) -> PageNumber {
    PageNumber::new(number).unwrap()
}

fn format(size: u32, reserved: u8) -> PageFormat {
    PageFormat::new(PageSize::new(size).unwrap(), reserved, LockPage::STANDARD_OFFSET).unwrap()
}

/// A small generator of pseudo-random numbers (xorshift), so that runs repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A page with what belongs to it.
struct Sheet {
    number: PageNumber,
    format: PageFormat,
    bytes: Vec<u8>,
    info: NodeInfo,
}

impl Sheet {
    fn new(size: u32, reserved: u8, number: PageNumber, kind: u8) -> Sheet {
        let format = format(size, reserved);
        let mut sheet =
            Sheet { number, format, bytes: vec![0xee; size as usize], info: NodeInfo::default() };
        sheet.edit().initialize(number, NodeKind::new(kind).unwrap());
        sheet
    }
    fn edit(&mut self) -> NodeMut<'_> {
        NodeMut::new(&mut self.bytes, &mut self.info, &self.format)
    }
    fn node(&self) -> Node<'_> {
        Node::new(&self.bytes, &self.info, &self.format)
    }
    /// Free bytes and free blocks: values 4 and 5 of `btree_cursor_info`.
    fn space(&self) -> (usize, usize) {
        (self.node().free_bytes().unwrap(), self.node().free_block_count().unwrap())
    }
    /// Position of `key`, and whether it is there.
    fn find(&self, key: i64) -> (usize, bool) {
        for index in 0..self.node().cell_count() {
            let found = self.node().integer_key(index).unwrap();
            if found >= key {
                return (index, found == key);
            }
        }
        (self.node().cell_count(), false)
    }
    fn insert(&mut self, key: i64, data: usize) {
        let (index, _) = self.find(key);
        let cell = table_leaf(key, data, &self.format);
        self.edit().insert(index, &cell).unwrap();
    }
    fn remove(&mut self, key: i64) {
        let (index, found) = self.find(key);
        assert!(found, "{key}");
        self.edit().remove(index).unwrap();
    }
    /// A fresh reading of the bytes agrees with what is remembered.
    fn check(&self) {
        let mut again = NodeInfo::default();
        again.prepare(&self.bytes, self.number, &self.format).unwrap();
        assert_eq!(again.free, self.info.free);
        assert_eq!(again.cells, self.info.cells);
        assert_eq!(again.kind, self.info.kind);
        let mut covered = vec![false; self.format.usable];
        let mut cover = |start: usize, end: usize| {
            for byte in &mut covered[start..end] {
                assert!(!*byte);
                *byte = true;
            }
        };
        for block in space::blocks(&self.bytes, self.info.header(), Some(self.format.usable)) {
            let block = block.unwrap();
            cover(block.start, block.end);
        }
        for index in 0..self.node().cell_count() {
            let at = self.node().cell_position(index).unwrap();
            cover(at, at + self.node().cell(index).unwrap().size);
        }
        self.check_short_ways();
        let content = content_start(&self.bytes, self.info.header()).unwrap();
        assert_eq!(self.info.content as usize, content);
        let holes = covered[content..].iter().filter(|covered| !**covered).count();
        assert_eq!(holes, usize::from(self.bytes[self.info.header() + field::FRAGMENTS]));
    }
}

impl Sheet {
    /// The quick ways of reading a cell tell what the thorough one tells, and the heads are those
    /// of the cells (H1).
    fn check_short_ways(&self) {
        let (node, heads) = (self.node(), self.node().heads());
        assert!(heads.is_empty() || heads.len() == node.cell_count());
        for index in 0..node.cell_count() {
            let cell = node.cell(index).unwrap();
            let key = if node.kind().has_integer_keys() { cell.key } else { 0 };
            if let Some(payload) = node.quick_payload(index) {
                assert_eq!((payload, cell.overflow), (cell.local, 0));
            }
            if let Some(entry) = node.quick_entry(index) {
                let quick = (entry.key, node.payload_of(entry), entry.payload_size());
                assert_eq!((quick, cell.overflow), ((key, cell.local, cell.payload), 0));
            }
            if let Some(&head) = heads.get(index) {
                assert_eq!(head, head_of_integer(key));
            }
            if let Some(child) = node.child_behind_heads(index) {
                assert_eq!(Ok(child), u32_at(node.cell_bytes(index).unwrap(), 0));
            }
        }
        let known = (0..=node.cell_count()).filter(|&i| node.child_behind_heads(i).is_some());
        assert_eq!(known.count(), if node.is_leaf() { 0 } else { heads.len() });
    }

    /// The key of a cell among copies.
    fn key_of(&self, copies: &Copies, cell: Span) -> i64 {
        let cell = &copies.bytes[cell.range()];
        Node::decode_cell(cell, self.node().kind(), &self.format).unwrap().key
    }

    fn make_heads(&mut self) {
        let mut heads = self.info.take_heads();
        self.node().make_heads(&mut heads);
        let count = self.node().cell_count();
        self.info.set_heads(heads, count);
    }
}

/// Heads order as keys do, as far as they differ.
#[test]
fn heads_order_as_keys() {
    let numbers = [i64::MIN, -1000, -1, 0, 1, 127, 128, 1 << 40, i64::MAX];
    assert!(numbers.map(head_of_integer).is_sorted_by(|a, b| a < b));
    let strings: [&[u8]; 9] =
        [b"", b"\0", b"\0\0", b"a", b"a\0b", b"ab", b"abcdefg", b"abcdefgh", b"abcdefgi"];
    assert!(strings.map(head_of_bytes).is_sorted());
    for count in [0usize, 1, 2, 63, 64, 65, 300] {
        let heads: Vec<u64> = (0..count as u64).map(|head| 2 * head + 1).collect();
        for head in 0..2 * count as u64 + 2 {
            assert_eq!(place_of(head, &heads), (head / 2) as usize);
        }
    }
}

/// A table-leaf cell whose data are the low byte of the key, over and over.
fn table_leaf(key: i64, data: usize, format: &PageFormat) -> Vec<u8> {
    let mut cell = Vec::new();
    varint::push(data as u64, &mut cell);
    varint::push(key as u64, &mut cell);
    let kept = format.local_size(data, true);
    cell.resize(cell.len() + kept, key as u8);
    if kept < data {
        cell.extend([0, 0, 0, 77]);
    }
    cell.resize(cell.len().max(4), 0);
    cell
}

/// The cell of an interior page with integer keys.
fn table_interior(key: i64) -> Vec<u8> {
    let mut cell = (key as u32 % 1000 + 1).to_be_bytes().to_vec();
    varint::push(key as u64, &mut cell);
    cell
}

#[test]
fn many_cells_of_a_leaf_come_and_go_at_once() {
    many_cells_come_and_go_at_once(0x0d);
}

#[test]
fn many_cells_of_an_interior_page_come_and_go_at_once() {
    many_cells_come_and_go_at_once(0x05);
}

/// Cells of all sizes are exchanged for others at both ends, of a page that has no room to spare
/// and many small pieces of it.
fn many_cells_come_and_go_at_once(kind: u8) {
    let mut random = Random(7);
    let mut sheet = Sheet::new(1024, 0, page(2), kind);
    let mut keys: Vec<i64> = vec![1];
    let is_leaf = sheet.node().is_leaf();
    let cell_of = |key: i64, data: usize, format: &PageFormat| match is_leaf {
        true => table_leaf(key, data, format),
        false => table_interior(key << (7 * (data % 7))),
    };
    let first = cell_of(1, 0, &sheet.format);
    let mut with_heads = 0;
    sheet.edit().insert(0, &first).unwrap();
    for round in 0..3000 {
        if round % 5 == 0 {
            sheet.make_heads();
        }
        let start = random.below(keys.len());
        let end = start + 1 + random.below(keys.len() - start);
        let mut copies = Copies::default();
        copies.clear(round % 3 > 0);
        for range in [0..start, end..keys.len()] {
            sheet.node().cells().copy(range, &mut copies).unwrap();
        }
        let leaving = 0..copies.places.len();
        let mut room = sheet.node().free_bytes().unwrap();
        room += copies.places.iter().map(|cell| cell.size as usize + 2).sum::<usize>();
        let (first, mut new) = (copies.cells.len(), Vec::new());
        for _ in 0..random.below(150) {
            let key = random.below(100_000) as i64;
            // Often one of the sizes that leave.
            let cell = cell_of(key, random.below(6) * random.below(6), &sheet.format);
            let Some(left) = room.checked_sub(cell.len() + 2) else { break };
            room = left;
            let cell = copies.append(None, &cell, 0).unwrap();
            copies.push(&sheet.node(), cell).unwrap();
            new.push(sheet.key_of(&copies, cell));
        }
        let has_heads = !sheet.node().heads().is_empty();
        let (arriving, before) = (first..copies.cells.len(), random.below(new.len() + 1));
        let (copies, spare) = (&copies, &mut Vec::new());
        let moves = Moves { copies, leaving, arriving, before, spare };
        sheet.edit().exchange(start..end, &moves).unwrap();
        with_heads += usize::from(has_heads && !sheet.node().heads().is_empty());
        let (before, behind) = new.split_at(before);
        keys = [before, &keys[start..end], behind].concat();
        assert_eq!(sheet.space().0, room);
        sheet.check();
        let found = (0..keys.len()).map(|index| sheet.node().integer_key(index).unwrap());
        assert!(found.eq(keys.iter().copied()));
        assert_eq!(sheet.node().cell_count(), keys.len());
        let sizes = (0..keys.len()).map(|index| sheet.node().cell_bytes(index).unwrap().len() + 2);
        assert_eq!(sheet.node().used(), sizes.sum::<usize>());
    }
    assert!(with_heads > 200, "heads outlive an exchange: {with_heads}");
    // What does not fit is damage, and so is what is not there.
    let mut copies = Copies::default();
    for _ in 0..2 {
        let cell = copies.append(None, &[1; 600], 0).unwrap();
        copies.push(&sheet.node(), cell).unwrap();
    }
    let (copies, spare) = (&copies, &mut Vec::new());
    let mut moves = Moves { copies, leaving: 0..0, arriving: 0..2, before: 2, spare };
    assert!(sheet.edit().exchange(0..keys.len(), &moves).is_err());
    (moves.arriving, moves.before) = (0..0, 0);
    assert!(sheet.edit().exchange(0..1000, &moves).is_err());
    assert!(sheet.edit().exchange(1..1, &moves).is_err());
    assert!(sheet.node().cells().copy(0..1000, &mut Copies::default()).is_err());
    assert!(sheet.edit().remove_all(0..1000).is_err());
}

/// Rows 2 to 6 of the measured values: table 1 of a file with pages of 1024 bytes.
#[test]
fn the_measured_free_space_is_reproduced() {
    let mut sheet = Sheet::new(1024, 0, ONE, 13);
    for key in 1000..=1090 {
        sheet.insert(key, 5);
    }
    assert_eq!(sheet.space(), (6, 0));
    for key in (1001..1090).step_by(2) {
        sheet.remove(key);
    }
    assert_eq!(sheet.space(), (456, 45));
    sheet.insert(2000, 320);
    assert_eq!(sheet.space(), (130, 0));
    sheet.remove(1006);
    sheet.remove(1010);
    assert_eq!(sheet.space(), (150, 2));
    sheet.insert(1006, 5);
    assert_eq!(sheet.space(), (140, 1));
    let after = [(1012, 150, 2), (1008, 160, 2), (1030, 170, 3), (1034, 180, 4), (1032, 190, 3)];
    for (key, free, blocks) in after {
        sheet.remove(key);
        assert_eq!(sheet.space(), (free, blocks), "without {key}");
        sheet.check();
    }
}

#[test]
fn an_empty_page_is_all_gap() {
    let sheet = Sheet::new(1024, 0, page(3), 13);
    assert_eq!(sheet.space(), (1016, 0));
    assert_eq!(sheet.bytes[..8], [13, 0, 0, 0, 0, 4, 0, 0]);
    // 65536 does not fit the field.
    let sheet = Sheet::new(65536, 0, page(3), 5);
    assert_eq!(sheet.space(), (65524, 0));
    assert_eq!(sheet.bytes[..12], [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let sheet = Sheet::new(65536, 12, page(3), 13);
    assert_eq!(sheet.bytes[5..7], [0xff, 0xf4]);
    assert!(sheet.bytes[8..].iter().all(|&byte| byte == 0xee));
}

/// L50…: cells of every kind, current (D508, D509) and historic.
#[test]
fn cells_of_every_kind_decode() {
    let format = format(1024, 0);
    let decode = |kind: u8, bytes: &[u8]| {
        let cell = Node::decode_cell(bytes, NodeKind::new(kind).unwrap(), &format).unwrap();
        (cell.child, cell.key, cell.payload, cell.data, cell.header, cell.local.len(), cell.size)
    };
    let child = [0, 0, 1, 2];
    let with_child = |rest: &[u8]| [&child, rest].concat();
    let table = [3, 0x81, 0, 7, 7, 7];
    for leaf in [0x0d, 0x0c, 0x09] {
        assert_eq!(decode(leaf, &table), (0, 128, 3, 3, 3, 3, 6));
    }
    assert_eq!(decode(0x01, &with_child(&table)), (258, 128, 3, 3, 7, 3, 10));
    for interior in [0x05, 0x04, 0x03, 0x06, 0x07] {
        assert_eq!(decode(interior, &with_child(&[0x81, 0])), (258, 128, 0, 0, 6, 0, 6));
    }
    for keys in [0x0b, 0x0e, 0x0f] {
        assert_eq!(decode(keys, &[0x81, 0]), (0, 128, 0, 0, 2, 0, 4));
    }
    assert_eq!(decode(0x0a, &[2, 8, 9]), (0, 2, 2, 0, 1, 2, 4));
    // The padded leaf cell is not padded behind a child pointer (C16).
    assert_eq!(decode(0x02, &with_child(&[2, 8, 9])), (258, 2, 2, 0, 5, 2, 7));
    assert_eq!(decode(0x08, &[3, 2, 1, 1, 2, 2, 2]), (0, 2, 5, 3, 2, 5, 7));
    assert_eq!(decode(0x00, &with_child(&[3, 2, 1, 1, 2, 2, 2])), (258, 2, 5, 3, 6, 5, 11));
}

#[test]
fn a_long_payload_leaves_the_page() {
    let format = format(1024, 0);
    for (kind, length, local) in
        [(0x0d, 989, 989), (0x0d, 990, 103), (0x0a, 230, 230), (0x0a, 231, 103), (0x0a, 1130, 110)]
    {
        let mut bytes = Vec::new();
        varint::push(length, &mut bytes);
        if kind == 0x0d {
            bytes.push(1);
        }
        let header = bytes.len();
        bytes.resize(header + local, 5);
        bytes.extend([0, 0, 0, 9]);
        let kind = NodeKind::new(kind).unwrap();
        let cell = Node::decode_cell(&bytes, kind, &format).unwrap();
        assert_eq!((cell.local.len(), u64::from(cell.payload)), (local, length));
        let spilled = local as u64 != length;
        assert_eq!(cell.overflow, if spilled { 9 } else { 0 });
        assert_eq!(cell.size, header + local + if spilled { 4 } else { 0 });
        let short = &bytes[..cell.size - 1];
        assert!(Node::decode_cell(short, kind, &format).is_err());
    }
}

#[test]
fn integer_keys_of_every_length_are_found() {
    let keys: Vec<i64> = (0..=63)
        .flat_map(|bits| {
            let power = 1i64.wrapping_shl(bits);
            [power.wrapping_sub(1), power, power.wrapping_add(1), power.wrapping_neg()]
        })
        .collect();
    for kind in [0x0d, 0x05, 0x09, 0x01, 0x0b, 0x07] {
        let kind = NodeKind::new(kind).unwrap();
        for length in [0, 127, 128, 200] {
            for &key in &keys {
                let mut sheet = Sheet::new(512, 0, page(2), kind.byte());
                let mut cell = if kind.is_leaf() { vec![] } else { vec![0, 0, 0, 9] };
                let length = if kind.has_data() { length } else { 0 };
                if kind.has_data() {
                    varint::push(length as u64, &mut cell);
                }
                varint::push(key as u64, &mut cell);
                let table_leaf = kind.is_leaf_data() && kind.is_leaf();
                let kept = sheet.format.local_size(length, table_leaf);
                cell.resize(cell.len() + kept + if kept < length { 4 } else { 0 }, 1);
                sheet.edit().insert(0, &cell).unwrap();
                assert_eq!(sheet.node().integer_key(0), Ok(key));
                assert_eq!(sheet.node().cell(0).unwrap().key, key);
            }
        }
    }
}

/// D406, D407, D507: random inserts and removes against a plain vector, at all page sizes.
#[test]
fn a_node_is_an_ordered_list_of_cells() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for bits in 9..=16 {
        for (reserved, number) in [(0, ONE), (0, page(2)), (32, page(2)), (1, ONE)] {
            for longest in [3, 12, 60, 400] {
                run_against_a_vector(&mut random, 1 << bits, reserved, number, longest);
            }
        }
    }
}

fn run_against_a_vector(
    random: &mut Random,
    size: u32,
    reserved: u8,
    number: PageNumber,
    longest: usize,
) {
    let mut sheet = Sheet::new(size, reserved, number, 13);
    sheet.bytes[size as usize - usize::from(reserved)..].fill(0xab);
    let header: Vec<u8> = sheet.bytes[..sheet.info.header()].to_vec();
    let mut model: Vec<Vec<u8>> = Vec::new();
    let rounds = if size > 8192 { 300 } else { 600 };
    for round in 0..rounds {
        let index = random.below(model.len() + 1);
        // Phases of growing and of shrinking.
        if random.below(10) < [7, 2][round / 100 % 2] || model.is_empty() {
            let length = random.below(longest.min(sheet.format.max_leaf) + 1);
            let cell = table_leaf(random.next() as i64 >> random.below(64), length, &sheet.format);
            let fits = cell.len() + 2 <= sheet.space().0;
            sheet.edit().insert(index, &cell).unwrap();
            assert_eq!(sheet.node().parked_count(), usize::from(!fits));
            if fits {
                model.insert(index, cell);
            } else {
                assert_eq!(sheet.node().cell_bytes(index), Ok(cell.as_slice()));
                assert_eq!(sheet.node().total_count(), model.len() + 1);
                assert_eq!(sheet.node().is_parked_last_only(), index == model.len());
                let parked = sheet.edit().take_parked();
                assert_eq!(parked[0].index, index);
            }
        } else {
            let index = index.min(model.len() - 1);
            sheet.edit().remove(index).unwrap();
            model.remove(index);
        }
        if round % 16 == 0 {
            sheet.check();
            sheet.make_heads();
        }
        if model.is_empty() {
            assert_eq!(sheet.bytes[sheet.info.header() + field::FRAGMENTS], 0);
            assert_eq!(sheet.space().1, 0);
        }
    }
    let cells: Vec<&[u8]> =
        (0..sheet.node().total_count()).map(|i| sheet.node().cell_bytes(i).unwrap()).collect();
    assert_eq!(cells, model);
    sheet.check();
    let usable = sheet.format.usable;
    assert!(sheet.bytes[usable..].iter().all(|&byte| byte == 0xab), "reserved bytes are kept");
    assert_eq!(sheet.bytes[..header.len()], header, "the file header is kept");
}

#[test]
fn rebuilding_packs_the_first_cell_last() {
    for number in [ONE, page(9)] {
        let mut sheet = Sheet::new(1024, 0, number, 13);
        let cells: Vec<Vec<u8>> =
            (0..20).map(|key| table_leaf(key, key as usize, &sheet.format)).collect();
        let kind = NodeKind::new(13).unwrap();
        let (source, spans) = buffer_of(&cells, number == ONE);
        sheet.edit().rebuild(number, kind, &source, &spans).unwrap();
        sheet.check();
        assert_eq!(sheet.node().cell_position(0), Ok(1020));
        assert_eq!(sheet.space().1, 0);
        for (index, cell) in cells.iter().enumerate() {
            assert_eq!(sheet.node().cell_bytes(index), Ok(cell.as_slice()));
        }
        let (mut bytes, mut gathered) = (vec![7; 3], Vec::new());
        sheet.node().gather(&mut bytes, &mut gathered).unwrap();
        let again: Vec<&[u8]> = gathered.iter().map(|span| &bytes[span.range()]).collect();
        assert_eq!(again, cells);
        let (source, spans) = buffer_of(&[vec![1; 600], vec![1; 600]], false);
        assert!(matches!(
            sheet.edit().rebuild(number, kind, &source, &spans),
            Err(Error::Corrupt { .. })
        ));
    }
}

/// The cells in one buffer, in order, or the last one first as they stand on a page.
fn buffer_of(cells: &[Vec<u8>], as_on_page: bool) -> (Vec<u8>, Vec<Span>) {
    let mut bytes = Vec::new();
    let mut place = |cell: &Vec<u8>| {
        bytes.extend_from_slice(cell);
        Span { start: (bytes.len() - cell.len()) as u32, size: cell.len() as u32 }
    };
    let spans = if as_on_page {
        let mut spans: Vec<Span> = cells.iter().rev().map(&mut place).collect();
        spans.reverse();
        spans
    } else {
        cells.iter().map(&mut place).collect()
    };
    (bytes, spans)
}

#[test]
fn cells_shorter_than_four_bytes_are_padded() {
    let mut sheet = Sheet::new(512, 0, page(2), 0x0a);
    sheet.edit().insert(0, &[2, 8, 0]).unwrap();
    sheet.edit().insert(1, &[0]).unwrap();
    assert_eq!(sheet.node().cell_bytes(0), Ok([2, 8, 0, 0].as_slice()));
    assert_eq!(sheet.node().cell_bytes(1), Ok([0, 0, 0, 0].as_slice()));
    sheet.check();
    sheet.edit().remove(0).unwrap();
    sheet.check();
    sheet.edit().remove(0).unwrap();
    assert_eq!(sheet.space(), (504, 0));
}

/// What stands beside an interior node is true after each change, and most changes leave it there.
#[test]
fn children_stand_behind_the_heads_of_an_interior_node() {
    let mut random = Random(11);
    let mut sheet = Sheet::new(1024, 0, page(2), 0x05);
    sheet.edit().set_right_child(page(200)).unwrap();
    let divider = |random: &mut Random| {
        let child = 1 + random.below(1 << 20) as u32;
        let mut cell = child.to_be_bytes().to_vec();
        cell.extend([0x81, random.below(128) as u8]);
        cell
    };
    let mut kept = 0;
    for _ in 0..20_000 {
        let (count, has_heads) = (sheet.node().cell_count(), sheet.info.has_heads());
        if !has_heads && count > 0 {
            sheet.make_heads();
        }
        let index = random.below(count + 1);
        match random.below(5) {
            0 | 1 if sheet.node().free_bytes().unwrap() >= 8 => {
                let cell = divider(&mut random);
                sheet.edit().insert(index, &cell).unwrap();
            }
            2 if index < count => sheet.edit().remove(index).unwrap(),
            3 if index < count => {
                let cell = divider(&mut random);
                assert!(sheet.edit().overwrite(index, cell[..].into()).unwrap());
            }
            _ => {
                let child = 1 + random.below(1 << 20) as u32;
                sheet.edit().set_child(index, page(child)).unwrap();
                assert_eq!(sheet.node().child(index), Ok(child));
            }
        }
        kept += usize::from(sheet.info.has_heads());
        sheet.check_short_ways();
    }
    assert!(kept > 19_000);
    // A cell without a child is no cell: where one is put, nothing stands beside the page.
    sheet.make_heads();
    sheet.edit().overwrite(0, [0, 0, 0, 0, 0x81, 1][..].into()).unwrap();
    assert!(!sheet.info.has_heads() && sheet.node().child(0).is_err());
    sheet.make_heads();
    assert!(!sheet.info.has_heads() && sheet.node().child(0).is_err());
}

#[test]
fn children_are_replaced_in_the_body_and_among_the_parked() {
    let mut sheet = Sheet::new(512, 0, page(2), 0x05);
    let divider = |child: u8, key: u8| vec![0, 0, 0, child, key];
    sheet.edit().set_right_child(page(200)).unwrap();
    let mut keys = 0;
    while sheet.node().parked_count() < 3 {
        sheet.edit().insert(usize::from(keys), &divider(keys + 3, keys)).unwrap();
        keys += 1;
    }
    // One more in front moves the parked ones up by one.
    sheet.edit().insert(1, &divider(99, 0)).unwrap();
    let total = usize::from(keys) + 1;
    assert_eq!(sheet.node().total_count(), total);
    for index in 0..total {
        let expected = [1, 99][usize::from(index == 1)];
        let child = sheet.node().cell_bytes(index).unwrap()[3];
        if index == 1 {
            assert_eq!(child, expected);
        } else {
            assert_eq!(usize::from(child), index + 3 - usize::from(index > 1));
        }
        sheet.edit().set_child(index, page(1000 + index as u32)).unwrap();
    }
    sheet.edit().set_child(total, page(2000)).unwrap();
    assert_eq!(sheet.node().right_child(), Ok(2000));
    for index in 0..total {
        let cell = sheet.node().cell_bytes(index).unwrap();
        assert_eq!(u32_at(cell, 0), Ok(1000 + index as u32));
    }
    assert!(matches!(sheet.edit().remove(0), Err(Error::Corrupt { .. })));
    let parked = sheet.edit().take_parked();
    assert!(parked.is_sorted_by_key(|parked| parked.index));
    assert_eq!((parked.len(), sheet.node().parked_count()), (4, 0));
    sheet.edit().put_parked(parked);
    assert_eq!(sheet.node().parked_count(), 4);
    let mut leaf = Sheet::new(512, 0, page(2), 13);
    assert!(leaf.edit().set_right_child(page(3)).is_err());
    assert!(leaf.node().right_child().is_err());
}

/// D288: one poke per check that is made when a page is first used.
#[test]
fn impossible_headers_are_corrupt() {
    let mut good = Sheet::new(1024, 0, page(2), 13);
    for key in 0..40 {
        good.insert(key, 10);
    }
    for key in [10, 20, 30] {
        good.remove(key);
    }
    good.check();
    let first = usize::from(u16_at(&good.bytes, 1).unwrap());
    let pokes: &[(&str, usize, &[u8])] = &[
        ("kind", 0, &[0x1d]),
        ("kind", 0, &[0xff]),
        ("cell count", 3, &[0xff, 0xff]),
        ("cell count", 3, &[0, 200]),
        ("content behind the page", 5, &[4, 1]),
        ("content 65536", 5, &[0, 0]),
        ("content over the pointers", 5, &[0, 80]),
        ("free block over the content", 1, &[0, 90]),
        ("free block at the end", 1, &[3, 0xfd]),
        ("free block outside", 1, &[0xff, 0xff]),
        ("free block size", first + 2, &[0, 3]),
        ("free block size", first + 2, &[0xff, 0]),
        ("free block order", first, &[0, 90]),
        ("free block cycle", first, &[(first >> 8) as u8, first as u8]),
        ("interior without cells", 0, &[5, 0, 0, 0, 0]),
    ];
    for &(what, at, poke) in pokes {
        let mut bytes = good.bytes.clone();
        bytes[at..at + poke.len()].copy_from_slice(poke);
        let mut info = NodeInfo::default();
        let result = info.prepare(&bytes, page(2), &good.format);
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{what}: {result:?}");
        assert!(!info.is_ready());
    }
    // Page 1 alone may be interior without cells: its only child did not fit beside the header.
    let mut sheet = Sheet::new(1024, 0, ONE, 5);
    sheet.edit().set_right_child(page(2)).unwrap();
    sheet.check();
    assert_eq!(sheet.node().child(0), Ok(2));
}

/// D286: whatever the bytes, every call returns.
#[test]
fn damaged_pages_never_panic() {
    let mut random = Random(42);
    for round in 0..20_000 {
        let size = 512 << (random.below(8) * usize::from(round % 50 == 0));
        let number = if round % 3 == 0 { ONE } else { page(2) };
        let kind = [13, 13, 13, 5, 10, 2, 8, 0, 9, 1, 11, 7][random.below(12)];
        let mut sheet = Sheet::new(size, [0, 0, 7][random.below(3)], number, kind);
        let mut cells = random.below(30);
        while cells > 0 {
            let mut cell = vec![0; random.below(40) + 7];
            cell[random.below(7)] = random.next() as u8 >> random.below(8);
            let index = random.below(sheet.node().cell_count() + 1);
            sheet.edit().insert(index, &cell).unwrap_or_default();
            cells -= 1;
        }
        let start = sheet.info.header();
        for _ in 0..=random.below(6) {
            let near = if random.below(2) == 0 { 60 } else { sheet.bytes.len() - start };
            let at = start + random.below(near);
            sheet.bytes[at] = random.next() as u8;
        }
        let (format, bytes) = (sheet.format, sheet.bytes.clone());
        if sheet.info.prepare(&bytes, number, &format).is_ok() {
            torment(&mut sheet, &mut random);
        }
    }
}

fn torment(sheet: &mut Sheet, random: &mut Random) {
    for _ in 0..12 {
        let count = sheet.node().cell_count();
        let index = random.below(count + 2);
        let _ = sheet.node().cell(index);
        let _ = sheet.node().cell_bytes(index);
        let _ = sheet.node().integer_key(index);
        let _ = sheet.node().child(index);
        let _ = sheet.node().free_block_count();
        let _ = match random.below(3) {
            0 => sheet.edit().insert(index, &vec![3; random.below(300)]),
            1 => sheet.edit().remove(index),
            _ => sheet.edit().set_child(index, page(5)),
        };
        let _ = sheet.edit().take_parked();
        assert!(sheet.node().free_bytes().unwrap() <= sheet.format.usable);
    }
}
