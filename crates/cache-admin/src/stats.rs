//! What each shard holds, and what it has counted.

use std::process::ExitCode;

use protocol::cache::{StatsRequest, StatsResponse};
use serde_json::{Value, json};

use crate::{
    shards::Shard,
    shown::{Form, print, table},
};

/// Shows a row for each shard.
///
/// # Errors
/// If a shard does not answer.
pub(crate) async fn run(shards: &mut [Shard], form: Form) -> anyhow::Result<ExitCode> {
    let mut all = Vec::with_capacity(shards.len());
    for shard in shards {
        let request = StatsRequest { namespace: shard.namespace.clone() };
        let stats = shard.client.stats(request).await.map_err(|status| shard.said(&status))?.into_inner();
        all.push((shard.url.clone(), stats));
    }
    match form {
        Form::Json => print(&format!("{:#}", Value::from_iter(all.iter().map(as_json))))?,
        Form::Table => print(&as_table(&all))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ratio(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

fn as_json((url, stats): &(String, StatsResponse)) -> Value {
    json!({
        "url": url,
        "entries": stats.entries,
        "bytes": stats.bytes,
        "index_bytes": stats.index_bytes,
        "segments": stats.segments,
        "hits": stats.hits,
        "misses": stats.misses,
        "hit_rate": ratio(stats.hits, stats.hits + stats.misses),
        "accepted": stats.accepted,
        "kept": stats.kept,
        "refused": stats.refused,
        "expired": stats.expired,
        "evicted": stats.evicted,
        "moved": stats.moved,
        "write_amplification": ratio(stats.written_bytes, stats.put_bytes),
        "damaged_records": stats.damaged_records,
        "damaged_segments": stats.damaged_segments,
        "degraded": stats.degraded,
        "generation": stats.generation,
    })
}

fn as_table(all: &[(String, StatsResponse)]) -> String {
    let head =
        ["shard", "entries", "MiB", "index MiB", "hit rate", "put", "evicted", "expired", "moved", "damaged"];
    let mut shown = table(&head);
    let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    for (url, stats) in all {
        shown.add_row([
            url.clone(),
            stats.entries.to_string(),
            mebibytes(stats.bytes),
            mebibytes(stats.index_bytes),
            format!("{:.1} %", 100.0 * ratio(stats.hits, stats.hits + stats.misses)),
            stats.accepted.to_string(),
            stats.evicted.to_string(),
            stats.expired.to_string(),
            stats.moved.to_string(),
            (stats.damaged_records + stats.damaged_segments).to_string(),
        ]);
    }
    let degraded = all.iter().filter(|(_, stats)| !stats.degraded.is_empty());
    let degraded = degraded.map(|(url, stats)| format!("\n{url} refuses new records: {}", stats.degraded));
    format!("{shown}{}", degraded.collect::<String>())
}
