//! Panics within a world: noted with their place, not printed, for a world goes on from most.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::Once;

use super::seat::Death;

static HOOKED: Once = Once::new();

thread_local! {
    static WITHIN: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a world on this thread; what it died of, if it did.
pub fn within<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    HOOKED.call_once(|| {
        let outside = take_hook();
        set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            match WITHIN.get() {
                true => drop(PLACE.replace(place)),
                false => outside(panic),
            }
        }));
    });
    WITHIN.set(true);
    let ran = catch_unwind(std::panic::AssertUnwindSafe(run));
    WITHIN.set(false);
    ran.map_err(|panic| words(&*panic).why)
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
