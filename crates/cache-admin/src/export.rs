//! All records of a namespace, one JSON object a line, its vector as `vector`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::cache::{ListRequest, ListResponse};

use crate::{
    shards::Shard,
    shown::{self, say},
};

/// Records of one call.
const PAGE_RECORDS: u32 = 512;

/// Writes every record of every shard to `out`.
///
/// # Errors
/// If a shard or the disk fails. A file is given its name only once it is whole.
pub(crate) async fn run(shards: &mut [Shard], out: &Path) -> anyhow::Result<ExitCode> {
    let style = ProgressStyle::with_template("{pos} records, {per_sec}, {elapsed}")?;
    let progress = ProgressBar::new_spinner().with_style(style);
    if out == Path::new("-") {
        write_all(shards, &mut std::io::stdout().lock(), &progress).await?;
    } else {
        let draft = out.with_added_extension("part");
        let file = File::create(&draft).with_context(|| format!("create {}", draft.display()))?;
        let mut file = BufWriter::new(file);
        write_all(shards, &mut file, &progress).await?;
        file.into_inner().context("write the last records")?.sync_all()?;
        std::fs::rename(&draft, out).with_context(|| format!("rename to {}", out.display()))?;
    }
    progress.finish_and_clear();
    say(&format!("{} records", progress.position()));
    Ok(ExitCode::SUCCESS)
}

async fn write_all(shards: &mut [Shard], out: &mut impl Write, progress: &ProgressBar) -> anyhow::Result<()> {
    for shard in shards {
        let mut from = 0;
        loop {
            let request = ListRequest { namespace: shard.namespace.clone(), from, count: PAGE_RECORDS };
            let page = shard.client.list(request).await.map_err(|status| shard.said(&status))?.into_inner();
            from = page.next;
            progress.inc(write_page(page, out)?);
            if from == 0 {
                break;
            }
        }
    }
    Ok(out.flush()?)
}

/// How many records that were.
fn write_page(page: ListResponse, out: &mut impl Write) -> anyhow::Result<u64> {
    let ListResponse { keys, records, mut vectors, .. } = page;
    ensure!(keys.len() == records.len(), "{} keys for {} records", keys.len(), records.len());
    for (key, record) in keys.iter().zip(&records) {
        let mut value = shown::record(key, record);
        value["vector"] = shown::numbers(record, &mut vectors)?.into();
        writeln!(out, "{value}")?;
    }
    Ok(keys.len() as u64)
}
