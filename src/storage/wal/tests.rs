//! The log against a naive model, on disks that stop, fail, fill up and rot.

mod crash;
mod faults;
mod model;
mod scripts;
mod units;
