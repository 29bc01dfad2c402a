//! The command line.

use std::{path::PathBuf, str::FromStr};

use clap::{Parser, Subcommand};

use crate::shown::Form;

const AFTER_HELP: &str = "\
Keys are 64 hex digits, as `export` and `similar` print them. Exit codes: 0 done, 1 the key is nowhere, 2 a shard could \
not be asked.";

/// Looks into running cache shards: counts, records, neighbours; removes, clears, exports.
#[derive(Debug, Parser)]
#[command(name = "cache-admin", after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where a shard listens; repeatable, or a list with commas
    #[arg(
        long = "url",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:50052",
        value_name = "URL",
        global = true
    )]
    pub(crate) urls: Vec<String>,
    /// Namespace of the proxies
    #[arg(long, env = "EMBEDDING_NAMESPACE", default_value = "default", value_name = "NAME", global = true)]
    pub(crate) namespace: String,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What each shard holds, and what it has counted since it was started
    Stats,
    /// One record, with its vector
    Get {
        /// Its key
        key: HexKey,
    },
    /// Forget these keys. Proxies keep what they hold in memory until its time is over; `clear` reaches them
    Delete {
        /// The keys
        #[arg(required = true)]
        keys: Vec<HexKey>,
    },
    /// Forget every record of the namespace; proxies drop theirs within two seconds
    Clear,
    /// The records whose vectors are nearest to that of a key
    Similar {
        /// The key
        key: HexKey,
        /// How many
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
    /// Write every record of the namespace as a JSON line
    Export {
        /// File to write; `-` is standard output
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl Args {
    /// How results are shown.
    pub(crate) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Table }
    }
}

/// A key as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HexKey(pub(crate) [u8; 32]);

impl FromStr for HexKey {
    type Err = String;

    fn from_str(digits: &str) -> Result<Self, String> {
        let wrong = || format!("a key is 64 hex digits, this is {} characters", digits.chars().count());
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let key = bytes.filter(|_| rest.is_empty() && !digits.contains('+'));
        key.and_then(|key| key.try_into().ok()).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_64_digits_and_nothing_else() {
        let digits = "0f".repeat(32);
        assert_eq!(digits.parse(), Ok(HexKey([15; 32])));
        for wrong in ["", "0f", &digits[1..], &"g".repeat(64), &"+f".repeat(32), &"é".repeat(32)] {
            assert!(wrong.parse::<HexKey>().unwrap_err().contains("64 hex digits"), "{wrong}");
        }
    }
}
