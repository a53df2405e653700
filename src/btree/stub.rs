//! Signatures of the engine, to be replaced file by file.
#![allow(missing_docs, unused_variables, clippy::todo)]
use super::*;
use std::cmp::Ordering;

impl Btree {
    pub fn open(vfs: Arc<dyn Vfs>, name: impl AsRef<Path>, options: &Options) -> Result<Btree> {
        todo!()
    }
    pub fn close(self) {
        todo!()
    }
    pub fn path(&self) -> Option<&Path> {
        todo!()
    }
    pub fn journal_path(&self) -> Option<&Path> {
        todo!()
    }
    pub fn is_memory(&self) -> bool {
        todo!()
    }
    pub fn is_temporary(&self) -> bool {
        todo!()
    }
    pub fn is_read_only(&self) -> bool {
        todo!()
    }
    pub fn cache_size(&self) -> i32 {
        todo!()
    }
    pub fn set_cache_size(&mut self, pages: i32) {
        todo!()
    }
    pub fn page_size(&self) -> PageSize {
        todo!()
    }
    pub fn reserved(&self) -> u8 {
        todo!()
    }
    pub fn set_page_size(
        &mut self,
        size: Option<PageSize>,
        reserved: Option<u8>,
        fix: bool,
    ) -> Result<()> {
        todo!()
    }
    pub fn auto_vacuum(&self) -> AutoVacuum {
        todo!()
    }
    pub fn set_auto_vacuum(&mut self, mode: AutoVacuum) -> Result<()> {
        todo!()
    }
    pub fn page_limit(&self) -> u32 {
        todo!()
    }
    pub fn set_page_limit(&mut self, pages: u32) -> u32 {
        todo!()
    }
    pub fn locking_mode(&self) -> LockingMode {
        todo!()
    }
    pub fn set_locking_mode(&mut self, m: LockingMode) -> LockingMode {
        todo!()
    }
    pub fn journal_mode(&self) -> JournalMode {
        todo!()
    }
    pub fn set_journal_mode(&mut self, m: JournalMode) -> Result<JournalMode> {
        todo!()
    }
    pub fn journal_size_limit(&self) -> i64 {
        todo!()
    }
    pub fn set_journal_size_limit(&mut self, bytes: i64) {
        todo!()
    }
    pub fn safety_level(&self) -> SafetyLevel {
        todo!()
    }
    pub fn set_safety_level(&mut self, level: SafetyLevel, full_sync: bool) {
        todo!()
    }
    pub fn is_sync_disabled(&self) -> bool {
        todo!()
    }
    pub fn set_busy_handler(&mut self, handler: Option<BusyHandler>) {
        todo!()
    }
    pub fn cursor_locks(&self) -> bool {
        todo!()
    }
    pub fn set_cursor_locks(&mut self, on: bool) {
        todo!()
    }
    pub fn stats(&self) -> PagerStats {
        todo!()
    }
    pub fn pinned_pages(&self) -> Vec<(PageNumber, u32)> {
        todo!()
    }
    pub fn page_count(&self) -> u32 {
        todo!()
    }
    pub fn begin(&mut self, kind: TransactionKind) -> Result<()> {
        todo!()
    }
    pub fn commit(&mut self) -> Result<()> {
        todo!()
    }
    pub fn commit_phase_one(&mut self, super_journal: Option<&Path>) -> Result<()> {
        todo!()
    }
    pub fn commit_phase_two(&mut self) -> Result<()> {
        todo!()
    }
    pub fn rollback(&mut self) -> Result<()> {
        todo!()
    }
    pub fn is_reading(&self) -> bool {
        todo!()
    }
    pub fn is_writing(&self) -> bool {
        todo!()
    }
    pub fn begin_statement(&mut self) -> Result<()> {
        todo!()
    }
    pub fn commit_statement(&mut self) -> Result<()> {
        todo!()
    }
    pub fn rollback_statement(&mut self) -> Result<()> {
        todo!()
    }
    pub fn open_savepoints(&mut self, count: usize) -> Result<()> {
        todo!()
    }
    pub fn release_savepoint(&mut self, index: usize) -> Result<()> {
        todo!()
    }
    pub fn rollback_savepoint(&mut self, index: Option<usize>) -> Result<()> {
        todo!()
    }
    pub fn create_table(&mut self, flags: u8) -> Result<PageNumber> {
        todo!()
    }
    pub fn drop_table(&mut self, root: u32) -> Result<Option<PageNumber>> {
        todo!()
    }
    pub fn clear_table(&mut self, root: u32) -> Result<u64> {
        todo!()
    }
    pub fn meta(&mut self, slot: usize) -> Result<u32> {
        todo!()
    }
    pub fn meta_list(&mut self) -> Result<[u32; 10]> {
        todo!()
    }
    pub fn set_meta(&mut self, slot: usize, value: u32) -> Result<()> {
        todo!()
    }
    pub fn set_meta_list(&mut self, values: &[u32; 9]) -> Result<()> {
        todo!()
    }
    pub fn incremental_vacuum(&mut self) -> Result<bool> {
        todo!()
    }
    pub fn open_cursor(&mut self, root: PageNumber, writable: bool) -> Result<CursorId> {
        todo!()
    }
    pub fn close_cursor(&mut self, cursor: CursorId) {
        todo!()
    }
    pub fn first(&mut self, cursor: CursorId) -> Result<bool> {
        todo!()
    }
    pub fn last(&mut self, cursor: CursorId) -> Result<bool> {
        todo!()
    }
    pub fn next(&mut self, cursor: CursorId) -> Result<bool> {
        todo!()
    }
    pub fn previous(&mut self, cursor: CursorId) -> Result<bool> {
        todo!()
    }
    pub fn seek(&mut self, cursor: CursorId, key: Key<'_>) -> Result<Ordering> {
        todo!()
    }
    pub fn is_at_end(&self, cursor: CursorId) -> bool {
        todo!()
    }
    pub fn has_integer_keys(&mut self, cursor: CursorId) -> Result<bool> {
        todo!()
    }
    pub fn integer_key(&mut self, cursor: CursorId) -> Result<i64> {
        todo!()
    }
    pub fn key_size(&mut self, cursor: CursorId) -> Result<u64> {
        todo!()
    }
    pub fn data_size(&mut self, cursor: CursorId) -> Result<u32> {
        todo!()
    }
    pub fn payload_size(&mut self, cursor: CursorId) -> Result<u32> {
        todo!()
    }
    pub fn key(&mut self, cursor: CursorId) -> Result<Vec<u8>> {
        todo!()
    }
    pub fn data(&mut self, cursor: CursorId) -> Result<Vec<u8>> {
        todo!()
    }
    pub fn read_key(&mut self, cursor: CursorId, offset: u32, out: &mut [u8]) -> Result<()> {
        todo!()
    }
    pub fn read_data(&mut self, cursor: CursorId, offset: u32, out: &mut [u8]) -> Result<()> {
        todo!()
    }
    pub fn local_key(&mut self, cursor: CursorId) -> Result<&[u8]> {
        todo!()
    }
    pub fn local_data(&mut self, cursor: CursorId) -> Result<&[u8]> {
        todo!()
    }
    pub fn count(&mut self, cursor: CursorId) -> Result<u64> {
        todo!()
    }
    pub fn clear_cursor(&mut self, cursor: CursorId) {
        todo!()
    }
    pub fn cursor_has_moved(&mut self, cursor: CursorId) -> Result<bool> {
        todo!()
    }
    pub fn insert(
        &mut self,
        cursor: CursorId,
        key: Key<'_>,
        data: &[u8],
        zeros: u32,
    ) -> Result<()> {
        todo!()
    }
    pub fn delete(&mut self, cursor: CursorId) -> Result<()> {
        todo!()
    }
    pub fn cursor_info(&mut self, cursor: CursorId, up: u32) -> Result<CursorInfo> {
        todo!()
    }
    pub fn overflow_pages(&mut self, cursor: CursorId) -> Result<Vec<PageNumber>> {
        todo!()
    }
    pub fn cursors(&self) -> Vec<CursorSummary> {
        todo!()
    }
    pub fn integrity_check(&mut self, roots: &[i64], limit: usize) -> Result<Vec<String>> {
        todo!()
    }
    pub fn dump_page(&mut self, page: PageNumber, out: &mut String) -> Result<()> {
        todo!()
    }
    pub fn dump_tree(&mut self, root: PageNumber, out: &mut String) -> Result<()> {
        todo!()
    }
    pub fn page_details(&mut self, page: PageNumber) -> Result<PageDetails> {
        todo!()
    }
    pub fn pointer_map_entry(&mut self, page: PageNumber) -> Result<(u8, u32)> {
        todo!()
    }
    pub fn free_pages(&mut self) -> Result<Vec<PageNumber>> {
        todo!()
    }
}
