//! Tests of the worker on devices that fail on purpose.

use std::sync::atomic::{AtomicUsize, Ordering};

use engine::TokenIds;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use super::*;
use crate::{metrics::Metrics, queue::QueueLimits};

/// Answers each text with its first token id; id 13 makes it panic, 14 gives NaN, 15 an error.
struct Moody;

impl Device for Moody {
    fn embed(&self, batch: &RaggedBatch) -> Result<Vec<Vec<f32>>, DeviceError> {
        batch
            .ranges()
            .map(|range| match batch.ids()[range.start] {
                13 => panic!("bad luck"),
                14 => Ok(vec![f32::NAN]),
                15 => Err("no".into()),
                id => Ok(vec![id as f32]),
            })
            .collect()
    }
}

struct Rig {
    queue: Arc<Queue>,
    lifecycle: Lifecycle,
    made: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

fn start() -> Rig {
    let queue =
        Arc::new(Queue::new(QueueLimits { tokens_max: 100, batch_tokens_max: 8, batch_texts_max: 8 }));
    let lifecycle = Lifecycle::default();
    lifecycle.set(State::Ready);
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let make: MakeDevice = Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Moody))
    });
    let metrics = Metrics::new(&mut Registry::default()).of_model("moody");
    let turns = Arc::new(Turns::default());
    let (queue_taken, lifecycle_set, lost) = (queue.clone(), lifecycle.clone(), mpsc::channel(1).0);
    let worker = Worker { queue: queue_taken, lifecycle: lifecycle_set, metrics, turns, make, lost };
    let thread = worker.start(Box::new(Moody)).unwrap();
    Rig { queue, lifecycle, made, thread }
}

impl Rig {
    /// Pushes one call of texts with these first token ids.
    fn push(&self, ids: &[u32]) -> Vec<oneshot::Receiver<Result<Computed, ItemFailure>>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let (entries, answers) = ids
            .iter()
            .map(|id| {
                let (reply, answer) = oneshot::channel();
                (Entry { ids: TokenIds::new(vec![*id]).unwrap(), deadline, reply }, answer)
            })
            .unzip();
        self.queue.push(entries, Instant::now()).unwrap();
        answers
    }

    fn ask(&self, ids: &[u32]) -> Vec<Result<Vec<f32>, ItemStatus>> {
        let answers = self.push(ids).into_iter().map(|answer| answer.blocking_recv().unwrap());
        answers
            .map(|answer| answer.map(|computed| computed.vector).map_err(|failure| failure.status))
            .collect()
    }
}

#[test]
fn not_finite_fails_that_text_alone() {
    let rig = start();
    assert_eq!(rig.ask(&[1, 14, 2]), [Ok(vec![1.0]), Err(ItemStatus::NotFinite), Ok(vec![2.0])]);
}

#[test]
fn an_error_fails_its_batch_and_the_next_one_is_served() {
    let rig = start();
    assert_eq!(rig.ask(&[15, 1]), [Err(ItemStatus::Internal), Err(ItemStatus::Internal)]);
    assert_eq!(rig.ask(&[1]), [Ok(vec![1.0])]);
    assert_eq!(rig.made.load(Ordering::SeqCst), 0);
}

#[test]
fn a_panic_fails_its_batch_breaks_health_and_the_device_is_replaced() {
    let rig = start();
    let mut states = rig.lifecycle.watch();
    assert_eq!(rig.ask(&[13, 1]), [Err(ItemStatus::Internal), Err(ItemStatus::Internal)]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(states.changed()).unwrap();
    assert_eq!(rig.ask(&[1]), [Ok(vec![1.0])]);
    assert_eq!((rig.made.load(Ordering::SeqCst), rig.lifecycle.state()), (1, State::Ready));
}

#[test]
fn the_worker_ends_when_the_queue_is_closed_and_answers_what_waited() {
    let rig = start();
    let answers = rig.push(&[1, 2, 3]);
    rig.queue.close();
    rig.thread.join().unwrap();
    for answer in answers {
        assert!(answer.blocking_recv().unwrap().is_ok());
    }
}
