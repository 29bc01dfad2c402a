//! The real programs, with the arguments these tests give them.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use e2e::{Door, Program, model_dir};

/// Both programs, ready.
pub(crate) struct Programs {
    pub(crate) ml_base: Program,
    pub(crate) proxy: Program,
}

impl Programs {
    /// For the test of this name; `None` where the model is not on this machine.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let model = model_dir(test)?;
        let ml_base = start_ml_base(&model, &["--port", "0"]);
        let proxy = start_proxy(ml_base.ready().await, &[]);
        proxy.ready().await;
        Some(Self { ml_base, proxy })
    }
}

/// ml-base with the model of this directory.
pub(crate) fn start_ml_base(model: &Path, arguments: &[&str]) -> Program {
    let model = model.to_str().unwrap();
    let own = ["--model-id", model, "--model-store", model, "--drain-max", "50"];
    let dtype: &[&str] = if arguments.contains(&"--dtype") { &[] } else { &["--dtype", "float32"] };
    Program::start("ml-base", &[&own, dtype, arguments].concat())
}

/// embedding-single in front of this ml-base. It uses shards where the arguments name a port or a list.
pub(crate) fn start_proxy(ml_base: Door, arguments: &[&str]) -> Program {
    let url = format!("http://{}", ml_base.0);
    let own = ["--port", "0", "--ml-base-url", &url, "--drain-max", "50"];
    let names_shard = arguments.iter().any(|argument| ["--shard-port", "--shards"].contains(argument));
    let no_shard: &[&str] = if names_shard { &[] } else { &["--shard-enabled", "false"] };
    Program::start("embedding-single", &[&own, no_shard, arguments].concat())
}

/// cache-shard on this directory.
pub(crate) fn start_shard(directory: &Path, arguments: &[&str]) -> Program {
    let own = ["--storage-path", directory.to_str().unwrap(), "--drain-max", "50"];
    Program::start("cache-shard", &[&own, arguments].concat())
}

/// A loopback address that no other test uses: a port of it stays free while the program that had it is away.
pub(crate) fn own_host() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() * 8 + STARTED.fetch_add(1, Ordering::Relaxed);
    let [_, a, b, c] = number.to_be_bytes();
    format!("127.{}.{b}.{c}", a % 127 + 1)
}
