//! Panics within a world: noted with their place, not printed, for a world goes on from most.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use super::seat::Death;

static HOOKED: Once = Once::new();

thread_local! {
    static WITHIN: Cell<Option<u64>> = const { Cell::new(None) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the world of a seed on this thread; what it died of, if it did.
pub fn within<T>(seed: u64, run: impl FnOnce() -> T) -> Result<T, String> {
    HOOKED.call_once(|| {
        let outside = take_hook();
        set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            match WITHIN.get() {
                // Nobody can catch the second one: this process is about to end.
                Some(seed) if is_second(panic) => {
                    eprintln!("seed {seed}: a panic within the one at {}", PLACE.take());
                    outside(panic);
                }
                Some(_) => drop(PLACE.replace(place)),
                None => outside(panic),
            }
        }));
    });
    WITHIN.set(Some(seed));
    let ran = catch_unwind(std::panic::AssertUnwindSafe(run));
    WITHIN.set(None);
    ran.map_err(|panic| words(&*panic).why)
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
