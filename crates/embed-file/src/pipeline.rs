//! The run itself: chunks in, a bounded window of them on their way, rows out in the order of the lines.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use futures::{Stream, StreamExt, stream};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    chunk::{Chunk, ChunkLimits, Chunks},
    client::{Client, Endpoint, Info},
    courier::{Courier, Delivered, Delivery, Embedding, Wish},
    input::{Format, Lines, Source},
    patience::PatientClient,
    progress::{Progress, SummaryForm, say},
    sink::{Row, Sink, Target},
};

/// Texts of a request: enough to fill a batch on the device, few enough to be retried cheaply.
const TEXTS_MAX: usize = 32;
/// Bytes of the texts of a request.
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Chunks on their way or waiting for an earlier one, for each request in flight.
const WINDOW_FACTOR: usize = 4;
const TICK: Duration = Duration::from_secs(5);

/// All that a run needs to know.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the texts are.
    pub(crate) source: Source,
    /// How a line holds its text.
    pub(crate) format: Format,
    /// Where the vectors go.
    pub(crate) target: Target,
    /// The server.
    pub(crate) endpoint: Endpoint,
    /// What is asked for each text.
    pub(crate) wish: Wish,
    /// Requests in flight.
    pub(crate) concurrency: usize,
    /// How long one request waits for the server.
    pub(crate) patience: Duration,
    /// How the summary is written.
    pub(crate) summary: SummaryForm,
}

/// A signal that ends a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What a supervisor sends.
    Terminate,
}

impl Signal {
    /// 128 and the number of the signal, as shells have it.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// Every line has its vector.
    AllEmbedded,
    /// The output is whole, some lines have no vector.
    SomeFailed,
    /// Somebody stopped it.
    Interrupted(Signal),
}

/// Sends every line of the source through the server.
///
/// # Errors
/// Where the run could not start, or could not go on.
pub(crate) async fn run(config: Config) -> anyhow::Result<Ending> {
    let Config { source, format, target, endpoint, wish, concurrency, patience, summary } = config;
    let total = source.count_lines().with_context(|| format!("cannot read {}", source.name()))?;
    let client = Client::new(endpoint);
    let info = client.info().await?;
    let chunks = start_reader(&source, format, &info)?;
    let mut sink = Sink::open(&target)?;
    let width_if_unknown = expected_width(&wish, &info);
    let courier = Courier::new(PatientClient::new(client, patience, concurrency), wish);
    let mut progress = Progress::start(total);
    let deliveries = chunks
        .map(|chunk| async {
            let chunk = chunk.with_context(|| format!("cannot read {}", source.name()))?;
            courier.deliver(chunk).await.map_err(|hopeless| anyhow!(hopeless.0))
        })
        .buffered(concurrency * WINDOW_FACTOR);
    let pumped = tokio::select! {
        pumped = pump(deliveries, &mut sink, &mut progress) => pumped.map(|()| None),
        signal = signalled() => signal.map(Some),
    };
    match pumped {
        Ok(None) => sink.commit(width_if_unknown).await?,
        Ok(Some(signal)) => {
            sink.discard().await;
            drop(progress);
            say(&interrupted(&target));
            return Ok(Ending::Interrupted(signal));
        }
        Err(error) => {
            sink.discard().await;
            return Err(error);
        }
    }
    let failed = progress.failed();
    progress.finish(target.name(), summary);
    Ok(if failed == 0 { Ending::AllEmbedded } else { Ending::SomeFailed })
}

/// Reads and groups lines on a thread of its own: standard input blocks, and must not block the requests.
fn start_reader(
    source: &Source,
    format: Format,
    info: &Info,
) -> anyhow::Result<impl Stream<Item = std::io::Result<Chunk>> + use<>> {
    let limits = &info.limits;
    let chunk_limits = ChunkLimits {
        texts_max: limits.texts_max.clamp(1, TEXTS_MAX),
        bytes_max: CHUNK_BYTES_MAX.min(limits.body_bytes_max / 2),
    };
    let reader = source.open().with_context(|| format!("cannot read {}", source.name()))?;
    let chunks = Chunks::new(Lines::new(reader, format, limits.text_bytes_max), chunk_limits);
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || {
            for chunk in chunks {
                let broken = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || broken {
                    break;
                }
            }
        })
        .context("cannot start the reading thread")?;
    Ok(stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }))
}

/// The width of a `.npy` whose every text failed.
fn expected_width(wish: &Wish, info: &Info) -> usize {
    let asked = wish.dimensions.map(std::num::NonZeroU32::get);
    let named = info.models.iter().find(|model| Some(&model.id) == wish.model.as_ref());
    let served = named.or(info.models.first()).and_then(|model| model.width);
    asked.or(served).map_or(0, |width| width as usize)
}

async fn pump(
    deliveries: impl Stream<Item = anyhow::Result<Delivery>>,
    sink: &mut Sink,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut deliveries = std::pin::pin!(deliveries);
    let mut tick = interval_at(Instant::now() + TICK, TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut space = Space::default();
    loop {
        let delivery = tokio::select! {
            delivery = deliveries.next() => delivery,
            _ = tick.tick() => {
                progress.tick();
                continue;
            }
        };
        let Some(delivery) = delivery.transpose()? else { return Ok(()) };
        let rows: Vec<Row> = delivery.lines.into_iter().map(|line| space.admit(line)).collect();
        for row in &rows {
            if let Err(sentence) = &row.values {
                progress.fail(row.number, sentence);
            }
        }
        progress.add(rows.len() as u64, delivery.hits);
        sink.write(rows).await?;
    }
}

/// The vector space of this run, as its first vector shows it: rows of another one must not stand beside it.
#[derive(Debug, Default)]
struct Space {
    first: Option<(usize, Option<Arc<str>>)>,
}

impl Space {
    fn admit(&mut self, line: Delivered) -> Row {
        let values = line.outcome.and_then(|embedding| self.check(embedding));
        Row { number: line.number, values }
    }

    fn check(&mut self, embedding: Embedding) -> Result<Vec<f32>, String> {
        let Embedding { values, identity } = embedding;
        let (width, first) = self.first.get_or_insert_with(|| (values.len(), identity.clone()));
        if *first != identity {
            return Err("the server changed its model during the run: this vector belongs to another space"
                .to_owned());
        }
        if *width != values.len() {
            return Err(format!("the vector has {} numbers, the first one had {width}", values.len()));
        }
        Ok(values)
    }
}

async fn signalled() -> anyhow::Result<Signal> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Signal::Interrupt,
        _ = terminate.recv() => Signal::Terminate,
    })
}

fn interrupted(target: &Target) -> String {
    match target {
        Target::Npy(path) => format!("interrupted, {} was not written", path.display()),
        Target::Jsonl(_) | Target::Stdout => format!("interrupted, {} holds the lines so far", target.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(width: usize, identity: &str) -> Delivered {
        let embedding = Embedding { values: vec![0.5; width], identity: Some(identity.into()) };
        Delivered { number: 1, outcome: Ok(embedding) }
    }

    #[test]
    fn vector_of_another_model_or_width_fails_its_line() {
        let mut space = Space::default();
        assert!(space.admit(embedded(3, "a")).values.is_ok());
        assert!(space.admit(embedded(3, "b")).values.unwrap_err().contains("another space"));
        assert!(space.admit(embedded(2, "a")).values.unwrap_err().contains("2 numbers"));
        assert!(space.admit(embedded(3, "a")).values.is_ok());
    }
}
