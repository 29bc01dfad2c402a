//! Our own store: a model appears in it as a whole and verified, or not at all.
//!
//! ```text
//! <store>/
//!   .org--name.lock     held while somebody fetches the model; the system frees it if that process dies
//!   .org--name.part/    being fetched; whatever is found here belongs to nobody and is removed
//!   org--name/          complete: SHA256SUMS is written last, then the directory is renamed to this
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::files;
use super::progress::Progress;
use super::sums::Sums;

/// The place of one model in the store.
pub(super) struct Shelf {
    store: PathBuf,
    folder: String,
}

impl Shelf {
    /// The place of the model with this hub id (`org/name`, its alphabet checked where the name was parsed).
    pub(super) fn new(store: &Path, id: &str) -> Self {
        Self { store: store.to_owned(), folder: id.replace('/', "--") }
    }

    /// Where the complete model is, or will be.
    pub(super) fn directory(&self) -> PathBuf {
        self.store.join(&self.folder)
    }

    fn hidden(&self, suffix: &str) -> PathBuf {
        self.store.join(format!(".{}.{suffix}", self.folder))
    }

    /// Waits until no other process fetches this model, and keeps others waiting until the guard is dropped.
    pub(super) fn lock(&self, progress: &dyn Progress) -> io::Result<Lock> {
        fs::create_dir_all(&self.store)?;
        let file = File::options().create(true).truncate(false).write(true).open(self.hidden("lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!("{}: waiting for another process that fetches it", self.folder));
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Lock { _file: file })
    }

    /// An empty directory to fetch into. The lock shows that nobody else is using it.
    pub(super) fn stage(&self, _lock: &Lock) -> io::Result<Stage> {
        let stage = Stage { directory: self.hidden("part") };
        stage.empty()?;
        Ok(stage)
    }

    /// Makes a complete stage the model of this place. What was there before is removed only now; a process that has it
    /// mapped keeps its pages.
    pub(super) fn publish(&self, stage: Stage, sums: &Sums) -> io::Result<PathBuf> {
        let mut listing = File::create_new(stage.directory.join(files::SUMS))?;
        listing.write_all(sums.to_string().as_bytes())?;
        listing.sync_all()?;
        File::open(&stage.directory)?.sync_all()?;
        let [directory, old] = [self.directory(), self.hidden("old")];
        remove(&old)?;
        if directory.exists() {
            fs::rename(&directory, &old)?;
        }
        fs::rename(&stage.directory, &directory)?;
        File::open(&self.store)?.sync_all()?;
        remove(&old)?;
        Ok(directory)
    }
}

/// Held while a model is fetched.
pub(super) struct Lock {
    _file: File,
}

/// A directory that is being filled; removed when dropped, unless it was published.
pub(super) struct Stage {
    directory: PathBuf,
}

impl Stage {
    /// Throws away what a source left, for the next source.
    pub(super) fn empty(&self) -> io::Result<()> {
        remove(&self.directory)?;
        fs::create_dir_all(&self.directory)
    }

    /// The directory that is being filled.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the file with this name goes; its folder exists then.
    pub(super) fn path(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.directory.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(path)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A stage that stays behind does no harm: the next one at this place empties it.
        drop(remove(&self.directory));
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::LogProgress;
    use super::*;

    #[test]
    fn published_model_replaces_the_old_one_and_leaves_no_stage() {
        let store = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(store.path(), "org/name");
        let lock = shelf.lock(&LogProgress).unwrap();
        for text in ["old", "new"] {
            let stage = shelf.stage(&lock).unwrap();
            fs::write(stage.path("1_Pooling/config.json").unwrap(), text).unwrap();
            shelf.publish(stage, &Sums::default()).unwrap();
        }
        let pooling = store.path().join("org--name/1_Pooling/config.json");
        assert_eq!(fs::read_to_string(pooling).unwrap(), "new");
        let mut left: Vec<_> =
            fs::read_dir(store.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".org--name.lock", "org--name"]);
    }

    #[test]
    fn stage_left_by_a_dead_process_is_emptied() {
        let store = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(store.path(), "org/name");
        let dead = store.path().join(".org--name.part");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("model.safetensors"), "half").unwrap();
        let lock = shelf.lock(&LogProgress).unwrap();
        let stage = shelf.stage(&lock).unwrap();
        assert_eq!(fs::read_dir(stage.directory()).unwrap().count(), 0);
        drop(stage);
        assert!(!dead.exists());
    }
}
