//! Clients: what C programs keep in their `sqlite3` handle hangs here on a name given by `-db`, or,
//! without one, on the database alone (D132).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::result_code::Failure;
use super::{Database, Session, no_such};
use crate::btree;
use crate::error::Error;

/// Who opens databases.
#[derive(Debug)]
pub(in crate::tcl) struct Client {
    name: Option<String>,
    /// The same client among all that share page caches.
    pub(in crate::tcl) engine: btree::Client,
    /// The numbers of its open databases, in the order of opening.
    databases: RefCell<Vec<u64>>,
    /// The script that is asked when a file is locked.
    busy_handler: RefCell<Option<String>>,
    reads_uncommitted: Cell<bool>,
    savepoints: Cell<usize>,
    undo_in_memory: Cell<bool>,
}

impl Session {
    /// The client of this name, made if there is none; without a name always a new one.
    pub(in crate::tcl) fn client(&self, name: Option<String>) -> Rc<Client> {
        let known = name.as_ref().and_then(|name| self.clients.borrow().get(name).cloned());
        known.unwrap_or_else(|| {
            Rc::new(Client {
                name,
                engine: super::super::commands::new_client(),
                databases: RefCell::default(),
                busy_handler: RefCell::default(),
                reads_uncommitted: Cell::default(),
                savepoints: Cell::default(),
                undo_in_memory: Cell::default(),
            })
        })
    }

    /// The client of this name, if it has a database open.
    pub(in crate::tcl) fn client_of_name(&self, name: &str) -> Option<Rc<Client>> {
        self.clients.borrow().get(name).cloned()
    }

    /// The client that a word names: its name, or the handle of a database of it.
    ///
    /// # Errors
    /// `no such client: "X"`.
    pub(in crate::tcl) fn client_named(&self, word: &[u8]) -> Result<Rc<Client>, Failure> {
        let name = String::from_utf8_lossy(&super::super::value::to_utf8(word)).into_owned();
        if let Some(client) = self.clients.borrow().get(&name) {
            return Ok(Rc::clone(client));
        }
        let database = self.database(word).map_err(|_| no_such("client", word))?;
        Ok(Rc::clone(&database.client))
    }

    /// Notes that the database is one of its client's, and sets it up as such.
    pub(super) fn join_client(&self, database: &Database) {
        let client = &database.client;
        client.databases.borrow_mut().push(database.number);
        if let Some(name) = &client.name {
            self.clients.borrow_mut().insert(name.clone(), Rc::clone(client));
        }
        self.set_up(client, database);
    }

    /// Notes that a database is closed; a client without one is forgotten.
    pub(super) fn leave_client(&self, database: &Database) {
        let client = &database.client;
        client.databases.borrow_mut().retain(|&number| number != database.number);
        if let Some(name) = &client.name
            && client.databases.borrow().is_empty()
        {
            self.clients.borrow_mut().remove(name);
        }
    }

    /// The open databases of a client, in the order of opening.
    pub(in crate::tcl) fn databases_of(&self, client: &Client) -> Vec<Rc<Database>> {
        let databases = self.databases.borrow();
        let numbers = client.databases.borrow();
        numbers.iter().filter_map(|number| databases.get(number).cloned()).collect()
    }

    /// The `index`-th database of a client.
    pub(in crate::tcl) fn database_of(&self, client: &Client, index: i32) -> Option<Rc<Database>> {
        let index = usize::try_from(index).ok()?;
        self.databases_of(client).into_iter().nth(index)
    }

    /// Changes what a client has set, for its open databases and those that it opens later.
    pub(in crate::tcl) fn change_client(&self, client: &Client, change: impl FnOnce(&Client)) {
        change(client);
        for database in self.databases_of(client) {
            self.set_up(client, &database);
        }
    }

