//! Rows out: a thread of its own writes them, so that a slow disk or pipe never stops the requests.
//!
//! Invariant: only [`Sink::commit`] makes a whole `.npy`; a sink that is dropped leaves none.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, anyhow};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{jsonl::JsonLines, npy::NpyFile};

/// How long an abandoned sink may take to remove its temporary file.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Batches of rows between the requests and the disk.
const WAITING_MAX: usize = 4;

/// Where the vectors go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A NumPy file, whole or not there.
    Npy(PathBuf),
    /// One JSON object a line; what is written stays.
    Jsonl(PathBuf),
    /// The same on standard output.
    Stdout,
}

impl Target {
    /// As a message names it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Npy(path) | Self::Jsonl(path) => path.display().to_string(),
            Self::Stdout => "standard output".to_owned(),
        }
    }
}

/// One line of the output.
#[derive(Debug)]
pub(crate) struct Row {
    /// Line of the input, counted from 1.
    pub(crate) number: u64,
    /// The vector, `(dimensions)`, or one sentence on why there is none.
    pub(crate) values: Result<Vec<f32>, String>,
}

enum Order {
    Write(Vec<Row>),
    /// All rows are there; the width counts only where no row told it.
    Commit {
        width_if_unknown: usize,
    },
}

enum Writer {
    Npy(NpyFile),
    Jsonl(JsonLines<Box<dyn Write + Send>>),
}

/// The near end of the writing thread.
#[derive(Debug)]
pub(crate) struct Sink {
    orders: mpsc::Sender<Order>,
    done: oneshot::Receiver<io::Result<()>>,
    name: String,
}

impl Sink {
    /// Opens the target and starts its thread.
    ///
    /// # Errors
    /// Where the target cannot be written.
    pub(crate) fn open(target: &Target) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", target.name());
        let (orders, waiting) = mpsc::channel(WAITING_MAX);
        let (done_sender, done) = oneshot::channel();
        let (ready_sender, ready) = std::sync::mpsc::channel();
        let opened = target.clone();
        // The writer of npyz cannot move between threads, so it is made where it will live.
        std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || {
                let writer = match Writer::open(&opened) {
                    Ok(writer) => writer,
                    Err(error) => return drop(ready_sender.send(Err(error))),
                };
                drop(ready_sender.send(Ok(())));
                drop(done_sender.send(writer.serve(waiting)));
            })
            .with_context(cannot)?;
        ready.recv().context("the writing thread ended")?.with_context(cannot)?;
        Ok(Self { orders, done, name: target.name() })
    }

    /// Hands `rows` over; waits where the disk is behind.
    ///
    /// # Errors
    /// Where an earlier row could not be written.
    pub(crate) async fn write(&mut self, rows: Vec<Row>) -> anyhow::Result<()> {
        match self.orders.send(Order::Write(rows)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Finishes the output.
    ///
    /// # Errors
    /// Where it could not be written to its end.
    pub(crate) async fn commit(mut self, width_if_unknown: usize) -> anyhow::Result<()> {
        if self.orders.send(Order::Commit { width_if_unknown }).await.is_err() {
            return Err(self.failure().await);
        }
        let name = self.name;
        self.done.await.context("the writing thread ended")?.with_context(|| format!("cannot write {name}"))
    }

    /// Leaves the output as an interrupted run should: no `.npy`, the JSON lines so far.
    pub(crate) async fn discard(self) {
        drop(self.orders);
        // A pipe that nobody reads may hold the thread for ever; the process ends all the same.
        drop(timeout(DISCARD_TIMEOUT, self.done).await);
    }

    async fn failure(&mut self) -> anyhow::Error {
        match (&mut self.done).await {
            Ok(Err(error)) => anyhow::Error::new(error).context(format!("cannot write {}", self.name)),
            Ok(Ok(())) | Err(_) => anyhow!("cannot write {}: the writing thread ended", self.name),
        }
    }
}

impl Writer {
    fn open(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::Npy(path) => Self::Npy(NpyFile::create(path)?),
            Target::Jsonl(path) => Self::Jsonl(JsonLines::new(Box::new(BufWriter::new(File::create(path)?)))),
            Target::Stdout => Self::Jsonl(JsonLines::new(Box::new(BufWriter::new(io::stdout())))),
        })
    }

    fn serve(mut self, mut orders: mpsc::Receiver<Order>) -> io::Result<()> {
        while let Some(order) = orders.blocking_recv() {
            match order {
                Order::Write(rows) => self.write(&rows)?,
                Order::Commit { width_if_unknown } => return self.commit(width_if_unknown),
            }
        }
        Ok(())
    }

    fn write(&mut self, rows: &[Row]) -> io::Result<()> {
        match self {
            Self::Npy(file) => rows.iter().try_for_each(|row| file.push(row.values.as_deref().ok())),
            Self::Jsonl(lines) => {
                rows.iter().try_for_each(|row| lines.push(row))?;
                lines.flush()
            }
        }
    }

    fn commit(self, width_if_unknown: usize) -> io::Result<()> {
        match self {
            Self::Npy(file) => file.commit(width_if_unknown),
            Self::Jsonl(mut lines) => lines.flush(),
        }
    }
}
