//! Single records, and a namespace as a whole.

use std::process::ExitCode;

use anyhow::Context;
use bytes::Bytes;
use protocol::cache::{
    ClearRequest, DeleteRequest, GetManyRequest, Neighbour, SimilarRequest, similar_request::Probe,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    args::HexKey,
    shards::Shard,
    shown::{self, Form, print, say, table},
};

/// Nothing was found.
const NOWHERE: u8 = 1;

/// Shows one record with its vector.
///
/// # Errors
/// If a shard does not answer.
pub(crate) async fn get(shards: &mut [Shard], key: &HexKey, form: Form) -> anyhow::Result<ExitCode> {
    for shard in shards {
        let Some((record, mut vectors)) = find(shard, key).await? else { continue };
        let mut value = shown::record(&key.0, &record);
        value["url"] = shard.url.clone().into();
        value["vector"] = shown::numbers(&record, &mut vectors)?.into();
        match form {
            Form::Json => print(&format!("{value}"))?,
            Form::Table => print(&as_lines(&value))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    say("no shard has this key");
    Ok(ExitCode::from(NOWHERE))
}

async fn find(shard: &mut Shard, key: &HexKey) -> anyhow::Result<Option<(protocol::cache::Record, Bytes)>> {
    let keys = vec![Bytes::copy_from_slice(&key.0)];
    let request = GetManyRequest { namespace: shard.namespace.clone(), keys, with_text: true };
    let answer = shard.client.get_many(request).await.map_err(|status| shard.said(&status))?.into_inner();
    Ok(answer.records.into_iter().next().map(|record| (record, answer.vectors)))
}

/// A line for each field; of the vector its first numbers.
fn as_lines(value: &Value) -> String {
    const NUMBERS_SHOWN: usize = 8;
    let fields = value.as_object().into_iter().flatten();
    let line = |(name, value): (&String, &Value)| match value.as_array() {
        Some(numbers) => {
            let first: Vec<_> = numbers.iter().take(NUMBERS_SHOWN).map(Value::to_string).collect();
            format!("{name:18} {} … ({} numbers; --json shows all)", first.join(" "), numbers.len())
        }
        None => format!("{name:18} {}", value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)),
    };
    fields.map(line).collect::<Vec<_>>().join("\n")
}

/// Forgets keys, wherever they are.
///
/// # Errors
/// If a shard does not answer; the keys may be there still then.
pub(crate) async fn delete(shards: &mut [Shard], keys: &[HexKey], form: Form) -> anyhow::Result<ExitCode> {
    let mut deleted = 0;
    for shard in shards {
        let keys = keys.iter().map(|key| Bytes::copy_from_slice(&key.0)).collect();
        let request = DeleteRequest { namespace: shard.namespace.clone(), keys };
        let answer = shard.client.delete(request).await.map_err(|status| shard.said(&status))?;
        deleted += answer.into_inner().deleted;
    }
    match form {
        Form::Json => print(&json!({ "deleted": deleted }).to_string())?,
        Form::Table => print(&format!("{deleted} of {} keys were there and are forgotten", keys.len()))?,
    }
    Ok(if deleted > 0 { ExitCode::SUCCESS } else { ExitCode::from(NOWHERE) })
}

/// Forgets the namespace, on every shard.
///
/// # Errors
/// If a shard does not answer: run it again then.
pub(crate) async fn clear(shards: &mut [Shard], form: Form) -> anyhow::Result<ExitCode> {
    for shard in shards.iter_mut() {
        let request = ClearRequest { namespace: shard.namespace.clone() };
        let cleared = shard.client.clear(request).await.map_err(|status| shard.said(&status));
        cleared.context("the namespace is not cleared everywhere, so run this again")?;
    }
    match form {
        Form::Json => print(&json!({ "cleared_shards": shards.len() }).to_string())?,
        Form::Table => print(&format!("cleared on {} shard(s)", shards.len()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the nearest records of all shards.
///
/// # Errors
/// If a shard does not answer.
pub(crate) async fn similar(
    shards: &mut [Shard],
    key: &HexKey,
    count: u32,
    form: Form,
) -> anyhow::Result<ExitCode> {
    let mut found = None;
    for shard in shards.iter_mut() {
        if let Some((record, mut vectors)) = find(shard, key).await? {
            found = Some((record.identity.clone(), shown::numbers(&record, &mut vectors)?));
        }
    }
    let Some((identity, numbers)) = found else {
        say("no shard has this key");
        return Ok(ExitCode::from(NOWHERE));
    };
    let mut bytes = Vec::new();
    vector::codec::extend_float32(&mut bytes, &numbers);
    // One more: the key itself is among them.
    let request = SimilarRequest {
        namespace: String::new(),
        identity,
        count: (count + 1).min(1000),
        probe: Some(Probe::Vector(bytes.into())),
    };
    let mut neighbours = Vec::new();
    for shard in shards.iter_mut() {
        neighbours.extend(neighbours_of(shard, request.clone()).await?);
    }
    neighbours.retain(|near| near.key != key.0.as_slice());
    neighbours.sort_by(|one, other| other.cosine.total_cmp(&one.cosine));
    neighbours.truncate(count as usize);
    show(&neighbours, form)?;
    Ok(ExitCode::SUCCESS)
}

async fn neighbours_of(shard: &mut Shard, request: SimilarRequest) -> anyhow::Result<Vec<Neighbour>> {
    let request = SimilarRequest { namespace: shard.namespace.clone(), ..request };
    match shard.client.similar(request).await {
        Ok(answer) => Ok(answer.into_inner().neighbours),
        Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
        Err(status) => Err(shard.said(&status)),
    }
}

fn show(neighbours: &[Neighbour], form: Form) -> anyhow::Result<()> {
    let record = |near: &Neighbour| near.record.clone().unwrap_or_default();
    match form {
        Form::Json => {
            let values = neighbours.iter().map(|near| {
                let mut value = shown::record(&near.key, &record(near));
                value["cosine"] = near.cosine.into();
                value
            });
            print(&Value::from_iter(values).to_string())
        }
        Form::Table => {
            let mut shown = table(&["cosine", "key", "tokens", "text"]);
            for near in neighbours {
                let record = record(near);
                let cosine = format!("{:.4}", near.cosine);
                shown.add_row([cosine, shown::hex(&near.key), record.tokens.to_string(), record.text]);
            }
            print(&shown.to_string())
        }
    }
}
