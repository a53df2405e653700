//! Who waits for whose transaction to end, and whether that can ever come true. Pure bookkeeping.
//!
//! ```text
//!            refused                    registers
//!   free ───────────────▶ blocked by C ───────────▶ waits for C, has a callback
//!    ▲                        │   │                        │
//!    │  a transaction of C ends   │  C waits for this one, │ a transaction of C ends:
//!    │◀───────────────────────┘   │  directly or through   │ the callback is due
//!    │                            ▼  others: refused       │
//!    │                        blocked by C                 │
//!    └─────────────────────────────────────────────────────┘
//! ```
//!
//! Invariant W1: the clients that wait, each pointing at the one it waits for, form no circle.

use std::collections::HashMap;

/// Names a client: whoever waits as one, with one connection or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct ClientId(pub(super) u64);

/// What is known of one client.
#[derive(Debug)]
struct Entry<C> {
    /// Who refused it last, and has not ended a transaction since.
    blocked_by: Option<ClientId>,
    /// For whom it waits, and what is due then.
    waits: Option<(ClientId, C)>,
}

/// What became of a registration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Registration<C> {
    /// It waits; what it had registered before is given back.
    Waiting(Option<C>),
    /// Nobody is in its way: the callback is due now. What it had registered is given back.
    Due(C, Option<C>),
    /// Whoever is in its way waits for it. Nothing was registered; what was there is as it was.
    Deadlock(C),
}

/// The clients that are blocked or wait.
#[derive(Debug)]
pub(super) struct WaitGraph<C> {
    clients: HashMap<ClientId, Entry<C>>,
}

impl<C> Default for WaitGraph<C> {
    fn default() -> Self {
        WaitGraph { clients: HashMap::new() }
    }
}

impl<C> WaitGraph<C> {
    /// `client` was refused something because of `other`.
    pub(super) fn block(&mut self, client: ClientId, other: ClientId) {
        if client == other {
            return;
        }
        let entry = self.clients.entry(client);
        entry.or_insert(Entry { blocked_by: None, waits: None }).blocked_by = Some(other);
    }

    /// Registers the callback of `client`, in place of the one it had.
    pub(super) fn register(&mut self, client: ClientId, callback: C) -> Registration<C> {
        let blocked_by = self.clients.get(&client).and_then(|entry| entry.blocked_by);
        let Some(other) = blocked_by else {
            return Registration::Due(callback, self.remove(client));
        };
        let mut next = Some(other);
        // By W1 this comes to an end.
        while let Some(waiter) = next {
            if waiter == client {
                return Registration::Deadlock(callback);
            }
            next = self.waits_for(waiter);
        }
        let entry = self.clients.entry(client).or_insert(Entry { blocked_by, waits: None });
        Registration::Waiting(entry.waits.replace((other, callback)).map(|(_, before)| before))
    }

    /// For whom `client` waits.
    fn waits_for(&self, client: ClientId) -> Option<ClientId> {
        self.clients.get(&client)?.waits.as_ref().map(|(other, _)| *other)
    }

    /// Takes the callback of `client` back.
    pub(super) fn cancel(&mut self, client: ClientId) -> Option<C> {
        Some(self.clients.get_mut(&client)?.waits.take()?.1)
    }

    /// `client` is gone; its callback is given back.
    pub(super) fn remove(&mut self, client: ClientId) -> Option<C> {
        Some(self.clients.remove(&client)?.waits?.1)
    }

    /// A transaction of `client` has ended. Returns the callbacks that are due by that.
    pub(super) fn end(&mut self, client: ClientId) -> Vec<C> {
        let mut due = Vec::new();
        for entry in self.clients.values_mut() {
            if entry.blocked_by == Some(client) {
                entry.blocked_by = None;
            }
            if let Some((_, callback)) = entry.waits.take_if(|(other, _)| *other == client) {
                due.push(callback);
            }
        }
        self.clients.retain(|_, entry| entry.blocked_by.is_some() || entry.waits.is_some());
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: u64 = 3;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Block(u64, u64),
        Register(u64),
        Cancel(u64),
        End(u64),
    }

