//! A disk in memory whose power can be cut: what was not synced is then there in parts, sector by sector and name by name.
//!
//! After redb's crash tests and SQLite's: a file has what programs see and what the disk holds; between the two lie the
//! sectors written since the last fsync, and the names changed since the last fsync of the directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use cache_shard::store::{Access, Kind, LockGuard, Vfs, VfsFile};
use rand::{Rng, SeedableRng, rngs::StdRng};

const SECTOR_BYTES: usize = 512;

/// The disk; clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimFs(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    files: Vec<SimFile>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    /// Changes of any kind since it was made.
    operations: u64,
    /// The power goes with this operation.
    cut_at: Option<u64>,
    is_off: bool,
    /// Files opened before a cut are none any more.
    boots: u64,
    is_locked: bool,
    read_bytes: u64,
}

#[derive(Debug, Default)]
struct SimFile {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

/// How much of what was not synced survives.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Nothing,
    All,
    Some,
}

#[derive(Debug)]
struct OpenFile {
    disk: SimFs,
    file: usize,
    boot: u64,
}

struct SimLock(SimFs, u64);

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut world = self.0.world();
        if world.boots == self.1 {
            world.is_locked = false;
        }
    }
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl World {
    /// One more change. The one with which the power goes is still under way then.
    fn change(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(off());
        }
        self.operations += 1;
        self.is_off = self.cut_at.is_some_and(|cut_at| self.operations > cut_at);
        Ok(())
    }

    fn done(&self) -> io::Result<()> {
        if self.is_off { Err(off()) } else { Ok(()) }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.done()?;
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
        match change {
            Change::Link(name, file) => drop(names.insert(name.clone(), *file)),
            Change::Unlink(name) => drop(names.remove(name)),
            Change::Rename(name, next) => {
                if let Some(file) = names.remove(name) {
                    names.insert(next.clone(), file);
                }
            }
        }
    }

    fn note(&mut self, change: Change) -> io::Result<()> {
        Self::apply(&mut self.names, &change);
        self.changes.push(change);
        self.done()
    }
}

impl SimFile {
    fn is_dirty_between(&mut self, start: usize, end: usize) {
        self.dirty.extend(start / SECTOR_BYTES..=end.saturating_sub(1).max(start) / SECTOR_BYTES);
    }

    fn lose_power(&mut self, luck: Luck, random: &mut StdRng) {
        let survives = |random: &mut StdRng| match luck {
            Luck::Nothing => false,
            Luck::All => true,
            Luck::Some => random.random(),
        };
        let (short, long) =
            (self.durable.len().min(self.live.len()), self.durable.len().max(self.live.len()));
        let length = match luck {
            Luck::Nothing => self.durable.len(),
            Luck::All => self.live.len(),
            Luck::Some => random.random_range(short..=long),
        };
        let mut left = self.durable.clone();
        left.resize(length, 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(length).min(self.live.len());
            if start < end && survives(random) {
                left[start..end].copy_from_slice(&self.live[start..end]);
            }
        }
        self.live.clone_from(&left);
        self.durable = left;
    }
}

impl SimFs {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Changes of any kind so far.
    pub fn operations(&self) -> u64 {
        self.world().operations
    }

    /// The power goes with the operation after so many.
    pub fn cut_power_after(&self, operations: u64) {
        self.world().cut_at = Some(operations);
    }

    /// True once the power has gone.
    pub fn is_off(&self) -> bool {
        self.world().is_off
    }

    /// What a disk without power holds, and power again.
    pub fn reboot(&self, seed: u64) {
        let mut world = self.world();
        let mut random = StdRng::seed_from_u64(seed);
        let luck = [Luck::Nothing, Luck::All, Luck::Some, Luck::Some][random.random_range(0..4)];
        world.files.iter_mut().for_each(|file| file.lose_power(luck, &mut random));
        for change in std::mem::take(&mut world.changes) {
            let survives = match luck {
                Luck::Nothing => false,
                Luck::All => true,
                Luck::Some => random.random(),
            };
            if survives {
                World::apply(&mut world.durable_names, &change);
            }
        }
        world.names = world.durable_names.clone();
        world.boots += 1;
        (world.cut_at, world.is_off, world.is_locked) = (None, false, false);
    }

