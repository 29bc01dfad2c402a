//! A session of ONNX Runtime: checked when it is loaded, fed with rectangles.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, Tensor, TensorElementType};

use super::rectangles::{self, Rectangle};
use super::{Sizes, files, library};
use crate::batch::RaggedBatch;
use crate::compute::Compute;
use crate::engine::EngineConfig;
use crate::error::{EmbedError, LoadError};

/// What an input of the graph is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filling {
    Ids,
    Mask,
    /// Zeros: no text has a second part.
    Types,
    /// Places from 0.
    Positions,
}

/// Inputs that are known, by name. One that a graph does not have is not given.
const INPUTS: [(&str, Filling); 4] = [
    ("input_ids", Filling::Ids),
    ("attention_mask", Filling::Mask),
    ("token_type_ids", Filling::Types),
    ("position_ids", Filling::Positions),
];

/// The folder of further files of a graph that comes as bytes.
const FURTHER_FILES: &str = "session.model_external_initializers_file_folder_path";

/// A loaded graph. Calls take turns: the session's own threads share each of them.
pub(crate) struct OnnxModel {
    session: Mutex<Session>,
    file: PathBuf,
    inputs: Vec<(String, Filling)>,
    output: String,
    compute: Compute,
    sizes: Sizes,
}

impl OnnxModel {
    /// Loads the file for `config.compute` and starts its threads.
    ///
    /// The graph is handed over as bytes, and further files are looked for where none can be, not in the working directory: a
    /// graph that names one for its weights is refused then, and nothing is computed that the identity does not cover.
    pub(crate) fn load(model_dir: &Path, config: &EngineConfig) -> Result<Self, LoadError> {
        let file = files::choose(model_dir, config.compute, config.isa)?;
        let sizes = Sizes::read(&model_dir.join("config.json"))?;
        let graph = std::fs::read(&file).map_err(|source| LoadError::reading(&file, source))?;
        let environment = library::environment()?;
        // The graph is a file, so nothing lies within it.
        let nowhere = file.join("none");
        let session = || -> ort::Result<Session> {
            // Threads that spin between calls would take from whoever else computes on this machine.
            let builder = Session::builder(&environment)?.with_intra_threads(config.threads.sure.get())?;
            let builder = builder.with_intra_op_spinning(false)?;
            builder.with_config_entry(FURTHER_FILES, nowhere.to_string_lossy())?.commit_from_memory(&graph)
        };
        let session = session().map_err(|error| LoadError::OnnxGraph {
            file: file.clone(),
            reason: error.message().to_owned(),
        })?;
        let inputs = inputs(&file, session.inputs())?;
        let output = output(&file, session.outputs(), sizes.hidden)?;
        Ok(Self { session: Mutex::new(session), file, inputs, output, compute: config.compute, sizes })
    }

    pub(crate) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Calls `pool` with a text's number in `batch`, the text as a batch of its own, and its hidden states
    /// `(tokens, hidden)`; once for each text, in any order.
    pub(crate) fn forward(
        &self,
        batch: &RaggedBatch,
        mut pool: impl FnMut(usize, &RaggedBatch, &[f32]),
    ) -> Result<(), EmbedError> {
        // A quantised graph scales its tokens by the largest of a whole call, so that neighbours and padding would change
        // a text's vector.
        let rectangles = match self.compute {
            Compute::Int8 => rectangles::alone(batch),
            Compute::Float32 | Compute::Bfloat16 => rectangles::similar(batch),
        };
        rectangles.iter().try_for_each(|rectangle| self.run(batch, rectangle, &mut pool))
    }

    fn run(
        &self,
        batch: &RaggedBatch,
        rectangle: &Rectangle,
        pool: &mut impl FnMut(usize, &RaggedBatch, &[f32]),
    ) -> Result<(), EmbedError> {
        let failed = |error: ort::Error| self.failed(error.message());
        let inputs = self.fill(batch, rectangle).map_err(failed)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(inputs).map_err(failed)?;
        let output = outputs.get(&self.output).ok_or_else(|| self.failed("its output is gone"))?;
        let (shape, states) = output.try_extract_tensor::<f32>().map_err(failed)?;
        let (texts, length, hidden) = (rectangle.texts.len(), rectangle.length, self.sizes.hidden);
        let is_wanted =
            shape.iter().zip([texts, length, hidden]).all(|(found, wanted)| *found == wanted as i64);
        if shape.len() != 3 || !is_wanted {
            let wanted = format!("wanted [{texts}, {length}, {hidden}]");
            return Err(self.failed(&format!("{} has shape {:?}, {wanted}", self.output, &shape[..])));
        }
        for (text, states) in rectangle.texts.iter().zip(states.chunks_exact(length * hidden)) {
            if let Some(one) = batch.pick(&[*text]) {
                pool(*text, &one, &states[..one.tokens() * hidden]);
            }
        }
        Ok(())
    }