    fn steps() -> Vec<Step> {
        let mut steps = Vec::new();
        for client in 0..CLIENTS {
            steps.extend((0..CLIENTS).map(|other| Step::Block(client, other)));
            steps.extend([Step::Register(client), Step::Cancel(client), Step::End(client)]);
        }
        steps
    }

    /// By definition: for each client who blocks it and for whom it waits.
    #[derive(Debug, Default, Clone)]
    struct Model {
        blocked_by: [Option<u64>; CLIENTS as usize],
        waits_for: [Option<u64>; CLIENTS as usize],
    }

    impl Model {
        fn leads_to(&self, from: u64, to: u64) -> bool {
            let mut at = Some(from);
            for _ in 0..=CLIENTS {
                match at {
                    Some(client) if client == to => return true,
                    Some(client) => at = self.waits_for[client as usize],
                    None => return false,
                }
            }
            panic!("a circle in {self:?}: W1");
        }

        fn run(&mut self, step: Step, graph: &mut WaitGraph<u64>) {
            match step {
                Step::Block(client, other) => {
                    graph.block(ClientId(client), ClientId(other));
                    if client != other {
                        self.blocked_by[client as usize] = Some(other);
                    }
                }
                Step::Register(client) => {
                    let result = graph.register(ClientId(client), client);
                    match self.blocked_by[client as usize] {
                        None => {
                            let before = self.waits_for[client as usize].take();
                            let before = before.map(|_| client);
                            assert_eq!(result, Registration::Due(client, before), "D243");
                        }
                        Some(other) if self.leads_to(other, client) => {
                            assert_eq!(result, Registration::Deadlock(client), "D244 {self:?}");
                        }
                        Some(other) => {
                            let before = self.waits_for[client as usize].replace(other);
                            let before = before.map(|_| client);
                            assert_eq!(result, Registration::Waiting(before), "D242, D245");
                        }
                    }
                }
                Step::Cancel(client) => {
                    let before = self.waits_for[client as usize].take();
                    assert_eq!(graph.cancel(ClientId(client)), before.map(|_| client), "D245");
                }
                Step::End(client) => {
                    let mut due = graph.end(ClientId(client));
                    due.sort_unstable();
                    let waiting = (0..CLIENTS)
                        .filter(|&other| self.waits_for[other as usize] == Some(client));
                    assert_eq!(due, waiting.collect::<Vec<_>>());
                    for slot in self.blocked_by.iter_mut().chain(&mut self.waits_for) {
                        slot.take_if(|other| *other == client);
                    }
                }
            }
        }
    }

    /// D242 to D245: every sequence of four steps of three clients.
    #[test]
    fn every_short_history_is_that_of_the_definition() {
        let steps = steps();
        let mut sequence = [0; 4];
        loop {
            let (mut graph, mut model) = (WaitGraph::default(), Model::default());
            for &step in &sequence {
                model.run(steps[step], &mut graph);
            }
            let Some(at) = sequence.iter().rposition(|&step| step + 1 < steps.len()) else { break };
            sequence[at] += 1;
            sequence[at + 1..].fill(0);
        }
    }

    /// D244: the last of three that would close the circle is refused, and can wait once the
    /// circle is open again.
    #[test]
    fn a_circle_through_others_is_refused() {
        let mut graph = WaitGraph::default();
        for client in 0..3 {
            graph.block(ClientId(client), ClientId((client + 1) % 3));
        }
        assert_eq!(graph.register(ClientId(0), 0), Registration::Waiting(None));
        assert_eq!(graph.register(ClientId(1), 1), Registration::Waiting(None));
        assert_eq!(graph.register(ClientId(2), 9), Registration::Deadlock(9));
        assert_eq!(graph.cancel(ClientId(1)), Some(1));
        assert_eq!(graph.register(ClientId(2), 2), Registration::Waiting(None));
        assert_eq!(graph.register(ClientId(1), 9), Registration::Deadlock(9));
        assert_eq!(graph.end(ClientId(0)), [2]);
        assert_eq!(graph.register(ClientId(1), 1), Registration::Waiting(None));
    }
}
