//! How fast a whole encoder of the size of all-MiniLM-L6-v2 is, with weights that mean nothing: tokens a second on one
//! thread, for texts of several lengths, per tier, with float and with int8 weights in turns; then a mix of lengths as in
//! real traffic on one thread and on two at once, each with texts of its own. Also shows how the kernels make a BERT layer.
//!
//! `cargo run -p kernels --example encoder [tier] [length ...]`; lengths are those of the mix.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::time::{Duration, Instant};

use kernels::{Activations, Heads, LayerNorm, Output, PackedLinear, Scratch, Tier, attention};

const LAYERS: usize = 6;
const HEADS: usize = 12;
const HIDDEN: usize = 384;
const BETWEEN: usize = 1536;
/// Tokens that go through all layers together.
const TOKENS: usize = 256;
/// Lengths of texts mixed as in real traffic: 80 tokens on average.
const MIX: [usize; 16] = [8, 137, 24, 75, 40, 111, 62, 256, 19, 90, 33, 128, 55, 80, 12, 150];
/// How long each figure of the mix is measured.
const TIME_OF_MIX: Duration = Duration::from_millis(1200);

/// One BERT layer.
struct Layer {
    qkv: PackedLinear,
    out: PackedLinear,
    out_norm: LayerNorm,
    up: PackedLinear,
    down: PackedLinear,
    down_norm: LayerNorm,
}

/// What a worker keeps.
struct Arena {
    /// `(tokens, hidden)`: the residual stream, and the same as input of a product.
    residual: Vec<f32>,
    hidden: Activations,
    attended: Activations,
    /// Queries, keys and values, and then what lies between the two products: the same memory is still in the cache.
    wide: Activations,
    scratch: Scratch,
}

impl Arena {
    fn new(tier: Tier, lengths: &[usize]) -> Self {
        let tokens: usize = lengths.iter().sum();
        let mut hidden = Activations::new(tier, tokens, HIDDEN);
        let residual = values(tokens * HIDDEN);
        hidden.fill(&residual, HIDDEN);
        let longest = lengths.iter().copied().max().unwrap_or(0);
        Self {
            residual,
            hidden,
            attended: Activations::new(tier, tokens, HIDDEN),
            wide: Activations::new(tier, tokens, BETWEEN),
            scratch: Scratch::new(tier, longest, HIDDEN / HEADS),
        }
    }
}

/// How weights are packed: as floats or as int8.
type Pack = fn(Tier, &[f32], usize, &[f32]) -> PackedLinear;

/// An encoder of one type of weights.
struct Encoder {
    name: &'static str,
    layers: Vec<Layer>,
    /// Operations a second that its products cannot exceed.
    peak: f64,
}

impl Encoder {
    fn new(tier: Tier, name: &'static str, pack: Pack, peak: f64) -> Self {
        let layers: Vec<Layer> = (0..LAYERS).map(|_| Layer::new(tier, pack)).collect();
        let linear = layers.iter().flat_map(|layer| [&layer.qkv, &layer.out, &layer.up, &layer.down]);
        let bytes: usize = linear.map(PackedLinear::bytes).sum();
        println!(
            "{name}: peak {:.0} G operations/s, packed weights {:.1} MB",
            peak / 1e9,
            bytes as f64 / 1e6
        );
        Self { name, layers, peak }
    }
}

impl Layer {
    fn new(tier: Tier, pack: Pack) -> Self {
        let linear =
            |outputs: usize, inputs: usize| pack(tier, &values(outputs * inputs), inputs, &values(outputs));
        let norm = || LayerNorm::new(&[1.0; HIDDEN], &[0.0; HIDDEN], 1e-12);
        Self {
            qkv: linear(3 * HIDDEN, HIDDEN),
            out: linear(HIDDEN, HIDDEN),
            out_norm: norm(),
            up: linear(BETWEEN, HIDDEN),
            down: linear(HIDDEN, BETWEEN),
            down_norm: norm(),
        }
    }

    /// The time of its five parts is added to `times`: qkv, attention, out and norm, up and GELU, down and norm.
    fn forward(&self, arena: &mut Arena, lengths: &[usize], times: &mut [Duration; 5]) {
        let Arena { residual, hidden, attended, wide, scratch } = arena;
        let mut last = Instant::now();
        let mut lap = |part: usize| {
            times[part] += last.elapsed();
            last = Instant::now();
        };
        self.qkv.apply(hidden, Output::Activations(wide), &mut *scratch);
        lap(0);
        attention(wide, lengths, Heads::new(HEADS, HIDDEN / HEADS), attended, &mut *scratch);
        lap(1);
        self.out.apply(attended, Output::AddTo(residual), &mut *scratch);
        self.out_norm.apply(residual, hidden, &mut *scratch);
        lap(2);
        self.up.apply(hidden, Output::Gelu(wide), &mut *scratch);
        lap(3);
        self.down.apply(wide, Output::AddTo(residual), &mut *scratch);
        self.down_norm.apply(residual, hidden, &mut *scratch);
        lap(4);
    }
}

