//! Which services run, on which ports, with which variables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::sample;
use crate::cli::{EMBEDDING_PORT, GridArgs, ML_BASE_PORT};
use crate::model;
use crate::state::EMBEDDING_SINGLE;
use crate::supervisor::{Limits, RestartPolicy, ServiceSpec};
use crate::workspace::Workspace;

const ML_BASE: &str = "ml-base";

/// Bounds of the grid: loading a large model on a slow disk takes a minute, draining a few seconds.
pub(crate) const LIMITS: Limits = Limits {
    ready_timeout: Duration::from_secs(180),
    drain_timeout: Duration::from_secs(15),
    restart: RestartPolicy {
        delay_min: Duration::from_millis(200),
        delay_max: Duration::from_secs(10),
        reset_after: Duration::from_secs(30),
    },
};

/// The grid to start.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) model: String,
    pub(super) embedding_port: u16,
    pub(super) ml_base_port: u16,
}

impl Plan {
    pub(super) fn new(args: &GridArgs) -> Self {
        // The command line allows at most 65534, so the sum fits.
        let (embedding_port, ml_base_port) =
            args.ports_from.map_or((EMBEDDING_PORT, ML_BASE_PORT), |port| (port, port.saturating_add(1)));
        Self { model: model::absolute_directory(&args.model), embedding_port, ml_base_port }
    }

    pub(super) fn ports(&self) -> [(&'static str, u16); 2] {
        [(ML_BASE, self.ml_base_port), (EMBEDDING_SINGLE, self.embedding_port)]
    }

    /// The services in the order they start.
    pub(super) fn specs(&self, workspace: &Workspace) -> Result<Vec<ServiceSpec>> {
        let binaries = (workspace.binary(ML_BASE)?, workspace.binary(EMBEDDING_SINGLE)?);
        Ok(vec![self.ml_base(workspace, binaries.0), self.embedding_single(workspace, binaries.1)])
    }

    fn ml_base(&self, workspace: &Workspace, program: PathBuf) -> ServiceSpec {
        let env = vec![
            ("ML_BASE_PORT".to_owned(), self.ml_base_port.to_string().into()),
            ("MODEL_NAME".to_owned(), self.model.clone().into()),
            ("ML_BASE_MODEL_STORE".to_owned(), workspace.models().into()),
            ("INSTANCE_ID".to_owned(), "ml-base-1".into()),
            // The engine has threads of its own; without this candle reads /proc/cpuinfo before every product.
            ("RAYON_NUM_THREADS".to_owned(), "1".into()),
        ];
        spec(ML_BASE, program, env, workspace, self.ml_base_port)
    }

    fn embedding_single(&self, workspace: &Workspace, program: PathBuf) -> ServiceSpec {
        let ml_base_url = format!("http://127.0.0.1:{}", self.ml_base_port);
        let env = vec![
            ("EMBEDDING_PORT".to_owned(), self.embedding_port.to_string().into()),
            ("ML_BASE_URL".to_owned(), ml_base_url.into()),
        ];
        spec(EMBEDDING_SINGLE, program, env, workspace, self.embedding_port)
    }

    /// What a user reads once everything is ready.
    pub(super) fn announcement(&self, workspace: &Workspace, similarity: f64, stop: Option<&str>) -> String {
        let (embedding, ml_base) = (self.embedding_port, self.ml_base_port);
        let shown = |name| workspace.relative(&log_path(workspace, name)).display().to_string();
        let stop = stop.unwrap_or("Ctrl-C, or cargo xtask down");
        let key = if sample::needs_api_key() { " -H \"authorization: Bearer $API_KEY\"" } else { "" };
        format!(
            "\n\
             ready: two sample texts have a cosine similarity of {similarity:.4}\n\
             \n  \
             embedding-single  http://127.0.0.1:{embedding}  POST /embed, GET /health /info /metrics /cache/stats\n  \
             ml-base           http://127.0.0.1:{ml_base}  gRPC and HTTP, model `{model}`\n  \
             logs              {log_a}, {log_b}\n  \
             stop              {stop}\n\
             \n  \
             curl -s http://127.0.0.1:{embedding}/embed{key} -H 'content-type: application/json' \
             -d '{{\"inputs\": [\"hello\"]}}'\n",
            model = self.model,
            log_a = shown(EMBEDDING_SINGLE),
            log_b = shown(ML_BASE),
        )
    }
}

fn spec(
    name: &str,
    program: PathBuf,
    env: Vec<(String, std::ffi::OsString)>,
    at: &Workspace,
    port: u16,
) -> ServiceSpec {
    ServiceSpec { name: name.to_owned(), program, args: Vec::new(), env, log: log_path(at, name), port }
}

fn log_path(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.logs().join(Path::new(name).with_extension("log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(ports_from: Option<u16>) -> Plan {
        Plan::new(&GridArgs { model: "medium".to_owned(), ports_from })
    }

    #[test]
    fn ports_follow_from_the_first() {
        assert_eq!(plan(None).ports(), [("ml-base", 8887), ("embedding-single", 8888)]);
        assert_eq!(plan(Some(9000)).ports(), [("ml-base", 9001), ("embedding-single", 9000)]);
    }

    #[test]
    fn embedding_single_is_told_where_ml_base_is() {
        let spec = plan(Some(9000)).embedding_single(&Workspace::at(Path::new("/w")), PathBuf::new());
        assert!(spec.env.contains(&("ML_BASE_URL".to_owned(), "http://127.0.0.1:9001".into())));
        assert_eq!(spec.log, Path::new("/w/.sutra/logs/embedding-single.log"));
    }

    #[test]
    fn announcement_holds_a_line_to_paste() {
        let text = plan(Some(9000)).announcement(&Workspace::at(Path::new("/w")), 0.71234, None);
        assert!(text.contains("similarity of 0.7123\n"), "{text}");
        let curl = "curl -s http://127.0.0.1:9000/embed -H 'content-type: application/json' -d '{\"inputs\": [\"hello\"]}'";
        assert!(text.contains(curl), "{text}");
        assert!(text.contains("  .sutra/logs/") || text.contains(" .sutra/logs/ml-base.log"), "{text}");
    }
}
