//! The line between a proxy and ml-base changes what it carries: no wrong vector is answered, and none is kept.

use e2e::{Door, Fault, FaultyLine, Program, TinyModel, largest_delta, until};
use hyper::StatusCode;

use crate::programs::{start_ml_base, start_proxy};

/// Only the order of additions may differ.
const TOLERANCE: f32 = 1e-5;
/// Calls that are to be found out in each direction.
const CHANGES: u64 = 6;
/// Words of a text, so that most of what is asked is text.
const WORDS: usize = 30;

/// ml-base, a line to it, and a proxy that keeps what it answers.
struct Grid {
    _model: TinyModel,
    _ml_base: Program,
    door: Door,
    line: FaultyLine,
    _program: Program,
    proxy: Door,
}

/// Texts and the vectors that they have.
struct Known {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

impl Grid {
    async fn start() -> Self {
        let model = TinyModel::new(1, 2);
        let ml_base = start_ml_base(model.path(), &["--port", "0"]);
        let door = ml_base.ready().await;
        let line = FaultyLine::to(door).await;
        // All texts of a request are one call, and a call whose answer is lost is soon given up.
        let arguments = ["--ml-base-calls-max", "1", "--compute-timeout", "2"];
        let program = start_proxy(line.door(), &arguments);
        let proxy = program.ready().await;
        Self { _model: model, _ml_base: ml_base, door, line, _program: program, proxy }
    }

    /// Texts that nobody has asked for; more of them in some turns, so that the line changes another part of them.
    async fn new_texts(&self, turn: usize) -> Known {
        let word = |text: usize, place: usize| format!("w{}", (turn * 31 + text * 7 + place * place) % 64);
        let text = |text| (0..WORDS).map(|place| word(text, place)).collect::<Vec<_>>().join(" ");
        let texts: Vec<_> =
            (0..16 + turn % 9).map(|index| format!("w{} {}", turn % 64, text(index))).collect();
        let vectors = self.door.embed(&texts).await.rows();
        Known { texts, vectors }
    }

    /// Whether the texts are answered; each has its own vector if so.
    async fn answers(&self, known: &Known) -> bool {
        let answer = self.proxy.embed(&known.texts).await;
        if answer.status != StatusCode::OK {
            return false;
        }
        let rows = answer.rows();
        assert_eq!(rows.len(), known.vectors.len());
        for (index, (row, vector)) in rows.iter().zip(&known.vectors).enumerate() {
            let delta = largest_delta(row, vector);
            assert!(delta <= TOLERANCE, "text {index} is {delta:e} off");
        }
        true
    }

    /// Asks over a line with this fault until it was noticed often enough. What is answered is right, and so is what is
    /// answered over a good line from what was kept before.
    async fn is_noticed(&self, fault: Fault) {
        let mut turns = 0..;
        until(&format!("a line that is {fault:?} is noticed"), async || {
            let known = self.new_texts(turns.next()?).await;
            self.line.set(fault);
            self.answers(&known).await;
            self.line.set(Fault::None);
            until("a good line carries", async || self.answers(&known).await.then_some(())).await;
            let name = "embedding_single_ml_base_calls_total";
            let noticed = self.proxy.metric_of(name, r#"result="garbled""#).await;
            (noticed >= CHANGES).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_changes_on_its_way_back_is_neither_answered_nor_kept() {
    Grid::start().await.is_noticed(Fault::Garbled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_changes_on_its_way_to_ml_base_has_nobody_answered_with_anothers_vector() {
    Grid::start().await.is_noticed(Fault::Misheard).await;
}
