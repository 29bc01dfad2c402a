//! A damaged model directory is refused at start, with the file, what was found and what was wanted.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use e2e::model_dir;
use ml_base::model::Sha256;

use crate::programs::start_ml_base;

const WEIGHTS: &str = "model.safetensors";

/// A copy of the model that may be damaged.
fn copy_of(model: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", WEIGHTS] {
        fs::copy(model.join(file), copy.path().join(file)).unwrap();
    }
    let sum = Sha256::of_file(&model.join(WEIGHTS)).unwrap();
    fs::write(copy.path().join("SHA256SUMS"), format!("{sum}  {WEIGHTS}\n")).unwrap();
    copy
}

/// What ml-base says before it gives up on this directory.
async fn refusal_of(directory: &Path) -> String {
    let mut ml_base = start_ml_base(directory, &["--port", "0"]);
    let status = ml_base.end().await;
    assert_eq!(status.code(), Some(1), "{}", ml_base.log());
    ml_base.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_model_is_refused_at_start_by_file_with_what_was_found_and_wanted() {
    let test = "model_directory::a_damaged_model_is_refused_at_start_by_file_with_what_was_found_and_wanted";
    let Some(model) = model_dir(test) else { return };
    let whole = Sha256::of_file(&model.join(WEIGHTS)).unwrap();
    let bytes = fs::metadata(model.join(WEIGHTS)).unwrap().len();
    let copy = copy_of(&model);
    let open = || fs::OpenOptions::new().write(true).open(copy.path().join(WEIGHTS)).unwrap();

    let mut weights = open();
    weights.seek(SeekFrom::End(-1)).unwrap();
    weights.write_all(&[0xff]).unwrap();
    let damaged = Sha256::of_file(&copy.path().join(WEIGHTS)).unwrap();
    assert_ne!(damaged, whole);
    let said = refusal_of(copy.path()).await;
    assert!(said.contains(&format!("{WEIGHTS}: sha256 is {damaged}, wanted {whole}")), "{said}");

    open().set_len(bytes / 2).unwrap();
    let said = refusal_of(copy.path()).await;
    assert!(said.contains(&format!("{WEIGHTS}: {} bytes, its header wants {bytes}", bytes / 2)), "{said}");

    open().set_len(4).unwrap();
    let said = refusal_of(copy.path()).await;
    assert!(said.contains(&format!("{WEIGHTS}: 4 bytes, its header wants at least 8")), "{said}");

    fs::remove_file(copy.path().join("tokenizer.json")).unwrap();
    let said = refusal_of(copy.path()).await;
    assert!(said.contains(&format!("tokenizer.json: missing in {}", copy.path().display())), "{said}");
}
