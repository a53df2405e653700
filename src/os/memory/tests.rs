use super::*;
use crate::format::LockPage;
use crate::os::OpenKind;

const CREATE: OpenRequest = OpenRequest {
    kind: OpenKind::Database,
    access: Access::Create,
    exclusive: false,
    delete_on_close: false,
    lock_offset: LockPage::STANDARD_OFFSET,
};

#[test]
fn named_files_are_shared_and_unnamed_ones_are_not() {
    let vfs = MemoryVfs::new();
    let path = vfs.full_path(Path::new("a/../t.db")).unwrap();
    assert_eq!(path, Path::new("/t.db"));
    let mut first = vfs.open(Some(&path), CREATE).unwrap().file;
    let second = vfs.clone().open(Some(&path), CREATE).unwrap().file;
    assert!(!vfs.exists(&path).unwrap());
    first.write_at(b"ab", 2).unwrap();
    let mut buffer = [9; 6];
    assert_eq!(second.read_at(&mut buffer, 0).unwrap(), 4);
    assert_eq!(&buffer, b"\0\0ab\0\0");
    assert_eq!(vfs.content(&path).unwrap(), b"\0\0ab");
    assert_eq!(vfs.paths(), std::slice::from_ref(&path));

    let mut unnamed = vfs.open(None, CREATE).unwrap().file;
    unnamed.write_at(b"x", 0).unwrap();
    assert_eq!(vfs.open(None, CREATE).unwrap().file.size().unwrap(), 0);
    assert!(MemoryVfs::new().open(Some(&path), CREATE).unwrap().file.size().unwrap() == 0);
}

#[test]
fn a_deleted_file_lives_on_in_its_handles() {
    let vfs = MemoryVfs::new();
    let path = Path::new("/t.db");
    let mut file = vfs.open(Some(path), CREATE).unwrap().file;
    file.write_at(b"content", 0).unwrap();
    assert!(!file.has_moved().unwrap());
    vfs.delete(path, true).unwrap();
    vfs.delete(path, true).unwrap();
    assert!(file.has_moved().unwrap());
    assert_eq!(file.size().unwrap(), 7);
    let must_exist = OpenRequest { access: Access::ReadWrite, ..CREATE };
    assert!(matches!(vfs.open(Some(path), must_exist), Err(Error::CannotOpen(_))));
    drop(vfs.open(Some(path), CREATE).unwrap());
    let exclusive = OpenRequest { exclusive: true, ..CREATE };
    assert!(matches!(vfs.open(Some(path), exclusive), Err(Error::CannotOpen(_))));
    vfs.put(path, vec![1, 2, 3]);
    let reader = OpenRequest { access: Access::ReadOnly, ..CREATE };
    let mut opened = vfs.open(Some(path), reader).unwrap();
    assert!(opened.read_only);
    assert_eq!(opened.file.write_at(b"x", 0), Err(Error::Permission));
    assert_eq!(opened.file.truncate(0), Err(Error::Permission));
}

#[test]
fn sizes_follow_writes_and_truncations() {
    let vfs = MemoryVfs::new();
    let mut file = vfs.open(None, CREATE).unwrap().file;
    let mut model: Vec<u8> = Vec::new();
    for step in 0..2_000u64 {
        let random = super::super::simulate::scramble(step);
        let (at, length) = ((random % 97) as usize, (random >> 8) as usize % 40);
        if random >> 60 == 0 {
            file.truncate(at as u64).unwrap();
            model.resize(at, 0);
        } else {
            let bytes = vec![step as u8; length];
            file.write_at(&bytes, at as u64).unwrap();
            if length > 0 {
                model.resize(model.len().max(at + length), 0);
                model[at..at + length].copy_from_slice(&bytes);
            }
        }
        let expected = if model.len() == 1 { 0 } else { model.len() as u64 };
        assert_eq!(file.size().unwrap(), expected);
        let mut found = vec![7; model.len() + 3];
        assert_eq!(file.read_at(&mut found, 0).unwrap(), model.len());
        assert_eq!(found[..model.len()], model);
    }
    assert_eq!(file.read_at(&mut [0; 4], u64::MAX).unwrap(), 0);
    assert_eq!(file.write_at(b"x", u64::MAX), Err(Error::Full));
    assert_eq!(file.truncate(u64::MAX), Err(Error::NoMemory));
}

#[test]
fn random_numbers_repeat_with_each_new_disk() {
    let draw = |vfs: MemoryVfs| [vfs.random(), vfs.random(), vfs.random()];
    assert_eq!(draw(MemoryVfs::new()), draw(MemoryVfs::new()));
    let row = draw(MemoryVfs::new());
    assert!(row[0] != row[1] && row[1] != row[2]);
}
