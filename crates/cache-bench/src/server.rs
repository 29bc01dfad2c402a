//! An engine that runs: a process, its port, its directory and its log.

use std::{
    ffi::OsString,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    client::{self, Client},
    engine::{Bound, Engine},
    keys::Key,
    process,
};

/// Between two questions to an engine that is not ready yet; what a time to ready can be off by.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long an engine may take until it is ready, or has ended.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of the log of an engine that did not come up.
const LOG_LINES_SHOWN: usize = 10;

/// A running engine. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which one.
    pub(crate) engine: Engine,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    program: PathBuf,
    /// All that it writes.
    directory: PathBuf,
    bound: Bound,
    child: Child,
}

/// What an engine that was started again was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The vector that it had before.
    Vector,
    /// Nothing: it answers, with a miss.
    Nothing,
}

impl Server {
    /// Starts `program` over a new folder in `place` and waits until it answers.
    ///
    /// # Errors
    /// Where it ends instead; with the end of its log.
    pub(crate) async fn start(engine: Engine, program: &Path, place: &Path, bound: Bound) -> Result<Self> {
        let directory = place.join(engine.name());
        fs::create_dir_all(&directory).context("make a folder for an engine")?;
        let address = free_address()?;
        let child = spawn(engine, program, address, &directory, bound)?;
        let mut server = Self { engine, address, program: program.to_owned(), directory, bound, child };
        server.wait_ready(None).await?;
        Ok(server)
    }

    /// Ends it with `signal`, starts it again over what it left, and waits until it gives back the vector of `key`, or,
    /// where it cannot, until it answers. Returns the time from its start to that answer.
    ///
    /// # Errors
    /// Where it does not end, or not come back.
    pub(crate) async fn restart(&mut self, signal: Signal, key: &Key) -> Result<(Duration, Found)> {
        self.end(signal).await?;
        let start = Instant::now();
        self.spawn_again()?;
        let found = self.wait_ready(Some(key)).await?;
        Ok((start.elapsed(), found))
    }

    /// Starts it again over what it left, once it has ended, and waits until it answers.
    ///
    /// # Errors
    /// Where it ends instead.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        self.spawn_again()?;
        self.wait_ready(None).await.map(|_| ())
    }

    fn spawn_again(&mut self) -> Result<()> {
        self.child = spawn(self.engine, &self.program, self.address, &self.directory, self.bound)?;
        Ok(())
    }

    /// Ends it and waits until it has gone.
    ///
    /// # Errors
    /// Where it does not go.
    pub(crate) async fn end(&mut self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).context("signal an engine")?;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.with_context(|| format!("{} does not end", self.engine.name()))??;
        Ok(())
    }

    /// Its resident memory.
    ///
    /// # Errors
    /// Where it has ended.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        process::memory_bytes(self.child.id().context("it has ended")?)
    }

    /// What it has given to the disk since it was started.
    ///
    /// # Errors
    /// Where it has ended, or the kernel does not count.
    pub(crate) fn written_bytes(&self) -> Result<u64> {
        process::written_bytes(self.child.id().context("it has ended")?)
    }

    /// What its files take on the disk now.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        Ok(process::disk_bytes(&self.directory)?)
    }

    /// Bytes of its index, where it counts them.
    ///
    /// # Errors
    /// Where it does not answer.
    pub(crate) async fn index_bytes(&self) -> Result<Option<u64>> {
        match self.engine {
            Engine::CacheShard => client::shard_index_bytes(self.address).await,
            Engine::Redis | Engine::Memcached => Ok(None),
        }
    }

    fn pid(&self) -> Result<Pid> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        id.and_then(Pid::from_raw).with_context(|| format!("{} has ended", self.engine.name()))
    }

    async fn wait_ready(&mut self, key: Option<&Key>) -> Result<Found> {
        let asking = ask_until_ready(self.engine, self.address, key);
        let ended = tokio::select! {
            found = timeout(PATIENCE, asking) => match found {
                Ok(found) => return Ok(found),
                Err(_) => None,
            },
            status = self.child.wait() => Some(status?),
        };
        let name = self.engine.name();
        let log = last_lines(&log_file(&self.directory));
        match ended {
            Some(status) => bail!("{name} ended before it was ready ({status}){log}"),
            None => bail!("{name} is not ready after {PATIENCE:?}{log}"),
        }
    }
}

/// A port that nobody has. Somebody may take it before the engine does; then that says so and ends.
///
/// # Errors
/// Where there is none.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

fn spawn(
    engine: Engine,
    program: &Path,
    address: SocketAddr,
    directory: &Path,
    bound: Bound,
) -> Result<Child> {
    spawn_logged(program, &engine.arguments(address, directory, bound), &log_file(directory))
}

/// A process that is killed with the value, and says what it has to say in `log`.
///
/// # Errors
/// Where it cannot be started.
pub(crate) fn spawn_logged(program: &Path, arguments: &[OsString], log: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log).context("open a log")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        // The variables of whoever calls would change what is measured.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    command.spawn().with_context(|| format!("start {}", program.display()))
}

/// Beside the folder of the engine, so that it is none of the bytes it takes.
fn log_file(directory: &Path) -> PathBuf {
    directory.with_extension("log")
}

/// How a log ends, to be put behind a sentence.
pub(crate) fn last_lines(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(LOG_LINES_SHOWN));
    let shown: String = shown.map(|line| format!("\n  {line}")).collect();
    if shown.is_empty() { shown } else { format!("; the end of its log:{shown}") }
}

/// Asks again and again. An engine that is to have `key` is ready once it gives it back; others once they answer.
async fn ask_until_ready(engine: Engine, address: SocketAddr, key: Option<&Key>) -> Found {
    let asked = key.copied().unwrap_or_else(|| Key::new(0));
    loop {
        if let Ok(mut client) = Client::connect(engine, address).await
            && let Ok(found) = client.get_many(&[asked]).await
        {
            let has_vector = found.iter().flatten().any(|vector| asked.owns(vector));
            if has_vector {
                return Found::Vector;
            }
            if key.is_none() || !engine.is_persistent() {
                return Found::Nothing;
            }
        }
        sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_ends_at_once_is_told_with_its_log() {
        let place = tempfile::tempdir().unwrap();
        let program = Path::new("/bin/false");
        let start = Server::start(Engine::Redis, program, place.path(), Bound::Entries(1));
        let error = start.await.unwrap_err().to_string();
        assert!(error.starts_with("redis ended before it was ready"), "{error}");
    }

    #[test]
    fn last_lines_of_a_log_are_shown() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("a.log");
        let lines: Vec<String> = (0..20).map(|index| format!("line {index}")).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        let shown = last_lines(&log);
        assert!(shown.contains("line 10") && shown.contains("line 19") && !shown.contains("line 9\n"));
        assert_eq!(last_lines(Path::new("/nowhere")), "");
    }
}
