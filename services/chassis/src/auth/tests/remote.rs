use std::{net::SocketAddr, pin::Pin, time::Duration};

use serde_json::json;
use tidegate_proto::keys::v1::{
    self as pb, ListSigningKeysResponse, SigningKey,
    auth_service_server::{AuthService, AuthServiceServer},
};
use tokio::{net::TcpListener, task::AbortHandle};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::{
    super::{AuthConfig, AuthError, Authenticator, VerifyingKey},
    fixture::{NOW_S, Signer, claims, claims_but},
};
use crate::{clock::Clock, metrics::Metrics};

/// A keys service that lists its signing keys.
struct Lists(Vec<VerifyingKey>);

macro_rules! not_called {
    ($($method:ident($request:ident) -> $answer:ident;)+) => {
        $(
            fn $method<'s, 'async_trait>(
                &'s self,
                _: Request<pb::$request>,
            ) -> Pin<Box<dyn Future<Output = Result<Response<pb::$answer>, Status>> + Send + 'async_trait>>
            where
                's: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(async { Err(Status::unimplemented("")) })
            }
        )+
    };
}

#[tonic::async_trait]
impl AuthService for Lists {
    async fn list_signing_keys(
        &self,
        _: Request<pb::ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        let key = |key: &VerifyingKey, algorithm: &str| SigningKey {
            kid: key.kid.clone(),
            algorithm: algorithm.to_owned(),
            public_key: key.public_key.to_vec().into(),
            ..SigningKey::default()
        };
        let mut keys: Vec<_> = self.0.iter().map(|known| key(known, "EdDSA")).collect();
        // Of a kind that is not known here: passed over.
        keys.push(SigningKey {
            kid: "later".to_owned(),
            algorithm: "ML-DSA-44".to_owned(),
            ..SigningKey::default()
        });
        Ok(Response::new(ListSigningKeysResponse { keys }))
    }

    not_called! {
        sign_up(SignUpRequest) -> SignUpResponse;
        log_in(LogInRequest) -> LogInResponse;
        exchange_id_token(ExchangeIdTokenRequest) -> ExchangeIdTokenResponse;
        refresh(RefreshRequest) -> RefreshResponse;
        log_out(LogOutRequest) -> LogOutResponse;
        get_me(GetMeRequest) -> GetMeResponse;
        change_password(ChangePasswordRequest) -> ChangePasswordResponse;
        reset_password(ResetPasswordRequest) -> ResetPasswordResponse;
        accept_invitation(AcceptInvitationRequest) -> AcceptInvitationResponse;
        rotate_signing_key(RotateSigningKeyRequest) -> RotateSigningKeyResponse;
    }
}

async fn serve(address: SocketAddr, keys: Vec<VerifyingKey>) -> (SocketAddr, AbortHandle) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = AuthServiceServer::new(Lists(keys));
    let server = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
    (address, tokio::spawn(server).abort_handle())
}

#[tokio::test]
async fn signing_keys_come_from_the_keys_service_whenever_it_is_there() {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let (address, server) = serve(free, Vec::new()).await;
    server.abort();
    let config = AuthConfig { keys_url: format!("http://{address}"), ..AuthConfig::default() };
    let (clock, _) = Clock::manual(NOW_S * 1_000_000);
    let auth = Authenticator::new(&config, None, clock, &Metrics::new()).unwrap();
    let keeping = auth.clone();
    tokio::spawn(async move { keeping.keep_keys().await });

    let signer = Signer::new("first");
    let token = format!("Bearer {}", signer.sign(&claims_but(json!({"role": "service", "use": "service"}))));
    assert_eq!(auth.authenticate(token.as_bytes()).await, Err(AuthError::KeysUnavailable));

    let (_, _server) = serve(address, vec![signer.verifying()]).await;
    let started = std::time::Instant::now();
    let caller = loop {
        match auth.authenticate(token.as_bytes()).await {
            Ok(caller) => break caller,
            Err(AuthError::KeysUnavailable) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(other) => panic!("{other}"),
        }
        assert!(started.elapsed() < Duration::from_secs(20), "in time");
    };
    assert_eq!(caller.subject, "somebody");
    let stranger = format!("Bearer {}", Signer::new("later").sign(&claims()));
    assert!(matches!(auth.authenticate(stranger.as_bytes()).await, Err(AuthError::Invalid(_))));
}

#[test]
fn url_that_cannot_be_called_stops_the_start() {
    let config = AuthConfig {
        keys_url: "https://keys:8082".to_owned(),
        keys_tls: crate::tls::ClientFiles { ca: "/no/such/file.pem".to_owned(), ..Default::default() },
        ..AuthConfig::default()
    };
    let refused = Authenticator::new(&config, None, Clock::system(), &Metrics::new()).expect_err("refused");
    assert!(format!("{refused:#}").contains("auth.keys_tls"), "{refused:#}");
}
