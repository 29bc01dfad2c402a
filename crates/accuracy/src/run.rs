//! From the two sides to the report.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use hyper::{Uri, header::HeaderValue};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    compare::{Row, Vectors, compare},
    ml_base::MlBase,
    pairs::Pairs,
    progress::Progress,
    prompts::GivenPrompts,
    report::{Form, Report, Thresholds},
    server::{Cut, Served, Server},
    side::Side,
};

/// The model of an ml-base that is started here, where none is named.
const DEFAULT_MODEL: &str = "medium";

/// Everything that was asked for.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) reference: Side,
    pub(crate) candidate: Side,
    pub(crate) model: Option<String>,
    pub(crate) pairs: Pairs,
    pub(crate) prompts: GivenPrompts,
    /// Widths to compare; those of the model where there is none.
    pub(crate) widths: Vec<u32>,
    pub(crate) bearer: Option<HeaderValue>,
    /// Program that is started for a class.
    pub(crate) ml_base: PathBuf,
    pub(crate) start_timeout: Duration,
    pub(crate) thresholds: Thresholds,
    pub(crate) form: Form,
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The report, and whether a threshold was missed.
    Reported { text: String, missed: bool },
    /// Somebody wanted the end; an ml-base that was started has ended too.
    Interrupted,
}

/// Measures and reports.
///
/// # Errors
/// Why there is nothing to report.
pub(crate) async fn run(config: Config) -> anyhow::Result<Ending> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        ending = measure(config) => ending,
        _ = interrupt.recv() => Ok(Ending::Interrupted),
        _ = terminate.recv() => Ok(Ending::Interrupted),
    }
}

async fn measure(config: Config) -> anyhow::Result<Ending> {
    // First the one that may turn out not to be served here.
    let candidate = config.answers(&config.candidate).await?;
    let reference = match config.candidate == config.reference {
        // A class against itself still tells what the widths cost.
        true => candidate.clone(),
        false => config.answers(&config.reference).await?,
    };
    let Config { pairs, thresholds, form, .. } = config;
    let (texts, queries) = (pairs.texts.len(), pairs.queries.len());
    let sides = [&reference, &candidate].map(|answers| (answers.label.clone(), answers.served.clone()));
    let rows = tokio::task::spawn_blocking(move || rows(&reference, &candidate, &pairs)).await??;
    let report = Report::new(sides, [texts, queries], rows, thresholds);
    Ok(Ending::Reported { text: report.write(form)?, missed: report.is_missed() })
}

/// What one side answered.
#[derive(Debug, Clone)]
struct Answers {
    label: String,
    served: Served,
    cuts: Vec<Cut>,
}

impl Config {
    /// The vectors of all texts and then all queries.
    async fn answers(&self, side: &Side) -> anyhow::Result<Answers> {
        let label = side.to_string();
        match side {
            Side::Url(uri) => self.ask(&label, uri, self.model.as_deref()).await.with_context(|| label),
            Side::Class(class) => {
                let model = self.model.as_deref().unwrap_or(DEFAULT_MODEL);
                let mut ml_base = MlBase::start(&self.ml_base, *class, model)?;
                let uri = {
                    let _progress = Progress::wait(&format!("{label}: ml-base loads `{model}`"));
                    ml_base.ready(self.start_timeout).await.with_context(|| label.clone())?
                };
                let answers = self.ask(&label, &uri, None).await.with_context(|| label.clone())?;
                // Before another takes its memory and its cores.
                ml_base.stop().await?;
                let found = &answers.served.precision;
                ensure!(*found == label, "{label} was asked for, ml-base computes in {found}");
                Ok(answers)
            }
        }
    }

    async fn ask(&self, label: &str, uri: &Uri, model: Option<&str>) -> anyhow::Result<Answers> {
        let mut server = Server::connect(uri, model, self.bearer.clone()).await?;
        let mut served = server.served().clone();
        served.prompts = served.prompts.overridden(&self.prompts);
        let all = self.pairs.with_prompts(&served.prompts);
        let widths = served.chosen(&self.widths)?;
        let progress = Progress::count(&format!("{label}: texts and queries are embedded"), all.len());
        let cuts = server.embed(&all, &widths, &progress).await?;
        Ok(Answers { label: label.to_owned(), served, cuts })
    }
}

fn rows(reference: &Answers, candidate: &Answers, pairs: &Pairs) -> anyhow::Result<Vec<Row>> {
    let texts = pairs.texts.len();
    let other = |width: u32| candidate.cuts.iter().find(|cut| cut.width == width);
    let both: Vec<_> = reference.cuts.iter().filter_map(|cut| Some((cut, other(cut.width)?))).collect();
    ensure!(
        !both.is_empty(),
        "there is no width that both have: {:?} of {}, {:?} of {}",
        reference.served.widths,
        reference.label,
        candidate.served.widths,
        candidate.label
    );
    let steps = texts + both.len() * 2 * (texts + pairs.queries.len());
    let progress = Progress::count("neighbours and ranks", steps);
    let full = reference.cuts.first().context("the reference has no vectors")?;
    let full = Vectors::new(&full.rows, texts).neighbours(&progress);
    let compare_one = |(left, right): (&Cut, &Cut)| {
        let vectors = [left, right].map(|cut| Vectors::new(&cut.rows, texts));
        compare(left.width, vectors[0], vectors[1], &full, pairs, &progress)
    };
    Ok(both.into_iter().map(compare_one).collect())
}
