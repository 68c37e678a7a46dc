//! The other side of the contract: a keys service that says what it is told to, on a real socket.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use futures_util::{Stream, stream};
use tidegate_credentials::{DEFAULT_PREFIX, Environment, KeyValue, Prefix};
use tidegate_proto::keys::v1::{
    self as pb,
    keys_service_server::{KeysService, KeysServiceServer},
};
use tokio::sync::{Notify, broadcast};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, transport::Server};
use uuid::Uuid;

use super::{ledger::Ledger, *};

/// How often the feed says something.
const HEARTBEAT: Duration = Duration::from_millis(100);

type Judge = dyn Fn(&pb::ReportKeyUsageRequest) -> tonic::Code + Send;

/// A keys service. Ends when dropped.
pub(crate) struct KeysServer {
    pub(crate) url: String,
    pub(crate) state: Arc<State>,
    _server: AbortOnDropHandle<()>,
}

pub(crate) struct State {
    keys: Mutex<HashMap<Vec<u8>, pb::ResolvedKey>>,
    pub(crate) lookups: AtomicUsize,
    /// While it is set look-ups wait.
    pub(crate) holds: AtomicBool,
    pub(crate) released: Notify,
    feed: broadcast::Sender<pb::WatchKeysResponse>,
    pub(crate) is_silent: AtomicBool,
    /// What the feed did not say since it was silent.
    pub(crate) unsaid: AtomicUsize,
    pub(crate) reports: Mutex<Vec<pb::ReportKeyUsageRequest>>,
    /// How a report is answered.
    takes_reports: Mutex<Box<Judge>>,
    pub(crate) ledger: Ledger,
    pub(crate) organizations: Mutex<HashMap<String, pb::Organization>>,
}

impl KeysServer {
    pub(crate) async fn start() -> Self {
        let listener = tidegate_chassis::server::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            keys: Mutex::default(),
            lookups: AtomicUsize::new(0),
            holds: AtomicBool::new(false),
            released: Notify::new(),
            feed: broadcast::channel(64).0,
            is_silent: AtomicBool::new(false),
            unsaid: AtomicUsize::new(0),
            reports: Mutex::default(),
            takes_reports: Mutex::new(Box::new(|_| tonic::Code::Ok)),
            ledger: Ledger::default(),
            organizations: Mutex::default(),
        });
        let service = KeysServiceServer::new(Told(Arc::clone(&state)));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = Server::builder().add_service(service).serve_with_incoming(incoming);
        let server = AbortOnDropHandle::new(tokio::spawn(async move { server.await.unwrap() }));
        Self { url, state, _server: server }
    }

    /// What `value` is from now on.
    pub(crate) fn set(&self, value: &str, key: pb::ResolvedKey) {
        self.state.keys.lock().unwrap().insert(key_hash_of(value), key);
    }

    pub(crate) fn change(&self, value: &str, change: impl FnOnce(&mut pb::ResolvedKey)) {
        let mut keys = self.state.keys.lock().unwrap();
        change(keys.get_mut(&key_hash_of(value)).unwrap());
    }

    /// Tells of a change.
    pub(crate) fn tell(&self, change: KeyChange) {
        let told = pb::WatchKeysResponse { revision: 1, changes: vec![change], reset: false };
        self.state.feed.send(told).unwrap();
    }

    pub(crate) fn take_reports(
        &self,
        code: impl Fn(&pb::ReportKeyUsageRequest) -> tonic::Code + Send + 'static,
    ) {
        *self.state.takes_reports.lock().unwrap() = Box::new(code);
    }

    pub(crate) fn lookups(&self) -> usize {
        self.state.lookups.load(Ordering::SeqCst)
    }

    pub(crate) fn config(&self) -> KeysConfig {
        KeysConfig { url: self.url.clone(), ..config() }
    }
}

fn key_hash_of(value: &str) -> Vec<u8> {
    tidegate_credentials::key_hash(value).to_vec()
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1_000 {
        if let Some(answer) = question().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

/// The value of a key, by number.
pub(crate) fn value(number: u64) -> String {
    let random = Random::seeded(number);
    let fill = |bytes: &mut [u8]| {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.u64().to_le_bytes()[..part.len()]);
        }
    };
    let prefix = Prefix::parse(DEFAULT_PREFIX).unwrap();
    KeyValue::generate(&prefix, Environment::Live, fill).expose().to_owned()
}

pub(crate) fn id(number: u64) -> String {
    Uuid::from_u128(u128::from(number)).to_string()
}

/// A key of an organization that may do anything.
pub(crate) fn resolved(key: u64, organization: u64) -> pb::ResolvedKey {
    pb::ResolvedKey {
        key: Some(pb::ApiKey {
            id: id(key),
            organization_id: id(organization),
            lineage_id: id(key),
            name: format!("key {key}"),
            scopes: vec!["invoices:read".to_owned()],
            ..pb::ApiKey::default()
        }),
        disabled: false,
        organization: Some(pb::Organization {
            id: id(organization),
            name: "Acme".to_owned(),
            plan: "free".to_owned(),
            status: pb::OrganizationStatus::Active.into(),
            ..pb::Organization::default()
        }),
        generation: 1,
    }
}

struct Told(Arc<State>);