fn main() {
    let (lengths, names): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.parse::<usize>().is_ok());
    let tier = names.first().map_or_else(Tier::detect, |name| match Tier::force(name) {
        Ok(tier) => tier,
        Err(error) => panic!("{error}"),
    });
    let lengths: Vec<usize> = lengths.iter().filter_map(|length| length.parse().ok()).collect();
    let time = Duration::from_millis(60);
    println!("one thread, {TOKENS} tokens at a time");
    let encoders = [
        Encoder::new(tier, tier.name(), PackedLinear::new, kernels::peak(tier, time)),
        Encoder::new(tier, tier.int8_name(), PackedLinear::new_int8, kernels::peak_int8(tier, time)),
    ];
    for length in [8, 32, 80, 128, 256] {
        report(tier, &encoders, &vec![length; (TOKENS / length).max(1)]);
    }
    report(tier, &encoders, &[8]);
    let mix = if lengths.is_empty() { &MIX } else { lengths.as_slice() };
    for threads in [1, 2] {
        report_mix(tier, &encoders, mix, threads);
    }
}

/// Prints the rate of each encoder in `threads` threads that all compute `mix` again and again.
fn report_mix(tier: Tier, encoders: &[Encoder; 2], mix: &[usize], threads: usize) {
    let tokens: usize = mix.iter().sum();
    println!("a mix of {} texts, {} tokens each, on {threads} thread(s)", mix.len(), tokens / mix.len());
    let peaks: [fn(Tier, Duration) -> f64; 2] = [kernels::peak, kernels::peak_int8];
    for (encoder, peak) in encoders.iter().zip(peaks) {
        let peak = in_threads(threads, || peak(tier, TIME_OF_MIX / 4));
        let rate = in_threads(threads, || tokens as f64 / best_time(tier, encoder, mix).as_secs_f64());
        println!(
            "  {:11} {rate:7.0} tokens/s, {:5.0} texts/s, linear layers {:2.0} % of the peak of {:.0} G operations/s",
            encoder.name,
            rate * mix.len() as f64 / tokens as f64,
            100.0 * rate * 2.0 * PER_TOKEN as f64 / peak,
            peak / 1e9,
        );
    }
}

/// The sum of what `rate` gives in each of some threads at once.
fn in_threads(threads: usize, rate: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(&rate)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a panic is reported")).sum()
    })
}

/// The time in which this thread computes all texts of `mix` in passes of up to [`TOKENS`], the least one of each.
fn best_time(tier: Tier, encoder: &Encoder, mix: &[usize]) -> Duration {
    let mut passes: Vec<Vec<usize>> = vec![Vec::new()];
    for &length in mix {
        match passes.last_mut() {
            Some(pass) if pass.iter().sum::<usize>() + length <= TOKENS => pass.push(length),
            _ => passes.push(vec![length]),
        }
    }
    let mut passes: Vec<_> =
        passes.iter().map(|lengths| (lengths, Arena::new(tier, lengths), Duration::MAX)).collect();
    let start = Instant::now();
    while start.elapsed() < TIME_OF_MIX {
        for (lengths, arena, best) in &mut passes {
            let before = Instant::now();
            encoder.layers.iter().for_each(|layer| layer.forward(arena, lengths, &mut [Duration::ZERO; 5]));
            *best = before.elapsed().min(*best);
        }
    }
    passes.iter().map(|(_, _, best)| best).sum()
}

/// Multiply-adds of the linear layers for one token.
const PER_TOKEN: usize = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * BETWEEN);

/// Prints the median of some forward passes of each encoder, which take turns.
fn report(tier: Tier, encoders: &[Encoder], lengths: &[usize]) {
    println!("{} texts of {} tokens", lengths.len(), lengths[0]);
    let tokens: usize = lengths.iter().sum();
    let mut arena = Arena::new(tier, lengths);
    let mut passes = vec![(Vec::new(), [Duration::ZERO; 5]); encoders.len()];
    for _ in 0..10 {
        for (encoder, (passes, times)) in encoders.iter().zip(&mut passes) {
            for _ in 0..6 {
                let start = Instant::now();
                encoder.layers.iter().for_each(|layer| layer.forward(&mut arena, lengths, times));
                passes.push(start.elapsed().as_secs_f64());
            }
        }
    }
    for (encoder, (passes, times)) in encoders.iter().zip(&mut passes) {
        passes.sort_by(f64::total_cmp);
        line(encoder, tokens, passes[passes.len() / 2], *times);
    }
}

fn line(encoder: &Encoder, tokens: usize, median: f64, times: [Duration; 5]) {
    let share = 2.0 * (PER_TOKEN * tokens) as f64 / median / encoder.peak;
    let passes = times.iter().sum::<Duration>().as_secs_f64();
    let parts = times.map(|time| format!("{:.2}", 1e3 * median * time.as_secs_f64() / passes));
    println!(
        "  {:11} {:7.0} tokens/s, {:6.3} ms, linear layers {:2.0} % of the peak; qkv, attention, out, up, down: {} ms",
        encoder.name,
        tokens as f64 / median,
        median * 1e3,
        100.0 * share,
        parts.join(", "),
    );
}

/// Small numbers without a pattern: a CPU slows down for what flips many bits.
fn values(count: usize) -> Vec<f32> {
    let next = |seed: &u32| Some(seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let numbers = std::iter::successors(Some(1), next).skip(1);
    numbers.take(count).map(|number| (number >> 8) as f32 / 1.6e8 - 0.05).collect()
}
