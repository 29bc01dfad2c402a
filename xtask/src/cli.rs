//! The command line: what `cargo xtask --help` prints is written here.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::RangedU64ValueParser, value_parser};

/// Replicas of ml-base at most: as many slots has the balancer.
const REPLICAS_MAX: i64 = 8;
/// The model of a first run.
pub(crate) const DEFAULT_MODEL: &str = "medium";

/// Text in, vectors out: starts, uses, tests and checks the embedding service of this workspace.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask up                                     build, get the model, start, try it, supervise
  cargo xtask embed --file texts.txt --out v.npy     a file of texts through the running system
  cargo xtask cache stats                            what the shared cache holds
  cargo xtask down                                   stop it, from any terminal
  cargo xtask accuracy --candidate bfloat16          what a precision class costs in answers
  cargo xtask test                                   every test

Everything that is written lies under .sutra/ in the workspace: models, logs, and run/ while services run.";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Up(UpArgs),
    /// Stop what `up` started: drain, then stop, from any terminal
    ///
    /// Exits 0 also when nothing runs.
    Down,
    Status(StatusArgs),
    /// Send a file of texts through the running system and write the vectors
    ///
    /// Builds and starts `embed-file` with all arguments given, adding --url of the running system unless there is one.
    /// `cargo xtask embed --help` shows its options.
    #[command(disable_help_flag = true)]
    Embed(PassedOn),
    /// Look into the running cache: stats, get, delete, clear, similar, export
    ///
    /// Builds and starts `cache-admin` with all arguments given, adding --url of the running shard unless there is one.
    /// `cargo xtask cache --help` shows its commands.
    #[command(disable_help_flag = true)]
    Cache(PassedOn),
    /// Measure the running system, or the engine alone
    #[command(subcommand)]
    Bench(Bench),
    /// Tell how much a precision class or a shorter vector changes answers
    ///
    /// Builds, gets the model, and starts `accuracy` with all arguments given; it starts an ml-base for each class and stops it.
    /// `cargo xtask accuracy --help` shows its options.
    #[command(disable_help_flag = true)]
    Accuracy(PassedOn),
    Test(TestArgs),
    /// Run the tests of kernels under AddressSanitizer, which needs nightly
    ///
    /// kernels is the one crate with unsafe code. The sanitizer sees what compiled code and intrinsics touch, and what
    /// tile instructions do where the CPU has none and software carries them out; on a CPU with AMX it does not see those,
    /// which have assertions of their shapes before them.
    Sanitize,
    Emulate(EmulateArgs),
    Prove(ProveArgs),
    /// Check the rules: fmt, clippy, doc, cargo-deny where it is installed, tidy
    ///
    /// Stops at the first step that fails; a table at the end shows how long each step took.
    Ci,
    /// Check what the compiler does not: sizes, names, the arrows between crates
    ///
    /// Each message names the file, what was found, and the limit. `.rs` files have at most 500 lines, services never
    /// depend on each other, there is no mod.rs, and only known entries lie at the top level.
    Tidy,
    /// What `up --detach` leaves running
    #[command(hide = true)]
    Supervise(GridArgs),
}

/// Run the tests of kernels on a CPU that this machine has not, in the emulator Bochs
///
/// Each test program is all that a Linux runs, on a CPU of another kind. Needs Bochs 3.0 or later with AVX-512
/// (configure --enable-x86-64 --enable-cpu-level=6 --enable-avx --enable-evex --enable-all-optimizations --with-nogui; Debian's package
/// from 13 on, with --display rfb) and Debian's busybox-static, bochsbios, vgabios, isolinux, syslinux-common, xorriso and
/// linux-image-cloud-amd64. Says nothing about speed.
#[derive(Args, Debug)]
pub(crate) struct EmulateArgs {
    /// The CPU
    #[arg(long, value_enum, default_value_t = EmulatedCpu::IceLake)]
    pub(crate) cpu: EmulatedCpu,
    /// Cases of each property that is tested with drawn values; some take a second
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    pub(crate) cases: u32,
    /// The emulator
    #[arg(long, default_value = "bochs", value_name = "PROGRAM")]
    pub(crate) bochs: PathBuf,
    /// How it shows a screen that nobody looks at
    #[arg(long, default_value = "nogui", value_name = "LIBRARY")]
    pub(crate) display: String,
    /// The Linux [default: the newest /boot/vmlinuz-*]
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// Only tests whose names contain one of these
    #[arg(value_name = "NAME")]
    pub(crate) filters: Vec<String>,
}

/// A CPU that Bochs knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmulatedCpu {
    /// AVX-512
    SkylakeX,
    /// AVX-512 and VNNI. Needs Linux 6.12
    IceLake,
    /// AVX-512, VNNI and bf16, tiles in software. Needs Linux 6.12; Bochs 3.0 reads wrong numbers in vcvtne2ps2bf16
    SapphireRapids,
    /// AVX2 and AVX-VNNI. Needs Linux 6.12
    ArrowLake,
}

