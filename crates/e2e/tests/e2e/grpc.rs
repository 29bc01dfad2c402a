//! ml-base as a gRPC server: vectors, refusals, health and reflection on the port that also speaks HTTP.

use e2e::{Golden, Grid, goldens};
use protocol::inference::{
    EmbedItem, EmbedRequest, InfoRequest, ItemStatus, Truncation, embed_item::Input,
    inference_client::InferenceClient,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

async fn connect(grid: &Grid) -> Channel {
    Channel::from_shared(format!("http://{}", grid.ml_base().0)).unwrap().connect().await.unwrap()
}

fn item(text: &str) -> EmbedItem {
    EmbedItem { input: Some(Input::Text(text.to_owned())), ..EmbedItem::default() }
}

fn request(items: Vec<EmbedItem>) -> EmbedRequest {
    EmbedRequest { items, ..EmbedRequest::default() }
}

fn unit_norm(bytes: &[u8]) -> Vec<f32> {
    let numbers = bytes.chunks_exact(4).map(|number| f32::from_le_bytes(number.try_into().unwrap()));
    let numbers: Vec<f32> = numbers.collect();
    let norm = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    numbers.iter().map(|number| number / norm).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn goldens_match_over_grpc_and_a_bad_item_fails_alone() {
    let Some(grid) = Grid::start("grpc::goldens_match_over_grpc_and_a_bad_item_fails_alone").await else {
        return;
    };
    let mut client = InferenceClient::new(connect(&grid).await);
    let goldens = goldens();
    let long = EmbedItem { truncation: Truncation::None.into(), ..item(&goldens.last().unwrap().text) };
    let bad = [item(""), item("a\0b"), EmbedItem::default(), long];
    let items = goldens.iter().map(|golden| item(&golden.text)).chain(bad).collect();
    let answer = client.embed(request(items)).await.unwrap().into_inner();

    let statuses: Vec<_> = answer.results.iter().map(|result| result.status()).collect();
    let (good, bad) = statuses.split_at(goldens.len());
    assert!(good.iter().all(|status| *status == ItemStatus::Ok), "{good:?}");
    assert_eq!(bad, [ItemStatus::Invalid, ItemStatus::Invalid, ItemStatus::Invalid, ItemStatus::TooLong]);
    assert!(answer.results[goldens.len()..].iter().all(|result| !result.message.is_empty()));

    let rows: Vec<_> = answer.vectors.chunks_exact(answer.width as usize * 4).map(unit_norm).collect();
    assert_eq!(rows.len(), goldens.len());
    goldens.iter().zip(&rows).for_each(|(golden, row): (&Golden, _)| golden.assert_is(row, "over gRPC"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_are_refused_with_their_code_and_the_connection_lives_on() {
    let test = "grpc::bad_calls_are_refused_with_their_code_and_the_connection_lives_on";
    let Some(grid) = Grid::start(test).await else { return };
    let mut client = InferenceClient::new(connect(&grid).await);
    let identity = "0".repeat(64);
    let bad_calls = [
        ("no item", request(vec![]), Code::InvalidArgument),
        ("too many items", request(vec![item("a"); 10_000]), Code::OutOfRange),
        ("another model", EmbedRequest { model: "tiny".into(), ..request(vec![item("a")]) }, Code::NotFound),
        (
            "another identity",
            EmbedRequest { expected_identity: identity, ..request(vec![item("a")]) },
            Code::FailedPrecondition,
        ),
        ("a message over the limit", request(vec![item(&"x".repeat(9 << 20))]), Code::OutOfRange),
    ];
    for (case, call, code) in bad_calls {
        let status = client.embed(call).await.expect_err(case);
        assert_eq!(status.code(), code, "{case}: {status}");
        assert!(!status.message().is_empty(), "{case}");
        let good = client.embed(request(vec![item("a good text")])).await.unwrap().into_inner();
        assert_eq!(good.results.len(), 1, "after {case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_reflection_and_info_answer_beside_http() {
    let Some(grid) = Grid::start("grpc::health_reflection_and_info_answer_beside_http").await else { return };
    let channel = connect(&grid).await;
    for service in ["", "sutra.inference.v1.Inference"] {
        let check = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(channel.clone()).check(check).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "`{service}`");
    }
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let asked = reflection.server_reflection_info(futures::stream::iter([ask])).await.unwrap();
    let answer = asked.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list of services in {answer:?}");
    };
    assert!(list.service.iter().any(|service| service.name == "sutra.inference.v1.Inference"), "{list:?}");

    let info = InferenceClient::new(channel).info(InfoRequest {}).await.unwrap().into_inner();
    let over_http = grid.proxy().get("/info").await.json();
    assert_eq!(over_http["models"][0]["identity"], info.models[0].identity.as_str());
}
