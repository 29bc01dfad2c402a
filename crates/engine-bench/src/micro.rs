//! Each kernel alone, on one thread: what a product, attention, the GELU and a norm take, and how near that is to what
//! the machine could do.

mod cases;
mod report;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use kernels::Tier;

use crate::machine::Machine;
use crate::timing;
use cases::{Case, Work};
use report::{Figure, Report};

/// How each kernel is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct MicroArgs {
    /// Only these instructions: amx-bf16, avx512-bf16, avx512-int16, avx512, avx2-int16, avx2, portable [default: all that this CPU has]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    isa: Vec<String>,
    /// Only the kernels whose name contains one of these: product, attention, GELU, norm
    #[arg(long, value_delimiter = ',', value_name = "PART,…")]
    kernel: Vec<String>,
    /// How long each figure is measured
    #[arg(long, default_value_t = 60, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    time_ms: u64,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

/// Measures all kernels; the report as text.
///
/// # Errors
/// Where instructions are asked for that this CPU lacks.
pub(crate) fn run(args: &MicroArgs) -> Result<String> {
    let time = Duration::from_millis(args.time_ms);
    let tiers = if args.isa.is_empty() {
        Tier::available()
    } else {
        args.isa.iter().map(|name| Ok(Tier::force(name)?)).collect::<Result<_>>()?
    };
    let machine = Machine::here();
    let mut figures = Vec::new();
    for tier in tiers {
        let limits = Limits::measure(tier, time)?;
        for mut case in cases::all(tier).filter(|case| is_asked(args, case)) {
            crate::progress(&format!("{}: {} {}", tier.name(), case.kernel, case.shape));
            figures.push(figure(tier, &mut case, limits, time)?);
        }
    }
    let asked = args.kernel.join(", ");
    ensure!(
        !figures.is_empty(),
        "`--kernel {asked}` names none: there are product, attention, GELU and norm"
    );
    Report { machine, figures }.write(args.json)
}

fn is_asked(args: &MicroArgs, case: &Case) -> bool {
    args.kernel.is_empty() || args.kernel.iter().any(|part| case.kernel.contains(part.as_str()))
}

/// What nothing can exceed, on one thread.
#[derive(Debug, Clone, Copy)]
struct Limits {
    floats_per_second: f64,
    int8_per_second: f64,
    bytes_per_second: f64,
}

impl Limits {
    fn measure(tier: Tier, time: Duration) -> Result<Self> {
        Ok(Self {
            floats_per_second: kernels::peak(tier, time),
            int8_per_second: kernels::peak_int8(tier, time),
            bytes_per_second: copy_rate(time)?,
        })
    }
}

/// Bytes read and written a second by a copy that stays in the L2 cache; in plain Rust, for the C library's may use an
/// instruction that is slow in some virtual machines.
fn copy_rate(time: Duration) -> Result<f64> {
    let from = vec![1.0_f32; cases::ROWS * cases::HIDDEN / 8];
    let mut to = vec![0.0_f32; from.len()];
    let mut copy = || {
        for (to, from) in to.iter_mut().zip(std::hint::black_box(&from)) {
            // Anything but a copy of bits, which would be made a call.
            *to = from + 1.0;
        }
        std::hint::black_box(&mut to);
    };
    Ok((2 * size_of_val::<[f32]>(&from)) as f64 / fastest(&mut copy, time)?)
}

/// What adds less than this part to a kernel is done while that waits for its products, and has no rate.
const HIDDEN_SHARE: f64 = 0.05;

fn figure(tier: Tier, case: &mut Case, limits: Limits, time: Duration) -> Result<Figure> {
    let whole = fastest(&mut case.run, time)?;
    // What a kernel adds to another is told by what both take.
    let seconds = match &mut case.without {
        Some(without) => (whole - fastest(without, time)?).max(0.0),
        None => whole,
    };
    let (instructions, limit) = match case.work {
        Work::Floats(_) => (tier.name(), limits.floats_per_second),
        Work::Int8(_) => (tier.int8_name(), limits.int8_per_second),
        Work::Bytes(_) => (tier.name(), limits.bytes_per_second),
    };
    let rate = (seconds >= HIDDEN_SHARE * whole).then(|| case.work.amount() / seconds);
    let share = rate.map(|rate| rate / limit);
    let unit = case.work.unit();
    let Case { kernel, shape, .. } = case;
    Ok(Figure { instructions, kernel, shape: shape.clone(), microseconds: 1e6 * seconds, rate, unit, share })
}

/// The fastest run, for a limit is the best of its runs as well: neighbours slow both down, and not at the same moments.
fn fastest(run: &mut dyn FnMut(), time: Duration) -> Result<f64> {
    let seconds = timing::seconds(time, || {
        run();
        Ok(())
    })?;
    Ok(seconds.into_iter().fold(f64::INFINITY, f64::min))
}
