//! Bits that turn on a member's disk, in its log or in its state, and how the member gets over it.
//!
//! One machine at a time grows old, and only while the others have whole copies of everything that
//! was agreed on: what a correct cluster cannot make good proves nothing.
//!
//! ```text
//! turned ─▶ found at a start, or at work ─┬─▶ state damaged: another's state, the same id
//!                                         └─▶ log damaged or short: a new id, by --auto-replace
//! ```

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use kvorum::node::{Damage, Replaced, Unreplaced};
use kvorum::sim::{Mark, mark, unmarked};
use kvorum::storage::disk::Disk;
use kvorum::storage::disk::sim::{Crash, SimDisk};
use kvorum::storage::state::{CONDEMNED, SUSPECT};
use kvorum::storage::wal;

use super::asking;
use super::profile::Fault;
use super::seat::{Death, Unstarted};
use super::world::{Happening, World};

/// How often to look how far the healing has come.
const LOOK_US: u64 = 300_000;
/// How often other bits are tried if some would destroy what nobody else has.
const TRIES: u64 = 6;
/// How long a member goes on asking to be replaced when there seems to be none with its URLs.
const PATIENCE_US: u64 = 8_000_000;

/// A file, a byte of it, and bits of that.
type Flip = (PathBuf, u64, u8);

/// A machine that grows old.
pub struct Rot {
    pub seat: usize,
    place: Place,
    healing: Healing,
    /// What others gave, for the next look.
    state: Rc<RefCell<Option<Vec<u8>>>>,
    replaced: Rc<RefCell<Option<Result<Replaced, Unreplaced>>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Log,
    State,
}

enum Healing {
    /// Nobody has noticed.
    Not,
    /// It waits for another member's state.
    State(Box<Damage>),
    /// It waits to be replaced, since then.
    Replacement(u64),
}

impl World {
    /// Turns bits on the disk of a member, if the others can make that good.
    pub fn turn_bits(&mut self, seat: usize) -> Result<(), String> {
        let known = self.rot.as_ref().map(|rot| (rot.seat, rot.place));
        let is_free = known.is_none_or(|(rotten, _)| rotten == seat)
            && self.rot.as_ref().is_none_or(|rot| matches!(rot.healing, Healing::Not))
            && !self.is_changing()
            && !self.seats[seat].is_empty;
        if self.seats.len() < 3 || !is_free {
            return Ok(());
        }
        let drawn = if self.seed.coin() { Place::Log } else { Place::State };
        let place = known.map_or(drawn, |(_, place)| place);
        let at_end = place == Place::Log && self.seed.below(3) > 0;
        for _ in 0..TRIES {
            let flips = self.flips(seat, place, at_end);
            let rotten = self.seats[seat].disk.fork();
            turn(&rotten, &flips);
            if flips.is_empty() || place == Place::Log && !self.can_be_borne(seat, &rotten) {
                continue;
            }
            turn(&self.seats[seat].disk, &flips);
            let count = flips.len();
            self.note(Some(seat), "rot", format!("{count} bits of {place:?}"));
            if self.rot.is_none() {
                let (state, replaced) = (Rc::default(), Rc::default());
                let healing = Healing::Not;
                self.rot = Some(Rot { seat, place, healing, state, replaced });
            }
            if self.seats[seat].process.is_some() && (at_end || self.seed.coin()) {
                // It is noticed at the next start; perhaps nobody can be asked then.
                self.end_process(seat, Crash::KeepAll);
                if self.seed.below(3) == 0 {
                    self.cut_off(seat, true, true);
                }
            }
            break;
        }
        Ok(())
    }

