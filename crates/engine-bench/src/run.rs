//! A run: texts, contestants, turns, report.

use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail, ensure};
use engine::{Engine, EngineConfig, LoadError, RaggedBatch};

use crate::args::EngineArgs;
use crate::contestant::Contestant;
use crate::machine::Machine;
use crate::memory;
use crate::ours::Ours;
use crate::peak::Peaks;
use crate::peers::{self, Choice, Task};
use crate::random_model;
use crate::report::{Report, Setting};
use crate::sweep;
use crate::texts::{Order, Texts};
use crate::turns::{Entry, Label, Side, take_turns};
use crate::way::Way;
use crate::work;

/// Tokens of all synthetic texts together, at most.
const SYNTHETIC_TOKENS: usize = 32_768;

/// Measures what `args` ask for; the report as text.
///
/// # Errors
/// Where it could not start, or the engine failed.
pub(crate) fn run(args: &EngineArgs) -> Result<String> {
    if args.random_nomic {
        random_model::provide(&args.model)?;
    }
    if let Some(dir) = &args.plots {
        return plots(args, dir);
    }
    if let Some(name) = &args.only_memory_of {
        return only_memory(args, name);
    }
    let machine = Machine::here();
    let texts = texts(args)?;
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
        texts: match (&args.texts, args.synthetic) {
            (Some(file), _) => file.display().to_string(),
            (None, Some(_)) => "random ids".to_owned(),
            (None, None) => "questions and passages".to_owned(),
        },
        count: texts.count(),
        tokens: texts.tokens(),
        query_tokens: texts.query().len(),
        tokens_max: args.tokens_max,
        rounds: args.rounds,
        linear_operations,
    };
    Report::new(setting, machine, &entries, left_out, peaks).write(args.json)
}

/// What the process says that [`memory::of_a_process`] starts.
fn only_memory(args: &EngineArgs, name: &str) -> Result<String> {
    let way = Way::all().find(|way| way.name() == name);
    let way = way.with_context(|| format!("`--only-memory-of` is {name}"))?;
    let texts = texts(args)?;
    let batch = RaggedBatch::new(texts.in_order(Order::Arrival).into_iter().take(args.batch_texts.get()))?;
    let threads = threads(args)?[0].0;
    let memory = memory::of_this_process(&args.model, || Ok(load(args, way, threads)?), &batch)?;
    Ok(serde_json::to_string(&memory)?)
}

/// Those of the file, or random ones.
fn texts(args: &EngineArgs) -> Result<Texts> {
    let Some(tokens) = args.synthetic else {
        return Texts::read(&args.model, args.texts.as_deref(), args.count, args.tokens_max);
    };
    let vocabulary = load(args, Way::FLOAT32, NonZeroUsize::MIN)?.vocabulary();
    Texts::synthetic(args.count.get().min(SYNTHETIC_TOKENS / tokens).max(1), tokens, vocabulary)
}

/// Cost against length and batch size, of everything this CPU has, on all cores.
fn plots(args: &EngineArgs, dir: &Path) -> Result<String> {
    let threads = args.threads.first().map_or_else(all_cores, |threads| Ok(*threads))?;
    let (mut curves, mut drawn) = (Vec::new(), Vec::new());
    for way in Way::all().filter(|way| is_asked(args, *way)) {
        match load(args, way, threads) {
            Ok(engine) if drawn.contains(&engine.computes_with()) => {}
            Ok(engine) => {
                drawn.push(engine.computes_with());
                let name = format!("{} ({})", way.name(), engine.computes_with());
                curves.push(sweep::measure(&engine, name, args.rounds)?);
            }
            Err(LoadError::Tier(error)) => crate::progress(&format!("{}: {error}", way.name())),
            Err(error) => return Err(error.into()),
        }
    }
    let model = args.model.file_name().unwrap_or_default().to_string_lossy();
    sweep::write(dir, &model, threads, &curves)
}

