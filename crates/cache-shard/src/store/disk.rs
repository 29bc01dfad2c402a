//! Every change of the directory goes through here, so that a test can let the disk be full, read-only or broken.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Asked before each change of the directory.
pub trait WriteGate: Debug + Send + Sync {
    /// May `bytes` be written? A change without bytes asks with 0.
    ///
    /// # Errors
    /// [`Refusal`] with how many bytes still get through.
    fn admit(&self, bytes: usize) -> Result<(), Refusal>;
}

/// How a gate refuses.
#[derive(Debug)]
pub struct Refusal {
    /// Bytes that are written all the same, as a disk that fills up does.
    pub written_bytes: usize,
    /// What the writer is told.
    pub error: io::Error,
}

/// The gate of a real disk, which refuses by itself.
#[derive(Debug)]
pub struct Open;

impl WriteGate for Open {
    fn admit(&self, _: usize) -> Result<(), Refusal> {
        Ok(())
    }
}

/// The directory of a store.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    directory: PathBuf,
    gate: Arc<dyn WriteGate>,
}

impl Disk {
    pub(super) fn new(directory: PathBuf, gate: Arc<dyn WriteGate>) -> Self {
        Self { directory, gate }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn admit(&self) -> io::Result<()> {
        self.gate.admit(0).map_err(|refusal| refusal.error)
    }

    pub(super) fn create_directory(&self) -> io::Result<()> {
        if self.directory.is_dir() {
            return Ok(());
        }
        self.admit()?;
        fs::create_dir_all(&self.directory)
    }

    /// Makes a file that is not there yet.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.admit()?;
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))
    }

    /// Opens a file that is there, or makes it.
    pub(super) fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.admit()?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(name))
    }

    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.gate.admit(bytes.len()) {
            Ok(()) => file.write_all_at(bytes, offset),
            Err(refusal) => {
                file.write_all_at(&bytes[..refusal.written_bytes.min(bytes.len())], offset)?;
                Err(refusal.error)
            }
        }
    }

    /// Gives `name` these contents: after a crash it has either the old ones or the new ones.
    pub(super) fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let draft = format!("{name}.draft");
        self.admit()?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(self.path(&draft))?;
        self.write_at(&file, contents, 0)?;
        file.sync_all()?;
        fs::rename(self.path(&draft), self.path(name))?;
        self.sync_directory()
    }

    pub(super) fn rename(&self, name: &str, next: &str) -> io::Result<()> {
        self.admit()?;
        fs::rename(self.path(name), self.path(next))
    }

    /// Removes a file; one that is gone already is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.admit()?;
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// Why the store does not take what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// No space left.
    Full,
    /// Not writable.
    ReadOnly,
    /// Anything else.
    Io,
}

/// The last change that failed; forgotten when one succeeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// What kind of failure it was.
    pub kind: TroubleKind,
    /// One sentence.
    pub message: String,
}

impl Trouble {
    pub(super) fn new(what: &str, error: &io::Error) -> Self {
        let is_among = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
        let kind = if is_among(&[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded]) {
            TroubleKind::Full
        } else if is_among(&[io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied]) {
            TroubleKind::ReadOnly
        } else {
            TroubleKind::Io
        };
        Self { kind, message: format!("{what}: {error}") }
    }
}
