//! A machine that Bochs makes of instructions, and what is said on its serial line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::image;
use crate::cli::EmulateArgs;
use crate::console;

/// Where Debian and a build from source put what every machine begins with.
const BIOS: [&str; 2] = ["/usr/share/bochs/BIOS-bochs-latest", "/usr/local/share/bochs/BIOS-bochs-latest"];
const VIDEO_BIOS: [&str; 2] =
    ["/usr/share/vgabios/vgabios.bin", "/usr/local/share/bochs/VGABIOS-lgpl-latest"];

/// How long until the first test begins: ten to thirty seconds on a core of 2021.
const BOOT_TIMEOUT: Duration = Duration::from_secs(180);
/// How long until the next has ended: the longest takes four minutes there.
const TEST_TIMEOUT: Duration = Duration::from_secs(1800);

/// What is needed to boot.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    args: &'a EmulateArgs,
    folder: &'a Path,
    kernel: PathBuf,
    bios: &'static Path,
    video_bios: &'static Path,
}

impl<'a> Machine<'a> {
    /// Looks for all of it; files of the machine go to `folder`.
    pub(super) fn find(args: &'a EmulateArgs, folder: &'a Path) -> Result<Self> {
        let first = |paths: [&'static str; 2], package| {
            let found = paths.map(Path::new).into_iter().find(|path| path.exists());
            found
                .with_context(|| format!("neither {} nor {} (apt-get install {package})", paths[0], paths[1]))
        };
        let kernel = match &args.kernel {
            Some(kernel) => kernel.clone(),
            None => {
                newest_kernel().context("no /boot/vmlinuz-* (apt-get install linux-image-cloud-amd64)")?
            }
        };
        let (bios, video_bios) = (first(BIOS, "bochsbios")?, first(VIDEO_BIOS, "vgabios")?);
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Self { args, folder, kernel, bios, video_bios })
    }

    /// Boots a Linux that runs `program`, passes on what it says, and gives the code it ended with.
    pub(super) fn boot(&self, program: &Path) -> Result<u32> {
        let variables = format!("PROPTEST_CASES={}", self.args.cases);
        let arguments = ["--color=never", "--test-threads=1"].map(str::to_owned);
        let arguments = arguments.iter().chain(&self.args.filters).cloned().collect::<Vec<_>>().join(" ");
        let image = image::write(self.folder, &self.kernel, program, (&variables, &arguments))?;
        let (configuration, log) = (self.folder.join("bochsrc"), self.folder.join("bochs.log"));
        fs::write(&configuration, self.configuration(&image, &log))
            .context("write the machine's configuration")?;
        let errors = self.folder.join("bochs.err");
        let errors = fs::File::create(&errors).with_context(|| format!("create {}", errors.display()))?;
        let mut child = Command::new(&self.args.bochs)
            .arg("-q")
            .arg("-f")
            .arg(&configuration)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {} (apt-get install bochs)", self.args.bochs.display()))?;
        let code = listen(&mut child);
        // Nothing more is to come.
        child.kill().and_then(|()| child.wait()).context("end the emulator")?;
        code?.ok_or_else(|| {
            anyhow!(
                "the machine stopped before its tests ended; why is in {}/bochs.err or .log",
                self.folder.display()
            )
        })
    }

    fn configuration(&self, image: &Path, log: &Path) -> String {
        let (cpu, display) = (self.args.cpu, &self.args.display);
        let without =
            cpu.without().map(|features| format!(", exclude_features=\"{features}\"")).unwrap_or_default();
        let paths = [self.bios, self.video_bios, image, log].map(|path| path.display().to_string());
        let [bios, video_bios, image, log] = paths;
        // Only a display that would wait for somebody to look has this option.
        let options = if display == "rfb" { ", options=\"timeout=0\"" } else { "" };
        format!(
            "megs: 1024\n\
             romimage: file={bios}\n\
             vgaromimage: file={video_bios}\n\
             display_library: {display}{options}\n\
             cpu: model={}, count=1, ips=200000000, reset_on_triple_fault=0{without}\n\
             ata0-master: type=cdrom, path={image}, status=inserted\n\
             boot: cdrom\n\
             com1: enabled=1, mode=file, dev=/dev/stdout\n\
             clock: sync=none\n\
             log: {log}\n\
             panic: action=fatal\nerror: action=report\ninfo: action=ignore\n",
            cpu.model()
        )
    }
}

fn newest_kernel() -> Option<PathBuf> {
    let entries = fs::read_dir("/boot").ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    entries.filter(is_kernel).max_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
}

/// Passes on what tests say, and gives the code they ended with; none if the machine stopped before that.
fn listen(child: &mut Child) -> Result<Option<u32>> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("the emulator has no standard input or output")
    };
    // Debian's Bochs has a debugger, which waits for leave to begin; one without ignores this.
    stdin.write_all(b"c\n").and_then(|()| stdin.flush()).context("speak to the emulator")?;
    let lines = lines_of(stdout)?;
    let mut has_begun = false;
    loop {
        let line = match lines.recv_timeout(if has_begun { TEST_TIMEOUT } else { BOOT_TIMEOUT }) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if has_begun => {
                bail!("the tests have said nothing for {} s", TEST_TIMEOUT.as_secs())
            }
            Err(RecvTimeoutError::Timeout) => bail!(
                "no test has begun within {} s: does this Linux boot on this CPU? (--kernel; 6.12 does)",
                BOOT_TIMEOUT.as_secs()
            ),
        };
        if let Some(code) = code_of(&line) {
            return Ok(Some(code));
        }
        // The loader and the kernel speak before.
        has_begun |= line.starts_with("running ");
        if has_begun && !line.trim_end().is_empty() {
            console::say(line.trim_end());
        }
    }
}

/// What is said, line by line, read in a thread of its own until there is no more or nobody listens.
fn lines_of(stdout: ChildStdout) -> Result<Receiver<String>> {
    let (sender, lines) = channel();
    let read = move || {
        let said = BufReader::new(stdout).split(b'\n').map_while(Result::ok);
        let mut said = said.map(|line| String::from_utf8_lossy(&line).into_owned());
        while said.next().is_some_and(|line| sender.send(line).is_ok()) {}
    };
    thread::Builder::new().name("machine".to_owned()).spawn(read).context("start a thread")?;
    Ok(lines)
}

/// The code of the tests whose end `line` tells.
fn code_of(line: &str) -> Option<u32> {
    line.strip_prefix(image::END)?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_the_tests_tells_their_code() {
        assert_eq!(code_of("emulate: the tests ended with 0\r"), Some(0));
        assert_eq!(code_of("emulate: the tests ended with 101\r"), Some(101));
        assert_eq!(code_of("test tier::tests::unknown ... ok\r"), None);
    }
}
