//! The command line, and what it means once it is checked.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::http::bare::BareArgs;
use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, Parser, Subcommand, builder::TypedValueParser};

const AFTER_HELP: &str = "\
Each engine is a process of its own over a new directory, on this machine, with the same clients: a connection each, in a \
closed loop, the same keys and vectors in the same order. They take turns: what the machine does meanwhile meets all of \
them. Figures of different runs say little; ratios of one run do.

Exit codes: 0 measured, 1 measured, but a vector was not that of its key, 2 could not start, 130 interrupted.";

/// An empty redis takes one already, and its clients some more.
const PEERS_BOUNDED_MIB_MIN: u64 = 8;

/// Measures cache-shard beside redis-server and memcached: keys a second, latencies, memory, disk, restarts, hit ratios.
#[derive(Debug, Parser)]
#[command(name = "cache-bench", after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Another part.
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
    /// What the main part takes.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// Hit ratios of the proxy's L1 at equal bytes: lru, adaptive, lru with TinyLFU, quick_cache
    L1(L1Config),
    /// The hit rate of a proxy, second by second, while a fourth shard joins three, one is killed, and comes back
    Shards(ShardsConfig),
    /// The bare handler of `--http`, a process of its own
    #[command(hide = true)]
    Bare(BareArgs),
}

/// Flags of the traces; there is nothing to check that clap cannot.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct L1Config {
    /// Vectors there is room for
    #[arg(long, default_value_t = 10_000, value_name = "COUNT", value_parser = sizes(1_000_000))]
    pub(crate) entries: usize,
    /// Keys of a trace
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT", value_parser = sizes(100_000_000))]
    pub(crate) requests: usize,
    /// Numbers of a vector
    #[arg(long, default_value_t = 384, value_name = "COUNT", value_parser = sizes(16_384))]
    pub(crate) width: usize,
    /// Seed of all traces
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of the shards that come and go.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ShardsConfig {
    /// Texts that are asked for, each as often as any other
    #[arg(long, default_value_t = 5000, value_name = "COUNT", value_parser = sizes(1_000_000))]
    pub(crate) texts: usize,
    /// Requests a second, of one text each
    #[arg(long, default_value_t = 500, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Clients that share the rate, a connection each
    #[arg(long, default_value_t = 16, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) clients: u32,
    /// How long each phase is watched
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,
    /// `--shard-join-window` of the proxies; 0 shows what a join costs where no old owner is asked
    #[arg(long, default_value = "600", value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) join_window: Duration,
    /// Directory of the model that makes the vectors; `cargo xtask` fetches and names it
    #[arg(long, value_name = "DIR", value_parser = existing_directory)]
    pub(crate) model: PathBuf,
    /// Report as one JSON object, with each second
    #[arg(long)]
    pub(crate) json: bool,
}

fn existing_directory(given: &str) -> Result<PathBuf, String> {
    existing(Path::new(given)).map_err(|error| format!("{error:#}"))
}

/// A number from 1 to `most`.
fn sizes(most: u64) -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64).range(1..=most).map(|size| usize::try_from(size).unwrap_or(usize::MAX))
}

