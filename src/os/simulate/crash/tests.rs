use super::*;
use crate::format::LockPage;
use crate::os::simulate::scramble;
use crate::os::{Access, OpenKind};

const CREATE: OpenRequest = OpenRequest {
    kind: OpenKind::Database,
    access: Access::Create,
    exclusive: false,
    delete_on_close: false,
    lock_offset: LockPage::STANDARD_OFFSET,
};

fn open(disk: &CrashDisk, path: &str) -> Box<dyn File> {
    disk.open(Some(Path::new(path)), CREATE).unwrap().file
}

fn content<'a>(image: &'a DiskImage, path: &str) -> Option<&'a [u8]> {
    image.content(Path::new(path))
}

#[test]
fn a_kill_keeps_the_changes_made_and_may_cut_the_last() {
    let disk = CrashDisk::new();
    let mut file = open(&disk, "/t");
    file.write_at(b"abcd", 0).unwrap();
    file.write_at(b"XYZ", 2).unwrap();
    file.truncate(1).unwrap();
    disk.delete(Path::new("/t"), false).unwrap();
    assert_eq!(disk.change_count(), 5);
    assert_eq!(
        (1..=5).map(|n| disk.write_length(n)).collect::<Vec<_>>(),
        [None, Some(4), Some(3), None, None]
    );
    let expected: [Option<&[u8]>; 6] =
        [None, Some(b""), Some(b"abcd"), Some(b"abXYZ"), Some(b"a"), None];
    for (after, expected) in expected.into_iter().enumerate() {
        assert_eq!(content(&disk.killed(after, None), "/t"), expected, "{after}");
    }
    let cuts: [&[u8]; 4] = [b"abcd", b"abXd", b"abXY", b"abXYZ"];
    for (cut, expected) in cuts.into_iter().enumerate() {
        assert_eq!(content(&disk.killed(3, Some(cut)), "/t"), Some(expected));
    }
    assert_eq!(content(&disk.killed(4, Some(0)), "/t"), Some(b"a".as_slice()));
    assert_eq!(disk.killed(99, None), disk.killed(5, None));
}

#[test]
fn names_wait_for_their_directory() {
    let disk = CrashDisk::new();
    drop(open(&disk, "/a"));
    disk.sync_directory(Path::new("/a")).unwrap();
    disk.delete(Path::new("/a"), false).unwrap();
    drop(open(&disk, "/b"));
    let lost = disk.power_lost(disk.change_count(), Unsynced::Lose);
    assert_eq!((content(&lost, "/a"), content(&lost, "/b")), (Some([].as_slice()), None));
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let image = disk.power_lost(disk.change_count(), Unsynced::Part { seed });
        seen.insert((image.content(Path::new("/a")).is_some(), content(&image, "/b").is_some()));
    }
    // In order: the deletion of /a may be lost only together with the creation of /b.
    assert_eq!(Vec::from_iter(seen), [(false, false), (false, true), (true, false)]);
    disk.delete(Path::new("/b"), true).unwrap();
    assert_eq!(disk.power_lost(disk.change_count(), Unsynced::Lose), DiskImage::default());
}

/// What a file was at some moment.
type Versions = BTreeMap<PathBuf, Vec<Vec<u8>>>;

/// Random work on two files; the contents that each had since its last sync, the synced first.
fn work(disk: &CrashDisk, steps: u64, seed: u64) -> Versions {
    let paths = ["/x", "/y"];
    let mut files = paths.map(|path| open(disk, path));
    disk.sync_directory(Path::new("/x")).unwrap();
    let mut versions: Versions = paths.map(|path| (path.into(), vec![vec![]])).into();
    for step in 0..steps {
        let random = scramble(seed * 1_000 + step);
        let which = (random >> 20) as usize % 2;
        let (path, file) = (Path::new(paths[which]), &mut files[which]);
        let at = random % 3_000;
        match (random >> 32) % 10 {
            0 => file.truncate(at).unwrap(),
            1 => file.sync(SyncKind::Normal).unwrap(),
            _ => file.write_at(&vec![step as u8 + 1; (random >> 40) as usize % 1_500], at).unwrap(),
        }
        let now = disk.live.content(path).unwrap();
        let row = versions.get_mut(path).unwrap();
        if (random >> 32) % 10 == 1 {
            row.clear();
        }
        row.push(now);
    }
    versions
}