    /// Some bits of the files of a place. Of a log mostly those at its end, where they look like
    /// writes that did not come to theirs.
    fn flips(&mut self, seat: usize, place: Place, at_end: bool) -> Vec<Flip> {
        let (disk, layout) = (self.seats[seat].disk.fork(), self.seats[seat].layout());
        let (mut files, most) = (Vec::new(), 1 << self.seed.below(13));
        match place {
            Place::State => gather(&disk, &layout.state, &mut files),
            Place::Log => {
                let segments = wal::verify(&disk, &layout.wal).map(|report| report.segments);
                let used = segments.into_iter().flatten();
                files.extend(used.map(|segment| (segment.path, segment.bytes_used)));
            }
        }
        let Some((newest, length)) = files.last().filter(|_| place == Place::Log) else {
            return self.some_bits(&files, most);
        };
        if !at_end {
            return self.some_bits(&files, 3);
        }
        let sectors = 1 + self.seed.below(2);
        let back = (0..sectors).map(|sector| sector * 512 + 1 + self.seed.below(500));
        let places = back.filter(|back| back + 512 < *length).map(|back| length - back);
        places.map(|place| (newest.clone(), place, 1 << (place % 8))).collect()
    }

    fn some_bits(&mut self, files: &[(PathBuf, u64)], most: u64) -> Vec<Flip> {
        let mut flips = Vec::new();
        for _ in 0..=self.seed.below(most) {
            if files.is_empty() {
                break;
            }
            let (path, length) = &files[self.seed.below(files.len() as u64) as usize];
            flips.push((path.clone(), self.seed.below((*length).max(1)), 1 << self.seed.below(8)));
        }
        flips
    }

    /// Has the next start of a member read all of its state, as after a panic.
    pub fn suspect(&mut self, seat: usize) {
        let suspect = self.seats[seat].layout().state.join(SUSPECT);
        self.seats[seat].disk.plant(&suspect, &[]);
    }

    /// Whether a log in this state is refused, or has lost nothing that the others do not have.
    fn can_be_borne(&self, seat: usize, rotten: &SimDisk) -> bool {
        let was = unmarked(|| self.seats[seat].open_log(&self.seats[seat].disk.fork()));
        rotten.crash(Crash::LoseAll);
        let is = unmarked(|| self.seats[seat].open_log(rotten));
        let (Ok(was), Ok(is)) = (was, is) else { return true };
        if (was.hard_state.term, was.hard_state.vote) != (is.hard_state.term, is.hard_state.vote) {
            return false;
        }
        let Some(last) = was.entries.last() else { return true };
        if is.entries.last().is_some_and(|kept| kept.index >= last.index) {
            // Nothing would come of it.
            return false;
        }
        let others = self.seats.iter().filter(|other| other.number != seat);
        others.into_iter().all(|other| other.holds(last.index, last.term) == Ok(true))
    }

    /// Whether this seat's disk may be the reason that its process ends.
    pub fn is_rotten(&self, seat: usize) -> bool {
        self.rot.as_ref().is_some_and(|rot| rot.seat == seat)
    }

    /// Whether damage was found that is not made good yet.
    pub fn heals(&self) -> bool {
        self.rot.as_ref().is_some_and(|rot| !matches!(rot.healing, Healing::Not))
    }

    /// A process ended of itself; whether damage explains it. The next start hears of it.
    pub fn died_of_rot(&mut self, seat: usize, death: &Death) -> bool {
        if death.suspects {
            self.suspect(seat);
        }
        match self.rot.as_ref().filter(|rot| rot.seat == seat).map(|rot| rot.place) {
            Some(Place::State) => {
                mark(Mark::RotFoundAtWork);
                true
            }
            Some(Place::Log) if death.forgot => {
                self.seats[seat].forgot = Some(death.why.clone());
                true
            }
            Some(Place::Log) | None => false,
        }
    }

