//! The least that HTTP costs: a handler that reads the request and returns the same bytes every time.

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::{Context, Result};
use axum::{
    Router,
    http::header::CONTENT_TYPE,
    routing::{get, post},
};
use bytes::Bytes;
use clap::Args;
use tokio::net::TcpListener;

/// Flags of the bare server, which only this program starts.
#[derive(Debug, Clone, Args)]
pub(crate) struct BareArgs {
    /// Port to listen on
    #[arg(long)]
    port: u16,
    /// File with the answer
    #[arg(long)]
    answer: PathBuf,
}

/// Serves until it is killed.
///
/// # Errors
/// Where the port is taken, or there is no answer.
pub(crate) async fn serve(args: BareArgs) -> Result<()> {
    let answer = Bytes::from(std::fs::read(&args.answer).context("read the answer")?);
    let embed = move |_request: Bytes| async move { ([(CONTENT_TYPE, "application/json")], answer) };
    let app = Router::new().route("/embed", post(embed)).route("/health", get(|| async { "ready" }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await.context("listen")?;
    Ok(axum::serve(listener, app).await?)
}