impl EmulatedCpu {
    /// As it is called here.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SkylakeX => "skylake-x",
            Self::IceLake => "ice-lake",
            Self::SapphireRapids => "sapphire-rapids",
            Self::ArrowLake => "arrow-lake",
        }
    }

    /// As Bochs calls it.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::SkylakeX => "corei7_skylake_x",
            Self::IceLake => "corei7_icelake_u",
            Self::SapphireRapids => "sapphire_rapids",
            Self::ArrowLake => "arrow_lake",
        }
    }

    /// What Linux needs more of than Bochs has: for tiles, and for addresses of 57 bits.
    pub(crate) fn without(self) -> Option<&'static str> {
        match self {
            Self::SkylakeX | Self::IceLake => None,
            Self::SapphireRapids => Some("amx_bf16,amx_int8,amx,la57"),
            Self::ArrowLake => Some("la57"),
        }
    }
}

/// Prove at length what `test` proves in short: no fault makes the shard answer a wrong vector, no order of turns either,
/// and AMX computes the model's vectors
///
/// The threads of L1, of single-flight and of the store in orders that are drawn, one test after the other. Random operations on a simulated disk that loses its power and whose bytes rot, against a model of what may be answered;
/// then the real program, killed again and again, against a journal of what it acknowledged. Ends with the counts, and with 1
/// at the first wrong vector, together with the seed that finds it again. Last, the real model (`cargo xtask test` fetches
/// it) in AMX tiles, whose instructions are carried out in software on a CPU that has AVX-512 with bfloat16 but no AMX.
#[derive(Args, Debug)]
pub(crate) struct ProveArgs {
    /// Operations on simulated disks
    #[arg(long, default_value_t = 10_000_000, value_name = "COUNT")]
    pub(crate) operations: u64,
    /// Times the real program is killed
    #[arg(long, default_value_t = 500, value_name = "COUNT")]
    pub(crate) kills: u64,
    /// Orders in which the threads of a test take their turns, for each test of those
    #[arg(long, default_value_t = 100_000, value_name = "COUNT")]
    pub(crate) schedules: u64,
    /// Begin with this seed instead of a random one
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Bench {
    /// Load on the running system: latencies, texts a second, memory
    ///
    /// Builds and starts `loadtest` with all arguments given, adding --url and a --server-pid for each service of the
    /// running system unless they are given. `cargo xtask bench serve --help` shows its options.
    #[command(disable_help_flag = true)]
    Serve(PassedOn),
    /// The engine alone on real texts: texts a second, short queries, the share of the peak; nothing has to run
    ///
    /// Builds and starts `engine-bench` with all arguments given. --model takes an alias, an id of the hub or a directory
    /// [default: medium] and is fetched first. `cargo xtask bench engine --help` shows its options.
    #[command(disable_help_flag = true)]
    Engine(PassedOn),
    /// Each kernel of the engine alone, on one thread, and its share of what the machine could do; nothing has to run
    ///
    /// Builds and starts `engine-bench kernels` with all arguments given. `cargo xtask bench kernels --help` shows its options.
    #[command(disable_help_flag = true)]
    Kernels(PassedOn),
    /// The cache: cache-shard alone, or in turns with redis-server and memcached (--peers); nothing has to run
    ///
    /// Builds and starts `cache-bench` with all arguments given. `cargo xtask bench cache --help` shows its options.
    #[command(disable_help_flag = true)]
    Cache(PassedOn),
    /// The hit rate, second by second, while a cache shard joins, is killed and comes back; nothing has to run
    ///
    /// Builds, gets the model, and starts `cache-bench shards` with all arguments given. `cargo xtask bench shards --help` shows
    /// its options.
    #[command(disable_help_flag = true)]
    Shards(PassedOn),
    /// Hit ratios of the proxy's own cache at equal bytes, beside other policies, on made-up traffic
    ///
    /// Builds and starts `cache-bench l1` with all arguments given. `cargo xtask bench l1 --help` shows its options.
    #[command(disable_help_flag = true)]
    L1(PassedOn),
}

/// Build, get the model, start every service, try them, supervise
///
/// Starts cache-shard, the replicas of ml-base, HAProxy in front of them where it is installed, and embedding-single.
/// Waits until all are ready, embeds two sample texts, prints their similarity, the endpoints and a curl line to paste.
/// A service that dies is started again, after 0.2 s at first and 10 s at most. Ctrl-C drains and stops everything; a
/// second Ctrl-C kills at once. The vectors in cache-shard stay for the next start.
///
/// Variables such as EMBEDDING_CACHE_SIZE, STORAGE_PATH or HF_ENDPOINT are passed on to the services, and one that is
/// set wins over what `up` itself would choose: WORKER_THREADS (the cores divided by the replicas), SPARE_THREADS (the
/// other cores, for while nobody wants them), EMBEDDING_ML_BASE_CALLS_MAX, ML_BASE_LB_MAXCONN, EMBEDDING_PRECISION_CLASSES
/// (int8 as well where ML_BASE_DTYPE is int8). Only ports, addresses and instance ids are always those of `up`.
///
/// Exits 2 where a port is taken, the system runs already, or several replicas lack HAProxy.
#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// Give the terminal back once the services are ready; `cargo xtask down` stops them
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) grid: GridArgs,
}

