//! Who takes part, and with which arguments each is started.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use serde::Serialize;

/// The least memory memcached is given where nothing bounds it.
const MEMCACHED_MIB_MIN: u64 = 1024;
/// Bytes of a vector with all that an engine adds, generously: a bound that is never met.
const ENTRY_BYTES_MOST: u64 = 4096;

/// One of the caches that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    /// Ours.
    CacheShard,
    /// redis-server with an append-only file.
    Redis,
    /// memcached, which keeps nothing on the disk.
    Memcached,
}

/// How much an engine may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// All of so many entries, nothing is evicted.
    Entries(u64),
    /// So many bytes; what is used least goes.
    Bytes(u64),
}

impl Engine {
    /// As tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CacheShard => "cache-shard",
            Self::Redis => "redis",
            Self::Memcached => "memcached",
        }
    }

    /// The program, which for a peer is also the name of Debian's package.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::CacheShard => "cache-shard",
            Self::Redis => "redis-server",
            Self::Memcached => "memcached",
        }
    }

    /// Whether what it holds survives its end.
    pub(crate) fn is_persistent(self) -> bool {
        self != Self::Memcached
    }

    /// What it is started with, as Debian's defaults have it but for what is named here.
    pub(crate) fn arguments(self, address: SocketAddr, directory: &Path, bound: Bound) -> Vec<OsString> {
        let port = address.port().to_string();
        match self {
            Self::CacheShard => shard(port, directory, bound),
            Self::Redis => redis(port, directory, bound),
            Self::Memcached => memcached(port, bound),
        }
    }
}

fn shard(port: String, directory: &Path, bound: Bound) -> Vec<OsString> {
    let (entries_max, bytes_max) = match bound {
        Bound::Entries(entries) => (entries.max(1_000_000), entries.saturating_mul(ENTRY_BYTES_MOST)),
        Bound::Bytes(bytes) => (u64::from(u32::MAX), bytes),
    };
    // A store has at most 256 segments of 64 MiB.
    let bytes_max = bytes_max.clamp(1 << 20, 16 << 30);
    let mut words = words(&["--log-format", "json", "--port", &port]);
    words.extend(words_of("--entries-max", entries_max));
    words.extend(words_of("--bytes-max", bytes_max));
    words.extend(["--storage-path".into(), directory.into()]);
    words
}

fn redis(port: String, directory: &Path, bound: Bound) -> Vec<OsString> {
    let mut words = words(&["--bind", "127.0.0.1", "--port", &port]);
    words.extend(self::words(&["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]));
    if let Bound::Bytes(bytes) = bound {
        words.extend(words_of("--maxmemory", bytes));
        words.extend(self::words(&["--maxmemory-policy", "allkeys-lru"]));
    }
    words.extend(["--dir".into(), directory.into()]);
    words
}

fn memcached(port: String, bound: Bound) -> Vec<OsString> {
    let mib = match bound {
        Bound::Entries(entries) => (entries.saturating_mul(ENTRY_BYTES_MOST) >> 20).max(MEMCACHED_MIB_MIN),
        Bound::Bytes(bytes) => bytes >> 20,
    };
    let mut words = words(&["-l", "127.0.0.1", "-U", "0", "-p", &port, "-m", &mib.to_string()]);
    if geteuid().is_root() {
        // It refuses to run as root unless it is told to.
        words.extend(self::words(&["-u", "root"]));
    }
    words
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn words_of(flag: &str, value: u64) -> [OsString; 2] {
    [flag.into(), value.to_string().into()]
}

/// Where `program` lies: ours beside this program, those of others in PATH or where Debian puts servers.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?.with_file_name(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    std::iter::once(own)
        .chain(folders.map(|folder: PathBuf| folder.join(program)))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(engine: Engine, bound: Bound) -> String {
        let arguments = engine.arguments("127.0.0.1:7".parse().unwrap(), Path::new("/d"), bound);
        arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_are_bounded_by_the_same_bytes() {
        let bound = Bound::Bytes(64 << 20);
        assert!(line(Engine::CacheShard, bound).contains("--bytes-max 67108864 --storage-path /d"));
        assert!(line(Engine::Redis, bound).contains("--maxmemory 67108864 --maxmemory-policy allkeys-lru"));
        assert!(line(Engine::Memcached, bound).contains("-m 64"));
    }

    #[test]
    fn redis_keeps_what_it_was_given_as_often_as_ours_does() {
        let line = line(Engine::Redis, Bound::Entries(1));
        assert!(line.contains("--appendonly yes --appendfsync everysec --save  --dir /d"), "{line}");
    }
}
