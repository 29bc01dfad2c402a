//! What every program does between its configuration and its exit.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{server, shutdown};

/// Exit status where the configuration is wrong; clap's own where an argument is.
pub const EXIT_USAGE: u8 = 2;

/// How long threads that still compute may hold up the end of the process; they hold nothing that must be saved.
const EXIT_DELAY_MAX: Duration = Duration::from_secs(1);

/// Runs a service to its end: a runtime, the signals, a listener on `address`, and then `run`.
///
/// # Errors
/// If one of these cannot be had, and what `run` fails with.
pub fn run<E, Run, Running>(address: SocketAddr, run: Run) -> Result<(), E>
where
    E: From<io::Error>,
    Run: FnOnce(TcpListener, CancellationToken) -> Running,
    Running: Future<Output = Result<(), E>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        // First, so that a stop is heard from the beginning.
        let shutdown = shutdown::on_signal()?;
        let listener = server::bind(address).await?;
        run(listener, shutdown).await
    });
    runtime.shutdown_timeout(EXIT_DELAY_MAX);
    result
}
