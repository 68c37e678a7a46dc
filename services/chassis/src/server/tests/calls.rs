use std::time::Duration;

use rstest::rstest;
use tonic::Code;

use super::fixture::{
    CHECK, HEALTH, STREAM, answer, check, eventually, framed, rest, start, streamed, within,
};

const IN_FLIGHT: &str =
    r#"rpc_server_calls_in_flight{rpc_service="tidegate.ratelimit.v1.RateLimitService",rpc_method="Check"}"#;

#[tokio::test]
async fn handler_that_outlasts_its_callers_deadline_is_dropped() {
    let server = start(|config| config.max_in_flight = 1).await;
    let client = server.client().await;
    let answer = client.call(CHECK, &check("hang"), &[("grpc-timeout", "50m")]).await;
    assert_eq!(
        (answer.status.code(), answer.reason().as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    assert_eq!(server.ended("Check", "DEADLINE_EXCEEDED"), 1);
    assert_eq!(client.check("").await.status.code(), Code::Ok, "its place is free again");
}

#[tokio::test]
async fn stream_that_outlasts_its_callers_deadline_ends_with_a_status() {
    let server = start(|_| {}).await;
    let client = server.client().await;
    let (response, mut request) = client.begin(STREAM, &[("grpc-timeout", "200m")]).await;
    request.send_data(streamed(""), false).unwrap();
    let answer = answer(response).await;
    assert_eq!(
        (answer.status.code(), answer.reason().as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    assert!(!answer.messages.is_empty(), "what was answered before has arrived");
    assert_eq!(server.ended("CheckStream", "DEADLINE_EXCEEDED"), 1);
}

#[rstest]
#[case::without_a_deadline(&[])]
#[case::with_a_deadline_of_days(&[("grpc-timeout", "99H")])]
#[tokio::test]
async fn request_that_never_ends_is_not_waited_for(#[case] headers: &[(&'static str, &'static str)]) {
    let server = start(|config| {
        config.max_in_flight = 1;
        config.request_timeout = Duration::from_millis(100).into();
    })
    .await;
    let client = server.client().await;
    let (response, mut request) = client.begin(CHECK, headers).await;
    // The prefix of a message of 1 MiB, and none of it.
    request.send_data(vec![0, 0, 0x10, 0, 0].into(), false).unwrap();
    assert_eq!(answer(response).await.status.code(), Code::DeadlineExceeded);
    assert_eq!(client.check("").await.status.code(), Code::Ok, "its place is free again");
}

#[tokio::test]
async fn stream_of_requests_may_rest_for_longer_than_one_request_may_take() {
    let server = start(|config| config.request_timeout = Duration::from_millis(50).into()).await;
    let client = server.client().await;
    let (response, mut stream) = client.begin(STREAM, &[]).await;
    // Checks that hang are ended by the same time: when three are, it has passed for the stream too.
    for _ in 0..3 {
        assert_eq!(client.check("hang").await.status.code(), Code::DeadlineExceeded);
    }
    stream.send_data(streamed(""), true).unwrap();
    let answer = answer(response).await;
    assert_eq!(answer.status.code(), Code::Ok, "{:?}", answer.status);
    assert!(!answer.messages.is_empty());
}

#[tokio::test]
async fn handler_that_panics_is_answered_internal_and_gives_its_place_back() {
    let server = start(|config| config.max_in_flight = 1).await;
    let client = server.client().await;
    for panics in 1..=3 {
        let answer = client.check("panic").await;
        assert_eq!((answer.status.code(), answer.reason().as_str()), (Code::Internal, "INTERNAL"));
        assert!(!answer.status.message().contains("as told"), "{:?}", answer.status);
        assert_eq!(server.metric("tidegate_server_panics_total"), panics);
    }
    assert_eq!(client.check("").await.status.code(), Code::Ok);
}

#[tokio::test]
async fn stream_that_panics_ends_internal_after_the_answers_before() {
    let server = start(|config| config.max_in_flight = 1).await;
    let client = server.client().await;
    let (response, mut request) = client.begin(STREAM, &[]).await;
    request.send_data(streamed(""), false).unwrap();
    let mut response = within(response).await.unwrap();
    assert!(within(response.body_mut().data()).await.is_some(), "the answer before");
    request.send_data(streamed("panic"), false).unwrap();
    let answer = rest(response).await;
    assert_eq!((answer.status.code(), answer.reason().as_str()), (Code::Internal, "INTERNAL"));
    assert_eq!(client.check("").await.status.code(), Code::Ok, "its place is free again");
}

#[tokio::test]
async fn full_server_refuses_calls_but_answers_health_checks_until_a_call_is_cancelled() {
    let server = start(|config| config.max_in_flight = 1).await;
    let client = server.client().await;
    let (_response, mut request) = client.begin(CHECK, &[]).await;
    eventually("the call is in flight", async || server.metric(IN_FLIGHT) == 1).await;

    let refused = client.check("").await;
    let reason = refused.reason();
    assert_eq!((refused.status.code(), reason.as_str()), (Code::ResourceExhausted, "SERVER_OVERLOADED"));
    let health = client.call(HEALTH, &[], &[]).await;
    assert_eq!(health.status.code(), Code::Ok, "{:?}", health.status);
    assert_eq!(health.messages, [0, 0, 0, 0, 2, 8, 1], "SERVING");
    // Reflection too, which is a stream, has places of its own.
    let (reflection, mut questions) =
        client.begin("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[]).await;
    questions.send_data(bytes::Bytes::new(), true).unwrap();
    assert_eq!(answer(reflection).await.status.code(), Code::Ok);

    // Its request is not whole yet; that of the next one is.
    request.send_reset(h2::Reason::CANCEL);
    eventually("its place is free again", async || server.metric(IN_FLIGHT) == 0).await;
    let (_response, mut request) = client.begin(CHECK, &[]).await;
    request.send_data(framed(&check("hang")), true).unwrap();
    eventually("the call is in flight", async || server.metric(IN_FLIGHT) == 1).await;
    request.send_reset(h2::Reason::CANCEL);
    eventually("its place is free again", async || server.ended("Check", "CANCELLED") == 1).await;
    assert_eq!(client.check("").await.status.code(), Code::Ok);
    assert_eq!(server.metric("tidegate_server_overloaded_calls_total"), 1);
}

#[tokio::test]
async fn watches_of_health_have_a_bound_too_and_do_not_crowd_out_the_service() {
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    let server = start(|config| config.max_in_flight = 2).await;
    let client = server.client().await;
    let mut watches = Vec::new();
    for _ in 0..2 {
        let (response, mut request) = client.begin(WATCH, &[]).await;
        request.send_data(framed(&[]), true).unwrap();
        watches.push(within(response).await.unwrap());
    }
    let refused = client.call(WATCH, &[], &[]).await;
    assert_eq!(refused.status.code(), Code::ResourceExhausted);
    assert_eq!(client.check("").await.status.code(), Code::Ok);
    assert_eq!(client.call(HEALTH, &[], &[]).await.status.code(), Code::Ok);
}

#[rstest]
#[case::plain("application/grpc", 200)]
#[case::with_its_codec("application/grpc+proto", 200)]
#[case::with_parameters("Application/gRPC; charset=utf-8", 200)]
#[case::json_frames("application/grpc+json", 415)]
#[case::grpc_web("application/grpc-web", 415)]
#[case::grpc_web_text("application/grpc-web-text+proto", 415)]
#[case::longer_word("application/grpcx", 415)]
#[case::protobuf("application/protobuf", 415)]
#[tokio::test]
async fn only_grpc_of_protobuf_is_taken(#[case] content_type: &'static str, #[case] expected: u16) {
    let server = start(|_| {}).await;
    let answer = server.client().await.call(CHECK, &check(""), &[("content-type", content_type)]).await;
    assert_eq!(answer.http.as_u16(), expected);
}
