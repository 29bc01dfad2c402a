//! Asks again while the server is full, away or slow, and knows when to stop.
//!
//! Invariant: no attempt waits longer than the patience, and none begins after it is used up. A server that stays
//! away costs that wait once, not once for each request of a long file.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};

use crate::client::{Client, Refusal, Vectors};

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why a request has no vectors.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This request as it is will not pass.
    Refused(Refusal),
    /// Waited for as long as allowed; one sentence.
    OutOfPatience(String),
}

/// A client that waits; shared by all requests of a run.
#[derive(Debug)]
pub(crate) struct PatientClient {
    client: Client,
    patience: Duration,
    permits: Semaphore,
    /// Set once a request ran out of patience, until the server answers one again.
    server_is_away: AtomicBool,
}

/// A state that ends by itself.
struct Obstacle {
    sign: Sign,
    sentence: String,
    retry_after: Option<Duration>,
}

/// What an attempt says of the server.
#[derive(Clone, Copy)]
enum Sign {
    /// It answers, if only that it is full.
    Alive,
    /// Nobody listens, or it says itself that it cannot serve.
    Away,
    /// Nothing came back; a heavy request looks the same.
    Silent,
}

impl PatientClient {
    /// At most `concurrency` requests are in flight; each is tried for no longer than `patience`.
    pub(crate) fn new(client: Client, patience: Duration, concurrency: usize) -> Self {
        Self {
            client,
            patience,
            permits: Semaphore::new(concurrency),
            server_is_away: AtomicBool::new(false),
        }
    }

    /// Sends one `POST /embed`, again and again where that can help.
    ///
    /// # Errors
    /// [`Failure`], once asking again cannot help.
    pub(crate) async fn embed(&self, body: Bytes) -> Result<Vectors, Failure> {
        // Held while it waits as well: a server that is away is not asked by more requests than one that answers.
        let _permit = self.permits.acquire().await;
        let started = Instant::now();
        let mut backoff = BACKOFF_FIRST;
        loop {
            let obstacle = match self.attempt(body.clone()).await {
                Ok(answer) => return answer.map_err(Failure::Refused),
                Err(obstacle) => obstacle,
            };
            let deadline = self.deadline(started);
            if Instant::now() >= deadline {
                if matches!(obstacle.sign, Sign::Away) {
                    self.server_is_away.store(true, Ordering::Relaxed);
                }
                let Obstacle { sentence, .. } = obstacle;
                let patience = self.patience;
                return Err(Failure::OutOfPatience(format!(
                    "{sentence}; the patience of {patience:?} is used up"
                )));
            }
            let jitter = rand::random_range(Duration::ZERO..=backoff);
            let pause = obstacle.retry_after.unwrap_or(backoff).saturating_add(jitter).min(self.patience);
            sleep_until(deadline.min(Instant::now() + pause)).await;
            backoff = BACKOFF_MAX.min(backoff * 2);
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<Result<Vectors, Refusal>, Obstacle> {
        let answer = match timeout(self.patience, self.client.embed(body)).await {
            Err(_) => Err((Sign::Silent, "no answer in time".to_owned())),
            Ok(answer) => answer.map_err(|cause| (Sign::Away, cause)),
        };
        let (sign, answer) = match answer {
            Err((sign, cause)) => {
                let sentence = format!("the server does not answer: {cause}");
                return Err(Obstacle { sign, sentence, retry_after: None });
            }
            Ok(answer) => (answer.as_ref().map_or_else(sign_of, |_| Sign::Alive), answer),
        };
        if matches!(sign, Sign::Alive) {
            self.server_is_away.store(false, Ordering::Relaxed);
        }
        match answer {
            Err(refusal) if is_passing(refusal.status) => {
                Err(Obstacle { sign, sentence: refusal.message, retry_after: refusal.retry_after })
            }
            answer => Ok(answer),
        }
    }

    fn deadline(&self, started: Instant) -> Instant {
        if self.server_is_away.load(Ordering::Relaxed) { started } else { started + self.patience }
    }
}

fn sign_of(refusal: &Refusal) -> Sign {
    match refusal.status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => Sign::Away,
        _ => Sign::Alive,
    }
}

/// True for states that end by themselves: full, loading, draining, a slow or changing replica behind.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::CONFLICT
    )
}