    /// Hands what the client has set to one database of it. One that a defect has broken has no use
    /// for it.
    fn set_up(&self, client: &Client, database: &Database) {
        let Ok(mut in_use) = database.enter() else { return };
        in_use.set_reads_uncommitted(client.reads_uncommitted.get());
        in_use.set_initial_savepoints(client.savepoints.get());
        in_use.set_undo_in_memory(client.undo_in_memory.get());
        let has_handler = client.busy_handler.borrow().is_some();
        let (asked, number) = (Arc::clone(&self.asked), database.number);
        in_use.set_busy_handler(has_handler.then(|| -> btree::BusyHandler {
            // No script can run here (H3). The call fails, and is made again if the script says so.
            Box::new(move |_| {
                asked.store(number, Ordering::Relaxed);
                false
            })
        }));
    }

    /// Whether the engine has asked for a busy handler.
    #[inline]
    pub(in crate::tcl) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != 0
    }

    /// The script of the busy handler that the engine has asked for since the last time.
    pub(in crate::tcl) fn take_busy_handler_asked(&self) -> Option<String> {
        let number = self.asked.swap(0, Ordering::Relaxed);
        let database = self.databases.borrow().get(&number).cloned()?;
        database.client.busy_handler.borrow().clone()
    }
}

impl Client {
    /// Sets the script that is asked when a file is locked; none with an empty one.
    pub(in crate::tcl) fn set_busy_handler(&self, script: String) {
        *self.busy_handler.borrow_mut() = (!script.is_empty()).then_some(script);
    }

    /// Sets whether it reads what others have not committed.
    pub(in crate::tcl) fn set_reads_uncommitted(&self, on: bool) {
        self.reads_uncommitted.set(on);
    }

    /// Whether it does.
    pub(in crate::tcl) fn reads_uncommitted(&self) -> bool {
        self.reads_uncommitted.get()
    }

    /// Sets whether what its savepoints need is kept in memory.
    pub(in crate::tcl) fn set_undo_in_memory(&self, on: bool) {
        self.undo_in_memory.set(on);
    }

    /// Sets how many savepoints its write transactions open at once.
    pub(in crate::tcl) fn set_savepoints(&self, count: usize) {
        self.savepoints.set(count);
    }
}

/// Lists of databases by which a script takes several page caches at once (D350).
impl Session {
    /// Puts a database in the list `name`, at its place in the order of page caches, unless it is
    /// there or shares its cache with nobody.
    pub(in crate::tcl) fn insert_in_mutex_array(&self, name: String, database: &Database) {
        let Some(shared) = database.shared() else { return };
        let entry = (shared.cache_number(), database.number);
        let mut arrays = self.mutex_arrays.borrow_mut();
        let array = arrays.entry(name).or_default();
        if let Err(place) = array.binary_search(&entry) {
            array.insert(place, entry);
        }
    }

    /// The databases of the list `name`, in the order of their page caches.
    ///
    /// # Errors
    /// `no such mutex array: "X"`.
    pub(in crate::tcl) fn mutex_array(&self, name: &str) -> Result<Vec<Rc<Database>>, Failure> {
        let arrays = self.mutex_arrays.borrow();
        let array = arrays.get(name).ok_or_else(|| no_such("mutex array", name.as_bytes()))?;
        let databases = self.databases.borrow();
        Ok(array.iter().filter_map(|(_, number)| databases.get(number).cloned()).collect())
    }

    /// Takes a closed database out of all lists.
    pub(super) fn leave_mutex_arrays(&self, database: &Database) {
        for array in self.mutex_arrays.borrow_mut().values_mut() {
            array.retain(|&(_, number)| number != database.number);
        }
    }
}

impl Database {
    /// Takes the mutex of the page cache, if there is one (D347).
    ///
    /// # Errors
    /// [`Error::Misuse`] in a forked child.
    pub(in crate::tcl) fn hold(&self) -> Result<(), Error> {
        self.shared().map_or(Ok(()), btree::SharedConnection::hold)
    }

    /// Gives it back once.
    ///
    /// # Errors
    /// [`Error::Misuse`] if it was not taken.
    pub(in crate::tcl) fn let_go(&self) -> Result<(), Error> {
        self.shared().map_or(Ok(()), btree::SharedConnection::let_go)
    }
}

/// Who was asked last: the number of a database, 0 if none was.
pub(super) type Asked = Arc<AtomicU64>;
