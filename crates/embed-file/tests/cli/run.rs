//! Runs the binary in a folder of its own and reads what it wrote.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// A folder with an input file.
pub(crate) struct Folder {
    folder: TempDir,
    input: &'static str,
}

/// How a run ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Folder {
    /// A folder whose `texts.txt` holds `bytes`.
    pub(crate) fn with(bytes: impl AsRef<[u8]>) -> Self {
        Self::with_input("texts.txt", bytes)
    }

    /// A folder whose `input` holds `bytes`.
    pub(crate) fn with_input(input: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(input), bytes).unwrap();
        Self { folder, input }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Names of all files in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = self.folder.path().read_dir().unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The command, not yet started; `--file` and `--url` are set.
    pub(crate) fn command(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embed-file"));
        command
            .args(["--file", self.input, "--url", url])
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs to the end.
    pub(crate) async fn run(&self, url: &str, arguments: &[&str]) -> Ran {
        Ran::from(self.command(url, arguments).output().await.unwrap())
    }

    /// The rows of a `.npy`, NaN rows as `None`.
    pub(crate) fn npy(&self, name: &str) -> Vec<Option<Vec<f32>>> {
        read_npy(&self.path(name))
    }

    /// The lines of a `.jsonl`.
    pub(crate) fn jsonl(&self, name: &str) -> Vec<Value> {
        parse_lines(&std::fs::read_to_string(self.path(name)).unwrap())
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// One JSON value a line.
pub(crate) fn parse_lines(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read_npy(path: &Path) -> Vec<Option<Vec<f32>>> {
    let array = npyz::NpyFile::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).unwrap();
    let width = usize::try_from(array.shape()[1]).unwrap();
    let values = array.into_vec::<f32>().unwrap();
    values.chunks(width).map(|row| row.iter().all(|value| !value.is_nan()).then(|| row.to_vec())).collect()
}