/// Which model, on which ports, how often.
#[derive(Args, Clone, Debug)]
pub(crate) struct GridArgs {
    /// Model: an alias of deploy/models.toml, an id of the hub, or a directory
    #[arg(long, value_name = "ALIAS|ID|DIR", env = "MODEL_NAME", default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    /// embedding-single takes port P, the front of ml-base P+1, cache-shard P+2, HAProxy's statistics P+3, the replicas
    /// behind HAProxy P+4 and up [default: 8888, 8887, 50052, 9999, 8901 and up]
    #[arg(long, value_name = "P", value_parser = RangedU64ValueParser::<u16>::new().range(1..=65524))]
    pub(crate) ports_from: Option<u16>,
    /// Replicas of ml-base behind HAProxy, 8 at most [default: 2 where HAProxy is installed, 1 where it is not]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=REPLICAS_MAX))]
    pub(crate) replicas: Option<u16>,
    /// HAProxy's binary, or `none` for one replica without it [default: the one in PATH, /usr/local/sbin or /usr/sbin]
    #[arg(long, value_name = "FILE|none", env = "SUTRA_HAPROXY")]
    pub(crate) haproxy: Option<OsString>,
}

impl GridArgs {
    /// The same as words of a command line.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["--model".into(), self.model.clone().into()];
        words.extend(self.ports_from.map(|port| format!("--ports-from={port}").into()));
        words.extend(self.replicas.map(|count| format!("--replicas={count}").into()));
        if let Some(haproxy) = &self.haproxy {
            words.extend(["--haproxy".into(), haproxy.clone()]);
        }
        words
    }
}

/// What runs and how well: services, balancer slots, models, caches
///
/// Reads the state file of `up`, asks every service (at most a second a question, all services at once), HAProxy's stats socket and
/// /proc. CPU and rates are those of half a second. Where embedding-single asks for a key, API_KEY is sent.
///
/// Exits 0 where all is ready; 1 where a service is not ready or degraded, a balancer slot is down, or an objective of --slo is
/// missed; 3 where nothing runs.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Compare with the objectives of the plan as well
    ///
    /// The plan's key performance indicators: p95 of latency < 200 ms, availability > 99.9 %, total cache hit rate > 70 %; and its
    /// figures for the machine, taken as upper bounds: CPU 45 %, memory 68 %. Latency and availability are those of
    /// embedding-single since its start, of requests for work: probes such as /health count neither as answered nor as fast. The
    /// hit rate counts since the last clear; CPU and memory are what all services use now.
    #[arg(long)]
    pub(crate) slo: bool,
}

/// Run every test; what had to be skipped is said at the end, and why
///
/// Installs HAProxy where it is missing and this may (apt-get, as root or with a sudo that asks nothing), and says so
/// first; tests that need it skip themselves elsewhere.
///
/// Builds the binaries, fetches the model that some tests need, then runs cargo-nextest where it is installed and
/// `cargo test` elsewhere. Without the model those tests skip themselves, unless CI or SUTRA_REQUIRE_MODEL is set: then it is
/// an error. The last line reads `N passed, N failed` or `N passed, N failed, N skipped`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// Leave the packages of this machine as they are
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Passed on to the test runner, for example `-p engine` or a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
}

/// Arguments for another binary.
#[derive(Args, Debug)]
pub(crate) struct PassedOn {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_after_embed_belongs_to_embed_file() {
        let cli = Cli::try_parse_from(["xtask", "embed", "--help"]).unwrap();
        assert!(matches!(cli.command, Command::Embed(passed) if passed.args == ["--help"]));
    }

    #[test]
    fn ports_from_leaves_room_for_all_ports() {
        assert!(Cli::try_parse_from(["xtask", "up", "--ports-from", "65524"]).is_ok());
        assert!(Cli::try_parse_from(["xtask", "up", "--ports-from", "65525"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "up", "--ports-from", "0"]).is_err());
    }

    #[test]
    fn balancer_has_eight_slots() {
        assert!(Cli::try_parse_from(["xtask", "up", "--replicas", "8"]).is_ok());
        assert!(Cli::try_parse_from(["xtask", "up", "--replicas", "9"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "up", "--replicas", "0"]).is_err());
    }

    #[test]
    fn detached_supervisor_is_given_what_up_was_given() {
        let given = ["xtask", "supervise", "--model", "small", "--ports-from=9000", "--replicas=3"];
        let Command::Supervise(args) = Cli::try_parse_from(given).unwrap().command else {
            panic!("supervise")
        };
        let args = GridArgs { haproxy: Some("none".into()), ..args };
        let words = ["--model", "small", "--ports-from=9000", "--replicas=3", "--haproxy", "none"];
        assert_eq!(args.words(), words);
    }

    #[test]
    fn refusal_to_install_is_not_passed_on_to_the_runner() {
        let cli = Cli::try_parse_from(["xtask", "test", "--no-install", "-p", "engine"]).unwrap();
        assert!(
            matches!(cli.command, Command::Test(args) if args.no_install && args.args == ["-p", "engine"])
        );
    }
}
