//! Offline tools on a snapshot file. They parse no flags and print nothing: `cli` does both.
//!
//! In reading order: [`snapshot`] tells what is in a file, [`import`] opens one to be restored,
//! [`rewrite`] changes its rows on the way, so that a new cluster can live on them, [`restore`]
//! makes a data directory of them. [`verify`] checks a directory that nobody uses.

pub(crate) mod fuzz;
pub mod import;
pub mod restore;
pub mod rewrite;
pub mod snapshot;
pub mod verify;

pub use fuzz::fuzz_rows;

#[cfg(test)]
mod tests;

/// What an operator can do about an error of a tool, if there is something to say.
pub fn advice(error: &anyhow::Error) -> Option<&'static str> {
    let of_a_file = |cause: &(dyn std::error::Error + 'static)| {
        let not_sound = cause.downcast_ref::<snapshot::NotSound>().map(|not_sound| &not_sound.0);
        not_sound.or(cause.downcast_ref::<crate::bolt::Error>()).map(|error| error.advice())
    };
    error.chain().find_map(of_a_file)
}
