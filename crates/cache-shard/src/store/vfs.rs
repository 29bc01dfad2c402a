//! What the store asks of a file system: a seam, so that a test can put one of its own in the place of the real one and
//! let it be full, read-only or broken, or cut its power.
//!
//! A file system here is one flat directory. Names are UTF-8; what has another name is none of ours.

use std::{
    any::Any,
    fmt::Debug,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading alone, so that a file system can become read-only under it.
    Read,
    /// Reading and writing.
    Write,
}

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plain file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A pipe, a link, a device: to open it may wait or lead elsewhere.
    Other,
}

/// Keeps a directory locked until it is dropped.
pub type LockGuard = Box<dyn Any + Send + Sync>;

/// One directory.
pub trait Vfs: Debug + Send + Sync {
    /// Where it lies, for people.
    fn path(&self) -> PathBuf;

    /// Makes the directory, and those above it, where it is not there.
    ///
    /// # Errors
    /// What mkdir would say.
    fn create_directory(&self) -> io::Result<()>;

    /// Locks the directory for this process; none if another process has it.
    ///
    /// # Errors
    /// What flock would say.
    fn lock(&self) -> io::Result<Option<LockGuard>>;

    /// The names in it.
    ///
    /// # Errors
    /// What readdir would say.
    fn list(&self) -> io::Result<Vec<String>>;

    /// What has this name; links are not followed.
    ///
    /// # Errors
    /// What lstat would say; [`io::ErrorKind::NotFound`] where nothing has it.
    fn kind(&self, name: &str) -> io::Result<Kind>;

    /// Makes a file that is not there yet, for writing.
    ///
    /// # Errors
    /// What open would say; [`io::ErrorKind::AlreadyExists`] where something has the name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn VfsFile>>;

    /// Opens a file.
    ///
    /// # Errors
    /// What open would say.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn VfsFile>>;

    /// Gives a file another name, in the place of what had it.
    ///
    /// # Errors
    /// What rename would say.
    fn rename(&self, name: &str, next: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What unlink would say.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Brings the names to the disk itself.
    ///
    /// # Errors
    /// What fsync would say.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait VfsFile: Debug + Send + Sync {
    /// Reads what one call gives; 0 at the end of the file.
    ///
    /// # Errors
    /// What pread would say.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads like [`Self::read_at`] what is in memory already; none where that would wait for a disk, or where nobody knows.
    ///
    /// # Errors
    /// What preadv2 would say.
    fn read_now(&self, _bytes: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        Ok(None)
    }

    /// Writes all of `bytes`. After an error any part of them may be there.
    ///
    /// # Errors
    /// What pwrite would say.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts it to this length.
    ///
    /// # Errors
    /// What ftruncate would say.
    fn cut(&self, length: u64) -> io::Result<()>;

    /// Brings its contents and its length to the disk itself.
    ///
    /// # Errors
    /// What fdatasync would say.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the system.
#[derive(Debug, Clone)]
pub struct RealFs {
    directory: PathBuf,
}

/// On the directory itself, and so the same one whatever lies in it and whether it can be written.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough while a child that was just forked has the directory open too.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the directory was not unlocked");
        }
    }
}

impl RealFs {
    /// The directory at `directory`, which need not be there.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Vfs for RealFs {
    fn path(&self) -> PathBuf {
        self.directory.clone()
    }

    fn create_directory(&self) -> io::Result<()> {
        // One that is there may lie where nothing can be made.
        if self.directory.is_dir() { Ok(()) } else { fs::create_dir_all(&self.directory) }
    }

    fn lock(&self) -> io::Result<Option<LockGuard>> {
        let directory = File::open(&self.directory)?;
        match directory.try_lock() {
            Ok(()) => Ok(Some(Box::new(Lock(directory)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.directory)?;
        names
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn kind(&self, name: &str) -> io::Result<Kind> {
        let metadata = fs::symlink_metadata(self.at(name))?;
        Ok(match metadata.file_type() {
            kind if kind.is_file() => Kind::File(metadata.len()),
            kind if kind.is_dir() => Kind::Directory,
            _ => Kind::Other,
        })
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn VfsFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(self.at(name))?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn VfsFile>> {
        // For reading too where it is written: to open a pipe for writing alone waits for its reader.
        let file = OpenOptions::new().read(true).write(access == Access::Write).open(self.at(name))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, name: &str, next: &str) -> io::Result<()> {
        fs::rename(self.at(name), self.at(next))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

impl VfsFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn read_now(&self, bytes: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        match preadv2(self, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Some(read)),
            // It is not in memory, or the file system cannot tell, or the kernel is older than the question.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The path of a name, for messages.
pub(super) fn shown(vfs: &dyn Vfs, name: &str) -> PathBuf {
    Path::new(&vfs.path()).join(name)
}
