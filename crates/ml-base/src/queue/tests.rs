//! Tests of the queue.

use super::*;

type Answer = oneshot::Receiver<Result<Computed, ItemFailure>>;

const LIMITS: QueueLimits = QueueLimits { tokens_max: 100, batch_tokens_max: 10, batch_texts_max: 3 };

fn entry(tokens: usize, deadline: Instant) -> (Entry, Answer) {
    let (reply, answer) = oneshot::channel();
    (Entry { ids: TokenIds::new(vec![7; tokens]).unwrap(), deadline, reply }, answer)
}

/// Pushes texts of these token counts, a second of deadline apart in the order given.
fn push(queue: &Queue, tokens: &[usize]) -> Vec<Answer> {
    let now = Instant::now();
    let deadline = |number: usize| now + Duration::from_secs(60 + number as u64);
    let (entries, answers) =
        tokens.iter().enumerate().map(|(number, tokens)| entry(*tokens, deadline(number))).unzip();
    queue.push(entries, now).unwrap();
    answers
}

/// The next batch, as a worker takes it; `None` once the queue is closed and empty.
fn next(queue: &Queue) -> Option<FormedBatch> {
    while queue.wait() {
        if let Some(batch) = queue.take() {
            return Some(batch);
        }
    }
    None
}

fn lengths(batch: &FormedBatch) -> Vec<usize> {
    batch.entries.iter().map(|(entry, _)| entry.ids.len()).collect()
}

#[test]
fn a_batch_is_filled_by_tokens_and_passes_over_what_does_not_fit() {
    let queue = Queue::new(LIMITS);
    let _answers = push(&queue, &[6, 7, 4, 1]);
    assert_eq!(lengths(&next(&queue).unwrap()), [6, 4]);
    assert_eq!(lengths(&next(&queue).unwrap()), [7, 1]);
}

#[test]
fn a_batch_is_bounded_by_texts() {
    let queue = Queue::new(LIMITS);
    let _answers = push(&queue, &[1, 1, 1, 1]);
    assert_eq!(next(&queue).unwrap().entries.len(), 3);
}

#[test]
fn a_text_over_the_budget_is_a_batch_of_its_own() {
    let queue = Queue::new(LIMITS);
    let _answers = push(&queue, &[25, 1]);
    assert_eq!(lengths(&next(&queue).unwrap()), [25]);
}

#[test]
fn the_earliest_deadline_goes_first() {
    let queue = Queue::new(LIMITS);
    let now = Instant::now();
    let (late, _late_answer) = entry(8, now + Duration::from_secs(50));
    let (soon, _soon_answer) = entry(9, now + Duration::from_secs(5));
    queue.push(vec![late, soon], now).unwrap();
    assert_eq!(lengths(&next(&queue).unwrap()), [9]);
}

#[test]
fn abandoned_and_expired_texts_never_reach_the_device() {
    let queue = Queue::new(LIMITS);
    let now = Instant::now();
    let (gone, gone_answer) = entry(2, now + Duration::from_secs(60));
    drop(gone_answer);
    let (expired, mut expired_answer) = entry(3, now);
    let (kept, _kept_answer) = entry(4, now + Duration::from_secs(60));
    queue.push(vec![gone, expired, kept], now).unwrap();
    assert_eq!(lengths(&next(&queue).unwrap()), [4]);
    assert_eq!(expired_answer.try_recv().unwrap().unwrap_err(), ItemFailure::deadline_exceeded());
    assert_eq!((queue.abandoned(), queue.load()), (2, QueueLoad::default()));
}

#[test]
fn a_call_that_does_not_fit_is_refused_whole() {
    let queue = Queue::new(LIMITS);
    let _answers = push(&queue, &[90]);
    let (fits, _fits_answer) = entry(10, Instant::now());
    let (over, _over_answer) = entry(1, Instant::now());
    let error = queue.push(vec![fits, over], Instant::now()).unwrap_err();
    assert_eq!(error, PushError::Full { waiting: 90, more: 11, tokens_max: 100 });
    assert_eq!(queue.load(), QueueLoad { texts: 1, tokens: 90 });
}

#[test]
fn a_call_that_would_never_fit_is_too_large_and_not_told_to_wait() {
    let queue = Queue::new(LIMITS);
    let (first, _first_answer) = entry(60, Instant::now());
    let (second, _second_answer) = entry(41, Instant::now());
    let error = queue.push(vec![first, second], Instant::now()).unwrap_err();
    assert_eq!(error, PushError::TooLarge { tokens: 101, tokens_max: 100 });
}

#[test]
fn a_closed_queue_gives_out_what_it_has_and_then_ends() {
    let queue = Queue::new(LIMITS);
    let _answers = push(&queue, &[1]);
    queue.close();
    assert!(next(&queue).is_some());
    assert!(next(&queue).is_none());
    assert_eq!(queue.push(Vec::new(), Instant::now()), Err(PushError::Closed));
}

#[test]
fn a_queue_that_is_opened_again_takes_calls() {
    let queue = Queue::new(LIMITS);
    queue.close();
    assert!(!queue.wait());
    queue.open();
    let _answers = push(&queue, &[1]);
    assert!(queue.wait() && queue.take().is_some());
}

proptest::proptest! {
    #[test]
    fn every_text_is_taken_exactly_once_and_the_sums_hold(tokens in proptest::collection::vec(1_usize..12, 1..9)) {
        let queue = Queue::new(LIMITS);
        let _answers = push(&queue, &tokens);
        queue.close();
        let mut taken = Vec::new();
        while let Some(batch) = next(&queue) {
            let lengths = lengths(&batch);
            proptest::prop_assert_eq!(batch.tokens, lengths.iter().sum::<usize>());
            proptest::prop_assert!(lengths.len() == 1 || batch.tokens <= LIMITS.batch_tokens_max);
            taken.extend(lengths);
        }
        let mut wanted = tokens.clone();
        wanted.sort_unstable();
        taken.sort_unstable();
        proptest::prop_assert_eq!(taken, wanted);
        proptest::prop_assert_eq!(queue.load(), QueueLoad::default());
    }
}
