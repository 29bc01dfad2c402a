//! HAProxy on this machine: where its binary is, and where its admin socket can be.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// How to get it on Debian and Ubuntu.
pub(crate) const INSTALL: &str = "apt-get install haproxy";

/// The word that stands for "use none" in place of a path.
const NONE: &str = "none";
/// Debian puts it where the `PATH` of users often does not look.
const ADMIN_FOLDERS: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];
const SOCKET_NAME: &str = "haproxy-admin.sock";
/// The kernel takes 107 bytes, and HAProxy binds a longer name first and renames it.
const SOCKET_PATH_BYTES_MAX: usize = 90;

/// Whether there is a balancer to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Haproxy {
    /// This binary.
    At(PathBuf),
    /// None is where one would look for it.
    NotInstalled,
    /// The caller wants none.
    LeftOut,
}

impl Haproxy {
    /// What the caller named: a binary or `none`; where nothing is named, what is installed.
    ///
    /// # Errors
    /// The named path, where no program is.
    pub(crate) fn choose(named: Option<&OsStr>) -> Result<Self, PathBuf> {
        match named {
            None => Ok(Self::installed()),
            Some(word) if word == NONE => Ok(Self::LeftOut),
            Some(path) => {
                let path = Path::new(path);
                let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                if is_program(&full) { Ok(Self::At(full)) } else { Err(full) }
            }
        }
    }

    /// What is in `PATH`, or where administrators' programs are.
    pub(crate) fn installed() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(ADMIN_FOLDERS.map(PathBuf::from));
        find_in(folders).map_or(Self::NotInstalled, Self::At)
    }
}

fn find_in(folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("haproxy"))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Where HAProxy takes orders, for as long as this lives.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    path: PathBuf,
    _folder: Option<TempDir>,
}

impl AdminSocket {
    /// In `run_dir`, or in a folder of its own where that path is too long for a socket.
    pub(crate) fn in_or_beside(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(SOCKET_NAME);
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self { path, _folder: None });
        }
        // Whoever could enter it could give HAProxy orders.
        let owner_only = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("sutra-").permissions(owner_only).tempdir()?;
        Ok(Self { path: folder.path().join(SOCKET_NAME), _folder: Some(folder) })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable file called `haproxy` in `folder`.
    fn program(folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join("haproxy");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn first_folder_that_holds_the_program_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let folders = ["empty", "data", "sbin", "later"].map(|name| root.path().join(name));
        fs::create_dir_all(&folders[1]).unwrap();
        fs::write(folders[1].join("haproxy"), "no program").unwrap();
        let expected = program(&folders[2]);
        program(&folders[3]);
        assert_eq!(find_in(folders.into_iter()), Some(expected));
        assert_eq!(find_in([root.path().join("empty")].into_iter()), None);
    }

    #[test]
    fn named_program_is_taken_and_a_wrong_path_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let path = program(root.path());
        assert_eq!(Haproxy::choose(Some(path.as_os_str())), Ok(Haproxy::At(path)));
        assert_eq!(Haproxy::choose(Some(OsStr::new("none"))), Ok(Haproxy::LeftOut));
        let wrong = root.path().join("absent");
        assert_eq!(Haproxy::choose(Some(wrong.as_os_str())), Err(wrong));
    }

    #[test]
    fn socket_with_a_path_too_long_gets_a_folder_of_its_own() {
        let short = AdminSocket::in_or_beside(Path::new("/w/.sutra/run")).unwrap();
        assert_eq!(short.path(), Path::new("/w/.sutra/run/haproxy-admin.sock"));
        let deep = Path::new("/w").join("deep".repeat(30));
        let socket = AdminSocket::in_or_beside(&deep).unwrap();
        let folder = socket.path().parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        drop(socket);
        assert!(!folder.exists());
    }
}