    /// The inputs of one call, each `(texts, length)`.
    fn fill(
        &self,
        batch: &RaggedBatch,
        rectangle: &Rectangle,
    ) -> ort::Result<Vec<(String, SessionInputValue<'static>)>> {
        let fill = |(name, filling): &(String, Filling)| {
            let shape = [rectangle.texts.len(), rectangle.length];
            let tensor = Tensor::from_array((shape, values(*filling, batch, rectangle, self.sizes.padding)))?;
            Ok((name.clone(), SessionInputValue::from(tensor)))
        };
        self.inputs.iter().map(fill).collect()
    }

    fn failed(&self, reason: &str) -> EmbedError {
        EmbedError::Onnx { file: self.file.clone(), reason: reason.to_owned() }
    }
}

/// The values of one input, row by row: `(texts, length)`.
fn values(filling: Filling, batch: &RaggedBatch, rectangle: &Rectangle, padding: u32) -> Vec<i64> {
    let ranges: Vec<_> = batch.ranges().collect();
    let mut values = Vec::with_capacity(rectangle.texts.len() * rectangle.length);
    for text in &rectangle.texts {
        let ids = &batch.ids()[ranges[*text].clone()];
        let end = values.len() + rectangle.length;
        match filling {
            Filling::Ids => values.extend(ids.iter().map(|id| i64::from(*id))),
            Filling::Mask => values.resize(values.len() + ids.len(), 1),
            Filling::Types => {}
            Filling::Positions => values.extend(0..rectangle.length as i64),
        }
        values.resize(end, if filling == Filling::Ids { i64::from(padding) } else { 0 });
    }
    values
}

/// Every input that the graph names, with what it is filled with.
fn inputs(file: &Path, inputs: &[Outlet]) -> Result<Vec<(String, Filling)>, LoadError> {
    let wrong = |reason: String| LoadError::OnnxGraph { file: file.to_owned(), reason };
    let known = INPUTS.map(|(name, _)| name).join(", ");
    let fill = |input: &Outlet| {
        let filling = INPUTS.iter().find(|(name, _)| *name == input.name()).map(|(_, filling)| *filling);
        let filling = filling.ok_or_else(|| wrong(format!("input {:?} is none of {known}", input.name())))?;
        match input.dtype().tensor_type() {
            Some(TensorElementType::Int64) => Ok((input.name().to_owned(), filling)),
            _ => Err(wrong(format!("input {:?} is {}, wanted int64", input.name(), input.dtype()))),
        }
    };
    let found = inputs.iter().map(fill).collect::<Result<Vec<_>, _>>()?;
    for wanted in [Filling::Ids, Filling::Mask] {
        if !found.iter().any(|(_, filling)| *filling == wanted) {
            return Err(wrong(format!(
                "an input is missing: input_ids and attention_mask are needed of {known}"
            )));
        }
    }
    Ok(found)
}

/// The first output of three dimensions: a hidden state for each token of each text.
fn output(file: &Path, outputs: &[Outlet], hidden: usize) -> Result<String, LoadError> {
    let wrong = |reason: String| LoadError::OnnxGraph { file: file.to_owned(), reason };
    let rank = |outlet: &&Outlet| outlet.dtype().tensor_shape().is_some_and(|shape| shape.len() == 3);
    let Some(output) = outputs.iter().find(rank) else {
        let names: Vec<_> =
            outputs.iter().map(|outlet| format!("{} {}", outlet.name(), outlet.dtype())).collect();
        return Err(wrong(format!(
            "no output has the dimensions (texts, tokens, hidden); there are: {}",
            names.join(", ")
        )));
    };
    if output.dtype().tensor_type() != Some(TensorElementType::Float32) {
        return Err(wrong(format!("output {:?} is {}, wanted float32", output.name(), output.dtype())));
    }
    let width = output.dtype().tensor_shape().map_or(-1, |shape| shape[2]);
    if width >= 0 && width != hidden as i64 {
        let name = output.name();
        return Err(wrong(format!("output {name:?} has {width} values a token, hidden_size is {hidden}")));
    }
    Ok(output.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TokenIds;

    #[test]
    fn rectangles_are_filled_row_by_row_and_padding_is_masked() {
        let texts = [vec![7, 8, 9], vec![5]].map(|ids| TokenIds::new(ids).unwrap());
        let batch = RaggedBatch::new(&texts).unwrap();
        let rectangle = Rectangle { texts: vec![1, 0], length: 3 };
        let filled = |filling| values(filling, &batch, &rectangle, 1);
        assert_eq!(filled(Filling::Ids), [5, 1, 1, 7, 8, 9]);
        assert_eq!(filled(Filling::Mask), [1, 0, 0, 1, 1, 1]);
        assert_eq!(filled(Filling::Types), [0; 6]);
        assert_eq!(filled(Filling::Positions), [0, 1, 2, 0, 1, 2]);
    }
}