/// The vectors that all others are compared with: ours in float32.
fn reference(args: &EngineArgs, texts: &Texts) -> Result<Vec<Vec<f32>>> {
    let engine = load(args, Way::FLOAT32, all_cores()?)?;
    Ours::new(engine, texts, args.batch_texts)?.vectors()
}

/// Every way to compute that this CPU has, on each number of threads.
fn ours(args: &EngineArgs, texts: &Texts, left_out: &mut Vec<(String, String)>) -> Result<Vec<Entry>> {
    let asked: Vec<Way> = Way::all().filter(|way| is_asked(args, *way)).collect();
    let known: Vec<String> = Way::all().map(Way::name).collect();
    let is_known = |name: &String| known.contains(name);
    ensure!(args.compute.iter().all(is_known), "`--compute` has an unknown name, known are {known:?}");
    let mut entries: Vec<Entry> = Vec::new();
    for (threads, orders) in threads(args)? {
        for &way in &asked {
            match load(args, way, threads) {
                Ok(engine) if is_there(&entries, &engine, threads) => {
                    note(left_out, way, "the same code as another of them on this CPU");
                }
                Ok(engine) => {
                    let label = label(args, way, engine.computes_with(), threads);
                    let ours = Ours::new(engine, texts, args.batch_texts)?;
                    let mut entry = Entry::new(label, orders, Box::new(ours));
                    if args.memory {
                        entry.memory = Some(memory::of_a_process(&way.name())?);
                    }
                    entries.push(entry);
                }
                Err(LoadError::Tier(error)) => note(left_out, way, &error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    ensure!(!entries.is_empty(), "nothing of what was asked for can be computed: {left_out:?}");
    Ok(entries)
}

/// All peers on as many threads as ours have.
fn peers(args: &EngineArgs, texts: &Texts, left_out: &mut Vec<(String, String)>) -> Result<Vec<Entry>> {
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

/// Where a CPU lacks the instructions that one way prefers, it computes as another does.
fn is_there(entries: &[Entry], engine: &Engine, threads: NonZeroUsize) -> bool {
    let same = (Some(engine.computes_with()), threads);
    entries.iter().any(|entry| (entry.label.computes_with, entry.label.threads) == same)
}

fn note(left_out: &mut Vec<(String, String)>, way: Way, reason: &str) {
    let note = (way.name(), reason.to_owned());
    if !left_out.contains(&note) {
        left_out.push(note);
    }
}

fn label(args: &EngineArgs, way: Way, computes_with: &'static str, threads: NonZeroUsize) -> Label {
    Label {
        side: Side::Ours,
        name: format!("ours {}", way.name()),
        computes_with: Some(computes_with),
        threads,
        setting: format!("batches of {}", args.batch_texts),
    }
}

fn is_asked(args: &EngineArgs, way: Way) -> bool {
    args.compute.is_empty() || args.compute.contains(&way.name())
}

/// Both orders where the user names the threads and on all cores; on one thread that is only there to compare with, one.
fn threads(args: &EngineArgs) -> Result<Vec<(NonZeroUsize, &'static [Order])>> {
    const BOTH: &[Order] = &[Order::Arrival, Order::Sorted];
    // Synthetic texts are of one length.
    let orders = if args.synthetic.is_some() { &BOTH[..1] } else { BOTH };
    if !args.threads.is_empty() {
        return Ok(args.threads.iter().map(|threads| (*threads, orders)).collect());
    }
    let all = all_cores()?;
    let one = (all > NonZeroUsize::MIN && !args.peers).then_some((NonZeroUsize::MIN, &BOTH[..1]));
    Ok([(all, orders)].into_iter().chain(one).collect())
}

fn all_cores() -> Result<NonZeroUsize> {
    Ok(available_parallelism()?)
}

fn load(args: &EngineArgs, way: Way, threads: NonZeroUsize) -> Result<Engine, LoadError> {
    let config = EngineConfig {
        pooling: args.pooling,
        tokens_max: args.tokens_max.get(),
        compute: way.compute,
        isa: way.isa,
        threads: threads.into(),
    };
    Engine::load(&args.model, &config)
}
