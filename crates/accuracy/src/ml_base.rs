//! An ml-base of our own, on a port that the system chooses.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use hyper::{StatusCode, Uri};
use protocol::inference::PrecisionClass;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::http::Http;

/// Between two looks at `/health`.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Last lines of its log that are shown where it does not come up.
const LOG_LINES_KEPT: usize = 10;

/// A running ml-base. Dropping it ends it: it keeps nothing that could be lost.
#[derive(Debug)]
pub(crate) struct MlBase {
    child: Child,
    address: watch::Receiver<Option<SocketAddr>>,
    log: Log,
    reader: JoinHandle<()>,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl MlBase {
    /// Starts `program` in this class, with the environment of this process.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(crate) fn start(program: &Path, class: PrecisionClass, model: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(["--host", "127.0.0.1", "--port", "0", "--log-format", "json"])
            .args(["--instance-id", "accuracy", "--dtype", class.name(), "--model-id", model])
            // One model, whatever else the caller serves.
            .env_remove("ML_BASE_MODELS")
            // The address is learnt from its log.
            .env("RUST_LOG", "info")
            // The engine has threads of its own; without this candle reads /proc/cpuinfo before every product.
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let stderr = child.stderr.take().context("ml-base has no standard error")?;
        let (write, address) = watch::channel(None);
        let log = Log::default();
        let reader = tokio::spawn(read_log(stderr, Arc::clone(&log), write));
        Ok(Self { child, address, log, reader })
    }

    /// Where it answers, once it is ready.
    ///
    /// # Errors
    /// Where it ends, or is not ready within `patience`; with the end of its log.
    pub(crate) async fn ready(&mut self, patience: Duration) -> anyhow::Result<Uri> {
        let ready = timeout(patience, wait_ready(self.address.clone()));
        let ended = tokio::select! {
            ready = ready => match ready {
                Ok(Ok(uri)) => return Ok(uri),
                // Its standard error is closed: it is about to end.
                Ok(Err(_)) => timeout(patience, self.child.wait()).await.ok(),
                Err(_) => None,
            },
            status = self.child.wait() => Some(status),
        };
        let Some(status) = ended else {
            bail!("ml-base is not ready after {patience:?}{}", self.shown_log())
        };
        let status = status.context("wait for ml-base")?;
        // Until what it wrote last is read as well.
        timeout(LOOK_INTERVAL, &mut self.reader).await.ok();
        Err(anyhow!("ml-base ended before it was ready ({status}){}", self.shown_log()))
    }

    /// Ends it and waits until it has gone.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("stop ml-base")
    }

    fn shown_log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = log.iter().map(|line| format!("\n  {line}")).collect();
        format!("; the end of its log:{}", lines.concat())
    }
}

async fn wait_ready(mut address: watch::Receiver<Option<SocketAddr>>) -> anyhow::Result<Uri> {
    let address = (*address.wait_for(Option::is_some).await?).context("ml-base names no address")?;
    let uri: Uri = format!("http://{address}").parse()?;
    let http = Http::new(uri.clone(), None);
    loop {
        if matches!(http.get("/health").await, Ok((StatusCode::OK, _))) {
            return Ok(uri);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

async fn read_log(stderr: ChildStderr, log: Log, address: watch::Sender<Option<SocketAddr>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(found) = listening(&line) {
            address.send_replace(Some(found));
        }
        if line.trim().is_empty() {
            continue;
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LOG_LINES_KEPT {
            log.pop_front();
        }
        log.push_back(message(line));
    }
}

fn listening(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    let is_listening = event["fields"]["message"] == "listening";
    event["fields"]["address"].as_str().filter(|_| is_listening)?.parse().ok()
}

/// What a line of the log says; the line itself where it is none of JSON, as those about the command line are.
fn message(line: String) -> String {
    let event: Option<Value> = serde_json::from_str(&line).ok();
    let said = event.and_then(|event| event["fields"]["message"].as_str().map(str::to_owned));
    said.unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_from_the_line_that_says_listening() {
        let line =
            r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:4711","instance":"a"}}"#;
        assert_eq!(listening(line), Some("127.0.0.1:4711".parse().unwrap()));
        for other in [&line.replace("listening", "loaded"), "error: invalid value", "{}"] {
            assert_eq!(listening(other), None, "{other}");
        }
    }

    #[test]
    fn lines_are_shown_as_people_read_them() {
        assert_eq!(message(r#"{"fields":{"message":"no such file"}}"#.to_owned()), "no such file");
        assert_eq!(message("error: invalid value".to_owned()), "error: invalid value");
    }
}