/// Flags of the main part.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct StoreArgs {
    /// Measure redis-server and memcached in turns with ours; they are installed where they are missing and this may
    #[arg(long)]
    peers: bool,
    /// Leave the packages of this machine as they are
    #[arg(long)]
    no_install: bool,
    /// Vectors that are there before the first turn
    #[arg(long, default_value_t = 100_000, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=4_000_000))]
    entries: u64,
    /// Vectors that are there when an engine is started again; 0 leaves that out
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(..=4_000_000))]
    restart_entries: u64,
    /// Bytes that each engine may hold where hit ratios are compared, in MiB; 0 leaves that out
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u64).range(..=16_384))]
    bounded_mib: u64,
    /// Clients at once
    #[arg(long, default_value_t = 8, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// How long a turn takes
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = parse_seconds)]
    seconds: Duration,
    /// Turns of each engine
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seed of all draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure hits through HTTP instead: L1 beside a bare handler, L2 beside a GET of redis where `--peers` is given
    #[arg(long, requires = "model")]
    http: bool,
    /// Directory of the model that makes the vectors of `--http`; `cargo xtask` fetches and names it
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where the engines keep what they write, in a folder that goes with the run [default: that of the system for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// What a run of the main part needs to know.
#[derive(Debug)]
pub(crate) struct StoreConfig {
    /// Whether the peers take part.
    pub(crate) peers: bool,
    /// Whether none may be installed.
    pub(crate) no_install: bool,
    /// Vectors before the first turn.
    pub(crate) entries: u64,
    /// Vectors at a restart; none leaves it out.
    pub(crate) restart_entries: Option<u64>,
    /// Bytes where hit ratios are compared; none leaves it out.
    pub(crate) bounded_bytes: Option<u64>,
    /// Clients at once.
    pub(crate) clients: u16,
    /// Length of a turn.
    pub(crate) length: Duration,
    /// Turns of each.
    pub(crate) rounds: usize,
    /// Of all draws.
    pub(crate) seed: u64,
    /// Where engines write.
    pub(crate) directory: PathBuf,
    /// JSON instead of tables.
    pub(crate) json: bool,
}

/// What a run through HTTP needs to know.
#[derive(Debug)]
pub(crate) struct HttpConfig {
    /// What it shares with the main part.
    pub(crate) store: StoreConfig,
    /// Directory of the model.
    pub(crate) model: PathBuf,
}

/// Which part is measured.
#[derive(Debug)]
pub(crate) enum Config {
    /// The caches themselves.
    Store(StoreConfig),
    /// Hits through HTTP.
    Http(HttpConfig),
}

impl StoreArgs {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// By the name of the flag.
    pub(crate) fn into_config(self) -> anyhow::Result<Config> {
        let model = self.model.clone().filter(|_| self.http);
        let store = self.into_store()?;
        Ok(match model {
            Some(model) => Config::Http(HttpConfig { store, model: existing(&model)? }),
            None => Config::Store(store),
        })
    }

    fn into_store(self) -> anyhow::Result<StoreConfig> {
        ensure!(
            !self.peers || !(1..PEERS_BOUNDED_MIB_MIN).contains(&self.bounded_mib),
            "`--bounded-mib` is {}, the least with `--peers` is {PEERS_BOUNDED_MIB_MIN}: redis needs some for itself",
            self.bounded_mib
        );
        ensure!(!self.seconds.is_zero(), "`--seconds` is 0, there would be nothing to measure");
        ensure!(
            !self.no_install || self.peers,
            "`--no-install` says something about `--peers`, which is missing"
        );
        Ok(StoreConfig {
            peers: self.peers,
            no_install: self.no_install,
            entries: self.entries,
            // What is filled before is there in any case.
            restart_entries: (self.restart_entries > 0).then(|| self.restart_entries.max(self.entries)),
            bounded_bytes: (self.bounded_mib > 0).then_some(self.bounded_mib << 20),
            clients: self.clients,
            length: self.seconds,
            rounds: usize::from(self.rounds),
            seed: self.seed,
            directory: self.directory.unwrap_or_else(std::env::temp_dir),
            json: self.json,
        })
    }
}

/// The whole path: services do not run in the caller's directory.
fn existing(model: &Path) -> anyhow::Result<PathBuf> {
    model.canonicalize().with_context(|| format!("`--model` {}", model.display()))
}

fn parse_seconds(given: &str) -> Result<Duration, String> {
    let seconds: f64 = given.parse().map_err(|_| format!("`{given}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{given}`: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn config(arguments: &[&str]) -> anyhow::Result<StoreConfig> {
        Args::try_parse_from([&["cache-bench"], arguments].concat())?.store.into_store()
    }

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_flag_name() {
        for (arguments, expected) in [
            (["--seconds", "0"].as_slice(), "`--seconds` is 0"),
            (&["--seconds", "x"], "--seconds"),
            (&["--no-install"], "`--no-install`"),
            (&["--peers", "--bounded-mib", "1"], "`--bounded-mib` is 1"),
            (&["--entries", "0"], "--entries"),
        ] {
            let error = config(arguments).expect_err("the arguments should be refused");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn nothing_leaves_a_part_out() {
        let config = config(&["--restart-entries", "0", "--bounded-mib", "0"]).unwrap();
        assert_eq!((config.restart_entries, config.bounded_bytes), (None, None));
    }
}
