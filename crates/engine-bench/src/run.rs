//! A run: texts, contestants, turns, report.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use anyhow::{Result, bail, ensure};
use engine::{Compute, Engine, EngineConfig, Isa, LoadError};

use crate::args::Args;
use crate::contestant::Contestant;
use crate::machine::Machine;
use crate::ours::Ours;
use crate::peak::Peaks;
use crate::peers::{self, Choice, Task};
use crate::report::{Report, Setting};
use crate::texts::{Order, Texts};
use crate::turns::{Entry, Label, Side, take_turns};
use crate::work;

/// Measures what `args` ask for; the report as text.
///
/// # Errors
/// Where it could not start, or the engine failed.
pub(crate) fn run(args: &Args) -> Result<String> {
    let machine = Machine::here();
    let texts = Texts::read(&args.model, args.texts.as_deref(), args.count, args.tokens_max)?;
    let linear_operations = work::linear_operations_per_token(&args.model)? * texts.tokens() as f64;
    let reference = reference(args, &texts)?;
    let mut left_out = Vec::new();
    let mut entries = ours(args, &texts, &mut left_out)?;
    if args.peers {
        entries.extend(peers(args, &texts, &mut left_out)?);
    }
    let mut peaks = Peaks::default();
    for label in entries.iter().map(|entry| &entry.label) {
        if let Some(computes_with) = label.computes_with {
            peaks.watch(computes_with, label.threads);
        }
    }
    take_turns(&mut entries, args.rounds, &reference, &mut peaks)?;
    let setting = Setting {
        model: args.model.display().to_string(),
        texts: args.texts.as_ref().map_or("novels".to_owned(), |file| file.display().to_string()),
        count: texts.count(),
        tokens: texts.tokens(),
        query_tokens: texts.query().len(),
        tokens_max: args.tokens_max,
        rounds: args.rounds,
        linear_operations,
    };
    Report::new(setting, machine, &entries, left_out, peaks).write(args.json)
}

/// The vectors that all others are compared with: ours in float32.
fn reference(args: &Args, texts: &Texts) -> Result<Vec<Vec<f32>>> {
    let engine = load(args, Compute::Float32, all_cores()?)?;
    Ours::new(engine, texts, args.batch_texts)?.vectors()
}

/// Every way to compute that this CPU has, on each number of threads.
fn ours(args: &Args, texts: &Texts, left_out: &mut Vec<(String, String)>) -> Result<Vec<Entry>> {
    let asked: Vec<Compute> = Compute::ALL.into_iter().filter(|compute| is_asked(args, *compute)).collect();
    let known = Compute::ALL.map(Compute::name);
    let is_known = |name: &String| known.contains(&name.as_str());
    ensure!(args.compute.iter().all(is_known), "`--compute` has an unknown name, known are {known:?}");
    let mut entries: Vec<Entry> = Vec::new();
    for (threads, orders) in threads(args)? {
        for &compute in &asked {
            match load(args, compute, threads) {
                Ok(engine) if engine.compute() != compute => {
                    note(left_out, compute, "not on this CPU, something else would take its place");
                }
                Ok(engine) => {
                    let label = label(args, compute, engine.computes_with(), threads);
                    let ours = Ours::new(engine, texts, args.batch_texts)?;
                    entries.push(Entry::new(label, orders, Box::new(ours)));
                }
                Err(LoadError::Tier(error)) => note(left_out, compute, &error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    ensure!(!entries.is_empty(), "nothing of what was asked for can be computed: {left_out:?}");
    Ok(entries)
}

/// All peers on as many threads as ours have.
fn peers(args: &Args, texts: &Texts, left_out: &mut Vec<(String, String)>) -> Result<Vec<Entry>> {
    let [(threads, _)] = threads(args)?[..] else {
        bail!("`--threads` names several numbers, with `--peers` one is compared");
    };
    let choice = Choice {
        dir: std::path::absolute(&args.peers_dir)?,
        script: std::path::absolute(&args.peers_script)?,
        python: args.python.clone(),
        names: args.peer.clone(),
    };
    let task = Task { model: &args.model, pooling: args.pooling, texts, threads };
    peers::start(&choice, task, left_out)
}

fn note(left_out: &mut Vec<(String, String)>, compute: Compute, reason: &str) {
    let note = (compute.name().to_owned(), reason.to_owned());
    if !left_out.contains(&note) {
        left_out.push(note);
    }
}

fn label(args: &Args, compute: Compute, computes_with: &'static str, threads: NonZeroUsize) -> Label {
    Label {
        side: Side::Ours,
        name: format!("ours {}", compute.name()),
        computes_with: Some(computes_with),
        threads,
        setting: format!("batches of {}", args.batch_texts),
    }
}

fn is_asked(args: &Args, compute: Compute) -> bool {
    args.compute.is_empty() || args.compute.iter().any(|name| name == compute.name())
}

/// Both orders where the user names the threads and on all cores; on one thread that is only there to compare with, one.
fn threads(args: &Args) -> Result<Vec<(NonZeroUsize, &'static [Order])>> {
    const BOTH: &[Order] = &[Order::Arrival, Order::Sorted];
    if !args.threads.is_empty() {
        return Ok(args.threads.iter().map(|threads| (*threads, BOTH)).collect());
    }
    let all = all_cores()?;
    let one = (all > NonZeroUsize::MIN && !args.peers).then_some((NonZeroUsize::MIN, &BOTH[..1]));
    Ok([(all, BOTH)].into_iter().chain(one).collect())
}

fn all_cores() -> Result<NonZeroUsize> {
    Ok(available_parallelism()?)
}

fn load(args: &Args, compute: Compute, threads: NonZeroUsize) -> Result<Engine, LoadError> {
    let config = EngineConfig {
        pooling: args.pooling,
        tokens_max: args.tokens_max.get(),
        compute,
        isa: Isa::Auto,
        threads,
    };
    Engine::load(&args.model, &config)
}