    /// A process did not come about.
    pub fn unstarted(&mut self, seat: usize, why: Unstarted) -> Result<(), String> {
        let rots = self.is_rotten(seat) && !self.seats[seat].harmed;
        match why {
            Unstarted::Damaged(damage) if rots => {
                self.note(Some(seat), "damaged", damage.fault.to_string());
                mark(Mark::RotFoundInState);
                self.mend(seat, Healing::State(damage));
                Ok(())
            }
            Unstarted::Forgotten(why) if rots => {
                self.note(Some(seat), "forgot", why);
                mark(Mark::RotFoundInLog);
                self.mend(seat, Healing::Replacement(self.now_us));
                Ok(())
            }
            Unstarted::Died { why, panicked } => {
                mark(match std::mem::replace(&mut self.seats[seat].failed_to_start, true) {
                    true => Mark::CrashAtStartAgain,
                    false => Mark::CrashAtStart,
                });
                if rots && panicked {
                    let condemned = self.seats[seat].layout().state.join(CONDEMNED);
                    self.seats[seat].disk.plant(&condemned, &[]);
                    self.note(Some(seat), "condemned", why);
                    self.end_process(seat, Crash::KeepAll);
                    return Ok(());
                }
                self.died(seat, &Death { why, forgot: false, suspects: false })
            }
            Unstarted::Damaged(damage) => {
                let why = damage.fault.to_string();
                self.died(seat, &Death { why, forgot: false, suspects: false })
            }
            Unstarted::Forgotten(why) => {
                self.died(seat, &Death { why, forgot: true, suspects: false })
            }
        }
    }

    fn mend(&mut self, seat: usize, healing: Healing) {
        self.seats[seat].heals = true;
        let Some(rot) = &mut self.rot else { return };
        rot.healing = healing;
        self.replaced_us = self.now_us.max(1);
        self.plan(self.now_us + LOOK_US, Happening::Mend);
    }

    /// Looks how far the healing has come, and has the next step done.
    pub fn go_on_healing(&mut self) -> Result<(), String> {
        let Some(rot) = self.rot.take() else { return Ok(()) };
        let seat = rot.seat;
        let healed = match &rot.healing {
            Healing::Not => {
                self.rot = Some(rot);
                return Ok(());
            }
            Healing::State(damage) => self.take_state(&rot, damage)?,
            Healing::Replacement(since_us) => self.ask_for_replacement(&rot, *since_us),
        };
        if !healed {
            self.rot = Some(rot);
            self.plan(self.now_us + LOOK_US, Happening::Mend);
            return Ok(());
        }
        (self.seats[seat].heals, self.seats[seat].forgot) = (false, None);
        self.start(seat)
    }

    /// Whether a fault of this kind would take two members at once.
    pub fn may_replace(&self) -> bool {
        self.replacing.is_none() && self.rot.is_none() && self.seats.len() >= 3
    }

    /// Makes the state from what another member gave, or asks one; whether it was made.
    fn take_state(&mut self, rot: &Rot, damage: &Damage) -> Result<bool, String> {
        let Some(file) = rot.state.borrow_mut().take() else {
            let Some(process) =
                self.any_process().and_then(|seat| self.seats[seat].process.as_ref())
            else {
                return Ok(false);
            };
            let (node, taken) = (process.services.node.clone(), rot.state.clone());
            self.tasks.spawn(Some(process.life), async move {
                if let Ok(state) = kvorum::sim::hand_out(node).await {
                    *taken.borrow_mut() = asking::gather(state).await;
                }
            });
            return Ok(false);
        };
        let seat = &self.seats[rot.seat];
        seat.disk.plant(&damage.file, &file);
        let made = catch_unwind(AssertUnwindSafe(|| seat.remake(damage)));
        let made = made.map_err(|panic| super::panics::words(&*panic).why)?;
        match made {
            Ok(()) => {
                mark(Mark::ReseededSameId);
                self.note(Some(rot.seat), "reseeded", String::new());
                Ok(true)
            }
            Err(error) => {
                self.note(Some(rot.seat), "unusable", error.to_string());
                Ok(false)
            }
        }
    }

