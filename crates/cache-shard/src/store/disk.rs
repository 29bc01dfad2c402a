//! Every access that a disk may refuse goes through here, so that a test can let it be full, read-only or broken.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{record::RECORD_BYTES_MAX, trouble::Change};

const PROBE: &str = "probe";

/// Asked before each access of the directory's files.
pub trait Gate: Debug + Send + Sync {
    /// May `bytes` be written? A change without bytes asks with 0.
    ///
    /// # Errors
    /// [`Refusal`] with how many bytes still get through.
    fn admit_write(&self, bytes: usize) -> Result<(), Refusal>;

    /// May a file or the directory be brought to the disk itself?
    ///
    /// # Errors
    /// What fsync would say.
    fn admit_sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// How many of `bytes` from `offset` of a segment on may be read? Not 0.
    ///
    /// # Errors
    /// What pread would say.
    fn admit_read(&self, _offset: u64, bytes: usize) -> io::Result<usize> {
        Ok(bytes)
    }
}

/// How a gate refuses a write.
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

impl Gate for Open {
    fn admit_write(&self, _: usize) -> Result<(), Refusal> {
        Ok(())
    }
}

/// The directory of a store.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    directory: PathBuf,
    gate: Arc<dyn Gate>,
}

impl Disk {
    pub(super) fn new(directory: PathBuf, gate: Arc<dyn Gate>) -> Self {
        Self { directory, gate }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn admit(&self) -> io::Result<()> {
        self.gate.admit_write(0).map_err(|refusal| refusal.error)
    }

    pub(super) fn create_directory(&self) -> io::Result<()> {
        if self.directory.is_dir() {
            return Ok(());
        }
        self.admit()?;
        fs::create_dir_all(&self.directory)
    }

    /// Makes a file that is not there yet. Never opens what is: a pipe would hold us up, a link lead elsewhere.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.admit()?;
        OpenOptions::new().write(true).create_new(true).open(self.path(name))
    }

    pub(super) fn open_to_write(&self, name: &str) -> io::Result<File> {
        self.admit()?;
        // For reading too: to open a pipe for writing alone waits for its reader.
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.gate.admit_write(bytes.len()) {
            Ok(()) => file.write_all_at(bytes, offset),
            Err(refusal) => {
                file.write_all_at(&bytes[..refusal.written_bytes.min(bytes.len())], offset)?;
                Err(refusal.error)
            }
        }
    }

    pub(super) fn read_exact_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_at(file, &mut bytes[filled..], offset + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }

    /// Reads what one call gives; 0 at the end of the file.
    pub(super) fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let admitted = self.gate.admit_read(offset, bytes.len())?.min(bytes.len());
        loop {
            match file.read_at(&mut bytes[..admitted], offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Gives `name` these contents: after a crash it has either the old ones or the new ones.
    pub(super) fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let draft = format!("{name}.draft");
        let file = self.create_afresh(&draft)?;
        self.write_at(&file, contents, 0)?;
        self.sync(&file)?;
        if self.path(name).is_dir() {
            self.make_free(name)?;
        }
        fs::rename(self.path(&draft), self.path(name))?;
        self.sync_directory()
    }

    /// Tries the change with a file as long as the largest record.
    pub(super) fn probe(&self, change: Change) -> io::Result<()> {
        let file = self.create_afresh(PROBE)?;
        let written = self.write_at(&file, &vec![0; RECORD_BYTES_MAX], 0);
        let probed = match change {
            Change::Write => written,
            Change::Sync => written.and_then(|()| self.sync(&file)),
        };
        fs::remove_file(self.path(PROBE)).and(probed)
    }

    fn create_afresh(&self, name: &str) -> io::Result<File> {
        self.admit()?;
        self.make_free(name)?;
        self.create(name)
    }

    pub(super) fn rename(&self, name: &str, next: &str) -> io::Result<()> {
        self.admit()?;
        fs::rename(self.path(name), self.path(next))
    }

    /// Removes a file; one that is gone already is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.admit()?;
        self.make_free(name)
    }

    /// Lets nothing have this name. A directory, which is none of ours, gets another one.
    fn make_free(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                fs::rename(&path, self.path(&format!("{name}.{:08x}.damaged", rand::random::<u32>())))
            }
            Ok(_) => fs::remove_file(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.gate.admit_sync()?;
        file.sync_data()
    }

    pub(super) fn sync_directory(&self) -> io::Result<()> {
        self.gate.admit_sync()?;
        File::open(&self.directory)?.sync_all()
    }
}
