//! What the store does with its directory: files made afresh, replaced whole, tried.

use std::{io, path::PathBuf, sync::Arc};

use super::{
    record::RECORD_BYTES_MAX,
    trouble::Change,
    vfs::{self, Access, Kind, Vfs, VfsFile},
};

const PROBE: &str = "probe";

/// The directory of a store.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<dyn Vfs>);

impl Disk {
    pub(super) fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self(vfs)
    }

    pub(super) fn vfs(&self) -> &dyn Vfs {
        &*self.0
    }

    /// Where a file lies, for people.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        vfs::shown(&*self.0, name)
    }

    /// Makes a file that is not there yet. Never opens what is: a pipe would hold us up, a link lead elsewhere.
    pub(super) fn create(&self, name: &str) -> io::Result<Arc<dyn VfsFile>> {
        self.0.create(name)
    }

    pub(super) fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn VfsFile>> {
        self.0.open(name, access)
    }

    /// The whole of a plain file of at most `bytes_max`; none where nothing has the name.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let bytes = match self.length(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            length => length?,
        };
        if bytes > bytes_max {
            return Err(too_long(bytes, bytes_max));
        }
        let mut contents = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        read_exact_at(&*self.open(name, Access::Read)?, &mut contents, 0)?;
        Ok(Some(contents))
    }

    /// Its length. Anything but a file, a pipe say, would hold up the start when it is opened.
    pub(super) fn length(&self, name: &str) -> io::Result<u64> {
        match self.0.kind(name)? {
            Kind::File(bytes) => Ok(bytes),
            Kind::Directory | Kind::Other => Err(io::Error::other("not a plain file")),
        }
    }

    /// Gives `name` these contents: after a crash it has either the old ones or the new ones.
    pub(super) fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.draft(name, contents)?.sync()?;
        self.put_in_place(name)?;
        self.0.sync()
    }

    /// The same for what may be lost: after a power cut it may have any contents.
    pub(super) fn replace_loosely(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.draft(name, contents)?;
        self.put_in_place(name)
    }

    fn draft(&self, name: &str, contents: &[u8]) -> io::Result<Arc<dyn VfsFile>> {
        let file = self.create_afresh(&draft_name(name))?;
        file.write_at(contents, 0)?;
        Ok(file)
    }

    fn put_in_place(&self, name: &str) -> io::Result<()> {
        if matches!(self.0.kind(name), Ok(Kind::Directory)) {
            self.remove(name)?;
        }
        self.0.rename(&draft_name(name), name)
    }

    /// Tries the change with a file as long as the largest record.
    pub(super) fn probe(&self, change: Change) -> io::Result<()> {
        let file = self.create_afresh(PROBE)?;
        let written = file.write_at(&vec![0; RECORD_BYTES_MAX], 0);
        let probed = match change {
            Change::Write => written,
            Change::Sync => written.and_then(|()| file.sync()),
        };
        self.0.remove(PROBE).and(probed)
    }

    fn create_afresh(&self, name: &str) -> io::Result<Arc<dyn VfsFile>> {
        self.remove(name)?;
        self.0.create(name)
    }

    pub(super) fn rename(&self, name: &str, next: &str) -> io::Result<()> {
        self.0.rename(name, next)
    }

    /// Lets nothing have this name; what is gone already is fine. A directory, which is none of ours, gets another name.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match self.0.kind(name) {
            Ok(Kind::Directory) => {
                self.0.rename(name, &format!("{name}.{:08x}.damaged", rand::random::<u32>()))
            }
            Ok(Kind::File(_) | Kind::Other) => self.0.remove(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn sync_directory(&self) -> io::Result<()> {
        self.0.sync()
    }
}

fn draft_name(name: &str) -> String {
    format!("{name}.draft")
}

/// Why a file is not read.
pub(super) fn too_long(bytes: u64, limit: u64) -> io::Error {
    io::Error::other(format!("{bytes} bytes, the limit is {limit}"))
}

/// Fills `bytes` from `offset` on.
pub(super) fn read_exact_at(file: &dyn VfsFile, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}
