//! Panics within a world: noted with their place, not printed, for a world goes on from most.
//!
//! A released member ends at its first panic. Here it unwinds, and destructors run that have not
//! reckoned with it. One that panics too can be caught by nobody: its thread is held for ever, or
//! the process would end at once. It still can't end as others do ([`leave`]), for who holds a
//! thread within a panic keeps `libtest` from its last words.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::seat::Death;

static HOOKED: Once = Once::new();
static HELD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static WITHIN: RefCell<Option<Sender<String>>> = const { RefCell::new(None) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// How a world ended that did not come to its end.
pub enum End {
    /// It died of this.
    Died(String),
    /// A damaged engine panicked, and again while it unwound.
    Held,
}

/// Runs the world of a seed on a thread of its own.
pub fn within<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, End> {
    HOOKED.call_once(|| {
        let outside = take_hook();
        set_hook(Box::new(move |panic| match WITHIN.take() {
            Some(world) if is_second(panic) => hold(&world),
            Some(world) => {
                PLACE.replace(panic.location().map(ToString::to_string).unwrap_or_default());
                WITHIN.set(Some(world));
            }
            None => outside(panic),
        }));
    });
    let (held, holds) = channel();
    let world = thread::spawn(move || {
        WITHIN.set(Some(held));
        let ran = catch_unwind(AssertUnwindSafe(run));
        WITHIN.set(None);
        ran.map_err(|panic| words(&*panic).why)
    });
    // Whoever ends lets go of the sender.
    match holds.recv() {
        Ok(place) if place.contains("/redb-") => Err(End::Held),
        Ok(place) => Err(End::Died(format!("a panic within the one at {place}"))),
        Err(_) => world.join().expect("it caught all panics").map_err(End::Died),
    }
}

/// Ends this process, if a thread of it is held, and says why it fails, if it does.
pub fn leave(failure: Option<&str>) {
    if HELD.load(Ordering::Relaxed) > 0 {
        println!("worlds were held, so this process ends here: {}", failure.unwrap_or("ok"));
        std::process::exit(if failure.is_some() { 101 } else { 0 });
    }
}

/// Tells of this thread that it goes nowhere from here.
fn hold(world: &Sender<String>) -> ! {
    HELD.fetch_add(1, Ordering::Relaxed);
    // Where nobody listens any more the process is about to end.
    let _ = world.send(PLACE.take());
    loop {
        thread::park();
    }
}

/// Whether a panic is one of a destructor that another panic has run.
fn is_second(panic: &PanicHookInfo<'_>) -> bool {
    let said = panic.payload().downcast_ref::<&str>();
    said.is_some_and(|said| said.contains("destructor"))
}

/// What a panic said, and where it was.
pub fn words(panic: &(dyn Any + Send)) -> Death {
    if let Some(died) = panic.downcast_ref::<kvorum::sim::Died>() {
        return died.clone().into();
    }
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
    let why = format!("panic at {}: {text}", PLACE.take());
    // A real one notes that, whatever it was.
    Death { why, forgot: false, suspects: true }
}