    /// Bytes read so far.
    pub fn read_bytes(&self) -> u64 {
        self.world().read_bytes
    }

    /// The names that end so.
    pub fn names(&self, endings: &[&str]) -> Vec<String> {
        let world = self.world();
        let names = world.names.keys();
        names.filter(|name| endings.iter().any(|ending| name.ends_with(ending))).cloned().collect()
    }

    /// What a file holds.
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.files[world.names[name]].live.clone()
    }

    /// Damages a file.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        let file = world.names[name];
        edit(&mut world.files[file].live);
    }

    /// Bytes of all files whose names end so.
    pub fn bytes_of(&self, endings: &[&str]) -> u64 {
        let world = self.world();
        let wanted =
            world.names.iter().filter(|(name, _)| endings.iter().any(|ending| name.ends_with(ending)));
        wanted.map(|(_, file)| world.files[*file].live.len() as u64).sum()
    }

    fn opened(&self, world: &World, file: usize) -> Arc<dyn VfsFile> {
        Arc::new(OpenFile { disk: self.clone(), file, boot: world.boots })
    }
}

impl Vfs for SimFs {
    fn path(&self) -> PathBuf {
        PathBuf::from("simulated")
    }

    fn create_directory(&self) -> io::Result<()> {
        self.world().done()
    }

    fn lock(&self) -> io::Result<Option<LockGuard>> {
        let mut world = self.world();
        world.done()?;
        let is_free = !std::mem::replace(&mut world.is_locked, true);
        Ok(is_free.then(|| -> LockGuard { Box::new(SimLock(self.clone(), world.boots)) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let world = self.world();
        world.done()?;
        Ok(world.names.keys().cloned().collect())
    }

    fn kind(&self, name: &str) -> io::Result<Kind> {
        let world = self.world();
        let file = world.find(name)?;
        Ok(Kind::File(world.files[file].live.len() as u64))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn VfsFile>> {
        let mut world = self.world();
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.change()?;
        let file = world.files.len();
        world.files.push(SimFile::default());
        world.note(Change::Link(name.to_owned(), file))?;
        Ok(self.opened(&world, file))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Arc<dyn VfsFile>> {
        let world = self.world();
        let file = world.find(name)?;
        Ok(self.opened(&world, file))
    }

    fn rename(&self, name: &str, next: &str) -> io::Result<()> {
        let mut world = self.world();
        world.find(name)?;
        world.change()?;
        world.note(Change::Rename(name.to_owned(), next.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.find(name)?;
        world.change()?;
        world.note(Change::Unlink(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        world.done()?;
        world.changes.clear();
        world.durable_names = world.names.clone();
        Ok(())
    }
}

impl OpenFile {
    fn with<T>(&self, work: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.world();
        if world.boots == self.boot { work(&mut world) } else { Err(off()) }
    }
}

impl VfsFile for OpenFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|world| {
            world.done()?;
            let rest =
                world.files[self.file].live.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let read = rest.len().min(bytes.len());
            bytes[..read].copy_from_slice(&rest[..read]);
            world.read_bytes += read as u64;
            Ok(read)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|world| {
            world.change()?;
            let file = &mut world.files[self.file];
            let start = usize::try_from(offset).unwrap();
            let end = start + bytes.len();
            let length = file.live.len().max(end);
            file.live.resize(length, 0);
            file.live[start..end].copy_from_slice(bytes);
            file.is_dirty_between(start, end);
            world.done()
        })
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.with(|world| {
            world.change()?;
            let file = &mut world.files[self.file];
            let length = usize::try_from(length).unwrap();
            let before = file.live.len();
            file.live.resize(length, 0);
            file.is_dirty_between(length.min(before), length.max(before));
            world.done()
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world| {
            world.change()?;
            world.done()?;
            let file = &mut world.files[self.file];
            file.dirty.clear();
            file.durable.clone_from(&file.live);
            Ok(())
        })
    }
}