fn sector_of(content: &[u8], number: usize) -> [u8; 512] {
    let mut sector = [0; 512];
    for (to, from) in sector.iter_mut().zip(content.iter().skip(number * 512)) {
        *to = *from;
    }
    sector
}

// The crash model: each sector has some version since the last sync, the size is one it had.
#[test]
fn a_power_loss_mixes_the_versions_since_the_last_sync() {
    let (mut images, mut mixed) = (0, 0);
    for seed in 0..60 {
        let disk = CrashDisk::new();
        let versions = work(&disk, 5 + seed % 30, seed);
        let end = disk.change_count();
        assert_eq!(disk.power_lost(end, Unsynced::Keep), disk.killed(end, None));
        let lost = disk.power_lost(end, Unsynced::Lose);
        for (path, row) in &versions {
            assert_eq!(lost.content(path), Some(row[0].as_slice()));
        }
        for choice in 0..8 {
            let fate = Unsynced::Part { seed: choice };
            let image = disk.power_lost(end, fate);
            assert_eq!(image, disk.power_lost(end, fate), "equal seeds, equal images");
            for (path, row) in &versions {
                let found = image.content(path).unwrap();
                assert!(row.iter().any(|version| version.len() == found.len()));
                images += 1;
                mixed += u32::from(!row.iter().any(|version| version == found));
                for number in 0..found.len().div_ceil(512) {
                    let sector = sector_of(found, number);
                    let room = found.len() - number * 512;
                    assert!(
                        row.iter().any(|version| {
                            let version = sector_of(version, number);
                            let fits = room.min(512);
                            version[..fits] == sector[..fits]
                        }),
                        "seed {seed}/{choice}: sector {number} has a version it never had"
                    );
                }
            }
        }
    }
    assert!(mixed * 4 > images, "{mixed} of {images} images are no mere moment of the past");
}

#[test]
fn keeping_everything_is_a_kill_after_every_change() {
    for seed in 0..10 {
        let disk = CrashDisk::new();
        work(&disk, 60, seed);
        for after in 0..=disk.change_count() {
            assert_eq!(disk.power_lost(after, Unsynced::Keep), disk.killed(after, None));
        }
    }
}

#[test]
fn images_become_disks_again() {
    let disk = CrashDisk::new();
    let mut file = open(&disk, "/dir/t");
    file.write_at(b"content", 0).unwrap();
    let mut unnamed = disk.open(None, CREATE).unwrap().file;
    unnamed.write_at(b"x", 0).unwrap();
    let hidden = OpenRequest { delete_on_close: true, ..CREATE };
    disk.open(Some(Path::new("/h")), hidden).unwrap().file.write_at(b"x", 0).unwrap();
    assert_eq!(disk.change_count(), 2, "what has no name leaves no trace");
    let image = disk.killed(2, None);
    assert_eq!(image.to_memory().content(Path::new("/dir/t")).unwrap(), b"content");

    let second = CrashDisk::starting_from(&image);
    assert_eq!(second.power_lost(0, Unsynced::Lose), image);
    open(&second, "/dir/t").write_at(b"C", 0).unwrap();
    assert_eq!(content(&second.killed(1, None), "/dir/t"), Some(b"Content".as_slice()));
    assert_eq!(second.power_lost(1, Unsynced::Lose), image);

    let root = std::env::temp_dir().join(format!("tclbtree-image-{}", std::process::id()));
    image.write_to(&root).unwrap();
    assert_eq!(std::fs::read(root.join("dir/t")).unwrap(), b"content");
    std::fs::remove_dir_all(root).unwrap();
}
