//! The command line, and what it means once it is checked.

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use api_key::ApiKey;
use clap::{Parser, ValueEnum};
use hyper::Uri;

use crate::{api::Api, client::Target, report::Form, run::Config, versus::Peer, workload::Choice};

const AFTER_HELP: &str = "\
A closed loop: each client has its own keep-alive connection and sends its next request when it has the answer to the \
last; after an error it waits 0.1 s. The client takes its share of the same machine, so the server alone would be \
somewhat faster.

Exit codes: 0 no error, 1 some requests failed, 2 the run could not start, 130 interrupted.";

/// Puts load on a running embedding server and reports latencies and texts a second.
#[derive(Debug, Parser)]
#[command(name = "loadtest", after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// One text a line; empty lines, lines that are not UTF-8 and repeated lines are left out
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Where the server listens
    #[arg(long, default_value = "http://127.0.0.1:8888")]
    url: String,
    /// Let `--url` and `--peer` point at another machine
    #[arg(long)]
    allow_remote: bool,
    /// Bearer key of the server; `@FILE` reads it from a file, which keeps it out of the list of processes
    #[arg(long, env = "API_KEY", hide_env_values = true, value_name = "KEY|@FILE")]
    api_key: Option<ApiKey>,
    /// Clients at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// How long to measure
    #[arg(long, default_value = "60", value_parser = parse_seconds)]
    seconds: Duration,
    /// Load before the measurement that is not counted
    #[arg(long, default_value = "3", value_parser = parse_seconds)]
    warm_up_seconds: Duration,
    /// When a request counts as failed, with this as its latency
    #[arg(long, default_value = "30", value_parser = parse_seconds)]
    timeout_seconds: Duration,
    /// Texts of one request
    #[arg(long, default_value = "1")]
    texts_per_request: NonZeroUsize,
    /// Which texts are sent
    #[arg(long, value_enum, default_value_t = WorkloadName::Unique)]
    workload: WorkloadName,
    /// Short for `--workload unique`
    #[arg(long, conflicts_with = "workload")]
    unique: bool,
    /// Texts that `repeat` draws from
    #[arg(long, default_value = "1000")]
    distinct: NonZeroUsize,
    /// Seed of the draws of `repeat`
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ask the server to leave its caches aside (`cache-control: no-cache`)
    #[arg(long)]
    no_cache: bool,
    /// Process of the server whose resident memory is watched; may be repeated
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
    /// Another server that gets the same load in turns with `--url`; ours is asked to leave its caches aside
    #[arg(long, value_name = "URL", conflicts_with = "workload")]
    peer: Option<String>,
    /// What the peer speaks; `auto` tries one after the other
    #[arg(long, value_enum, requires = "peer", default_value_t = PeerApi::Auto)]
    peer_api: PeerApi,
    /// The `model` of requests to a peer's `/v1/embeddings`
    #[arg(long, requires = "peer", default_value = "default", value_name = "NAME")]
    peer_model: String,
    /// Process of the peer whose resident memory is watched; may be repeated
    #[arg(long, requires = "peer", value_name = "PID")]
    peer_pid: Vec<u32>,
    /// Turns of each server, with `--seconds` each
    #[arg(long, requires = "peer", default_value = "3", value_name = "N")]
    rounds: NonZeroUsize,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WorkloadName {
    /// Each text once, in the order of the file; once it is exhausted, texts come again with a number appended
    Unique,
    /// Draws from the first `--distinct` texts, all of which are sent once before the measurement
    Repeat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PeerApi {
    /// `/embed` first, then `/v1/embeddings`
    Auto,
    /// `POST /embed`, as text-embeddings-inference has it
    Embed,
    /// `POST /v1/embeddings`, as OpenAI has it
    Openai,
}

impl Args {
    /// Checks what clap cannot: the address and the key.
    pub(crate) fn into_config(self) -> anyhow::Result<Config> {
        let base = parse_base("--url", &self.url)?;
        self.ensure_allowed("--url", &base)?;
        let peer = self.peer()?;
        ensure!(!self.seconds.is_zero(), "`--seconds` is 0, there would be nothing to measure");
        ensure!(!self.timeout_seconds.is_zero(), "`--timeout-seconds` is 0, no request could be answered");
        let choice = match self.workload {
            WorkloadName::Unique => Choice::Unique,
            WorkloadName::Repeat => Choice::Repeat { distinct: self.distinct },
        };
        Ok(Config {
            file: self.file,
            target: Target {
                base,
                api: Api::Embed,
                bearer: self.api_key.map(ApiKey::bearer).transpose()?.flatten(),
                no_cache: self.no_cache,
                timeout: self.timeout_seconds,
            },
            clients: self.clients,
            measured: self.seconds,
            warm_up: self.warm_up_seconds,
            texts_per_request: self.texts_per_request,
            choice,
            seed: self.seed,
            server_pids: self.server_pid,
            form: if self.json { Form::Json } else { Form::Table },
            peer,
        })
    }

    /// The other server; it is sent no key of ours.
    fn peer(&self) -> anyhow::Result<Option<Peer>> {
        let Some(url) = &self.peer else { return Ok(None) };
        let base = parse_base("--peer", url)?;
        self.ensure_allowed("--peer", &base)?;
        let openai = || Api::OpenAi { model: self.peer_model.clone() };
        let apis = match self.peer_api {
            PeerApi::Auto => vec![Api::Embed, openai()],
            PeerApi::Embed => vec![Api::Embed],
            PeerApi::Openai => vec![openai()],
        };
        let target = Target {
            base,
            api: apis[0].clone(),
            bearer: None,
            no_cache: false,
            timeout: self.timeout_seconds,
        };
        Ok(Some(Peer { target, apis, pids: self.peer_pid.clone(), rounds: self.rounds }))
    }

    fn ensure_allowed(&self, flag: &str, base: &Uri) -> anyhow::Result<()> {
        ensure!(
            self.allow_remote || is_loopback(base),
            "`{flag}` is {base}, which is another machine: load on it needs `--allow-remote`"
        );
        Ok(())
    }
}

fn parse_base(flag: &str, url: &str) -> anyhow::Result<Uri> {
    let base: Uri =
        url.trim_end_matches('/').parse().with_context(|| format!("`{flag}` {url} is not an address"))?;
    ensure!(base.scheme_str() == Some("http"), "`{flag}` is {url}, it must begin with http://");
    Ok(base)
}

fn is_loopback(base: &Uri) -> bool {
    let Some(host) = base.host() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn parse_seconds(given: &str) -> Result<Duration, String> {
    let seconds: f64 = given.parse().map_err(|_| format!("`{given}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{given}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> anyhow::Result<Config> {
        Args::try_parse_from([&["loadtest", "--file", "a"], arguments].concat())?.into_config()
    }

    #[test]
    fn only_this_machine_is_loaded_unless_asked() {
        for url in ["http://127.0.0.1:1", "http://127.8.8.8:1", "http://[::1]:1", "http://localhost:1"] {
            assert!(config(&["--url", url]).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1:1", "http://localhost.example:1", "http://[::2]:1", "http://example.org"]
        {
            assert!(config(&["--url", url]).unwrap_err().to_string().contains("--allow-remote"), "{url}");
            assert!(config(&["--url", url, "--allow-remote"]).is_ok(), "{url}");
            assert!(config(&["--peer", url]).unwrap_err().to_string().contains("`--peer`"), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_flag_name() {
        for (arguments, expected) in [
            (["--seconds", "0"].as_slice(), "`--seconds` is 0"),
            (&["--seconds", "1e99"], "--seconds"),
            (&["--url", "https://127.0.0.1"], "http://"),
            (&["--unique", "--workload", "repeat"], "cannot be used with"),
        ] {
            let error = config(arguments).expect_err("the arguments should be refused");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
