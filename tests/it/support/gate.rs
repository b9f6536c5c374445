//! A gate that programs pass one by one, or freely once it is open.

use std::sync::{Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// The number that may pass; all if none.
    left: Option<usize>,
    waiting: usize,
    passed: usize,
}

impl Gate {
    /// Lets no program pass from now on.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap().left = Some(0);
    }

    /// Lets one more program pass.
    pub(crate) fn let_one_through(&self) {
        if let Some(left) = &mut self.state.lock().unwrap().left {
            *left += 1;
        }
        self.changed.notify_all();
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().left = None;
        self.changed.notify_all();
    }

    /// Waits at the gate. Blocks.
    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        let closed = |state: &mut GateState| state.left == Some(0);
        let mut state = self.changed.wait_while(state, closed).unwrap();
        if let Some(left) = &mut state.left {
            *left -= 1;
        }
        state.waiting -= 1;
        state.passed += 1;
    }

    /// The programs at the gate, and those behind it.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.waiting, state.passed)
    }
}
