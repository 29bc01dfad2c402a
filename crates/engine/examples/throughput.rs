//! Texts a second on real texts, as a table: one row per number of threads.
//!
//! `cargo run -p engine --example throughput -- --model DIR --file texts.txt [--threads 1,2] [--batch-texts 64] [--compute float32|candle|bfloat16]`
//!
//! The file has one text a line. Tokenizing is not timed. Batches are formed in file order, as a queue would.

#![expect(clippy::print_stdout, reason = "a table on the terminal is the purpose")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::{Compute, Engine, EngineConfig, Pooling, RaggedBatch, TokenIds};
use tokenizers::{Tokenizer, TruncationParams};

type Failure = Box<dyn Error + Send + Sync>;

struct Arguments {
    model: PathBuf,
    file: PathBuf,
    threads: Vec<NonZeroUsize>,
    batch_texts: NonZeroUsize,
    compute: Compute,
    rounds: usize,
}

impl Arguments {
    fn parse() -> Result<Self, Failure> {
        let mut arguments = std::env::args().skip(1);
        let (mut model, mut file) = (None, None);
        let mut threads = vec![NonZeroUsize::MIN, std::thread::available_parallelism()?];
        threads.dedup();
        let mut batch_texts = NonZeroUsize::new(64).ok_or("64 is not 0")?;
        let mut compute = Compute::default();
        let mut rounds = 3;
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
            match name.as_str() {
                "--model" => model = Some(value.into()),
                "--file" => file = Some(value.into()),
                "--threads" => threads = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--batch-texts" => batch_texts = value.parse()?,
                "--compute" => compute = parse_compute(&value)?,
                "--rounds" => rounds = value.parse()?,
                _ => return Err(format!("unknown argument {name}").into()),
            }
        }
        let (model, file) = (model.ok_or("--model DIR is wanted")?, file.ok_or("--file FILE is wanted")?);
        Ok(Self { model, file, threads, batch_texts, compute, rounds })
    }
}

fn parse_compute(name: &str) -> Result<Compute, Failure> {
    match name {
        "float32" => Ok(Compute::Float32),
        "candle" => Ok(Compute::Candle),
        "bfloat16" => Ok(Compute::Bfloat16),
        _ => Err(format!("--compute is `{name}`, known are float32, candle, bfloat16").into()),
    }
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse()?;
    let texts = tokenize(&arguments.model, &std::fs::read_to_string(&arguments.file)?)?;
    let tokens: usize = texts.iter().map(TokenIds::len).sum();
    let batches: Vec<_> =
        texts.chunks(arguments.batch_texts.get()).map(RaggedBatch::new).collect::<Result<_, _>>()?;
    println!("{} texts, {tokens} tokens, batches of {} texts", texts.len(), arguments.batch_texts);
    println!("{:>9} {:>7} {:>10} {:>10} {:>10}", "with", "threads", "seconds", "texts/s", "tokens/s");
    for &threads in &arguments.threads {
        let compute = arguments.compute;
        let config = EngineConfig { pooling: Pooling::Mean, tokens_max: 256, compute, threads };
        let engine = Engine::load(&arguments.model, &config)?;
        let seconds = best_seconds(&engine, &batches, arguments.rounds)?;
        let per_second = |count: usize| count as f64 / seconds;
        println!(
            "{:>9} {threads:>7} {seconds:>10.3} {:>10.1} {:>10.0}",
            engine.computes_with(),
            per_second(texts.len()),
            per_second(tokens)
        );
    }
    Ok(())
}

/// The fastest of `rounds` over all batches: on a shared machine the others measure the neighbours.
fn best_seconds(engine: &Engine, batches: &[RaggedBatch], rounds: usize) -> Result<f64, Failure> {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        for batch in batches {
            engine.embed(batch)?;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn tokenize(model: &Path, texts: &str) -> Result<Vec<TokenIds>, Failure> {
    let mut tokenizer = Tokenizer::from_file(model.join("tokenizer.json"))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(Some(TruncationParams { max_length: 256, ..TruncationParams::default() }))?;
    texts
        .lines()
        .filter(|text| !text.is_empty())
        .map(|text| Ok(TokenIds::new(tokenizer.encode(text, true)?.get_ids().to_vec())?))
        .collect()
}
