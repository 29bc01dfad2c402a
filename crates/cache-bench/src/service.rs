//! A service of this workspace that runs, and is ready.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    process::Child,
    time::{sleep, timeout},
};

use crate::{
    engine::find,
    http::asker::Http,
    server::{free_address, last_lines, spawn_logged},
};

/// How long a service may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A process of this workspace that answers `/health`. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Service {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _child: Child,
}

impl Service {
    /// Starts `program` on a free port and waits until it is ready.
    ///
    /// # Errors
    /// Where it ends instead; with the end of its log.
    pub(crate) async fn start(
        program: &str,
        name: &str,
        place: &Path,
        arguments: &[OsString],
    ) -> Result<Self> {
        let address = free_address()?;
        let log = place.join(name).with_extension("log");
        let port = ["--port".into(), address.port().to_string().into()];
        let first: &[OsString] = if program == "cache-bench" { &["bare".into()] } else { &[] };
        let all: Vec<OsString> = first.iter().chain(&port).chain(arguments).cloned().collect();
        let mut child = spawn_logged(&own(program)?, &all, &log)?;
        tokio::select! {
            ready = timeout(PATIENCE, wait_ready(address)) => {
                ensure!(ready.is_ok(), "{program} is not ready after {PATIENCE:?}{}", last_lines(&log));
            }
            status = child.wait() => bail!("{program} ended before it was ready ({}){}", status?, last_lines(&log)),
        }
        Ok(Self { address, _child: child })
    }
}

async fn wait_ready(address: SocketAddr) {
    loop {
        if let Ok(mut http) = Http::connect(address).await
            && http.is_ready().await.unwrap_or(false)
        {
            return;
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// The path of a program of this workspace.
///
/// # Errors
/// Where it is not built.
pub(crate) fn own(program: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("{program} is not built: `cargo xtask bench cache` builds it"))
}

/// Arguments.
pub(crate) fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
