//! One simulated file: what is seen, what is durable, and the changes between the two.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::crash::{Crash, Seed};

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// The contents of a file. Images are shared between forks until one of them writes.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    visible: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// In the order they were made; a write that grows the file is preceded by its `Len`.
    pending: Vec<Change>,
    /// Blocks the file owns, written or merely reserved.
    blocks: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, data: Bytes },
    Len(u64),
}

impl Inode {
    /// A file that is on the medium already.
    pub fn durable(contents: &[u8]) -> Self {
        let image = Arc::new(contents.to_vec());
        let blocks = (0..image.len().div_ceil(super::BLOCK as usize) as u64).collect();
        Self { visible: image.clone(), durable: image, pending: Vec::new(), blocks }
    }

    pub fn len(&self) -> u64 {
        self.visible.len() as u64
    }

    pub fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// How many of these blocks the file does not own yet.
    pub fn missing(&self, blocks: Range<u64>) -> u64 {
        blocks.filter(|block| !self.blocks.contains(block)).count() as u64
    }

    pub fn take(&mut self, blocks: Range<u64>) {
        self.blocks.extend(blocks);
    }

    pub fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        let bytes = start.checked_add(buf.len()).and_then(|end| self.visible.get(start..end));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        if end > self.len() {
            self.set_len(end);
        }
        paint(&mut self.visible, offset, data);
        self.pending.push(Change::Write { offset, data: Bytes::copy_from_slice(data) });
    }

    pub fn set_len(&mut self, len: u64) {
        Arc::make_mut(&mut self.visible).resize(len as usize, 0);
        self.blocks.split_off(&len.div_ceil(super::BLOCK));
        self.pending.push(Change::Len(len));
    }

    pub fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    /// Some of the dirty pages were written, the others are dropped while the cache still shows
    /// them: the file reads well and is not there.
    pub fn fail_sync(&mut self, seed: &mut Seed) {
        for change in std::mem::take(&mut self.pending) {
            if seed.coin() {
                change.apply(&mut self.durable);
            }
        }
    }

    /// Reads see the medium from here on.
    pub fn forget(&mut self) {
        assert!(self.pending.is_empty(), "only a file just synced forgets its cache");
        self.visible = self.durable.clone();
    }

    pub fn flip(&mut self, offset: u64, bits: u8) -> io::Result<()> {
        for image in [&mut self.visible, &mut self.durable] {
            let byte = Arc::make_mut(image).get_mut(offset as usize);
            *byte.ok_or(io::ErrorKind::UnexpectedEof)? ^= bits;
        }
        Ok(())
    }

    /// What was on its way when the power went.
    pub fn crash(&mut self, how: Crash, seed: &mut Seed) {
        let pending = std::mem::take(&mut self.pending);
        match how {
            Crash::LoseAll => {}
            Crash::KeepAll | Crash::Subset(_) => {
                for change in pending {
                    if how.keeps(seed) {
                        change.apply(&mut self.durable);
                    }
                }
            }
            Crash::Torn(_) => self.tear(&pending, false, seed),
            Crash::Garbage(_) => self.tear(&pending, true, seed),
        }
        self.visible = self.durable.clone();
    }

    /// Decides sector by sector: each ends as one of the versions it had since the last sync, or,
    /// with `garbage`, as noise, whole, whatever else lived in it.
    fn tear(&mut self, pending: &[Change], garbage: bool, seed: &mut Seed) {
        let mut sectors = BTreeSet::new();
        for change in pending {
            match change {
                Change::Write { offset, data } if !data.is_empty() => {
                    let end = offset + data.len() as u64;
                    sectors.extend(offset / SECTOR..end.div_ceil(SECTOR));
                }
                Change::Write { .. } => {}
                Change::Len(_) if seed.coin() => change.apply(&mut self.durable),
                Change::Len(_) => {}
            }
        }
        for sector in sectors {
            let bounds = sector * SECTOR..(sector + 1) * SECTOR;
            let parts: Vec<_> =
                pending.iter().filter_map(|change| change.within(&bounds)).collect();
            for (offset, part) in &parts[..seed.below(parts.len() as u64 + 1) as usize] {
                paint(&mut self.durable, *offset, part);
            }
            if garbage && seed.coin() {
                let mut noise = [0; SECTOR as usize];
                seed.fill(&mut noise);
                paint(&mut self.durable, bounds.start, &noise);
            }
        }
    }
}

impl Change {
    fn apply(&self, image: &mut Arc<Vec<u8>>) {
        match self {
            Change::Write { offset, data } => paint(image, *offset, data),
            Change::Len(len) => Arc::make_mut(image).resize(*len as usize, 0),
        }
    }

    /// The part of a write that falls into `bounds`.
    fn within(&self, bounds: &Range<u64>) -> Option<(u64, Bytes)> {
        match self {
            Change::Write { offset, data } => {
                let start = bounds.start.max(*offset);
                let end = bounds.end.min(offset + data.len() as u64);
                let part = |at: u64| (at - offset) as usize;
                (start < end).then(|| (start, data.slice(part(start)..part(end))))
            }
            Change::Len(_) => None,
        }
    }
}

/// Writes into an image as far as it reaches: data beyond a length that was lost is lost with it.
fn paint(image: &mut Arc<Vec<u8>>, offset: u64, data: &[u8]) {
    let start = (offset as usize).min(image.len());
    let end = (offset as usize + data.len()).min(image.len());
    if start < end {
        Arc::make_mut(image)[start..end].copy_from_slice(&data[..end - start]);
    }
}
