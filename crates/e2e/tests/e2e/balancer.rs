//! HAProxy by itself: what it says where no replica can answer, and that it speaks both protocols on its one port.

use e2e::{Balancer, Door, Program, model_dir};
use futures::future::join_all;
use hyper::StatusCode;
use protocol::inference::{
    EmbedItem, EmbedRequest, InfoRequest, embed_item::Input, inference_client::InferenceClient,
};
use rustix::process::Signal;
use tonic::{Code, transport::Channel};

use crate::programs::{own_host, start_ml_base};

async fn grpc(door: Door) -> InferenceClient<Channel> {
    let channel = Channel::from_shared(format!("http://{}", door.0)).unwrap().connect().await;
    InferenceClient::new(channel.unwrap())
}

/// An address that nobody listens on.
fn nobody() -> Door {
    Door(format!("{}:1", own_host()).parse().unwrap())
}

#[tokio::test]
async fn where_no_replica_answers_both_protocols_are_refused_in_their_own_words() {
    let test = "balancer::where_no_replica_answers_both_protocols_are_refused_in_their_own_words";
    let Some(balancer) = Balancer::start(test, &own_host(), &[nobody(), nobody()]) else { return };
    balancer.until_status(0, "DOWN").await;
    balancer.until_status(1, "DOWN").await;
    let answer = balancer.door().get("/health").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.shown());
    assert_eq!((answer.header("retry-after"), answer.body.len()), ("1", 0));
    let status = grpc(balancer.door()).await.info(InfoRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_and_grpc_reach_the_replicas_through_one_port() {
    let test = "balancer::http_1_and_grpc_reach_the_replicas_through_one_port";
    let Some(model) = model_dir(test) else { return };
    let host = own_host();
    let replica = start_ml_base(&model, &["--host", &host, "--port", "0"]);
    let replica_door = replica.ready().await;
    let Some(balancer) = Balancer::start(test, &host, &[replica_door]) else { return };
    let door = balancer.ready().await;

    let direct = replica_door.embed(&["a text"]).await;
    assert_eq!(door.embed(&["a text"]).await.rows(), direct.rows());

    let item = EmbedItem { input: Some(Input::Text("a text".to_owned())), ..EmbedItem::default() };
    let request = EmbedRequest { items: vec![item], ..EmbedRequest::default() };
    let answer = grpc(door).await.embed(request).await.unwrap().into_inner();
    assert_eq!((answer.width, answer.results.len()), (384, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_drains_gets_nothing_new_and_is_not_cut_off() {
    let test = "balancer::a_replica_that_drains_gets_nothing_new_and_is_not_cut_off";
    let Some(model) = model_dir(test) else { return };
    let host = own_host();
    let arguments = ["--host", &host, "--port", "0", "--drain-delay", "3"];
    let replicas = [start_ml_base(&model, &arguments), start_ml_base(&model, &arguments)];
    let doors = join_all(replicas.iter().map(Program::ready)).await;
    let Some(balancer) = Balancer::start(test, &host, &doors) else { return };
    let door = balancer.ready().await;

    replicas[0].signal(Signal::TERM);
    // Out of the choice, and not down: marked down, it would lose what it is computing.
    balancer.until_status(0, "NOLB").await;
    let streams = balancer.slots().await[0].streams;
    for _ in 0..4 {
        door.embed(&["a text"]).await.rows();
    }
    assert_eq!(balancer.slots().await[0].streams, streams);
}
