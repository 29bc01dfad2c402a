//! The command line, and what it means once it is checked.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use api_key::ApiKey;
use clap::Parser;
use hyper::Uri;

use crate::{
    client::Endpoint,
    courier::Wish,
    input::{Format, Source},
    pipeline::Config,
    progress::SummaryForm,
    sink::Target,
};

const AFTER_HELP: &str = "\
Exit codes: 0 every text has its vector, 1 some texts failed (a NaN row in .npy, an `error` in .jsonl), 2 the run \
could not start or go on, 130 interrupted.";

/// Sends a file of texts through a running embedding server and writes the vectors in the same order.
#[derive(Debug, Parser)]
#[command(name = "embed-file", after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// One text a line; in a `.jsonl` file each line is a JSON string or an object with "text"; `-` reads lines from
    /// standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// `.npy` (float32, one row a line) or `.jsonl`; `-` writes JSON lines to standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where the server listens
    #[arg(long, default_value = "http://127.0.0.1:8888")]
    url: String,
    /// Bearer key of the server; `@FILE` reads it from a file, which keeps it out of the list of processes
    #[arg(long, env = "API_KEY", hide_env_values = true, value_name = "KEY|@FILE")]
    api_key: Option<ApiKey>,
    /// Cut the vectors to this width; the model must be trained for it
    #[arg(long)]
    dimensions: Option<NonZeroU32>,
    /// Id or alias of the model; the server's default without it
    #[arg(long)]
    model: Option<String>,
    /// Leave the vectors as pooled instead of scaling them to unit norm
    #[arg(long)]
    no_normalize: bool,
    /// Requests in flight
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// How long a request waits for its answer, and how long it keeps asking a server that is full or away, before
    /// its texts fail: 500ms, 60s, 5m
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    patience: Duration,
    /// Print the summary as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Checks what clap cannot: suffixes, the address, and that input and output are not one file.
    pub(crate) fn into_config(self) -> anyhow::Result<Config> {
        let (source, format) = read_from(self.file);
        let target = write_to(self.out)?;
        let summary = if self.json { SummaryForm::Json } else { SummaryForm::Sentence };
        if matches!((&target, summary), (Target::Stdout, SummaryForm::Json)) {
            bail!("`--json` and `--out -` both write to standard output: choose one");
        }
        if let (Source::File(input), Target::Npy(output) | Target::Jsonl(output)) = (&source, &target) {
            ensure!(!same_file(input, output), "`--file` and `--out` are the same file {}", input.display());
        }
        Ok(Config {
            source,
            format,
            target,
            endpoint: Endpoint {
                base: parse_base(&self.url)?,
                bearer: self.api_key.map(ApiKey::bearer).transpose()?.flatten(),
            },
            wish: Wish { model: self.model, dimensions: self.dimensions, normalize: !self.no_normalize },
            concurrency: usize::from(self.concurrency),
            patience: self.patience,
            summary,
        })
    }
}

fn read_from(file: PathBuf) -> (Source, Format) {
    if file.as_os_str() == "-" {
        return (Source::Stdin, Format::Lines);
    }
    let format = if has_extension(&file, "jsonl") { Format::Jsonl } else { Format::Lines };
    (Source::File(file), format)
}

fn write_to(out: PathBuf) -> anyhow::Result<Target> {
    if out.as_os_str() == "-" {
        Ok(Target::Stdout)
    } else if has_extension(&out, "npy") {
        Ok(Target::Npy(out))
    } else if has_extension(&out, "jsonl") {
        Ok(Target::Jsonl(out))
    } else {
        bail!("`--out` is {}, it must end in .npy or .jsonl, or be `-`", out.display())
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

fn same_file(input: &Path, output: &Path) -> bool {
    matches!((input.canonicalize(), output.canonicalize()), (Ok(input), Ok(output)) if input == output)
}

fn parse_base(url: &str) -> anyhow::Result<Uri> {
    let base: Uri =
        url.trim_end_matches('/').parse().with_context(|| format!("`--url` {url} is not an address"))?;
    ensure!(base.scheme_str() == Some("http"), "`--url` is {url}, it must begin with http://");
    ensure!(base.query().is_none(), "`--url` is {url}, it must not carry a query");
    Ok(base)
}

fn parse_duration(given: &str) -> Result<Duration, String> {
    let digits = given.find(|c: char| !c.is_ascii_digit()).unwrap_or(given.len());
    let (number, unit) = given.split_at(digits);
    let number: u32 =
        number.parse().map_err(|_| format!("`{given}` is not a duration such as 500ms, 60s or 5m"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" | "" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(u64::from(number) * 60)),
        _ => Err(format!("`{unit}` is not a unit of time, use ms, s or m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> anyhow::Result<Config> {
        Args::try_parse_from([&["embed-file"], arguments].concat())?.into_config()
    }

    #[test]
    fn extensions_choose_the_formats() {
        let config = config(&["--file", "a.JSONL", "--out", "b.npy"]).unwrap();
        assert!(matches!(config.format, Format::Jsonl));
        assert!(matches!(config.target, Target::Npy(_)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_flag_name() {
        for (arguments, expected) in [
            (["--file", "a", "--out", "b.csv"].as_slice(), "`--out` is b.csv"),
            (&["--file", "a", "--out", "-", "--json"], "standard output"),
            (&["--file", "a", "--out", "-", "--url", "https://x"], "must begin with http://"),
            (&["--file", "a", "--out", "-", "--patience", "5h"], "use ms, s or m"),
        ] {
            let error = config(arguments).expect_err("the arguments should be refused");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
    }

    #[test]
    fn key_does_not_show_in_debug_output() {
        let arguments = ["embed-file", "--file", "a", "--out", "-", "--api-key", "hunter2"];
        let args = Args::try_parse_from(arguments).unwrap();
        assert!(!format!("{args:?}").contains("hunter2"));
        let bearer = args.into_config().unwrap().endpoint.bearer.unwrap();
        assert_eq!(bearer, "Bearer hunter2");
        assert!(!format!("{bearer:?}").contains("hunter2"));
    }
}
