//! Slots for renderings, shared fairly by the config repositories.
//!
//! A free slot goes to the repository with the fewest running renderings, and among equals to the
//! one that has waited longest. However many slow charts a repository has, another one gets the
//! next slot that becomes free.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// The slots of one kind of rendering.
#[derive(Debug, Clone)]
pub(crate) struct FairSlots(Arc<Mutex<SlotTable>>);

#[derive(Debug)]
struct SlotTable {
    free: usize,
    running: HashMap<String, usize>,
    /// Repositories with their waiters, the one first that has had no slot for longest.
    waiting: VecDeque<(String, VecDeque<oneshot::Sender<FairSlot>>)>,
}

impl FairSlots {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(SlotTable {
            free: count,
            running: HashMap::new(),
            waiting: VecDeque::new(),
        })))
    }

    /// Waits for a slot for a repository.
    pub(super) async fn acquire(&self, repository: &str) -> FairSlot {
        let (sender, receiver) = oneshot::channel();
        {
            let mut table = self.lock();
            match table
                .waiting
                .iter_mut()
                .find(|(name, _)| name == repository)
            {
                Some((_, waiters)) => waiters.push_back(sender),
                None => table
                    .waiting
                    .push_back((repository.to_owned(), VecDeque::from([sender]))),
            }
        }
        self.grant();
        match receiver.await {
            Ok(slot) => slot,
            // The table drops no sender of a living waiter.
            Err(_) => FairSlot {
                slots: self.clone(),
                repository: None,
            },
        }
    }

    /// Hands free slots to waiters.
    fn grant(&self) {
        loop {
            let mut table = self.lock();
            let Some((repository, waiter)) = table.next() else {
                return;
            };
            // Without the lock: a slot without a taker is given back when it is dropped.
            drop(table);
            let slot = FairSlot {
                slots: self.clone(),
                repository: Some(repository),
            };
            if let Err(unused) = waiter.send(slot) {
                unused.give_back();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotTable {
    /// Takes a free slot for the next waiter.
    fn next(&mut self) -> Option<(String, oneshot::Sender<FairSlot>)> {
        if self.free == 0 {
            return None;
        }
        let running = |name: &str| self.running.get(name).copied().unwrap_or_default();
        let (index, _) = self
            .waiting
            .iter()
            .enumerate()
            .min_by_key(|(_, (name, _))| running(name))?;
        let (repository, mut waiters) = self.waiting.remove(index)?;
        let waiter = waiters.pop_front()?;
        if !waiters.is_empty() {
            self.waiting.push_back((repository.clone(), waiters));
        }
        self.free -= 1;
        *self.running.entry(repository.clone()).or_default() += 1;
        Some((repository, waiter))
    }

    fn release(&mut self, repository: &str) {
        self.free += 1;
        if let Some(count) = self.running.get_mut(repository) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(repository);
            }
        }
    }
}

/// A slot, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct FairSlot {
    slots: FairSlots,
    repository: Option<String>,
}

impl FairSlot {
    /// Frees the slot; the caller grants it.
    fn give_back(mut self) {
        if let Some(repository) = self.repository.take() {
            self.slots.lock().release(&repository);
        }
    }
}

impl Drop for FairSlot {
    fn drop(&mut self) {
        if let Some(repository) = self.repository.take() {
            self.slots.lock().release(&repository);
            self.slots.grant();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn slot_goes_to_the_repository_with_fewest() {
        let slots = FairSlots::new(2);
        let first = slots.acquire("slow").await;
        let second = slots.acquire("slow").await;
        let mut more: Vec<_> = (0..10).map(|_| Box::pin(slots.acquire("slow"))).collect();
        for waiting in &mut more {
            assert!(waiting.now_or_never().is_none());
        }
        let mut other = Box::pin(slots.acquire("other"));
        assert!((&mut other).now_or_never().is_none());
        drop(first);
        let other = other.now_or_never().unwrap();
        assert!((&mut more[0]).now_or_never().is_none());
        drop(second);
        let third = (&mut more[0]).now_or_never().unwrap();
        drop((other, third));
        assert!((&mut more[1]).now_or_never().is_some());
    }

    #[tokio::test]
    async fn slot_of_a_cancelled_waiter_is_free() {
        let slots = FairSlots::new(1);
        let held = slots.acquire("a").await;
        let mut cancelled = Box::pin(slots.acquire("b"));
        assert!((&mut cancelled).now_or_never().is_none());
        drop(cancelled);
        drop(held);
        let held = slots.acquire("a").now_or_never().unwrap();
        // Granted, and then dropped before it was taken.
        let mut late = Box::pin(slots.acquire("b"));
        assert!((&mut late).now_or_never().is_none());
        drop(held);
        drop(late);
        assert!(slots.acquire("a").now_or_never().is_some());
    }
}
