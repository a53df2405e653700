use super::super::{IntegerForms, encode};
use super::*;
use crate::error::Error;

fn text(text: &str) -> Field {
    Field::Text(text.as_bytes().to_vec())
}

fn blob(bytes: &[u8]) -> Field {
    Field::Blob(bytes.to_vec())
}

fn stored(fields: &[Field]) -> Vec<u8> {
    encode(fields, IntegerForms::All)
}

/// How the record `entry` compares with `key`, in steps of as many bytes as are asked for. Every
/// beginning of the entry must say the same or nothing.
fn order(entry: &[u8], key: &mut RecordKey<'_>) -> Result<Ordering> {
    let mut at_hand = 0;
    let found = loop {
        match key.compare(&entry[..at_hand], entry.len())? {
            Comparison::Decided(found) => break found,
            Comparison::Undecided(wanted) => {
                assert!(wanted > at_hand && wanted <= entry.len(), "{at_hand} {wanted}");
                at_hand = wanted;
            }
        }
    };
    for length in 0..=entry.len() {
        match key.compare(&entry[..length], entry.len())? {
            Comparison::Decided(other) => assert_eq!(other, found, "{length} bytes of {entry:?}"),
            Comparison::Undecided(wanted) => assert!(wanted > length && wanted <= entry.len()),
        }
    }
    Ok(found)
}

fn compare(entry: &[Field], key: &[Field], info: &KeyInfo, mode: SearchMode) -> Ordering {
    let entry = stored(entry);
    order(&entry, &mut RecordKey::new(key, info, mode)).unwrap()
}

/// One value of every kind and at every edge, in order; equal ones share a line.
fn ladder() -> Vec<Vec<Field>> {
    let (int, real) = (Field::Integer, Field::Real);
    vec![
        vec![Field::Null, real(f64::NAN)],
        vec![real(f64::NEG_INFINITY)],
        vec![real(-1e19)],
        vec![int(i64::MIN), real(i64::MIN as f64)],
        vec![int(i64::MIN + 1)],
        vec![int(-9_007_199_254_740_993)],
        vec![int(-9_007_199_254_740_992), real(-9_007_199_254_740_992.0)],
        vec![int(-129)],
        vec![int(-2)],
        vec![real(-1.5)],
        vec![int(-1), real(-1.0)],
        vec![real(-0.5)],
        vec![int(0), real(0.0), real(-0.0)],
        vec![real(f64::MIN_POSITIVE)],
        vec![int(1), real(1.0)],
        vec![real(1.5)],
        vec![int(2)],
        vec![int(9_007_199_254_740_992), real(9_007_199_254_740_992.0)],
        vec![int(9_007_199_254_740_993)],
        vec![int(i64::MAX)],
        vec![real(9_223_372_036_854_775_808.0)],
        vec![real(f64::INFINITY)],
        vec![text("")],
        vec![text("A")],
        vec![text("a")],
        vec![text("a\0")],
        vec![text("ab")],
        vec![text(&"b".repeat(300))],
        vec![blob(b"")],
        vec![blob(b"A")],
        vec![blob(b"AA")],
        vec![blob(&[0xff; 200])],
    ]
}

/// D187: every pair of values, ascending and descending.
#[test]
fn values_order_by_kind_and_then_by_value() {
    let up = KeyInfo::new();
    let down = KeyInfo::new().with(Collation::Binary, Direction::Descending);
    let ladder = ladder();
    for (i, one) in ladder.iter().enumerate() {
        for (j, other) in ladder.iter().enumerate() {
            for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                let (a, b) = (std::slice::from_ref(a), std::slice::from_ref(b));
                let mode = SearchMode::default();
                assert_eq!(compare(a, b, &up, mode), i.cmp(&j), "{a:?} {b:?}");
                assert_eq!(compare(a, b, &down, mode), j.cmp(&i), "{a:?} {b:?}");
            }
        }
    }
}

/// D187: the first field that differs decides, and a shorter record is smaller, in descending order
/// as well.
#[test]
fn fields_decide_one_after_the_other() {
    let info = KeyInfo::new()
        .with(Collation::NoCase, Direction::Ascending)
        .with(Collation::Binary, Direction::Descending);
    let at = |name: &str, numbers: &[i64]| {
        let numbers = numbers.iter().map(|&number| Field::Integer(number));
        [text(name)].into_iter().chain(numbers).collect::<Vec<_>>()
    };
    let rows = [
        at("A", &[]),
        at("a", &[5]),
        at("A", &[5, 1]),
        at("a", &[5, 2]),
        at("a", &[4]),
        at("a", &[4, -3, 7]),
        at("B", &[9]),
    ];
    for (i, a) in rows.iter().enumerate() {
        for (j, b) in rows.iter().enumerate() {
            assert_eq!(compare(a, b, &info, SearchMode::default()), i.cmp(&j), "{a:?} {b:?}");
        }
    }
}