    /// Has the leader replace the member, or asks it to; whether it is replaced, or nobody will.
    fn ask_for_replacement(&mut self, rot: &Rot, since_us: u64) -> bool {
        let seat = rot.seat;
        let answer = rot.replaced.borrow_mut().take();
        let is_over = self.now_us > since_us + PATIENCE_US;
        let may_pass = |refusal: &Unreplaced| match refusal {
            Unreplaced::NoMember => !is_over,
            other => other.may_pass(),
        };
        match answer {
            Some(Ok(replaced)) => {
                self.vacate(seat);
                self.seats[seat].id = replaced.id;
                self.note(Some(seat), "reborn", format!("{:x}", replaced.id));
                mark(Mark::ReseededNewId);
                self.go_on_adding(seat);
                true
            }
            Some(Err(refusal)) if !may_pass(&refusal) => {
                // The operator does what the refusal advises.
                self.note(Some(seat), "unreplaced", refusal.to_string());
                self.seats[seat].is_empty = true;
                self.take_out(seat);
                true
            }
            Some(Err(_)) | None => {
                let Some(leader) = self.leader().filter(|leader| *leader != seat) else {
                    return false;
                };
                let Some(process) = &self.seats[leader].process else { return false };
                let (node, told) = (process.services.node.clone(), rot.replaced.clone());
                let urls = vec![super::seat::url(seat)];
                self.tasks.spawn(Some(process.life), async move {
                    let answer = node.replace(urls).await;
                    *told.borrow_mut() = Some(answer);
                });
                false
            }
        }
    }
}

fn turn(disk: &SimDisk, flips: &[Flip]) {
    for (path, offset, bit) in flips {
        // A file may have shrunk or gone.
        let _ = disk.flip(path, *offset, *bit);
    }
}

/// The files under a directory, with their lengths.
fn gather(disk: &SimDisk, dir: &Path, files: &mut Vec<(PathBuf, u64)>) {
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    for name in seam.list(dir).unwrap_or_default() {
        let path = dir.join(name);
        match seam.open(&path).and_then(|file| file.len()) {
            // Not the pointer to the current generation: an operator puts that right.
            Ok(length) if length > 64 => files.push((path, length)),
            Ok(_) => {}
            Err(_) => gather(disk, &path, files),
        }
    }
}

/// A bit that turns in the file of an arriving state.
pub struct OnArrival {
    disk: SimDisk,
    file: PathBuf,
    /// The byte; unless it is to be one of the next value.
    place: u64,
    aims: bool,
}

impl OnArrival {
    /// Whether the byte is in a piece that begins at `begin`, or will be one of a value there.
    pub fn is_within(&mut self, begin: u64, piece: &[u8]) -> bool {
        let end = begin + piece.len() as u64;
        if self.aims && end > self.place {
            let is_value = |two: &[u8]| two[0] == b'v' && two[1].is_ascii_digit();
            let from = self.place.saturating_sub(begin) as usize;
            let Some(value) = piece[from..].windows(2).position(is_value) else { return false };
            (self.place, self.aims) = (begin + (from + value) as u64 + 1, false);
        }
        (begin..end).contains(&self.place)
    }

    pub fn strike(&self) {
        let _ = self.disk.flip(&self.file, self.place, 1 << (self.place % 8));
    }
}

impl World {
    /// Whether a bit turns while a state arrives at a member.
    pub fn rots_on_arrival(&mut self, to: u64) -> Option<OnArrival> {
        let may_rot = self.chaos && self.profile.weights[Fault::Rot as usize] > 0;
        let rots = may_rot && self.seed.below(4) == 0;
        let (place, aims) = (self.seed.below(40_000), self.seed.coin());
        let seat = self.seats.iter().find(|seat| seat.id == to).filter(|_| rots)?;
        let (disk, file) = (seat.disk.clone(), seat.layout().member.join("arriving.db"));
        Some(OnArrival { disk, file, place, aims })
    }
}
