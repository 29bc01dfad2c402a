//! A small file system of a test's own, seen by nobody else and gone with the test, whatever becomes of it.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

/// Ways to a namespace of mounts: as the superuser, and as somebody whom the system lets be one in there.
const WAYS: [&str; 2] = ["--mount", "--map-root-user"];

/// A process that holds the namespace, and where the file system lies in it.
pub struct Stage {
    holder: Child,
    directory: TempDir,
    is_rootless: bool,
}

impl Stage {
    /// Mounts by `mount`, a line of shell that has the directory as `$1` and a path beside it as `$2`.
    ///
    /// Where the system does not allow that, the test `name` says so, on stderr and as a line of the file
    /// `SUTRA_SKIP_LOG`, and gets `None`.
    pub async fn set(name: &str, mount: &str) -> Option<Self> {
        let mut reasons = Vec::new();
        for way in WAYS {
            match Self::set_by(way, mount).await {
                Ok(stage) => return Some(stage),
                Err(reason) => reasons.push(reason),
            }
        }
        let skipped = format!("cache-shard::{name}: no file system can be mounted: {}\n", reasons.join("; "));
        if let Some(log) = variable("SUTRA_SKIP_LOG") {
            let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
            log.write_all(skipped.as_bytes()).unwrap();
        }
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        None
    }

    async fn set_by(way: &str, mount: &str) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let image = tempfile::NamedTempFile::new().unwrap();
        // `cat` ends with this process, and the namespace with `cat`.
        let script = format!("{mount} && echo mounted && exec cat >/dev/null");
        let mut holder = Command::new("unshare")
            .args([way, "--mount", "sh", "-c", &script, "sh"])
            .args([directory.path(), image.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        if line.trim() == "mounted" {
            return Ok(Self { holder, directory, is_rootless: way != WAYS[0] });
        }
        let mut said = String::new();
        holder.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
        Err(said.trim().replace('\n', ", "))
    }

    /// Where the file system lies, for processes in the namespace.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The same for this process.
    pub fn seen_from_here(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id().unwrap());
        Path::new(&root).join(self.directory().strip_prefix("/").unwrap())
    }

    /// What goes before a command that runs in the namespace.
    pub fn enter(&self) -> Vec<OsString> {
        let target = format!("--target={}", self.holder.id().unwrap());
        let user: &[&str] = if self.is_rootless { &["--user", "--preserve-credentials"] } else { &[] };
        let words = [&["nsenter", &target, "--mount"], user].concat();
        words.into_iter().map(OsString::from).collect()
    }

    /// Mounts it once more with other `options`.
    pub async fn remount(&self, options: &str) {
        let enter = self.enter();
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(["mount", "-o", &format!("remount,{options}")]).arg(self.directory());
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A word to whoever runs the proofs.
pub fn say(words: &str) {
    use std::io::Write;
    let mut terminal = std::io::stderr();
    writeln!(terminal, "{words}").unwrap();
}
