//! What a user reads once everything is ready.

use std::path::PathBuf;

use super::plan::{Plan, Role};
use crate::console;
use crate::workspace::Workspace;

/// Services, where vectors and logs lie, how to stop, and a line to paste. `stop` names the command that stops them, where
/// it is not Ctrl-C.
pub(super) fn text(workspace: &Workspace, plan: &Plan, similarity: f64, stop: Option<&str>) -> String {
    let rows: Vec<Vec<String>> =
        plan.services().into_iter().rev().map(|(role, port)| service(plan, role, port)).collect();
    let services = console::table(&rows).replace('\n', "\n  ");
    let url = format!("http://127.0.0.1:{}", plan.ports.embedding);
    let cache = plan.storage().map_or_else(|| workspace.cache(), PathBuf::from);
    let cache = workspace.relative(&cache).display();
    let logs = workspace.logs();
    let logs = workspace.relative(&logs).display();
    let stop = stop.unwrap_or("Ctrl-C, or cargo xtask down");
    let key = if plan.asks_for_key() { " -H \"authorization: Bearer $API_KEY\"" } else { "" };
    format!(
        "\n\
         ready: two sample texts have a cosine similarity of {similarity:.4}\n\
         \n  \
         {services}\n\
         \n  \
         vectors  {cache}, kept for the next start; to forget them: curl -X POST{key} {url}/cache/clear\n  \
         logs     {logs}/*.log\n  \
         stop     {stop}\n\
         \n  \
         curl -s {url}/embed{key} -H 'content-type: application/json' -d '{{\"inputs\": [\"hello\"]}}'\n"
    )
}

fn service(plan: &Plan, role: Role<'_>, port: u16) -> Vec<String> {
    let about = match role {
        Role::CacheShard => "gRPC and HTTP, keeps vectors on disk".to_owned(),
        Role::MlBase { index } => match plan.threads(index) {
            Some(1) => format!("gRPC and HTTP, model `{}`, 1 thread", plan.model),
            Some(threads) => format!("gRPC and HTTP, model `{}`, {threads} threads", plan.model),
            None => format!("gRPC and HTTP, model `{}`", plan.model),
        },
        Role::Haproxy { .. } => {
            format!("gRPC and HTTP, in front of ml-base; statistics on port {}", plan.ports.stats)
        }
        Role::EmbeddingSingle => "POST /embed, GET /health /info /metrics /cache/stats".to_owned(),
    };
    vec![role.name(), format!("http://127.0.0.1:{port}"), about]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::up::plan::tests::{balanced, unbalanced};

    #[test]
    fn every_service_has_a_line_with_its_port_and_the_door_comes_first() {
        let text = text(&Workspace::at(Path::new("/w")), &balanced(Some(9000), 2), 0.71234, None);
        assert!(text.contains("similarity of 0.7123\n"), "{text}");
        let lines: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("  ") && line.contains("  http://"))
            .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect();
        let expected = [
            "embedding-single http://127.0.0.1:9000",
            "haproxy http://127.0.0.1:9001",
            "ml-base-2 http://127.0.0.1:9005",
            "ml-base-1 http://127.0.0.1:9004",
            "cache-shard http://127.0.0.1:9002",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn lines_to_paste_try_the_service_and_empty_its_cache() {
        let text =
            text(&Workspace::at(Path::new("/w")), &unbalanced(Some(9000)), 1.0, Some("cargo xtask down"));
        let curl = "curl -s http://127.0.0.1:9000/embed -H 'content-type: application/json' -d '{\"inputs\": [\"hello\"]}'";
        assert!(text.contains(curl), "{text}");
        assert!(text.contains("curl -X POST http://127.0.0.1:9000/cache/clear\n"), "{text}");
        assert!(text.contains(" .sutra/cache, kept for the next start"), "{text}");
        assert!(text.contains(" .sutra/logs/*.log\n"), "{text}");
        assert!(!text.contains("haproxy"), "{text}");
    }
}
