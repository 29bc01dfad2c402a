//! How fast a whole encoder of the size of all-MiniLM-L6-v2 is, with weights that mean nothing: tokens a second on one
//! thread, for texts of several lengths, per tier, with float and with int8 weights in turns. Also shows how the kernels
//! make a BERT layer.
//!
//! `cargo run -p kernels --example encoder [tier]`
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::time::{Duration, Instant};

use kernels::{Activations, Heads, LayerNorm, Output, PackedLinear, Scratch, Tier, attention};

const LAYERS: usize = 6;
const HEADS: usize = 12;
const HIDDEN: usize = 384;
const BETWEEN: usize = 1536;
/// Tokens that go through all layers together.
const TOKENS: usize = 256;

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
    qkv: Activations,
    attended: Activations,
    between: Activations,
    scratch: Scratch,
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
        let Arena { residual, hidden, qkv, attended, between, scratch } = arena;
        let mut last = Instant::now();
        let mut lap = |part: usize| {
            times[part] += last.elapsed();
            last = Instant::now();
        };
        self.qkv.apply(hidden, Output::Activations(qkv), scratch);
        lap(0);
        attention(qkv, lengths, Heads::new(HEADS, HIDDEN / HEADS), attended, scratch);
        lap(1);
        self.out.apply(attended, Output::AddTo(residual), scratch);
        self.out_norm.apply(residual, hidden);
        lap(2);
        self.up.apply(hidden, Output::Gelu(between), scratch);
        lap(3);
        self.down.apply(between, Output::AddTo(residual), scratch);
        self.down_norm.apply(residual, hidden);
        lap(4);
    }
}

fn main() {
    let name = std::env::args().nth(1);
    let tier = name.map_or_else(Tier::detect, |name| match Tier::force(&name) {
        Ok(tier) => tier,
        Err(error) => panic!("{error}"),
    });
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
}

/// Prints the median of some forward passes of each encoder, which take turns.
fn report(tier: Tier, encoders: &[Encoder], lengths: &[usize]) {
    println!("{} texts of {} tokens", lengths.len(), lengths[0]);
    let tokens: usize = lengths.iter().sum();
    let mut arena = Arena {
        residual: values(tokens * HIDDEN),
        hidden: Activations::new(tier, tokens, HIDDEN),
        qkv: Activations::new(tier, tokens, 3 * HIDDEN),
        attended: Activations::new(tier, tokens, HIDDEN),
        between: Activations::new(tier, tokens, BETWEEN),
        scratch: Scratch::new(tier, lengths[0], HIDDEN / HEADS),
    };
    arena.hidden.fill(&arena.residual, HIDDEN);
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
    let per_token = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * BETWEEN);
    let share = 2.0 * (per_token * tokens) as f64 / median / encoder.peak;
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

/// Some small numbers.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index * 37 % 101) as f32 / 1010.0 - 0.05).collect()
}
