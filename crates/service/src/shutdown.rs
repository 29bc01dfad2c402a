//! From a signal to an orderly end: the first one drains, the second one ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status of a process that was told twice to stop.
const EXIT_INTERRUPTED: i32 = 130;

/// A token that SIGTERM or SIGINT cancels. Call it before anything slow, so that a stop during start-up is heard.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let name = next().await;
        tracing::info!(signal = name, "stopping; a second signal ends at once");
        token.cancel();
        next().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(shutdown)
}