/// Methods that nobody calls here, as `async_trait` writes them.
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
impl KeysService for Told {
    type WatchKeysStream = Pin<Box<dyn Stream<Item = Result<pb::WatchKeysResponse, Status>> + Send>>;

    async fn resolve_key(
        &self,
        request: Request<pb::ResolveKeyRequest>,
    ) -> Result<Response<pb::ResolveKeyResponse>, Status> {
        self.0.lookups.fetch_add(1, Ordering::SeqCst);
        // What is true when it is asked.
        let key = self.0.keys.lock().unwrap().get(&request.get_ref().key_sha256[..]).cloned();
        if self.0.holds.load(Ordering::SeqCst) {
            self.0.released.notified().await;
        }
        Ok(Response::new(pb::ResolveKeyResponse { key, revision: 1 }))
    }

    async fn watch_keys(
        &self,
        _: Request<pb::WatchKeysRequest>,
    ) -> Result<Response<Self::WatchKeysStream>, Status> {
        let heartbeat = pb::WatchKeysResponse { revision: 1, ..pb::WatchKeysResponse::default() };
        let first = stream::iter([Ok(heartbeat.clone())]);
        let (state, feed) = (Arc::clone(&self.0), self.0.feed.subscribe());
        let rest = stream::unfold((state, feed), move |(state, mut feed)| {
            let heartbeat = heartbeat.clone();
            async move {
                loop {
                    let told = tokio::time::timeout(HEARTBEAT, feed.recv()).await;
                    let told = told.map_or(heartbeat.clone(), |told| told.unwrap());
                    if !state.is_silent.load(Ordering::SeqCst) {
                        return Some((Ok(told), (state, feed)));
                    }
                    state.unsaid.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Ok(Response::new(Box::pin(futures_util::StreamExt::chain(first, rest))))
    }

    async fn report_key_usage(
        &self,
        request: Request<pb::ReportKeyUsageRequest>,
    ) -> Result<Response<pb::ReportKeyUsageResponse>, Status> {
        let report = request.into_inner();
        let code = self.0.takes_reports.lock().unwrap()(&report);
        self.0.reports.lock().unwrap().push(report);
        match code {
            tonic::Code::Ok => Ok(Response::new(pb::ReportKeyUsageResponse {})),
            code => Err(Status::new(code, "as told")),
        }
    }

    async fn reserve_credits(
        &self,
        request: Request<pb::ReserveCreditsRequest>,
    ) -> Result<Response<pb::ReserveCreditsResponse>, Status> {
        self.0.ledger.reserve(request.into_inner()).map(Response::new)
    }

    async fn get_organization(
        &self,
        request: Request<pb::GetOrganizationRequest>,
    ) -> Result<Response<pb::GetOrganizationResponse>, Status> {
        if self.0.holds.load(Ordering::SeqCst) {
            return Err(Status::unavailable("as told"));
        }
        let of = self.0.organizations.lock().unwrap().get(&request.get_ref().organization_id).cloned();
        let organization = of.ok_or_else(|| Status::not_found("as told"))?;
        Ok(Response::new(pb::GetOrganizationResponse { organization: Some(organization) }))
    }

    not_called! {
        create_organization(CreateOrganizationRequest) -> CreateOrganizationResponse;
        list_organizations(ListOrganizationsRequest) -> ListOrganizationsResponse;
        update_organization(UpdateOrganizationRequest) -> UpdateOrganizationResponse;
        list_members(ListMembersRequest) -> ListMembersResponse;
        update_member(UpdateMemberRequest) -> UpdateMemberResponse;
        remove_member(RemoveMemberRequest) -> RemoveMemberResponse;
        create_invitation(CreateInvitationRequest) -> CreateInvitationResponse;
        list_invitations(ListInvitationsRequest) -> ListInvitationsResponse;
        delete_invitation(DeleteInvitationRequest) -> DeleteInvitationResponse;
        create_password_reset(CreatePasswordResetRequest) -> CreatePasswordResetResponse;
        create_api_key(CreateApiKeyRequest) -> CreateApiKeyResponse;
        import_api_keys(ImportApiKeysRequest) -> ImportApiKeysResponse;
        get_api_key(GetApiKeyRequest) -> GetApiKeyResponse;
        list_api_keys(ListApiKeysRequest) -> ListApiKeysResponse;
        update_api_key(UpdateApiKeyRequest) -> UpdateApiKeyResponse;
        rotate_api_key(RotateApiKeyRequest) -> RotateApiKeyResponse;
        revoke_api_key(RevokeApiKeyRequest) -> RevokeApiKeyResponse;
        get_api_key_usage(GetApiKeyUsageRequest) -> GetApiKeyUsageResponse;
        grant_credits(GrantCreditsRequest) -> GrantCreditsResponse;
        get_credits(GetCreditsRequest) -> GetCreditsResponse;
        verify_key(VerifyKeyRequest) -> VerifyKeyResponse;
        report_leaked_key(ReportLeakedKeyRequest) -> ReportLeakedKeyResponse;
        create_service_token(CreateServiceTokenRequest) -> CreateServiceTokenResponse;
        list_service_tokens(ListServiceTokensRequest) -> ListServiceTokensResponse;
        revoke_service_token(RevokeServiceTokenRequest) -> RevokeServiceTokenResponse;
    }
}