/// D189 to D193: the four modes, alone and together.
#[test]
fn modes_change_what_counts_as_equal() {
    use Ordering::{Equal, Greater, Less};
    let info = KeyInfo::new();
    let int = |numbers: &[i64]| numbers.iter().map(|&n| Field::Integer(n)).collect::<Vec<_>>();
    let mode = |ignore_rowid, increment_key, prefix_match| SearchMode {
        ignore_rowid,
        increment_key,
        prefix_match,
        prefix_search: false,
    };
    // Entry, key, and the order without a mode, then with rowid ignored, key incremented, prefix
    // matched; then ignored and incremented, ignored and matched, incremented and matched.
    let cases: [(&[i64], &[i64], [Ordering; 7]); 8] = [
        (&[7, 2], &[7], [Greater, Equal, Less, Equal, Less, Equal, Less]),
        (&[7, 2], &[7, 2], [Equal, Less, Less, Equal, Less, Less, Less]),
        (&[7, 2], &[7, 1], [Greater, Less, Greater, Greater, Less, Less, Greater]),
        (&[7, 2], &[8], [Less; 7]),
        (&[7, 2], &[6], [Greater; 7]),
        (&[7, 2, 3], &[7], [Greater, Greater, Less, Equal, Less, Equal, Less]),
        (&[7], &[7, 2], [Less; 7]),
        (&[], &[], [Equal, Equal, Less, Equal, Less, Equal, Less]),
    ];
    let modes = [
        mode(false, false, false),
        mode(true, false, false),
        mode(false, true, false),
        mode(false, false, true),
        mode(true, true, false),
        mode(true, false, true),
        mode(false, true, true),
    ];
    for (entry, key, orders) in cases {
        for (mode, want) in modes.into_iter().zip(orders) {
            let found = compare(&int(entry), &int(key), &info, mode);
            assert_eq!(found, want, "{entry:?} {key:?} {mode:?}");
        }
    }
}

/// D192: the rowid of an entry that differs in that alone is reported, the first one met.
#[test]
fn a_prefix_search_reports_the_rowid_of_another_entry() {
    let info = KeyInfo::new();
    let mode = SearchMode { prefix_search: true, ..SearchMode::default() };
    let key = [text("k"), Field::Integer(9)];
    let mut search = RecordKey::new(&key, &info, mode);
    let others: [&[Field]; 5] = [
        &[text("k")],
        &[text("k"), Field::Integer(9)],
        &[text("j"), Field::Integer(5)],
        &[text("k"), Field::Real(5.5)],
        &[text("k"), Field::Integer(5), Field::Integer(6)],
    ];
    for other in others {
        search.compare(&stored(other), stored(other).len()).unwrap();
        assert_eq!(search.reported_rowid(), None, "{other:?}");
    }
    for rowid in [5, 6] {
        let entry = stored(&[text("k"), Field::Integer(rowid)]);
        let found = search.compare(&entry, entry.len());
        assert_eq!(found, Ok(Comparison::Decided(Ordering::Less)));
        assert_eq!(search.reported_rowid(), Some(5));
    }
}

/// Any bytes as an entry: an order or `Corrupt`, and never more bytes asked for than there are.
#[test]
fn damaged_entries_have_an_order_or_are_corrupt() {
    let info = KeyInfo::new().with(Collation::NoCase, Direction::Descending);
    let fields = [text("Abc"), Field::Integer(300), Field::Real(0.5), blob(b"xyz")];
    let sound = stored(&fields);
    let mut corrupt = 0;
    for at in 0..sound.len() {
        for byte in 0..=u8::MAX {
            let mut entry = sound.clone();
            entry[at] = byte;
            match order(&entry, &mut RecordKey::new(&fields, &info, SearchMode::default())) {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error, Error::Corrupt { .. }));
                    corrupt += 1;
                }
            }
        }
    }
    assert!(corrupt > 100);
    for entry in [&[][..], &[0], &[5, 0], &[2, 10], &[2, 11], &[2, 0xff], &[0x81], &[0xff; 12]] {
        let mut key = RecordKey::new(&fields, &info, SearchMode::default());
        assert!(order(entry, &mut key).is_err(), "{entry:?}");
    }
}
