//! Futures that are polled when they were woken, one at a time, in an order that is told.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use kvorum::storage::state::drop_dead;
use parking_lot::Mutex;

/// One run of a member's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    pub seat: usize,
    pub number: u64,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Everything that is under way.
#[derive(Default)]
pub struct Tasks {
    next: u64,
    all: BTreeMap<u64, Task>,
    woken: Arc<Mutex<Vec<u64>>>,
}

struct Task {
    /// Whose process it runs in; nobody's if it is the network's.
    owner: Option<Life>,
    work: Work,
    alarm: Arc<Alarm>,
}

struct Alarm {
    task: u64,
    rings: AtomicBool,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if !self.rings.swap(true, Ordering::Relaxed) {
            self.woken.lock().push(self.task);
        }
    }
}

impl Tasks {
    pub fn spawn(&mut self, owner: Option<Life>, work: impl Future<Output = ()> + 'static) {
        let task = self.next;
        self.next += 1;
        let woken = self.woken.clone();
        let alarm = Arc::new(Alarm { task, rings: AtomicBool::new(false), woken });
        alarm.clone().wake();
        self.all.insert(task, Task { owner, work: Box::pin(work), alarm });
    }

    /// Ends what runs in a process that died. Nothing of it runs again.
    pub fn drop_of(&mut self, life: Life) {
        let of_it = |task: &&mut Task| task.owner == Some(life);
        let mut gone = Vec::new();
        for task in self.all.values_mut().filter(of_it) {
            gone.push(std::mem::replace(&mut task.work, Box::pin(std::future::ready(()))));
        }
        self.all.retain(|_, task| task.owner != Some(life));
        gone.into_iter().for_each(drop_dead);
    }

    /// Ends everything.
    pub fn drop_all(&mut self) {
        std::mem::take(&mut self.all).into_values().for_each(|task| drop_dead(task.work));
    }

    /// Those that were woken, and whose they are; in order, for what wakes several at once may hold
    /// them in a map that has none.
    pub fn take_woken(&mut self) -> Vec<(u64, Option<Life>)> {
        let mut woken = std::mem::take(&mut *self.woken.lock());
        woken.sort_unstable();
        let known = |task: u64| self.all.get(&task).map(|found| (task, found.owner));
        woken.into_iter().filter_map(known).collect()
    }

    /// Has a woken task wait a little longer.
    pub fn put_off(&mut self, task: u64) {
        self.woken.lock().push(task);
    }

    /// Goes on with a task; what it panicked with, if it did.
    pub fn poll(&mut self, number: u64) -> std::thread::Result<()> {
        let Some(task) = self.all.get_mut(&number) else { return Ok(()) };
        task.alarm.rings.store(false, Ordering::Relaxed);
        let waker = Waker::from(task.alarm.clone());
        let mut context = Context::from_waker(&waker);
        let work = &mut task.work;
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context)));
        if !matches!(polled, Ok(Poll::Pending))
            && let Some(task) = self.all.remove(&number)
        {
            drop_dead(task.work);
        }
        polled.map(drop)
    }
}
