//! Clients that ask for one text at a time, at a rate, and count by the second what they get.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::header::HeaderMap;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{args::ShardsConfig, http::asker::Http};

const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Computed again, in a batch of another size, a vector may differ in its last bits and no more.
const COSINE_MIN: f64 = 0.999;

/// What one second brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Second {
    /// Answers.
    pub(super) answered: u64,
    /// Of those, found in a shard.
    pub(super) hits: u64,
    /// Requests without an answer.
    pub(super) failed: u64,
    /// Answers that were not the vector of the text.
    pub(super) wrong: u64,
    /// The slowest request.
    pub(super) longest_ms: f64,
}

/// The texts and the first answer to each.
#[derive(Debug, Clone)]
pub(super) struct Load {
    texts: Arc<[Text]>,
    clients: u32,
    rate: u32,
    length: Duration,
}

#[derive(Debug)]
struct Text {
    body: Bytes,
    answer: Bytes,
}

impl Load {
    /// Asks `proxy` for every text until all are hits.
    ///
    /// # Errors
    /// Where one is not answered.
    pub(super) async fn warmed(config: &ShardsConfig, proxy: SocketAddr) -> Result<Self> {
        let mut asked = JoinSet::new();
        let clients = config.clients as usize;
        for client in 0..clients {
            let numbers = (client..config.texts).step_by(clients);
            asked.spawn(warm(proxy, numbers.collect()));
        }
        let mut texts = Vec::with_capacity(config.texts);
        while let Some(warmed) = asked.join_next().await {
            texts.extend(warmed??);
        }
        let ShardsConfig { clients, rate, seconds, .. } = *config;
        Ok(Self { texts: texts.into(), clients, rate, length: seconds })
    }

    /// The seconds of one phase, at `proxy`.
    ///
    /// # Errors
    /// Where a client ends unforeseen.
    pub(super) async fn run(&self, proxy: SocketAddr) -> Result<Vec<Second>> {
        let count = usize::try_from(self.length.as_secs().max(1))?;
        let seconds = Arc::new(Mutex::new(vec![Second::default(); count]));
        let begin = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let client = Client { load: self.clone(), proxy, seconds: seconds.clone(), begin };
            clients.spawn(client.ask_until_end(u64::from(number)));
        }
        while let Some(ended) = clients.join_next().await {
            ended?;
        }
        let seconds = seconds.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seconds.clone())
    }
}

/// The texts of these numbers, once they are hits.
async fn warm(proxy: SocketAddr, numbers: Vec<usize>) -> Result<Vec<Text>> {
    let mut http = Http::connect(proxy).await?;
    let mut texts = Vec::with_capacity(numbers.len());
    for number in numbers {
        let text = format!("Text number {number} of those that are asked for again and again.");
        let body = Bytes::from(json!({ "inputs": text }).to_string());
        let (_, answer) = http.post(body.clone()).await.context("compute a text")?;
        texts.push(Text { body, answer });
    }
    for text in &texts {
        // What is computed is stored in a shard a little later.
        while !is_hit(&http.post(text.body.clone()).await?.0) {
            sleep(LOOK_INTERVAL).await;
        }
    }
    Ok(texts)
}

/// One client of a phase.
struct Client {
    load: Load,
    proxy: SocketAddr,
    seconds: Arc<Mutex<Vec<Second>>>,
    begin: Instant,
}

impl Client {
    /// The `number` decides which texts it asks for, and when it begins.
    async fn ask_until_end(self, number: u64) {
        let mut draws = StdRng::seed_from_u64(number);
        let every = Duration::from_secs(1) * self.load.clients / self.load.rate;
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        sleep(every.mul_f64(draws.random())).await;
        let mut connection = None;
        loop {
            ticks.tick().await;
            let start = Instant::now();
            if start - self.begin >= self.load.length {
                return;
            }
            let text = &self.load.texts[draws.random_range(0..self.load.texts.len())];
            let outcome = ask(&mut connection, self.proxy, text).await;
            self.note(start, &outcome);
            if outcome.is_err() {
                connection = None;
            }
        }
    }

    /// A request counts for the second it was sent in.
    fn note(&self, start: Instant, outcome: &Result<Answer>) {
        let index = usize::try_from((start - self.begin).as_secs()).unwrap_or(usize::MAX);
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(second) = seconds.get_mut(index) else { return };
        match outcome {
            Ok(answer) => {
                second.answered += 1;
                second.hits += u64::from(answer.is_hit);
                second.wrong += u64::from(!answer.is_right);
            }
            Err(_) => second.failed += 1,
        }
        second.longest_ms = second.longest_ms.max(start.elapsed().as_secs_f64() * 1e3);
    }
}

/// What became of a request.
struct Answer {
    is_hit: bool,
    is_right: bool,
}

async fn ask(connection: &mut Option<Http>, proxy: SocketAddr, text: &Text) -> Result<Answer> {
    let http = match connection {
        Some(http) => http,
        None => connection.insert(Http::connect(proxy).await?),
    };
    let (headers, answer) = http.post(text.body.clone()).await?;
    let is_right = answer == text.answer || is_near(&answer, &text.answer);
    Ok(Answer { is_hit: is_hit(&headers), is_right })
}

fn is_hit(headers: &HeaderMap) -> bool {
    headers.get("x-cache").is_some_and(|outcome| outcome == "hit")
}

/// Whether two answers hold one vector each, of one direction.
fn is_near(one: &[u8], other: &[u8]) -> bool {
    let read = |json| serde_json::from_slice::<[Vec<f64>; 1]>(json);
    let (Ok([one]), Ok([other])) = (read(one), read(other)) else { return false };
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let lengths = (product(&one, &one) * product(&other, &other)).sqrt();
    one.len() == other.len() && product(&one, &other) >= COSINE_MIN * lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_differ_in_their_last_bits_are_the_same_and_others_are_not() {
        assert!(is_near(b"[[0.6,0.8]]", b"[[0.6000001,0.8]]"));
        for other in [b"[[0.8,0.6]]".as_slice(), b"[[0.6,0.8,0.0]]", b"[[0.6,0.8],[0.6,0.8]]", b"oops"] {
            assert!(!is_near(b"[[0.6,0.8]]", other), "{}", String::from_utf8_lossy(other));
        }
    }
}
